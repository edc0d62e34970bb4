"""Was it the graph? The same model on the true graph, on scrambled, empty and complete ones, and on parts of it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import nullcontext
from math import factorial
from pathlib import Path
from typing import Any

import pandas as pd
from anndata import AnnData
from joblib import Parallel, delayed
from threadpoolctl import threadpool_limits

from kgnn.data.conditions import perturbed_genes
from kgnn.data.leaks import leaks_told, warn_of_leaks
from kgnn.data.splits import Split, merge_validation, read_split
from kgnn.errors import DataWarning, InputError
from kgnn.evaluation.metrics import evaluate, summarize
from kgnn.evaluation.variants import (
    KINDS,
    MAX_SOURCES,
    NO_GRAPH,
    SHARES,
    TRUE,
    coalition,
    complete_graph,
    subsets,
    variants,
)
from kgnn.evaluation.workers import reason_of
from kgnn.files import as_adata
from kgnn.graph import KnowledgeGraph
from kgnn.graph.coverage import SAYS_LITTLE
from kgnn.models import make_model
from kgnn.models.factory import line_of
from kgnn.names import listed
from kgnn.parts import expect, name_of, search_too
from kgnn.progress import silent, track

__all__ = [
    "KINDS",
    "MAX_SOURCES",
    "NO_GRAPH",
    "SHARES",
    "TRUE",
    "ablate",
    "coalition",
    "complete_graph",
    "shapley",
    "summarize_ablation",
    "variants",
]

Prepare = Callable[[KnowledgeGraph], KnowledgeGraph]


def ablate(
    kg: KnowledgeGraph,
    adata: AnnData,
    splits: Split | Sequence[Split],
    *,
    model: Any = "kg",
    kinds: Sequence[str] = KINDS,
    shares: Sequence[float] = SHARES,
    seeds: Sequence[int] = range(5),
    prepare: Prepare | None = None,
    exclude_targets: bool = True,
    processes: int = 1,
    options: Mapping[str, Any] | None = None,
    fit_options: Mapping[str, Any] | None = None,
) -> pd.DataFrame:
    """Fit the same model on changed graphs; return its scores, one row a variant, seed and test condition.

    Args:
        kg: the true graph, without edges learned from test conditions; where it was made from their cells, it is told.
        adata: the screen.
        splits: one split, or several (folds), of which the test conditions are pooled.
        model: an encoder of `PerturbationModel` or a model of one's own, by name, class, instance or import string, see
            `kgnn.models.make_model`.
        kinds, shares: see `variants`.
        seeds: each draws its own random graphs and its own model; variants without randomness share their graph.
        prepare: is called on each changed graph, to add what follows from its edges (`estimate_effects` on a time
            course). The complete graph is then a directed one, "effects without the network"; with
            `prepare=lambda graph: graph` these are the effects that the default model estimates at fit.
        exclude_targets: leave the perturbed genes out of the scores, whose change needs no graph.
        processes: fits side by side.
        options, fit_options: of the model, and of its `fit`.

    Returns:
        Columns `variant, seed, fold, condition` and the scores of `kgnn.metrics.evaluate`.
    """
    expect(kg, KnowledgeGraph, "kg")
    adata, seeds, kinds = as_adata(adata), listed(seeds, "seeds"), listed(kinds, "kinds")
    folds = [read_split(fold) for fold in (splits if isinstance(splits, list | tuple) else [splits])]
    conditions = {name for fold in folds for part in ("train", "test") for name in fold[part]}
    genes = {*adata.var_names, *(gene for name in conditions for gene in perturbed_genes(name))}
    options, fit_options = dict(options or {}), dict(fit_options or {})
    settings = {"model": model, "prepare": prepare, "exclude_targets": exclude_targets}
    settings["home"] = str(Path.cwd())
    uses_graph = make_model(model, kg, **options).uses_graph
    if not uses_graph:
        message = (
            f"the model {name_of(model)} takes no graph (no parameter or attribute kg): all variants will be the same"
        )
        warnings.warn(message, DataWarning, stacklevel=2)
    names = {key: options[key] for key in ("condition_key", "control") if key in options}
    settings["told"] = uses_graph and any(warn_of_leaks(kg.cells, adata, fold, **names, stacklevel=4) for fold in folds)
    directed, tasks = prepare is not None, []
    for seed in seeds:
        for name, graph in variants(kg, genes, kinds, shares=shares, seed=seed, directed=directed).items():
            tasks += [(name, graph, seed, number, fold) for number, fold in enumerate(folds)]
    jobs = (delayed(_fit)(task, adata, settings, options, fit_options) for task in tasks)
    done = track(Parallel(n_jobs=processes, return_as="generator")(jobs), "fitting", len(tasks))
    try:
        return pd.concat(list(done), ignore_index=True)
    except BrokenProcessPool as error:
        raise InputError(f"a fit failed: {reason_of(error)}") from None


def _fit(
    task: tuple[str, KnowledgeGraph | None, int, int, Split],
    adata: AnnData,
    settings: dict[str, Any],
    options: dict[str, Any],
    fit_options: dict[str, Any],
) -> pd.DataFrame:
    name, graph, seed, number, fold = task
    search_too(settings["home"])
    if graph is not None and settings["prepare"] is not None:
        graph = settings["prepare"](graph)
    with threadpool_limits(1), warnings.catch_warnings(), silent():
        if name != TRUE:
            warnings.filterwarnings("ignore", SAYS_LITTLE, DataWarning)
        fitted = make_model(settings["model"], graph, **options)
        parts = fold if fitted.by_epochs else merge_validation(fold)
        with leaks_told() if settings["told"] else nullcontext():
            fitted.fit(adata, parts, seed=seed, **fit_options)
        keys = {key: options[key] for key in ("condition_key", "control", "group_key") if key in options}
        prediction = fitted.predict(fold["test"], **line_of(fitted, fold))
        with leaks_told():
            known = merge_validation(fold)  # one centre for all models, also of those that learn from validation
            scores = evaluate(prediction, adata, known, exclude_targets=settings["exclude_targets"], **keys)
    return scores.reset_index().assign(variant=name, seed=seed, fold=number)


def summarize_ablation(scores: pd.DataFrame, score: str = "pearson_centred") -> pd.DataFrame:
    """One row a variant: `mean` over conditions of the mean over seeds with its interval, `seed_sd`, the standard
    deviation over seeds of the mean over conditions, and `difference` to the true graph, paired by condition, with its
    interval (`difference_low`, `difference_high`); an interval holds 95 % of bootstrap samples of conditions."""
    key = ["fold", "condition"]
    by_condition = scores.groupby([*key, "variant"])[score].mean().unstack()
    over_seeds = scores.groupby(["variant", "seed"])[score].mean().groupby("variant").std(ddof=1)
    rows = {}
    for name in scores["variant"].unique():
        row = summarize(by_condition[[name]]).loc[name]
        rows[name] = {"mean": row["mean"], "low": row["low"], "high": row["high"], "seed_sd": over_seeds[name]}
        if TRUE in by_condition and name != TRUE:
            gap = summarize((by_condition[name] - by_condition[TRUE]).to_frame("gap")).loc["gap"]
            rows[name] |= {"difference": gap["mean"], "difference_low": gap["low"], "difference_high": gap["high"]}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("variant")


def shapley(scores: pd.DataFrame, sources: Sequence[str], score: str = "pearson_centred") -> pd.DataFrame:
    """Contribution of each source to the score (Shapley 1953), from scores of all combinations (`kinds=["shapley"]`).

    Σ over sets S without the source of |S|! (n − |S| − 1)! / n! · (v(S with it) − v(S)), v the mean over conditions;
    the values add up to the score of all sources less that of no graph. `low` and `high` hold 95 % of bootstrap samples
    of conditions.

    Raises:
        InputError: a combination is missing.
    """
    by_condition = scores.groupby(["fold", "condition", "variant"])[score].mean().unstack()
    n = len(sources)
    missing = [coalition(part) for part in subsets(sources) if coalition(part) not in by_condition]
    if missing or NO_GRAPH not in by_condition:
        raise InputError(f"no scores of {(missing or [NO_GRAPH])[0]!r}; run ablate with kinds=['shapley']")

    def value(part: Iterable[str]) -> pd.Series:
        return by_condition[coalition(part)] if part else by_condition[NO_GRAPH]

    table = {}
    for source in sources:
        others = [name for name in sources if name != source]
        gain = sum(
            factorial(len(part)) * factorial(n - len(part) - 1) / factorial(n) * (value((*part, source)) - value(part))
            for part in [(), *subsets(others)]
        )
        table[source] = gain
    return summarize(pd.DataFrame(table))[["mean", "low", "high"]].rename_axis("source")
