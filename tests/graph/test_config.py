import shutil

import pandas as pd
import pytest
from anndata import AnnData

from kgnn import KnowledgeGraph
from kgnn.errors import DataWarning, InputError
from kgnn.graph import build, config

ROOT = __import__("pathlib").Path(__file__).parents[2]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("KGNN_CACHE", str(tmp_path / "cache"))
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "edges.csv").write_text("source,target\np53,MDM2\nTP53,MYC\n")
    (tmp_path / "data" / "sets.gmt").write_text("s\t\tTP53\tMDM2\n")
    (tmp_path / "data" / "genes.tsv").write_text("symbol\talias\nTP53\tp53\nMDM2\tHDMX\nMYC\tbHLHe39\n")
    (tmp_path / "graph.toml").write_text(
        '[graph]\nroot = "data"\nnamespace = "symbol"\ngenes = ["genes.tsv"]\n'
        '[[source]]\nkind = "table"\ntable = "edges.csv"\nrelation = "binds"\n'
        '[[source]]\nkind = "gene_sets"\npath = "sets.gmt"\n'
    )
    return tmp_path


def test_a_described_graph_is_the_one_built_by_hand(folder):
    steps = []
    kg = build(folder / "graph.toml", out=folder / "kg", progress=lambda *step: steps.append(step))
    assert kg.relations == [("gene", "binds", "gene"), ("gene", "shares_gene_sets", "gene")]
    assert set(map(tuple, kg.edges(kg.relations[0])[["source", "target"]].to_numpy())) == {
        ("TP53", "MDM2"),
        ("TP53", "MYC"),
    }
    assert KnowledgeGraph.load(folder / "kg") == kg
    assert steps == [("table edges.csv", 0, 2), ("gene_sets sets.gmt", 1, 2)]


def test_only_what_changed_is_read_again(folder, monkeypatch):
    read = []

    def spy(kind):
        whole = config.KINDS[kind]
        monkeypatch.setitem(config.KINDS, kind, _named(lambda **options: read.append(kind) or whole(**options), whole))

    spy("table")
    spy("gene_sets")
    first = build(folder / "graph.toml", out=folder / "kg")
    assert read == ["table", "gene_sets"]
    assert build(folder / "graph.toml", out=folder / "kg") == first
    assert build(folder / "graph.toml") == first
    assert read == ["table", "gene_sets"]
    (folder / "data" / "sets.gmt").write_text("s\t\tTP53\tMYC\n")
    changed = build(folder / "graph.toml", out=folder / "kg")
    assert read == ["table", "gene_sets", "gene_sets"]
    assert changed != first
    text = (folder / "graph.toml").read_text()
    (folder / "graph.toml").write_text(text.replace("binds", "touches"))
    assert build(folder / "graph.toml", out=folder / "kg").relations[0][1] == "touches"
    (folder / "data" / "genes.tsv").write_text("symbol\talias\nTP53\tq\nMDM2\tHDMX\nMYC\tbHLHe39\n")
    edges = build(folder / "graph.toml").edges(("gene", "touches", "gene"))
    assert edges[["source", "target"]].to_numpy().tolist() == [["TP53", "MYC"]]  # p53 means nothing any more
    shutil.rmtree(next((folder / "cache").iterdir()))  # a lost or damaged entry is made again
    for entry in (folder / "cache").iterdir():
        (entry / "manifest.json").write_text("{}")
    build(folder / "graph.toml")


def _named(function, like):
    function.__signature__ = __import__("inspect").signature(like)
    return function


@pytest.mark.parametrize("file", ["edges.csv", "genes.tsv"])
def test_a_file_that_changes_while_it_is_read_leaves_nothing_wrong_behind(folder, monkeypatch, file):
    before = (folder / "data" / file).read_text()
    whole = config.KINDS["table"]

    def changed_first(**options):
        (folder / "data" / file).write_text(before.replace("p53", "HDMX"))
        return whole(**options)

    with monkeypatch.context() as patch:
        patch.setitem(config.KINDS, "table", _named(changed_first, whole))
        with pytest.raises(InputError, match="changed while it was read; build it again"):
            build(folder / "graph.toml", out=folder / "kg")
    assert not (folder / "kg").exists()
    (folder / "data" / file).write_text(before)
    edges = build(folder / "graph.toml", out=folder / "kg").edges(("gene", "binds", "gene"))
    assert edges[["source", "target"]].to_numpy().tolist() == [["TP53", "MDM2"], ["TP53", "MYC"]]


