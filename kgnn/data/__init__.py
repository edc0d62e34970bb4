"""What was measured: AnnData → conditions, splits, batches."""

from kgnn.data.atlas import simulate_atlas
from kgnn.data.batches import Batch, training_batches
from kgnn.data.conditions import ConditionNames
from kgnn.data.differential import top_de_genes
from kgnn.data.drugs import simulate_drugs
from kgnn.data.effects import effects, long_table
from kgnn.data.labels import parse_conditions
from kgnn.data.screen import Screen, read_screen
from kgnn.data.simulate import simulate
from kgnn.data.splits import (
    Split,
    leave_one_out,
    load_split,
    merge_validation,
    save_split,
    split,
    training_cells,
)

__all__ = [
    "Batch",
    "ConditionNames",
    "Screen",
    "Split",
    "effects",
    "leave_one_out",
    "load_split",
    "long_table",
    "merge_validation",
    "parse_conditions",
    "read_screen",
    "save_split",
    "simulate",
    "simulate_atlas",
    "simulate_drugs",
    "split",
    "top_de_genes",
    "training_batches",
    "training_cells",
]
