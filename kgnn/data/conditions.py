"""What a condition's name means: which genes or other nodes are perturbed, at which dose, and what is control."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from kgnn.errors import InputError
from kgnn.names import as_name, as_number

CONTROL_LABELS = ("control", "ctrl", "non-targeting", "NT")
SEPARATOR, AT = "+", "@"
GENE = "gene:"  # before a name that is a gene's and another node's as well
CONTROL = ""  # the name of the control condition, in which no gene is perturbed

Genes = tuple[str, ...]


class Part(NamedTuple):
    """What is perturbed: a node's name, `KLF1`, `Dabrafenib`, `drug:Dabrafenib`; its dose, None where none is told."""

    name: str
    dose: float | None = None

    @property
    def gene(self) -> str:
        return self.name.removeprefix(GENE)

    def __str__(self) -> str:
        return self.name if self.dose is None else f"{self.name}{AT}{np.format_float_positional(self.dose, trim='-')}"


def read_part(text: str) -> Part:
    """Read `KLF1` or `Dabrafenib@0.5`; what stands behind an `@` and is no number belongs to the name (`TRA@`)."""
    name, _, written = text.rpartition(AT)
    dose = as_number(written)
    return Part(text) if dose is None or not name.strip() else Part(name.strip(), dose)


def read_parts(condition: str) -> list[Part]:
    """Return what a canonical condition perturbs."""
    return [read_part(part) for part in condition.split(SEPARATOR)] if condition else []


def perturbed_genes(condition: str) -> Genes:
    """Return the genes, or other nodes, of a canonical condition name, without doses."""
    if AT not in condition and GENE not in condition:
        return tuple(condition.split(SEPARATOR)) if condition else ()
    return tuple(part.gene for part in read_parts(condition))


class ConditionNames:
    """Reads condition labels: `A`, `A+ctrl`, `ctrl+A` and `A+B`, `B+A`, and more genes likewise; `A@0.5` at a dose.

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
        """Return what a label perturbs, in its order, each as `A` or `A@0.5`; none for control.

        Raises:
            InputError: an empty label or an empty part of one (`A++B`); a dose that is not above 0.
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
        found = [part for part in map(read_part, parts) if not self.is_control(part.name)]
        for part in found:
            if part.dose is not None and not 0 < part.dose < math.inf:
                raise InputError(
                    f"condition {label!r}: the dose {part.dose:g} of {part.name!r} is not above 0; label cells without "
                    "a dose as control"
                )
        return [str(part) for part in found]

    def genes(self, label: Any) -> Genes:
        """Return the parts of a label, each once, in alphabetical order; () for control.

        Raises:
            InputError: as `parts`; one gene or drug at two doses.
        """
        parts = sorted(set(self.parts(label)))
        names = [read_part(part).name for part in parts]
        if len({*names}) < len(names):
            raise InputError(f"condition {label!r} gives {max(names, key=names.count)!r} twice; write one dose of each")
        return tuple(parts)

    def canonical(self, label: Any) -> str:
        """Return the one name of a condition: its genes in alphabetical order joined by `+`; '' for control."""
        return SEPARATOR.join(self.genes(label))
