"""The examples of docs/extend.md run as they stand there: Python, TOML and shell, a section at a time."""

import json
import re
import shlex
import sys
from pathlib import Path

import anndata
import networkx as nx
import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse
from torch_geometric.nn import SAGEConv

import kgnn
from kgnn.errors import InputError
from kgnn.evaluation.headline import POINTS
from tests.test_cli import run  # noqa: F401

pytestmark = pytest.mark.usefixtures("few_steps")

PAGE = (Path(kgnn.__file__).parents[1] / "docs" / "extend.md").read_text()
FIRST, *SECTIONS = re.split(r"^## ", PAGE, flags=re.M)
TEXTS = {text.splitlines()[0]: text for text in SECTIONS}
MOST_LINES = 14  # an example that is longer is no example


def blocks(text):
    """Language and text of each block of code."""
    return re.findall(r"```(\w+)\n(.*?)```", text, re.S)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What the page begins with, in a folder of its own."""
    return tmp_path_factory.mktemp("extend")


@pytest.fixture
def section(folder, run, monkeypatch):  # noqa: F811
    """Run a section's blocks in order, in one namespace; return its names and what the shell said, a line each."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "mine", raising=False)
    names: dict = {"__name__": "__main__"}
    said = {}

    def play(title):
        for language, code in blocks(FIRST) + blocks(TEXTS[title]):
            if code.startswith("# "):
                Path(code.splitlines()[0][2:]).write_text(code)
            if language == "python":
                exec(compile(code, f"docs/extend.md, {title}", "exec"), names)
            for line in code.splitlines() if language == "bash" else []:
                command = shlex.split(line)
                assert command[0] == "kgnn"
                said[line] = run(*command[1:])
                assert said[line][0] == 0, said[line][2]
        return names, said

    return play


def test_every_section_is_tested_and_every_example_short():
    here = Path(__file__).read_text()
    for title, text in TEXTS.items():
        assert f'section("{title}")' in here
        for language, code in blocks(text):
            lines = [line for line in code.splitlines() if line.strip() and not line.startswith("#")]
            assert language in ("python", "toml", "bash")
            assert len(lines) <= MOST_LINES, code


def means(adata, names):
    return pd.DataFrame({name: adata.X[(adata.obs["condition"] == name).to_numpy()].mean(0).A1 for name in names}).T


def test_a_whole_model(section, run):  # noqa: F811
    found, said = section("A whole model")
    adata, split, kg = found["adata"], found["split"], found["kg"]
    assert sorted(found["scores"].index) == split["test"]
    # the prediction, counted by hand with networkx
    graph = kg.to_networkx().to_undirected()
    observed = means(adata, split["train"])
    for name in split["test"]:
        near = {other for gene in name.split("+") for _, other in nx.ego_graph(graph, ("gene", gene), radius=2)}
        alike = [other for other in split["train"] if near & set(other.split("+"))]
        expected = observed.loc[alike or split["train"]].mean()
        assert found["model"].predict(name).X[0] == pytest.approx(expected.to_numpy(), abs=1e-5)
    assert set(found["table"]["model"]) == {"mine", "mine, rewired", "mean", *POINTS}
    assert Path("results/report.html").is_file()
    ablation = found["ablation"].set_index("variant")["mse"]
    assert (ablation["true graph"].to_numpy() != ablation["rewired graph"].to_numpy()).any(), "the graph matters"
    assert set(found["summary"].index) == {"true graph", "rewired graph", "no graph"}
    run_of_file = Path("results-of-the-file/runs/screen/random_condition-seed0/mine/run.json")
    assert json.loads(run_of_file.read_text())["chosen"]["neighbours"] in (1, 2)
    assert pd.read_csv("ablation/scores.csv")["variant"].unique().tolist() == ["true graph", "rewired graph"]
    evaluated = next(text for line, (_, text, _) in said.items() if line.startswith("kgnn evaluate"))
    alone = kgnn.models.make_model(found["Mine"], kg).fit(adata, split).predict(split["test"])
    assert f"{kgnn.metrics.evaluate(alone, adata, split)['mse'].mean():.4f}" in evaluated
    status, _, errors = run("train", "screen.h5ad", "--model", "mine:Mine", "-o", "run-of-mine")
    assert status == 1
    assert "not saved here" in errors


