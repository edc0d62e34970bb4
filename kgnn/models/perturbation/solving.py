"""Solving a `KnowledgeNetwork`: the propagation's weights in closed form, the kernel through its left-out error."""

from __future__ import annotations

import torch
from torch import Tensor

from kgnn.models.perturbation.samples import Samples, left_out_blocks
from kgnn.nn.closed_form import left_out_operator, pooled_ridge
from kgnn.nn.knowledge import Bags, KnowledgeNetwork, LeftOut, Propagation, left_out_loss, root
from kgnn.progress import track

STEPS, LEARNING_RATE = 150, 0.05
PRIOR = 0.003  # how firmly the kernel's parameters are held at where they start
PENALTIES = (1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0)


def solve(network: KnowledgeNetwork, bags: Bags, samples: Samples) -> list[float]:
    """Solve the propagation's weights, train the kernel through its left-out error; return that error a step."""
    change = torch.from_numpy(samples.change).double()
    state = torch.from_numpy(samples.states[samples.line]).float()
    propagation, kernel = network.propagation, network.kernel
    strength = propagation.strengths(bags).double()
    network.own = _own_effects(strength, change, state.double())
    change = root(change * (strength == 0))  # what happens at the perturbed gene itself is no message
    propagation.set_scales(bags, state, change.std(0).float())
    beta, along = _solve_propagation(propagation, bags, state, change)
    blocks = left_out_blocks(samples)
    reached = propagation.reached(bags)
    products = _products(change, along)
    genes = bags.genes.unique()
    similarities = kernel.similarities(genes, genes)
    noise = torch.from_numpy((samples.cells.mean() / samples.cells).clip(0.25, 4.0))
    share = torch.zeros((), dtype=torch.float64, requires_grad=True)
    start = [kernel.gate.detach().clone(), kernel.log.detach().clone()]
    optimizer = torch.optim.Adam([kernel.gate, kernel.log, share], lr=LEARNING_RATE)
    history = []
    for _ in track(range(STEPS), "learning how alike conditions are"):
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
