"""What predicts: one shape for the closed-form model, trained encoders, baselines and a user's own class."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np
import pandas as pd
from anndata import AnnData

from kgnn.data.screen import Screen
from kgnn.errors import DataWarning, InputError
from kgnn.graph import KnowledgeGraph
from kgnn.parts import is_number

Strength = float | Mapping[str, float]
STRONGEST = 10.0  # an activation beyond it is a slip of the pen
FAR = 100.0  # a change of a training condition so many times the largest expression was not learned from it
WORSE = 10.0  # an error on the training conditions so many times that of their mean was not learned either


class Training(NamedTuple):
    """What a predictor learns from.

    screen: the cells; conditions, validation: canonical names of the training and validation conditions; nodes: every
    gene that can be perturbed (measured, in the graph, or perturbed in the data); kg: the knowledge; strength: what the
    data say that a perturbation does (`obs["perturbation_type"]`), a number or one a gene.
    """

    screen: Screen
    conditions: list[str]
    validation: list[str]
    nodes: pd.Index
    kg: KnowledgeGraph | None
    strength: Strength = -1.0


class Known(NamedTuple):
    """What a saved predictor needs besides its own state: measured genes, gene nodes, knowledge, control mean [genes],
    and the folder, for messages."""

    genes: pd.Index
    nodes: pd.Index
    kg: KnowledgeGraph | None
    control_mean: np.ndarray
    path: str


class Start(NamedTuple):
    """Where predicted changes start from: mean control expression [genes]; the cell line's name, where one is told."""

    mean: np.ndarray
    line: str | None = None


class Changes(NamedTuple):
    """Predicted change and its variance (None where there is none), [conditions, genes]."""

    change: np.ndarray
    variance: np.ndarray | None = None


class Predictor(ABC):
    """One way to predict perturbations. Options come by keyword into the constructor; `fit` sets the rest.

    A class of one's own fits wherever a name does: `PerturbationModel(kg, encoder=Mine)`.

    Attributes:
        by_epochs: trained by epochs: validation conditions choose the best one, and `fit` takes Lightning's options.
            Otherwise they may join training (`kgnn.data.merge_validation`).
        uses_graph: whether the knowledge enters at all.
        at_once: conditions predicted at a time.
        takes_missing: whether it learns from effects of which some are missing; else they count as the gene's mean.
        any_node: whether nodes of all types of the graph can be perturbed; else whatever is perturbed counts as a gene.
        by_dose: whether it tells doses apart.
        asks_strength: whether it wants to know from the data what a perturbation does (`Training.strength`).
        alone: what `fit` says of perturbed genes of which the graph says nothing, where it is trained by epochs.
        history: validation score an epoch, or the loss a step.
        signal: number of the signal that ended training early.
    """

    by_epochs: ClassVar[bool] = False
    uses_graph: bool = True
    takes_missing: ClassVar[bool] = False
    any_node: ClassVar[bool] = False
    by_dose: ClassVar[bool] = True
    at_once: int = 256
    asks_strength: bool = False
    alone: ClassVar[str] = "their embeddings learn from their own conditions alone"
    history: Sequence[float] = ()
    signal: int | None = None

    @abstractmethod
    def fit(self, data: Training, *, seed: int = 0) -> None:
        """Learn; further keyword arguments are the options of `PerturbationModel.fit`."""

    @abstractmethod
    def predict(self, conditions: list[str], start: Start) -> Changes:
        """Return the changes of canonical conditions; none for control, ''."""

    @abstractmethod
    def state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Return what `restore` needs: what can be written as JSON, and arrays."""

    @abstractmethod
    def restore(self, known: Known, config: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        """Take up a saved state."""

    def graph(self, kg: KnowledgeGraph | None) -> KnowledgeGraph | None:
        """The graph to keep with a saved model, given the user's."""
        return kg if self.uses_graph else None

    def own_options(self) -> dict[str, Any]:
        """Options of the constructor that are more than JSON can hold: `state` keeps and `restore` returns them."""
        return {}

    def perturbable(self, genes: pd.Index) -> Collection[str]:
        """What can be perturbed: `genes`, and nodes of other types."""
        return genes

    def unlinked(self) -> set[str]:
        """Genes of which a graph with edges says nothing."""
        return set()

    def explain(self, condition: str, n_genes: int) -> pd.DataFrame:
        """See `PerturbationModel.explain`."""
        raise self._only_kg("explain")

    def relatives(self, condition: str, n: int) -> pd.DataFrame:
        """See `PerturbationModel.relatives`."""
        raise self._only_kg("relatives")

    def sources(self) -> pd.DataFrame:
        """See `PerturbationModel.sources_`."""
        raise self._only_kg("sources_")

    @staticmethod
    def _only_kg(what: str) -> InputError:
        return InputError(f"{what} needs a fitted model of encoder='kg'; fit one on the same data and graph")


