import gzip

import pytest

from kgnn.errors import InputError
from kgnn.graph import load_interactions

RELATION = ("gene", "interacts", "gene")
STRING = """protein1 protein2 combined_score
9606.ENSP1 9606.ENSP2 900
9606.ENSP2 9606.ENSP1 900
9606.ENSP1 9606.ENSP3 400
9606.ENSP3 9606.ENSP4 150
9606.ENSP4 9606.ENSP5 999
"""
ALIASES = """#string_protein_id\talias\tsource
9606.ENSP1\tTP53\tEnsembl_HGNC_symbol
9606.ENSP1\tp53\tEnsembl_HGNC_alias_symbol
9606.ENSP1\tENSG01\tEnsembl_gene
9606.ENSP2\tMDM2\tEnsembl_HGNC_symbol
9606.ENSP3\tMYC\tEnsembl_HGNC_symbol
9606.ENSP4\tA\tEnsembl_HGNC_symbol
9606.ENSP4\tB\tEnsembl_HGNC_symbol
9606.ENSP5\tKLF1\tEnsembl_HGNC_symbol
"""
HEADER = (
    "#BioGRID Interaction ID\tEntrez Gene Interactor A\tEntrez Gene Interactor B\tOfficial Symbol Interactor A\t"
    "Official Symbol Interactor B\tExperimental System Type\tOrganism ID Interactor A\tOrganism ID Interactor B\n"
)
BIOGRID = HEADER + (
    "1\t7157\t4193\tTP53\tMDM2\tphysical\t9606\t9606\n"
    "2\t4193\t7157\tMDM2\tTP53\tphysical\t9606\t9606\n"
    "3\t7157\t7157\tTP53\tTP53\tphysical\t9606\t9606\n"
    "4\t7157\t4609\tTP53\tMYC\tgenetic\t9606\t9606\n"
    "5\t7157\t1\tTP53\t-\tphysical\t9606\t9606\n"
)


@pytest.fixture
def write(tmp_path):
    def write(name, text):
        path = tmp_path / name
        path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
        return path

    return write


def weights(kg):
    return {(e.source, e.target): round(e.weight, 6) for e in kg.edges(RELATION).itertuples()}


def both(table):
    return table | {(b, a): w for (a, b), w in table.items()}


def test_string_with_aliases(write):
    names = write("9606.protein.aliases.txt", ALIASES)
    kg = load_interactions(write("9606.protein.links.txt.gz", STRING), names=names)
    assert weights(kg) == both({("TP53", "MDM2"): 0.9, ("TP53", "MYC"): 0.4})
    record = kg.account[0]
    assert record["dropped"] == {"protein without a single name": 2}  # ENSP4 has two
    assert record["rows_read"] + record["added"] == record["kept"] + record["merged"] + 2
    assert kg.origins == ["string"]
    ensembl = load_interactions(write("l.txt", STRING.replace("ENSP2", "ENSP1")), names=names, namespace="ensembl")
    assert len(ensembl.edges(RELATION)) == 0  # self loops, and proteins without an Ensembl gene


def test_string_aliases_of_older_releases(write):
    older = ALIASES.replace("#string_protein_id\talias\tsource", "## string_protein_id ## alias ## source ##")
    older = older.replace("Ensembl_HGNC_symbol", "BioMart_HUGO Ensembl_HGNC")
    kg = load_interactions(write("l.txt", STRING), names=write("a.txt", older))
    assert weights(kg) == both({("TP53", "MDM2"): 0.9, ("TP53", "MYC"): 0.4})


def test_string_with_info_or_alone_and_a_score(write):
    info = write(
        "info.txt", "#string_protein_id\tpreferred_name\tprotein_size\n9606.ENSP1\tTP53\t1\n9606.ENSP2\tMDM2\t2\n"
    )
    links = write("links.txt", STRING)
    assert weights(load_interactions(links, names=info)) == both({("TP53", "MDM2"): 0.9})
    alone = load_interactions(links, min_score=700)
    assert weights(alone) == both({("ENSP1", "ENSP2"): 0.9, ("ENSP4", "ENSP5"): 0.999})
    assert alone.account[0]["dropped"] == {"score below 700": 2}
    with pytest.raises(InputError, match="symbols only"):
        load_interactions(links, names=info, namespace="entrez")


