"""`PerturbationModel`: what a genetic perturbation does to expression, learned along a knowledge graph."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from torch import nn

from kgnn.data.conditions import ConditionNames, perturbed_genes
from kgnn.data.splits import Split, read_split
from kgnn.errors import InputError
from kgnn.expression import Scale
from kgnn.files import as_adata
from kgnn.folders import new_folder
from kgnn.graph import KnowledgeGraph
from kgnn.graph.coverage import Coverage
from kgnn.models.epochs import check_epochs, stop_again
from kgnn.models.perturbation.folder import read_fit, write_fit
from kgnn.models.perturbation.origin import Origin
from kgnn.models.perturbation.predictions import check_asked, check_known, read_conditions, to_anndata
from kgnn.models.perturbation.predictor import Predictor, Start, check_changes, check_learnable, check_learned
from kgnn.models.perturbation.reading import read_training, warn_of_doses, warn_of_lonely
from kgnn.models.perturbation.starts import Controls
from kgnn.models.perturbation.table import make_predictor
from kgnn.models.storage import KIND, read_model
from kgnn.parts import check_number, check_options, expect, name_of, options_of
from kgnn.progress import progress


class PerturbationModel:
    """Predict expression after genetic perturbations, of genes never perturbed in training too.

    Args:
        kg: the knowledge; None for none at all, the control that shows what the graph is worth.
        encoder: which model, by name, class, instance or import string `"package.module:Name"`.
            `"kg"`: signals along typed, signed edges and a kernel over conditions from the same graph, solved in closed
            form and trained through their leave-one-out error (`docs/model.md`). Trains in seconds, gives variances.
            `"hetero"`: message passing over the whole typed graph; nodes of every type are perturbed, at doses.
            `"gears"` (Roohani, Huang, Leskovec, Nat Biotechnol 2024); `"txpert"`, `"txpert_exphormer"`,
            `"transformer"`, `"graph_transformer"`, `"cpa"`, `"presage"`, `"fusion"`: peers (`docs/model.md`); a
            baseline: `"mean"`, `"composition_ridge"`, ….
            Or one's own (`docs/extend.md`): a `torch.nn.Module` with `forward(batch)`, or a `Predictor`.
        condition_key: column of obs with the condition of each cell, see `kgnn.data.ConditionNames`.
        control: the label or labels of control cells; by default found among the usual ones.
        group_key: column of obs (batch, cell line) within which control cells are paired; for `"kg"` the cell line,
            whose control cells give the state from which a change starts.
        **options: of the encoder: `strength` of `"kg"`; it, `layer`, `channels`, `layers`, `relation_dropout`,
            `edge_dropout` of `"hetero"`; `channels`, `uncertainty`, `direction_weight`,
            `uncertainty_weight`, `soft_sign` of `"gears"`; `channels` of its peers; those of one's own class.

    Attributes set by `fit`: `genes_` (measured), `perturbable_`, `conditions_` (training), `predictor_`, `coverage_`
    (how many `measured` and `perturbed` genes the graph knows), `controls_` (up to 2,000 control cells, and the means
    of all: `control_mean_` [genes]), `origin_` (the columns of `var`, and what the model was made of), `history_`
    (validation score an epoch; for `"kg"` the leave-one-out loss a step).

    Example:
        >>> model = kgnn.PerturbationModel(kg).fit(adata, split=split)          # doctest: +SKIP
        >>> model.predict(["KLF1", "KLF1+MAP2K6"])                              # doctest: +SKIP
    """

    genes_: pd.Index
    perturbable_: pd.Index
    conditions_: list[str]
    coverage_: dict[str, Coverage]
    controls_: Controls
    origin_: Origin
    predictor_: Predictor
    _lonely: set[str]

    def __init__(
        self,
        kg: KnowledgeGraph | None = None,
        *,
        encoder: Any = "kg",
        condition_key: str = "condition",
        control: str | Iterable[str] | None = None,
        group_key: str | None = None,
        **options: Any,
    ) -> None:
        if kg is not None:
            expect(kg, KnowledgeGraph, "kg")
        self.kg, self.encoder, self.options = kg, encoder, options
        self.condition_key, self.group_key = condition_key, group_key
        self.control = list(control) if isinstance(control, Iterable) and not isinstance(control, str) else control
        ConditionNames(self.control)  # what is no label ends here
        self._blank = make_predictor(encoder, options)
        self.by_epochs, self.uses_graph = self._blank.by_epochs, self._blank.uses_graph

    def fit(
        self, adata: AnnData | str | Path, split: Split | None = None, *, seed: int = 0, **options: Any
    ) -> PerturbationModel:
        """Learn from the training conditions and control cells; a fit that fails leaves the model as it was.

        Args:
            adata: the screen, cells × genes, log-normalised; not changed. Or the path of its H5AD file. Or what
                `kgnn.data.effects` returned.
            split: from `kgnn.data.split`; None trains on all conditions without validation. Test cells among those that
                the graph was made from (`kg.cells`) are told.
            seed: same seed, same result on the same machine.
            **options: for models that are trained by epochs (all but `"kg"` and the baselines, which are solved, need
                no epoch and take no other option; there validation conditions may join training,
                `kgnn.data.merge_validation`):
                `max_epochs` (20), at most so many: the epoch with the smallest validation error (mean squared error of
                the condition means on their top 20 DE genes) is kept, and training stops after `patience` (5) epochs
                without a better one; without validation conditions the last epoch is kept.
                `batch_size` (32): cells a batch.
                `conditions_per_batch`: let a batch hold cells of at most so many conditions. A step costs what its
                distinct conditions cost: 256 cells of 16 conditions cost half of 32 cells of 32.
                `loss` (GEARS' own, else `"mse"`), `optimizer` (`"adam"`), `schedule` (`"halve"`, the learning rate each
                epoch), by name, class, instance or import string; `learning_rate` (1e-3), `weight_decay`
                (5e-4; 0 for effects, `"presage"`, `"fusion"`); `"hetero"` (0.1) and `"txpert"` (0.01) take `"adamw"`.
                `callbacks`, `logger` and whatever else `lightning.pytorch.Trainer` takes: accelerator, precision, ….
                `ckpt_path`: go on from a checkpoint that `kgnn.models.checkpoints` wrote.

        Raises:
            InputError: unusable data (see `kgnn.data.read_screen`), a graph that shares no gene with the data, options
                that the model does not have, training that diverged.
            KeyboardInterrupt: Ctrl-C; a model that is trained by epochs has ended its step, and holds the best epoch.
        """
        if not self.by_epochs and check_epochs(options.pop("max_epochs", 1)):
            takes = [name for name in options_of(self._blank.fit) if name not in ("data", "seed")]
            check_options(options, takes, f"fit of {name_of(self.encoder)!r}")
        check_number(seed, "seed", 0, whole=True)
        kg, types = self.kg if self.uses_graph else None, self._blank.asks_strength
        adata, split = as_adata(adata), None if split is None else read_split(split, self.control)
        reads = {name: getattr(self._blank, name) for name in ("takes_missing", "any_node")}
        data, coverage = read_training(adata, split, kg, types=types, **reads, **self._names)
        screen, train = data.screen, data.conditions
        check_learnable(data)
        if not self._blank.by_dose:
            warn_of_doses([*train, *data.validation], name_of(self.encoder))
        predictor = make_predictor(self.encoder, self.options)
        predictor.fit(data, seed=seed, **options)
        check_learned(predictor, data)
        lonely = predictor.unlinked()
        if predictor.by_epochs:
            known = {*screen.genes, *(() if kg is None else kg.nodes("gene").index)}  # others are told as labels
            lonely -= warn_of_lonely(lonely & screen.perturbed & known, predictor.alone)
        origin = Origin.of(adata.var, encoder=name_of(self.encoder), kg=kg, split=split, scale=screen.scale)
        vars(self).update(
            genes_=screen.genes,
            perturbable_=data.nodes,
            conditions_=train,
            controls_=Controls.of(screen, seed),
            coverage_=coverage,
            origin_=origin,
            predictor_=predictor,
            _lonely=lonely,
        )
        if predictor.signal is not None:
            stop_again(predictor.signal)
        return self

    def predict(
        self,
        conditions: str | Sequence[str],
        *,
        n_cells: int | None = None,
        seed: int = 0,
        control_cells: AnnData | str | Path | None = None,
        line: str | None = None,
    ) -> AnnData:
        """Predict expression under conditions, seen or not.

        Args:
            conditions: names such as `KLF1`, `KLF1+MAP2K6`; any number of genes. With `"hetero"` nodes of other types
                as well, at doses: `Dabrafenib@0.5`, `drug:Dabrafenib@0.5+KLF1`.
            n_cells: give so many cells a condition instead of the mean, each made of a control cell such that their
                expected mean is the predicted one and zeros stay zeros or become rarer or more frequent (`CellDrawer`).
            seed: for drawing them.
            control_cells: unperturbed cells of another cell line, log-normalised like the training data and with its
                genes: predict there. Default: the control cells of training.
            line: predict in this cell line (group) of training, from its own control cells.

        Returns:
            AnnData, one row a condition (or cell), `var_names` the measured genes. `X`: expression, not below zero
            where the training data are not; `layers["delta"]`: change of the mean against control;
            `layers["uncertainty"]`: predicted variance, with `"kg"` and in GEARS' uncertainty mode;
            `obs["condition"]`: the name with its genes in alphabetical order; `var`: the training data's plain columns;
            `uns["kgnn"]`: version, encoder, scale, graph and split of the fit, and hashes of the cells that the graph
            was made from, by which `evaluate` finds held-out ones.

        Raises:
            InputError: a gene that is neither measured nor in the graph nor perturbed in the data; a name of two types
                of nodes; predictions that are not finite.
        """
        self._check_fitted()
        check_number(seed, "seed", 0, whole=True)
        canonical = read_conditions(conditions, ConditionNames(self.control))
        check_asked(self.scale_, n_cells, control_cells, line)
        if self.uses_graph:
            check_known(canonical, self.predictor_.perturbable(self.perturbable_))
        asked, trained = (
            {g for name in names for g in perturbed_genes(name)} for names in (canonical, self.conditions_)
        )
        told = "nor were they perturbed in training, so nothing is known of their effect"
        self._lonely -= warn_of_lonely(self._lonely & (asked - trained), told)
        cells, start = self.controls_.cells, Start(self.controls_.mean)
        if control_cells is not None:
            cells, start = self.controls_.others(control_cells, self.genes_, **self._names)
        if line is not None:
            cells, start = self.controls_.line(line)
        parts = []
        with progress("predicting", len(canonical)) as advance:
            for first in range(0, len(canonical), self.predictor_.at_once):
                part = canonical[first : first + self.predictor_.at_once]
                parts.append(check_changes(self.predictor_.predict(part, start), part, self.genes_))
                advance(len(part))
        variances = [part.variance for part in parts if part.variance is not None]
        return to_anndata(
            conditions,
            canonical,
            self.genes_,
            start.mean,
            np.concatenate([part.change for part in parts]),
            uncertainty=np.concatenate(variances) if variances else None,
            controls=cells,
            n_cells=n_cells,
            scale=self.scale_,
            origin=self.origin_,
            seed=seed,
        )

    def explain(self, condition: str, *, n_genes: int = 20) -> pd.DataFrame:
        """Return which edges carried the predicted change of a condition to its `n_genes` most reached genes (`"kg"`).

        One row a gene and edge: `gene, source, target, channel, contribution`, largest first. The contribution is the
        edge's weight times the gradient of the gene's propagated change to it, in expression units: for a path of one
        edge all that it carries; an edge of longer paths counts in each. What the kernel over conditions adds did not
        travel along edges. Drawn by `kgnn.plotting.explanation`.

        Raises:
            InputError: a model of another encoder, or not fitted; a gene that the model does not know.
        """
        check_number(n_genes, "n_genes", 1, whole=True)
        return self._about(condition, "explain", n_genes)

    def relatives(self, condition: str, *, n: int = 20) -> pd.DataFrame:
        """Return the training conditions that a prediction was taken from, and by which source of knowledge (`"kg"`).

        One row a training condition and source, the `n` largest: `condition, source, similarity, share, through`.
        `share` is of the predicted change along its direction; the rest of it is the mean effect of a perturbation,
        what travelled along edges, interactions, and the perturbed gene itself. `through`: up to three complexes,
        pathways, partners, … that both have in common. Drawn by `kgnn.plotting.relatives`.

        Raises:
            InputError: as `explain`.
        """
        check_number(n, "n", 1, whole=True)
        return self._about(condition, "relatives", n)

    def _about(self, condition: str, what: str, n: int) -> pd.DataFrame:
        self._check_fitted()
        expect(condition, str, "condition")
        name = read_conditions(condition, ConditionNames(self.control))[0]
        check_known([name], self.perturbable_)
        table = getattr(self.predictor_, what)(name, n)
        table.attrs = {"condition": name, "perturbed": list(perturbed_genes(name))}
        return table

    @property
    def sources_(self) -> pd.DataFrame:
        """What each source of knowledge weighs, and the share of the perturbed training genes that it knows (`"kg"`):
        a row a relation, origin and direction, kind of features, walks over the whole graph, and the gene itself,
        columns `weight` (they add up to 1) and `known`. Drawn by `kgnn.plotting.sources`."""
        self._check_fitted()
        return self.predictor_.sources()

    def save(self, path: str | Path) -> None:
        """Write the model into the folder `path`, whole or not at all: safetensors, JSON and the graph's Parquet."""
        with new_folder(path, KIND) as folder:
            self.write(folder)

    def write(self, folder: Path) -> None:
        """Write the model's files into an empty folder."""
        self._check_fitted()
        write_fit(self, folder)

    @classmethod
    def load(cls, path: str | Path, *, encoder: Any = None) -> PerturbationModel:
        """Read a folder that `save` wrote.

        Args:
            path: the folder.
            encoder: for a model that was made with a class of one's own: the class, an instance of the same shape, or
                the import string. Nothing that a folder names is imported unless it is given here.

        Raises:
            InputError: a missing, foreign, incomplete or damaged folder.
        """
        return read_model(path, {"perturbation": lambda *found: read_fit(cls, encoder, *found)})

    @property
    def control_mean_(self) -> np.ndarray:
        """Mean of the control cells of training, [genes]."""
        return self.controls_.mean

    @property
    def scale_(self) -> Scale:
        """What the training data's values are, `kgnn.expression.scale_of`."""
        return self.origin_.facts["scale"]

    @property
    def history_(self) -> Sequence[float]:
        return self.predictor_.history

    @property
    def network_(self) -> nn.Module:
        """The network of an encoder that has one."""
        return self.predictor_.network  # type: ignore[attr-defined]

    # helpers

    @property
    def _names(self) -> dict[str, Any]:
        return {"condition_key": self.condition_key, "control": self.control, "group_key": self.group_key}

    def _check_fitted(self) -> None:
        if not hasattr(self, "predictor_"):
            raise InputError("the model is not fitted; call fit first, or load a saved one")