def test_orthologues_that_change_while_they_are_read(folder, monkeypatch):
    (folder / "orthologs.tsv").write_text("human\tmouse\nTP53\tTrp53\n")
    (folder / "both.toml").write_text('[join]\northologs = "orthologs.tsv"\ngraphs = { human = "graph.toml" }\n')

    def changed_first(*_arguments):
        (folder / "orthologs.tsv").write_text("human\tmouse\nMYC\tMyc\n")

    monkeypatch.setattr(config, "Orthologs", changed_first)
    monkeypatch.setattr(config, "join_species", lambda graphs, *_arguments, **_options: graphs["human"])
    with pytest.raises(InputError, match="changed while it was read"):
        build(folder / "both.toml", out=folder / "kg")
    assert not (folder / "kg").exists()


@pytest.mark.parametrize("mode", [0o777, None])
def test_without_a_cache_the_graph_is_the_same(folder, mode):
    if mode is None:
        (folder / "cache").write_text("a file")
    else:
        (folder / "cache").mkdir()
        (folder / "cache").chmod(mode)
    kg = build(folder / "graph.toml", out=folder / "kg")
    assert len(kg.edges(("gene", "binds", "gene"))) == 2
    assert mode is None or not list((folder / "cache").iterdir())


def test_a_disk_that_is_full_costs_the_cache_alone(folder, monkeypatch, caplog):
    def full(*_arguments):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(KnowledgeGraph, "save", full)
        assert len(build(folder / "graph.toml").relations) == 2
    assert "not kept in the cache: [Errno 28] No space left" in caplog.text


def test_a_byte_order_mark_is_no_part_of_a_file(folder):
    plain = build(folder / "graph.toml")
    for file in [folder / "graph.toml", *(folder / "data").iterdir()]:
        file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
    assert build(folder / "graph.toml") == plain


def test_cells_must_be_chosen(folder):
    x = [[0.0, 0, 0.5], [0.5, 0.5, 0], [1, 1, 0.5], [1.5, 1.5, 0], [4.5, 0, 2.5]]
    obs = pd.DataFrame({"condition": ["control"] * 4 + ["A"]}, index=list("abcde"))
    AnnData(pd.DataFrame(x, index=list("abcde"), columns=["TP53", "MDM2", "MYC"]), obs=obs).write_h5ad(
        folder / "c.h5ad"
    )

    def description(extra):
        path = folder / "co.toml"
        path.write_text(f'[[source]]\nkind = "coexpression"\npath = "c.h5ad"\nthreshold = 0.99\n{extra}\n')
        return path

    with pytest.raises(InputError, match="must say which cells it is made from"):
        build(description(""))
    relation = ("gene", "coexpressed", "gene")
    assert len(build(description('obs = { condition = "control" }')).edges(relation)) == 2
    assert len(build(description('cells = "all"')).edges(relation)) == 0
    picked = build(description(""), cells=lambda adata: adata[:4], cells_key="first four")
    assert len(picked.edges(relation)) == 2
    with pytest.raises(InputError, match="obs has no column 'batch'"):
        build(description('obs = { batch = "x" }'))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[source]\n", "graph.toml: not TOML: .*line 1"),
        ("[graph]\n", r"no \[\[source\]\] and no \[join\]"),
        ("[source]\nkind = 'table'\n", r"write \[\[source\]\] with two brackets"),
        ("graph = 3\nsource = [{ kind = 'table' }]\n", r"\[graph\] is 3; it must be a table"),
        ("source = [1]\n", "source 1 is 1; it must be a table"),
        ("join = 'x'\n", r"\[join\] is 'x'; it must be a table"),
        ("[graph]\ngenes = 'g.tsv'\n[[source]]\nkind = 'table'\n", r"genes of \[graph\] is 'g.tsv'; it must be a list"),
        ("[[source]]\nkind = 'coexpression'\nobs = 'x'\n", "obs of source 1 is 'x'; it must be a table"),
        ("[extra]\n", r"unknown table \[extra\]"),
        ("[graph]\ncolour = 1\n[[source]]\nkind = 'table'\n", r"\[graph\] has no key 'colour'"),
        ("[[source]]\nkind = 'guess'\n", "source 1 has the kind 'guess'; choose regulation"),
        ("[[source]]\nkind = 'table'\ntabel = 'x'\n", r"source 1 \(table\) has no option 'tabel'; it has table"),
        ("[[source]]\nkind = 'table'\ntable = 'x.csv'\n", "x.csv: no such file"),
        ("[[source]]\nkind = 'table'\n", "table: .*missing 1 required"),
        (
            "[graph]\nnamespace = 'symbol'\n[[source]]\nkind = 'gene_sets'\npath = 'data/sets.gmt'\n",
            "needs tables of genes",
        ),
        ("[join]\ngraphs = {}\n", r"\[join\] has orthologs, graphs"),
    ],
)
def test_bad_descriptions_are_refused(folder, text, message):
    (folder / "graph.toml").write_text(text)
    with pytest.raises(InputError, match=message):
        build(folder / "graph.toml", out=folder / "kg")
    assert not (folder / "kg").exists()