def test_an_encoder(section, run):  # noqa: F811
    found, _ = section("An encoder")
    split, model, sage, kg = found["split"], found["model"], found["sage"], found["kg"]
    genes, typed = list(model.genes_), model.predictor_.typed
    assert model.network_.weights.shape == (4, 60)
    assert len(model.history_) == 3
    # signals that travel along the edges, by SciPy
    edges = kg.edge_arrays(("gene", "regulates", "gene"))
    at = model.perturbable_.get_indexer(kg.nodes("gene").index)
    sign = edges["weight"].abs() * np.where(edges["sign"] < 0, -1, 1)
    matrix = sparse.csr_matrix((sign, (at[edges["target"]], at[edges["source"]])), shape=[len(model.perturbable_)] * 2)
    weights, measured = model.network_.weights.detach().numpy(), model.perturbable_.get_indexer(genes)
    for name in split["test"]:
        signal, change = -np.isin(model.perturbable_, name.split("+")).astype(float), 0
        for weight in weights:
            change, signal = change + weight * signal[measured], matrix @ signal
        assert model.predict(name).layers["delta"][0] == pytest.approx(change, abs=1e-4)
    assert model.predict("control").layers["delta"] == pytest.approx(0)
    # PyG's layer by itself
    assert isinstance(sage.network_.first, SAGEConv)
    assert sage.network_.first.out_channels == 8
    assert typed.hetero["gene", "regulates", "gene"].num_edges == len(kg.edges(("gene", "regulates", "gene")))
    for one, again in ((model, found["again"]), (sage, found["sage_again"])):
        assert (one.predict(split["test"]).X == again.predict(split["test"]).X).all()
    for name in ("run", "sage"):
        with pytest.raises(InputError, match="give it as encoder="):
            kgnn.load_model(name)
    # in the controls
    options = {"fit_options": {"max_epochs": 2, "learning_rate": 0.01, "enable_progress_bar": False}}
    asked = {"model": found["Spread"], "kinds": ["true", "rewired", "none"], "seeds": [0]}
    scores = kgnn.controls.ablate(kg, found["adata"], split, **asked, **options)
    assert scores.groupby("variant")["mse"].mean().nunique() == 3
    # in the shell
    Path("mine.py").write_text("import kgnn\n" + "\n".join(code for _, code in blocks(TEXTS["An encoder"])[:1]))
    train = ["screen.h5ad", "--graph", "kg", "--model", "mine:Spread", "--split", "split.json", "--epochs", 1]
    assert run("train", *train, "-o", "run-of-the-shell", "--no-progress")[0] == 0
    predict = ["run-of-the-shell", "G001", "-o", "shell.h5ad"]
    assert "give it as encoder=" in run("predict", *predict)[2]
    assert run("predict", *predict, "--encoder", "mine:Spread")[0] == 0
    assert anndata.read_h5ad("shell.h5ad").shape == (1, 60)


def test_a_predictor(section):
    found, _ = section("A predictor")
    adata, split, model = found["adata"], found["split"], found["model"]
    control = means(adata, ["control"]).to_numpy()[0]
    expected = 0.3 * (means(adata, split["train"]).mean().to_numpy() - control)
    for one in (model, found["again"]):
        change = one.predict([*split["test"], "control"]).layers["delta"]
        assert change[:-1] == pytest.approx(np.tile(expected, (len(split["test"]), 1)), abs=1e-5)
        assert (change[-1] == 0).all()


def test_loss_optimiser_schedule_callbacks(section):
    found, _ = section("Loss, optimiser, schedule, callbacks")
    adata, split, model = found["adata"], found["split"], found["model"]
    logged = pd.read_csv(next(Path("logs").rglob("metrics.csv")))
    assert logged["lr-SGD"].dropna().tolist() == pytest.approx([1e-3, 0.5e-3])  # a cosine over two epochs
    assert Path("checkpoints/last.ckpt").is_file()
    whole = kgnn.PerturbationModel(found["kg"], encoder="txpert", channels=8).fit(adata, split, max_epochs=6)
    assert len(model.history_) == len(whole.history_) == 6
    assert model.history_ == whole.history_
    logged = found["trainer"].callback_metrics
    assert float(logged["val_mse_top20"]) > 0
    # the loss by hand: conditions count alike
    one, two = torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 3.0]])
    cells = torch.cat([one, one, two])

    class batch:
        condition, counts = torch.tensor([0, 0, 1]), torch.tensor([2, 1])

    assert float(found["balanced"](cells, torch.zeros(3, 2), batch)) == pytest.approx((1.5 + 3) / 2)
    for solved in ("kg", "mean"):
        with pytest.raises(InputError, match="has no option 'loss'"):
            kgnn.PerturbationModel(found["kg"], encoder=solved).fit(adata, split, loss="mse")


def test_a_metric(section):
    found, said = section("A metric")
    adata, split, prediction, scores = (found[name] for name in ("adata", "split", "prediction", "scores"))
    assert list(scores.columns[:5]) == ["mse", "mse_top20", "worst", "surprise", "surprise_top20"]
    observed = means(adata, split["test"]).to_numpy()
    error, variance = prediction.X - observed, prediction.layers["uncertainty"]
    assert prediction.obs["condition"].tolist() == split["test"]
    assert scores.loc[split["test"], "worst"].to_numpy() == pytest.approx(abs(error).max(1), abs=1e-5)
    assert scores.loc[split["test"], "surprise"].to_numpy() == pytest.approx(
        np.sqrt((error**2 / variance).mean(1)), rel=1e-4
    )
    assert found["axes"].get_xlabel().startswith("surprise (lower is better")
    (text,) = (text for _, text, _ in said.values())
    for column in ("worst", "surprise", "surprise_top20"):
        assert re.search(rf"{column} +│ +{scores[column].mean():.4f}", text)
    without = kgnn.PerturbationModel(encoder="mean").fit(adata, split).predict(split["test"])
    columns = kgnn.metrics.evaluate(without, adata, split, metrics=[found["worst"], found["surprise"]]).columns
    assert list(columns) == ["worst", "n_cells", "subgroup"]


def test_knowledge(section):
    found, _ = section("Knowledge")
    edges = found["model"].kg.edges(("gene", "binds", "gene"))
    assert edges["weight"].tolist() == pytest.approx([0.9, 0.4])
    assert edges[["source", "target", "sign"]].to_numpy().tolist() == [["G001", "G010", 0], ["G002", "G011", -1]]
    assert found["kg"].relations == [("gene", "regulates", "gene")]
    assert "binds" in set(found["model"].predictor_.network.propagation.names)


def test_the_table_of_names():
    from kgnn.models.perturbation.losses import LOSSES, OPTIMIZERS, SCHEDULES

    rows = {line.split("|")[1].strip(): line.split("|")[3] for line in FIRST.splitlines() if line.startswith("|")}
    for what, table in {"loss": LOSSES, "optimiser": OPTIMIZERS, "schedule": SCHEDULES}.items():
        assert re.findall(r"`(\w+)`", rows[what]) == list(table)
