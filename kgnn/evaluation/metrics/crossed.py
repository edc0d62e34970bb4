"""Control cells halved: a model learns from one half, the truth is measured against the other."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData

from kgnn.data.effects import is_effects
from kgnn.data.screen import read_screen
from kgnn.data.splits import Split, read_split
from kgnn.errors import InputError
from kgnn.evaluation.metrics.references import mean_scores
from kgnn.evaluation.metrics.runner import score_conditions
from kgnn.evaluation.metrics.table import Choice, choose
from kgnn.evaluation.metrics.truth import read_truth
from kgnn.files import as_adata
from kgnn.models.factory import line_of
from kgnn.parts import check_number


def control_halves(
    adata: AnnData,
    seed: int = 0,
    *,
    condition_key: str = "condition",
    control: Any = None,
    group_key: str | None = None,
) -> tuple[AnnData, AnnData]:
    """Return the screen twice, with all perturbed cells and one and the other random half of the control cells.

    With `group_key` each group's control cells are halved.

    Raises:
        InputError: a group with one control cell; a table of effects, which has none.
    """
    adata = as_adata(adata)
    check_number(seed, "seed", 0, whole=True)
    if is_effects(adata):
        raise InputError(
            "a table of effects has no control cells to halve; leave crossed scores out, evaluate says the rest"
        )
    screen = read_screen(adata, condition_key=condition_key, control=control, group_key=group_key)
    rng, halves = np.random.default_rng(seed), ([], [])  # type: ignore[var-annotated]
    for group in screen.group_means.index:
        cells = rng.permutation(screen.controls[screen.group[screen.controls] == group])
        if len(cells) < 2:
            where = f" of {group!r}" if group else ""
            raise InputError(f"one control cell{where}, which cannot be halved")
        for half, part in zip(halves, np.array_split(cells, 2), strict=True):
            half.append(part)
    one, other = (adata[np.setdiff1d(np.arange(adata.n_obs), np.concatenate(half))].copy() for half in halves[::-1])
    return one, other


def crossed_scores(
    make: Callable[[], Any],
    adata: AnnData,
    split: Split,
    *,
    n_draws: int = 2,
    metrics: Choice | Iterable[Choice] | None = ("pearson_delta", "pds_cosine"),
    n_top: int = 20,
    exclude_targets: bool = False,
    condition_key: str = "condition",
    control: Any = None,
    group_key: str | None = None,
    seed: int = 0,
    fit_options: Mapping[str, Any] | None = None,
) -> pd.DataFrame:
    """Scores of a model fitted with one half of the control cells and scored against the other, one row a condition.

    Nothing of the noise of the control cells is in both the prediction and the truth, whatever the model does with
    them: this is exact where `pearson_crossed` of a finished prediction can only bound. The predicted change is
    `layers["delta"]`, else the difference to the control mean that the model was fitted with; it is added to the
    control mean of the other half, so that scores of changes are meant: `pearson_delta`, `pds_cosine`.

    Args:
        make: returns an unfitted model, such as `lambda: kgnn.models.make_model("kg", kg)`; it is fitted 2 · n_draws
        times.
        n_draws: halvings, each used both ways; the scores are means over all.
        seed: of the halvings; the other arguments as for `evaluate`.
        fit_options: of the model's `fit`.

    Raises:
        InputError: `make` is no function; a group with one control cell; as `evaluate`.
    """
    if not callable(make):
        raise InputError("make is no function; give one that returns an unfitted model: lambda: make_model('kg', kg)")
    check_number(n_draws, "n_draws", 1, whole=True)
    chosen, adata, split = choose(metrics, n_top), as_adata(adata), read_split(split, control)
    names = {"condition_key": condition_key, "control": control, "group_key": group_key}
    tables = []
    for draw in range(n_draws):
        one, other = control_halves(adata, seed + draw, **names)
        for fitted, scored in ((one, other), (other, one)):
            model = make()
            model.fit(fitted, split, **(fit_options or {}))
            prediction = model.predict(split["test"], **line_of(model, split))
            if "delta" not in prediction.layers:
                start = read_screen(fitted, **names)
                genes = prediction[:, start.genes].copy()
                genes.layers["delta"] = np.asarray(genes.X) - start.control_mean
                prediction = genes
            truth = read_truth(scored, split, names, seed, changes=True)
            tables.append(score_conditions(prediction, truth, chosen, n_top, exclude_targets))
    return mean_scores(tables)
