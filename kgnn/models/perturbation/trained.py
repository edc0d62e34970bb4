"""Networks trained cell by cell: GEARS, and a user's own `nn.Module`."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from kgnn.data.batches import training_batches
from kgnn.data.conditions import Part, read_parts
from kgnn.errors import InputError
from kgnn.graph import KnowledgeGraph
from kgnn.models.perturbation.graphs import gene_graph, perturbation_graph, typed_graph
from kgnn.models.perturbation.losses import autofocus, check_output, read_loss
from kgnn.models.perturbation.predictor import (
    Changes,
    Known,
    Predictor,
    Start,
    Strength,
    Training,
    prefixed,
    read_strength,
    strengths_of,
)
from kgnn.models.storage import load_weights
from kgnn.nn import GEARS, GearsEncoder
from kgnn.nn.conditions import ConditionBatch, TypedGraph
from kgnn.parts import check_call, check_number, check_options, options_of

if TYPE_CHECKING:
    from lightning.pytorch.callbacks import Callback

LARGEST = 1e30  # no option is infinite
CLIPPING = {"gradient_clip_val": 1.0, "gradient_clip_algorithm": "value"}


class Trained(Predictor):
    """An `nn.Module` with `forward(batch)`, where batch is a `kgnn.nn.ConditionBatch`, trained through Lightning.

    Args:
        encoder: the module; or its class, made as `encoder(graph, **options)` with the `kgnn.nn.TypedGraph`.
        strength: see `ClosedForm`.
        **options: of the class.
    """

    by_epochs, takes_missing = True, True
    loss: Any = "mse"
    optimizer: Any = "adam"
    weight_decay: float = 5e-4
    least_batch: ClassVar[int] = 1
    by_group: ClassVar[bool] = False  # whether training states are those of each cell's own group

    network: nn.Module
    typed: TypedGraph
    conditions: Sequence[str] = ()  # of training and validation, where it is fitted

    def __init__(self, encoder: Any, *, strength: Strength | None = None, **options: Any) -> None:
        self.encoder, self.options, self.asks_strength = encoder, options, strength is None
        self.strength = -1.0 if strength is None else read_strength(strength)
        if inspect.isclass(encoder):
            check_options(options, options_of(encoder)[1:], f"encoder {encoder.__name__}")
            check_call(encoder, None, **options)
        elif options:
            check_options(options, ["strength"], "an encoder that is made already")

    def build(self, kg: KnowledgeGraph | None, genes: pd.Index, control_mean: np.ndarray) -> nn.Module:
        """Return the untrained network."""
        if not inspect.isclass(self.encoder):
            return copy.deepcopy(self.encoder)
        make: Any = self.encoder
        return make(self.typed, **self.options)

    def fit(
        self,
        data: Training,
        *,
        seed: int = 0,
        max_epochs: int = 20,
        batch_size: int = 32,
        conditions_per_batch: int | None = None,
        learning_rate: float = 1e-3,
        weight_decay: float | None = None,
        patience: int = 5,
        loss: Any = None,
        optimizer: Any = None,
        schedule: Any = "halve",
        callbacks: Iterable[Callback] = (),
        ckpt_path: str | Path | None = None,
        **trainer: Any,
    ) -> None:
        from kgnn.models.lightning import run_trainer  # Lightning takes seconds to import
        from kgnn.models.perturbation.training import SCORE, PerturbationTraining

        check_number(batch_size, "batch_size", self.least_batch, whole=True)
        check_number(patience, "patience", 1, whole=True)
        check_number(learning_rate, "learning_rate", 0, LARGEST)
        if weight_decay is None:  # Adam's is inside the gradient, where it outweighs errors as small as those of tables
            weight_decay = 0.0 if data.screen.is_effects and self.optimizer == "adam" else self.weight_decay
        check_number(weight_decay, "weight_decay", 0, LARGEST)
        self.strength = data.strength if self.asks_strength else self.strength
        loss = read_loss(self.loss if loss is None else loss)
        self.conditions = [*data.conditions, *data.validation]
        drawn = data.screen, data.conditions, batch_size, seed, conditions_per_batch, self.by_group
        batches = training_batches(*drawn)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self._set(data.kg, data.nodes, data.screen.genes, data.screen.control_mean)
            task = PerturbationTraining(
                self.network,
                self.inputs,
                data.screen,
                data.conditions,
                data.validation,
                loss=loss,
                optimizer=self.optimizer if optimizer is None else optimizer,
                schedule=schedule,
                learning_rate=learning_rate,
                weight_decay=weight_decay,
                by_group=self.by_group,
                batches=training_batches(*drawn),
            )
            self.history, self.signal = run_trainer(
                task,
                batches,
                DataLoader([0]) if data.validation else None,  # type: ignore[arg-type]
                monitor=SCORE,
                max_epochs=max_epochs,
                patience=patience,
                callbacks=callbacks,
                ckpt_path=ckpt_path,
                defaults=CLIPPING,
                own=[name for name in options_of(self.fit) if name not in ("data", "seed")],
                **trainer,
            )
            if not self.history:  # stopped, perhaps, before the end of training
                task.settle()
        self._settle()

    def _set(self, kg: KnowledgeGraph | None, nodes: pd.Index, genes: pd.Index, control_mean: np.ndarray) -> None:
        self._kg, self.nodes, self.typed = kg, nodes, typed_graph(kg, nodes, genes)
        self.network = self.build(kg, genes, control_mean)
        if not isinstance(self.network, nn.Module):
            raise InputError(f"an encoder is a torch.nn.Module; {self.encoder!r} made a {type(self.network).__name__}")

    def _settle(self) -> None:
        self.network.cpu().eval()
        self.typed.cpu()

    def inputs(self, conditions: Sequence[str], counts: Tensor, state: Tensor) -> ConditionBatch:
        """What the network takes, on the device of `state` [genes] or [conditions, genes]."""
        parts = [read_parts(name) for name in conditions]
        flat = [part for of_condition in parts for part in of_condition]
        offsets = np.cumsum([0, *map(len, parts)])
        strengths = strengths_of([part.gene for part in flat], self.strength)
        doses = np.array([np.inf if part.dose is None else part.dose for part in flat])
        arrays = (self.numbers(flat), offsets, strengths.astype(np.float32), doses.astype(np.float32))
        device = state.device
        nodes, starts, strength, dose = (torch.from_numpy(array).to(device) for array in arrays)
        states = state.expand(len(conditions), -1)
        return ConditionBatch(nodes, starts, counts.to(device), strength, states, self.typed.to(device), dose)

    def numbers(self, parts: Sequence[Part]) -> np.ndarray:
        """The node that each part of a condition perturbs, int64 [parts]."""
        return self.nodes.get_indexer([part.gene for part in parts]).astype(np.int64)

    @torch.no_grad()
    def predict(self, conditions: list[str], start: Start) -> Changes:
        batch = self.inputs(conditions, torch.ones(len(conditions)), torch.from_numpy(start.mean).float())
        change, log_variance = check_output(self.network(batch), self.network, len(conditions), len(start.mean))
        return Changes(change.numpy(), None if log_variance is None else log_variance.exp().numpy())

    def unlinked(self) -> set[str]:
        neighbours = perturbation_graph(self._kg, self.nodes).indptr.diff().numpy() - 1
        return set(self.nodes[neighbours == 0]) if neighbours.any() else set()

    def state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        weights = {f"network.{name}": value.numpy() for name, value in self.network.state_dict().items()}
        return {"strength": self.strength}, weights

    def restore(self, known: Known, config: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        with torch.random.fork_rng():
            self._set(known.kg, known.nodes, known.genes, known.control_mean)
        self.strength = config["strength"]
        state = {name: torch.from_numpy(value) for name, value in prefixed(arrays, "network.").items()}
        load_weights(self.network, state, known.path)


class Gears(Trained):
    """GEARS (Roohani, Huang, Leskovec, Nat Biotechnol 2024): measured genes exchange messages along
    `("gene", "coexpressed", "gene")`, perturbable genes along all else that links them, see `perturbation_graph`.

    Args:
        channels: width of the embeddings.
        uncertainty: also predict each gene's log-variance (GEARS' uncertainty mode).
        direction_weight, uncertainty_weight, soft_sign: see `kgnn.nn.gears_loss`.
    """

    least_batch = 2  # batch norm over the cells of a batch
    by_dose = False

    def __init__(
        self,
        *,
        channels: int = 64,
        uncertainty: bool = False,
        direction_weight: float = 0.1,
        uncertainty_weight: float = 1.0,
        soft_sign: float | None = None,
    ) -> None:
        super().__init__(None, strength=-1.0)
        check_number(channels, "channels", 1, whole=True)
        self.channels, self.uncertainty = channels, uncertainty
        self.at_once = 32 if uncertainty else 256  # variances hold arrays of all genes, conditions and channels
        self.loss = partial(
            autofocus, direction_weight=direction_weight, uncertainty_weight=uncertainty_weight, soft_sign=soft_sign
        )

    def build(self, kg: KnowledgeGraph | None, genes: pd.Index, control_mean: np.ndarray) -> nn.Module:
        encoder = GearsEncoder(gene_graph(kg, genes), perturbation_graph(kg, self.nodes), self.channels)
        return GEARS(encoder, len(genes), channels=self.channels, uncertainty=self.uncertainty)
