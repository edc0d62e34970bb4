"""Published designs rebuilt on the same graph, inputs and training loop."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch
from torch import nn

from kgnn.errors import InputError
from kgnn.graph import KnowledgeGraph
from kgnn.models.perturbation.graphs import gene_graph, heaviest_graph, heaviest_graphs, perturbation_graph
from kgnn.models.perturbation.predictor import Known
from kgnn.models.perturbation.source_vectors import SourceVectors, source_vectors
from kgnn.models.perturbation.trained import Trained
from kgnn.nn import peers, txpert
from kgnn.nn.pooling import FUSION_HEADS, PRESAGE, Fusion
from kgnn.parts import check_number, expect

INCOMING = 20  # heaviest edges into a gene that TxPert keeps


class Peer(Trained):
    """One of `kgnn.nn.peers`."""

    by_dose = False
    design: ClassVar[type[peers.CPA] | type[peers.Transformer]]

    def __init__(self, *, channels: int = 64) -> None:
        super().__init__(None, strength=-1.0)
        check_number(channels, "channels", 1, whole=True)
        self.channels = channels

    def build(self, kg: KnowledgeGraph | None, genes: pd.Index, control_mean: np.ndarray) -> nn.Module:
        graphs = gene_graph(kg, genes), perturbation_graph(kg, self.nodes)
        numbers = torch.from_numpy(self.nodes.get_indexer(genes).astype(np.int64))
        return self.design(*graphs, torch.from_numpy(control_mean).float(), numbers, channels=self.channels)


class TxPert(Trained):
    """`kgnn.nn.txpert.TxPert` along all that links genes but co-expression, together, see `heaviest_graph`.

    Where there are groups, batches or cell lines, a cell's state is the mean control cell of its own.

    Args:
        channels: of the genes' vectors, two heads of them.
        basal: encode the control state; without it only changes are added to it, as for a line held out.

    Raises:
        InputError: channels that do not fall into two heads.
    """

    least_batch, by_group = 2, True  # batch norm; controls of the same batch
    by_dose = False
    optimizer, weight_decay = "adamw", 0.01  # the paper's, at PyTorch's decay

    def __init__(self, *, channels: int = 128, basal: bool = True) -> None:
        super().__init__(None, strength=-1.0)
        check_heads(channels, txpert.HEADS)
        expect(basal, bool, "basal")
        self.channels, self.basal = channels, basal

    def build(self, kg: KnowledgeGraph | None, genes: pd.Index, control_mean: np.ndarray) -> nn.Module:
        encoder = txpert.GATEncoder(heaviest_graph(kg, self.nodes, INCOMING), self.channels)
        return txpert.TxPert(encoder, torch.from_numpy(control_mean).float(), self.basal)


class TxPertExphormer(TxPert):
    """The same along each source apart, see `heaviest_graphs`, by Exphormer attention."""

    def build(self, kg: KnowledgeGraph | None, genes: pd.Index, control_mean: np.ndarray) -> nn.Module:
        encoder = txpert.Exphormer(heaviest_graphs(kg, self.nodes, INCOMING), self.channels)
        return txpert.TxPert(encoder, torch.from_numpy(control_mean).float(), self.basal)


class Pooled(Trained):
    """One of `kgnn.nn.pooling` over `source_vectors`, which are saved with the weights."""

    alone = "they all get one and the same answer"
    by_dose = False
    weight_decay = 0.0  # the papers name none
    design: ClassVar[type[PRESAGE] | type[Fusion]]

    def __init__(self, channels: int) -> None:
        super().__init__(None, strength=-1.0)
        check_number(channels, "channels", 1, whole=True)
        self.channels = channels
        self._restored: SourceVectors | None = None

    def build(self, kg: KnowledgeGraph | None, genes: pd.Index, control_mean: np.ndarray) -> nn.Module:
        told = self._restored or source_vectors(kg, self.nodes)
        vectors, known = (torch.from_numpy(part) for part in told)
        return self.design(vectors, known, len(genes), self.channels)

    def restore(self, known: Known, config: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        self._restored = SourceVectors(arrays["network.vectors"], arrays["network.known"])
        super().restore(known, config, arrays)

    def unlinked(self) -> set[str]:
        known: torch.Tensor = self.network.known  # type: ignore[assignment]
        return set(self.nodes[~known.any(0).numpy()])


class Presage(Pooled):
    """`kgnn.nn.pooling.PRESAGE`.

    Args:
        channels: of each source's token, and of what they are pooled into.

    Raises:
        InputError: no graph, or one that tells no gene from another.
    """

    design = PRESAGE

    def __init__(self, *, channels: int = 512) -> None:
        super().__init__(channels)


class FusionOfEmbeddings(Pooled):
    """`kgnn.nn.pooling.Fusion`.

    Args:
        channels: of the tokens, ten heads of them.

    Raises:
        InputError: channels that do not fall into ten heads; no graph, or one that tells no gene from another.
    """

    design = Fusion

    def __init__(self, *, channels: int = 100) -> None:
        super().__init__(channels)
        check_heads(channels, FUSION_HEADS)


def check_heads(channels: int, heads: int) -> None:
    """Refuse channels that do not fall into heads."""
    check_number(channels, "channels", 1, whole=True)
    if channels % heads:
        raise InputError(f"channels = {channels} do not fall into {heads} heads; give a multiple of {heads}")


PEERS: dict[str, type[Trained]] = {
    name: type(design.__name__, (Peer,), {"design": design, "__doc__": design.__doc__})
    for name, design in peers.PEERS.items()
} | {"txpert": TxPert, "txpert_exphormer": TxPertExphormer, "presage": Presage, "fusion": FusionOfEmbeddings}
