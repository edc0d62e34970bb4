"""From an encoder's name to a network that is trained cell by cell: GEARS and the peers."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from kgnn.data.screen import perturbed_genes
from kgnn.errors import DataWarning
from kgnn.graph import KnowledgeGraph
from kgnn.models.perturbation.graphs import gene_graph, perturbation_graph
from kgnn.models.perturbation.predictions import some
from kgnn.nn import GEARS
from kgnn.nn.encoders import GearsEncoder
from kgnn.nn.knowledge import KnowledgeNetwork
from kgnn.nn.peers import PEERS
from kgnn.ops import Adjacency

Encoder = Callable[[Adjacency, Adjacency, int], nn.Module]
ENCODERS: dict[str, Encoder] = {"gears": GearsEncoder}
KNOWLEDGE = "kg"
NAMES = (KNOWLEDGE, *ENCODERS, *PEERS)


def make_network(
    encoder: str | Encoder,
    kg: KnowledgeGraph | None,
    genes: pd.Index,
    perturbable: pd.Index,
    control_mean: np.ndarray,
    *,
    channels: int,
    uncertainty: bool,
) -> nn.Module:
    """Return the untrained network of an encoder other than `"kg"`."""
    graphs = gene_graph(kg, genes), perturbation_graph(kg, perturbable)
    if isinstance(encoder, str) and encoder in PEERS:
        numbers = torch.from_numpy(perturbable.get_indexer(genes).astype(np.int64))
        return PEERS[encoder](*graphs, torch.from_numpy(control_mean).float(), numbers, channels=channels)
    make = ENCODERS[encoder] if isinstance(encoder, str) else encoder
    return GEARS(make(*graphs, channels), len(genes), channels=channels, uncertainty=uncertainty)


def bags(conditions: Sequence[str], perturbable: pd.Index) -> tuple[Tensor, Tensor]:
    """Return numbers of the perturbed genes, conditions one after the other, and where each one begins."""
    genes = [perturbed_genes(name) for name in conditions]
    offsets = np.cumsum([0, *map(len, genes)])
    perturbed = perturbable.get_indexer([gene for names in genes for gene in names])
    return torch.from_numpy(perturbed.astype(np.int64)), torch.from_numpy(offsets)


class Lonely:
    """Names, once, the perturbed genes that a graph with edges says nothing of."""

    def __init__(self, network: nn.Module, kg: KnowledgeGraph | None, perturbable: pd.Index) -> None:
        if isinstance(network, KnowledgeNetwork):
            neighbours = sum((degree.numpy() for degree in network.kernel.degree), np.zeros(len(perturbable)))
        else:
            neighbours = perturbation_graph(kg, perturbable).indptr.diff().numpy() - 1
        self.genes = set(perturbable[neighbours == 0]) if neighbours.any() else set()

    def warn(self, genes: set[str], consequence: str) -> None:
        found = genes & self.genes
        self.genes -= found
        if found:
            message = f"{len(found)} perturbed genes have no neighbour in the graph: {some(found, 10)}; {consequence}"
            warnings.warn(message, DataWarning, stacklevel=3)
