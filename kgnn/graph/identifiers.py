"""Gene identifiers: symbols, Ensembl and Entrez ids, aliases.

Nothing is fetched: the tables come from the user's files.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from kgnn.errors import DataWarning, InputError
from kgnn.graph.operations import recoded
from kgnn.graph.reading import read_table
from kgnn.graph.tables import GraphTables
from kgnn.names import as_name, as_names, listed, warn_if_damaged
from kgnn.parts import expect

NAMESPACES = ("symbol", "ensembl", "entrez")
# what each column of a table of genes is called by its makers: this project, NCBI gene_info, HGNC, GENCODE, MGI
COLUMNS = {
    "symbol": ("symbol", "Symbol", "gene_symbol", "gene_name", "Approved symbol", "{species}_symbol"),
    "ensembl": ("ensembl_id", "ensembl_gene_id", "gene_id", "Ensembl gene ID", "ensembl"),
    "entrez": ("entrez", "entrez_id", "GeneID", "NCBI Gene ID", "{species}_entrez"),
    "alias": ("alias", "alias_symbol", "Synonyms", "synonyms", "Alias symbols"),
    "previous": ("prev_symbol", "previous_symbol", "previous", "Previous symbols"),
}  # fmt: skip
LOOKS = {  # what an identifier looks like, tried in this order
    "Ensembl gene ids (human)": r"ENSG\d{11}(\.\d+)?",
    "Ensembl gene ids (mouse)": r"ENSMUSG\d{11}(\.\d+)?",
    "Ensembl gene ids": r"ENS[A-Z]{0,4}G\d{11}(\.\d+)?",
    "Ensembl transcript or protein ids": r"(\d+\.)?ENS[A-Z]{0,4}[TP]\d{11}(\.\d+)?",
    "Entrez numbers": r"\d+(\.0)?",
    "HGNC numbers": r"HGNC:\d+",
    "MGI numbers": r"MGI:\d+",
    "UniProt accessions": r"[OPQ]\d[A-Z0-9]{3}\d|[A-NR-Z]\d([A-Z][A-Z0-9]{2}\d){1,2}",
    "mouse symbols (capital first)": r"[A-Z][a-z][A-Za-z0-9.-]*\d*",
    "human symbols (capitals)": r"[A-Z][A-Z0-9.-]*(orf\d+)?",
}


def looks_like(names: Iterable[str]) -> str:
    """Say what most of the names look like, and how many; for messages."""
    names = [name for name in as_names(list(names)) if name is not None]
    rest, found = names, {}
    for kind, pattern in LOOKS.items():
        fits = [bool(re.fullmatch(pattern, str(name))) for name in rest]
        found[kind] = sum(fits)
        rest = [name for name, fit in zip(rest, fits, strict=True) if not fit]
    kind = max(found, key=found.__getitem__, default="")
    return f"{kind} ({found[kind]} of {len(names)})" if names and found[kind] else "no namespace that is known"


class GeneNames:
    """The names of one species' genes, from tables of symbols, Ensembl ids, Entrez numbers and aliases.

    Args:
        tables: files or DataFrames, told by their columns: `symbol, entrez, alias` (one row an alias); `ensembl_id,
            symbol`; HGNC's complete set (`symbol, ensembl_gene_id, entrez_id, alias_symbol, prev_symbol`); NCBI's
            gene_info (`GeneID, Symbol, Synonyms`); an orthologue table (`mouse_symbol, mouse_entrez`). Several
            aliases in a field are joined by `|`.
        species: for example `human`; chooses the columns of an orthologue table, and is kept on the nodes.

    Example:
        >>> human = GeneNames("human_aliases.tsv.gz", "human_ensembl.tsv.gz")
        >>> human.map(["TP53", "p53", "ENSG00000141510.18", "7157"])["id"].tolist()
        ['TP53', 'TP53', 'TP53', 'TP53']
    """

    def __init__(self, *tables: str | Path | pd.DataFrame, species: str = "human") -> None:
        self.species = species
        self.symbols: dict[str, None] = {}
        self._symbols_of: dict[str, dict[str, dict[str, None]]] = {
            kind: {} for kind in ("ensembl", "entrez", "alias", "previous")
        }
        if not tables:
            raise InputError("give at least one table of genes")
        for table in tables:
            self._read(table)
        self._case: dict[str, set[str]] = {}
        for symbol in self.symbols:
            self._case.setdefault(symbol.lower(), set()).add(symbol)
        self._lower: dict[str, dict[str, set[str]]] = {"previous": {}, "alias": {}}
        for kind, lower in self._lower.items():
            for name, symbols in self._symbols_of[kind].items():
                lower.setdefault(name.lower(), set()).update(symbols)
        self._ids: dict[str, dict[str, list[str]]] = {"ensembl": {}, "entrez": {}}
        for kind, ids in self._ids.items():
            for identifier, symbols in self._symbols_of[kind].items():
                for symbol in symbols:
                    ids.setdefault(symbol, []).append(identifier)

    def _read(self, table: str | Path | pd.DataFrame) -> None:
        frame, label = read_table(table, **({} if isinstance(table, pd.DataFrame) else _separator(table)))
        frame.columns = [str(name).lstrip("#") for name in frame.columns]
        columns = {
            kind: next((n.format(species=self.species) for n in names if n.format(species=self.species) in frame), None)
            for kind, names in COLUMNS.items()
        }
        others = [column for kind, column in columns.items() if kind != "symbol" and column]
        if columns["symbol"] is None or not others:
            has = ", ".join(map(str, frame.columns[:12]))
            raise InputError(
                f"{label}: no table of {self.species} genes; it needs a column symbol and one of ensembl_id, entrez, "
                f"alias or prev_symbol; the columns are {has}"
            )
        symbols = as_names(frame[columns["symbol"]])
        for kind, column in columns.items():
            if column is None:
                continue
            for symbol, text in zip(symbols, as_names(frame[column]), strict=True):
                if symbol is None:
                    continue
                self.symbols[symbol] = None
                if kind == "symbol" or text in (None, "-"):
                    continue
                for part in text.strip('"').split("|"):  # HGNC puts fields of several in quotes
                    name = part.strip()
                    if kind == "entrez":
                        name = name.removesuffix(".0")  # a number that went through a table with gaps
                    if kind == "ensembl":
                        name = name.split(".")[0]
                    if name:
                        self._symbols_of[kind].setdefault(name, {})[symbol] = None

    def map(self, names: Iterable[str], to: str = "symbol") -> pd.DataFrame:
        """Translate names of any namespace, also mixed, to one.

        In this order: an approved symbol; an Ensembl id (a version suffix is cut off); an Entrez number; an approved
        symbol but for its case; a previous symbol or an alias, at last but for its case too. What is somebody's
        approved symbol is never read as an alias of somebody else. A name that could be several genes is ambiguous
        and translated to none.

        Args:
            names: identifiers; whole numbers are Entrez numbers.
            to: `symbol`, `ensembl` or `entrez`.

        Returns:
            A table indexed by the distinct names: `id` (None where there is none), `how` (`symbol`, `ensembl`,
            `ensembl version`, `entrez`, `case`, `previous`, `alias`, `ambiguous`, `unknown`, `missing` (None, NaN, a
            blank), or `no id` where the gene is known but has no name in the namespace `to`) and `candidates`, joined
            by `|`, where ambiguous. A `DataWarning` tells of names that are dates, as Excel makes of symbols.

        Raises:
            InputError: an unknown namespace; one text in place of a list.
        """
        names = listed(names, "names")
        table = self.translate(names, to)
        warn_if_damaged([name for name in as_names(table.index) if name is not None], "GeneNames.map")
        return table

    def translate(self, names: Iterable[Any], to: str) -> pd.DataFrame:
        """Return what `map` returns, without a word on damaged names."""
        if to not in NAMESPACES:
            raise InputError(f"namespace {to!r} is unknown; choose {', '.join(NAMESPACES)}")
        rows: list[tuple[str, str | None, str, str]] = []
        seen: dict[Any, Any] = {}
        for name in names:
            seen.setdefault(None if as_name(name) is None else name, name)  # missing values are not equal to themselves
        for name in seen.values():
            text = as_name(name)
            if text is None:
                rows.append((name, None, "missing", ""))
                continue
            symbols, how = self._resolve(text)
            if len(symbols) != 1:
                rows.append((name, None, "ambiguous" if symbols else "unknown", "|".join(sorted(symbols))))
                continue
            ids = [symbols[0]] if to == "symbol" else self._ids[to].get(symbols[0], [])
            if to == "ensembl" and how.startswith("ensembl"):  # it has this id, whatever others its symbol has
                ids = [text.split(".")[0]]
            problem = how if len(ids) == 1 else "ambiguous" if ids else "no id"
            rows.append((name, ids[0] if len(ids) == 1 else None, problem, "|".join(ids) if len(ids) > 1 else ""))
        return pd.DataFrame(rows, columns=["name", "id", "how", "candidates"]).set_index("name")

    def _resolve(self, name: str) -> tuple[list[str], str]:
        if name in self.symbols:
            return [name], "symbol"
        base = name.split(".")[0]
        if base in self._symbols_of["ensembl"]:
            return list(self._symbols_of["ensembl"][base]), "ensembl" if base == name else "ensembl version"
        if name.removesuffix(".0") in self._symbols_of["entrez"]:
            return list(self._symbols_of["entrez"][name.removesuffix(".0")]), "entrez"
        if name.lower() in self._case:
            return sorted(self._case[name.lower()]), "case"
        for kind in ("previous", "alias"):
            if name in self._symbols_of[kind]:
                return list(self._symbols_of[kind][name]), kind
        for kind in ("previous", "alias"):
            if name.lower() in self._lower[kind]:
                return sorted(self._lower[kind][name.lower()]), kind
        return [], "unknown"


def _separator(path: str | Path) -> dict[str, str]:
    name = str(path).lower().removesuffix(".gz")
    return {} if name.endswith((".csv", ".parquet")) else {"separator": "\t"}


def map_genes(graph: GraphTables, genes: GeneNames, to: str = "symbol", *, keep_unknown: bool = False) -> GraphTables:
    """Rename the genes of a graph to one namespace; genes that turn out to be the same become one node.

    Ambiguous and unknown names go, with their edges, and are counted in `history`; with `keep_unknown` they stay under
    their own name. The nodes get the column `species`. Edges that become duplicates of one origin merge.

    Raises:
        InputError: no name, or nearly none, is known: the message says what the names look like. Nearly all names
            fit but for their case: they are probably another species' symbols, which orthologues translate.
    """
    expect(genes, GeneNames, "genes")
    table = graph.node_table("gene")
    mapped = genes.translate(table.index, to)
    counts = mapped["how"].value_counts().to_dict()
    known = mapped["id"].notna().to_numpy()
    if not known.any():
        raise InputError(
            f"none of the {len(table)} genes ({', '.join(map(str, table.index[:3]))}) is known as a gene of "
            f"{genes.species}; they look like {looks_like(table.index)}; give the tables of that species and namespace"
        )
    if counts.get("case", 0) > 0.5 * len(table) and counts["case"] > 10:
        raise InputError(
            f"{counts['case']} of {len(table)} genes fit {genes.species} symbols only if case is ignored; they look "
            f"like {looks_like(table.index)}; translate another species by Orthologs.translate"
        )
    if known.mean() < 0.5:
        warnings.warn(
            f"{int((~known).sum())} of {len(table)} genes are unknown or ambiguous as {genes.species} {to}; they look "
            f"like {looks_like(table.index[~known])}",
            DataWarning,
            stacklevel=3,
        )
    names = mapped["id"].to_numpy(object)
    if keep_unknown:
        names = np.where(known, names, table.index.to_numpy(object))
    return rename_nodes(graph, "gene", names, "map_genes", of=sources_of(graph), to=to, species=genes.species, **counts)


def sources_of(graph: GraphTables) -> str:
    return "|".join(dict.fromkeys(str(record["origin"]) for record in graph.account)) or "graph"


def rename_nodes(
    graph: GraphTables, node_type: str, names: np.ndarray, operation: str, /, **details: object
) -> GraphTables:
    """Give each node of a type a new name; None removes it, the same name twice makes one node.

    Of nodes that become one the first's columns stand. Of the details, which stand in the history, `species` also
    becomes a column of the nodes.
    """
    table = graph.node_table(node_type)
    has = pd.notna(names)
    codes, labels = pd.factorize(np.asarray(names, object)[has])
    new = np.full(len(table), -1, np.int32)
    new[has] = codes
    first = np.flatnonzero(has)[np.unique(codes, return_index=True)[1]]
    nodes, features = graph.take_nodes({node_type: first})
    nodes[node_type] = nodes[node_type].set_axis(pd.Index(labels, dtype=object, name="name"))
    if "species" in details:
        nodes[node_type] = nodes[node_type].assign(species=details["species"])
    counted = "genes" if node_type == "gene" else "nodes before"
    notes = {counted: len(table), "removed": int((~has).sum()), "became one": int(has.sum()) - len(first)}
    edges = recoded(graph, {node_type: new})
    return graph.derive(operation, nodes=nodes, edges=edges, features=features, **notes, **details)
