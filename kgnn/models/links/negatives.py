"""Negatives: nodes put in the place of an edge's end, as many as asked for an edge, or all."""

from __future__ import annotations

import numpy as np
from numpy.random import Generator

from kgnn.models.links.triples import Triples

NEGATIVES = ("all", "uniform", "bernoulli", "degree")
POWER = 0.75  # of a node's frequency (Mikolov et al., NeurIPS 2013)


class Sampler:
    """Draws wrong answers to questions among the nodes of the right type; those that are true are told apart.

    `uniform`: any node. `degree`: as often as a node stands at that end of that relation, to the power ¾, so that being
    frequent is no merit. `bernoulli`: any node, and the end of an edge with more answers is asked for less: a head is
    replaced with probability tph / (tph + hpt) (Wang et al., AAAI 2014), here as the weight of the question.
    """

    def __init__(self, learned: Triples, kind: str, n: int) -> None:
        self.learned, self.kind, self.n = learned, kind, n
        asked, n_relations = learned.questions, len(learned.relations)
        counts = np.diff(asked.offsets)
        self.keys = np.sort(self._key(np.repeat(np.arange(len(counts)), counts), asked.answer))
        self.weight = np.ones(2 * n_relations)
        if kind == "bernoulli":
            edges = np.bincount(learned.relation, minlength=n_relations)
            distinct = np.bincount(asked.question, minlength=2 * n_relations)
            heads, tails = edges / distinct[:n_relations].clip(1), edges / distinct[n_relations:].clip(1)
            share = heads / (heads + tails).clip(1e-12)  # tails per head over both
            self.weight = 2 * np.concatenate([1 - share, share])
        self.chance: dict[int, np.ndarray] = {}
        if kind == "degree":
            often = np.repeat(asked.question, counts)
            for question in np.unique(asked.question):
                where = learned.candidates(int(question))
                count = np.bincount(asked.answer[often == question] - where.start, minlength=where.stop - where.start)
                self.chance[int(question)] = np.cumsum(count**POWER) / (count**POWER).sum()

    def __call__(self, rows: np.ndarray, rng: Generator) -> tuple[np.ndarray, np.ndarray]:
        """Draw for questions of one type of answers.

        Args:
            rows: [batch], numbers of questions.

        Returns:
            Nodes [batch, n], and which of them are no negatives but true answers.
        """
        question = self.learned.questions.question[rows]
        where = self.learned.candidates(int(question[0]))
        drawn = rng.integers(where.start, where.stop, (len(rows), self.n))
        for number, chance in self.chance.items():
            mine = question == number
            drawn[mine] = np.searchsorted(chance, rng.random((int(mine.sum()), self.n))) + where.start
        keys = self._key(rows[:, None], drawn)
        place = np.searchsorted(self.keys, keys).clip(max=len(self.keys) - 1)
        return drawn, self.keys[place] == keys

    def _key(self, row: np.ndarray, node: np.ndarray) -> np.ndarray:
        return row * self.learned.n_nodes + node
