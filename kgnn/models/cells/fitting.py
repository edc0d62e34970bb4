"""From cells to a `FittedCells`: its labels, gene tokens, network and training; anew or from another one onwards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from anndata import AnnData
from torch import Tensor
from torch.utils.data import DataLoader

from kgnn.data.cells import CellSource, ShuffledCells, usable_cells
from kgnn.errors import InputError
from kgnn.graph.coverage import check_coverage
from kgnn.graph.ontology import Ontology
from kgnn.models.cells.fitted import CellOptions, FittedCells
from kgnn.models.cells.graphs import (
    genomic_positions,
    knowledge_tables,
    principal_components,
    sample_values,
    variable_genes,
)
from kgnn.models.cells.labels import Labels, encode_labels, make_labels, read_labels
from kgnn.models.epochs import Run
from kgnn.names import names_in
from kgnn.parts import check_number, check_options, options_of


class Training:
    """How to train: the options of `CellModel.fit`, checked before anything is read.

    Raises:
        InputError: numbers that make no sense, options that `lightning.pytorch.Trainer` does not have.
    """

    def __init__(
        self,
        max_epochs: int = 20,
        batch_size: int = 32,
        learning_rate: float = 3e-3,
        weight_decay: float = 0.01,
        validation: float = 0.0,
        patience: int | None = None,
        seed: int = 0,
        ckpt_path: str | Path | None = None,
        **trainer: Any,
    ) -> None:
        from lightning.pytorch import Trainer

        for name, value, least in (("batch_size", batch_size, 1), ("max_epochs", max_epochs, 0), ("seed", seed, 0)):
            check_number(value, name, least, whole=True)
        if not 0 <= validation < 1:
            raise InputError(f"validation is a share of the cells, from 0 to less than 1, not {validation}")
        check_options(trainer, options_of(Trainer), "fit")
        self.max_epochs, self.batch_size, self.validation, self.patience = max_epochs, batch_size, validation, patience
        self.learning_rate, self.weight_decay, self.seed = learning_rate, weight_decay, seed
        self.ckpt_path, self.trainer = ckpt_path, trainer


def fit_cells(
    options: CellOptions,
    adata: AnnData | str | Path,
    layer: str | None,
    training: Training,
    before: FittedCells | None = None,
) -> tuple[FittedCells, int | None]:
    """Learn from cells; `before`: go on from it, which stays as it is, with the genes and labels of both.

    Returns:
        What was learned, and the number of the signal that ended it early.
    """
    source = CellSource(adata, layer=layer)
    if before is not None:
        before.check_kind(source)
        genes = before.genes.append(source.genes.difference(before.genes, sort=False))
        source = CellSource(source.adata, genes, layer=layer)
    obs, labels = source.adata.obs, {} if before is None else dict(before.labels)
    for name in options.classes:
        labels[name] = learn_labels(obs, name, options.ontology.get(name), labels.get(name))
    species = [] if before is None else before.species
    if before is None and options.species_key is not None:
        species = sorted(names_in(obs, options.species_key).unique())
    rows = usable_cells(source)
    with torch.random.fork_rng():
        torch.manual_seed(training.seed)
        values = sample_values(source, rows)
        chosen = choose_tokens(options, labels, source, values)
        parts = gene_knowledge(options, source.genes, before)
        cells = FittedCells(options, source.genes, source.kind, labels, species, chosen, *parts)
        if options.kg is not None:
            known = set(options.kg.nodes("gene").index)
            cells.coverage["measured"] = check_coverage(source.genes, known, "measured genes", "the graph")
        if before is None:
            found = principal_components(values, options.channels, training.seed)
            cells.network.start_from(*map(torch.from_numpy, found))
        else:
            cells.network.special.mean.copy_(torch.from_numpy(values.mean(0)))
            take_over(cells, before)
        cells.history, signal = run_training(cells, source, rows, training)
    return cells, signal


def learn_labels(obs: pd.DataFrame, name: str, ontology: Ontology | None, before: Labels | None) -> Labels:
    """The labels of a class; with `before` the same where they suffice, else those of both."""
    values = read_labels(obs, name, ontology)
    if before is not None:
        if set(values.dropna()) <= set(before.labels):
            return before
        if before.tree.tree and ontology is None:
            raise InputError(f"new labels of {name!r} need its ontology; set model.ontology[{name!r}] first")
        values = pd.concat([values, pd.Series(before.labels * 2)])
    return make_labels(values, name, ontology)


def choose_tokens(options: CellOptions, labels: dict[str, Labels], source: CellSource, values: np.ndarray) -> Tensor:
    """Numbers of the genes that are tokens; checks that the objectives can be had."""
    n = len(source.genes)
    if options.genes == "all" and n > options.context:
        raise InputError(
            f"{n} genes are more than context={options.context}; raise context, or take genes='variable' or 'sampled'"
        )
    counting = [name for name in ("denoise", "bottleneck") if options.objectives[name]]
    if counting and source.kind != "counts":
        raise InputError(f"objective {counting[0]!r} needs raw counts, these values are log-normalised; give layer=")
    aligned = [name for name in ("coherence", "relation") if options.objectives[name]]
    if aligned and not any(found.tree.tree for found in labels.values()):
        raise InputError(f"objective {aligned[0]!r} needs a class with an ontology; give classes= and ontology=")
    return torch.from_numpy(np.arange(n) if options.genes != "variable" else variable_genes(values, options.context))


def gene_knowledge(
    options: CellOptions, genes: pd.Index, before: FittedCells | None
) -> tuple[dict[str, Tensor], Tensor | None]:
    """Vectors by source and genomic positions of these genes; what the network `before` had must be there again."""
    tables = knowledge_tables(options.kg, options.knowledge, genes)
    if before is not None:
        for name in before.network.tokens.sources:
            if name not in tables:
                raise InputError(f"the vectors of {name!r} are not kept with a model; set model.knowledge[{name!r}]")
        if before.network.tokens.position is not None and options.positions is None:
            raise InputError("genomic positions are not kept with a model; set model.positions")
    return tables, genomic_positions(options.positions, genes)


@torch.no_grad()
def take_over(cells: FittedCells, before: FittedCells) -> None:
    """Copy the parameters of `before`: those of genes by the gene's name, others where the shapes agree.

    A new gene's embedding starts at the mean of the known ones with its own random part. A class with new labels keeps
    nothing of its classifier: its outputs may stand for other labels even where they are as many.
    """
    row = cells.genes.get_indexer(before.genes)
    state = cells.network.state_dict()
    new = [n for n, (name, found) in enumerate(cells.labels.items()) if found is not before.labels[name]]
    changed = tuple(f"classifiers.{n}." for n in new)
    by_gene = ("tokens.embedding", "special.profile", "decoder.weight", "decoder.base")
    own = ("tokens.table_", "tokens.known_", "tokens.position", *changed)
    for name, value in before.network.state_dict().items():
        if name in by_gene:
            fresh = state[name] - state[name].mean(0) + value.mean(0)
            fresh[row] = value
            state[name].copy_(fresh)
        elif name in ("special.mean", "components"):
            state[name][row] = value
        elif name in state and state[name].shape == value.shape and not name.startswith(own):
            state[name].copy_(value)


def run_training(cells: FittedCells, source: CellSource, rows: np.ndarray, training: Training) -> Run:
    """Train the network on these rows of the source; with held-out cells leave the best epoch's weights.

    The history is the loss on them, else in training.
    """
    from kgnn.models.cells.training import SCORE, CellTraining  # Lightning takes seconds to import
    from kgnn.models.lightning import run_trainer

    options, obs = cells.options, source.adata.obs
    labels = np.zeros((len(source), len(options.classes)), np.int64)
    for number, name in enumerate(options.classes):
        labels[:, number] = encode_labels(read_labels(obs, name, options.ontology.get(name)), cells.labels[name].labels)
    species = cells.species_of(source)
    held = np.random.default_rng(training.seed).permutation(len(rows))[: round(training.validation * len(rows))]
    train, held_out = (
        ShuffledCells(source, which, labels, species, batch_size=training.batch_size, seed=training.seed)
        for which in (np.delete(rows, held), rows[np.sort(held)])
    )
    held_out.shuffle = False
    if not len(train.cells):
        raise InputError("no cell is left to train on; lower validation=")
    task = CellTraining(
        cells.network,
        options.objectives,
        kind=cells.kind,
        genes=options.genes,
        context=options.context,
        chosen=cells.chosen,
        graph=cells.graphs,
        aligned=None if cells.aligned is None else options.classes.index(cells.aligned),
        learning_rate=training.learning_rate,
        weight_decay=training.weight_decay,
    )
    run = Run([], None)
    if training.max_epochs:
        trainer = dict(training.trainer)
        if trainer.get("strategy") == "ddp":  # which heads have a gradient depends on the objectives and the labels
            trainer["strategy"] = "ddp_find_unused_parameters_true"
        run = run_trainer(
            task,
            *(DataLoader(part, batch_size=None) if len(part.cells) else None for part in (train, held_out)),
            monitor=SCORE,
            max_epochs=training.max_epochs,
            patience=training.patience,
            ckpt_path=training.ckpt_path,
            defaults={"gradient_clip_val": 1.0},
            **trainer,
        )
        if not len(held):
            run = run._replace(history=task.history)
    cells.network.cpu().eval()
    return run
