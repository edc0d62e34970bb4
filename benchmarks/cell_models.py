"""Cell models against plain methods, graph against transformer: writes docs/cells.md.

    python -m benchmarks.cell_models --data ../shared/data

All models run for 20 epochs with the settings written here, which were chosen on validation cells within the training
cells; in what respects that was not blind to test cells stands in docs/cells.md.
`python -m benchmarks.cell_speed` measures time.
"""

import argparse
import json
import os
import time
import warnings
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from scipy import sparse

from benchmarks import cell_tasks, tasks
from benchmarks.machine import describe

SEEDS = range(3)
ENCODERS = ("transformer", "graph_transformer", "graph", "alternating")
PAIR = ENCODERS[:2]  # full attention and attention along edges: as many parameters without asking
SIZE = {"channels": 64, "layers": 2, "heads": 4}
PARAMETERS = 100_000  # of every encoder's layers
CONTEXT = 128  # gene tokens, of 765 genes
ALL = {"value": 1.0, "denoise": 10.0, "classify": 1.0}
ONTOLOGY = {"coherence": 1.0, "relation": 1.0}
QUIET = {"enable_progress_bar": False, "accelerator": "cpu"}
SOURCES = ("dorothea", "reactome", "go", "family")
CELLS = (50, 100, 200, 500)
T_CELL = "CL:0000084"  # of the PBMCs' types, its kinds alone have sisters
PARTS = ("cells", "truth", "shape", "left_out", "tokens", "network", "knowledge", "perturbation", "species")


def quiet() -> None:
    import logging

    import torch

    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    for name in ("lightning.pytorch", "lightning.pytorch.utilities.rank_zero", "scvi"):
        logging.getLogger(name).setLevel(logging.ERROR)


def gene_graph(data: Path):
    """DoRothEA A–C, Reactome and GO similarity."""
    return tasks.norman(data)[1]


def true_graph(adata):
    """The network of a simulated atlas."""
    from kgnn.graph import load_table

    return load_table(
        adata.uns["network"][["source", "target"]].drop_duplicates(), relation="regulates", origin="atlas"
    )


def on_cells(data: Path, seed: int, name: str) -> list[dict]:
    """One model on PBMCs: shape of the space, annotation, denoising, masked values; test cells are a fifth."""
    quiet()
    from sklearn.decomposition import PCA
    from sklearn.linear_model import LogisticRegression

    from kgnn import CellModel

    adata, ontology = cell_tasks.pbmc(), cell_tasks.cell_ontology(data)
    labels = adata.obs["cell_type"].to_numpy()
    rows, held = cell_tasks.fold(labels, seed)
    train, test = adata[rows].copy(), adata[held].copy()
    seen, left = cell_tasks.thinned(test, seed)
    began = time.perf_counter()
    found: dict[str, float] = {}
    if name == "plain":
        x, y = cell_tasks.log_values(train), cell_tasks.log_values(test)
        pca = PCA(50, random_state=0).fit(x)
        plain = LogisticRegression(max_iter=2000).fit(pca.transform(x), labels[rows])
        found["macro_f1"] = cell_tasks.macro_f1(labels[held], plain.predict(pca.transform(y)))
        start = cell_tasks.untrained(CellModel(objectives={"value": 1}, context=CONTEXT, **SIZE), train)
        genes = start.chosen_.numpy()
        found["masked"] = cell_tasks.masked_error(start, test, seed)
        for k in (5, 10, 20, 40):
            found[f"denoise, {k} nearest"] = cell_tasks.held_out_error(
                cell_tasks.smoothed(train, seen, k)[:, genes] + 1e-9, left[:, genes]
            )
        if find_spec("scvi"):
            share = cell_tasks.scvi(train, seen, seed)[:, genes]
            found["denoise, scVI"] = cell_tasks.held_out_error(share, left[:, genes])
        return [{"model": name, "seed": seed, "score": key, "value": value} for key, value in found.items()]
    encoder, _, how = name.partition(", ")
    objectives = ALL | ONTOLOGY if how in ("", "rewired") else ALL
    kg = None if encoder == "transformer" else gene_graph(data)
    kg = kg.rewire(seed) if how == "rewired" and kg is not None else kg
    model = CellModel(
        kg,
        encoder=encoder,
        classes=["cell_type"],
        ontology={} if how == "flat labels" else {"cell_type": ontology},
        objectives=objectives,
        context=CONTEXT,
        parameters=PARAMETERS,
        **SIZE,
    )
    model.fit(train, seed=seed, **QUIET)
    found["seconds"] = time.perf_counter() - began
    found["macro_f1"] = cell_tasks.macro_f1(labels[held], cell_tasks.best_leaf(model, test, "cell_type"))
    found["shape"] = cell_tasks.shape(model, test, ontology)
    found["masked"] = cell_tasks.masked_error(model, test, seed)
    genes = model.chosen_.numpy()
    found["denoise"] = cell_tasks.held_out_error(model.denoise(seen).X, left[:, genes])
    return [{"model": name, "seed": seed, "score": key, "value": value} for key, value in found.items()]


