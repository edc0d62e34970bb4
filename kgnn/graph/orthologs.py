"""Orthologues: genes of two species that descend from one gene; several species in one graph."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from anndata import AnnData

from kgnn.errors import DataWarning, InputError
from kgnn.graph.edges import COLUMNS, collapse, sides, table_of
from kgnn.graph.identifiers import looks_like, rename_nodes, sources_of
from kgnn.graph.knowledge_graph import KnowledgeGraph
from kgnn.graph.operations import merge
from kgnn.graph.reading import read_table
from kgnn.graph.tables import GraphTables
from kgnn.names import all_named, as_names
from kgnn.parts import expect

ORTHOLOGOUS = ("gene", "orthologous_to", "gene")


class Orthologs:
    """Which genes of two species descend from one gene.

    Args:
        table: file or DataFrame with a column `{species}_symbol` for both (the other columns are not needed).
        species: the two, as the columns name them.
        namespace: `symbol` or `entrez` (columns `{species}_entrez`).

    Raises:
        InputError: missing file or column, no pair.
    """

    def __init__(
        self, table: str | Path | pd.DataFrame, species: Sequence[str] = ("human", "mouse"), namespace: str = "symbol"
    ) -> None:
        frame, label = read_table(table)
        self.species = tuple(all_named(species, "species"))
        columns = [f"{name}_{namespace}" for name in self.species]
        for column in columns:
            if column not in frame:
                raise InputError(f"{label}: no column {column!r}; the columns are {', '.join(map(str, frame.columns))}")
        rows = pd.DataFrame({column: as_names(frame[column]) for column in columns}).dropna()
        if rows.empty:
            raise InputError(
                f"{label}: no row names a gene of both {' and '.join(self.species)}; is it the right table?"
            )
        if namespace == "entrez":
            rows = rows.apply(lambda column: column.str.removesuffix(".0"))
        self.pairs = rows.drop_duplicates(ignore_index=True).set_axis(list(self.species), axis=1)

    def one_to_one(self) -> pd.DataFrame:
        """Return the pairs in which both genes stand once."""
        alone = ~self.pairs.duplicated(self.species[0], keep=False) & ~self.pairs.duplicated(
            self.species[1], keep=False
        )
        return self.pairs[alone].reset_index(drop=True)

    def translate(self, graph: KnowledgeGraph, to: str, *, one_to_many: bool = False) -> KnowledgeGraph:
        """Rename a graph's genes to their orthologues in the species `to`; genes without one go, counted in `history`.

        Args:
            graph: genes of the other of the two species.
            to: the species to translate to.
            one_to_many: also take genes with several orthologues: each edge is copied to all of them, with its weight
                shared among the copies; copies that fall together merge as duplicate rows do.
        """
        expect(graph, KnowledgeGraph, "graph (translate_cells takes cells)")
        source = self._from(to)
        pairs = self.pairs if one_to_many else self.one_to_one()
        index = graph.nodes("gene").index
        pairs = pairs[pairs[source].isin(index)]
        if pairs.empty:
            raise InputError(
                f"none of the {len(index)} genes ({', '.join(map(str, index[:3]))}) has an orthologue in the table; "
                f"they look like {looks_like(index)}; the table translates {source} to {to}"
            )
        if not one_to_many:
            new = pairs.set_index(source)[to].reindex(index).to_numpy(object)
            tables = rename_nodes(graph.tables, "gene", new, "translate", of=sources_of(graph.tables), species=to)
        else:
            tables = _copy_genes(graph.tables, pairs[source], pairs[to], to)
        return KnowledgeGraph.of(tables)

    def translate_cells(self, adata: AnnData, to: str) -> AnnData:
        """Return cells with their genes renamed to the one-to-one orthologues in the species `to`.

        One model then serves both species: concatenate the cells, and name the column with the species. Genes without a
        one-to-one orthologue are left out; a warning counts them.

        Args:
            adata: cells × genes of the other of the two species; not changed. to: the species to translate to.

        Raises:
            InputError: an unknown species, no gene with an orthologue.
        """
        expect(adata, AnnData, "cells (translate takes a graph)")
        source = self._from(to)
        names = self.one_to_one().set_index(source)[to].reindex(as_names(adata.var_names))
        kept = names.notna().to_numpy()
        if not kept.any():
            raise InputError(
                f"none of the {adata.n_vars} genes ({', '.join(map(str, adata.var_names[:3]))}) has an orthologue in "
                f"the table; they look like {looks_like(adata.var_names)}; the table translates {source} to {to}"
            )
        if not kept.all():
            message = f"{int((~kept).sum())} of {adata.n_vars} genes have no one-to-one orthologue in {to}: left out"
            warnings.warn(message, DataWarning, stacklevel=2)
        result = adata[:, kept].copy()
        result.var_names = pd.Index(names[kept].to_numpy(str), name=adata.var_names.name)
        return result

    def _from(self, to: str) -> str:
        if to not in self.species:
            raise InputError(f"species {to!r} is unknown; the table has {' and '.join(self.species)}")
        return self.species[1 - self.species.index(to)]


def join_species(
    graphs: Mapping[str, KnowledgeGraph], orthologs: Orthologs, *, one_to_many: bool = False, origin: str = "orthologs"
) -> KnowledgeGraph:
    """Put graphs of several species into one, each gene a node of its own, linked to its orthologue.

    Args:
        graphs: species → graph.
        orthologs: pairs between two of the species.
        one_to_many: link all orthologues instead of the one-to-one pairs only.
        origin: name of the orthologues as a knowledge source.

    Returns:
        One graph whose genes have the column `species`, with the relation `("gene", "orthologous_to", "gene")` in
        both directions. A symbol that two species share (human and mouse F2) is two genes: in the later species it
        gets the species behind it, `F2 (mouse)`, and stands so in `history`.
    """
    expect(graphs, Mapping, "graphs (species → graph)")
    expect(orthologs, Orthologs, "orthologs")
    taken: dict[str, str] = {}
    parts, name_of = [], {}
    for species, graph in graphs.items():
        index = graph.nodes("gene").index
        names = np.array([f"{gene} ({species})" if gene in taken else gene for gene in index], object)
        shared = sum(gene in taken for gene in index)
        parts.append(rename_nodes(graph.tables, "gene", names, "join_species", species=species, shared=shared))
        taken |= dict.fromkeys(index, species)
        name_of[species] = dict(zip(index, names, strict=True))
    for species in orthologs.species:
        if species not in graphs:
            raise InputError(
                f"the orthologues are of {' and '.join(orthologs.species)}; there is no graph of {species}"
            )
    pairs = orthologs.pairs if one_to_many else orthologs.one_to_one()
    first, second = (pairs[species].map(name_of[species]) for species in orthologs.species)
    there = (first.notna() & second.notna()).to_numpy()
    if not there.any():
        raise InputError("no orthologous pair has both genes in the graphs; check the namespaces")
    joined = merge(parts)
    index = joined.nodes["gene"].index
    ends = [index.get_indexer(column[there]) for column in (first, second)]
    table = table_of(np.concatenate(ends), np.concatenate(ends[::-1]), origin)
    dropped = {
        "not one to one": len(orthologs.pairs) - len(pairs),
        "a gene is not in the graphs": int((~there).sum()),
    }
    counts = {"rows_read": len(orthologs.pairs), "unit": "pairs", "added": int(there.sum()), "dropped": dropped}
    nodes = {"gene": joined.nodes["gene"]}
    return KnowledgeGraph.of(merge([joined, GraphTables.of_relation(nodes, ORTHOLOGOUS, table, origin, **counts)]))


def _copy_genes(graph: GraphTables, old: pd.Series, new: pd.Series, species: str) -> GraphTables:
    """Copy the gene `old[i]` and its edges to `new[i]`, for all i; an edge's weight is shared among its copies."""
    table = graph.node_table("gene")
    codes, labels = pd.factorize(new.to_numpy(object))
    copies = pd.DataFrame({"old": table.index.get_indexer(old), "new": codes})
    first = copies.drop_duplicates("new")["old"].to_numpy()
    nodes, features = graph.take_nodes({"gene": first})
    nodes["gene"] = nodes["gene"].set_axis(pd.Index(labels, dtype=object, name="name")).assign(species=species)
    edges = {}
    for relation, rows in graph.edges.items():
        rows = rows.assign(weight=rows["weight"].astype(np.float64), row=np.arange(len(rows)))
        for side, kind in sides(relation):
            if kind == "gene":
                rows = rows.merge(copies, left_on=side, right_on="old").drop(columns=[side, "old"])
                rows = rows.rename(columns={"new": side})
        rows["weight"] /= rows.groupby("row")["weight"].transform("size")
        rows = rows.sort_values("row", kind="stable")
        made = table_of(**{name: rows[name].to_numpy() for name in COLUMNS[:-1]}, origin=rows["origin"].array)
        edges[relation] = collapse(made, drop_loops=relation[0] == relation[2])[0]
    removed = len(table) - old.nunique()
    return graph.derive("translate", nodes=nodes, edges=edges, features=features, one_to_many=True, removed=removed)
