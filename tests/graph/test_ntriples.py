import gzip

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kgnn.errors import InputError
from kgnn.graph import load_ntriples
from kgnn.graph.sources import ntriples

LABEL = "http://www.w3.org/2000/01/rdf-schema#label"
REGULATES, BINDS = "http://x.org/regulates", "http://x.org/binds"
TYPES = {"http://x.org/gene/": "gene", "http://x.org/": "thing", "_:": "blank"}
TEXT = r"""# a comment
<http://x.org/gene/TP53> <http://x.org/regulates> <http://x.org/gene/MDM2> .
<http://x.org/gene/TP53> <http://x.org/regulates> <http://x.org/gene/MDM2> . # again

<http://x.org/gene/TP53>	<http://x.org/binds>	<http://x.org/dna> .
<http://x.org/gene/TP53> <http://x.org/other> <http://x.org/gene/MYC> .
<http://x.org/gene/TP53> <http://www.w3.org/2000/01/rdf-schema#label> "tumour \"p53\" \u03B1 > . <x>"@en .
<http://x.org/gene/MDM2> <http://x.org/regulates> "5"^^<http://www.w3.org/2001/XMLSchema#integer> .
_:b1 <http://x.org/binds> <http://x.org/gene/MDM2> .
<http://elsewhere.org/a> <http://x.org/binds> <http://x.org/gene/MDM2> .
"""


def load(tmp_path, text=TEXT, relations=None, name="g.nt", **options):
    path = tmp_path / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    relations = relations or {REGULATES: "regulates", BINDS: "binds", LABEL: "label"}
    return load_ntriples(path, relations, types=TYPES, **options)


@pytest.mark.parametrize("name", ["g.nt", "g.nt.gz"])
@pytest.mark.parametrize("chunk", [1 << 24, 40])
def test_every_triple_goes_where_it_should(tmp_path, monkeypatch, name, chunk):
    monkeypatch.setattr(ntriples, "CHUNK", chunk)
    kg = load(tmp_path, name=name)
    pairs = {rel: kg.edges(rel)[["source", "target"]].to_numpy().tolist() for rel in kg.relations}
    assert pairs == {
        ("gene", "regulates", "gene"): [["TP53", "MDM2"]],
        ("gene", "binds", "thing"): [["TP53", "dna"]],
        ("blank", "binds", "gene"): [["b1", "MDM2"]],
    }
    assert kg.nodes("gene").loc["TP53", "label"] == 'tumour "p53" α > . <x>'
    rest = kg.account[-1]
    assert rest["dropped"] == {"other predicate": 1, "label": 1, "literal object": 1, "an end of no known type": 1}
    assert sum(record["rows_read"] for record in kg.account) == 8
    assert sum(record["merged"] for record in kg.account) == 1


def test_an_escape_of_no_character_stays_as_it_is_written(tmp_path):
    kg = load(tmp_path, TEXT.replace(r"\u03B1", r"\U00110000 \U0010FFFF"))
    assert kg.nodes("gene").loc["TP53", "label"] == 'tumour "p53" \\U00110000 \U0010ffff > . <x>'


def test_whole_iris_and_progress(tmp_path):
    seen = []
    kg = load(tmp_path, strip=False, progress=seen.append)
    assert "http://x.org/gene/TP53" in kg.nodes("gene").index
    assert seen == [len(TEXT.encode())]


@pytest.mark.parametrize(
    ("line", "number"),
    [
        ("<http://x.org/a> <http://x.org/regulates> <http://x.org/b>", 11),
        ("<a b> <http://x.org/regulates> <http://x.org/b> .", 11),
        ("hello", 11),
        ('<http://x.org/a> <http://x.org/regulates> "open .', 11),
    ],
)
def test_a_line_that_is_no_triple_is_named(tmp_path, monkeypatch, line, number):
    monkeypatch.setattr(ntriples, "CHUNK", 100)
    with pytest.raises(InputError, match=rf"g.nt:{number}: no triple: "):
        load(tmp_path, TEXT + line + "\n")


def test_files_without_an_edge_or_not_text_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"no edge among 8 triples .*other predicate: 8"):
        load(tmp_path, relations={"http://x.org/none": "none"})
    with pytest.raises(InputError, match="give relations"):
        load_ntriples(tmp_path / "g.nt", {}, types={})
    (tmp_path / "g.nt").write_bytes(TEXT.encode() + b"<http://x.org/\xff> .\n")
    with pytest.raises(InputError, match=r"g.nt:11: not UTF-8"):
        load_ntriples(tmp_path / "g.nt", {REGULATES: "r"}, types=TYPES)
    whole = gzip.compress(TEXT.encode() * 500)
    for data in (whole[: len(whole) // 2], whole[:12] + b"junkjunkjunk"):
        (tmp_path / "g.nt.gz").write_bytes(data)
        with pytest.raises(InputError, match="gzip data damaged or cut short"):
            load_ntriples(tmp_path / "g.nt.gz", {REGULATES: "r"}, types=TYPES)
    (tmp_path / "g.nt").write_bytes(TEXT.encode() + b"<http://x.org/\0> .\n")
    with pytest.raises(InputError, match=r"g.nt:11: a null character"):
        load_ntriples(tmp_path / "g.nt", {REGULATES: "r"}, types=TYPES)


def test_a_line_without_end_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(ntriples, "CHUNK", 1000)
    monkeypatch.setattr(ntriples, "MAX_LINE", 4000)
    with pytest.raises(InputError, match=r"g.nt:11: a line longer than"):
        load(tmp_path, TEXT + "<http://x.org/" + "a" * 10_000)


names = st.text("abAB19_-.", min_size=1, max_size=5).map("g{}".format)


@given(st.lists(st.tuples(names, st.sampled_from([REGULATES, BINDS, "http://x.org/z"]), names), min_size=1))
def test_what_is_written_is_read(tmp_path_factory, triples):
    text = "".join(f"<http://x.org/gene/{s}> <{p}> <http://x.org/gene/{o}> .\n" for s, p, o in triples)
    wanted = {(s, p, o) for s, p, o in triples if p != "http://x.org/z"}
    if not wanted:
        return
    kg = load(tmp_path_factory.mktemp("nt"), text, {REGULATES: "regulates", BINDS: "binds"})
    for predicate, name in ((REGULATES, "regulates"), (BINDS, "binds")):
        relation = ("gene", name, "gene")
        expected = {(s, o) for s, p, o in wanted if p == predicate and s != o}
        found = kg.edges(relation)[["source", "target"]].to_numpy().tolist() if relation in kg.relations else []
        assert set(map(tuple, found)) == expected
