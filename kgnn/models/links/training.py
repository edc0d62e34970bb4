"""Training a network of links: cross-entropy of each edge's end among its negatives."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from kgnn.errors import InputError
from kgnn.models.epochs import repeatable
from kgnn.models.links.negatives import Sampler
from kgnn.models.links.triples import Triples
from kgnn.nn.link_network import LinkNetwork

logger = logging.getLogger("kgnn")


class Recipe(NamedTuple):
    """How to train; see `LinkModel.fit`."""

    negatives: str = "all"
    n_negatives: int = 256
    max_epochs: int = 100
    batch_size: int = 256
    learning_rate: float = 0.01
    patience: int | None = 10
    seed: int = 0


class Batch(NamedTuple):
    """Questions [batch], the nodes they ask of [batch], their answers' row in the batch and node [answers]."""

    question: Tensor
    node: Tensor
    row: Tensor
    answer: Tensor


def train(
    network: LinkNetwork, learned: Triples, recipe: Recipe, score: Callable[[], float] | None = None
) -> list[dict[str, float]]:
    """Train the network in place; with `score` (larger is better, once an epoch) leave the weights of the best epoch.

    The loss of an edge is −log of the softmax of its end among itself and the negatives, both ends asked for. The
    softmax is of the decoder's score + log(1 + edges of the candidate at that end of that relation): the decoder
    learns what popularity does not tell. Negatives weigh by their score, as in self-adversarial sampling (Sun et al.,
    ICLR 2019). An interrupt ends training after the best epoch so far.

    Returns:
        A record an epoch: `loss`, and `mrr` where there is a score.

    Raises:
        InputError: training that diverged.
    """
    rng, on_cuda = np.random.default_rng(recipe.seed), next(network.parameters()).is_cuda
    sampler = None if recipe.negatives == "all" else Sampler(learned, recipe.negatives, recipe.n_negatives)
    optimizer = torch.optim.Adam(network.parameters(), recipe.learning_rate, fused=True)
    history: list[dict[str, float]] = []
    best: tuple[float, int, dict[str, Tensor]] = (-1.0, 0, {})
    try:
        for epoch in range(recipe.max_epochs):
            with repeatable(on_cuda):
                history.append({"loss": _epoch(network, learned, recipe, sampler, optimizer, rng)})
            if score is None:
                continue
            network.eval()
            history[-1]["mrr"] = found = score()
            if found > best[0]:
                best = found, epoch, copy.deepcopy(network.state_dict())
            elif recipe.patience is not None and epoch - best[1] >= recipe.patience:
                break
    except KeyboardInterrupt:
        if not history or (score is not None and not best[2]):
            raise
        logger.warning("interrupted in epoch %d; the best epoch so far is kept", len(history) + 1)
    if best[2]:
        network.load_state_dict(best[2])
    network.eval()
    return history


def _epoch(
    network: LinkNetwork,
    learned: Triples,
    recipe: Recipe,
    sampler: Sampler | None,
    optimizer: torch.optim.Optimizer,
    rng: np.random.Generator,
) -> float:
    network.train()
    total = 0.0
    for batch in _batches(learned, recipe.batch_size, sampler is None, rng):
        loss = _loss(network, learned, batch, sampler, rng)
        if not torch.isfinite(loss):
            raise InputError("training diverged (a loss that is no number); try a smaller learning_rate")
        total += float(loss.detach())
        optimizer.zero_grad(set_to_none=True)
        (loss / recipe.batch_size).backward()
        optimizer.step()
    return total / max(2 * len(learned), 1)


def _batches(learned: Triples, size: int, whole: bool, rng: np.random.Generator) -> Iterator[Batch]:
    """Yield all questions in random order.

    whole: each once with all its answers, those of one type of answers together; else once an answer, those that ask
    the same together.
    """
    asked = learned.questions
    counts = np.diff(asked.offsets)
    row = np.arange(len(counts)) if whole else np.repeat(np.arange(len(counts)), counts)
    group = asked.question[row]
    if whole:
        kinds = list(learned.sizes)
        group = np.array([kinds.index(learned.asked(number)) for number in range(2 * len(learned.relations))])[group]
    parts = []
    for number in np.unique(group):
        mine = rng.permutation(np.flatnonzero(group == number))
        parts += np.array_split(mine, -(-len(mine) // size))
    for number in rng.permutation(len(parts)):
        part = parts[number]
        which, answer = asked.answers(part) if whole else (np.arange(len(part)), asked.answer[part])
        yield Batch(*map(torch.from_numpy, (asked.question[row[part]], asked.node[row[part]], which, answer)))


def _loss(
    network: LinkNetwork, learned: Triples, batch: Batch, sampler: Sampler | None, rng: np.random.Generator
) -> Tensor:
    """Summed over the answers."""
    first = int(batch.question[0])
    states = network.states()
    batch = Batch(*(part.to(states.device) for part in batch))
    if sampler is None:
        where = learned.candidates(first)
        asked, which = batch.question.unique(return_inverse=True)
        popularity = np.stack([learned.popularity(number) for number in asked.tolist()])
        popular = torch.from_numpy(popularity).to(states.device)
        scores = network(states, batch.question, batch.node, states[where]) + popular[which]
        return (scores.logsumexp(1)[batch.row] - scores[batch.row, batch.answer - where.start]).sum()
    drawn = sampler(first, rng).to(states.device)
    places = torch.cat([batch.node, batch.answer, drawn])  # looked up at once: each time costs a gradient of all states
    nodes, answers, others = states[places].split([len(batch.node), len(batch.answer), len(drawn)])
    moved = network.moved(nodes, batch.question)
    true = network.decoder.compare(moved, answers.unsqueeze(1))  # type: ignore[operator]
    rivals = network.decoder.compare(moved, others)  # type: ignore[operator]
    rivals = rivals.masked_fill(drawn == batch.answer.unsqueeze(1), -torch.inf)
    if not sampler.by_degree:  # drawn by their degree, popular nodes are popular rivals already
        popular = torch.from_numpy(learned.popularity(first)).to(states.device)
        first_node = learned.candidates(first).start
        true = true + popular[batch.answer - first_node].unsqueeze(1)
        rivals = rivals + popular[drawn - first_node]
    every = torch.cat([true, rivals], 1)
    return float(sampler.weight[first]) * (every.logsumexp(1) - true.squeeze(1)).sum()
