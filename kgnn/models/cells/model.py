"""`CellModel`: tokens, special tokens and an encoder, learned from annotated single cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from anndata import AnnData

from kgnn.data.cells import open_cells
from kgnn.errors import InputError
from kgnn.folders import new_folder
from kgnn.graph import KnowledgeGraph
from kgnn.graph.ontology import Ontology
from kgnn.models.cells import gene_networks, uses
from kgnn.models.cells.fitted import CellOptions, FittedCells
from kgnn.models.cells.fitting import Training, fit_cells
from kgnn.models.cells.labels import back_off
from kgnn.models.cells.storage import read_cells, write_cells
from kgnn.models.cells.tokens import OBJECTIVES, Genes
from kgnn.models.epochs import stop_again
from kgnn.models.estimator import Estimator, use
from kgnn.models.storage import KIND, read_model
from kgnn.nn.tokens import Value


def _of(owner: str, name: str) -> Any:
    """An attribute of the model that stands in a value of it, and is missing as long as that one is."""
    return property(attrgetter(f"{owner}.{name}"), lambda self, value: setattr(getattr(self, owner), name, value))


_option, _found = partial(_of, "options"), partial(_of, "fitted_")


class CellModel(Estimator[FittedCells]):
    """Learn genes, cells and labels from annotated single-cell data.

    A cell is a sequence of special tokens (the cell, its depth, one a class, its species) and gene tokens (identity,
    expression, prior knowledge). Each class is read from its own token; what is learned besides is set by
    `objectives`. The parts come from GeneCompass (knowledge in the tokens), scCello (the ontology in the loss) and
    scPRINT (special tokens, denoising, labels at inner terms).

    Args:
        kg: graph whose gene–gene edges the graph encoders use; its gene features are knowledge.
        encoder: `transformer`; `graph_transformer` (attention along edges); `graph` (graph convolution, special tokens
            as virtual nodes); `alternating`.
        classes: columns of obs to predict.
        ontology: class → `Ontology` whose terms its labels are; labels may be inner terms.
        knowledge: source → table of gene vectors, indexed by gene; besides the graph's features.
        positions: table with `chromosome` and `start` (base pairs), indexed by gene, whose tokens then tell it.
        channels, layers, heads, dropout: of the encoder; parameters: so many in its layers instead of 4 × channels
            wide feed-forward parts.
        genes: which genes are a cell's tokens: `variable` (the `context` most variable ones), `all` (at most
            `context`), `sampled` (drawn a batch, expressed ones first), `expressed` (each cell's own).
        context: gene tokens a cell at most.
        value: how expression enters, see `kgnn.nn.tokens.GeneTokens`.
        objectives: weights of `gene` (masked identity), `value` (masked value), `denoise`, `bottleneck`, `classify`,
            `dissimilar`, `coherence`, `relation`; those that are not named have no weight. Default: value, classify,
            dissimilar.
        species_key: column of obs with the species, for one model over several (bring genes to one species' names by
            `kgnn.graph.Orthologs(table).translate_cells` first).

    Attributes set by `fit`: `genes_` (vocabulary), `labels_` (class → its labels), `kind_` (`counts` or `log`),
    `species_`, `network_`, `history_` (loss an epoch, of validation or else training cells), `coverage_` (how many
    `measured` genes the graph knows).

    Example:
        >>> model = kgnn.CellModel(classes=["cell_type"], ontology={"cell_type": cl}).fit(adata)   # doctest: +SKIP
        >>> model.embed(adata); model.annotate(adata)                                              # doctest: +SKIP
    """

    options: CellOptions
    kg, encoder, classes, ontology = map(_option, ("kg", "encoder", "classes", "ontology"))
    knowledge, positions, channels, layers = map(_option, ("knowledge", "positions", "channels", "layers"))
    heads, dropout, parameters, genes = map(_option, ("heads", "dropout", "parameters", "genes"))
    context, value, objectives, species_key = map(_option, ("context", "value", "objectives", "species_key"))
    genes_, labels_, kind_, species_ = map(_found, ("genes", "labels", "kind", "species"))
    chosen_, network_, history_, coverage_ = map(_found, ("chosen", "network", "history", "coverage"))

    def __init__(
        self,
        kg: KnowledgeGraph | None = None,
        *,
        encoder: str = "transformer",
        classes: Sequence[str] = (),
        ontology: Mapping[str, Ontology] | None = None,
        knowledge: Mapping[str, pd.DataFrame] | None = None,
        positions: pd.DataFrame | None = None,
        channels: int = 64,
        layers: int = 2,
        heads: int = 4,
        dropout: float = 0.3,
        parameters: int | None = None,
        genes: Genes = "variable",
        context: int = 1000,
        value: Value = "continuous",
        objectives: Mapping[str, float] | None = None,
        species_key: str | None = None,
    ) -> None:
        weights = dict(OBJECTIVES if objectives is None else objectives)
        known = kg, encoder, list(classes), dict(ontology or {}), dict(knowledge or {}), positions
        sizes = channels, layers, heads, dropout, parameters
        self.options = CellOptions(*known, *sizes, genes, context, value, weights, species_key)

    def fit(
        self,
        adata: AnnData | str | Path,
        *,
        layer: str | None = None,
        max_epochs: int = 20,
        batch_size: int = 32,
        learning_rate: float = 3e-3,
        weight_decay: float = 0.01,
        validation: float = 0.0,
        patience: int | None = None,
        seed: int = 0,
        ckpt_path: str | Path | None = None,
        **trainer: Any,
    ) -> CellModel:
        """Learn from cells; the AnnData may stay on disk and be larger than memory.

        Args:
            adata: cells × genes, raw counts or log-normalised (told apart by their values); or the path of an H5AD
                file or a Zarr folder.
            layer: take this layer instead of X.
            max_epochs, batch_size, learning_rate, weight_decay: AdamW with warm-up and a cosine schedule.
            validation: share of cells held out; the epoch with the smallest loss on them is kept. 0: the last epoch,
                better with several objectives, of which classification is at its best long before the others.
            patience: stop after so many epochs without a better one; by default never, the learning rate still falls.
            seed: same seed, same result on the same machine.
            ckpt_path: go on from a checkpoint that `kgnn.models.checkpoints`, one of the callbacks, wrote.
            **trainer: options of `lightning.pytorch.Trainer`: accelerator, precision, accumulate_grad_batches, …;
                several processes: `devices=…, strategy="ddp"`, or under torchrun. Each reads cells of its own.

        Raises:
            InputError: unusable data, labels that are no terms, more genes than the context, objectives that need
                counts.
        """
        numbers = max_epochs, batch_size, learning_rate, weight_decay, validation, patience, seed, ckpt_path
        return self._learn(adata, layer, Training(*numbers, **trainer))

    def fine_tune(
        self,
        adata: AnnData | str | Path,
        *,
        layer: str | None = None,
        max_epochs: int = 5,
        learning_rate: float = 1e-3,
        **options: Any,
    ) -> CellModel:
        """Go on from the fitted model on other data, whose genes and labels may differ.

        Genes that are new get embeddings of their own; genes that the data lack keep theirs. A class whose labels are
        all known keeps its classifier; with new labels it gets a new one over old and new labels together.

        The arguments are those of `fit`.
        """
        training = Training(max_epochs, learning_rate=learning_rate, **options)
        return self._learn(adata, layer, training, self._need_fit())

    def _learn(self, *cells: Any) -> CellModel:
        self.fitted_, signal = fit_cells(replace(self.options), *cells)
        if signal is not None:
            stop_again(signal)
        return self

    @torch.no_grad()
    def annotate(
        self, adata: AnnData | str | Path, *, layer: str | None = None, threshold: float = 0.5, batch_size: int = 256
    ) -> pd.DataFrame:
        """Say each cell's labels, with an ancestor where the model is not sure of the label itself.

        Args:
            threshold: the least probability of what is said, for classes with an ontology; the most special term that
                reaches it is given. A type that training lacks often gets a sister's name all the same; fitted with
                `validation=0.1`, 0.9 helps (docs/cells.md).

        Returns:
            A table, a row a cell: for each class `<class>`, `<class>_probability`, and with an ontology `<class>_term`.
            Missing for cells without any known expressed gene.
        """
        if not self.classes:
            raise InputError("the model has no classes; give them as classes= before fitting")
        if not 0 <= threshold <= 1:
            raise InputError(f"threshold is a probability, 0 to 1, not {threshold}")
        cells = self._need_fit()
        parts: dict[str, list[np.ndarray]] = {name: [] for name in self.classes}
        which: list[np.ndarray] = []
        for rows, _, state in cells.encoded(adata, layer=layer, batch_size=batch_size):
            which.append(rows)
            for name in self.classes:
                parts[name].append(cells.network.class_logits(name, state).float().cpu().numpy())
        names = open_cells(adata).obs_names
        out: dict[str, pd.Series] = {}
        for name in self.classes:
            said = back_off(cells.labels[name], np.concatenate(parts[name]), threshold)
            said = said.set_axis(np.concatenate(which)).reindex(range(len(names)))
            out |= {name: said["label"], f"{name}_probability": said["probability"]}
            out |= {f"{name}_term": said["term"]} if cells.labels[name].tree.tree else {}
        return pd.DataFrame(out).set_axis(names)

    @torch.no_grad()
    def gene_embeddings(self) -> pd.DataFrame:
        """Return each gene's vector, [vocabulary, channels + components], scaled so that both parts count alike.

        The first `channels` columns are what training made of the gene, identity and knowledge fused; the others its
        loadings on the training cells' principal components (at most `channels`), 0 for genes that fine-tuning added:
        with few cells a gene's identity stays near its random start, and the loadings are what tells genes apart.
        For example as node features: `kg.with_features("kgnn", model.gene_embeddings())`.
        """
        cells = self._need_fit()
        return pd.DataFrame(cells.network.gene_vectors().cpu().numpy(), index=cells.genes)

    embed, denoise, gene_network = use(uses.embed), use(uses.denoise), use(gene_networks.gene_network)
    perturb, rank_regulators = use(uses.perturb), use(uses.rank_regulators)
    dense, tokens = use(FittedCells.dense), use(FittedCells.tokens)
    batches, encoded = use(FittedCells.batches), use(FittedCells.encoded)

    def save(self, path: str | Path) -> None:
        """Write the model into the folder `path`, whole or not at all: safetensors, JSON and the graph's Parquet."""
        with new_folder(path, KIND) as folder:
            self.write(folder)

    def write(self, folder: Path) -> None:
        """Write the model's files into an empty folder."""
        write_cells(self._need_fit(), folder)

    @classmethod
    def load(cls, path: str | Path) -> CellModel:
        """Read a folder that `save` wrote; raises `InputError` for a missing, foreign or damaged one."""
        return read_model(path, {"cell": cls.read})

    @classmethod
    def read(cls, folder: Path, config: dict[str, Any]) -> CellModel:
        """Read the files that `write` wrote, of which `config` is one."""
        cells = read_cells(folder, config)
        model = cls(**vars(cells.options))
        model.fitted_ = cells
        return model
