"""`PerturbationModel`: what a genetic perturbation does to expression, learned along a knowledge graph."""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from anndata import AnnData
from torch import Tensor, nn

from kgnn.data.batches import training_batches
from kgnn.data.conditions import CONTROL, ConditionNames
from kgnn.data.differential import top_de_genes
from kgnn.data.screen import Screen, perturbed_genes, read_screen
from kgnn.data.splits import Split
from kgnn.errors import DataWarning, InputError
from kgnn.graph import KnowledgeGraph
from kgnn.models.graphs import gene_graph, perturbation_graph
from kgnn.models.predictions import read_conditions, to_anndata
from kgnn.models.storage import keep_controls, load_arrays, load_config, load_graph, save_model
from kgnn.models.training import PerturbationTraining, train
from kgnn.nn import GEARS
from kgnn.nn.encoders import GearsEncoder
from kgnn.ops import Adjacency

Encoder = Callable[[Adjacency, Adjacency, int], nn.Module]
ENCODERS: dict[str, Encoder] = {"gears": GearsEncoder}
CHUNK = 256  # conditions predicted at a time
UNCERTAIN_CHUNK = 32  # the same with uncertainty, which holds arrays of all genes, conditions and channels


class PerturbationModel:
    """Predict expression after genetic perturbations, of genes never perturbed in training too.

    A GEARS-style network (Roohani, Huang, Leskovec, Nat Biotechnol 2024): measured genes exchange messages along
    the relation `("gene", "coexpressed", "gene")`, perturbable genes along all other gene–gene relations (both
    ways, unless the relation is a similarity).

    Args:
        kg: the knowledge; None for none at all, the control that shows what the graph is worth.
        encoder: `"gears"`, or a class like `kgnn.nn.GearsEncoder`.
        channels: width of the embeddings.
        uncertainty: also predict each gene's log-variance (GEARS' uncertainty mode).
        direction_weight, uncertainty_weight, soft_sign: see `kgnn.nn.gears_loss`.
        condition_key: column of obs with the condition of each cell, see `kgnn.data.ConditionNames`.
        control: the label or labels of control cells; by default found among the usual ones.
        group_key: column of obs (batch, cell line) within which control cells are paired.

    Attributes set by `fit`: `genes_` (measured), `perturbable_`, `conditions_` (training), `network_`,
    `control_mean_` [genes], `controls_` (up to 2,000 control cells), `history_` (validation score an epoch).

    Example:
        >>> model = kgnn.PerturbationModel(kg).fit(adata, split=split)          # doctest: +SKIP
        >>> model.predict(["KLF1", "KLF1+MAP2K6"])                              # doctest: +SKIP
    """

    def __init__(
        self,
        kg: KnowledgeGraph | None,
        *,
        encoder: str | Encoder = "gears",
        channels: int = 64,
        uncertainty: bool = False,
        direction_weight: float = 0.1,
        uncertainty_weight: float = 1.0,
        soft_sign: float | None = None,
        condition_key: str = "condition",
        control: str | Iterable[str] | None = None,
        group_key: str | None = None,
    ) -> None:
        if isinstance(encoder, str) and encoder not in ENCODERS:
            raise InputError(f"unknown encoder {encoder!r}; choose {', '.join(ENCODERS)} or give a class")
        self.kg, self.encoder, self.channels, self.uncertainty = kg, encoder, channels, uncertainty
        self.direction_weight, self.uncertainty_weight = direction_weight, uncertainty_weight
        self.soft_sign = soft_sign
        self.condition_key, self.group_key = condition_key, group_key
        self.control = control if control is None or isinstance(control, str) else list(control)

    def fit(
        self,
        adata: AnnData,
        split: Split | None = None,
        *,
        max_epochs: int = 20,
        batch_size: int = 32,
        conditions_per_batch: int | None = None,
        learning_rate: float = 1e-3,
        weight_decay: float = 5e-4,
        patience: int = 5,
        seed: int = 0,
        **trainer: Any,
    ) -> PerturbationModel:
        """Train on the training conditions and control cells; the defaults are GEARS'.

        Args:
            adata: the screen, cells × genes, log-normalised; not changed.
            split: from `kgnn.data.split`; None trains on all conditions without validation.
            max_epochs: at most so many; the epoch with the smallest validation error (mean squared error of the
                condition means on their top 20 DE genes) is kept, and training stops after `patience` epochs
                without a better one. Without validation conditions the last epoch is kept.
            batch_size: cells a batch.
            conditions_per_batch: let a batch hold cells of at most so many conditions. A step costs what its distinct
                conditions cost, whatever the number of cells: 256 cells of 16 conditions cost half of 32 cells of 32.
            learning_rate, weight_decay: Adam's; the learning rate is halved after each epoch.
            seed: same seed, same result on the same machine.
            **trainer: options of `lightning.pytorch.Trainer`: accelerator, precision, enable_progress_bar, …

        Raises:
            InputError: unusable data (see `kgnn.data.read_screen`), a graph that shares no gene with the data.
        """
        screen = read_screen(adata, condition_key=self.condition_key, control=self.control, group_key=self.group_key)
        conditions = screen.conditions if split is None else list(split["train"])
        validation = [] if split is None else list(split["val"])
        self._set_genes(screen)
        self.control_mean_, self.controls_ = screen.control_mean, keep_controls(screen, seed)
        self.conditions_ = conditions
        expressed = screen.mean([CONTROL, *conditions]) > 0
        expressed.loc[CONTROL] = True
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self._build()
            in_data = {gene for name in screen.conditions for gene in perturbed_genes(name)}
            self._warn_of_lonely(in_data, "their embeddings learn from their own conditions alone")
            task = PerturbationTraining(
                self.network_,
                self._bags,
                torch.from_numpy(self.control_mean_).float(),
                {name: torch.from_numpy(row.to_numpy()) for name, row in expressed.iterrows()},
                _validation(screen, validation) if validation else None,
                learning_rate=learning_rate,
                weight_decay=weight_decay,
                loss={
                    "direction_weight": self.direction_weight,
                    "uncertainty_weight": self.uncertainty_weight,
                    "soft_sign": self.soft_sign,
                },
            )
            batches = training_batches(screen, conditions, batch_size, seed, conditions_per_batch)
            self.history_ = train(task, batches, max_epochs=max_epochs, patience=patience, **trainer)
        self.network_.cpu().eval()
        return self

    @torch.no_grad()
    def predict(self, conditions: str | Sequence[str], *, n_cells: int | None = None, seed: int = 0) -> AnnData:
        """Predict expression under conditions, seen or not.

        Args:
            conditions: names such as `KLF1`, `KLF1+MAP2K6`; any number of genes.
            n_cells: give so many cells a condition, each from its own control cell, instead of the mean.
            seed: for drawing those control cells.

        Returns:
            AnnData, one row a condition (or cell), `var_names` the measured genes. `X`: expression;
            `layers["delta"]`: change against control; `layers["uncertainty"]`: predicted variance, in uncertainty
            mode; `obs["condition"]`: the name with its genes in alphabetical order.

        Raises:
            InputError: a gene that is neither measured nor in the graph nor perturbed in the data.
        """
        self._check_fitted()
        canonical = read_conditions(conditions, ConditionNames(self.control))
        self._check_known(canonical)
        unseen = {gene for name in canonical for gene in perturbed_genes(name)} - self._trained
        self._warn_of_lonely(unseen, "nor were they perturbed in training, so nothing is known of their effect")
        changes, variances = [], []
        chunk = UNCERTAIN_CHUNK if self.uncertainty else CHUNK
        for start in range(0, len(canonical), chunk):
            perturbed, offsets = self._bags(canonical[start : start + chunk])
            change, log_variance = self.network_(perturbed, offsets, torch.ones(len(offsets) - 1))
            changes.append(change.numpy())
            if log_variance is not None:
                variances.append(log_variance.exp().numpy())
        return to_anndata(
            conditions,
            canonical,
            self.genes_,
            self.control_mean_,
            np.concatenate(changes),
            uncertainty=np.concatenate(variances) if variances else None,
            controls=self.controls_,
            n_cells=n_cells,
            seed=seed,
        )

    def save(self, path: str | Path) -> None:
        """Write the model into the folder `path`, whole or not at all: safetensors, JSON and the graph's Parquet."""
        self._check_fitted()
        config = {
            "model": "perturbation",
            "encoder": self.encoder if isinstance(self.encoder, str) else None,
            "options": {name: getattr(self, name) for name in _OPTIONS},
            "genes": list(self.genes_),
            "perturbable": list(self.perturbable_),
            "conditions": self.conditions_,
            "history": self.history_,
        }
        arrays = {f"network.{name}": value.numpy() for name, value in self.network_.state_dict().items()}
        save_model(path, config, arrays | {"control_mean": self.control_mean_}, self.controls_, self.kg)

    @classmethod
    def load(cls, path: str | Path, *, encoder: Encoder | None = None) -> PerturbationModel:
        """Read a folder that `save` wrote.

        Args:
            path: the folder.
            encoder: the class, for a model that was made with an encoder class of one's own.

        Raises:
            InputError: a missing, foreign, incomplete or damaged folder.
        """
        config = load_config(path)
        if config["model"] != "perturbation":
            raise InputError(f"{path}: holds a {config['model']!r} model; use kgnn.models.load_model")
        if config["encoder"] is None and encoder is None:
            raise InputError(f"{path}: was saved with an encoder class of its own; give it as encoder=")
        model = cls(load_graph(path), encoder=encoder or config["encoder"], **config["options"])
        arrays, model.controls_ = load_arrays(path)
        model.genes_ = pd.Index(config["genes"], dtype=object)
        model.perturbable_ = pd.Index(config["perturbable"], dtype=object)
        model.conditions_, model.history_ = config["conditions"], config["history"]
        model.control_mean_ = arrays.pop("control_mean")
        model._build()
        state = {name.removeprefix("network."): torch.from_numpy(value) for name, value in arrays.items()}
        try:
            model.network_.load_state_dict(state)
        except RuntimeError as error:
            raise InputError(f"{path}: weights and configuration do not fit: {str(error).splitlines()[-1]}") from None
        model.network_.eval()
        return model

    # helpers

    def _set_genes(self, screen: Screen) -> None:
        """Fix which genes are measured and which can be perturbed."""
        in_data = {gene for name in screen.conditions for gene in perturbed_genes(name)}
        known = set() if self.kg is None else set(self.kg.nodes("gene").index)
        measured = set(screen.genes)
        if self.kg is not None and not known & (in_data | measured):
            raise InputError(
                f"the graph shares no gene with the data: it has {_some(known)}, the data {_some(measured)}; "
                "check species and gene namespace"
            )
        self.genes_ = screen.genes
        self.perturbable_ = pd.Index(sorted(known | in_data | measured), dtype=object)

    def _build(self) -> None:
        make = ENCODERS[self.encoder] if isinstance(self.encoder, str) else self.encoder
        graph = perturbation_graph(self.kg, self.perturbable_)
        self._neighbours = pd.Series(graph.indptr.diff().numpy() - 1, index=self.perturbable_)
        self._warned: set[str] = set()
        encoder = make(gene_graph(self.kg, self.genes_), graph, self.channels)
        self.network_ = GEARS(encoder, len(self.genes_), channels=self.channels, uncertainty=self.uncertainty)

    def _warn_of_lonely(self, genes: set[str], consequence: str) -> None:
        """Name, once, the genes that a graph with edges says nothing of."""
        lonely = {gene for gene in genes - self._warned if self._neighbours[gene] == 0}
        if lonely and self._neighbours.any():
            self._warned |= lonely
            message = (
                f"{len(lonely)} perturbed genes have no neighbour in the graph: {_some(lonely, 10)}; {consequence}"
            )
            warnings.warn(message, DataWarning, stacklevel=3)

    def _bags(self, conditions: list[str]) -> tuple[Tensor, Tensor]:
        """Return numbers of the perturbed genes, conditions one after the other, and where each one begins."""
        genes = [perturbed_genes(name) for name in conditions]
        offsets = np.cumsum([0, *map(len, genes)])
        perturbed = self.perturbable_.get_indexer([gene for names in genes for gene in names])
        return torch.from_numpy(perturbed.astype(np.int64)), torch.from_numpy(offsets)

    def _check_known(self, conditions: list[str]) -> None:
        for name in conditions:
            for gene in perturbed_genes(name):
                if gene not in self.perturbable_:
                    close = difflib.get_close_matches(gene, self.perturbable_, n=3, cutoff=0.75)
                    hint = (
                        f"; did you mean {' or '.join(close)}?" if close else "; check its name, or add it to the graph"
                    )
                    raise InputError(
                        f"condition {name!r}: the gene {gene!r} is neither measured, nor perturbed in the data, "
                        f"nor in the graph{hint}"
                    )

    @property
    def _trained(self) -> set[str]:
        return {gene for name in self.conditions_ for gene in perturbed_genes(name)}

    def _check_fitted(self) -> None:
        if not hasattr(self, "network_"):
            raise InputError("the model is not fitted; call fit first, or load a saved one")


_OPTIONS = (
    "channels",
    "uncertainty",
    "direction_weight",
    "uncertainty_weight",
    "soft_sign",
    "condition_key",
    "control",
    "group_key",
)


def _validation(screen: Screen, conditions: list[str]) -> tuple[list[str], Tensor, Tensor]:
    top = top_de_genes(screen, conditions)
    mean = torch.from_numpy(screen.mean(conditions).to_numpy()).float()
    return conditions, mean, torch.from_numpy(np.stack([top[name] for name in conditions]))


def _some(names: Iterable[str], number: int = 3) -> str:
    names = sorted(names)
    return ", ".join(names[:number]) + (", …" if len(names) > number else "")
