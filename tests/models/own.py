"""Networks, predictors and models of one's own, and callbacks, as users write them."""

import os
import shutil
import signal

import numpy as np
import torch
from lightning.pytorch import Callback
from torch import nn
from torch.nn import functional as F

from kgnn.models import Changes, Predictor

PEERS = ("txpert", "txpert_exphormer", "transformer", "graph_transformer", "cpa", "presage", "fusion")
TRAINED = ("hetero", "gears", *PEERS)
SMALL = {name: {"channels": 10 if name == "fusion" else 8} for name in TRAINED}
QUICK = {"max_epochs": 2, "batch_size": 64, "learning_rate": 0.01, "enable_progress_bar": False, "accelerator": "cpu"}


class Sum(nn.Module):
    """Change = W · Σ strength · vector of the perturbed gene; sizes are given, so that it can be an instance."""

    def __init__(self, n_nodes, n_genes, channels=4, dropout=0.0):
        super().__init__()
        self.vectors, self.out = nn.Embedding(n_nodes, channels), nn.Linear(channels, n_genes, bias=False)
        self.dropout = nn.Dropout(dropout)

    def forward(self, batch):
        options = {"per_sample_weights": batch.strengths, "include_last_offset": True}
        summed = F.embedding_bag(batch.nodes, self.vectors.weight, batch.offsets, mode="sum", **options)
        return self.out(self.dropout(summed))


class Own(Sum):
    """The same by class."""

    def __init__(self, graph, *, channels=4, dropout=0.0):
        super().__init__(graph.n_nodes["gene"], graph.n_genes, channels, dropout)


class OwnMean(Predictor):
    """`scale` × the mean change of the conditions that share a gene, of all where none does."""

    def __init__(self, *, scale=1.0):
        self.scale = scale

    def fit(self, data, *, seed=0, more=0.0):
        change = data.screen.mean(data.conditions).to_numpy() - data.screen.control_mean + more
        self.of_gene = {}
        for gene in sorted({gene for name in data.conditions for gene in name.split("+")}):
            self.of_gene[gene] = change[[gene in name.split("+") for name in data.conditions]].mean(0)
        self.general = change.mean(0)
        self.history = [float(np.square(change).mean())]

    def predict(self, conditions, start):
        genes = [name.split("+") if name else [] for name in conditions]
        rows = [sum((self.of_gene.get(g, self.general) for g in names), 0 * self.general) for names in genes]
        return Changes(self.scale * np.array(rows))

    def state(self):
        return {"genes": list(self.of_gene)}, {"general": self.general, "table": np.array([*self.of_gene.values()])}

    def restore(self, known, config, arrays):
        self.general = arrays["general"]
        self.of_gene = dict(zip(config["genes"], arrays["table"], strict=True))


class Whole:
    """A whole model that takes no graph: control mean + `size`."""

    def __init__(self, *, size=1.0):
        self.size = size

    def fit(self, adata, split):
        control = adata.obs["condition"].astype(str).isin(["control", "ctrl"]).to_numpy()
        self.mean = np.asarray(adata.X[control].mean(axis=0)).ravel()
        self.trained = None if split is None else list(split["train"])

    def predict(self, conditions):
        return np.stack([self.mean + self.size * len(name.split("+")) for name in conditions])


class WholeWithGraph(Whole):
    """One that does: each gene changes by its number of regulators over 20."""

    def __init__(self, kg=None, *, size=1.0):
        super().__init__(size=size)
        self.kg = kg

    def fit(self, adata, split, *, seed=0):
        super().fit(adata, split)
        self.seed = seed
        edges = () if self.kg is None else self.kg.edges(("gene", "regulates", "gene"))["target"]
        self.regulators = np.array([sum(target == gene for target in edges) for gene in adata.var_names])

    def predict(self, conditions):
        return super().predict(conditions) + self.regulators / 20


class Send(Callback):
    """Send this process a signal when training comes to a step of an epoch; both counted from 0."""

    def __init__(self, number=signal.SIGINT, *, epoch=2, step=0, times=1):
        self.number, self.place, self.times = number, (epoch, step), times

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if (trainer.current_epoch, batch_idx) == self.place:
            for _ in range(self.times):
                os.kill(os.getpid(), self.number)


class CopyLast(Callback):
    """Keep the checkpoint that a kill in the epoch after the n-th would have left."""

    def __init__(self, folder, n):
        self.folder, self.n = folder, n

    def on_train_epoch_start(self, trainer, pl_module):
        if trainer.current_epoch == self.n:
            shutil.copy(self.folder / "last.ckpt", self.folder / "kept.ckpt")


class Watch(Callback):
    """Note the weights at the end of each epoch and the learning rate of each."""

    def __init__(self):
        self.states, self.rates = [], []

    def on_train_epoch_start(self, trainer, pl_module):
        self.rates.append(trainer.optimizers[0].param_groups[0]["lr"])

    def on_train_epoch_end(self, trainer, pl_module):
        self.states.append({name: value.clone() for name, value in pl_module.network.state_dict().items()})


def weights_of(model):
    return {name: value.clone() for name, value in model.network_.state_dict().items()}


def same_weights(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
