"""The default model: from a graph and a screen to a `KnowledgeNetwork`, fitted through its leave-one-out error."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from anndata import AnnData
from torch import Tensor

from kgnn.data.conditions import CONTROL
from kgnn.data.screen import Screen, perturbed_genes
from kgnn.errors import InputError
from kgnn.graph import KnowledgeGraph
from kgnn.graph.effects import EFFECT, directed_pairs, estimate_effects
from kgnn.models.perturbation.graphs import channels, gene_relations, profiles, vectors
from kgnn.nn.closed_form import left_out_operator, pooled_ridge
from kgnn.nn.knowledge import (
    Bags,
    ConditionKernel,
    KnowledgeNetwork,
    LeftOut,
    Propagation,
    left_out_loss,
    root,
)

STEPS, LEARNING_RATE = 150, 0.05
PRIOR = 0.003  # how firmly the kernel's parameters are held at where they start
MIN_CELLS = 50  # fewer cells beyond one a condition say too little of how genes vary together
PENALTIES = (1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0)

Strength = float | Mapping[str, float]


class Samples(NamedTuple):
    """Training samples, a condition in a cell line each.

    names [samples]; line [samples]; change [samples, genes]; cells [samples]; states [lines, genes]; lines, names.
    """

    names: list[str]
    line: np.ndarray
    change: np.ndarray
    cells: np.ndarray
    states: np.ndarray
    lines: list[str]


def read_samples(screen: Screen, conditions: Sequence[str]) -> Samples:
    """Mean change of each condition in each cell line against the control cells of that line."""
    lines = sorted(set(screen.group))
    states, names, line, change, cells = [], [], [], [], []
    for number, group in enumerate(lines):
        rows = screen.group == group
        part = Screen(screen.x[rows], screen.genes, screen.condition[rows], screen.group[rows])
        states.append(part.control_mean)
        here = [name for name in conditions if name in set(part.condition)]
        if here:
            change.append(part.mean(here).to_numpy() - states[-1])
        names += here
        line += [number] * len(here)
        cells += [int((part.condition == name).sum()) for name in here]
    if not names:
        raise InputError("no training condition; the split's train group is empty")
    return Samples(names, np.array(line), np.concatenate(change), np.array(cells), np.stack(states), lines)


def make_bags(
    names: Sequence[str], nodes: pd.Index, strength: Strength, line: np.ndarray, own: np.ndarray | None = None
) -> Bags:
    """Perturbed genes of samples with their strengths.

    Args:
        strength: −1 knock-out, between −1 and 0 knock-down, above 0 activation; a number or one a gene (others: −1).
        line: [samples], number of the cell line, −1 for one not seen in training.
        own: [samples, nodes], how much of each gene the line expresses against the mean of the training lines: what a
            knock-out can take away.
    """
    genes = [perturbed_genes(name) for name in names]
    sample = np.repeat(np.arange(len(names)), [len(perturbed) for perturbed in genes])
    flat = [gene for perturbed in genes for gene in perturbed]
    number = nodes.get_indexer(flat).astype(np.int64)
    of_gene = [strength.get(gene, -1.0) if isinstance(strength, Mapping) else strength for gene in flat]
    value = np.array(of_gene, dtype=np.float64)
    if own is not None:
        value = np.where(value < 0, value * own[sample, number], value)
    offsets = np.cumsum([0, *map(len, genes)])
    parts = (number, value, offsets, np.asarray(line, np.int64))
    return Bags(*(torch.from_numpy(part) for part in parts))


def own_levels(states: np.ndarray, reference: np.ndarray, measured: np.ndarray, n_nodes: int) -> np.ndarray:
    """[samples, nodes]: control expression over the training lines' mean, at most 5; 1 where nothing is measured."""
    own = np.ones((len(states), n_nodes))
    own[:, measured] = np.where(reference > 1e-6, states / np.maximum(reference, 1e-6), 1.0).clip(0, 5)
    return own


def fit_knowledge(
    kg: KnowledgeGraph | None,
    screen: Screen,
    conditions: Sequence[str],
    nodes: pd.Index,
    strength: Strength,
    seed: int,
) -> tuple[KnowledgeGraph | None, KnowledgeNetwork, list[str], list[float]]:
    """Return the graph with estimated effects, the fitted network, the cell lines, the loss a step."""
    samples = read_samples(screen, conditions)
    graph = _with_effects(kg, screen, conditions, seed)
    measured = nodes.get_indexer(screen.genes)
    own = own_levels(samples.states[samples.line], samples.states.mean(axis=0), measured, len(nodes))
    bags = make_bags(samples.names, nodes, strength, samples.line, own)
    network = _network(graph, nodes, screen.genes, len(samples.names), len(bags.genes), len(samples.lines))
    history = fit(network, bags, samples)
    return graph, network.eval(), samples.lines, history


