"""`CellModel`: tokens, special tokens and an encoder, learned from annotated single cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from anndata import AnnData
from torch import Tensor

from kgnn.data.cells import CellSource, Kind, open_cells, usable_cells
from kgnn.errors import InputError
from kgnn.graph import KnowledgeGraph
from kgnn.graph.ontology import Ontology
from kgnn.models.cells.fitting import build_network, check_training, choose_tokens, gene_knowledge, run_training
from kgnn.models.cells.graphs import TokenGraphs, principal_components, sample_values
from kgnn.models.cells.labels import Labels, back_off, check_objectives, make_labels, read_labels
from kgnn.models.cells.reading import batches, check_kind, count_cells, dense, encoded, tokens
from kgnn.models.cells.storage import load_cell_model, save_cell_model, take_over
from kgnn.models.cells.training import OBJECTIVES, Genes
from kgnn.models.cells.uses import denoise, gene_network, perturb, rank_regulators
from kgnn.nn.cells import CellNetwork
from kgnn.nn.token_encoders import MIXES
from kgnn.nn.tokens import Value


class CellModel:
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
    `species_`, `network_`, `history_` (loss an epoch, of validation or else training cells).

    Example:
        >>> model = kgnn.CellModel(classes=["cell_type"], ontology={"cell_type": cl}).fit(adata)   # doctest: +SKIP
        >>> model.embed(adata); model.annotate(adata)                                              # doctest: +SKIP
    """

    genes_: pd.Index
    labels_: dict[str, Labels]
    kind_: Kind
    species_: list[str]
    chosen_: Tensor  # numbers of the genes that are tokens
    network_: CellNetwork
    history_: list[float]
    _graphs: TokenGraphs

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
        if encoder not in MIXES:
            raise InputError(f"unknown encoder {encoder!r}; choose {', '.join(MIXES)}")
        if kg is None and encoder != "transformer":
            raise InputError(f"encoder {encoder!r} sends messages along a graph; give one as kg=")
        for options, given, name in (
            (("all", "variable", "sampled", "expressed"), genes, "genes"),
            (("continuous", "rank", "binned"), value, "value"),
        ):
            if given not in options:
                raise InputError(f"{name} must be one of {', '.join(options)}, not {given!r}")
        for name, number in {"channels": channels, "layers": layers, "heads": heads, "context": context}.items():
            if number < 1:
                raise InputError(f"{name} must be at least 1, not {number}")
        if channels % heads:
            raise InputError(f"{channels} channels do not divide into {heads} heads")
        wrong = set(ontology or {}) - set(classes)
        if wrong:
            raise InputError(f"an ontology for {sorted(wrong)[0]!r}, which is none of the classes {list(classes)}")
        self.kg, self.encoder, self.classes, self.ontology = kg, encoder, list(classes), dict(ontology or {})
        self.knowledge, self.positions = dict(knowledge or {}), positions
        self.channels, self.layers, self.heads, self.dropout = channels, layers, heads, dropout
        self.parameters, self.genes, self.context, self.value = parameters, genes, context, value
        self.objectives = check_objectives(
            {k: v for k, v in OBJECTIVES.items() if v} if objectives is None else objectives, OBJECTIVES
        )
        self.species_key = species_key

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
            **trainer: options of `lightning.pytorch.Trainer`: accelerator, precision, accumulate_grad_batches, …;
                several processes: `devices=…, strategy="ddp"`, or under torchrun. Each reads cells of its own.

        Raises:
            InputError: unusable data, labels that are no terms, more genes than the context, objectives that need
                counts.
        """
        check_training(max_epochs, batch_size, validation)
        source = CellSource(adata, layer=layer)
        self.genes_, self.kind_ = source.genes, source.kind
        obs = source.adata.obs
        columns = {name: read_labels(obs, name, self.ontology.get(name)) for name in self.classes}
        self.labels_ = {name: make_labels(column, name, self.ontology.get(name)) for name, column in columns.items()}
        self.species_ = sorted(obs[self.species_key].astype(str).unique()) if self.species_key else []
        rows = usable_cells(source)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            values = sample_values(source, rows)
            choose_tokens(self, source, values)
            build_network(self, *gene_knowledge(self, self.genes_))
            found = principal_components(values, self.channels, seed)
            self.network_.start_from(*map(torch.from_numpy, found))
            run_training(
                self,
                source,
                rows,
                seed,
                max_epochs=max_epochs,
                batch_size=batch_size,
                learning_rate=learning_rate,
                weight_decay=weight_decay,
                validation=validation,
                patience=patience,
                **trainer,
            )
        return self

    def fine_tune(
        self,
        adata: AnnData | str | Path,
        *,
        layer: str | None = None,
        max_epochs: int = 5,
        batch_size: int = 32,
        learning_rate: float = 1e-3,
        weight_decay: float = 0.01,
        validation: float = 0.0,
        patience: int | None = None,
        seed: int = 0,
        **trainer: Any,
    ) -> CellModel:
        """Go on from the fitted model on other data, whose genes and labels may differ.

        Genes that are new get embeddings of their own; genes that the data lack keep theirs. A class whose labels are
        all known keeps its classifier; with new labels it gets a new one over old and new labels together.

        The arguments are those of `fit`.
        """
        self._check_fitted()
        check_training(max_epochs, batch_size, validation)
        source = CellSource(adata, layer=layer)
        check_kind(self, source)
        old_genes, old, labels = self.genes_, self.network_, dict(self.labels_)
        genes = old_genes.append(source.genes.difference(old_genes, sort=False))
        source = CellSource(source.adata, genes, layer=layer)
        for name, before in self.labels_.items():
            values = read_labels(source.adata.obs, name, self.ontology.get(name))
            if set(values.dropna()) <= set(before.labels):
                continue
            if before.tree.tree and name not in self.ontology:
                raise InputError(f"new labels of {name!r} need its ontology; set model.ontology[{name!r}] first")
            labels[name] = make_labels(pd.concat([values, pd.Series(before.labels * 2)]), name, self.ontology.get(name))
        knowledge = gene_knowledge(self, genes, old)
        rows = usable_cells(source)
        self.genes_, self.labels_ = genes, labels
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            values = sample_values(source, rows)
            choose_tokens(self, source, values)
            build_network(self, *knowledge)
            self.network_.special.mean.copy_(torch.from_numpy(values.mean(0)))
            take_over(self.network_, old, old_genes, genes)
            run_training(
                self,
                source,
                rows,
                seed,
                max_epochs=max_epochs,
                batch_size=batch_size,
                learning_rate=learning_rate,
                weight_decay=weight_decay,
                validation=validation,
                patience=patience,
                **trainer,
            )
        return self

    @torch.no_grad()
    def embed(
        self,
        adata: AnnData | str | Path,
        *,
        layer: str | None = None,
        key_added: str | None = "X_kgnn",
        batch_size: int = 256,
    ) -> np.ndarray:
        """Return the cell token of each cell, [cells, channels], and write it to `adata.obsm[key_added]`.

        Cells without any known expressed gene get NaN. Nothing is written for data on disk or with `key_added=None`.
        """
        found = np.full((count_cells(adata), self.channels), np.nan, np.float32)
        for rows, _, state in self.encoded(adata, layer=layer, batch_size=batch_size):
            found[rows] = state.special[:, 0].float().cpu().numpy()
        if isinstance(adata, AnnData) and not adata.isbacked and key_added is not None:
            adata.obsm[key_added] = found
        return found

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
        parts: dict[str, list[np.ndarray]] = {name: [] for name in self.classes}
        which: list[np.ndarray] = []
        for rows, _, state in self.encoded(adata, layer=layer, batch_size=batch_size):
            which.append(rows)
            for name in self.classes:
                parts[name].append(self.network_.class_logits(name, state).float().cpu().numpy())
        names = (open_cells(adata) if isinstance(adata, str | Path) else adata).obs_names
        out: dict[str, pd.Series] = {}
        for name in self.classes:
            said = back_off(self.labels_[name], np.concatenate(parts[name]), threshold)
            said = said.set_axis(np.concatenate(which)).reindex(range(len(names)))
            out |= {name: said["label"], f"{name}_probability": said["probability"]}
            out |= {f"{name}_term": said["term"]} if self.labels_[name].tree.tree else {}
        return pd.DataFrame(out).set_axis(names)

    def gene_embeddings(self) -> pd.DataFrame:
        """Return each gene's vector, [vocabulary, channels + components], scaled so that both parts count alike.

        The first `channels` columns are what training made of the gene, identity and knowledge fused; the others its
        loadings on the training cells' principal components (at most `channels`), 0 for genes that fine-tuning added:
        with few cells a gene's identity stays near its random start, and the loadings are what tells genes apart.
        For example as node features: `kg.with_features("kgnn", model.gene_embeddings())`.
        """
        self._check_fitted()
        with torch.no_grad():
            vectors = self.network_.gene_vectors().cpu().numpy()
        return pd.DataFrame(vectors, index=self.genes_)

    denoise, gene_network, perturb, rank_regulators = denoise, gene_network, perturb, rank_regulators

    def save(self, path: str | Path) -> None:
        """Write the model into the folder `path`, whole or not at all: safetensors, JSON and the graph's Parquet."""
        self._check_fitted()
        save_cell_model(self, path)

    @classmethod
    def load(cls, path: str | Path) -> CellModel:
        """Read a folder that `save` wrote; raises `InputError` for a missing, foreign or damaged one."""
        return load_cell_model(cls, path)

    # helpers

    dense, tokens, batches, encoded = dense, tokens, batches, encoded

    def _check_fitted(self) -> None:
        if not hasattr(self, "network_"):
            raise InputError("the model is not fitted; call fit first, or load a saved one")
