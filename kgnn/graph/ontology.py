"""Questions to an ontology: ancestors, common ancestors, depth, nearness, and which term a label means."""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pandas as pd
from scipy import sparse

from kgnn.errors import DataWarning, InputError
from kgnn.graph.knowledge_graph import KnowledgeGraph
from kgnn.graph.pagerank import pagerank_matrix
from kgnn.names import as_names, listed
from kgnn.parts import check_number, expect

PART_OF = "BFO:0000050"  # the identifiers behind part_of and develops_from; releases write one or the other
DEVELOPS_FROM = "RO:0002202"


class Ontology:
    """The hierarchy within a `KnowledgeGraph`'s terms.

    Args:
        graph: for example what `load_cell_ontology` returns.
        node_type: the type of its terms.
        relations: the relations, from the special to the general, that make an ancestor.

    Example:
        >>> cl = Ontology(load_cell_ontology("cl.obo"))
        >>> cl.lowest_common_ancestors("CL:0000624", "CL:0000625")
        ['CL:0000084']
    """

    def __init__(
        self, graph: KnowledgeGraph, node_type: str = "cell_type", relations: Iterable[str] = ("is_a",)
    ) -> None:
        expect(graph, KnowledgeGraph, "graph (load_cell_ontology gives one)")
        self.table = graph.nodes(node_type)
        if "label" not in self.table:
            self.table["label"] = self.table.index
        self.terms: list[str] = self.table.index.tolist()
        self._code = {term: number for number, term in enumerate(self.terms)}
        self._main = dict(self._code)
        for number, other in self._parts("alt_ids"):
            self._main.setdefault(other, number)
        self._replaced = {old: number for number, old in self._parts("replaces")}
        self._consider: dict[str, list[int]] = {}
        for number, old in self._parts("considered_for"):
            self._consider.setdefault(old, []).append(number)
        relations = listed(relations, "relations")
        keys = [key for key in graph.relations if key[0] == key[2] == node_type and key[1] in relations]
        if not keys:
            raise InputError(f"no relation {', '.join(relations)} between {node_type} nodes in the graph")
        tables = [graph.edge_arrays(key) for key in keys]
        ends = {side: np.concatenate([table[side].to_numpy() for table in tables]) for side in ("source", "target")}
        n = len(self.terms)
        links = sparse.coo_array((np.ones(len(ends["source"])), (ends["source"], ends["target"])), (n, n))
        self._parents = sparse.csr_array(links)
        self._parents.data[:] = 1
        self._children = sparse.csr_array(self._parents.T)
        self._depth = self._longest_paths()

    def _parts(self, column: str) -> Iterator[tuple[int, str]]:
        """Yield (number of the term, text) of a column of texts joined by `|`, where there is one."""
        for number, joined in enumerate(as_names(self.table[column]) if column in self.table else []):
            yield from ((number, part) for part in (joined or "").split("|") if part)

    def _number(self, term: str) -> int:
        if term in self._replaced:
            raise InputError(f"{term} is obsolete; it is replaced by {self._named([self._replaced[term]])[0]}")
        if term in self._consider:
            raise InputError(f"{term} is obsolete; consider {' or '.join(self._named(self._consider[term]))}")
        if term not in self._main:
            near = difflib.get_close_matches(str(term), self._main, 3)
            raise InputError(f"no term {term!r} in the ontology" + (f"; near: {', '.join(near)}" if near else ""))
        return self._main[term]

    def _named(self, numbers: Iterable[int]) -> list[str]:
        return [f"{self.table['label'].iloc[number]} ({self.terms[number]})" for number in numbers]

    def _reach(self, links: sparse.csr_array, start: int) -> np.ndarray:
        seen = np.zeros(len(self.terms), bool)
        front = np.array([start])
        while len(front):
            new = np.unique(np.concatenate([links.indices[links.indptr[x] : links.indptr[x + 1]] for x in front]))
            front = new[~seen[new]]
            seen[front] = True
        return seen

    def ancestors(self, term: str) -> list[str]:
        """Return all more general terms, in the order of the node table, without the term itself."""
        return [self.terms[i] for i in np.flatnonzero(self._reach(self._parents, self._number(term)))]

    def descendants(self, term: str) -> list[str]:
        """Return all more special terms, in the order of the node table, without the term itself."""
        return [self.terms[i] for i in np.flatnonzero(self._reach(self._children, self._number(term)))]

    def lowest_common_ancestors(self, first: str, second: str) -> list[str]:
        """Return the common ancestors (a term counts as its own) of which none lies below another.

        In an ontology there may be several, or none where the terms have different roots.
        """
        masks = []
        for term in (first, second):
            number = self._number(term)
            masks.append(self._reach(self._parents, number))
            masks[-1][number] = True
        common = masks[0] & masks[1]
        above = np.zeros_like(common)
        for below in np.flatnonzero(common):
            above |= self._reach(self._parents, int(below))
        return [self.terms[i] for i in np.flatnonzero(common & ~above)]

    def depth(self, term: str) -> int:
        """Return the number of steps on the longest way up to a root; a root has depth 0."""
        return int(self._depth[self._number(term)])

    def _longest_paths(self) -> np.ndarray:
        depth = np.zeros(len(self.terms), np.int64)
        waiting = np.diff(self._parents.indptr).copy()
        front = np.flatnonzero(waiting == 0)
        done = 0
        while len(front):
            done += len(front)
            rows = self._children[front]
            np.maximum.at(depth, rows.indices, np.repeat(depth[front] + 1, np.diff(rows.indptr)))
            np.subtract.at(waiting, rows.indices, 1)
            front = np.unique(rows.indices[waiting[rows.indices] == 0])
        if done < len(self.terms):
            stuck = self.terms[int(np.argmax(waiting > 0))]
            raise InputError(f"the hierarchy goes in a circle at or above {stuck}; it has no depth")
        return depth

    def pagerank(self, alpha: float = 0.9, *, starts: Iterable[str] | None = None) -> pd.DataFrame:
        """Return personalised PageRank over the undirected hierarchy: row = start term, column = term it reaches.

        The nearness behind scCello's similarity levels (Yuan et al. 2024), there with α = 0.9. `starts`: rows of these
        terms alone; default all.
        """
        check_number(alpha, "alpha", 0, 1 - 1e-6, hint="it is the chance to walk on")
        links = self._parents + self._children
        links.data[:] = 1
        numbers: Sequence[int] = range(len(self.terms))
        if starts is not None:
            numbers = [self._number(term) for term in listed(starts, "starts")]
        rank = pagerank_matrix(sparse.csr_array(links), alpha, numbers)
        return pd.DataFrame(rank, index=[self.terms[number] for number in numbers], columns=self.terms)

    def similarity_levels(self, terms: Iterable[str], alpha: float = 0.9, least: float | None = 1e-4) -> np.ndarray:
        """Return scCello's similarity levels (Yuan et al. 2024) between terms, [terms, terms] int64.

        1 where personalised PageRank from the first term to the second is below `least`, else
        ⌊log2(PageRank / least + 1)⌋. `least=None`: the smallest PageRank between any two of the terms, at most 1e-4,
        so that the farthest pairs have a level of their own.
        """
        ranks = self.pagerank(alpha, starts=terms)
        rank = ranks[ranks.index].to_numpy()
        if least is None:
            least = min(1e-4, float(rank[rank > 0].min()))
        return np.where(rank < least, 1, np.floor(np.log2(rank / least + 1))).astype(np.int64)

    def match(self, labels: Iterable[str]) -> pd.DataFrame:
        """Say which term each distinct label means.

        A label matches by term id (`CL:0000084`, also `CL_0000084`), alternative id, name, or exact synonym; names
        and synonyms whatever their case. A synonym of several terms is ambiguous and matches none. An obsolete id
        matches the term that replaces it; a `DataWarning` tells these, and obsolete ids of which the ontology only
        says what to consider.

        Returns:
            A table indexed by label: `term` (None where nothing matched), `name` of the term, `how` (`id`, `alt_id`,
            `name`, `synonym`, `replaced`, `ambiguous`, `obsolete`, `none`, or `missing` for None, NaN and blanks) and
            `suggestions`, near names, the ambiguous terms or those to consider, joined by `|`.
        """
        names: dict[str, set[int]] = {}
        synonyms: dict[str, set[int]] = {}
        for number, name in enumerate(as_names(self.table["label"])):
            if name is not None:
                names.setdefault(name.lower(), set()).add(number)
        for number, synonym in self._parts("synonyms"):
            synonyms.setdefault(synonym.lower(), set()).add(number)
        rows: list[tuple] = []
        for plain in dict.fromkeys(as_names(listed(labels, "labels"))):
            if plain is None:
                rows.append((None, None, None, "missing", ""))
                continue
            code = plain.replace("_", ":", 1) if ":" not in plain else plain
            found, how, near = set[int](), "none", list[str]()
            if code in self._main:
                found, how = {self._main[code]}, "id" if code in self._code else "alt_id"
            elif code in self._replaced:
                found, how = {self._replaced[code]}, "replaced"
            elif code in self._consider:
                how, near = "obsolete", self._named(self._consider[code])
            elif plain.lower() in names:
                found, how = names[plain.lower()], "name"
            elif plain.lower() in synonyms:
                found, how = synonyms[plain.lower()], "synonym"
            term = self.terms[next(iter(found))] if len(found) == 1 else None
            if len(found) > 1:
                how, near = "ambiguous", [self.terms[i] for i in sorted(found)]
            elif not found and not near:
                known = {text: i for table in (synonyms, names) for text, i in table.items()}
                hits = difflib.get_close_matches(plain.lower(), known, 5, 0.7)
                near = self._named(min(known[hit]) for hit in hits)
            name = self.table.loc[term, "label"] if term else None
            rows.append((plain, term, name, how, "|".join(dict.fromkeys(near[:5]))))
        table = pd.DataFrame(rows, columns=["label", "term", "name", "how", "suggestions"]).set_index("label")
        self._tell_obsolete(table)
        return table

    def _tell_obsolete(self, found: pd.DataFrame) -> None:
        old, lost = found[found["how"] == "replaced"].head(), found[found["how"] == "obsolete"].head()
        counts = found["how"].value_counts()
        told = []
        if len(old):
            some = ", ".join(f"{a} by {b} ({c})" for a, b, c in zip(old.index, old["name"], old["term"], strict=True))
            told.append(f"{counts['replaced']} obsolete terms are replaced: {some}")
        if len(lost):
            others = lost["suggestions"].str.replace("|", " or ")
            some = ", ".join(f"{a} (consider {b})" for a, b in zip(lost.index, others, strict=True))
            told.append(f"{counts['obsolete']} obsolete terms match none: {some}")
        if told:
            warnings.warn(f"{'; '.join(told)}; write living terms", DataWarning, stacklevel=3)
