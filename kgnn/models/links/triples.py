"""A typed graph as numbered triples, and as the questions that they answer.

Nodes of all types are numbered one type after the other. A question is a node and a number: r asks for the targets of
relation r, r + relations for its sources.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from scipy import sparse

from kgnn.errors import InputError
from kgnn.graph import KnowledgeGraph, Relation


@dataclass(frozen=True, eq=False)
class Triples:
    """Edges of a graph, one a pair and relation, whatever its weight, sign and origins.

    Attributes:
        start: node type → number of its first node; sizes: node type → nodes. relations: the triples of types.
        source, relation, target: [edges] int64.
    """

    start: dict[str, int]
    sizes: dict[str, int]
    relations: list[Relation]
    source: np.ndarray
    relation: np.ndarray
    target: np.ndarray

    @classmethod
    def of(cls, kg: KnowledgeGraph, relations: Sequence[Relation] | None = None) -> Triples:
        """Number a graph's edges; relations: in the order of another graph, which must have them all.

        Raises:
            InputError: a relation that the other graph lacks.
        """
        known = kg.relations if relations is None else list(relations)
        if unknown := [relation for relation in kg.relations if relation not in known]:
            raise InputError(f"no edge of {unknown[0]} to learn from; leave the relation out of what is held out")
        sizes = {kind: len(table) for kind, table in kg.tables.nodes.items()}
        start = dict(zip(sizes, np.cumsum([0, *sizes.values()]).tolist(), strict=False))
        parts: list[list[np.ndarray]] = [[np.zeros(0, np.int64)] * 3]
        for number, relation in enumerate(known):
            if relation in kg.relations:
                edges = kg.edge_arrays(relation)
                source = edges["source"].to_numpy(np.int64) + start[relation[0]]
                target = edges["target"].to_numpy(np.int64) + start[relation[2]]
                parts.append([source, np.full(len(edges), number), target])
        return cls(start, sizes, known, *(np.concatenate(column) for column in zip(*parts, strict=True)))

    def __len__(self) -> int:
        return len(self.source)

    @property
    def n_nodes(self) -> int:
        return sum(self.sizes.values())

    def asked(self, question: int) -> str:
        """The node type of a question's answers."""
        n = len(self.relations)
        return self.relations[question][2] if question < n else self.relations[question - n][0]

    def candidates(self, question: int) -> slice:
        """The nodes among which a question's answers are."""
        kind = self.asked(question)
        return slice(self.start[kind], self.start[kind] + self.sizes[kind])

    @cached_property
    def questions(self) -> Questions:
        """All questions that the edges answer, of both ends."""
        n = len(self.relations)
        question = np.concatenate([self.relation, self.relation + n])
        node = np.concatenate([self.source, self.target])
        answer = np.concatenate([self.target, self.source])
        order = np.lexsort((answer, node, question))
        return Questions.sorted(question[order], node[order], answer[order])

    @cached_property
    def counts(self) -> sparse.csr_array:
        """[2 × relations, nodes], how many edges give each node as an answer."""
        n = len(self.relations)
        question, answer = np.append(self.relation, self.relation + n), np.append(self.target, self.source)
        ones = np.ones(len(question), np.float32)
        return sparse.coo_array((ones, (question, answer)), shape=(2 * n, self.n_nodes)).tocsr()

    def popularity(self, question: int) -> np.ndarray:
        """log(1 + edges) of each candidate at that end of that relation, [candidates] float32."""
        if question not in self._popular:
            self._popular[question] = np.log1p(self.counts[[question]][:, self.candidates(question)].toarray()[0])
        return self._popular[question]

    @cached_property
    def _popular(self) -> dict[int, np.ndarray]:
        return {}


class Questions(NamedTuple):
    """Distinct questions, sorted by question and node, with their answers.

    question, node: [questions]; offsets: [questions + 1], where each one's answers begin; answer: [answers] nodes.
    """

    question: np.ndarray
    node: np.ndarray
    offsets: np.ndarray
    answer: np.ndarray

    @classmethod
    def sorted(cls, question: np.ndarray, node: np.ndarray, answer: np.ndarray) -> Questions:
        """Group sorted rows, one an answer."""
        new = np.ones(len(node), bool)
        new[1:] = (question[1:] != question[:-1]) | (node[1:] != node[:-1])
        first = np.flatnonzero(new)
        return cls(question[first], node[first], np.append(first, len(node)), answer)

    def answers(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The answers of some questions: number within `rows`, node."""
        counts = self.offsets[rows + 1] - self.offsets[rows]
        which = np.repeat(np.arange(len(rows)), counts)
        place = np.arange(len(which)) - np.repeat(np.cumsum(counts) - counts, counts) + self.offsets[rows][which]
        return which, self.answer[place]

    def all_answers(self, question: int) -> np.ndarray:
        """The answers of all nodes to one question, as often as they are given."""
        return self.answer[slice(*self.offsets[np.searchsorted(self.question, [question, question + 1])])]

    def known(self, question: int, nodes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The answers to one question for any nodes, those without an answer among them."""
        first, last = np.searchsorted(self.question, [question, question + 1])
        found = np.searchsorted(self.node[first:last], nodes).clip(max=max(last - first - 1, 0)) + first
        here = np.flatnonzero(self.node[found] == nodes) if last > first else np.zeros(0, np.int64)
        which, answer = self.answers(found[here])
        return here[which], answer

    def chunks(self, size: int) -> Iterator[tuple[int, np.ndarray]]:
        """Numbers of questions that ask the same of different nodes, with at most about `size` answers at a time."""
        for question in np.unique(self.question):
            rows = np.arange(*np.searchsorted(self.question, [question, question + 1]))
            parts = (self.offsets[rows + 1] - self.offsets[rows[0]] - 1) // size
            for part in np.split(rows, np.flatnonzero(np.diff(parts)) + 1):
                yield int(question), part
