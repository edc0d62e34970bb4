"""Tables of many relations; the fixtures follow the layouts that PrimeKG, Hetionet, DRKG and others hand out."""

import csv
import gzip
import io

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kgnn.errors import DataWarning, InputError
from kgnn.graph import build, load_table, load_triples

PRIMEKG = """relation,display_relation,x_index,x_id,x_type,x_name,x_source,y_index,y_id,y_type,y_name,y_source
protein_protein,ppi,0,9796,gene/protein,PHYHIP,NCBI,8889,56992,gene/protein,KIF15,NCBI
protein_protein,ppi,8889,56992,gene/protein,KIF15,NCBI,0,9796,gene/protein,PHYHIP,NCBI
disease_protein,associated with,0,9796,gene/protein,PHYHIP,NCBI,27158,13924_12592,disease,"bones, type",MONDO_grouped
disease_protein,associated with,0,9796,gene/protein,PHYHIP,NCBI,27159,5044,disease,hypertension,MONDO
phenotype_protein,associated with,0,9796,gene/protein,PHYHIP,NCBI,1,5044,effect/phenotype,a phenotype,HPO
bioprocess_protein,interacts with,0,9796,gene/protein,PHYHIP,NCBI,2,6915,biological_process,apoptosis,GO
off-label use,off-label use,14012,DB09130,drug,Copper,DrugBank,27159,5044,disease,hypertension,MONDO
"""
PRIMEKG_NODES = """node_index,node_id,node_type,node_name,node_source
0,9796,gene/protein,PHYHIP,NCBI
27159,5044,disease,hypertension,MONDO
"""
PRIMEKG_EDGES = "relation,display_relation,x_index,y_index\ndisease_protein,associated with,0,27159\n"
HETIONET = (
    "source\tmetaedge\ttarget\nGene::9021\tGpBP\tBiological Process::GO:0071357\n"
    "Anatomy::UBERON:0002081\tAeG\tGene::8519\nGene::2063\tGr>G\tGene::7846\n"
)
HETIONET_NODES = (
    "id\tname\tkind\nGene::9021\tSOCS3\tGene\nGene::8519\tIFITM1\tGene\nGene::2063\tNR2F6\tGene\n"
    "Gene::7846\tTUBA1A\tGene\nBiological Process::GO:0071357\tresponse to interferon\tBiological Process\n"
    "Anatomy::UBERON:0002081\tcardiac atrium\tAnatomy\n"
)
DRKG = (
    "Gene::2157\tbioarx::HumGenHumGen:Gene:Gene\tGene::5264\nGene::2157\tbioarx::HumGenHumGen:Gene:Gene\tGene::2157\n"
    "Gene::2157\tGNBR::E+::Compound:Gene\tCompound::DB00001\nGene::2157\tHetionet::GpBP::Gene:Biological Process\t"
    "Biological Process::GO:0071357\nGene::2157\tINTACT::PHYSICAL ASSOCIATION::Gene:Gene\tGene::5264\n"
)
OPENBIOLINK = (
    "NCBIGENE:10\tGENE_GENE\tNCBIGENE:1\t960\t1\tSTRING\nDOID:0002\tIS_A\tDOID:0001\t\t1\tDO\n"
    "PUBCHEM.COMPOUND:55\tDRUG_BINDING_GENE\tNCBIGENE:1\t191\t1\tSTITCH\n"
    "NCBIGENE:10\tGENE_DIS\tDOID:0001\t0.2\t0\tDisGeNet\n"
)
OPTIMUS = pd.DataFrame(
    {
        "from": ["MONDO_0005044", "ENSG00000141510"],
        "to": ["ENSG00000141510", "ENSG00000135679"],
        "label": ["DIS-GEN", "GEN-GEN"],
        "relation": ["ASSOCIATED_WITH", "INTERACTS_WITH"],
        "undirected": [True, True],
        "properties": ['{"evidence_score": 0.4}', "{}"],
    }
)
OPTIMUS_NODES = pd.DataFrame(
    {
        "id": ["MONDO_0005044", "ENSG00000141510", "ENSG00000135679"],
        "label": ["DIS", "GEN", "GEN"],
        "properties": ['{"name": "hypertension"}', '{"symbol": "TP53", "name": "tumor protein"}', "damaged"],
    }
)


