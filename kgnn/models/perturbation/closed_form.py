"""The default model: signals along the graph and a kernel over conditions, fitted through its left-out error."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import torch
from anndata import AnnData
from torch import Tensor

from kgnn.data.conditions import CONTROL
from kgnn.data.screen import Screen
from kgnn.errors import InputError
from kgnn.graph import KnowledgeGraph
from kgnn.graph.effects import EFFECT, ORIGIN, RIDGE, directed_pairs, effects_of
from kgnn.models.perturbation.explain import conditions_told, edges_carried, source_weights
from kgnn.models.perturbation.graphs import channels, gene_relations
from kgnn.models.perturbation.knowledge import sources
from kgnn.models.perturbation.predictor import (
    Changes,
    Known,
    Predictor,
    Start,
    Strength,
    Training,
    prefixed,
    read_strength,
)
from kgnn.models.perturbation.samples import make_bags, own_levels, read_samples
from kgnn.models.perturbation.solving import solve
from kgnn.models.storage import load_weights
from kgnn.nn.condition_kernel import Bags, ConditionKernel
from kgnn.nn.knowledge import KnowledgeNetwork, Propagation

MIN_CELLS = 50  # fewer cells beyond one a condition say too little of how genes vary together


class ClosedForm(Predictor):
    """Signals along typed, signed edges and a kernel over conditions, solved through their leave-one-out error.

    Args:
        strength: what a perturbation does: −1 knock-out, between −1 and 0 knock-down, above 0 activation; a number, or
            one a gene; None: as `obs["perturbation_type"]` says, a knock-out where it says nothing.
    """

    takes_missing, by_dose = True, False
    network: KnowledgeNetwork
    lines: list[str]

    def __init__(self, *, strength: Strength | None = None) -> None:
        self.asks_strength = strength is None
        self.strength = -1.0 if strength is None else read_strength(strength)

    def fit(self, data: Training, *, seed: int = 0) -> None:
        self.strength = data.strength if self.asks_strength else self.strength
        samples = read_samples(data.screen, data.conditions)
        self._graph = with_effects(data.kg, data.screen, data.conditions, seed)
        self.nodes, self.control_mean, self.lines = data.nodes, data.screen.control_mean, samples.lines
        self.trained = samples.names
        measured = self.nodes.get_indexer(data.screen.genes)
        own = own_levels(samples.states, samples.states.mean(axis=0), measured, len(self.nodes))
        bags = make_bags(samples.names, self.nodes, self.strength, samples.line, own)
        sizes = len(samples.names), len(bags.genes), len(self.lines)
        self.network = build(self._graph, self.nodes, data.screen.genes, *sizes, not data.screen.is_effects)
        self.history = solve(self.network, bags, samples, seed)
        self.network.eval()

    @torch.no_grad()
    def predict(self, conditions: list[str], start: Start) -> Changes:
        change, variance = self.network(*self.inputs(conditions, start))
        return Changes(change.numpy(), variance.numpy())

    def inputs(self, conditions: list[str], start: Start) -> tuple[Bags, Tensor]:
        """What the network takes: perturbed genes of canonical conditions, and the state they start from."""
        number = self.lines.index(start.line) if start.line in self.lines else 0 if len(self.lines) == 1 else -1
        measured = self.network.propagation.measured.numpy()
        own = own_levels(start.mean[None], self.network.reference.numpy(), measured, len(self.nodes))
        lines = np.full(len(conditions), number)
        states = torch.from_numpy(start.mean).float().expand(len(conditions), -1)
        return make_bags(conditions, self.nodes, self.strength, lines, own), states

    @torch.no_grad()
    def posterior(self, conditions: list[str]) -> tuple[Tensor, float]:
        """Covariance of conditions after training, [conditions, conditions], and the noise of a measurement."""
        network, kernel = self.network, self.network.kernel
        bags, _ = self.inputs(conditions, Start(self.control_mean))
        reached = network.propagation.reached(bags)
        told = network.explained(kernel(bags, network.training_bags, reached, network.training_reached))
        return kernel(bags, bags, reached, reached) - told.T @ told, float(kernel.noise)

    def explain(self, condition: str, n_genes: int) -> pd.DataFrame:
        inputs = self.inputs([condition], Start(self.control_mean))
        return edges_carried(self.network, *inputs, self.nodes, n_genes)

    def relatives(self, condition: str, n: int) -> pd.DataFrame:
        return conditions_told(self.network, *self.inputs([condition], Start(self.control_mean)), self.trained, n)

    def sources(self) -> pd.DataFrame:
        return source_weights(self.network.kernel, self.network.training_bags.genes)

    def unlinked(self) -> set[str]:
        known = np.array([source.known for source in self.network.kernel.sources])
        return set(self.nodes[~known.any(axis=0)]) if known.any() else set()

    def graph(self, kg: KnowledgeGraph | None) -> KnowledgeGraph | None:
        """With the effects that were estimated."""
        return self._graph

    def state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        arrays = {f"network.{name}": value.numpy() for name, value in self.network.state_dict().items()}
        config = {
            "lines": self.lines,
            "strength": self.strength,
            "controls": self.network.controls,
            "trained": self.trained,
        }
        return config, arrays

    def restore(self, known: Known, config: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        self._graph, self.nodes, self.control_mean = known.kg, known.nodes, known.control_mean
        self.lines, self.strength, self.trained = config["lines"], config["strength"], config["trained"]
        state = {name: torch.from_numpy(value) for name, value in prefixed(arrays, "network.").items()}
        _check_bags(state, len(self.lines), len(self.nodes), known.path)
        sizes = len(state["weights"]), len(state["bag_genes"]), len(self.lines)
        n_programmes = len(state.get("programmes", ()))  # `load_weights` tells what is missing
        self.network = build(known.kg, known.nodes, known.genes, *sizes, config["controls"], n_programmes)
        load_weights(self.network, state, known.path)


def _check_bags(state: dict[str, Tensor], n_lines: int, n_nodes: int, path: str) -> None:
    """Check that a saved model's perturbed genes are nodes, its lines among the lines, its samples' ends in order.

    Raises:
        InputError: they are not.
    """
    genes, offsets, line = (state[f"bag_{name}"] for name in ("genes", "offsets", "line"))
    inside = [(genes, n_nodes), (line, n_lines), (offsets, len(genes) + 1)]
    whole = all(part.dtype == torch.int64 and part.ndim == 1 and len(part) for part, _ in inside)
    if not whole or any(int(part.min()) < 0 or int(part.max()) >= end for part, end in inside):
        raise InputError(f"{path}: training samples of other genes or lines than the model's; save the model again")
    if int(offsets[0]) or int(offsets[-1]) != len(genes) or int(offsets.diff().min()) < 0:
        raise InputError(f"{path}: the ends of training samples are out of order; save the model again")


def build(
    kg: KnowledgeGraph | None,
    nodes: pd.Index,
    genes: pd.Index,
    n_samples: int,
    n_entries: int,
    n_lines: int,
    controls: bool,
    n_programmes: int = 0,
) -> KnowledgeNetwork:
    """The network before it is solved."""
    measured = torch.from_numpy(nodes.get_indexer(genes).astype(np.int64))
    relations = gene_relations(kg, nodes)
    propagation = Propagation(channels(relations, len(nodes)), measured, len(nodes))
    kernel = ConditionKernel(sources(kg, nodes), n_lines)
    return KnowledgeNetwork(propagation, kernel, n_samples, n_entries, controls, n_programmes)


def with_effects(kg: KnowledgeGraph | None, screen: Screen, conditions: list[str], seed: int) -> KnowledgeGraph | None:
    """Add effects estimated from how training and control cells vary within their condition, where they can be."""
    if kg is None or screen.is_effects or EFFECT in kg.relations or not len(directed_pairs(kg, screen.genes)[0]):
        return kg
    cells = screen.cells([CONTROL, *conditions])
    group = pd.Series(screen.condition[cells].astype(str)) + "|" + screen.group[cells].astype(str)
    if len(cells) - group.nunique() < MIN_CELLS:
        return kg
    varying = AnnData(
        screen.x[cells], obs=pd.DataFrame({"group": group.to_numpy()}, index=np.arange(len(cells)).astype(str))
    )
    varying.var_names = screen.genes
    return kg | effects_of(kg, varying, "group", None, RIDGE, ORIGIN, seed)