def build_knowledge(
    kg: KnowledgeGraph | None, nodes: pd.Index, genes: pd.Index, state: Mapping[str, Tensor]
) -> KnowledgeNetwork:
    """Return the network that `state`, a saved `state_dict`, fits into."""
    n_lines = int(state["bag_line"].max()) + 1
    return _network(kg, nodes, genes, len(state["weights"]), len(state["bag_genes"]), n_lines)


def knowledge_inputs(
    network: KnowledgeNetwork,
    conditions: Sequence[str],
    nodes: pd.Index,
    strength: Strength,
    start: np.ndarray,
    lines: np.ndarray,
) -> tuple[Bags, Tensor]:
    """Bags of conditions that start from the state `start` [genes], and that state once a condition."""
    states = np.repeat(start[None], len(conditions), axis=0)
    measured = network.propagation.measured.numpy()
    own = own_levels(states, network.reference.numpy(), measured, len(nodes))
    return make_bags(conditions, nodes, strength, lines, own), torch.from_numpy(states).float()


def _network(
    kg: KnowledgeGraph | None, nodes: pd.Index, genes: pd.Index, n_samples: int, n_entries: int, n_lines: int
) -> KnowledgeNetwork:
    measured = torch.from_numpy(nodes.get_indexer(genes).astype(np.int64))
    relations = gene_relations(kg, nodes)
    propagation = Propagation(channels(relations, len(nodes)), measured, len(nodes))
    kernel = ConditionKernel(profiles(relations, len(nodes)), n_lines, vectors(kg, nodes))
    return KnowledgeNetwork(propagation, kernel, n_samples, n_entries)


def _with_effects(
    kg: KnowledgeGraph | None, screen: Screen, conditions: Sequence[str], seed: int
) -> KnowledgeGraph | None:
    """Add effects estimated from how training and control cells vary within their condition, where they can be."""
    if kg is None or EFFECT in kg.relations or not len(directed_pairs(kg, screen.genes)[0]):
        return kg
    cells = screen.cells([CONTROL, *conditions])
    group = pd.Series(screen.condition[cells].astype(str)) + "|" + screen.group[cells].astype(str)
    if len(cells) - group.nunique() < MIN_CELLS:
        return kg
    varying = AnnData(
        screen.x[cells], obs=pd.DataFrame({"group": group.to_numpy()}, index=np.arange(len(cells)).astype(str))
    )
    varying.var_names = screen.genes
    return kg | estimate_effects(kg, varying, groupby="group", seed=seed)


def fit(network: KnowledgeNetwork, bags: Bags, samples: Samples) -> list[float]:
    """Solve the propagation's weights, train the kernel through its left-out error; return that error a step."""
    change = torch.from_numpy(samples.change).double()
    state = torch.from_numpy(samples.states[samples.line]).float()
    propagation, kernel = network.propagation, network.kernel
    strength = propagation.strengths(bags).double()
    network.own = _own_effects(strength, change, state.double())
    change = root(change * (strength == 0))  # what happens at the perturbed gene itself is no message
    propagation.set_scales(bags, state, change.std(0).float())
    beta, along = _solve_propagation(propagation, bags, state, change)
    blocks = _blocks(samples)
    reached = propagation.reached(bags)
    products = _products(change, along)
    genes = bags.genes.unique()
    similarities = kernel.similarities(genes, genes)
    noise = torch.from_numpy((samples.cells.mean() / samples.cells).clip(0.25, 4.0))
    share = torch.zeros((), dtype=torch.float64, requires_grad=True)
    start = [kernel.gate.detach().clone(), kernel.log.detach().clone()]
    optimizer = torch.optim.Adam([kernel.gate, kernel.log, share], lr=LEARNING_RATE)
    history = []
    for _ in range(STEPS):
        k = kernel(bags, bags, reached, reached, similarities)
        losses = [left_out_loss(k, kernel.noise * noise, block, share.sigmoid(), products) for block in blocks]
        loss = torch.stack(losses).mean()
        prior = (kernel.gate - start[0]).square().sum() + (kernel.log - start[1]).square().sum()
        optimizer.zero_grad()
        (loss + PRIOR * prior).backward()
        optimizer.step()
        history.append(float(loss.detach()))
    with torch.no_grad():
        _settle(network, bags, change, along, beta, float(share.detach().sigmoid()), noise, similarities, blocks[0])
        network.reference = torch.from_numpy(samples.states.mean(axis=0)).double()
    return history


