"""Links: ranks beside PyKEEN's for the same scores, trained models beside PyKEEN's, regulation of the human graph.

    python -m benchmarks.links --out DIR                    # Nations, Kinships, UMLS, which PyKEEN's wheel holds
    python -m benchmarks.links --out DIR --human FOLDER     # TF → target edges of CollecTRI held out; docs/links.md

Both sides: 64 real numbers a node, batches of 512, Adam at 0.01, at most 100 epochs, the epoch with the best filtered
MRR of the validation edges (PyKEEN looks every 5 epochs, kgnn each; both stop after 20 without a better one). PyKEEN's
ComplEx with inverse triples, by its `lcwa` loop with cross-entropy, with another start and no regulariser: with its own
100 epochs are too few (validation MRR on UMLS 0.28; as here 0.63); its RotatE by the same loop, all else its own.
Resumable: a file a data set × library × model × seed. PyKEEN keeps checkpoints under PYSTOW_HOME.
"""

import argparse
import logging
import time
import warnings
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from benchmarks.human_graph import human_graph
from kgnn import KnowledgeGraph, LinkModel
from kgnn.errors import DataWarning
from kgnn.graph import EdgeSplit, split_edges
from kgnn.models.links.fitted import known_edges
from kgnn.models.links.ranks import Scorer, ranks
from kgnn.models.links.triples import Triples

REGULATES = ("gene", "regulates", "gene")
CHANNELS, EPOCHS, BATCH, RATE = 64, 100, 512, 0.01
XAVIER = {"entity_initializer": "xavier_normal", "relation_initializer": "xavier_normal", "regularizer": None}
PEERS: dict[str, dict[str, Any]] = {
    "complex": {"model": "ComplEx", "training_loop": "lcwa", "loss": "crossentropy", "model_kwargs": XAVIER},
    "rotate": {"model": "RotatE", "training_loop": "lcwa", "loss": "crossentropy"},
}


def of_pykeen(name: str) -> EdgeSplit:
    """Read a data set of PyKEEN's wheel: training, validation and test edges over the same nodes."""
    from pykeen.datasets import get_dataset

    data = get_dataset(dataset=name)
    names = {number: label for label, number in data.training.entity_to_id.items()}
    relations = {number: label for label, number in data.training.relation_to_id.items()}
    parts = []
    for factory in (data.training, data.validation, data.testing):
        table = pd.DataFrame(factory.mapped_triples.numpy(), columns=["source", "relation", "target"])
        edges = {
            ("node", relations[number], "node"): rows[["source", "target"]].replace(names)
            for number, rows in table.groupby("relation")
        }
        parts.append(KnowledgeGraph({"node": [names[number] for number in sorted(names)]}, edges))
    return EdgeSplit(*parts)


def factory(triples: Triples, inverse: bool = False) -> Any:
    """Edges as PyKEEN takes them."""
    from pykeen.triples import CoreTriplesFactory

    mapped = torch.from_numpy(np.stack([triples.source, triples.relation, triples.target], 1))
    sizes = {"num_entities": triples.n_nodes, "num_relations": len(triples.relations)}
    return CoreTriplesFactory(mapped, **sizes, create_inverse_triples=inverse)


def pykeen_ranks(score: Scorer, learned: Triples, held: Triples, *more: Triples) -> list[float]:
    """Filtered, realistic ranks of both ends by PyKEEN's evaluator, for the same scores."""
    from pykeen.evaluation import RankBasedEvaluator
    from pykeen.models.mocks import FixedModel

    n = len(learned.relations)

    class Scored(FixedModel):
        def score_t(self, hr_batch: Any, **_: Any) -> Any:
            return torch.from_numpy(np.concatenate([score(r, np.array([h])) for h, r in hr_batch.tolist()]))

        def score_h(self, rt_batch: Any, **_: Any) -> Any:
            return torch.from_numpy(np.concatenate([score(r + n, np.array([t])) for r, t in rt_batch.tolist()]))

    evaluator = RankBasedEvaluator(filtered=True, clear_on_finalize=False)
    known = [factory(part).mapped_triples for part in (learned, *more)]
    options = {"batch_size": 64, "use_tqdm": False, "additional_filter_triples": known}
    evaluator.evaluate(Scored(triples_factory=factory(learned)), factory(held).mapped_triples, **options)
    found = [evaluator.ranks[side, "realistic"] for side in ("head", "tail")]
    return np.concatenate([np.concatenate(part) for part in found]).tolist()


def parity(split: EdgeSplit) -> dict[str, float]:
    """Largest difference of the sorted ranks of a trained model between kgnn and PyKEEN, and both MRR."""
    model = LinkModel(split.train, channels=CHANNELS).fit(split, max_epochs=5)
    learned = model.fitted_.learned
    val, held = (Triples.of(part, learned.relations) for part in split[1:])
    mine = np.sort(ranks(model.fitted_.score, held, known_edges(learned, split.val, split.test)).rank)
    theirs = np.sort(pykeen_ranks(model.fitted_.score, learned, held, val))
    apart = float(np.abs(mine - theirs).max())
    return {
        "ranks": len(mine),
        "apart": apart,
        "mrr": float((1 / mine).mean()),
        "mrr_pykeen": float((1 / theirs).mean()),
    }


def own(split: EdgeSplit, decoder: str, seed: int) -> dict[str, float]:
    """kgnn's scores of the test edges, with those of the baselines."""
    model = LinkModel(split.train, decoder=decoder, channels=CHANNELS)
    model.fit(split, max_epochs=EPOCHS, batch_size=BATCH, learning_rate=RATE, patience=20, seed=seed)
    scores = model.evaluate(split).query("relation == 'all'").set_index("model")
    beside = {name: float(scores.loc[name, "mrr"]) for name in scores.index if name != "links"}
    best = {"val": max(record["mrr"] for record in model.history_), "epochs": len(model.history_)}
    return dict(scores.loc["links", ["mrr", "hits_1", "hits_10"]]) | best | beside


