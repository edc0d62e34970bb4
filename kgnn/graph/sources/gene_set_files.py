"""Files of gene sets: GMT, GAF, and GO's ancestors of a set."""

import re
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from kgnn.errors import DataWarning, InputError
from kgnn.files import check_width, existing_file
from kgnn.graph.obo import living_terms, read_obo, successors
from kgnn.graph.ontology import PART_OF
from kgnn.graph.reading import text_lines

WEIGHTED = re.compile(r"(?P<gene>.*[^\s,]\s*),\s*(?P<weight>[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?)", re.ASCII)
GAF_FIELDS = 15  # required columns of GAF 2.x, of 17


@dataclass
class GeneSets:
    """Sets of genes as they stand in a file: set name → gene → weight, and what was left out while reading."""

    sets: dict[str, dict[str, float]]
    labels: dict[str, str] = field(default_factory=dict)
    rows_read: int = 0
    unit: str = "gene sets"
    dropped: dict[str, int] = field(default_factory=dict)
    replaced: int = 0  # sets or annotations of obsolete terms that went to the terms that replace them

    def count(self, reason: str, n: int = 1) -> None:
        """Note that `n` rows were left out."""
        self.dropped[reason] = self.dropped.get(reason, 0) + n


def read_gmt(path: Path) -> GeneSets:
    """Read a GMT file; see `load_gene_sets`."""
    read, listed_in_one = GeneSets({}), dict[str, None]()
    for number, line in text_lines(path):
        if not line.strip():
            continue
        read.rows_read += 1
        name, *rest = line.split("\t")
        check_width(path, len(rest))
        genes = [_weighted(gene.strip(), f"{path}:{number}") for gene in rest[1:] if gene.strip()]
        if not genes or not name.strip():
            raise InputError(
                f"{path}:{number}: {len(rest) + 1} fields and no gene or no name; a GMT line has a name, a description "
                "(may be empty) and at least one gene, separated by tabs"
            )
        if name in read.sets:
            raise InputError(f"{path}:{number}: the gene set {name[:80]!r} stands twice; rename or remove one")
        weights: dict[str, float] = {}
        for gene, weight in genes:
            weights[gene] = max(weight, weights.get(gene, 0))
        if len(genes) > len(weights):
            read.count("gene repeated in its set", len(genes) - len(weights))
        read.sets[name] = {gene: weight for gene, weight in weights.items() if weight > 0}
        if len(weights) > len(read.sets[name]):
            read.count("gene of weight 0", len(weights) - len(read.sets[name]))
        listed_in_one |= {gene: None for gene in weights if "," in gene and " " not in gene}
    if not read.sets:
        raise InputError(f"{path}: no gene set in the file")
    if listed_in_one:
        some = ", ".join(map(repr, list(listed_in_one)[:3]))
        message = f"{path}: {len(listed_in_one)} genes have a comma in their name ({some}); separate genes by tabs"
        warnings.warn(message, DataWarning, stacklevel=3)
    return read


def _weighted(text: str, where: str) -> tuple[str, float]:
    """Return the gene and its weight of a field like `TP53,1.0`; 1 where no number stands after the last comma."""
    hit = WEIGHTED.fullmatch(text)
    if hit is None:
        return text, 1.0
    weight = float(hit["weight"])
    if weight < 0 or not np.isfinite(weight):
        raise InputError(f"{where}: the weight of {hit['gene']} is {hit['weight']}; it must be 0 or more")
    return hit["gene"].strip(), weight