def _settle(
    network: KnowledgeNetwork,
    bags: Bags,
    change: Tensor,
    along: Tensor,
    beta: Tensor,
    share: float,
    noise: Tensor,
    similarities: Tensor,
    own: Tensor,
) -> None:
    """Write the solution into the network's buffers."""
    reached = network.propagation.reached(bags)
    k = network.kernel(bags, bags, reached, reached, similarities)
    level = network.kernel.noise * noise
    rest = change - share * along
    network.inverse = torch.linalg.inv(k + torch.diag(level))
    network.weights = network.inverse @ rest
    network.beta = share * beta
    network.bag_genes, network.bag_strength, network.bag_offsets, network.bag_line = bags
    error = rest - left_out_operator(k, level, own) @ rest
    variance = 1 / network.inverse.diagonal()  # of a left-out row
    network.gene_scale = (error.square() / variance.unsqueeze(1)).mean(0)


def _own_effects(strength: Tensor, change: Tensor, state: Tensor) -> Tensor:
    """Change of a gene a unit of its own perturbation [genes]: a line in its control expression over all perturbed
    genes, drawn towards what was measured where the gene itself was perturbed (as much as one measurement weighs)."""
    here = strength != 0
    level = state.mean(0)
    if not here.any():
        return torch.zeros_like(level)
    x = torch.stack([torch.ones_like(level), level], 1)
    rows = here.nonzero()[:, 1]
    y = change[here] / strength[here]
    line = torch.linalg.solve(x[rows].T @ x[rows] + 1e-3 * torch.eye(2, dtype=x.dtype), x[rows].T @ y)
    general = x @ line
    total = torch.zeros_like(level).index_add(0, rows, y)
    return (total + general) / (here.sum(0) + 1)


def _solve_propagation(propagation: Propagation, bags: Bags, state: Tensor, change: Tensor) -> tuple[Tensor, Tensor]:
    """Weights of the features, and predictions of each sample by weights that did not see it."""
    if not propagation.n_features:
        return torch.zeros(0, dtype=torch.float64), torch.zeros_like(change)
    gram, moment, start = [], [], 0
    for part in propagation.chunks(bags, state):
        f = part.double()
        gram.append(f.transpose(1, 2) @ f)
        moment.append((f.transpose(1, 2) @ change[start : start + len(f)].unsqueeze(2)).squeeze(2))
        start += len(f)
    grams, moments = torch.cat(gram), torch.cat(moment)
    power = change.square().sum(1)
    best = None
    for penalty in PENALTIES:
        beta, without = pooled_ridge(grams, moments, penalty)
        fitted = (without * moments).sum(1)
        square = ((grams @ without.unsqueeze(2)).squeeze(2) * without).sum(1)
        error = float((power - 2 * fitted + square).sum() / power.sum())
        if best is None or error < best[0]:
            best = (error, beta, without)
    assert best is not None
    _, beta, without = best
    along, start = [], 0
    for part in propagation.chunks(bags, state):
        along.append((part.double() @ without[start : start + len(part)].unsqueeze(2)).squeeze(2))
        start += len(part)
    return beta, torch.cat(along)


def _products(change: Tensor, along: Tensor) -> LeftOut:
    y, p = (x - x.mean(1, keepdim=True) for x in (change, along))
    return LeftOut(y @ y.T, y @ p.T, p @ p.T)


def _blocks(samples: Samples) -> list[Tensor]:
    """What is left out together: a condition (in all lines); conditions with a gene in common; a cell line."""
    genes = [set(perturbed_genes(name)) for name in samples.names]
    same = torch.tensor([[a == b for b in genes] for a in genes])
    sharing = torch.tensor([[bool(a & b) for b in genes] for a in genes])
    blocks = [same] + ([sharing] if (sharing != same).any() and not sharing.all(1).any() else [])
    if len(samples.lines) > 1:
        blocks.append(torch.from_numpy(samples.line[:, None] == samples.line))
    return blocks
