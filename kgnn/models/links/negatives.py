"""Negatives: nodes put in the place of an edge's end, as many as asked for an edge, or all."""

from __future__ import annotations

import numpy as np
import torch
from numpy.random import Generator

from kgnn.models.links.triples import Triples

NEGATIVES = ("all", "uniform", "bernoulli", "degree")
POWER = 0.75  # of a node's frequency (Mikolov et al., NeurIPS 2013)


class Sampler:
    """Draws wrong answers to questions among the nodes of the right type; a true one among them is not told apart.

    `uniform`: any node. `degree`: as often as a node stands at that end of that relation, to the power ¾, so that being
    frequent is less of a merit. `bernoulli`: any node, but the head of an edge is replaced with probability
    tph / (tph + hpt), tails per head and heads per tail (Wang et al., AAAI 2014): here the weight of that question.

    Attributes:
        weight: [2 × relations], of the questions.
    """

    def __init__(self, learned: Triples, kind: str, n: int) -> None:
        self.learned, self.n = learned, n
        asked, n_relations = learned.questions, len(learned.relations)
        self.weight = torch.ones(2 * n_relations)
        if kind == "bernoulli":
            edges = np.bincount(learned.relation, minlength=n_relations)
            distinct = np.bincount(asked.question, minlength=2 * n_relations).clip(1)
            tails, heads = edges / distinct[:n_relations], edges / distinct[n_relations:]  # per head, per tail
            head = tails / (tails + heads).clip(1e-12)
            self.weight = torch.from_numpy(2 * np.concatenate([1 - head, head])).float()
        self.chance: dict[int, np.ndarray] = {}
        if kind == "degree":
            often = np.repeat(asked.question, np.diff(asked.offsets))
            for question in np.unique(asked.question).tolist():
                where = learned.candidates(question)
                count = np.bincount(asked.answer[often == question] - where.start, minlength=where.stop - where.start)
                self.chance[question] = np.cumsum(count**POWER) / (count**POWER).sum()

    def __call__(self, question: np.ndarray, rng: Generator) -> np.ndarray:
        """Draw for questions [batch] of which the answers are of one type: nodes [batch, n]."""
        where = self.learned.candidates(int(question[0]))
        drawn = rng.integers(where.start, where.stop, (len(question), self.n))
        for number, chance in self.chance.items():
            mine = question == number
            places = np.searchsorted(chance, rng.random((int(mine.sum()), self.n)), side="right")
            drawn[mine] = places.clip(max=len(chance) - 1) + where.start
        return drawn