def truth(seed: int, name: str) -> list[dict]:
    """Masked values on a simulated atlas whose true network is the graph: does the encoder use it?"""
    quiet()
    from kgnn import CellModel

    adata, _ = cell_tasks.atlas(seed)
    held = np.random.default_rng(seed).permutation(adata.n_obs) < adata.n_obs // 5
    train, test = adata[~held].copy(), adata[held].copy()
    encoder, _, how = name.partition(", ")
    kg = None if encoder in ("transformer", "components") else true_graph(adata)
    kg = kg.rewire(seed) if how and kg is not None else kg
    options = {"objectives": {"value": 1.0}, "parameters": PARAMETERS, **SIZE}
    if encoder == "components":
        model = cell_tasks.untrained(CellModel(**options), train)
    else:
        model = CellModel(kg, encoder=encoder, **options).fit(train, seed=seed, **QUIET)
    return [{"model": name, "seed": seed, "value": cell_tasks.masked_error(model, test, seed)}]


def shape(seed: int, encoder: str, ontology_losses: bool) -> list[dict]:
    """The same question on a simulated atlas with a hierarchy of three levels."""
    quiet()
    from kgnn import CellModel

    adata, ontology = cell_tasks.atlas(seed, (2, 3, 2), 70)
    held = np.random.default_rng(seed).permutation(adata.n_obs) < adata.n_obs // 5
    objectives = {"classify": 1.0, "value": 1.0} | (ONTOLOGY if ontology_losses else {})
    model = CellModel(
        None if encoder == "transformer" else true_graph(adata),
        encoder=encoder,
        classes=["cell_type"],
        ontology={"cell_type": ontology},
        objectives=objectives,
        context=CONTEXT,
        **SIZE,
    )
    model.fit(adata[~held].copy(), seed=seed, **QUIET)
    value = cell_tasks.shape(model, adata[held].copy(), ontology, "true_type")
    return [{"encoder": encoder, "ontology": ontology_losses, "seed": seed, "value": value}]


