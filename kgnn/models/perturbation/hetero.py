"""Message passing over the whole typed graph, trained: nodes of every type can be perturbed, at doses."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from kgnn.data.conditions import Part, read_parts
from kgnn.errors import InputError
from kgnn.graph import KnowledgeGraph
from kgnn.models.perturbation.nodes import NodeNames
from kgnn.models.perturbation.predictor import Known, Strength, read_strength
from kgnn.models.perturbation.trained import Trained
from kgnn.nn import HeteroEncoder
from kgnn.nn.perturbed import NodeEffects
from kgnn.nn.typed_conv import TYPED_CONVS
from kgnn.parts import check_number, did_you_mean, name_of


class Hetero(Trained):
    """`kgnn.nn.perturbed.NodeEffects` of the states that `kgnn.nn.HeteroEncoder` gives all nodes of the typed graph.

    A condition names genes or nodes of any other type, `KLF1`, `Dabrafenib`, `drug:Dabrafenib`, each at a dose or none:
    `Dabrafenib@0.5+KLF1`. A name that is a gene's too means the gene. Doses of one type of nodes are of one unit.

    Args:
        layer: of the encoder, `"rgcn"`, `"compgcn"`, `"hgt"`, `"sage"`, or a class; `channels`, `layers`,
            `relation_dropout`, `edge_dropout` likewise.
        strength: see `ClosedForm`.

    Raises:
        InputError: an unknown layer, numbers out of range.
    """

    any_node = True
    optimizer, weight_decay = "adamw", 0.1  # inside the gradient, as Adam has it, decay outweighs small changes

    def __init__(
        self,
        *,
        layer: str | type[nn.Module] = "rgcn",
        channels: int = 64,
        layers: int = 2,
        relation_dropout: float = 0.0,
        edge_dropout: float = 0.0,
        strength: Strength | None = None,
    ) -> None:
        super().__init__(None)
        self.asks_strength = strength is None
        self.strength = -1.0 if strength is None else read_strength(strength)
        if not inspect.isclass(layer) and layer not in TYPED_CONVS:
            hint = did_you_mean(layer, TYPED_CONVS)
            raise InputError(f"unknown layer {layer!r}{hint}; choose {', '.join(TYPED_CONVS)}, or give a class")
        check_number(channels, "channels", 1, whole=True)
        check_number(layers, "layers", 0, whole=True)
        self.layer, self.channels = layer, channels
        dropouts = {"relation_dropout": relation_dropout, "edge_dropout": edge_dropout}
        for name, share in dropouts.items():
            check_number(share, name, 0, 1)
        self.how: dict[str, Any] = {"layers": layers} | dropouts

    def build(self, kg: KnowledgeGraph | None, genes: pd.Index, control_mean: np.ndarray) -> nn.Module:
        self.names = NodeNames(self.typed.nodes)
        encoder = HeteroEncoder(self.typed, self.layer, self.channels, **self.how)
        return NodeEffects(encoder, self.channels, self._usual_doses())

    def _usual_doses(self) -> torch.Tensor:
        """Mean log of the doses of training of each type of nodes, 0 where there is none, [types]."""
        parts = [part for name in self.conditions for part in read_parts(name)]
        ends = np.cumsum(list(self.typed.n_nodes.values()))
        kinds = np.searchsorted(ends, self.numbers(parts), side="right")
        logs = pd.Series([np.nan if part.dose is None else np.log(part.dose) for part in parts], dtype=float)
        means = logs.groupby(kinds).mean().reindex(range(len(ends))).fillna(0.0)
        return torch.from_numpy(means.to_numpy(np.float32))

    def numbers(self, parts: Sequence[Part]) -> np.ndarray:
        return np.array([self.names.number(part.name) for part in parts], np.int64)

    def perturbable(self, genes: pd.Index) -> Collection[str]:
        return self.names

    def unlinked(self) -> set[str]:
        lonely = {kind: np.ones(number, bool) for kind, number in self.typed.n_nodes.items()}
        for (source, _, target), adjacency in self.typed.adjacencies.items():
            for kind, ends in zip((source, target), adjacency.edge_index.numpy(), strict=True):
                lonely[kind][ends] = False
        for kind, tables in self.typed.features.items():
            for table in tables.values():
                lonely[kind] &= table.isnan().all(1).numpy()
        found = {name for kind, alone in lonely.items() for name in np.array(self.typed.nodes[kind], object)[alone]}
        return found if len(found) < len(self.names) else set()

    @torch.no_grad()
    def curves(self, names: Sequence[str]) -> pd.DataFrame:
        """Return the learned dose curve of each node: `k`, the dose of half its effect, and `h`, Hill's coefficient."""
        nodes = torch.from_numpy(self.numbers([Part(name) for name in names]))
        network: Any = self.network
        states = network.encoder.propagate(network.encoder.inputs(self.typed), self.typed)
        h, log_k = network.dose.curves(states[nodes], network.kinds[nodes])
        return pd.DataFrame({"k": log_k.exp().numpy(), "h": h.numpy()}, index=pd.Index(names, name="node"))

    def own_options(self) -> dict[str, Any]:
        return {"layer": self.layer} if inspect.isclass(self.layer) else {}

    def state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        config, arrays = super().state()
        return config | {"layer": name_of(self.layer)}, arrays

    def restore(self, known: Known, config: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        if config["layer"] != name_of(self.layer):
            raise InputError(
                f"{known.path}: was trained with the layer {config['layer']}, which is not kgnn's; make the model with "
                "encoder=Hetero(layer=…), an instance, and give that as encoder= when it is loaded"
            )
        super().restore(known, config, arrays)
