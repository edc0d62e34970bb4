"""`kgnn.evaluation.metrics` by its short name."""

from kgnn.evaluation.metrics import *  # noqa: F403