def left_out(data: Path, seed: int, where: str, number: int, encoder: str) -> list[dict]:
    """A type without cells in training: is it annotated with an ancestor of the true term, or with an unrelated one?

    Ancestors of all types of the data say nothing and count apart. A fifth of the other types' cells are held out, to
    see what the threshold costs them.
    """
    quiet()
    from kgnn import CellModel

    if where == "atlas":
        adata, ontology = cell_tasks.atlas(seed)
        adata.obs["cell_type"] = adata.obs["true_type"]
        size = {"channels": 32, "layers": 1, "heads": 4}
    else:
        adata, ontology, size = cell_tasks.pbmc(), cell_tasks.cell_ontology(data), SIZE
    labels = adata.obs["cell_type"].astype(str).to_numpy()
    names = sorted(set(labels))
    sisters = names if where == "atlas" else [name for name in names if T_CELL in ontology.ancestors(name)]
    if number >= len(sisters):
        return []
    name = sisters[number]
    gone = labels == name
    known = ~gone & (np.random.default_rng(seed).random(len(labels)) < 0.2)
    kg = None if encoder == "transformer" else true_graph(adata) if where == "atlas" else gene_graph(data)
    model = CellModel(
        kg,
        encoder=encoder,
        classes=["cell_type"],
        ontology={"cell_type": ontology},
        objectives={"classify": 1.0},
        context=CONTEXT,
        **size,
    )
    model.fit(adata[~gone & ~known].copy(), seed=seed, validation=0.1, **QUIET)  # later epochs are too sure
    above = set(ontology.ancestors(name))
    trivial = set.intersection(*({one, *ontology.ancestors(one)} for one in names))
    found = []
    for threshold in (0.5, 0.9):
        said = model.annotate(adata[gone].copy(), threshold=threshold)["cell_type_term"]
        shares = {
            "ancestor": said.isin(above - trivial).mean(),
            "says nothing": said.isin(trivial).mean(),
            "unrelated": (~said.isin(above)).mean(),
        }
        term = model.annotate(adata[known].copy(), threshold=threshold)["cell_type_term"].to_numpy()
        right = term == labels[known]
        back = np.array([a in ontology.ancestors(b) for a, b in zip(term, labels[known], strict=True)])
        shares |= {
            "known: itself": right.mean(),
            "known: an ancestor": back.mean(),
            "known: wrong": (~right & ~back).mean(),
        }
        found += [
            {
                "where": where,
                "encoder": encoder,
                "type": name,
                "seed": seed,
                "threshold": threshold,
                "score": key,
                "value": value,
            }
            for key, value in shares.items()
        ]
    return found


def tokens(seed: int, encoder: str) -> list[dict]:
    """Which token holds which class: 15 nearest cells in the space of each token, held-out cells; and what a logistic
    regression of the 50 principal components finds of it."""
    quiet()
    import torch
    from sklearn.decomposition import PCA
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier

    from kgnn import CellModel

    adata, ontology = cell_tasks.atlas(seed, cells_per_type=300)
    held = np.random.default_rng(seed).permutation(adata.n_obs) < adata.n_obs // 5
    train, test = adata[~held].copy(), adata[held].copy()
    classes = ["cell_type", "tissue", "batch"]
    model = CellModel(
        None if encoder == "transformer" else true_graph(adata),
        encoder=encoder,
        classes=classes,
        ontology={"cell_type": ontology},
        objectives={"classify": 1, "dissimilar": 1},
        **SIZE,
    )
    model.fit(train, seed=seed, **QUIET)
    spaces = []
    with torch.no_grad():
        for part in (train, test):
            spaces.append(np.concatenate([state.special.numpy() for _, _, state in model.encoded(part)]))
    pca = PCA(50, random_state=0).fit(cell_tasks.log_values(train))
    x, y = (pca.transform(cell_tasks.log_values(part)) for part in (train, test))
    found = []
    for name in classes:
        column = "true_type" if name == "cell_type" else name
        for number, token in enumerate(model.network_.special.names):
            near = KNeighborsClassifier(15).fit(spaces[0][:, number], train.obs[column])
            score = near.score(spaces[1][:, number], test.obs[column])
            found.append({"encoder": encoder, "class": name, "token": token, "seed": seed, "value": score})
        plain = LogisticRegression(max_iter=2000).fit(x, train.obs[column]).score(y, test.obs[column])
        found.append({"encoder": encoder, "class": name, "token": "logistic regression", "seed": seed, "value": plain})
    return found


