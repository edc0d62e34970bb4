"""`LinkModel`: the whole typed graph, its embeddings, its missing edges."""

from __future__ import annotations

import copy
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from kgnn.errors import DataWarning, InputError
from kgnn.folders import new_folder
from kgnn.graph import KnowledgeGraph
from kgnn.graph.edge_splits import EdgeSplit, find_leaks
from kgnn.models.epochs import training_device
from kgnn.models.estimator import Estimator, use
from kgnn.models.links import fitted, paths
from kgnn.models.links.fitted import FittedLinks, check_split, known_edges, validation_score
from kgnn.models.links.negatives import NEGATIVES
from kgnn.models.links.storage import read_links, write_links
from kgnn.models.links.training import Recipe, train
from kgnn.models.links.triples import Triples
from kgnn.models.perturbation.graphs import typed_graph
from kgnn.models.storage import KIND, read_model
from kgnn.nn.link_network import LinkNetwork
from kgnn.nn.links import DECODERS
from kgnn.parts import check_call, check_number, expect, name_of, resolve


class LinkModel(Estimator[FittedLinks]):
    """Learn the nodes and relations of a typed graph, and predict its missing edges.

    Every relation between every two node types is learned at once; weights, signs and origins of edges are not used
    but by an encoder that does (`kgnn.nn.HeteroEncoder`: weights and signs). A score is log(1 + edges of the candidate
    at that end of that relation) + the decoder's, which so learns what popularity does not tell.

    Args:
        kg: the graph.
        decoder: how an edge is scored, see `kgnn.nn.links`: `complex`, `distmult`, `rotate`, `transe`, or a class
            called with the number of relations and channels, or an instance.
        encoder: None, an embedding a node; or what maps a `kgnn.nn.TypedGraph` of the training edges to a dict, node
            type → [nodes, channels]: a module, or a class called with that graph and `channels`, such as
            `kgnn.nn.HeteroEncoder`.
        channels: of a node's state (for complex numbers, real and imaginary parts together).
        inverses: each relation gets an inverse of its own to ask for sources by (Lacroix et al., ICML 2018), which
            doubles their number; else sources are asked for against the relation.
        negatives: what an edge's end competes with in training. `all`: all nodes of the type (1-vs-all; a question is
            scored once for all its answers). `uniform`, `bernoulli`, `degree`: `n_negatives` drawn for a batch of one
            relation and end, see `kgnn.models.links.negatives.Sampler`; quicker in graphs of many thousand nodes.
        dropout: share of a state's channels that are left out in a training step.

    Attributes set by `fit`: `fitted_` (states, decoder, the graph learned from), `history_` (a record an epoch).

    Example:
        >>> model = kgnn.LinkModel(kg).fit()                                                     # doctest: +SKIP
        >>> model.predict(("gene", "regulates", "gene"), source="MYC", k=20)                     # doctest: +SKIP
    """

    def __init__(
        self,
        kg: KnowledgeGraph,
        *,
        decoder: Any = "complex",
        encoder: Any = None,
        channels: int = 64,
        inverses: bool = False,
        negatives: str = "all",
        n_negatives: int = 256,
        dropout: float = 0.2,
    ) -> None:
        expect(kg, KnowledgeGraph, "kg")
        if negatives not in NEGATIVES:
            raise InputError(f"unknown negatives {negatives!r}; choose one of {', '.join(NEGATIVES)}")
        check_number(channels, "channels", 1, whole=True)
        check_number(n_negatives, "n_negatives", 1, whole=True)
        check_number(dropout, "dropout", 0, 1)
        resolve(decoder, DECODERS, "decoder")
        resolve(encoder, {}, "encoder")
        self.kg, self.decoder, self.encoder = kg, decoder, encoder
        self.channels, self.inverses, self.dropout = channels, inverses, dropout
        self.negatives, self.n_negatives = negatives, n_negatives

    def fit(
        self,
        split: EdgeSplit | None = None,
        *,
        max_epochs: int = 100,
        learning_rate: float = 0.01,
        batch_size: int = 256,
        patience: int | None = 10,
        accelerator: str = "auto",
        seed: int = 0,
    ) -> LinkModel:
        """Learn from the graph's edges; with a split from its training edges alone.

        Args:
            split: of `kgnn.graph.split_edges`; the epoch with the best MRR of its validation edges is kept.
            max_epochs: passes over the edges. learning_rate: of Adam. batch_size: questions a step.
            patience: stop after so many epochs without a better one; None: never. With few validation edges, whose MRR
                jumps, more.
            accelerator: where to train: `cpu`, `gpu`, … as in Lightning; `auto`: a CUDA device where there is one.
            seed: same seed, same result on the same machine.

        Raises:
            InputError: no edges, a split of another graph, training that diverged. The model is as before then.
        """
        check_number(max_epochs, "max_epochs", 1, whole=True)
        check_number(learning_rate, "learning_rate", 0)
        check_number(batch_size, "batch_size", 1, whole=True)
        check_number(1 if patience is None else patience, "patience", 1, whole=True)
        check_number(seed, "seed", 0, whole=True)
        graph = self.kg if split is None else check_split(split, self.kg).train
        learned = Triples.of(graph)
        if not len(learned):
            raise InputError("the graph has no edges to learn from")
        score = None
        recipe = Recipe(self.negatives, self.n_negatives, max_epochs, batch_size, learning_rate, patience, seed)
        device = training_device(accelerator)
        with torch.random.fork_rng(devices=[] if device.type == "cpu" else [device], device_type=device.type):
            torch.manual_seed(seed)
            network = self._network(graph, learned).to(device)
            if split is not None:
                _warn_of_split(split, learned, self.encoder is None)
                val, known = Triples.of(split.val, learned.relations), known_edges(learned, split.val)
                score = partial(validation_score, network, learned, val, known) if len(val) else None
            history = train(network, learned, recipe, score)
        with torch.no_grad():
            states = network.states().detach().cpu().clone()
        self.fitted_ = FittedLinks(graph, states, network.decoder.cpu().requires_grad_(False), self.inverses, history)
        return self

    def _network(self, graph: KnowledgeGraph, learned: Triples) -> LinkNetwork:
        found = resolve(self.decoder, DECODERS, "decoder")
        n, made = len(learned.relations), copy.deepcopy(found)
        sizes = (2 if self.inverses else 1) * n, self.channels
        if not isinstance(found, nn.Module):
            check_call(found, *sizes)
            made = found(*sizes)
        _check_decoder(made, *sizes)
        if self.encoder is None:
            return LinkNetwork(learned.sizes, n, self.channels, made, self.inverses, dropout=self.dropout)
        typed = typed_graph(graph, graph.tables.nodes.get("gene", pd.DataFrame()).index, pd.Index([], dtype=object))
        encoder: Any = copy.deepcopy(resolve(self.encoder, {}, "encoder"))
        if not isinstance(encoder, nn.Module):
            check_call(encoder, typed, channels=self.channels)
            encoder = encoder(typed, channels=self.channels)
        parts = learned.sizes, n, self.channels, made, self.inverses, encoder, typed
        return LinkNetwork(*parts, dropout=self.dropout)

    evaluate = use(fitted.evaluate)
    predict = use(fitted.predict)
    embeddings = use(fitted.embeddings)
    explain = use(paths.explain)

    @property
    def history_(self) -> list[dict[str, float]]:
        return self._need_fit().history

    def save(self, path: str | Path) -> None:
        """Write the model into the folder `path`, whole or not at all: safetensors, JSON and the graph's Parquet.

        States of nodes are kept, an encoder is not: the loaded model predicts and explains; to fit it again give the
        encoder anew.
        """
        with new_folder(path, KIND) as folder:
            self.write(folder)

    def write(self, folder: Path) -> None:
        """Write the model's files into an empty folder."""
        names = ("channels", "inverses", "negatives", "n_negatives", "dropout")
        write_links(self._need_fit(), {name: getattr(self, name) for name in names}, folder)

    @classmethod
    def load(cls, path: str | Path, *, decoder: nn.Module | None = None) -> LinkModel:
        """Read a folder that `save` wrote; raises `InputError` for a missing, foreign or damaged one.

        Args:
            decoder: for a model that was made with a class of one's own, an instance like the one that was fitted.
                Nothing that a folder names is imported.
        """
        return read_model(path, {"links": partial(cls.read, decoder=decoder)})

    @classmethod
    def read(cls, folder: Path, config: dict[str, Any], decoder: nn.Module | None = None) -> LinkModel:
        """Read the files that `write` wrote, of which `config` is one."""
        links = read_links(folder, config, decoder)
        model = cls(links.graph, **config["options"] | ({} if decoder is None else {"decoder": decoder}))
        model.fitted_ = links
        return model


