"""Solving a `KnowledgeNetwork`: the propagation's weights in closed form, the kernel through its left-out error."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from scipy.optimize import nnls
from sklearn.utils.extmath import randomized_svd
from torch import Tensor

from kgnn.models.perturbation.missing import gene_means, solve_missing
from kgnn.models.perturbation.samples import Samples, left_out_blocks
from kgnn.nn.closed_form import left_out_operator, pooled_ridge
from kgnn.nn.condition_kernel import Bags
from kgnn.nn.knowledge import KnowledgeNetwork, LeftOut, Propagation, left_out_loss
from kgnn.progress import track

STEPS, LEARNING_RATE = 150, 0.05
PRIOR = 0.1  # over the number of samples: how firmly the kernel's parameters are held at where they start
LEARN_ON = 300  # samples
PROGRAMMES, ENOUGH = 40, 4  # predictions keep so many programmes where there are ENOUGH times as many samples
CLEAR, ENOUGH_CLEAR = 3.0, 20  # robust standard deviations that a change stands out by; how many such are needed
Z_90 = 1.6449  # half the width of the central 90 % of a normal distribution, in standard deviations
PENALTIES = (1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0)


def solve(network: KnowledgeNetwork, bags: Bags, samples: Samples, seed: int = 0) -> list[float]:
    """Solve the propagation's weights, train the kernel through its left-out error; return that error a step.

    Both learn on `LEARN_ON` random samples where there are more; the kernel is then solved with all.
    """
    change = torch.from_numpy(samples.change).double()
    state = torch.from_numpy(samples.states).float()
    propagation = network.propagation
    strength = propagation.strengths(bags).double()
    network.own = _own_effects(strength, change, samples.states, samples.line)
    told, seen = strength == 0, None
    if samples.seen is not None:
        told = seen = torch.from_numpy(samples.seen) & told
        network.offset = gene_means(change, seen)
        change = (change - network.offset).masked_fill_(~seen, 0.0)
    change = change.masked_fill_(strength != 0, 0.0)  # what happens at the perturbed gene itself is no message
    del strength
    n = len(samples.names)
    some = np.arange(n)
    if n > LEARN_ON:
        some = np.sort(np.random.default_rng(seed).choice(n, LEARN_ON, replace=False))
    learned = _learn(network, bags.of(some), change[some], state[samples.line[some]], samples.of(some), told[some])
    with torch.no_grad():
        along = learned.along if n == len(some) else propagation.along(bags, state[samples.line], network.beta)
        rest = change - learned.share * along
        _settle(network, bags, rest, noise_levels(samples.cells, learned.cells), seen)
        network.beta = learned.share * network.beta
        network.reference = torch.from_numpy(samples.states.mean(axis=0)).double()
    return learned.history


class Learned(NamedTuple):
    """What `_learn` found besides the kernel's own numbers: the share of what is propagated that is used, predictions
    of each sample by weights that did not see it [samples, genes], mean number of cells, loss a step."""

    share: float
    along: Tensor
    cells: float
    history: list[float]


def noise_levels(cells: np.ndarray, mean: float) -> Tensor:
    """Noise of samples of so many cells, in units of the kernel's, [samples]."""
    return torch.from_numpy((mean / cells).clip(0.25, 4.0))


def _learn(
    network: KnowledgeNetwork, bags: Bags, change: Tensor, state: Tensor, samples: Samples, told: Tensor
) -> Learned:
    propagation, kernel = network.propagation, network.kernel
    propagation.set_scales(bags, state, change.std(0).float())
    network.beta, along = _solve_propagation(propagation, bags, state, change)
    blocks = left_out_blocks(samples)
    reached = propagation.reached(bags)
    products = _products(change, along)
    less = [_less(block, samples.seen is not None) for block in blocks]
    genes = bags.genes.unique()
    similarities = kernel.similarities(genes, genes)
    mean_cells = float(samples.cells.mean())
    noise = noise_levels(samples.cells, mean_cells)
    share = torch.zeros((), dtype=torch.float64, requires_grad=True)
    start = [kernel.gate.detach().clone(), kernel.log.detach().clone()]
    optimizer = torch.optim.Adam([kernel.gate, kernel.log, share], lr=LEARNING_RATE)
    history = []
    for _ in track(range(STEPS), "learning how alike conditions are"):
        k = kernel(bags, bags, reached, reached, similarities)
        operators = [left_out_operator(k, kernel.noise * noise, block) for block in blocks]
        losses = [
            left_out_loss(operator, share.sigmoid(), products, mean)
            for operator, means in zip(operators, less, strict=True)
            for mean in means
        ]
        loss = torch.stack(losses).mean()
        prior = (kernel.gate - start[0]).square().sum() + (kernel.log - start[1]).square().sum()
        optimizer.zero_grad()
        (loss + PRIOR / len(change) * prior).backward()
        optimizer.step()
        history.append(float(loss.detach()))
    with torch.no_grad():
        used = float(share.detach().sigmoid())
        rest, level = change - used * along, kernel.noise * noise
        k = kernel(bags, bags, reached, reached, similarities)
        error = rest - left_out_operator(k, level, blocks[0]) @ rest
        variance = (1 / torch.linalg.inv(k + torch.diag(level)).diagonal()).unsqueeze(1)  # of a left-out row
        network.gene_scale = (error.square() / variance * told).sum(0) / told.sum(0).clamp_min(1)
        network.widths = _widths(error, change, variance * network.gene_scale, told)
    return Learned(used, along, mean_cells, history)


