"""Published designs rebuilt on the same graph, inputs and training loop."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch
from torch import nn

from kgnn.graph import KnowledgeGraph
from kgnn.models.perturbation.graphs import gene_graph, perturbation_graph
from kgnn.models.perturbation.predictor import Known
from kgnn.models.perturbation.source_vectors import SourceVectors, source_vectors
from kgnn.models.perturbation.trained import Trained
from kgnn.nn import peers
from kgnn.nn.pooling import PRESAGE
from kgnn.parts import check_number


class Peer(Trained):
    """One of `kgnn.nn.peers`."""

    design: ClassVar[type[peers.CPA] | type[peers.Transformer]]

    def __init__(self, *, channels: int = 64) -> None:
        super().__init__(None, strength=-1.0)
        check_number(channels, "channels", 1, whole=True)
        self.channels = channels

    def build(self, kg: KnowledgeGraph | None, genes: pd.Index, control_mean: np.ndarray) -> nn.Module:
        graphs = gene_graph(kg, genes), perturbation_graph(kg, self.nodes)
        numbers = torch.from_numpy(self.nodes.get_indexer(genes).astype(np.int64))
        return self.design(*graphs, torch.from_numpy(control_mean).float(), numbers, channels=self.channels)


class Presage(Trained):
    """PRESAGE (2025): `kgnn.nn.pooling.PRESAGE` over `source_vectors`, which are saved with the weights.

    Args:
        channels: of each source's token, and of what they are pooled into.

    Raises:
        InputError: no graph, or one that tells no gene from another.
    """

    alone = "they all get one and the same answer"

    def __init__(self, *, channels: int = 512) -> None:
        super().__init__(None, strength=-1.0)
        check_number(channels, "channels", 1, whole=True)
        self.channels = channels
        self._restored: SourceVectors | None = None

    def build(self, kg: KnowledgeGraph | None, genes: pd.Index, control_mean: np.ndarray) -> nn.Module:
        told = self._restored or source_vectors(kg, self.nodes)
        vectors, known = (torch.from_numpy(part) for part in told)
        return PRESAGE(vectors, known, len(genes), self.channels)

    def restore(self, known: Known, config: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        self._restored = SourceVectors(arrays["network.vectors"], arrays["network.known"])
        super().restore(known, config, arrays)

    def unlinked(self) -> set[str]:
        known: torch.Tensor = self.network.known  # type: ignore[assignment]
        return set(self.nodes[~known.any(0).numpy()])


PEERS: dict[str, type[Trained]] = {
    name: type(design.__name__, (Peer,), {"design": design, "__doc__": design.__doc__})
    for name, design in peers.PEERS.items()
} | {"presage": Presage}
