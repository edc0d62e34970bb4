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
from kgnn.models.links.negatives import Sampler
from kgnn.models.links.triples import Triples
from kgnn.nn.link_network import LinkNetwork

logger = logging.getLogger("kgnn")


class Recipe(NamedTuple):
    """How to train; see `LinkModel.fit`."""

    negatives: str = "all"
    n_negatives: int = 64
    max_epochs: int = 100
    batch_size: int = 256
    learning_rate: float = 0.01
    patience: int | None = 10
    seed: int = 0


def train(
    network: LinkNetwork, learned: Triples, recipe: Recipe, score: Callable[[], float] | None = None
) -> list[dict[str, float]]:
    """Train the network in place; with `score` (larger is better, once an epoch) leave the weights of the best epoch.

    The loss of an edge is −log of the softmax of its end among itself and the negatives, both ends asked for. In the
    softmax a negative weighs by its own score, as in self-adversarial sampling (Sun et al., ICLR 2019). An interrupt ends training after the best epoch so far.

    Returns:
        A record an epoch: `loss`, and `mrr` where there is a score.

    Raises:
        InputError: training that diverged.
    """
    rng = np.random.default_rng(recipe.seed)
    sampler = None if recipe.negatives == "all" else Sampler(learned, recipe.negatives, recipe.n_negatives)
    optimizer = torch.optim.Adam(network.parameters(), recipe.learning_rate, fused=True)
    history: list[dict[str, float]] = []
    best: tuple[float, int, dict[str, Tensor]] = (-1.0, 0, {})
    try:
        for epoch in range(recipe.max_epochs):
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
    for rows, answers in _batches(learned, recipe.batch_size, sampler is None, rng):
        loss = _loss(network, learned, rows, answers, sampler, rng)
        if not torch.isfinite(loss):
            raise InputError("training diverged (a loss that is no number); try a smaller learning_rate")
        total += float(loss.detach())
        optimizer.zero_grad(set_to_none=True)
        (loss / recipe.batch_size).backward()
        optimizer.step()
    return total / max(2 * len(learned), 1)


def _batches(
    learned: Triples, size: int, whole: bool, rng: np.random.Generator
) -> Iterator[tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]]:
    """Yield questions of which the answers are of one type, in random order, each with (number in batch, answer).

    whole: each question once with all its answers; else once an answer.
    """
    asked = learned.questions
    counts = np.diff(asked.offsets)
    row = np.arange(len(counts)) if whole else np.repeat(np.arange(len(counts)), counts)
    kinds = np.array([list(learned.sizes).index(learned.asked(q)) for q in range(2 * len(learned.relations))])
    kind = kinds[asked.question[row]]
    parts = []
    for number in np.unique(kind):
        mine = rng.permutation(np.flatnonzero(kind == number))
        parts += np.array_split(mine, -(-len(mine) // size))
    for number in rng.permutation(len(parts)):
        part = parts[number]
        yield row[part], asked.answers(part) if whole else (np.arange(len(part)), asked.answer[part])


def _loss(
    network: LinkNetwork,
    learned: Triples,
    rows: np.ndarray,
    answers: tuple[np.ndarray, np.ndarray],
    sampler: Sampler | None,
    rng: np.random.Generator,
) -> Tensor:
    """Summed over the answers."""
    asked = learned.questions
    question, node = torch.from_numpy(asked.question[rows]), torch.from_numpy(asked.node[rows])
    where = learned.candidates(int(asked.question[rows[0]]))
    row, answer = map(torch.from_numpy, answers)
    states = network.states()
    if sampler is None:
        scores = network(states, question, node, states[where])
        return (scores.logsumexp(1)[row] - scores[row, answer - where.start]).sum()
    drawn = torch.from_numpy(sampler(asked.question[rows], rng))
    scores = network(states, question, node, states[torch.cat([answer.unsqueeze(1), drawn], 1)])
    return (sampler.weight[question] * (scores.logsumexp(1) - scores[:, 0])).sum()
