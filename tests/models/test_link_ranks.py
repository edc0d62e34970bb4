"""Ranks against loops over sets of triples, and against PyKEEN's evaluator where it is installed."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kgnn import KnowledgeGraph
from kgnn.errors import InputError
from kgnn.models.links.ranks import matched, ranks, table
from kgnn.models.links.triples import Triples

NODES = [f"E{i:02d}" for i in range(9)]
OTHERS = [f"X{i}" for i in range(4)]


def graph(rng, n):
    """Two relations among E nodes, one from E to X."""
    edges = {}
    for name, kind, names in (("a", "e", NODES), ("b", "e", NODES), ("c", "x", OTHERS)):
        pairs = {(NODES[rng.integers(9)], names[rng.integers(len(names))]) for _ in range(n)}
        pairs = sorted((s, t) for s, t in pairs if s != t)
        edges["e", name, kind] = pd.DataFrame(pairs or [("E00", names[1])], columns=["source", "target"])
    return KnowledgeGraph({"e": NODES, "x": OTHERS}, edges)


def scores_of(learned, seed, levels):
    """Scores of every question with many ties."""
    rng = np.random.default_rng(seed)
    every = rng.integers(levels, size=(2 * len(learned.relations), learned.n_nodes, learned.n_nodes)).astype(np.float32)
    return every, lambda question, nodes: every[question][nodes][:, learned.candidates(question)]


def literal(every, held, known):
    """Each edge's rank from both ends, sorted, by loops: how many are above, and half of how many are equal."""
    true = {*zip(known.source.tolist(), known.relation.tolist(), known.target.tolist(), strict=True)}
    n, found = len(held.relations), []
    for s, r, t in zip(held.source.tolist(), held.relation.tolist(), held.target.tolist(), strict=True):
        for question, node, answer in ((r, s, t), (r + n, t, s)):
            rank, where = 1.0, held.candidates(question)
            for other in range(where.start, where.stop):
                triple = (s, r, other) if question < n else (other, r, t)
                if triple in true:
                    continue
                mine, theirs = every[question, node, answer], every[question, node, other]
                rank += 1.0 * (theirs > mine) + 0.5 * (theirs == mine)
            found.append((question, rank))
    return sorted(found)


@given(st.integers(0, 200), st.integers(1, 12), st.integers(1, 6))
def test_ranks_are_those_of_a_loop(seed, n, levels):
    rng = np.random.default_rng(seed)
    known = Triples.of(graph(rng, 3 * n))
    some = rng.random(len(known)) < 0.4
    some[0] = True
    ends = (getattr(known, name)[some] for name in ("source", "relation", "target"))
    held = Triples(known.start, known.sizes, known.relations, *ends)
    every, score = scores_of(known, seed, levels)
    found = ranks(score, held, known.questions)
    assert sorted(zip(found.question.tolist(), found.rank.tolist(), strict=True)) == literal(every, held, known)
    rows = table(found, held)
    assert rows["mrr"][0] == pytest.approx((1 / found.rank).mean())
    assert rows["edges"].tolist()[0] == len(held) == rows["edges"][1:].sum()


def test_all_scores_equal_are_in_the_middle():
    known = Triples.of(graph(np.random.default_rng(0), 10))
    _, score = scores_of(known, 0, 1)
    rows = table(ranks(score, known, known.questions), known)
    assert rows["auc"].to_numpy() == pytest.approx(0.5)


def test_drawn_candidates_are_as_frequent_as_in_training():
    known = Triples.of(graph(np.random.default_rng(0), 12))
    drawn = matched(known, known, 4000, seed=0)
    counts = np.diff(known.questions.offsets)
    question = np.repeat(known.questions.question, counts)
    for number in np.unique(question):
        share = np.bincount(drawn[question == number].ravel(), minlength=9) / drawn[question == number].size
        pool = known.questions.answer[question == number] - known.candidates(number).start
        np.testing.assert_allclose(share, np.bincount(pool, minlength=9) / len(pool), atol=0.02)


def test_drawn_candidates_count_as_the_drawn_ones():
    known = Triples.of(graph(np.random.default_rng(3), 10))
    every, score = scores_of(known, 5, 4)
    drawn = matched(known, known, 6, seed=1)
    found = ranks(score, known, known.questions, drawn)
    asked = known.questions
    place = 0
    for row, node in enumerate(asked.node):
        question, answers = int(asked.question[row]), asked.answer[asked.offsets[row] : asked.offsets[row + 1]]
        for answer in answers:
            start = known.candidates(question).start
            rivals = [start + other for other in drawn[place] if start + other not in answers]
            mine, theirs = every[question, node, answer], every[question, node, rivals]
            assert found.rank[place] == 1 + (theirs > mine).sum() + (theirs == mine).sum() / 2
            assert found.among[place] == 1 + len(rivals)
            place += 1


def test_scores_that_are_no_numbers_are_refused():
    known = Triples.of(graph(np.random.default_rng(0), 5))
    with pytest.raises(InputError, match="no numbers"):
        ranks(lambda q, n: np.full((len(n), known.sizes[known.asked(q)]), np.nan), known, known.questions)


def test_ranks_are_pykeen_s():
    pytest.importorskip("pykeen")
    from benchmarks.links import pykeen_ranks

    rng = np.random.default_rng(2)
    parts = [
        KnowledgeGraph({"e": NODES}, {r: t.edges(r) for r in t.relations if r[2] == "e"})
        for t in (graph(rng, 25), graph(rng, 9))
    ]
    learned, held = Triples.of(parts[0]), Triples.of(parts[1], parts[0].relations)
    known = Triples.of(parts[0] | parts[1])
    for levels in (3, 10_000):
        _, score = scores_of(learned, 7, levels)
        mine = ranks(score, held, known.questions)
        theirs = pykeen_ranks(score, learned, held)
        assert sorted(mine.rank) == pytest.approx(sorted(theirs))
