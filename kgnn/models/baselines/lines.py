"""Baselines across cell lines: what the same perturbation does elsewhere."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from kgnn.errors import InputError
from kgnn.models.perturbation.predictor import Changes, Known, Predictor, Start, Training
from kgnn.models.perturbation.samples import read_samples


class OtherLines(Predictor):
    """The mean shift of the same condition over the other lines; each line counts once.

    The other lines: all that were trained on but the one asked for (`predict(line=)`); all where none is told. A
    condition that no other line has gets the template: the mean change over the training conditions of the line asked
    for; over all training samples where it has none.

    Attributes set by `fit`: `genes_`, `lines_`; a condition in a line each, `conditions_` [samples], `line_` [samples]
    numbers of lines, `delta_` [samples, genes] mean changes.
    """

    uses_graph = False

    genes_: pd.Index
    lines_: list[str]
    conditions_: list[str]
    line_: np.ndarray
    delta_: np.ndarray

    def fit(self, data: Training, *, seed: int = 0) -> None:
        samples = read_samples(data.screen, data.conditions)
        if len(samples.lines) < 2:
            raise InputError(
                f"{len(samples.lines)} cell line in the data, and nothing to learn from others: give the column of "
                "lines as group_key=, or take encoder='mean'"
            )
        self.genes_, self.lines_ = data.screen.genes, samples.lines
        self.conditions_, self.line_, self.delta_ = samples.names, samples.line, samples.change.astype(np.float64)
        self._prepare()
        self._learn()

    def _prepare(self) -> None:
        """Samples by condition; templates by line, at −1 that of all: what perturbations share there, [genes]."""
        numbers: dict[str, list[int]] = {}
        for number, name in enumerate(self.conditions_):
            numbers.setdefault(name, []).append(number)
        self._of_condition = {name: np.array(found) for name, found in numbers.items()}
        everywhere = self.delta_.mean(axis=0)
        here = {line: self.line_ == line for line in range(len(self.lines_))}
        found = {line: self.delta_[rows].mean(axis=0) if rows.any() else everywhere for line, rows in here.items()}
        self._template = found | {-1: everywhere}

    def _learn(self) -> None:
        """Learn more than the mean changes."""

    def predict(self, conditions: list[str], start: Start) -> Changes:
        line = self.lines_.index(start.line) if start.line in self.lines_ else -1
        none = np.zeros(len(self.genes_))
        return Changes(np.stack([self._change(name, line) if name else none for name in conditions]))

    def _change(self, condition: str, line: int) -> np.ndarray:
        """The change [genes] of a condition in a line, −1 for one not told or not known."""
        elsewhere = self._elsewhere(condition, line)
        return self.delta_[elsewhere].mean(axis=0) if len(elsewhere) else self._template[line]

    def _elsewhere(self, condition: str, line: int) -> np.ndarray:
        """Numbers of the samples of a condition in other lines."""
        samples = self._of_condition.get(condition, np.array([], np.int64))
        return samples[self.line_[samples] != line]

    def state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        return {"lines": self.lines_, "samples": self.conditions_}, {"line": self.line_, "delta": self.delta_}

    def restore(self, known: Known, config: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        self.genes_, self.lines_, self.conditions_ = known.genes, config["lines"], config["samples"]
        self.line_, self.delta_ = arrays["line"], arrays["delta"]
        self._prepare()


class TemplateSame(OtherLines):
    """The template of the line + w · what is the same perturbation's own in the other lines.

    ŷ = t + w d, t the template of the line asked for, d the mean over the other lines of the condition's change there
    minus the template there; a condition that no other line has gets t (`OtherLines` says what is other, and t).
    w = Σ d·(y − t) / Σ d·d, at least 0, over all samples y that another line has too, t without the sample itself:
    the least squared error of samples left out. Where no condition stands in two lines w is 1.

    Attributes set by `fit`, besides those of `OtherLines`: `weight_`, w.
    """

    weight_: float

    def _learn(self) -> None:
        above = below = 0.0
        for number, (condition, line) in enumerate(zip(self.conditions_, self.line_.tolist(), strict=True)):
            if len(elsewhere := self._elsewhere(condition, line)):
                own = self._own(elsewhere)
                above += own @ (self.delta_[number] - self._template_without(number))
                below += own @ own
        self.weight_ = max(0.0, float(above / below)) if below > 0 else 1.0

    def _change(self, condition: str, line: int) -> np.ndarray:
        elsewhere, template = self._elsewhere(condition, line), self._template[line]
        return template + self.weight_ * self._own(elsewhere) if len(elsewhere) else template

    def _own(self, samples: np.ndarray) -> np.ndarray:
        """Mean over samples of the change minus the line's template, [genes]."""
        return np.mean([self.delta_[number] - self._template[int(self.line_[number])] for number in samples], axis=0)

    def _template_without(self, sample: int) -> np.ndarray:
        """The template of a sample's line had it not been measured, [genes]."""
        line, total = int(self.line_[sample]), len(self.line_)
        n = int((self.line_ == line).sum())
        template, left = (self._template[line], n - 1) if n > 1 else (self._template[-1], total - 1)
        return template + (template - self.delta_[sample]) / left

    def state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        config, arrays = super().state()
        return config | {"weight": self.weight_}, arrays

    def restore(self, known: Known, config: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        super().restore(known, config, arrays)
        self.weight_ = config["weight"]
