"""Training samples of the closed-form model: a condition in a cell line each, and their perturbed genes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from kgnn.data.conditions import perturbed_genes
from kgnn.data.screen import Screen
from kgnn.errors import InputError
from kgnn.models.perturbation.predictor import Strength, strengths_of
from kgnn.nn.condition_kernel import Bags


class Samples(NamedTuple):
    """Training samples, a condition in a cell line each.

    names [samples]; line [samples]; change [samples, genes]; cells [samples]; states [lines, genes]; lines, names;
    seen [samples, genes], whether a change was measured, None where all were.
    """

    names: list[str]
    line: np.ndarray
    change: np.ndarray
    cells: np.ndarray
    states: np.ndarray
    lines: list[str]
    seen: np.ndarray | None = None

    def of(self, rows: np.ndarray) -> Samples:
        """Those of these numbers."""
        names = [self.names[row] for row in rows]
        seen = None if self.seen is None else self.seen[rows]
        return Samples(names, self.line[rows], self.change[rows], self.cells[rows], self.states, self.lines, seen)


def read_samples(screen: Screen, conditions: Sequence[str]) -> Samples:
    """Mean change of each condition in each cell line against the control cells of that line."""
    lines = sorted(set(screen.group))
    states, names, line, change, cells, seen = [], [], [], [], [], []
    for number, group in enumerate(lines):
        rows = screen.group == group
        part = Screen(screen.x[rows], screen.genes, screen.condition[rows], screen.group[rows])
        weight = np.ones(rows.sum()) if screen.n_cells is None else screen.n_cells[rows]
        states.append(part.control_mean)
        counts = pd.Series(weight).groupby(part.condition).sum()
        here = [name for name in conditions if name in counts.index]
        if here:
            change.append(part.mean(here).to_numpy() - states[-1])
        if here and screen.measured is not None:
            seen.append(replace(part, measured=screen.measured[rows]).measures(here))
        names += here
        line += [number] * len(here)
        cells += [int(counts[name]) for name in here]
    if not names:
        raise InputError("no training condition; the split's train group is empty")
    all_seen = np.concatenate(seen) if seen else None
    return Samples(names, np.array(line), np.concatenate(change), np.array(cells), np.stack(states), lines, all_seen)


def make_bags(
    names: Sequence[str], nodes: pd.Index, strength: Strength, line: np.ndarray, own: np.ndarray | None = None
) -> Bags:
    """Perturbed genes of samples with their strengths.

    Args:
        strength: −1 knock-out, between −1 and 0 knock-down, above 0 activation; a number or one a gene (others: −1).
        line: [samples], number of the cell line, −1 for one not seen in training.
        own: [lines, nodes], how much of each gene a line expresses against the mean of the training lines: what a
            knock-out can take away; of one line alone where all samples are of it.
    """
    genes = [perturbed_genes(name) for name in names]
    sample = np.repeat(np.arange(len(names)), [len(perturbed) for perturbed in genes])
    flat = [gene for perturbed in genes for gene in perturbed]
    number = nodes.get_indexer(flat).astype(np.int64)
    value = strengths_of(flat, strength)
    if own is not None:
        row = np.zeros(len(sample), int) if len(own) == 1 else np.asarray(line)[sample]
        value = np.where(value < 0, value * own[row, number], value)
    offsets = np.cumsum([0, *map(len, genes)])
    parts = (number, value, offsets, np.asarray(line, np.int64))
    return Bags(*(torch.from_numpy(part) for part in parts))


def own_levels(states: np.ndarray, reference: np.ndarray, measured: np.ndarray, n_nodes: int) -> np.ndarray:
    """[lines, nodes]: control expression over the training lines' mean, at most 5; 1 where nothing is measured."""
    own = np.ones((len(states), n_nodes))
    own[:, measured] = np.where(reference > 1e-6, states / np.maximum(reference, 1e-6), 1.0).clip(0, 5)
    return own


def left_out_blocks(samples: Samples) -> list[Tensor]:
    """What is left out together: a condition (in all lines); conditions with a gene in common; a cell line."""
    genes = [set(perturbed_genes(name)) for name in samples.names]
    same = torch.tensor([[a == b for b in genes] for a in genes])
    sharing = torch.tensor([[bool(a & b) for b in genes] for a in genes])
    blocks = [same] + ([sharing] if (sharing != same).any() and not sharing.all(1).any() else [])
    if len(samples.lines) > 1:
        blocks.append(torch.from_numpy(samples.line[:, None] == samples.line))
    return blocks