@pytest.fixture
def write(tmp_path):
    def write(name, content):
        path = tmp_path / name
        data = content.encode()
        path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
        return path

    return write


def triples(kg):
    """All edges as (source type, source, relation, target type, target, origin)."""
    return sorted(
        (key[0], edge.source, key[1], key[2], edge.target, edge.origin)
        for key in kg.relations
        for edge in kg.edges(key, by_origin=True).itertuples()
    )


@pytest.mark.parametrize("name", ["kg.csv", "kg.csv.gz", "kg.parquet", "frame"])
def test_primekg(write, tmp_path, name):
    frame = pd.read_csv(io.StringIO(PRIMEKG))  # ids are a mix of numbers and texts, indices are numbers
    if name == "kg.parquet":
        frame.to_parquet(tmp_path / name)
    table = frame if name == "frame" else tmp_path / name if name == "kg.parquet" else write(name, PRIMEKG)
    kg = load_triples(table)
    assert triples(kg) == [
        ("drug", "DrugBank:DB09130", "off-label_use", "disease", "MONDO:0005044", "primekg"),
        ("gene", "KIF15", "ppi", "gene", "PHYHIP", "primekg"),
        ("gene", "PHYHIP", "associated_with", "disease", "MONDO:0005044", "primekg"),
        ("gene", "PHYHIP", "associated_with", "disease", "MONDO_grouped:13924_12592", "primekg"),
        ("gene", "PHYHIP", "associated_with", "effect_phenotype", "HP:0005044", "primekg"),
        ("gene", "PHYHIP", "interacts_with", "biological_process", "GO:0006915", "primekg"),
        ("gene", "PHYHIP", "ppi", "gene", "KIF15", "primekg"),
    ]
    assert kg.nodes("gene")["id"].to_dict() == {"KIF15": "56992", "PHYHIP": "9796"}
    assert kg.nodes("disease").loc["MONDO_grouped:13924_12592", "label"] == "bones, type"
    assert {record["called"] for record in kg.account} == {"ppi", "associated with", "interacts with", "off-label use"}
    assert sum(record["rows_read"] for record in kg.account) == 7


def test_primekg_edges_by_number_need_the_nodes(write):
    edges, nodes = write("edges.csv", PRIMEKG_EDGES), write("nodes.csv", PRIMEKG_NODES)
    assert triples(load_triples(edges, nodes=nodes)) == [
        ("gene", "PHYHIP", "associated_with", "disease", "MONDO:0005044", "primekg")
    ]
    with pytest.raises(InputError, match="the edges name node '0' by its number alone; give the table of nodes too"):
        load_triples(edges)
    blank = write("edges.csv", PRIMEKG_EDGES + "disease_protein,associated with,0,\n")
    assert load_triples(blank, nodes=nodes).account[-1]["dropped"] == {"no source or target": 1}
    stranger = write("edges.csv", PRIMEKG_EDGES + "disease_protein,associated with,0,9\n")
    with pytest.raises(InputError, match=r"node '9' by its number alone; give .*, of the same release"):
        load_triples(stranger, nodes=nodes)


def test_hetionet(write):
    path = write("hetionet-v1.0-edges.sif.gz", HETIONET)
    kg = load_triples(path, nodes=write("nodes.tsv", HETIONET_NODES))
    assert triples(kg) == [
        ("anatomy", "UBERON:0002081", "expresses", "gene", "IFITM1", "hetionet"),
        ("gene", "NR2F6", "regulates", "gene", "TUBA1A", "hetionet"),
        ("gene", "SOCS3", "participates", "biological_process", "GO:0071357", "hetionet"),
    ]
    assert kg.nodes("anatomy")["label"].tolist() == ["cardiac atrium"]
    bare = load_triples(path)
    assert bare.nodes("gene").index.tolist() == ["2063", "7846", "8519", "9021"]
    assert "label" not in bare.nodes("anatomy")


