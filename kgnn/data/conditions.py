"""What a condition's name means: which genes are perturbed, and what is control."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from kgnn.errors import InputError
from kgnn.names import as_name

CONTROL_LABELS = ("control", "ctrl", "non-targeting", "NT")
SEPARATOR = "+"
CONTROL = ""  # the name of the control condition, in which no gene is perturbed

Genes = tuple[str, ...]


class ConditionNames:
    """Reads condition labels: `A`, `A+ctrl`, `ctrl+A` and `A+B`, `B+A`, and more genes likewise.

    Args:
        control: the label, or labels, of control cells, numbers too; by default any of `control`, `ctrl`,
            `non-targeting`, `NT`, in any case.
    """

    def __init__(self, control: Any = None) -> None:
        self.exact = control is not None
        if isinstance(control, Mapping):
            raise InputError("control is a mapping; give a label, or a list of them")
        several = isinstance(control, Iterable) and not isinstance(control, str | bytes)
        given = CONTROL_LABELS if control is None else list(control) if several else [control]
        labels = [as_name(label) for label in given]
        if not labels or None in labels:
            raise InputError(f"control={control!r}: no label of control cells; give one, or a list of them")
        self.labels = frozenset(label if self.exact else label.lower() for label in labels if label)

    def is_control(self, label: str) -> bool:
        return (label if self.exact else label.lower()) in self.labels

    def parts(self, label: Any) -> list[str]:
        """Return the perturbed genes of a label as they stand in it; none for control.

        Raises:
            InputError: an empty label or an empty part of one (`A++B`).
        """
        label = as_name(label)
        if label is None:
            raise InputError("a condition is missing or has an empty part; give names like KLF1 or KLF1+MAP2K6")
        if self.is_control(label):
            return []
        parts = [part.strip() for part in label.split(SEPARATOR)]
        if not all(parts):
            raise InputError(
                f"condition {label!r} has an empty part; write genes joined by '+', for example KLF1+MAP2K6"
            )
        return [part for part in parts if not self.is_control(part)]

    def genes(self, label: Any) -> Genes:
        """Return the perturbed genes of a label, each once, in alphabetical order; () for control."""
        return tuple(sorted(set(self.parts(label))))

    def canonical(self, label: Any) -> str:
        """Return the one name of a condition: its genes in alphabetical order joined by `+`; '' for control."""
        return SEPARATOR.join(self.genes(label))
