"""`kgnn.evaluation.controls` by its short name."""

from kgnn.evaluation.controls import *  # noqa: F403
