"""What a fit of links leaves: the graph it learned from, a state a node, a decoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from kgnn.errors import InputError
from kgnn.graph import KnowledgeGraph
from kgnn.graph.edge_splits import EdgeSplit, same_nodes
from kgnn.graph.edges import triple
from kgnn.models.links.baselines import baselines
from kgnn.models.links.ranks import Scorer, matched, mean_reciprocal, ranks, table
from kgnn.models.links.triples import Questions, Triples
from kgnn.names import listed
from kgnn.nn.link_network import LinkNetwork
from kgnn.parts import check_number, did_you_mean

CANDIDATES = ("all", "degree")


@dataclass(eq=False)
class FittedLinks:
    """states: [nodes, channels]; graph: what was learned from; decoder, inverses: see `LinkNetwork`."""

    graph: KnowledgeGraph
    states: Tensor
    decoder: nn.Module
    inverses: bool
    history: list[dict[str, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.learned = Triples.of(self.graph)
        parts = self.learned.sizes, len(self.learned.relations), self.states.shape[1], self.decoder, self.inverses
        network = LinkNetwork(*parts, encoder=nn.Identity()).eval()
        self.score = scorer(network, self.learned, self.states)
        self.affinity = scorer(network, self.learned, self.states, popular=False)

    def number(self, kind: str, name: Any) -> int:
        """A node's number, or `InputError`."""
        names = self.graph.tables.node_table(kind).index
        if name not in names:
            raise InputError(f"no {kind} {name!r} in the graph{did_you_mean(str(name), names)}")
        return self.learned.start[kind] + int(names.get_loc(name))

    def question(self, relation: Any, side: str) -> int:
        """The number of the question for the other end than `side`, or `InputError`."""
        relation = triple(relation)
        self.graph.tables.table(relation)
        n = len(self.learned.relations)
        return self.learned.relations.index(relation) + (0 if side == "source" else n)


def scorer(network: LinkNetwork, learned: Triples, states: Tensor, popular: bool = True) -> Scorer:
    """The network as a function of a question and nodes; popular: with what candidates' numbers of edges tell."""

    @torch.no_grad()
    def score(question: int, nodes: np.ndarray) -> np.ndarray:
        asked, known = torch.full((len(nodes),), question), torch.from_numpy(nodes)
        candidates = states[learned.candidates(question)]
        scores = network(states, asked.to(states.device), known.to(states.device), candidates).cpu().numpy()
        return scores + learned.popularity(question) if popular else scores

    return score


def validation_score(network: LinkNetwork, learned: Triples, val: Triples, known: Questions) -> float:
    """MRR of the validation edges."""
    with torch.no_grad():
        states = network.states()
    return mean_reciprocal(ranks(scorer(network, learned, states), val, known))


def known_edges(learned: Triples, *more: KnowledgeGraph) -> Questions:
    """The questions that the training edges and those of other graphs answer."""
    parts = [learned, *(Triples.of(kg, learned.relations) for kg in more)]
    ends = (np.concatenate([getattr(part, name) for part in parts]) for name in ("source", "relation", "target"))
    return Triples(learned.start, learned.sizes, learned.relations, *ends).questions


