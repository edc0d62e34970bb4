"""How many threads work: what others change behind our back is put back."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def same_threads() -> Iterator[None]:
    """Keep PyTorch's number of threads.

    numba, which scanpy starts, sets the number of OpenMP threads of the whole process to that of all processors, also
    where OMP_NUM_THREADS or the caller asked for fewer; several processes side by side then wait for one another.
    """
    before = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(before)
