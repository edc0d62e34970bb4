"""Ranks of held-out edges among all nodes of the right type, with the known edges left out."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pandas as pd

from kgnn.errors import InputError
from kgnn.models.links.triples import Questions, Triples

Scorer = Callable[[int, np.ndarray], np.ndarray]  # a question and nodes [n] → scores [n, candidates]
ANSWERS = 256  # so many rows of scores are compared at a time
HITS = (1, 3, 10)


class Ranks(NamedTuple):
    """For each answer of the held-out questions, [answers]: its question, its rank, and among how many."""

    question: np.ndarray
    rank: np.ndarray
    among: np.ndarray


def ranks(score: Scorer, held: Triples, known: Questions, drawn: np.ndarray | None = None) -> Ranks:
    """Rank each held-out edge from both ends: the mean of the optimistic and the pessimistic rank (realistic).

    Known edges, held-out ones among them, are no competitors (the filtered setting of Bordes et al., NeurIPS 2013).

    Args:
        score: the model. held: edges to rank. known: all edges that are true.
        drawn: [answers, n], the only candidates an answer competes with, numbered within their type; in the order of
            `held.questions.answer`.

    Raises:
        InputError: scores that are no numbers.
    """
    asked = held.questions
    found = [Ranks(*(np.zeros(0, kind) for kind in (np.int64, np.float64, np.float64)))]
    for question, rows in asked.chunks(ANSWERS):
        nodes, where = asked.node[rows], held.candidates(question)
        scores = np.array(score(question, nodes), np.float32)
        if np.isnan(scores).any():
            raise InputError("the model's scores are no numbers; training diverged, try a smaller learning_rate")
        row, answer = asked.answers(rows)
        true = scores[row, answer - where.start][:, None]
        taken, others = known.known(question, nodes)
        scores[taken, others - where.start] = np.nan  # neither above nor equal
        one_by_one = drawn is not None
        some = slice(asked.offsets[rows[0]], asked.offsets[rows[-1] + 1])
        rivals = np.take_along_axis(scores[row], drawn[some], 1) if one_by_one else scores[row]  # type: ignore[index]
        rank = 1 + (rivals > true).sum(1) + (rivals == true).sum(1) / 2
        found.append(Ranks(np.full(len(row), question), rank, 1 + (~np.isnan(rivals)).sum(1)))
    return Ranks(*(np.concatenate(column) for column in zip(*found, strict=True)))


def matched(held: Triples, learned: Triples, n: int, seed: int) -> np.ndarray:
    """Draw candidates for `ranks` as often as they stand at that end of that relation: [answers, n].

    Against them a candidate's degree alone tells nothing.
    """
    rng = np.random.default_rng(seed)
    asked, seen = held.questions, learned.questions
    counts = np.diff(asked.offsets)
    drawn = np.zeros((len(asked.answer), n), np.int64)
    each = np.repeat(asked.question, counts)
    for question in np.unique(each):
        pool = seen.all_answers(question)
        rows = np.flatnonzero(each == question)
        if not len(pool):
            raise InputError(f"no edge of {held.relations[question % len(held.relations)]} to learn from")
        drawn[rows] = rng.choice(pool, (len(rows), n)) - held.candidates(int(question)).start
    return drawn


def mean_reciprocal(found: Ranks) -> float:
    """Mean of 1 / rank."""
    return float((1 / found.rank).mean()) if len(found.rank) else float("nan")


def table(found: Ranks, held: Triples) -> pd.DataFrame:
    """A row a relation and one for all: `edges`, `mrr`, `hits_1`, `hits_3`, `hits_10`, `auc`.

    `auc`: the mean share of its competitors that an edge is above, 0.5 without knowledge.
    """
    n = len(held.relations)
    with np.errstate(invalid="ignore", divide="ignore"):
        auc = (found.among - found.rank) / (found.among - 1)
    columns = {"mrr": 1 / found.rank, **{f"hits_{k}": (found.rank <= k) * 1.0 for k in HITS}, "auc": auc}
    each = pd.DataFrame(columns)
    relation = found.question % n
    rows = {"all": each.mean()} | {
        "–".join(held.relations[number]): each[relation == number].mean() for number in np.unique(relation)
    }
    edges = [len(held), *np.bincount(held.relation, minlength=n)[np.unique(relation)]]
    out = pd.DataFrame(rows).T.rename_axis("relation").reset_index()
    out.insert(1, "edges", edges)
    return out
