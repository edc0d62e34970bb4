"""Batches of training cells, each paired with a control cell."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from kgnn.data.conditions import CONTROL
from kgnn.data.screen import Screen


@dataclass
class Batch:
    """A batch of cells; what depends on the condition alone is given once a distinct condition.

    Attributes:
        control: [cells, genes], expression of the control cell paired with each cell.
        target: [cells, genes], the cell's own expression.
        condition: [cells], number of the cell's condition within the batch.
        conditions: names of the distinct conditions, in that numbering.
    """

    control: Tensor
    target: Tensor
    condition: Tensor
    conditions: list[str]


class PairedCells(Sampler):
    """Batches of row numbers (cells, control cells): training and control cells, shuffled anew each epoch.

    A random control cell is paired with each cell, within the cell's own batch or cell line where the screen has
    groups. The same seed gives the same batches.

    Args:
        screen: the cells.
        conditions: training conditions; control cells always join them.
        batch_size: cells a batch. A last batch of one cell is left out: batch norm needs two.
        seed: for order and pairing.
    """

    def __init__(self, screen: Screen, conditions: list[str], batch_size: int, seed: int) -> None:
        self.group, self.batch_size = screen.group, batch_size
        self.cells = screen.cells([CONTROL, *conditions])
        self.rng = np.random.default_rng(seed)
        controls = screen.controls
        self.controls = {group: controls[screen.group[controls] == group] for group in set(screen.group)}

    def __len__(self) -> int:
        full, rest = divmod(len(self.cells), self.batch_size)
        return full + (rest > 1 or full == 0)

    def __iter__(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        order = self.rng.permutation(self.cells)
        paired = pair_controls(self.group[order], self.controls, self.rng)
        for number in range(len(self)):
            part = slice(number * self.batch_size, (number + 1) * self.batch_size)
            yield order[part], paired[part]


class PairedBatches(Dataset):
    """Fetches what `PairedCells` draws: `dataset[cells, controls]` is a `Batch`."""

    def __init__(self, screen: Screen) -> None:
        self.screen = screen

    def __getitem__(self, rows: tuple[np.ndarray, np.ndarray]) -> Batch:
        cells, controls = rows
        names, number = np.unique(self.screen.condition[cells].astype(str), return_inverse=True)
        return Batch(
            control=torch.from_numpy(self.screen.x[controls].toarray()),
            target=torch.from_numpy(self.screen.x[cells].toarray()),
            condition=torch.from_numpy(number),
            conditions=names.tolist(),
        )


def training_batches(screen: Screen, conditions: list[str], batch_size: int, seed: int) -> DataLoader:
    """Return a loader of `Batch`es of the cells of `conditions` and of control cells; see `PairedCells`."""
    return DataLoader(PairedBatches(screen), batch_size=None, sampler=PairedCells(screen, conditions, batch_size, seed))


def pair_controls(groups: np.ndarray, controls: dict[str, np.ndarray], rng: np.random.Generator) -> np.ndarray:
    """Return for each cell's group a random control cell of that group."""
    paired = np.empty(len(groups), dtype=np.int64)
    for group in sorted(set(groups)):
        of_group = groups == group
        paired[of_group] = rng.choice(controls[group], int(of_group.sum()))
    return paired