def test_drkg(write):
    kg = load_triples(write("drkg.tsv", DRKG))
    assert triples(kg) == [
        ("gene", "2157", "e+", "compound", "DB00001", "GNBR"),
        ("gene", "2157", "humgenhumgen", "gene", "5264", "bioarx"),
        ("gene", "2157", "participates", "biological_process", "GO:0071357", "Hetionet"),
        ("gene", "2157", "physical_association", "gene", "5264", "INTACT"),
    ]
    assert sum(record["self_loops"] for record in kg.account) == 1


def test_openbiolink_and_its_negative_samples(write):
    path = write("train_sample.csv", OPENBIOLINK)
    assert triples(load_triples(path)) == [
        ("disease", "DOID:0002", "is_a", "disease", "DOID:0001", "DO"),
        ("drug", "PUBCHEM.COMPOUND:55", "drug_binding_gene", "gene", "1", "STITCH"),
        ("gene", "10", "gene_gene", "gene", "1", "STRING"),
    ]
    assert load_triples(path).account[-1]["dropped"] == {"negative sample": 1}
    three = write("edges.csv", "\n".join("\t".join(row.split("\t")[:3]) for row in OPENBIOLINK.splitlines()) + "\n")
    nodes = write("nodes.csv", "NCBIGENE:10\tGENE\nDOID:0001\tDIS\nDOID:0002\tDIS\n")
    assert ("gene", "10", "gene_dis", "disease", "DOID:0001", "openbiolink") in triples(
        load_triples(three, nodes=nodes)
    )


def test_optimuskg(tmp_path):
    OPTIMUS.to_parquet(tmp_path / "edges.parquet")
    OPTIMUS_NODES.to_parquet(tmp_path / "nodes.parquet")
    kg = load_triples(tmp_path / "edges.parquet", nodes=tmp_path / "nodes.parquet")
    assert [edge[:5] for edge in triples(kg)] == [
        ("disease", "MONDO_0005044", "associated_with", "gene", "TP53"),
        ("gene", "TP53", "interacts_with", "gene", "ENSG00000135679"),
    ]
    assert kg.nodes("disease")["label"].tolist() == ["hypertension"]
    assert load_triples(OPTIMUS).nodes("gene").index.tolist() == ["ENSG00000135679", "ENSG00000141510"]


def test_columns_by_name(write):
    text = "a,ta,how,b,tb,w,db\nTP53,biolink:Gene,Binds To,MDM2,Gene,-0.5,one\nTP53,Gene,treats,D1,Disease,2,\n"
    path = write("mine.csv", text)
    columns = {"source": "a", "relation": "how", "target": "b", "source_type": "ta", "target_type": "tb"}
    kg = load_triples(path, **columns, weight="w", origin="db")
    assert triples(kg) == [
        ("gene", "TP53", "binds_to", "gene", "MDM2", "one"),
        ("gene", "TP53", "treats", "disease", "D1", "mine"),
    ]
    edge = kg.edges(("gene", "binds_to", "gene")).iloc[0]
    assert (edge["weight"], edge["sign"]) == (0.5, -1)
    usual = write("usual.tsv", "head\trelation\ttail\ttail_type\nA\tr\tB\tpathway\n\tr\tB\tpathway\nA\t\tB\tpathway\n")
    kg = load_triples(usual)
    assert triples(kg) == [("gene", "A", "r", "pathway", "B", "usual")]
    assert kg.account[-1]["dropped"] == {"no source or target": 1, "no relation": 1}