def test_biogrid(write):
    path = write("BIOGRID.tab3.txt", BIOGRID)
    kg = load_interactions(path)
    edges = kg.edges(RELATION).set_index(["source", "target"])
    assert edges["confidence"].to_dict() == both({("TP53", "MDM2"): 2.0, ("TP53", "MYC"): 1.0})
    record = kg.account[0]
    assert (record["self_loops"], record["merged"], record["dropped"]) == (1, 1, {"interactor without a name": 1})
    assert set(weights(load_interactions(path, namespace="entrez", system_type="genetic"))) == {
        ("7157", "4609"),
        ("4609", "7157"),
    }


def test_biogrid_of_several_organisms_asks_which(write):
    path = write("b.txt", BIOGRID + "6\t22059\t17246\tTrp53\tMdm2\tphysical\t10090\t10090\n")
    with pytest.raises(InputError, match="organisms 10090, 9606; choose one"):
        load_interactions(path)
    kg = load_interactions(path, organism=10090)
    assert set(weights(kg)) == {("Trp53", "Mdm2"), ("Mdm2", "Trp53")}
    assert kg.account[0]["dropped"] == {"not both of organism 10090": 5}


@pytest.mark.parametrize("text", ["A\tB\nB\tC\n", "source\ttarget\nA\tB\nB\tC\n", "A,B\nB,C\n", "A B\nB C\n"])
def test_plain_pairs_with_and_without_a_header(write, text):
    name = "pairs.csv" if "," in text else "pairs.txt"
    assert weights(load_interactions(write(name, text))) == both({("A", "B"): 1, ("B", "C"): 1})


def test_pairs_with_weights(write):
    kg = load_interactions(write("p.tsv", "gene_a\tgene_b\tscore\nA\tB\t0.5\nB\tC\t-2\n"), min_score=0.6)
    assert weights(kg) == both({("B", "C"): 2})
    assert kg.edges(RELATION)["sign"].tolist() == [-1, -1]
    assert kg.account[0]["dropped"] == {"weight below 0.6": 1}


@pytest.mark.parametrize(
    ("name", "text", "options", "message"),
    [
        ("l.txt", STRING.replace(" 400", " 1400"), {}, r"l.txt:4: combined_score 1400 is not between 0 and 1000"),
        ("l.txt", STRING.replace(" 400", " many"), {}, r"l.txt:4: combined_score 'many' is not a finite number"),
        ("l.txt", STRING, {"namespace": "uniprot"}, "namespace 'uniprot' is unknown"),
        ("b.txt", BIOGRID, {"namespace": "ensembl"}, "BioGRID has no ensembl identifiers"),
        ("b.txt", HEADER, {}, "no edge left to load"),
        ("p.txt", "A\n", {}, "0 fields in the first line"),
        ("p.txt", "A\tB\tC\tD\n", {}, "4 fields in the first line"),
        ("p.txt", "A\tB\t1\nA\tC\tx\n", {}, r"p.txt:2: weight 'x' is not a finite number"),
    ],
)
def test_bad_files_are_refused(write, name, text, options, message):
    with pytest.raises(InputError, match=message):
        load_interactions(write(name, text), **options)


def test_alias_files_without_a_known_source_are_refused(write):
    names = write("a.txt", ALIASES.replace("Ensembl_HGNC_symbol", "Somebody"))
    with pytest.raises(InputError, match=r"no source of symbol names that is known; the file has .*Somebody"):
        load_interactions(write("l.txt", STRING), names=names)
    with pytest.raises(InputError, match=r"neither STRING's protein.info nor protein.aliases"):
        load_interactions(write("l.txt", STRING), names=write("x.txt", "a\tb\n1\t2\n"))