def _check_decoder(decoder: Any, n_relations: int, channels: int) -> None:
    """Refuse a decoder that was made for other sizes, or is none."""
    try:
        decoder.towards_target(torch.zeros(n_relations, channels), torch.arange(n_relations))
    except (AttributeError, IndexError, RuntimeError, TypeError) as error:
        raise InputError(
            f"the decoder {name_of(decoder)} does not take {n_relations} relations and {channels} channels: {error}; "
            "make it for these two numbers, see kgnn.nn.links.DistMult"
        ) from None


def _warn_of_split(split: EdgeSplit, learned: Triples, embedded: bool) -> None:
    """Say in one warning what makes held-out edges too easy, or impossible."""
    told = []
    leaks = find_leaks(split.train, KnowledgeGraph.merge([split.val, split.test]))
    if len(leaks):
        each = (f"{row.edges} of {row.relation} by {row.kind} edges of {row.through}" for row in leaks.itertuples())
        told.append(f"training edges give held-out ones away: {'; '.join(each)}; split_edges leaves such edges out")
    held = Triples.of(split.test, learned.relations)
    alone = np.bincount(np.append(learned.source, learned.target), minlength=learned.n_nodes) == 0
    unseen = int((alone[held.source] | alone[held.target]).sum())
    if embedded and unseen:
        told.append(
            f"{unseen} of {len(held)} test edges have an end without a training edge: embeddings know nothing of it; "
            "give encoder=, or hold out fewer relations (relations=)"
        )
    if told:
        warnings.warn(". ".join(told), DataWarning, stacklevel=3)
