"""Splits of edges against sets of pairs written out; leaks that were put there."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kgnn import KnowledgeGraph
from kgnn.errors import DataWarning, InputError
from kgnn.graph import find_leaks, split_edges

REGULATES, BINDS, IN = ("gene", "regulates", "gene"), ("gene", "binds", "gene"), ("gene", "in", "set")
GENES, SETS = [f"G{i}" for i in range(30)], [f"S{i}" for i in range(6)]


def edges(pairs, **columns):
    return pd.DataFrame(sorted(pairs), columns=["source", "target"]).assign(**columns)


def draw(rng, sources, targets, n):
    every = [(a, b) for a in sources for b in targets if a != b]
    return {every[i] for i in rng.choice(len(every), n, replace=False)}


def pairs(kg, relation):
    return (
        set(kg.edges(relation)[["source", "target"]].itertuples(index=False, name=None))
        if relation in kg.relations
        else set()
    )


def graph(seed=0):
    rng = np.random.default_rng(seed)
    one, two = draw(rng, GENES, GENES, 120), draw(rng, GENES, GENES, 120)
    bind = draw(rng, GENES, GENES, 60)
    table = pd.concat([edges(one, origin="A"), edges(two, origin="B")])
    both = edges(bind | {(b, a) for a, b in bind})
    return KnowledgeGraph(
        {"gene": GENES, "set": SETS}, {REGULATES: table, BINDS: both, IN: edges(draw(rng, GENES, SETS, 50))}
    )


@given(st.integers(0, 50), st.sampled_from(["random", "node"]), st.floats(0.05, 0.4), st.floats(0, 0.3))
@settings(max_examples=40)
def test_parts_are_disjoint_whole_and_without_leaks(seed, kind, test, val):
    kg = graph(seed)
    split = split_edges(kg, kind, test_fraction=test, val_fraction=val, seed=seed)
    for relation in kg.relations:
        train, validation, held = (pairs(part, relation) for part in split)
        assert not train & validation
        assert not train & held
        assert not validation & held
        assert train | validation | held == pairs(kg, relation)
    bound = [pairs(part, BINDS) for part in split]
    if kind == "random":
        assert all({(b, a) for a, b in part} == part for part in bound)
    assert find_leaks(split.train, KnowledgeGraph.merge(split[1:])).empty
    assert all(list(part.nodes("gene").index) == GENES for part in split)


def test_the_share_is_the_one_asked_for_in_each_relation():
    kg = graph()
    split = split_edges(kg, test_fraction=0.2, val_fraction=0.1)
    for relation in kg.relations:
        n = len(pairs(kg, relation))
        assert len(pairs(split.test, relation)) == pytest.approx(0.2 * n, abs=2)
        assert len(pairs(split.val, relation)) == pytest.approx(0.1 * n, abs=2)


def test_a_pair_goes_with_all_its_origins_and_the_seed_decides():
    kg = graph()
    split = split_edges(kg, relations=[REGULATES], seed=3)
    stored = [len(part.edges(REGULATES, by_origin=True)) for part in split]
    assert sum(stored) == len(kg.edges(REGULATES, by_origin=True))
    assert split.test.relations == [REGULATES]
    assert split.train.edges(BINDS).equals(kg.edges(BINDS))
    assert split_edges(kg, relations=[REGULATES], seed=3).test == split.test
    assert split_edges(kg, relations=[REGULATES], seed=4).test != split.test


def test_by_node_no_edge_of_a_held_out_node_remains_in_the_relation():
    split = split_edges(graph(), "node", relations=[REGULATES], test_fraction=0.2, val_fraction=0.1)
    held = pairs(split.test, REGULATES)
    seen = {x for pair in pairs(split.train, REGULATES) | pairs(split.val, REGULATES) for x in pair}
    nodes = {x for pair in held for x in pair} - seen
    assert len(nodes) == pytest.approx(6, abs=1)
    assert all(a in nodes or b in nodes for a, b in held)


def test_by_source_is_what_the_held_out_one_adds():
    kg = graph()
    split = split_edges(kg, "source", relations=[REGULATES], held_out="B")
    a = pairs(kg.only_sources("A"), REGULATES)
    assert pairs(split.test, REGULATES) == pairs(kg, REGULATES) - a
    assert pairs(split.train, REGULATES) | pairs(split.val, REGULATES) == a
    assert len(pairs(split.val, REGULATES)) == 12


@given(st.integers(0, 50), st.integers(1, 12), st.sampled_from([REGULATES, BINDS]))
@settings(max_examples=40)
def test_by_time_the_newest_are_held_out_and_no_date_is_cut(seed, years, relation):
    kg, rng = graph(seed), np.random.default_rng(seed)
    every = sorted(pairs(kg, relation))
    dated = [every[i] for i in rng.choice(len(every), 40, replace=False)]
    dates = pd.DataFrame(dated, columns=["source", "target"]).assign(date=rng.integers(2000, 2000 + years, 40))
    first = {}
    for a, b, year in dates.itertuples(index=False):
        key = frozenset((a, b)) if relation == BINDS else (a, b)
        first[key] = min(year, first.get(key, 9999))
    split = split_edges(kg, "time", relations=[relation], dates=dates, test_fraction=0.2, val_fraction=0.2)
    train, val, test = (
        {frozenset(pair) if relation == BINDS else pair for pair in pairs(part, relation)} for part in split
    )
    assert (train & set(first)) | val | test == set(first)
    old, middle, new = ([first[key] for key in part if key in first] for part in (train, val, test))
    assert max(old, default=0) < min([*middle, *new])
    assert max(middle, default=0) < min(new)
    newest = sorted(first.values(), reverse=True)
    assert min(new) == newest[round(0.2 * len(newest)) - 1]


def test_by_time_dates_are_read_and_what_they_do_not_tell_of_is_told():
    kg = graph()
    some = sorted(pairs(kg, REGULATES))[:10]
    dates = edges(some, date=[f"20{n:02d}-01-31" for n in range(10)])
    split = split_edges(kg, "time", relations=[REGULATES], dates=dates, test_fraction=0.2, val_fraction=0.1)
    assert pairs(split.test, REGULATES) == set(some[8:])
    assert pairs(split.val, REGULATES) == {some[7]}
    for written in ([str(n) for n in range(10)], [998 + n for n in range(10)], [f" {998 + n}" for n in range(10)]):
        same = edges(some, date=written).assign(source=lambda table: table["source"] + " ")
        asked = {"relations": [REGULATES], "dates": same, "test_fraction": 0.2, "val_fraction": 0.1}
        assert split_edges(kg, "time", **asked).test == split.test  # numbers in texts count as numbers: 999 before 1000
    more = pd.concat([dates, edges([("G0", "X")], date=["2030-01-01"]), edges(some[:1], date=[None])])
    with pytest.warns(DataWarning, match="2 of 12 dates"):
        again = split_edges(kg, "time", relations=[REGULATES], dates=more, test_fraction=0.2, val_fraction=0.1)
    assert again.test == split.test


def test_leaks_are_found_with_their_kind_and_number():
    rng = np.random.default_rng(1)
    known, held = draw(rng, GENES, GENES, 100), draw(rng, GENES, GENES, 30)
    known -= held | {(b, a) for a, b in held}
    leak = sorted(held)[:10]
    back, same = ("gene", "regulated_by", "gene"), ("gene", "acts_on", "gene")
    nodes = {"gene": GENES}
    test = KnowledgeGraph(nodes, {REGULATES: edges(held)})
    turned = {(b, a) for a, b in sorted(known)[:40]} | {(b, a) for a, b in leak}
    train = KnowledgeGraph(
        nodes, {REGULATES: edges(known), back: edges(turned), same: edges(set(leak[:4]) | set(sorted(known)[:20]))}
    )
    found = find_leaks(train, test).set_index("through")
    assert found.loc["gene–regulated_by–gene", ["kind", "edges"]].tolist() == ["inverse", 10]
    assert found.loc["gene–acts_on–gene", ["kind", "edges"]].tolist() == ["duplicate", 4]
    assert "gene–regulates–gene" not in found.index
    other = KnowledgeGraph(nodes, {REGULATES: edges(known), back: edges(draw(rng, GENES, GENES, 60) | set(leak))})
    assert find_leaks(other, test).empty  # pairs in common, but the one does not imply the other


def test_halves_of_a_symmetric_relation_leak():
    bind = draw(np.random.default_rng(2), GENES[:15], GENES[15:], 60)
    train = KnowledgeGraph({"gene": GENES}, {BINDS: edges(bind | {(b, a) for a, b in sorted(bind)[:50]})})
    test = KnowledgeGraph({"gene": GENES}, {BINDS: edges({(b, a) for a, b in sorted(bind)[50:]})})
    (row,) = find_leaks(train, test).itertuples()
    assert (row.kind, row.edges) == ("symmetric", 10)


def test_leaks_across_relations_are_dropped_from_training_and_booked():
    one = draw(np.random.default_rng(3), GENES, GENES, 100)
    back = ("gene", "regulated_by", "gene")
    kg = KnowledgeGraph({"gene": GENES}, {REGULATES: edges(one), back: edges({(b, a) for a, b in one})})
    split = split_edges(kg, relations=[REGULATES])
    held = pairs(split.test, REGULATES) | pairs(split.val, REGULATES)
    assert pairs(split.train, back) == {(b, a) for a, b in one - held}
    note = split.train.history[-1]
    assert note["operation"] == "drop_leaks"
    assert note["edges_before"] - note["edges_after"] == 20


def test_validation_gives_no_test_edge_away_either():
    one = draw(np.random.default_rng(3), GENES, GENES, 100)
    back = ("gene", "regulated_by", "gene")
    split = split_edges(
        KnowledgeGraph({"gene": GENES}, {REGULATES: edges(one), back: edges({(b, a) for a, b in one})}),
        test_fraction=0.3,
        val_fraction=0.3,
    )
    for relation, other in ((REGULATES, back), (back, REGULATES)):
        mirrors = {(b, a) for a, b in pairs(split.test, other)}
        assert len(pairs(split.test, relation)) == 30
        assert 0 < len(pairs(split.val, relation)) < 30
        assert not pairs(split.val, relation) & mirrors
        assert not pairs(split.train, relation) & mirrors
    assert find_leaks(split.train, KnowledgeGraph.merge([split.val, split.test])).empty


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "tme"}, "unknown kind of split 'tme'"),
        ({"kind": "time"}, "needs dates="),
        ({"dates": edges([])}, "other kinds take none"),
        ({"kind": "time", "dates": edges([("G1", "G2")])}, "lack the column 'date'"),
        ({"kind": "time", "dates": edges([("X", "G2")], date=2001)}, "no date is of an edge"),
        ({"kind": "time", "dates": edges([("G1", "G2")], date="yesterday or so")}, "ISO dates"),
        ({"kind": "time", "dates": "dates.csv"}, "dates"),
        ({"kind": "source"}, "needs held_out="),
        ({"held_out": "A"}, "other kinds take none"),
        ({"kind": "source", "held_out": "C"}, "no source 'C'"),
        ({"test_fraction": 0.7, "val_fraction": 0.3}, "leaves nothing"),
        ({"test_fraction": 0}, "no edge is held out"),
        ({"relations": [("gene", "is", "gene")]}, "no relation"),
        ({"seed": -1}, "seed"),
    ],
)
def test_what_cannot_be_split_is_told(options, message):
    with pytest.raises(InputError, match=message):
        split_edges(graph(), **options)


def test_leaks_are_looked_for_among_the_same_nodes():
    pair = {REGULATES: edges([("G0", "G1")])}
    train = KnowledgeGraph({"gene": GENES}, pair)
    for genes in (GENES[::-1], [*GENES, "G30"]):
        with pytest.raises(InputError, match="the two graphs have other nodes"):
            find_leaks(train, KnowledgeGraph({"gene": genes}, pair))