@pytest.fixture(scope="module")
def real_graphs(real_data, tmp_path_factory):
    """The graphs that `data/*.toml` describe, over the real files."""
    folder = tmp_path_factory.mktemp("real")
    for name in ("human", "mouse", "human_mouse"):
        text = (ROOT / "data" / f"{name}.toml").read_text()
        text = text.replace('"../../shared/data', f'"{real_data}').replace(f'"{real_data}"', f'"{real_data}"')
        (folder / f"{name}.toml").write_text(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KGNN_CACHE", str(folder / "cache"))
        with pytest.warns(DataWarning, match="1-Dec = DEC1"):  # TRRUST went through Excel
            human = build(folder / "human.toml", out=folder / "human")
        others = {name: build(folder / f"{name}.toml", out=folder / name) for name in ("mouse", "human_mouse")}
        return {"human": human, **others}


def test_the_descriptions_in_data_build_human_mouse_and_both(real_graphs):
    human, mouse, both = real_graphs.values()
    assert {relation[1] for relation in human.relations} == {
        "regulates", "in_family", "child_of", "shares_gene_sets", "is_a", "part_of", "develops_from", "coexpressed"
    }  # fmt: skip
    assert set(human.origins) >= {"dorothea", "trrust", "go", "reactome", "norman_controls", "cell_ontology"}
    assert {relation[1] for relation in mouse.relations} == {"regulates", "binds_promoter"}
    assert set(both.nodes("gene")["species"]) == {"human", "mouse"}
    assert len(both.nodes("gene")) == len(human.nodes("gene")) + len(mouse.nodes("gene"))
    for relation in (("gene", "regulates", "gene"),):
        assert len(both.edges(relation)) == len(human.edges(relation)) + len(mouse.edges(relation))
    orthologs = both.edges(("gene", "orthologous_to", "gene"))
    assert (orthologs.merge(orthologs, left_on=["source", "target"], right_on=["target", "source"]).shape[0]) == len(
        orthologs
    )
    assert both.to_hetero().validate()


def test_a_cache_that_cannot_be_written_is_none_and_a_byte_order_mark_is_no_error(folder, monkeypatch, caplog):
    (folder / "graph.toml").write_bytes(b"\xef\xbb\xbf" + (folder / "graph.toml").read_bytes())
    expected = build(folder / "graph.toml")
    (folder / "file").touch()
    monkeypatch.setenv("KGNN_CACHE", str(folder / "file" / "cache"))
    assert build(folder / "graph.toml") == expected
    assert "nothing is kept in a cache" in caplog.text
