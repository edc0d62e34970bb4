"""Plain values under a `CellModel`: its options, and what fit makes of cells, with which further cells are read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import InitVar, dataclass, field
from pathlib import Path
from typing import get_args

import numpy as np
import pandas as pd
from anndata import AnnData
from torch import Tensor

from kgnn.data.cells import CellSource, Kind, ShuffledCells, usable_cells
from kgnn.errors import InputError
from kgnn.graph import KnowledgeGraph
from kgnn.graph.coverage import Coverage, check_coverage
from kgnn.graph.ontology import Ontology
from kgnn.models.cells.graphs import TokenGraphs, gene_pairs
from kgnn.models.cells.labels import Labels
from kgnn.models.cells.tokens import OBJECTIVES, Genes, choose_genes, make_tokens
from kgnn.names import names_in
from kgnn.nn.cells import CellNetwork, CellTokens, Encoded
from kgnn.nn.token_encoders import MIXES, make_token_encoder
from kgnn.nn.tokens import GeneTokens, SpecialTokens, Value
from kgnn.progress import track

KINDS: dict[Kind, str] = {"counts": "raw counts", "log": "log-normalised values"}


@dataclass(eq=False)
class CellOptions:
    """Options of `CellModel`, checked; objectives that are not named weigh 0.

    Raises:
        InputError: an unknown choice, a size below 1, weights that leave nothing to learn, a graph that is missing.
    """

    kg: KnowledgeGraph | None
    encoder: str
    classes: list[str]
    ontology: dict[str, Ontology]
    knowledge: dict[str, pd.DataFrame]
    positions: pd.DataFrame | None
    channels: int
    layers: int
    heads: int
    dropout: float
    parameters: int | None
    genes: Genes
    context: int
    value: Value
    objectives: dict[str, float]
    species_key: str | None

    def __post_init__(self) -> None:
        if self.encoder not in MIXES:
            raise InputError(f"unknown encoder {self.encoder!r}; choose {', '.join(MIXES)}")
        if self.kg is None and self.encoder != "transformer":
            raise InputError(f"encoder {self.encoder!r} sends messages along a graph; give one as kg=")
        for name, choices in {"genes": get_args(Genes), "value": get_args(Value)}.items():
            if getattr(self, name) not in choices:
                raise InputError(f"{name} must be one of {', '.join(choices)}, not {getattr(self, name)!r}")
        for name in ("channels", "layers", "heads", "context"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.channels % self.heads:
            raise InputError(f"{self.channels} channels do not divide into {self.heads} heads")
        wrong = sorted(set(self.ontology) - set(self.classes))
        if wrong:
            raise InputError(f"an ontology for {wrong[0]!r}, which is none of the classes {self.classes}")
        for name, weight in self.objectives.items():
            if name not in OBJECTIVES:
                raise InputError(f"unknown objective {name!r}; choose {', '.join(OBJECTIVES)}")
            if weight < 0:
                raise InputError(f"objective {name!r} has the weight {weight}; give 0 or more")
        if not any(self.objectives.values()):
            raise InputError("all objectives have the weight 0; there is nothing to learn")
        self.objectives = dict.fromkeys(OBJECTIVES, 0.0) | self.objectives


@dataclass(eq=False)
class FittedCells:
    """What fit makes, with the options that it was made with; the network starts from random weights.

    Args:
        genes: the vocabulary. kind: of the values. labels: class → its labels. species: their names.
        chosen: numbers of the genes that are tokens.
        tables, position: vectors by source [vocabulary, width] and places along the genome [vocabulary].

    Attributes: `network`; `graphs` (gene tokens → who hears whom); `history` (loss an epoch); `coverage` (how many of
    the genes the graph knows: `measured`).
    """

    options: CellOptions
    genes: pd.Index
    kind: Kind
    labels: dict[str, Labels]
    species: list[str]
    chosen: Tensor
    tables: InitVar[dict[str, Tensor]]
    position: InitVar[Tensor | None]
    network: CellNetwork = field(init=False)
    graphs: TokenGraphs = field(init=False)
    history: list[float] = field(default_factory=list)
    coverage: dict[str, Coverage] = field(default_factory=dict)

    def __post_init__(self, tables: dict[str, Tensor], position: Tensor | None) -> None:
        options, n = self.options, len(self.genes)
        special = SpecialTokens(n, options.classes, options.channels, max(1, len(self.species)))
        tokens = GeneTokens(n, options.channels, knowledge=tables, value=options.value, position=position)
        sizes = {name: getattr(options, name) for name in ("layers", "heads", "dropout", "parameters")}
        encoder = make_token_encoder(options.encoder, options.channels, **sizes)
        trees = {name: found.tree for name, found in self.labels.items()}
        self.network = CellNetwork(tokens, special, encoder, trees, self.aligned)
        pairs = None if options.kg is None or options.encoder == "transformer" else gene_pairs(options.kg, self.genes)
        self.graphs = TokenGraphs(pairs, n, len(special.names))

    @property
    def aligned(self) -> str | None:
        """The class that scCello's losses look at: the first one with an ontology."""
        if not self.options.objectives["coherence"] and not self.options.objectives["relation"]:
            return None
        return next(name for name, found in self.labels.items() if found.tree.tree)

    def dense(
        self, adata: AnnData | str | Path, *, layer: str | None = None, batch_size: int = 256
    ) -> Iterator[tuple[np.ndarray, Tensor, Tensor | None]]:
        """Row numbers, expression [cells, vocabulary] and species of the usable cells, a batch at a time, in order."""
        source = CellSource(adata, self.genes, layer=layer)
        self.check_kind(source)
        check_coverage(self.genes, set(source.adata.var_names), "genes of the model", "the data")
        rows, no_labels, species = usable_cells(source), np.zeros((len(source), 0), np.int64), self.species_of(source)
        device = self.network.tokens.embedding.device
        cells = ShuffledCells(source, rows, no_labels, species, batch_size=batch_size, shuffle=False)
        for part in track(cells, "batches of cells", len(cells)):
            yield part.rows.numpy(), part.x.to(device), part.species.to(device) if self.species else None

    def tokens(self, x: Tensor, species: Tensor | None) -> CellTokens:
        """The tokens of cells [cells, vocabulary], as `encode` of the network takes them."""
        options = self.options
        genes, present = choose_genes(x, options.genes, options.context, self.chosen.to(x.device), False)
        return make_tokens(x, species, self.kind, genes, present, self.graphs)

    def batches(
        self, adata: AnnData | str | Path, *, layer: str | None = None, batch_size: int = 256
    ) -> Iterator[tuple[np.ndarray, CellTokens]]:
        """Row numbers and tokens of the usable cells."""
        for rows, x, species in self.dense(adata, layer=layer, batch_size=batch_size):
            yield rows, self.tokens(x, species)

    def encoded(
        self, adata: AnnData | str | Path, *, layer: str | None = None, batch_size: int = 256
    ) -> Iterator[tuple[np.ndarray, CellTokens, Encoded]]:
        """Row numbers, tokens and what the encoder makes of them."""
        for rows, batch in self.batches(adata, layer=layer, batch_size=batch_size):
            yield rows, batch, self.network.encode(batch)

    def shared_genes(self) -> pd.Index:
        """Names of the gene tokens, where all cells have the same ones."""
        if self.options.genes in ("expressed", "sampled"):
            choice = repr(self.options.genes)
            raise InputError(f"with genes={choice} cells differ in their genes; fit with genes='variable' or 'all'")
        return self.genes[self.chosen.numpy()]

    def species_of(self, source: CellSource) -> np.ndarray:
        """Numbers of the cells' species."""
        if not self.species or self.options.species_key is None:
            return np.zeros(len(source), np.int64)
        names = names_in(source.adata.obs, self.options.species_key)
        found = pd.Index(self.species).get_indexer(names)
        if (found < 0).any():
            wrong = names.to_numpy()[found < 0][0]
            raise InputError(f"species {wrong!r} is unknown to the model; it knows {', '.join(self.species)}")
        return found.astype(np.int64)

    def check_kind(self, source: CellSource) -> None:
        """Refuse values of another kind than those that the model was fitted on."""
        if source.kind != self.kind:
            raise InputError(f"the model was fitted on {KINDS[self.kind]}, these data are {KINDS[source.kind]}")
