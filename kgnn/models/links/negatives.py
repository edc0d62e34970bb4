"""Negatives: nodes put in the place of an edge's end, drawn for a batch, or all there are."""

from __future__ import annotations

import numpy as np
import torch
from numpy.random import Generator

from kgnn.models.links.triples import Triples

NEGATIVES = ("all", "uniform", "bernoulli", "degree")


class Sampler:
    """Draws wrong answers to a question among the nodes of the right type; a true one among them is not told apart.

    `uniform`: any node. `degree`: as often as a node stands at that end of that relation, so that being frequent is no
    merit. `bernoulli`: any node, but the head of an edge is replaced with probability tph / (tph + hpt), tails per head
    and heads per tail (Wang et al., AAAI 2014): here the weight of that question.

    Attributes:
        weight: [2 × relations], of the questions.
    """

    def __init__(self, learned: Triples, kind: str, n: int) -> None:
        self.learned, self.n, self.by_degree = learned, n, kind == "degree"
        asked, n_relations = learned.questions, len(learned.relations)
        self.weight = np.ones(2 * n_relations)
        if kind == "bernoulli":
            edges = np.bincount(learned.relation, minlength=n_relations)
            distinct = np.bincount(asked.question, minlength=2 * n_relations).clip(1)
            tails, heads = edges / distinct[:n_relations], edges / distinct[n_relations:]  # per head, per tail
            head = tails / (tails + heads).clip(1e-12)
            self.weight = 2 * np.concatenate([1 - head, head])

    def __call__(self, question: int, rng: Generator) -> torch.Tensor:
        """Draw for a batch of one question: nodes [n]."""
        where = self.learned.candidates(question)
        if self.by_degree:
            pool = self.learned.questions.all_answers(question)
            return torch.from_numpy(pool[rng.integers(len(pool), size=self.n)])
        return torch.from_numpy(rng.integers(where.start, where.stop, self.n))
