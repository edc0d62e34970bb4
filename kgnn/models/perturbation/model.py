"""`PerturbationModel`: what a genetic perturbation does to expression, learned along a knowledge graph."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from anndata import AnnData
from torch import Tensor, nn

from kgnn.data.batches import training_batches
from kgnn.data.conditions import ConditionNames
from kgnn.data.screen import Screen, perturbed_genes, read_screen
from kgnn.data.splits import Split
from kgnn.errors import InputError
from kgnn.graph import KnowledgeGraph
from kgnn.models.perturbation.closed_form import Strength, build_knowledge, fit_knowledge, knowledge_inputs
from kgnn.models.perturbation.explain import explain
from kgnn.models.perturbation.networks import KNOWLEDGE, NAMES, Encoder, Lonely, bags, make_network
from kgnn.models.perturbation.predictions import check_known, read_conditions, read_controls, some, to_anndata
from kgnn.models.perturbation.training import make_task, train
from kgnn.models.storage import keep_controls, load_arrays, load_config, load_graph, load_weights, save_model
from kgnn.nn.knowledge import Bags, KnowledgeNetwork
from kgnn.nn.peers import PEERS

CHUNK = 256  # conditions predicted at a time
UNCERTAIN_CHUNK = 32  # the same with uncertainty, which holds arrays of all genes, conditions and channels


class PerturbationModel:
    """Predict expression after genetic perturbations, of genes never perturbed in training too.

    Args:
        kg: the knowledge; None for none at all, the control that shows what the graph is worth.
        encoder: which model.
            `"kg"`: signals along typed, signed edges and a kernel over conditions from the same graph, solved in closed
            form and trained through their leave-one-out error (`docs/model.md`). Trains in seconds, gives variances.
            `"gears"` (Roohani, Huang, Leskovec, Nat Biotechnol 2024): measured genes exchange messages along
            `("gene", "coexpressed", "gene")`, perturbable genes along all other gene–gene relations.
            `"txpert"`, `"transformer"`, `"graph_transformer"`, `"cpa"`: see `kgnn.nn.peers`.
            Or a class like `kgnn.nn.GearsEncoder`, which takes the place of GEARS' encoder.
        strength: what a perturbation does, for `"kg"`: −1 knock-out, between −1 and 0 knock-down, above 0 activation;
            a number, or one a gene.
        channels: width of the embeddings (not of `"kg"`, which has none).
        uncertainty: for `"gears"`, also predict each gene's log-variance (GEARS' uncertainty mode).
        direction_weight, uncertainty_weight, soft_sign: for `"gears"`, see `kgnn.nn.gears_loss`.
        condition_key: column of obs with the condition of each cell, see `kgnn.data.ConditionNames`.
        control: the label or labels of control cells; by default found among the usual ones.
        group_key: column of obs (batch, cell line) within which control cells are paired; for `"kg"` the cell line,
            whose control cells give the state from which a change starts.

    Attributes set by `fit`: `genes_` (measured), `perturbable_`, `conditions_` (training), `network_`,
    `control_mean_` [genes], `controls_` (up to 2,000 control cells), `history_` (validation score an epoch; for
    `"kg"` the leave-one-out loss a step).

    Example:
        >>> model = kgnn.PerturbationModel(kg).fit(adata, split=split)          # doctest: +SKIP
        >>> model.predict(["KLF1", "KLF1+MAP2K6"])                              # doctest: +SKIP
    """

    def __init__(
        self,
        kg: KnowledgeGraph | None,
        *,
        encoder: str | Encoder = KNOWLEDGE,
        strength: Strength = -1.0,
        channels: int = 64,
        uncertainty: bool = False,
        direction_weight: float = 0.1,
        uncertainty_weight: float = 1.0,
        soft_sign: float | None = None,
        condition_key: str = "condition",
        control: str | Iterable[str] | None = None,
        group_key: str | None = None,
    ) -> None:
        if isinstance(encoder, str) and encoder not in NAMES:
            raise InputError(f"unknown encoder {encoder!r}; choose {', '.join(NAMES)} or give a class")
        self.kg, self.encoder, self.channels, self.uncertainty = kg, encoder, channels, uncertainty
        self.strength = dict(strength) if isinstance(strength, Mapping) else float(strength)
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

        `"kg"` is solved and has nothing to select: of the options only `seed` has an effect there, and validation
        conditions may join training (`kgnn.data.merge_validation`).

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
        if self.encoder == KNOWLEDGE:
            fitted = fit_knowledge(self.kg, screen, conditions, self.perturbable_, self.strength, seed)
            self.graph_, self.lines_, self.history_ = fitted[0], fitted[2], fitted[3]
            self.network_: nn.Module = fitted[1]
            self._lonely = Lonely(self.network_, self.kg, self.perturbable_)
            return self
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self._build()
            in_data = {gene for name in screen.conditions for gene in perturbed_genes(name)}
            self._lonely.warn(in_data, "their embeddings learn from their own conditions alone")
            task = make_task(
                self.network_,
                partial(bags, perturbable=self.perturbable_),
                screen,
                conditions,
                validation,
                learning_rate=learning_rate,
                weight_decay=weight_decay,
                loss=None if isinstance(self.encoder, str) and self.encoder in PEERS else self._loss(),
            )
            batches = training_batches(screen, conditions, batch_size, seed, conditions_per_batch)
            self.history_ = train(task, batches, max_epochs=max_epochs, patience=patience, **trainer)
        self.network_.cpu().eval()
        return self

    @torch.no_grad()
    def predict(
        self,
        conditions: str | Sequence[str],
        *,
        n_cells: int | None = None,
        seed: int = 0,
        control_cells: AnnData | None = None,
    ) -> AnnData:
        """Predict expression under conditions, seen or not.

        Args:
            conditions: names such as `KLF1`, `KLF1+MAP2K6`; any number of genes.
            n_cells: give so many cells a condition, each from its own control cell, instead of the mean.
            seed: for drawing those control cells.
            control_cells: unperturbed cells of another cell line, log-normalised like the training data and with its
                genes: predict there. Default: the control cells of training.

        Returns:
            AnnData, one row a condition (or cell), `var_names` the measured genes. `X`: expression;
            `layers["delta"]`: change against control; `layers["uncertainty"]`: predicted variance, with `"kg"` and
            in uncertainty mode; `obs["condition"]`: the name with its genes in alphabetical order.

        Raises:
            InputError: a gene that is neither measured nor in the graph nor perturbed in the data.
        """
        self._check_fitted()
        canonical = read_conditions(conditions, ConditionNames(self.control))
        check_known(canonical, self.perturbable_)
        asked, trained = (
            {g for name in names for g in perturbed_genes(name)} for names in (canonical, self.conditions_)
        )
        self._lonely.warn(asked - trained, "nor were they perturbed in training, so nothing is known of their effect")
        start, cells, line = self.control_mean_, self.controls_, None
        if control_cells is not None:
            cells, line = read_controls(control_cells, self.genes_, self.group_key)
            start = np.asarray(cells.mean(axis=0)).ravel()
        changes, variances = [], []
        chunk = UNCERTAIN_CHUNK if self.uncertainty else CHUNK
        for first in range(0, len(canonical), chunk):
            change, variance = self._change(canonical[first : first + chunk], start, line)
            changes.append(change.numpy())
            if variance is not None:
                variances.append(variance.numpy())
        return to_anndata(
            conditions,
            canonical,
            self.genes_,
            start,
            np.concatenate(changes),
            uncertainty=np.concatenate(variances) if variances else None,
            controls=cells,
            n_cells=n_cells,
            seed=seed,
        )

    def _change(self, conditions: list[str], start: np.ndarray, line: str | None) -> tuple[Tensor, Tensor | None]:
        if isinstance(self.network_, KnowledgeNetwork):
            return self.network_(*self.inputs(conditions, start, line))
        perturbed, offsets = bags(conditions, self.perturbable_)
        change, log_variance = self.network_(perturbed, offsets, torch.ones(len(offsets) - 1))
        return change, None if log_variance is None else log_variance.exp()

    explain = explain

    def inputs(
        self, conditions: list[str], start: np.ndarray | None = None, line: str | None = None
    ) -> tuple[Bags, Tensor]:
        """What the network of `"kg"` takes: perturbed genes of canonical conditions, and the state they start from."""
        assert isinstance(self.network_, KnowledgeNetwork)
        start = self.control_mean_ if start is None else start
        number = self.lines_.index(line) if line in self.lines_ else 0 if len(self.lines_) == 1 else -1
        lines = np.full(len(conditions), number)
        return knowledge_inputs(self.network_, conditions, self.perturbable_, self.strength, start, lines)

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
            "lines": getattr(self, "lines_", []),
        }
        arrays = {f"network.{name}": value.numpy() for name, value in self.network_.state_dict().items()}
        graph = self.graph_ if self.encoder == KNOWLEDGE else self.kg
        save_model(path, config, arrays | {"control_mean": self.control_mean_}, self.controls_, graph)

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
        state = {name.removeprefix("network."): torch.from_numpy(value) for name, value in arrays.items()}
        if model.encoder == KNOWLEDGE:
            model.graph_, model.lines_ = model.kg, config["lines"]
            model.network_ = build_knowledge(model.kg, model.perturbable_, model.genes_, state)
            model._lonely = Lonely(model.network_, model.kg, model.perturbable_)
        else:
            model._build()
        load_weights(model.network_, state, path)
        return model

    # helpers

    def _set_genes(self, screen: Screen) -> None:
        """Fix which genes are measured and which can be perturbed."""
        in_data = {gene for name in screen.conditions for gene in perturbed_genes(name)}
        known = set() if self.kg is None else set(self.kg.nodes("gene").index)
        measured = set(screen.genes)
        if self.kg is not None and not known & (in_data | measured):
            raise InputError(
                f"the graph shares no gene with the data: it has {some(known)}, the data {some(measured)}; "
                "check species and gene namespace"
            )
        self.genes_ = screen.genes
        self.perturbable_ = pd.Index(sorted(known | in_data | measured), dtype=object)

    def _build(self) -> None:
        self.network_ = make_network(
            self.encoder,
            self.kg,
            self.genes_,
            self.perturbable_,
            self.control_mean_,
            channels=self.channels,
            uncertainty=self.uncertainty,
        )
        self._lonely = Lonely(self.network_, self.kg, self.perturbable_)

    def _loss(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("direction_weight", "uncertainty_weight", "soft_sign")}

    def _check_fitted(self) -> None:
        if not hasattr(self, "network_"):
            raise InputError("the model is not fitted; call fit first, or load a saved one")


_OPTIONS = (
    "strength",
    "channels",
    "uncertainty",
    "direction_weight",
    "uncertainty_weight",
    "soft_sign",
    "condition_key",
    "control",
    "group_key",
)
