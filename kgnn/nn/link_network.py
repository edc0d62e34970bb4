"""States of all nodes, by an embedding or an encoder of the graph, and a decoder that compares them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from kgnn.errors import InputError
from kgnn.nn.conditions import TypedGraph


class LinkNetwork(nn.Module):
    """Score every candidate answer of a question, see `kgnn.models.links.triples`.

    Args:
        sizes: node type → nodes. n_relations: how many. channels: of a state.
        decoder: see `kgnn.nn.links`; with `inverses` it has 2 × n_relations relations, and asks for sources along the
            inverse (Lacroix et al., ICML 2018), else against the relation itself.
        encoder: called with `graph`, returns type → [nodes, channels]; None: an embedding a node.
        dropout: share of the channels of a moved state that are left out in training.
    """

    def __init__(
        self,
        sizes: dict[str, int],
        n_relations: int,
        channels: int,
        decoder: nn.Module,
        inverses: bool,
        encoder: nn.Module | None = None,
        graph: TypedGraph | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.sizes, self.n_relations, self.channels, self.inverses = dict(sizes), n_relations, channels, inverses
        self.decoder, self.encoder, self.dropout = decoder, encoder, nn.Dropout(dropout)
        self.graph = graph
        if encoder is None:
            self.embedding = nn.Parameter(torch.randn(sum(sizes.values()), channels) / channels**0.5)

    def states(self) -> Tensor:
        """[nodes, channels], the nodes of one type after those of the other."""
        if self.encoder is None:
            return self.embedding
        found: Any = self.encoder(self.graph)
        for kind, number in self.sizes.items():
            shape = list(found[kind].shape) if isinstance(found, dict) and kind in found else "nothing"
            if shape != [number, self.channels]:
                raise InputError(
                    f"{type(self.encoder).__name__} returned {shape} for {kind} nodes; it must return a dict, node "
                    f"type → [nodes, channels] = [{number}, {self.channels}]"
                )
        return torch.cat([found[kind] for kind in self.sizes])

    def moved(self, known: Tensor, question: Tensor) -> Tensor:
        """What the answers should be like, [questions, channels], of the known nodes' states, of the same shape."""
        if self.inverses:
            return self.dropout(self.decoder.towards_target(known, question))  # type: ignore[operator]
        forward = (question < self.n_relations).unsqueeze(-1)
        relation = question % self.n_relations
        to_target = self.decoder.towards_target(known, relation)  # type: ignore[operator]
        to_source = self.decoder.towards_source(known, relation)  # type: ignore[operator]
        return self.dropout(torch.where(forward, to_target, to_source))

    def forward(self, states: Tensor, question: Tensor, node: Tensor, candidates: Tensor) -> Tensor:
        """Scores [questions, n] of candidates' states, [n, channels] or [questions, n, channels]."""
        return self.decoder.compare(self.moved(states[node], question), candidates)  # type: ignore[operator]
