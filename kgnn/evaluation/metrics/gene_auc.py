"""Tables of questions, does this perturbation change this gene: the area under the ROC curve, gene by gene."""

import pandas as pd
from sklearn.metrics import roc_auc_score

from kgnn.errors import InputError


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