def evaluate(
    links: FittedLinks, split: EdgeSplit, *, candidates: str = "all", n_candidates: int = 100, seed: int = 0
) -> pd.DataFrame:
    """Rank the test edges of a split, from both ends, beside what knows only degrees and common neighbours.

    Filtered, realistic ranks: edges of training, validation and test are no competitors; ties count half.

    Args:
        split: the one that the model was fitted on.
        candidates: what an edge competes with. `all`: all nodes of the right type. `degree`: `n_candidates`, drawn as
            often as nodes stand at that end of that relation in training, so that degree alone gives nothing; the model
            is then asked without it as well.
        seed: of the draw.

    Returns:
        A row a relation (and `all`) and model (`links`, `degree`, `frequency`, `adamic_adar`): `edges`, `mrr`,
        `hits_1`, `hits_3`, `hits_10`, `auc` (mean share of the competitors that an edge is above).

    Raises:
        InputError: a split of another graph.
    """
    if candidates not in CANDIDATES:
        raise InputError(f"unknown candidates {candidates!r}; choose one of {', '.join(CANDIDATES)}")
    check_number(n_candidates, "n_candidates", 1, whole=True)
    check_split(split, links.graph)
    if split.train != links.graph:
        raise InputError("the model was fitted on other edges than split.train; give the split that fit was given")
    held, known = Triples.of(split.test, links.learned.relations), known_edges(links.learned, split.val, split.test)
    drawn = None if candidates == "all" else matched(held, links.learned, n_candidates, seed)
    own = links.score if drawn is None else links.affinity
    scorers = {"links": own} | baselines(links.learned)
    tables = [table(ranks(score, held, known, drawn), held).assign(model=name) for name, score in scorers.items()]
    found = pd.concat(tables).sort_values(
        "relation", key=lambda x: x.map({name: i for i, name in enumerate(x.unique())}), kind="stable"
    )
    return found[["relation", "model", *(name for name in found if name not in ("relation", "model"))]].reset_index(
        drop=True
    )


def check_split(split: Any, kg: KnowledgeGraph) -> EdgeSplit:
    """Refuse what is no split of this graph's nodes."""
    if not isinstance(split, EdgeSplit):
        raise InputError(f"{type(split).__name__} where a split of edges is asked for; see kgnn.graph.split_edges")
    if not all(same_nodes(part, kg) for part in split):
        raise InputError("the split has other nodes than the model's graph; make it with kgnn.graph.split_edges(kg)")
    return split


def predict(
    links: FittedLinks,
    relation: Sequence[str],
    *,
    source: str | Sequence[str] | None = None,
    target: str | Sequence[str] | None = None,
    k: int = 10,
) -> pd.DataFrame:
    """Return the most likely missing edges of one relation, those that were learned from left out.

    Args:
        relation: (source type, relation, target type). source, target: one of them, a node or several.
        k: edges for each of these nodes.

    Returns:
        `source`, `target`, `score`, best first for each node. Scores compare the candidates of one node with each
        other; between nodes and relations they have no common scale.

    Raises:
        InputError: an unknown relation or node; both ends or none.
    """
    if (source is None) == (target is None):
        raise InputError("give source= or target=, the known end, and not both")
    check_number(k, "k", 1, whole=True)
    side, given = ("target", target) if source is None else ("source", source)
    names = [given] if isinstance(given, str) else listed(given, side)
    asked = links.question(relation, side)
    near, far = (relation[0], relation[2]) if side == "source" else (relation[2], relation[0])
    others = links.graph.tables.node_table(far).index
    nodes = [links.number(near, name) for name in names]
    rows = [pd.DataFrame({"source": [], "target": [], "score": []})]
    for name, node in zip(names, nodes, strict=True):
        scores = links.score(asked, np.array([node]))[0].copy()
        _, known = links.learned.questions.known(asked, np.array([node]))
        start = links.learned.start[far]
        scores[known - start] = -np.inf
        if near == far:
            scores[node - start] = -np.inf  # the graph holds no self loops
        best = np.argsort(-scores, kind="stable")[: min(k, int((scores > -np.inf).sum()))]
        ends = (
            {"source": name, "target": others[best]} if side == "source" else {"source": others[best], "target": name}
        )
        rows.append(pd.DataFrame({**ends, "score": scores[best]}))
    return pd.concat(rows[1:] or rows, ignore_index=True)


def embeddings(links: FittedLinks) -> Mapping[str, pd.DataFrame]:
    """Return each node's state, node type → table [nodes, channels]; for `kg.with_features("links", table)`."""
    return {
        kind: pd.DataFrame(
            links.states[start : start + links.learned.sizes[kind]].numpy(), index=links.graph.tables.nodes[kind].index
        )
        for kind, start in links.learned.start.items()
    }