def network(data: Path, seed: int, where: str) -> list[dict]:
    """Gene networks read from a transformer, and plain correlation: AUPRC over undirected pairs.

    Of the PBMCs' genes those that DoRothEA A–C knows are tokens, and pairs with one of its regulators count: it could
    not hold any other.
    """
    quiet()
    from kgnn import CellModel

    if where == "atlas":
        adata = cell_tasks.atlas(seed)[0]
        edges, regulators = adata.uns["network"], None
    else:
        adata = cell_tasks.pbmc()
        from kgnn import graph

        kg = graph.load_regulation(data / "kg/dorothea_hs.tsv.gz", min_confidence="C")
        edges = kg.edges(("gene", "regulates", "gene"))
        regulators = set(edges["source"])
        adata.X = sparse.csr_matrix(cell_tasks.log_values(adata))
        adata = adata[:, adata.var_names.isin(regulators | set(edges["target"]))].copy()
    truth = set(zip(edges["source"], edges["target"], strict=True))
    model = CellModel(objectives={"value": 1.0}, genes="all", **SIZE).fit(adata, seed=seed, **QUIET)
    genes = list(model.genes_)
    read = model.gene_network(adata, top=len(genes)).edges(("gene", "influences", "gene"))
    attention = read.set_index(["source", "target"])["weight"]
    log = cell_tasks.log_values(adata) if where == "atlas" else adata.X.toarray()
    r = np.nan_to_num(np.abs(np.corrcoef(log.T)))
    plain = pd.Series({(a, b): r[i, j] for i, a in enumerate(genes) for j, b in enumerate(genes) if i < j})
    found = []
    read = model.gene_network(adata, method="attribution", max_cells=50, top=len(genes))
    slope = read.edges(("gene", "influences", "gene")).set_index(["source", "target"])["weight"]
    for name, scores in (("attention", attention), ("attribution", slope), ("correlation", plain)):
        value, chance = cell_tasks.area(scores, truth, genes, regulators)
        found.append({"where": where, "scores": name, "seed": seed, "auprc": value, "chance": chance})
    return found


def knowledge(data: Path, seed: int, which: str, n: int) -> list[dict]:
    """Masked value error after training on n cells, with knowledge of one source, of all, shuffled, or none."""
    with np.load(data_vectors()) as file:
        tables = {source: pd.DataFrame(file[source], index=file[f"{source}_genes"]) for source in SOURCES}
    chosen = {"none": [], "all": SOURCES, "all, shuffled": SOURCES}.get(which, [which])
    given = {source: tables[source] for source in chosen}
    if which == "all, shuffled":
        rng = np.random.default_rng(seed)
        given = {name: pd.DataFrame(t.to_numpy()[rng.permutation(len(t))], index=t.index) for name, t in given.items()}
    return [{"knowledge": which, "cells": n, "seed": seed, "value": error_with(given, seed, n)}]