def prefixed(arrays: Mapping[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    """The arrays whose names begin with `prefix`, without it."""
    return {name.removeprefix(prefix): value for name, value in arrays.items() if name.startswith(prefix)}


def read_strength(strength: Strength) -> Strength:
    """Check what a perturbation does, −1 knock-out to 10: a number, or one a gene."""
    if isinstance(strength, Mapping):
        return {gene: _read_strength(value, f" of {gene}") for gene, value in strength.items()}
    return _read_strength(strength, "")


def _read_strength(value: Any, of: str) -> float:
    if not is_number(value) or not -1 <= value <= STRONGEST:
        raise InputError(
            f"strength {value!r}{of}: give −1 for a knock-out, between −1 and 0 for a knock-down, above 0 and at most "
            f"{STRONGEST:.0f} for an activation"
        )
    return float(value)


def strengths_of(genes: Sequence[str], strength: Strength) -> np.ndarray:
    """Strength of each perturbed gene; genes that are not named are knocked out."""
    of_gene = [strength.get(gene, -1.0) if isinstance(strength, Mapping) else strength for gene in genes]
    return np.array(of_gene, dtype=np.float64)


def check_finite(
    found: np.ndarray, conditions: Sequence[str], genes: pd.Index, largest: float | None = None, what: str = "changes"
) -> None:
    """Refuse predictions [conditions, genes] that are not finite, or beyond `largest`, with place and remedy."""
    with np.errstate(invalid="ignore"):
        wrong = ~np.isfinite(found) if largest is None else ~(np.abs(found) <= largest)
    if wrong.any():
        row, column = np.argwhere(wrong)[0]
        share = "all" if wrong.all() else f"{int(wrong.sum())} of {wrong.size}"
        raise InputError(
            f"{share} predicted {what} are NaN, infinite or far beyond the data, first that of {genes[column]!r} "
            f"under {conditions[row]!r} ({found[row, column]:.3g}): training diverged; lower learning_rate=, or "
            "look for odd values in the data"
        )


def check_changes(found: Any, conditions: Sequence[str], genes: pd.Index, largest: float | None = None) -> Changes:
    """Return what a predictor predicted, or refuse another shape, values that are not finite or beyond `largest`."""
    shape = (len(conditions), len(genes))
    parts = [part for part in found if part is not None] if isinstance(found, Changes) else [found]
    shapes = [list(part.shape) if isinstance(part, np.ndarray) else type(part).__name__ for part in parts]
    if not isinstance(found, Changes) or found.change is None or any(s != list(shape) for s in shapes):
        raise InputError(
            f"predict returned {' and '.join(map(str, shapes))}; it must return Changes(change, variance or None), "
            f"arrays [conditions, genes] = {list(shape)}"
        )
    check_finite(found.change, conditions, genes, largest)
    if found.variance is not None:
        check_finite(found.variance, conditions, genes, what="variances")
    return found


def check_learned(predictor: Predictor, data: Training) -> None:
    """Refuse training conditions predicted far beyond the data; tell those predicted much worse than by their mean."""
    some, screen = data.conditions[: predictor.at_once], data.screen
    largest = FAR * float(np.abs(screen.x.data).max())
    found = check_changes(predictor.predict(some, Start(screen.control_mean)), some, screen.genes, largest)
    if not predictor.by_epochs:
        return
    observed = np.where(screen.measures(some), screen.changes(some).to_numpy(), np.nan)
    known = np.isfinite(observed).any(axis=0)
    error, of_mean = (
        float(np.nansum(np.square(observed[:, known] - expected)))
        for expected in (found.change[:, known], np.nanmean(observed[:, known], axis=0))
    )
    if error > WORSE * of_mean > 0:
        warnings.warn(
            f"the squared error on {len(some)} training conditions is {error / of_mean:.3g} times that of their mean: "
            "training diverged, or has hardly begun; lower learning_rate=, or raise max_epochs=",
            DataWarning,
            stacklevel=3,
        )


def check_learnable(data: Training) -> None:
    """Refuse a screen from which nothing can be learned."""
    if not data.conditions:
        raise InputError("no training condition; the split's train group is empty")
    if len(data.conditions) < 2:
        raise InputError(f"one training condition only ({data.conditions[0]!r}); at least two are needed")
    if len(data.screen.genes) < 2:
        which = f"one gene only is measured ({data.screen.genes[0]!r})" if len(data.screen.genes) else "no gene"
        raise InputError(f"{which}; give at least two")
    if not data.screen.x.nnz or not np.any(data.screen.x.data):
        raise InputError("X is zero everywhere; put the log-normalised expression there")
    values = data.screen.x.data
    if data.screen.x.nnz == np.prod(data.screen.x.shape) and values.min() == values.max():
        raise InputError(f"X is {values[0]:g} everywhere; put the log-normalised expression there")


def as_prediction(found: Any, conditions: Sequence[str], genes: pd.Index) -> AnnData:
    """What a user's own model predicted as AnnData: an array [conditions, genes] of expression, or an AnnData."""
    if isinstance(found, AnnData):
        if "condition" not in found.obs:
            found = found.copy()
            found.obs["condition"] = list(conditions) if found.n_obs == len(conditions) else found.obs_names
        return found
    if isinstance(found, pd.DataFrame):
        missing = [name for name in conditions if name not in found.index]
        missing += [gene for gene in genes if gene not in found.columns]
        if missing:
            raise InputError(
                f"predict returned a table without {missing[0]!r}; it needs a row a condition, a column a gene"
            )
        found = found.loc[list(conditions), list(genes)]
    found = np.asarray(found, dtype=np.float32)
    if found.shape != (len(conditions), len(genes)):
        raise InputError(
            f"predict returned the shape {found.shape}; expression of {len(conditions)} conditions × {len(genes)} "
            "genes is expected, or an AnnData with obs['condition']"
        )
    check_finite(found, conditions, genes)
    obs = pd.DataFrame({"condition": list(conditions)}, index=pd.Index(conditions, dtype=object))
    return AnnData(found, obs=obs, var=pd.DataFrame(index=genes))
