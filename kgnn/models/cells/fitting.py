"""Fitting a `CellModel`: its gene tokens, its network, its training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from kgnn.data.cells import CellSource, ShuffledCells
from kgnn.errors import InputError
from kgnn.models.cells.graphs import TokenGraphs, gene_pairs, genomic_positions, knowledge_tables, variable_genes
from kgnn.models.cells.labels import encode_labels, read_labels
from kgnn.models.cells.reading import species_of
from kgnn.models.cells.training import CellTraining, train_cells
from kgnn.nn.cells import CellNetwork
from kgnn.nn.token_encoders import make_token_encoder
from kgnn.nn.tokens import GeneTokens, SpecialTokens

if TYPE_CHECKING:
    from kgnn.models.cells.model import CellModel


def choose_tokens(model: CellModel, source: CellSource, values: np.ndarray) -> None:
    """Fix the gene tokens, and check that the objectives can be had."""
    n = len(model.genes_)
    if model.genes == "all" and n > model.context:
        raise InputError(
            f"{n} genes are more than context={model.context}; raise context, or take genes='variable' or 'sampled'"
        )
    counting = [name for name in ("denoise", "bottleneck") if model.objectives[name]]
    if counting and source.kind != "counts":
        raise InputError(f"objective {counting[0]!r} needs raw counts, these values are log-normalised; give layer=")
    aligned = [name for name in ("coherence", "relation") if model.objectives[name]]
    if aligned and not model.ontology and not any(found.tree.tree for found in model.labels_.values()):
        raise InputError(f"objective {aligned[0]!r} needs a class with an ontology; give classes= and ontology=")
    chosen = np.arange(n) if model.genes != "variable" else variable_genes(values, model.context)
    model.chosen_ = torch.from_numpy(chosen)


def gene_knowledge(
    model: CellModel, genes: pd.Index, before: CellNetwork | None = None
) -> tuple[dict[str, Tensor], Tensor | None]:
    """Vectors by source and genomic positions of these genes; what the network `before` had must be there again."""
    tables = knowledge_tables(model.kg, model.knowledge, genes)
    missing = [] if before is None else [name for name in before.tokens.sources if name not in tables]
    if missing:
        raise InputError(
            f"the vectors of {missing[0]!r} are not kept with a model; set model.knowledge[{missing[0]!r}]"
        )
    if before is not None and before.tokens.position is not None and model.positions is None:
        raise InputError("genomic positions are not kept with a model; set model.positions")
    return tables, genomic_positions(model.positions, genes)


def build_network(model: CellModel, tables: dict[str, Tensor], position: Tensor | None) -> None:
    """Set the untrained network; tables: knowledge; position: see `genomic_positions`."""
    special = SpecialTokens(len(model.genes_), model.classes, model.channels, max(1, len(model.species_)))
    tokens = GeneTokens(len(model.genes_), model.channels, knowledge=tables, value=model.value, position=position)
    encoder = make_token_encoder(
        model.encoder,
        model.channels,
        layers=model.layers,
        heads=model.heads,
        dropout=model.dropout,
        parameters=model.parameters,
    )
    trees = {name: found.tree for name, found in model.labels_.items()}
    model.network_ = CellNetwork(tokens, special, encoder, trees, aligned_class(model))
    pairs = None if model.kg is None or model.encoder == "transformer" else gene_pairs(model.kg, model.genes_)
    model._graphs = TokenGraphs(pairs, len(model.genes_), len(special.names))


def aligned_class(model: CellModel) -> str | None:
    """The class that scCello's losses look at: the first one with an ontology."""
    if not model.objectives["coherence"] and not model.objectives["relation"]:
        return None
    return next(name for name, found in model.labels_.items() if found.tree.tree)


def check_training(max_epochs: int, batch_size: int, validation: float) -> None:
    """Refuse options of `CellModel.fit` that make no sense, before anything of the model changes."""
    if batch_size < 1 or max_epochs < 0:
        raise InputError(f"batch_size {batch_size} must be at least 1, max_epochs {max_epochs} at least 0")
    if not 0 <= validation < 1:
        raise InputError(f"validation is a share of the cells, from 0 to less than 1, not {validation}")


def run_training(
    model: CellModel,
    source: CellSource,
    rows: np.ndarray,
    seed: int,
    *,
    max_epochs: int,
    batch_size: int,
    learning_rate: float,
    weight_decay: float,
    validation: float,
    patience: int | None,
    **trainer: Any,
) -> None:
    """Train the network; the options are those of `CellModel.fit`."""
    obs = source.adata.obs
    labels = np.zeros((len(source), len(model.classes)), np.int64)
    for number, name in enumerate(model.classes):
        labels[:, number] = encode_labels(read_labels(obs, name, model.ontology.get(name)), model.labels_[name].labels)
    species = species_of(model, source)
    held = np.random.default_rng(seed).permutation(len(rows))[: round(validation * len(rows))]
    parts: list[ShuffledCells | None] = []
    for which in (np.delete(rows, held), rows[np.sort(held)]):
        part = ShuffledCells(source, which, labels, species, batch_size=batch_size, seed=seed)
        parts.append(part if len(which) else None)
    train, held_out = parts
    if train is None:
        raise InputError("no cell is left to train on; lower validation=")
    if held_out is not None:
        held_out.shuffle = False
    aligned = aligned_class(model)
    task = CellTraining(
        model.network_,
        model.objectives,
        kind=model.kind_,
        genes=model.genes,
        context=model.context,
        chosen=model.chosen_,
        graph=model._graphs,
        aligned=None if aligned is None else model.classes.index(aligned),
        learning_rate=learning_rate,
        weight_decay=weight_decay,
    )
    model.history_ = train_cells(task, train, held_out, max_epochs=max_epochs, patience=patience, **trainer)
    model.network_.cpu().eval()