def error_with(given: dict[str, pd.DataFrame], seed: int, n: int) -> float:
    """Masked value error on PBMCs after training on n others with these gene vectors in the tokens."""
    quiet()
    from kgnn import CellModel

    adata = cell_tasks.pbmc()
    rows, held = cell_tasks.fold(adata.obs["cell_type"].to_numpy(), seed)
    some = np.random.default_rng(seed).permutation(rows)[:n]
    model = CellModel(knowledge=given, objectives={"value": 1.0}, context=CONTEXT, **SIZE | {"layers": 1})
    model.fit(adata[np.sort(some)].copy(), seed=seed, max_epochs=max(20, 4000 // n), **QUIET)
    return cell_tasks.masked_error(model, adata[held].copy(), seed)


def data_vectors() -> Path:
    return Path("benchmarks/work/gene_vectors.npz")


def make_vectors(data: Path) -> None:
    """Spectral embeddings (64 channels) of each source's graph over PBMC genes and what is linked to them."""
    from kgnn import graph

    human = data / "kg"
    genes = cell_tasks.pbmc().var_names
    dorothea = graph.load_regulation(human / "dorothea_hs.tsv.gz", min_confidence="E")
    symbols = sorted({*genes, *dorothea.nodes("gene").index})
    graphs = {
        "dorothea": dorothea,
        "reactome": graph.load_gene_sets(human / "ReactomePathways.gmt", origin="reactome"),
        "go": graph.load_gene_sets(human / "GO_Biological_Process_2021.gmt", origin="go"),
        "family": graph.load_gene_families(human / "hgnc.genegroup.obo", genes=symbols, gene_edges=True),
    }
    arrays = {}
    for name, kg in graphs.items():
        table = graph.embed_graph(kg, "spectral", dim=64)
        table = table[(table != 0).any(axis=1) & table.index.isin(genes)]
        arrays |= {name: table.to_numpy(np.float32), f"{name}_genes": table.index.to_numpy(str)}
    data_vectors().parent.mkdir(parents=True, exist_ok=True)
    np.savez(data_vectors(), **arrays)


def perturbation(data: Path, seed: int, conditions: list[str]) -> list[dict]:
    """Norman et al., one condition left out: the default model with and without gene vectors from control cells."""
    quiet()
    from kgnn import CellModel
    from kgnn.data.splits import condition_names
    from kgnn.metrics import evaluate
    from kgnn.models import make_model

    adata, kg = tasks.norman(data)
    controls = adata[adata.obs["condition"] == "control"].copy()
    cells = CellModel(objectives={"value": 1.0}, context=256, **SIZE).fit(controls, seed=seed, **QUIET)
    vectors = cells.gene_embeddings()
    shuffled = pd.DataFrame(vectors.sample(frac=1, random_state=seed).to_numpy(), index=vectors.index)
    graphs = {"vectors": kg.with_features("kgnn", vectors), "shuffled": kg.with_features("kgnn", shuffled)}
    graphs |= {"none": kg} if seed == 0 else {}
    found = []
    for held_out in conditions:
        fold = tasks.fold_without(held_out, condition_names(adata), False)
        for name, graph in graphs.items():
            model = make_model("kg", graph, strength=1.0).fit(adata, fold)
            score = float(evaluate(model.predict([held_out]), adata, fold)["pearson_delta"].iloc[0])
            found.append({"screen": "Norman", "features": name, "condition": held_out, "seed": seed, "value": score})
    return found


def simulated_perturbation(seed: int) -> list[dict]:
    """Unseen knock-outs of a simulated screen, all of whose genes have vectors, with its true graph and without one."""
    quiet()
    from sklearn.decomposition import PCA

    from kgnn import CellModel, KnowledgeGraph
    from kgnn.metrics import evaluate
    from kgnn.models import make_model

    adata, true, fold = tasks.simulated(seed)
    controls = adata[adata.obs["condition"] == "control"].copy()
    cells = CellModel(objectives={"value": 1.0}, context=500, **SIZE).fit(controls, seed=seed, **QUIET)
    vectors = cells.gene_embeddings()
    loadings = PCA(SIZE["channels"], random_state=0).fit(controls.X.toarray()).components_.T
    tables = {
        "none": None,
        "vectors": vectors,
        "shuffled": pd.DataFrame(vectors.sample(frac=1, random_state=seed).to_numpy(), index=vectors.index),
        "loadings": pd.DataFrame(loadings, index=controls.var_names),
    }
    empty = KnowledgeGraph({"gene": pd.DataFrame(index=list(adata.var_names))}, {})
    found = []
    for where, graph in (("true graph", true), ("no graph", empty)):
        for name, table in tables.items():
            kg = graph if table is None else graph.with_features("kgnn", table)
            prediction = make_model("kg", kg).fit(adata, fold).predict(fold["test"])
            scores = evaluate(prediction, adata, fold, exclude_targets=True)["pearson_delta"]
            found += [
                {
                    "screen": f"simulated, {where}",
                    "features": name,
                    "condition": key,
                    "seed": seed,
                    "value": float(value),
                }
                for key, value in scores.items()
            ]
    return found


def species(seed: int) -> list[dict]:
    """Simulated second species (every gene's production shifted): trained on the first, or on both with few labels."""
    quiet()
    import anndata
    from sklearn.linear_model import LogisticRegression

    from kgnn import CellModel
    from kgnn.data import simulate_atlas

    adata = simulate_atlas(n_genes=200, branches=(3, 3), cells_per_type=100, n_species=2, noise=1.5, seed=seed)
    ontology = cell_tasks.atlas(seed)[1]
    first, second = (adata[adata.obs["species"] == name].copy() for name in ("species0", "species1"))
    few = np.random.default_rng(seed).permutation(second.n_obs)[:45]
    rest = second[np.setdiff1d(np.arange(second.n_obs), few)].copy()
    true = rest.obs["cell_type"].astype(str).to_numpy()
    trained = {"first species": first, "first and 45 cells": anndata.concat([first, second[few]])}
    found = []
    for name, cells in trained.items():
        key = None if name == "first species" else "species"
        model = CellModel(classes=["cell_type"], ontology={"cell_type": ontology}, species_key=key, **SIZE)
        model.fit(cells, seed=seed, **QUIET)
        plain = LogisticRegression(max_iter=2000).fit(cell_tasks.log_values(cells), cells.obs["cell_type"].astype(str))
        said = {"kgnn": cell_tasks.best_leaf(model, rest, "cell_type")}
        said["logistic regression"] = plain.predict(cell_tasks.log_values(rest))
        found += [
            {"trained on": name, "model": kind, "seed": seed, "value": cell_tasks.macro_f1(true, labels)}
            for kind, labels in said.items()
        ]
    return found


def jobs(part: str, data: Path) -> list:
    from kgnn.data.splits import condition_names

    if part == "cells":
        without = ["transformer, hierarchical labels", "transformer, flat labels"]
        names = ["plain", *ENCODERS, *without, "graph_transformer, rewired"]
        return [delayed(on_cells)(data, seed, name) for seed in SEEDS for name in names]
    if part == "truth":
        names = ["components", *ENCODERS[:3], "graph_transformer, rewired", "graph, rewired"]
        return [delayed(truth)(seed, name) for seed in SEEDS for name in names]
    if part == "shape":
        return [delayed(shape)(seed, name, losses) for seed in SEEDS for name in PAIR for losses in (True, False)]
    if part == "left_out":
        cases = [(where, name) for where in ("atlas", "pbmc") for name in PAIR]
        return [delayed(left_out)(data, s, where, n, name) for where, name in cases for s in SEEDS for n in range(10)]
    if part == "tokens":
        return [delayed(tokens)(seed, name) for seed in SEEDS for name in PAIR]
    if part == "network":
        return [delayed(network)(data, seed, where) for where in ("atlas", "pbmc") for seed in SEEDS]
    if part == "knowledge":
        make_vectors(data)
        which = ("none", *SOURCES, "all", "all, shuffled")
        return [delayed(knowledge)(data, seed, name, n) for seed in SEEDS for n in CELLS for name in which]
    if part == "perturbation":
        names = condition_names(tasks.norman(data)[0])
        norman = [delayed(perturbation)(data, seed, names) for seed in SEEDS]
        return [*norman, *(delayed(simulated_perturbation)(seed) for seed in SEEDS)]
    return [delayed(species)(seed) for seed in SEEDS]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("KGNN_TEST_DATA", "../shared/data")))
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--only", nargs="+", choices=PARTS)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/cell_models"))
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    for part in arguments.only or PARTS:
        start = time.perf_counter()
        rows = Parallel(n_jobs=arguments.processes)(jobs(part, arguments.data))
        table = pd.DataFrame([row for found in rows for row in found])
        table.to_csv(arguments.out / f"{part}.csv", index=False, float_format="%.5f")
        about = describe("scikit-learn", "scvi-tools") | {"seconds": round(time.perf_counter() - start)}
        (arguments.out / f"{part}.json").write_text(
            json.dumps(about | {"processes": arguments.processes}, indent=1) + "\n"
        )
        print(part, f"{time.perf_counter() - start:.0f} s", flush=True)


if __name__ == "__main__":
    main()
