"""Differential expression through scanpy leaves the process as it was."""

import os
import subprocess
import sys

CODE = """
import torch
from kgnn.data import read_screen, simulate, top_de_genes
screen = read_screen(simulate(n_genes=30, n_singles=4, n_pairs=0, cells_per_condition=8, n_controls=9, seed=0))
before = torch.get_num_threads()
top_de_genes(screen, screen.conditions)
print(before, torch.get_num_threads())
"""


def test_the_number_of_threads_stays():
    """numba sets that of the whole process."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    environment.pop("NUMBA_NUM_THREADS", None)
    done = subprocess.run([sys.executable, "-c", CODE], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1", "1"]
