"""Tables of questions, does this perturbation change this gene: the area under the ROC curve, gene by gene."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from sklearn.metrics import roc_auc_score

from kgnn.data.screen import read_screen
from kgnn.data.splits import Split, read_split
from kgnn.errors import InputError
from kgnn.evaluation.metrics.means import check_measured, condition_means
from kgnn.files import as_adata


def gene_auc(table: pd.DataFrame, *, gene: str = "gene", label: str = "label", score: str = "score") -> pd.DataFrame:
    """Return the AUC of each gene that has both labels, a row a gene, column `auc`; 0.5: a score that knows genes
    alone.

    Args:
        table: a row a pair (perturbation, gene).
        gene, label, score: its columns: name of the gene; 0 or 1, true or false; number, larger for 1.

    Raises:
        InputError: a missing column, other labels, a score that is not finite, no gene with both labels.

    Source: PerturbQA (Wu et al., ICLR 2025); scikit-learn's `roc_auc_score`, ties count half.
    """
    missing = [name for name in (gene, label, score) if name not in table]
    if missing:
        raise InputError(f"the table has no column {missing[0]!r}; it has {', '.join(map(str, table.columns))}")
    if not table[label].isin([0, 1]).all():
        raise InputError(f"column {label!r} holds other labels than 0 and 1")
    table = table.reset_index(drop=True)
    values = pd.to_numeric(table[score], errors="coerce")
    if not values.between(float("-inf"), float("inf"), inclusive="neither").all():
        raise InputError(f"column {score!r} holds values that are no finite numbers")
    found = {
        name: roc_auc_score(part[label].astype(int), values[part.index])
        for name, part in table.groupby(gene)
        if part[label].nunique() == 2
    }
    if not found:
        raise InputError("no gene has both labels, so that none can be scored")
    return pd.DataFrame({"auc": found}).rename_axis(gene)


def answers_auc(
    prediction: AnnData | str | Path,
    answers: AnnData | str | Path,
    split: Split | None = None,
    *,
    condition_key: str = "condition",
    control: Any = None,
) -> pd.DataFrame:
    """Return `gene_auc` of predicted probabilities against measured answers; 0.5: a prediction that knows genes alone.

    Args:
        prediction: from a model's `predict`, [conditions, genes].
        answers: what `kgnn.data.effects(table, kind="binary")` returned, [conditions, genes], or its H5AD file; what
            was not measured is not asked.
        split: its test conditions are asked; None asks all that are predicted.
        condition_key, control: as for `kgnn.data.read_screen`, for `answers`.

    Raises:
        InputError: effects that are no answers; as `evaluate`; no gene that is true of some conditions and false of
            others.
    """
    screen = read_screen(as_adata(answers), condition_key=condition_key, control=control)
    if screen.scale != "binary":
        raise InputError("an AUC is of answers, 0 and 1; read their table with kgnn.data.effects(table, kind='binary')")
    predicted = condition_means(as_adata(prediction), screen.genes, control)
    wanted = list(predicted.index) if split is None else read_split(split, control)["test"]
    check_measured(wanted, screen)
    missing = [name for name in wanted if name not in predicted.index]
    if missing:
        raise InputError(f"no prediction of the test condition {missing[0]!r}; predict all of split['test']")
    rows = screen.cells(wanted)
    there = np.ones((len(rows), len(screen.genes)), bool) if screen.measured is None else screen.measured[rows]
    of_row, gene = np.nonzero(there)
    label = screen.x[rows].toarray()[of_row, gene]
    score = predicted.loc[screen.condition[rows]].to_numpy()[of_row, gene]
    return gene_auc(pd.DataFrame({"gene": screen.genes.to_numpy()[gene], "label": label, "score": score}))
