"""`kgnn.evaluation.benchmark` by its short name."""

from kgnn.evaluation.benchmark import *  # noqa: F403
