"""What every backend is given: a sparse matrix in CSR."""

from typing import NamedTuple

import torch
from torch import Tensor


class Csr(NamedTuple):
    """A sparse pattern [rows, columns].

    Attributes:
        indptr: [rows + 1], int32; where each row's entries begin.
        indices: [entries], int32; their columns.
        n_columns: number of columns.
        order: [rows], int32: the order in which the rows are worth working through, or None.
    """

    indptr: Tensor
    indices: Tensor
    n_columns: int
    order: Tensor | None = None

    @property
    def n_rows(self) -> int:
        return len(self.indptr) - 1

    @property
    def n_entries(self) -> int:
        return len(self.indices)

    @property
    def rows(self) -> Tensor:
        """[entries], int64: the row of each entry."""
        numbers = torch.arange(self.n_rows, device=self.indptr.device)
        return torch.repeat_interleave(numbers, self.indptr.diff().long(), output_size=self.n_entries)