def _widths(error: Tensor, change: Tensor, variance: Tensor, told: Tensor) -> Tensor:
    """w with w_0 × variance + w_1 × predicted² the variance of left-out predictions, [2].

    Least squares without negative numbers of the squared error in units of its variance: what changes much is missed by
    more. Then both are stretched until 90 % intervals hold 90 % of the changes that stand out of their gene's (by three
    times its median absolute deviation × 1.4826, that of a normal distribution): of all genes they hold more.
    All are [samples, genes], `told` bool: where the error is one.
    """
    told = told & (variance > 1e-12)
    if not told.any():
        return torch.tensor([1.0, 0.0], dtype=torch.float64)
    unit, missed, bold = variance[told], error[told].square(), (change - error)[told].square()
    x, y = np.stack([np.ones(len(unit)), (bold / unit).numpy()]), (missed / unit).numpy()
    weighted = x / np.square(1 + x[1])
    widths = torch.from_numpy(nnls(weighted @ x.T, weighted @ y)[0])
    apart = (change - change.masked_fill(~told, torch.nan).nanmedian(0).values).abs()
    noise = 1.4826 * apart.masked_fill(~told, torch.nan).nanmedian(0).values
    clear = (apart > (CLEAR * noise).clamp_min(1e-9))[told]
    if clear.sum() < ENOUGH_CLEAR:
        return widths
    found = missed[clear] / (widths[0] * unit + widths[1] * bold)[clear].clamp_min(1e-12)
    return widths * max(1.0, float(found.quantile(0.9)) / Z_90**2)


def _settle(network: KnowledgeNetwork, bags: Bags, rest: Tensor, noise: Tensor, seen: Tensor | None) -> None:
    """Write the solution into the network's buffers."""
    reached = network.propagation.reached(bags)
    k, level = network.kernel(bags, bags, reached, reached), network.kernel.noise * noise
    if seen is not None:
        network.weights = solve_missing(rest, seen, k, level)
    k.diagonal().add_(level)
    network.factor = torch.linalg.cholesky(k).contiguous()  # laid out as a file gives it back: the same bits
    if seen is None:
        if len(rest) >= ENOUGH * PROGRAMMES:
            network.programmes = _programmes(rest)
            rest = rest @ network.programmes.T
        network.weights = torch.cholesky_solve(rest, network.factor).contiguous()
    network.bag_genes, network.bag_strength, network.bag_offsets, network.bag_line = bags


def _programmes(rest: Tensor) -> Tensor:
    """The leading right singular vectors of `rest` [samples, genes]: what many share, [n, genes]."""
    basis = randomized_svd(rest.numpy(), PROGRAMMES, random_state=0)[2]
    return torch.from_numpy(np.ascontiguousarray(basis, np.float64))


def _own_effects(strength: Tensor, change: Tensor, states: np.ndarray, line: np.ndarray) -> Tensor:
    """Change of a gene a unit of its own perturbation [genes]: a line in its control expression over all perturbed
    genes, drawn towards what was measured where the gene itself was perturbed (as much as one measurement weighs)."""
    here = strength != 0
    level = torch.from_numpy(np.bincount(line, minlength=len(states)) @ states / len(line)).double()
    if not here.any():
        return torch.zeros_like(level)
    x = torch.stack([torch.ones_like(level), level], 1)
    rows = here.nonzero()[:, 1]
    y = change[here] / strength[here]
    fit = torch.linalg.solve(x[rows].T @ x[rows] + 1e-3 * torch.eye(2, dtype=x.dtype), x[rows].T @ y)
    general = x @ fit
    total = torch.zeros_like(level).index_add(0, rows, y)
    return (total + general) / (here.sum(0) + 1)


def _solve_propagation(propagation: Propagation, bags: Bags, state: Tensor, change: Tensor) -> tuple[Tensor, Tensor]:
    """Weights of the features, and predictions of each sample by weights that did not see it."""
    if not propagation.n_features:
        return torch.zeros(0, dtype=torch.float64), torch.zeros_like(change)
    gram, moment = [], []
    for rows, part in propagation.chunks(bags, state):
        f = part.double()
        gram.append(f.transpose(1, 2) @ f)
        moment.append((f.transpose(1, 2) @ change[rows].unsqueeze(2)).squeeze(2))
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
    along = [(part.double() @ without[rows].unsqueeze(2)).squeeze(2) for rows, part in propagation.chunks(bags, state)]
    return beta, torch.cat(along)


def _less(block: Tensor, centred: bool) -> list[Tensor | None]:
    """What changes are counted less of: nothing, where they are not `centred` at the mean of all, and the mean of the
    samples outside each one's block. Less a mean that a sample has a part in, no mean could predict it but with the
    opposite sign, and a source that says nothing would be taken for better than none."""
    mean = (~block).double() / (~block).sum(1, keepdim=True).clamp_min(1)
    return [mean] if centred else [None, mean]


def _products(change: Tensor, along: Tensor) -> LeftOut:
    y, p = (x - x.mean(1, keepdim=True) for x in (change, along))
    return LeftOut(y @ y.T, y @ p.T, p @ p.T)
