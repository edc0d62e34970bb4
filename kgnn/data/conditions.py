"""What a condition's name means: which genes are perturbed, and what is control."""

from collections.abc import Iterable

import pandas as pd
from anndata import AnnData

from kgnn.errors import InputError

CONTROL_LABELS = ("control", "ctrl", "non-targeting", "NT")
SEPARATOR = "+"
CONTROL = ""  # the name of the control condition, in which no gene is perturbed

Genes = tuple[str, ...]


class ConditionNames:
    """Reads condition labels: `A`, `A+ctrl`, `ctrl+A` and `A+B`, `B+A`, and more genes likewise.

    Args:
        control: the label, or labels, of control cells; by default any of `control`, `ctrl`, `non-targeting`,
            `NT`, in any case.
    """

    def __init__(self, control: str | Iterable[str] | None = None) -> None:
        self.exact = control is not None
        labels = CONTROL_LABELS if control is None else [control] if isinstance(control, str) else list(control)
        self.labels = frozenset(labels if self.exact else (label.lower() for label in labels))

    def is_control(self, label: str) -> bool:
        return (label if self.exact else label.lower()) in self.labels

    def genes(self, label: str) -> Genes:
        """Return the perturbed genes of a label, each once, in alphabetical order; () for control.

        Raises:
            InputError: an empty label or an empty part of one (`A++B`).
        """
        label = str(label).strip()
        if self.is_control(label):
            return ()
        parts = [part.strip() for part in label.split(SEPARATOR)]
        if not all(parts):
            raise InputError(
                f"condition {label!r} has an empty part; write genes joined by '+', for example KLF1+MAP2K6"
            )
        return tuple(sorted({part for part in parts if not self.is_control(part)}))

    def canonical(self, label: str) -> str:
        """Return the one name of a condition: its genes in alphabetical order joined by `+`; '' for control."""
        return SEPARATOR.join(self.genes(label))


def canonical_labels(adata: AnnData, condition_key: str, control: str | Iterable[str] | None) -> pd.Series:
    """Return each cell's canonical condition name, '' for control.

    Raises:
        InputError: no such column, cells without a label.
    """
    if condition_key not in adata.obs:
        columns = ", ".join(map(str, adata.obs.columns)) or "none"
        raise InputError(
            f"no column {condition_key!r} in adata.obs; it has {columns}. Give the right one as condition_key="
        )
    labels = adata.obs[condition_key]
    if labels.isna().any():
        raise InputError(
            f"obs[{condition_key!r}]: {int(labels.isna().sum())} cells have no condition; label or drop them"
        )
    names = ConditionNames(control)
    mapping = {label: names.canonical(label) for label in labels.astype(str).unique()}
    return labels.astype(str).map(mapping)
