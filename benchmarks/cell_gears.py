"""cell-gears itself (snap-stanford/GEARS 0.1.2) on a split of ours: its model, loss, training loop and defaults.

    python -m benchmarks.perturbation --only cell-gears

It needs GO annotations from the network for its own graph, so it is given the same graph as the other peers; its
co-expression graph holds the 20 strongest correlations a gene of at least 0.4 over training cells, as it does itself.
"""

import numpy as np
import pandas as pd
import torch
from anndata import AnnData
from scipy import sparse

from kgnn import KnowledgeGraph
from kgnn.data.conditions import CONTROL, perturbed_genes
from kgnn.data.screen import read_screen
from kgnn.data.splits import Split, training_cells
from kgnn.models.perturbation.graphs import COEXPRESSED, gene_relations

EPOCHS, BATCH = 10, 64
LEARNING_RATES = (1e-3, 3e-3)  # chosen on validation conditions, as for the other peers


def predict(adata: AnnData, kg: KnowledgeGraph, split: Split, seed: int, group: str) -> AnnData:
    """Fit once a learning rate, keep the better one on validation conditions, predict the conditions of `group`."""
    from kgnn.metrics import evaluate

    best, found = -np.inf, None
    for rate in LEARNING_RATES:
        model = _train(adata, kg, split, seed, rate)
        held_out = split | {"val": [], "test": split["val"]}
        score = evaluate(_predict(model, split["val"]), adata, held_out)["pearson_centred"].mean()
        if score > best:
            best, found = score, model
    return _predict(found, split[group])


def _train(adata: AnnData, kg: KnowledgeGraph, split: Split, seed: int, rate: float):
    from gears import GEARS
    from torch_geometric.data import Data
    from torch_geometric.loader import DataLoader

    torch.manual_seed(seed)
    np.random.seed(seed)  # noqa: NPY002 (cell-gears draws control cells from it)
    rng = np.random.default_rng(seed)
    screen = read_screen(adata)
    names = {CONTROL: "ctrl"} | {name: name if "+" in name else f"{name}+ctrl" for name in screen.conditions}
    theirs = AnnData(sparse.csr_matrix(adata.X), obs=adata.obs[[]], var=adata.var[[]])
    theirs.obs["condition"] = [names[name] for name in screen.condition]
    means = {name: np.asarray(theirs[theirs.obs["condition"] == name].X.mean(0)).ravel() for name in names.values()}
    genes = pd.Index(theirs.var_names)
    in_data = {gene for name in names if name != CONTROL for gene in perturbed_genes(name)}
    perturbable = pd.Index(sorted(in_data | set(genes) | set(kg.nodes("gene").index)))
    control = theirs[theirs.obs["condition"] == "ctrl"].X.toarray()

    def graphs(conditions: list[str]) -> list:
        found = []
        for name in conditions:
            cells = theirs[theirs.obs["condition"] == names[name]].X.toarray()
            perturbed = [-1] if name == CONTROL else list(perturbable.get_indexer(perturbed_genes(name)))
            start = cells if name == CONTROL else control[rng.integers(len(control), size=len(cells))]
            top = np.argsort(-np.abs(means[names[name]] - means["ctrl"]))[:20]
            for x, y in zip(torch.from_numpy(start), torch.from_numpy(cells), strict=True):
                found.append(Data(x=x[:, None], y=y[None], pert_idx=perturbed, pert=names[name], de_idx=top))
        return found

    loaders = {
        "train_loader": DataLoader(graphs([*split["train"], CONTROL]), BATCH, shuffle=True, drop_last=True),
        "val_loader": DataLoader(graphs(split["val"]), BATCH),
    }
    model = object.__new__(GEARS)  # its __init__ fails with the SciPy of today; it would set these
    attributes = {
        "dataloader": loaders,
        "device": "cpu",
        "wandb": None,
        "adata": theirs,
        "split": None,
        "num_genes": len(genes),
        "num_perts": len(perturbable),
        "gene_list": list(genes),
        "pert_list": list(perturbable),
        "ctrl_expression": torch.from_numpy(control.mean(0)),
        "dict_filter": {name: np.flatnonzero(mean) for name, mean in means.items()},
        "saved_pred": {},
    }
    vars(model).update(attributes)
    similar, weight = _similar(kg, perturbable)
    near, correlation = _coexpressed(training_cells(adata, split))
    model.model_initialize(
        hidden_size=64, G_go=similar, G_go_weight=weight, G_coexpress=near, G_coexpress_weight=correlation
    )
    model.train(epochs=EPOCHS, lr=rate)
    return model


def _similar(kg: KnowledgeGraph, perturbable: pd.Index) -> tuple[torch.Tensor, torch.Tensor]:
    pairs, weights = [], []
    for relation in gene_relations(kg, perturbable):
        if relation.name == COEXPRESSED:
            continue
        for source, target in [(relation.source, relation.target), (relation.target, relation.source)]:
            pairs.append(np.stack([source, target]))
            weights.append(relation.weight)
    return torch.from_numpy(np.concatenate(pairs, 1)), torch.from_numpy(np.concatenate(weights)).float()


def _coexpressed(cells: AnnData) -> tuple[torch.Tensor, torch.Tensor]:
    x = cells.X.toarray() if sparse.issparse(cells.X) else cells.X
    with np.errstate(invalid="ignore", divide="ignore"):
        r = np.abs(np.nan_to_num(np.corrcoef(x.T)))
    near = np.argsort(-r, axis=1)[:, :21]
    target = np.repeat(np.arange(len(r)), near.shape[1])
    source = near.ravel()
    kept = r[target, source] > 0.4
    pair = np.stack([source[kept], target[kept]])
    return torch.from_numpy(pair), torch.from_numpy(r[pair[1], pair[0]]).float()


def _predict(model, conditions: list[str]) -> AnnData:
    found = model.predict([list(perturbed_genes(name)) for name in conditions])
    rows = np.stack([found["_".join(perturbed_genes(name))] for name in conditions])
    out = AnnData(rows, obs=pd.DataFrame({"condition": conditions}, index=conditions))
    out.var_names = model.gene_list
    out.layers["delta"] = rows - model.ctrl_expression.numpy()
    return out