def read_gaf(
    path: Path,
    *,
    evidence: Iterable[str] | None = None,
    exclude_evidence: Iterable[str] = ("ND",),
    aspect: str | None = None,
) -> GeneSets:
    """Read a GAF 2.x file (GO annotation format): GO term → gene symbols; see `load_gene_sets`."""
    kept, left_out = None if evidence is None else set(evidence), set(exclude_evidence)
    read = GeneSets({}, unit="annotations")
    members: dict[str, dict[str, None]] = {}
    for number, line in text_lines(path):
        if line.startswith("!"):
            if line.lower().replace(" ", "").startswith("!gaf-version:1"):
                raise InputError(f"{path}:{number}: GAF 1 is not readable; download the GAF 2 file")
            continue
        if not line.strip():
            continue
        read.rows_read += 1
        fields = line.split("\t")
        if len(fields) < GAF_FIELDS:
            raise InputError(f"{path}:{number}: {len(fields)} fields; a GAF 2 line has {GAF_FIELDS} to 17, by tabs")
        gene, qualifier, term, code = fields[2].strip(), fields[3].strip(), fields[4].strip(), fields[6].strip()
        if not gene or not term:
            read.count("no gene symbol or term")
        elif "NOT" in qualifier.split("|"):
            read.count("qualifier NOT")
        elif (kept is not None and code not in kept) or (kept is None and code in left_out):
            read.count(f"evidence {code[:20]}")
        elif aspect is not None and fields[8].strip() != aspect:
            read.count(f"aspect other than {aspect}")
        elif gene in members.setdefault(term, {}):
            read.count("gene repeated in its set")
        else:
            members[term][gene] = None
    read.sets = {term: dict.fromkeys(genes, 1.0) for term, genes in members.items() if genes}
    return read


def gaf_aliases(path: str | Path) -> pd.DataFrame:
    """Return the synonyms in a GAF file as a table `symbol, alias`, ready for `GeneNames`."""
    pairs: dict[tuple[str, str], None] = {}
    for number, line in text_lines(existing_file(path)):
        if line.startswith("!") or not line.strip():
            continue
        fields = line.split("\t")
        if len(fields) < GAF_FIELDS:
            raise InputError(f"{path}:{number}: {len(fields)} fields; a GAF 2 line has {GAF_FIELDS} to 17, by tabs")
        pairs |= {(fields[2].strip(), alias.strip()): None for alias in fields[10].split("|") if alias.strip()}
    return pd.DataFrame(list(pairs), columns=["symbol", "alias"])


def propagate(read: GeneSets, ontology: str | Path) -> None:
    """Give each term's genes to its ancestors too (is_a and part_of), in place.

    Obsolete terms are replaced where the ontology says by which one; a `DataWarning` counts them and those it leaves.
    """
    terms = read_obo(ontology)
    living, main = living_terms(terms)
    replaced, _ = successors(terms)
    old: dict[str, str] = {}
    lost: dict[str, int] = {}
    parents: dict[str, list[str]] = {}
    for child, parent, kind in terms.edges(keys=True):
        if kind in ("is_a", "part_of", PART_OF) and parent in living:
            parents.setdefault(child, []).append(parent)
    members: dict[str, dict[str, float]] = {}
    for name, genes in read.sets.items():
        ids = name, name.rsplit("(", 1)[-1].rstrip(")").strip()
        term, size = main.get(ids[0]) or main.get(ids[1]), 1 if read.unit == "gene sets" else len(genes)
        if term is None and (term := replaced.get(ids[0]) or replaced.get(ids[1])):
            read.replaced += size
            old[next(name for name in ids if name in replaced)] = term
        if term is None:
            for name in ids:
                if "name" in terms.nodes.get(name, {}):
                    lost[name] = size
            read.count("term unknown or obsolete in the ontology", size)
            continue
        reached, stack = {term}, [term]
        while stack:
            new = [parent for parent in parents.get(stack.pop(), []) if parent not in reached]
            reached.update(new)
            stack += new
        for ancestor in sorted(reached):
            own = members.setdefault(ancestor, {})
            own |= {gene: max(weight, own.get(gene, 0)) for gene, weight in genes.items()}
    read.sets = members
    read.labels = {term: living[term]["name"] for term in read.sets}
    _tell_obsolete(read, old, lost)


def _tell_obsolete(read: GeneSets, old: dict[str, str], lost: dict[str, int]) -> None:
    told = []
    if old:
        some = ", ".join(f"{name} by {term}" for name, term in list(old.items())[:5])
        told.append(f"{read.replaced} {read.unit} name {len(old)} obsolete terms that are replaced ({some})")
    if lost:
        some = ", ".join(list(lost)[:5])
        told.append(
            f"{sum(lost.values())} name {len(lost)} obsolete terms that nothing replaces and are dropped ({some})"
        )
    if told:
        told.append("take annotations and ontology of the same release")
        warnings.warn("; ".join(told), DataWarning, stacklevel=4)