def theirs(split: EdgeSplit, decoder: str, seed: int) -> dict[str, float]:
    """PyKEEN's scores of the test edges."""
    from pykeen.pipeline import pipeline

    learned = Triples.of(split.train)
    peer = dict(PEERS[decoder])
    val, held = (factory(Triples.of(part, learned.relations)) for part in split[1:])
    stop = {"frequency": 5, "patience": 4, "relative_delta": 1e-9, "metric": "mrr", "larger_is_better": True}
    stop |= {"evaluation_batch_size": BATCH}
    found = pipeline(
        training=factory(learned, inverse=True),
        validation=val,
        testing=held,
        model_kwargs={"embedding_dim": CHANNELS // 2, **peer.pop("model_kwargs", {})},  # complex numbers
        optimizer="Adam",
        optimizer_kwargs={"lr": RATE},
        training_kwargs={"num_epochs": EPOCHS, "batch_size": BATCH, "use_tqdm": False},
        stopper="early",
        stopper_kwargs=stop,
        evaluation_kwargs={"use_tqdm": False, "batch_size": BATCH},
        random_seed=seed,
        device="cpu",
        **peer,
    )
    names = {"mrr": "inverse_harmonic_mean_rank", "hits_1": "hits_at_1", "hits_10": "hits_at_10"}
    scores = {name: float(found.get_metric(f"both.realistic.{metric}")) for name, metric in names.items()}
    return scores | {"val": max(found.stopper.results), "epochs": len(found.losses)}


def small(out: Path, seeds: int, datasets: list[str]) -> None:
    """Write parity.csv, a row a fit in fits.csv, and their means in summary.csv."""
    splits = {name: of_pykeen(name) for name in datasets}
    pd.DataFrame({name: parity(split) for name, split in splits.items()}).T.rename_axis("data").to_csv(
        out / "parity.csv"
    )
    for decoder, seed, (name, split) in product(PEERS, range(seeds), splits.items()):
        _kept(out, (name, "kgnn", decoder, seed), partial(own, split, decoder, seed))
        _kept(out, (name, "pykeen", decoder, seed), partial(theirs, split, decoder, seed))
        _summary(out)


def _kept(out: Path, key: tuple[Any, ...], run: Any) -> None:
    file = out / "fits" / ("-".join(map(str, key)) + ".csv")
    if file.exists():
        return
    start = time.process_time()
    row = dict(zip(("data", "library", "model", "seed"), key, strict=True)) | run()
    file.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame([row | {"cpu_seconds": round(time.process_time() - start, 1)}]).to_csv(file, index=False)
    print(row, flush=True)


def _summary(out: Path) -> None:
    fits = pd.concat([pd.read_csv(file) for file in sorted((out / "fits").glob("*.csv"))])
    fits.to_csv(out / "fits.csv", index=False)
    groups = fits.groupby(["data", "library", "model"])
    columns = {name: groups[name].mean() for name in ("mrr", "hits_1", "hits_10", "val", "epochs", "cpu_seconds")}
    beside = {name: groups[name].mean() for name in ("degree", "frequency", "adamic_adar")}
    table = pd.DataFrame(columns | {"mrr_sd": groups["mrr"].std(), "seeds": groups.size()} | beside)
    table.round(4).to_csv(out / "summary.csv")


def human(folder: Path, out: Path, epochs: int, seeds: int) -> None:
    """Hold out a tenth of CollecTRI, another for each seed; learn from regulation alone and from the whole graph; write
    human.csv."""
    kg, rows = human_graph(folder), []
    for seed in range(seeds):
        rows += held_out_regulation(kg, epochs, seed)
        pd.concat(rows).round(4).to_csv(out / "human.csv", index=False)


def held_out_regulation(kg: KnowledgeGraph, epochs: int, seed: int) -> list[pd.DataFrame]:
    """Scores of the held-out edges among all nodes, and among nodes drawn by their degree."""
    split = split_edges(kg, relations=[REGULATES], seed=seed)
    tables = split.train.tables
    alone = tables.derive("only", edges={REGULATES: tables.edges[REGULATES]})
    rows = []
    for graph, train in (("regulation alone", KnowledgeGraph.of(alone)), ("whole graph", split.train)):
        part = EdgeSplit(train, *split[1:])
        start = time.process_time()
        model = LinkModel(train, negatives="degree", n_negatives=512)
        model.fit(part, max_epochs=epochs if graph == "whole graph" else 5 * epochs, batch_size=4096, seed=seed)
        seconds = time.process_time() - start
        for candidates in ("all", "degree"):
            scores = model.evaluate(part, candidates=candidates).query("relation == 'all'").drop(columns="relation")
            rows.append(
                scores.assign(
                    graph=graph,
                    candidates=candidates,
                    seed=seed,
                    epochs=len(model.history_),
                    cpu_seconds=round(seconds),
                )
            )
            print(rows[-1].round(3).to_string(), flush=True)
    return rows


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--human", type=Path, help="folder of the knowledge sources")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=20, help="of the human graph")
    parser.add_argument("--data", nargs="*", default=["nations", "kinships", "umls"])
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)  # these data sets are known for their redundant relations
        if asked.human:
            human(asked.human, asked.out, asked.epochs, asked.seeds)
        else:
            small(asked.out, asked.seeds, asked.data)


if __name__ == "__main__":
    main()
