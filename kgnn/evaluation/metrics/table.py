"""All metrics by name, in the order of the columns, and how one's own join them."""

import re
from collections.abc import Callable, Iterable

from kgnn.errors import InputError
from kgnn.evaluation.metrics.centroid_accuracy import centroid_accuracy
from kgnn.evaluation.metrics.coverage_90 import coverage_90
from kgnn.evaluation.metrics.coverage_90_changed import coverage_90_changed
from kgnn.evaluation.metrics.de_auprc import de_auprc
from kgnn.evaluation.metrics.de_overlap import de_overlap
from kgnn.evaluation.metrics.direction_fidelity import direction_fidelity
from kgnn.evaluation.metrics.discrimination import discrimination
from kgnn.evaluation.metrics.e_distance import e_distance
from kgnn.evaluation.metrics.fold_change_error import fold_change_error
from kgnn.evaluation.metrics.inverse_rank import inverse_rank
from kgnn.evaluation.metrics.mae import mae
from kgnn.evaluation.metrics.mse import mse
from kgnn.evaluation.metrics.mse_ratio import mse_unbiased, size_unbiased
from kgnn.evaluation.metrics.pds_cosine import pds_cosine
from kgnn.evaluation.metrics.pearson import pearson
from kgnn.evaluation.metrics.pearson_centred import pearson_centred
from kgnn.evaluation.metrics.pearson_crossed import pearson_crossed
from kgnn.evaluation.metrics.pearson_delta import pearson_delta
from kgnn.evaluation.metrics.reach import reach
from kgnn.evaluation.metrics.record import Metric
from kgnn.evaluation.metrics.significant_jaccard import significant_jaccard
from kgnn.evaluation.metrics.weighted_mse import weighted_mse
from kgnn.evaluation.metrics.weighted_r2 import weighted_r2
from kgnn.evaluation.metrics.wrong_direction import wrong_direction
from kgnn.names import listed
from kgnn.parts import check_number, resolve

_OURS = [mse, mae, pearson, pearson_delta, pearson_centred, pearson_crossed, pds_cosine, discrimination]
_OURS += [centroid_accuracy, inverse_rank, mse_unbiased, size_unbiased, weighted_mse, weighted_r2, wrong_direction]
_OURS += [direction_fidelity, reach, significant_jaccard, de_overlap, de_auprc, fold_change_error, e_distance]
_OURS += [coverage_90, coverage_90_changed]
METRICS = {metric.name: metric for metric in _OURS}
RATIOS = {"mse_ratio": ("mse_unbiased", "size_unbiased")}  # of sums over conditions, see `summarize`

Choice = str | Metric | Callable[..., float]


def choose(metrics: Choice | Iterable[Choice] | None, n_top: int) -> list[Metric]:
    """Return the records of names, import strings, functions and records; of None, the table's.

    Raises:
        InputError: an unknown name, no function of the right parameters, two of one column.
    """
    check_number(n_top, "n_top", 1, whole=True)
    alone = isinstance(metrics, str) or callable(metrics)
    chosen = METRICS if metrics is None else [metrics] if alone else listed(metrics, "metrics")
    parts = [part for name in chosen for part in (RATIOS.get(name, (name,)) if isinstance(name, str) else (name,))]
    found = [_record(resolve(part, METRICS, "metric")) for part in parts]
    columns = ["n_cells", "subgroup", *(column for metric in found for column in metric.columns(n_top))]
    for column in columns:
        if columns.count(column) > 1:
            raise InputError(f"two columns are called {column!r}; name one's own otherwise: metric(name=…)(function)")
    return found


def _record(part: Choice) -> Metric:
    if isinstance(part, Metric):
        return part
    name = getattr(part, "__name__", type(part).__name__)
    return Metric(name, part, getattr(part, "larger_is_better", True))  # type: ignore[arg-type]


def larger_is_better(column: str) -> bool:
    """Whether larger is better in a column of the scores; so it is of one that is not the table's."""
    column = re.sub(r"_top\d+$", "", column)
    metric = METRICS.get(RATIOS.get(column, (column,))[0])
    return metric is None or metric.larger_is_better
