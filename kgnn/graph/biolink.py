"""Names of node types and relations: written one way, and those that the Biolink Model knows.

`biolink.json` lists the model's categories and predicates, with its version, out of the package biolink-model (CC0).
"""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

GENES = {"gene", "genes", "gene_protein", "gene_or_gene_product"}
CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


def plain(text: str) -> str:
    """Write a name in lower case, its words joined by `_`; empty where nothing is left.

    `biolink:BiologicalProcess` → `biological_process`, `Side Effect` → `side_effect`, `off-label use` →
    `off-label_use`, `E+` → `e+`.
    """
    word = text.strip()
    if word.startswith("biolink:"):
        word = CAMEL.sub("_", word.removeprefix("biolink:"))
    return re.sub(r"[^\w+<>-]+", "_", word.lower()).strip("_")


@cache
def node_type(text: str) -> str:
    """Write a node type as `plain` does; what is one of the usual names of genes is `gene`."""
    word = plain(text)
    return "gene" if word in GENES else word


@cache
def model() -> dict[str, Any]:
    """Return the lists of the Biolink Model: `version`, `categories`, and `predicates` with their inverses."""
    return json.loads(Path(__file__).with_name("biolink.json").read_text(encoding="utf-8"))


def inverse(predicate: str) -> str | None:
    """Return the inverse of a predicate (itself where it is symmetric), None where Biolink names none."""
    return model()["predicates"].get(predicate)