@pytest.mark.parametrize("column", ["origin", "db"])
@pytest.mark.parametrize("name", ["kg.csv", "kg.parquet", "frame"])
def test_a_column_of_origins_is_kept_in_a_known_layout_too(write, tmp_path, name, column):
    frame = pd.read_csv(io.StringIO(PRIMEKG), dtype=str)
    frame[column] = ["STRING", None, "DisGeNET", "DisGeNET", "", "GOA", "DrugBank"]
    if name == "kg.parquet":
        frame.to_parquet(tmp_path / name)
    table = frame if name == "frame" else tmp_path / name
    if name == "kg.csv":
        frame.to_csv(table, index=False)
    options = {} if column == "origin" else {"origin": column}
    found = {(source, target): origin for _, source, _, _, target, origin in triples(load_triples(table, **options))}
    assert found["PHYHIP", "KIF15"] == "STRING"
    assert found["KIF15", "PHYHIP"] == found["PHYHIP", "HP:0005044"] == "primekg"  # no origin of their own
    assert found["PHYHIP", "MONDO:0005044"] == "DisGeNET"
    assert load_triples(table, origin="mine").origins == ["mine"]


def test_a_column_of_origins_in_ones_own_table(write):
    path = write("t.csv", "source,relation,target,origin\nA,r,B,one\nA,r,C,\n")
    assert load_triples(path).origins == ["one", "t"]
    assert load_triples(path, origin="x").origins == ["x"]


@pytest.mark.parametrize("name", ["t.csv", "t.parquet", "frame"])
def test_columns_without_a_name_are_numbered(tmp_path, name):
    table = pd.DataFrame({"": ["A"], " relation": ["r"], " ": ["B"]})
    if name == "t.csv":
        table.to_csv(tmp_path / name, index=False)
    elif name == "t.parquet":
        table.to_parquet(tmp_path / name)
    given = table if name == "frame" else tmp_path / name
    with pytest.raises(InputError, match="the columns are unnamed 0, relation, unnamed 2"):
        load_triples(given)
    kg = load_triples(given, source="unnamed 0", relation="relation", target="unnamed 2", origin="x")
    assert triples(kg) == [("gene", "A", "r", "gene", "B", "x")]


def test_ids_that_share_a_symbol_are_told(write):
    row = "protein_protein,ppi,3,4899,gene/protein,KIF15,NCBI,0,9796,gene/protein,PHYHIP,NCBI\n"
    with pytest.warns(DataWarning, match=r"1 gene symbols belong to several ids, which are one node now \(KIF15\)"):
        load_triples(write("kg.csv", PRIMEKG + row))


@pytest.mark.parametrize(
    ("name", "text", "options", "message"),
    [
        ("x.csv", "a,b,c\n1,2,3\n", {}, r"x.csv: none of the layouts that are known; name the columns .* are a, b, c"),
        ("x.csv", "a,b,c\n1,2,3\n", {"source": "a"}, r"x.csv: none of the layouts"),
        ("x.csv", "source,relation,target\nA,r,B\n", {"source": "z"}, r"x.csv: no column 'z'; the columns are source,"),
        (
            "x.csv",
            "source,relation,target,weight\nA,r,B,1\nA,r,C,much\n",
            {},
            r"x.csv:3: weight 'much' is not a finite",
        ),
        ("x.csv", "source,relation,target\n,r,B\n", {}, r"x.csv: no edge left to load \(no source or target: 1\)"),
        ("x.csv", "source,relation,target\n", {}, r"x.csv: no edge left to load \(no rows\)"),
        ("x.tsv", DRKG + "Gene::1\tx\n", {}, r"x.tsv:6: 2 fields where the first line has 3"),
        (
            "x.csv",
            PRIMEKG.replace("9796,gene/protein", "9796", 1),
            {},
            r"x.csv:2: 11 fields where the first line has 12",
        ),
    ],
)
def test_what_cannot_be_read_is_refused_with_the_line(write, name, text, options, message):
    with pytest.raises(InputError, match=message):
        load_triples(write(name, text), **options)
    with pytest.raises(InputError, match=r"n.tsv: a table of nodes has the columns id and kind"):
        load_triples(write("kg.csv", PRIMEKG), nodes=write("n.tsv", "node\tkind\nA\tGene\n"))


