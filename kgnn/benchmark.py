"""`kgnn.evaluation.benchmark` by its short name, with the page that it writes."""

from functools import partial, update_wrapper

from kgnn.evaluation.benchmark import read_config
from kgnn.evaluation.benchmark import run_benchmark as _run
from kgnn.plotting.report import write_report

__all__ = ["read_config", "run_benchmark"]

run_benchmark = update_wrapper(partial(_run, page=write_report), _run)
