import pytest
from hypothesis import given
from hypothesis import strategies as st

from kgnn.errors import InputError
from kgnn.graph import load_gene_sets
from kgnn.graph.sources import gene_sets

RELATION = ("gene", "shares_gene_sets", "gene")
GENES = [f"G{i}" for i in range(12)]
collections = st.dictionaries(
    st.text("abcdef ()':-", min_size=1, max_size=8).filter(str.strip),
    st.lists(st.sampled_from(GENES), min_size=1, max_size=8),
    min_size=1,
    max_size=10,
)


def write_gmt(path, sets, description=""):
    path.write_text("".join(f"{name}\t{description}\t" + "\t".join(genes) + "\t\n" for name, genes in sets.items()))
    return path


def gears_loop(sets, threshold):
    """GEARS' make_GO: every pair of genes by Python sets."""
    of = {g: {name for name, genes in sets.items() if g in genes} for genes in sets.values() for g in genes}
    edges = {}
    for a in of:
        for b in of:
            score = len(of[a] & of[b]) / len(of[a] | of[b])
            if a != b and score > threshold:
                edges[a, b] = score
    return edges


def loaded(kg):
    if not kg.relations:
        return {}
    return {(row.source, row.target): row.weight for row in kg.edges(RELATION).itertuples()}


@given(collections, st.sampled_from([0.0, 0.1, 0.4]), st.sampled_from([1, 3, 64]))
def test_jaccard_equals_the_loop_over_pairs_whatever_the_block(tmp_path_factory, sets, threshold, block):
    path = write_gmt(tmp_path_factory.mktemp("gmt") / "sets.gmt", sets)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gene_sets, "BLOCK", block)
        kg = load_gene_sets(path, k=None, threshold=threshold)
    assert loaded(kg) == pytest.approx(gears_loop(sets, threshold), abs=1e-6)
    assert kg.nodes("gene").index.tolist() == sorted({g for genes in sets.values() for g in genes})


@given(collections, st.integers(1, 4))
def test_k_keeps_the_heaviest_sources_of_each_target(tmp_path_factory, sets, k):
    path = write_gmt(tmp_path_factory.mktemp("gmt") / "sets.gmt", sets)
    by_target: dict = {}
    for (source, target), weight in gears_loop(sets, 0.1).items():
        by_target.setdefault(target, []).append((-weight, source))
    expected = {(s, t): -w for t, edges in by_target.items() for w, s in sorted(edges)[:k]}
    assert loaded(load_gene_sets(path, k=k)) == pytest.approx(expected, abs=1e-6)


def test_repeated_genes_are_counted_and_the_origin_is_the_file(tmp_path):
    kg = load_gene_sets(write_gmt(tmp_path / "mine.gmt", {"s 1": ["A", "B", "A"], "s 2": ["A", "B"]}, "description"))
    assert kg.origins == ["mine"]
    assert kg.account[0]["dropped"] == {"gene repeated in its set": 1}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("set1\t\tA\tB\nset2\tdescription\n", r"s.gmt:2: 2 fields and no gene"),
        ("set1\t\tA\n\nset1\t\tB\n", r"s.gmt:3: the gene set 'set1' stands twice"),
        ("\n\n", "no gene set"),
    ],
)
def test_bad_gmt_is_refused_with_its_line(tmp_path, text, message):
    (tmp_path / "s.gmt").write_text(text)
    with pytest.raises(InputError, match=message):
        load_gene_sets(tmp_path / "s.gmt")


def test_binary_missing_and_empty_files_are_refused(tmp_path):
    (tmp_path / "s.gmt").write_bytes(b"\xff\xfe\x00bin")
    with pytest.raises(InputError, match="not UTF-8"):
        load_gene_sets(tmp_path / "s.gmt")
    with pytest.raises(InputError, match="no such file"):
        load_gene_sets(tmp_path / "t.gmt")
    (tmp_path / "s.gmt").write_text("")
    with pytest.raises(InputError, match="is empty"):
        load_gene_sets(tmp_path / "s.gmt")


def test_real_go_agrees_with_the_loop_for_some_genes(real_data):
    path = real_data / "kg" / "GO_Biological_Process_2021.gmt"
    sets = gene_sets.read_gmt(path).sets
    kg = load_gene_sets(path)
    assert len(kg.nodes("gene")) == 14_937
    edges = kg.edges(RELATION)
    of: dict = {}
    for name, genes in sets.items():
        for gene in genes:
            of.setdefault(gene, set()).add(name)
    for target in ("TP53", "KLF1", "MYC", "GATA1"):
        scores = sorted((len(of[target] & of[g]) / len(of[target] | of[g]) for g in of if g != target), reverse=True)
        expected = [score for score in scores if score > 0.1][:20]
        found = sorted(edges.loc[edges["target"] == target, "weight"], reverse=True)
        assert found == pytest.approx(expected, abs=1e-6)
