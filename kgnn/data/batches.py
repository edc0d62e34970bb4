"""Batches of training cells, each paired with a control cell."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from kgnn.data.conditions import CONTROL
from kgnn.data.screen import Screen
from kgnn.parts import check_number


@dataclass
class Batch:
    """A batch of cells; what depends on the condition alone is given once a distinct condition.

    Attributes:
        control: [cells, genes], expression of the control cell paired with each cell.
        target: [cells, genes], the cell's own expression.
        condition: [cells], number of the cell's condition within the batch.
        conditions: names of the distinct conditions, in that numbering.
        state: [conditions, genes], mean control expression of the group that each is in; None where cells of all groups
            count as one condition.
        measured: [cells, genes] bool, False where an effect is missing and `target` holds what takes its place; None
            where there is none.
    """

    control: Tensor
    target: Tensor
    condition: Tensor
    conditions: list[str]
    state: Tensor | None = None
    measured: Tensor | None = None


class PairedCells(Sampler):
    """Batches of row numbers (cells, control cells): training and control cells, shuffled anew each epoch.

    A random control cell is paired with each cell, within the cell's own batch or cell line where the screen has
    groups. The same seed gives the same batches.

    Args:
        screen: the cells.
        conditions: training conditions; control cells always join them.
        batch_size: cells a batch. A last batch of one cell is left out: batch norm needs two.
        seed: for order and pairing.
        conditions_per_batch: let a batch hold cells of at most so many conditions, since a step costs what its
            distinct conditions cost; None draws cells regardless of their condition. A condition's cells are drawn
            in random portions of batch_size / conditions_per_batch, each cell once an epoch either way; where a
            condition's last portion is smaller, so is its batch.
    """

    def __init__(
        self,
        screen: Screen,
        conditions: list[str],
        batch_size: int,
        seed: int,
        conditions_per_batch: int | None = None,
    ) -> None:
        self.group, self.batch_size = screen.group, batch_size
        self.conditions_per_batch = conditions_per_batch
        if conditions_per_batch is not None:
            check_number(conditions_per_batch, "conditions_per_batch", 1, batch_size, whole=True)
        self.cells = screen.cells([CONTROL, *conditions])
        self.condition = np.unique(screen.condition[self.cells].astype(str), return_inverse=True)[1]
        self.rng = np.random.default_rng(seed)
        controls = screen.controls
        self.controls = {group: controls[screen.group[controls] == group] for group in set(screen.group)}

    def __len__(self) -> int:
        if self.conditions_per_batch is None:
            full, rest = divmod(len(self.cells), self.batch_size)
            return full + (rest > 1 or full == 0)
        portions = -(-np.bincount(self.condition) // self._portion)
        return -(-int(portions.sum()) // self.conditions_per_batch)

    def __iter__(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        order = self.rng.permutation(len(self.cells))
        if self.conditions_per_batch is None:
            starts = range(0, len(order), self.batch_size)
            batches = [order[start : start + self.batch_size] for start in starts]
            batches = batches[: len(self)]
        else:
            batches = self._grouped(order, self.conditions_per_batch)
        drawn = self.cells[np.concatenate(batches)] if batches else self.cells[:0]
        paired = pair_controls(self.group[drawn], self.controls, self.rng)
        ends = np.cumsum([len(batch) for batch in batches])
        for batch, end in zip(batches, ends, strict=True):
            part = slice(end - len(batch), end)
            yield drawn[part], paired[part]

    def skip(self, epochs: int) -> None:
        """Bring the random order and pairing to where they are after so many epochs."""
        for _ in range(epochs):
            for _ in self:
                pass

    def _grouped(self, order: np.ndarray, conditions_per_batch: int) -> list[np.ndarray]:
        """Portions of single conditions, in random order, so many to a batch."""
        by_condition = order[np.argsort(self.condition[order], kind="stable")]
        portions = []
        for cells in np.split(by_condition, np.cumsum(np.bincount(self.condition))[:-1]):
            portions += np.split(cells, range(self._portion, len(cells), self._portion))
        drawn = [portions[number] for number in self.rng.permutation(len(portions))]
        starts = range(0, len(drawn), conditions_per_batch)
        return [np.concatenate(drawn[start : start + conditions_per_batch]) for start in starts]

    @property
    def _portion(self) -> int:
        assert self.conditions_per_batch is not None
        return self.batch_size // self.conditions_per_batch


class PairedBatches(Dataset):
    """Fetches what `PairedCells` draws: `dataset[cells, controls]` is a `Batch`.

    With `by_group` a condition's cells of several groups are several conditions, each with its own state.
    """

    def __init__(self, screen: Screen, by_group: bool = False) -> None:
        self.screen, self.means = screen, None
        if by_group and len(screen.group_means) > 1:
            self.means = torch.from_numpy(screen.group_means.to_numpy(np.float32))

    def __getitem__(self, rows: tuple[np.ndarray, np.ndarray]) -> Batch:
        cells, controls = rows
        names, number = np.unique(self.screen.condition[cells].astype(str), return_inverse=True)
        state = None
        if self.means is not None:
            group = self.screen.group_means.index.get_indexer(self.screen.group[cells])
            pairs, number = np.unique(np.stack([number, group]), axis=1, return_inverse=True)
            names, number, state = names[pairs[0]], number.ravel(), self.means[pairs[1]]
        return Batch(
            control=torch.from_numpy(self.screen.x[controls].toarray()),
            target=torch.from_numpy(self.screen.x[cells].toarray()),
            condition=torch.from_numpy(number),
            conditions=names.tolist(),
            state=state,
            measured=None if self.screen.measured is None else torch.from_numpy(self.screen.measured[cells]),
        )


def training_batches(
    screen: Screen,
    conditions: list[str],
    batch_size: int,
    seed: int,
    conditions_per_batch: int | None = None,
    by_group: bool = False,
) -> DataLoader:
    """Return a loader of `Batch`es of the cells of `conditions` and of control cells.

    See `PairedCells`; `by_group`: see `PairedBatches`.
    """
    sampler = PairedCells(screen, conditions, batch_size, seed, conditions_per_batch)
    return DataLoader(PairedBatches(screen, by_group), batch_size=None, sampler=sampler)


def pair_controls(groups: np.ndarray, controls: dict[str, np.ndarray], rng: np.random.Generator) -> np.ndarray:
    """Return for each cell's group a random control cell of that group."""
    paired = np.empty(len(groups), dtype=np.int64)
    for group in sorted(set(groups)):
        of_group = groups == group
        paired[of_group] = rng.choice(controls[group], int(of_group.sum()))
    return paired
