"""How many of some genes are known to a graph or a model."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterable
from typing import NamedTuple

from kgnn.errors import DataWarning, InputError
from kgnn.graph.identifiers import looks_like
from kgnn.names import ENOUGH

SAYS_LITTLE = r".*(no neighbour in the graph|in the graph, which lacks|as nodes of other types)"  # of changed graphs


class Coverage(NamedTuple):
    """How many of `total` names are known."""

    known: int
    total: int

    @property
    def share(self) -> float:
        return self.known / self.total if self.total else 1.0


def check_coverage(genes: Iterable[str], known: Collection[str], what: str, of: str, *, none: bool = True) -> Coverage:
    """Count how many genes are known, and say so where they are few.

    Args:
        genes: names; known: those that are known (a set, for speed).
        what: what the genes are ("measured genes"); of: what knows them ("the graph").
        none: whether it is an error that none is known; it always is where the names look like another namespace.

    Raises:
        InputError: none is known. Fewer than half are a `DataWarning`.
    """
    names = sorted(set(genes))
    missing = [name for name in names if name not in known]
    found = Coverage(len(names) - len(missing), len(names))
    if not names or not known or found.share >= ENOUGH:
        return found
    ours, theirs = looks_like(names), looks_like(known)
    other = ours.split(" (")[0] != theirs.split(" (")[0]
    many, verb = f"{found.known or 'none'} of the {found.total}", "is" if found.known < 2 else "are"
    what_to_do = "bring them to one namespace (kgnn.graph.GeneNames, kg.map_genes) and check the species"
    first = ", ".join(missing[:3]) + (", …" if len(missing) > 3 else "")
    told = (
        f"{many} {what} {verb} in {of}, which lacks {first}: they look like {ours}, its genes like {theirs}"
        f"{f'; {what_to_do}' if other else ''}"
    )
    if not found.known and (none or other):
        raise InputError(told)
    warnings.warn(told, DataWarning, stacklevel=4)
    return found