def test_what_is_in_memory_or_parquet_is_refused_too(tmp_path):
    row = DRKG.splitlines()[0].split("\t")
    frame = pd.DataFrame([row], columns=row)
    frame.to_parquet(tmp_path / "t.parquet")
    for table in (frame, tmp_path / "t.parquet"):
        with pytest.raises(InputError, match="the first row stands where the columns' names belong; read drkg's own"):
            load_triples(table)
    pd.DataFrame({"source": [["A"]], "relation": "r", "target": "B"}).to_parquet(tmp_path / "t.parquet")
    with pytest.raises(InputError, match="names and relations are texts or numbers, not list<"):
        load_triples(tmp_path / "t.parquet")


@pytest.mark.parametrize("origin", [3, ["x"], b"x", ("a",)])
def test_an_origin_that_is_no_text_is_refused(origin):
    table = pd.DataFrame({"source": ["A"], "relation": ["r"], "target": ["B"]})
    for load in (load_triples, lambda table, origin: load_table(table, relation="r", origin=origin)):
        with pytest.raises(InputError, match=f"origin: {type(origin).__name__} where str is asked for"):
            load(table, origin=origin)


def test_a_column_of_types_is_not_passed_over(write):
    with pytest.raises(InputError, match="none of the layouts that are known; name the columns"):
        load_triples(write("edges.tsv", HETIONET), source_type="kind")


WORDS = st.text(st.sampled_from('ab ,"\tß:'), max_size=4)
KINDS = st.sampled_from(["Gene", "gene/protein", "biolink:Gene", "Disease", " side effect", ""])
ROWS = st.lists(
    st.tuples(KINDS, WORDS, st.sampled_from(["r one", "R_ONE", "two", ""]), KINDS, WORDS), min_size=1, max_size=9
)
TYPES = {
    "Gene": "gene",
    "gene/protein": "gene",
    "biolink:Gene": "gene",
    "Disease": "disease",
    " side effect": "side_effect",
}


@given(ROWS)
def test_any_rows_are_read_as_a_plain_loop_reads_them(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("t") / "t.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file, quoting=csv.QUOTE_ALL)
        writer.writerows([("source_type", "source", "relation", "target_type", "target"), *rows])
    names = {"r one": "r_one", "R_ONE": "r_one", "two": "two"}
    expected = {
        (TYPES[a], x.strip(), names[r], TYPES[b], y.strip(), "t")
        for a, x, r, b, y in rows
        if a and b and r and x.strip() and y.strip() and (TYPES[a], x.strip()) != (TYPES[b], y.strip())
    }
    if not any(a and b and r and x.strip() and y.strip() for a, x, r, b, y in rows):
        with pytest.raises(InputError, match="no edge left"):
            load_triples(path)
        return
    kg = load_triples(path)
    assert set(triples(kg)) == expected
    assert sum(record["rows_read"] for record in kg.account) == len(rows)


def test_many_batches_are_one_graph(tmp_path, monkeypatch):
    monkeypatch.setattr("kgnn.graph.sources.triples.LARGE", 50)
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.integers(0, 40, (600, 2)).astype(str), columns=["source", "target"])
    frame["relation"] = rng.choice(["a", "b"], 600)
    frame.to_parquet(tmp_path / "t.parquet", row_group_size=30)
    assert load_triples(tmp_path / "t.parquet", origin="x") == load_triples(frame, origin="x")
    pairs = set(frame[frame["source"] != frame["target"]].itertuples(index=False, name=None))
    assert {(s, t, r) for _, s, r, _, t, _ in triples(load_triples(frame))} == pairs


def test_a_table_of_triples_in_a_described_graph(write, tmp_path):
    write("edges.sif.gz", HETIONET), write("nodes.tsv", HETIONET_NODES)
    write("g.toml", '[[source]]\nkind = "triples"\ntable = "edges.sif.gz"\nnodes = "nodes.tsv"\nlicence = "CC0-1.0"\n')
    kg = build(tmp_path / "g.toml")
    assert kg == load_triples(tmp_path / "edges.sif.gz", nodes=tmp_path / "nodes.tsv")
    assert kg.provenance == {"hetionet": {"licence": "CC0-1.0"}}
