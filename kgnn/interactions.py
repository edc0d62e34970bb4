"""`kgnn.evaluation.interactions` by its short name."""

from kgnn.evaluation.interactions import *  # noqa: F403
