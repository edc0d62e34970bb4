import json
import logging
import sys
import warnings
from functools import partial

import anndata
import pandas as pd
import pytest

from kgnn import cli
from kgnn.cli import demo
from kgnn.data import load_split, simulate, simulate_atlas
from kgnn.evaluation.headline import POINTS
from kgnn.graph import KnowledgeGraph

pytestmark = pytest.mark.usefixtures("few_steps")


@pytest.fixture
def run(monkeypatch, capsys):
    """Run the command line as a shell does; return exit status, stdout and stderr."""
    monkeypatch.setenv("COLUMNS", "200")

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["kgnn", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        captured = capsys.readouterr()
        return stop.value.code or 0, captured.out, captured.err

    return call


@pytest.fixture
def files(screen, tmp_path):
    """A screen and its network as files."""
    del screen.varm["true_delta"]
    network = screen.uns.pop("network")
    network.to_csv(tmp_path / "edges.csv", index=False)
    screen.write_h5ad(tmp_path / "screen.h5ad")
    return tmp_path


def toml(path, *sources):
    """Write the description of a graph: one text of `key = value` lines a source."""
    path.write_text("".join(f"[[source]]\n{source}\n" for source in sources))
    return path


def test_the_whole_way(run, files):
    config = toml(files / "kg.toml", 'kind = "table"\ntable = "edges.csv"\nrelation = "regulates"')
    status, out, _ = run("graph", "build", config, "-o", files / "kg", "--json", files / "kg.json")
    assert status == 0
    n = len((files / "edges.csv").read_text().splitlines()) - 1
    assert f"edges, gene–regulates–gene: {n} rows read; {n} edges kept\n" in out
    assert json.loads((files / "kg.json").read_text())["sources"][0]["origin"] == "edges"
    status, out, _ = run("graph", "info", files / "kg", "--genes", files / "screen.h5ad", "--plot", files / "kg.png")
    assert status == 0
    assert "linked in any relation" in out
    assert (files / "kg.png").stat().st_size > 10_000

    status, out, _ = run(
        "train", files / "screen.h5ad", "--graph", files / "kg", "-o", files / "run", "--epochs", 1,
        "--no-progress", "--json", files / "train.json", "--seed", 1,
    )  # fmt: skip
    assert status == 0
    parts = load_split(files / "run" / "split.json")
    assert json.loads((files / "train.json").read_text())["conditions"]["test"] == len(parts["test"])
    assert ("gene", "coexpressed", "gene") in KnowledgeGraph.load(files / "run" / "graph").relations

    split = files / "run" / "split.json"
    status, out, _ = run("predict", files / "run", "G001+G002", "--split", split, "-o", files / "p.h5ad")
    assert status == 0
    prediction = anndata.read_h5ad(files / "p.h5ad")
    assert prediction.obs_names.tolist() == ["G001+G002", *parts["test"]]
    assert "uncertainty" in prediction.layers

    status, out, _ = run(
        "evaluate", files / "p.h5ad", files / "screen.h5ad", "--split", split, "--exclude-targets",
        "-o", files / "s.csv", "--json", files / "s.json",
    )  # fmt: skip
    assert status == 0
    assert "pearson_delta" in out
    assert "than the mean of the training perturbations" in " ".join(out.split())
    assert "replicate" in out
    scores = pd.read_csv(files / "s.csv", index_col=0)
    assert sorted(scores.index) == parts["test"]
    summary = json.loads((files / "s.json").read_text())["summary"]
    assert summary["mse"]["mean"] == pytest.approx(scores["mse"].mean())
    assert summary["mse"]["training mean"] > 0
    assert {"calibrated", "gain", "gain_low"} <= set(summary["mse_ratio"])


def test_a_baseline_a_given_split_and_cells(run, files):
    (files / "split.json").write_text('{"train": ["G000", "G001", "G002"], "val": [], "test": ["G003"]}')
    status, _, _ = run(
        "train",
        files / "screen.h5ad",
        "--model",
        "mean",
        "--split",
        "leave_one_out",
        "--held-out",
        "G000",
        "-o",
        files / "m",
    )
    names = load_split(files / "m" / "split.json") if status == 0 else {}
    assert status == 0
    assert names["test"] == ["G000"]
    status, _, _ = run(
        "predict", files / "m", "G000", "-o", files / "p.h5ad", "--n-cells", 4, "--json", files / "p.json"
    )
    assert status == 0
    assert json.loads((files / "p.json").read_text())["rows"] == 4


def test_graph_build_from_every_kind_of_file(run, files, tmp_path):
    (tmp_path / "grn.tsv").write_text("tf\tconfidence\ttarget\tmor\nG001\tA\tG002\t1\nG001\tE\tG003\t-1\n")
    (tmp_path / "sets.gmt").write_text("s\t\tG001\tG002\n")
    (tmp_path / "cl.obo").write_text(
        "format-version: 1.2\n\n[Term]\nid: CL:0\nname: cell\n\n[Term]\nid: CL:1\nname: T\nis_a: CL:0\n"
    )
    run("train", files / "screen.h5ad", "--model", "mean", "-o", files / "m", "--seed", 1)
    config = toml(
        tmp_path / "all.toml",
        'kind = "regulation"\npath = "grn.tsv"\nmin_confidence = "C"',
        'kind = "gene_sets"\npath = "sets.gmt"',
        'kind = "cell_ontology"\npath = "cl.obo"',
        'kind = "table"\ntable = "edges.csv"\nundirected = true',
        'kind = "coexpression"\npath = "screen.h5ad"',
    )
    status, _, err = run("graph", "build", config, "-o", tmp_path / "kg", "--split", files / "m" / "split.json")
    assert status == 0, err
    relations = {relation[1] for relation in KnowledgeGraph.load(tmp_path / "kg").relations}
    assert relations == {"regulates", "shares_gene_sets", "is_a", "interacts", "coexpressed"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["graph", "info", "nowhere"], "nowhere: not a graph folder"),
        (["graph", "build", "none.toml", "-o", "kg"], "none.toml: no such file"),
        (["train", "screen.h5ad", "-o", "run", "--condition-key", "guide"], "no column 'guide'"),
        (["train", "screen.h5ad", "-o", "run", "--model", "oracle"], "unknown model 'oracle'"),
        (["train", "edges.csv", "-o", "run"], "edges.csv: condition 'G000' stands in several rows"),
        (["train", "screen.h5ad", "-o", "run", "--split", "by_luck"], "unknown kind of split"),
        (["predict", "nowhere", "G001"], "nowhere: not a model folder"),
        (["evaluate", "screen.h5ad", "missing.h5ad"], "missing.h5ad: no such file"),
        (["evaluate", "screen.h5ad", "screen.h5ad", "--crossed"], "--crossed fits a model on halves"),
    ],
)
def test_bad_input_ends_with_one_line_and_status_one(run, files, monkeypatch, arguments, message):
    monkeypatch.chdir(files)
    before = sorted(path.name for path in files.iterdir())
    status, _, err = run(*arguments)
    assert status == 1
    assert err.startswith("error: ")
    assert message in err
    assert err.count("\n") == 1
    assert sorted(path.name for path in files.iterdir()) == before, "nothing half-written"


def no_controls(adata):
    adata.obs["condition"] = adata.obs["condition"].astype(str).replace("control", "untreated")


def twice(adata):
    adata.var_names = ["TP53", "TP53", *adata.var_names[2:]]


def nan(adata):
    adata.X.data[0] = float("nan")


@pytest.mark.parametrize(
    ("damage", "message"), [(no_controls, "no control cells"), (twice, "'TP53' stands twice"), (nan, "NaN or infinite")]
)
@pytest.mark.parametrize("model", ["gears", "mean"])
def test_unusable_screens_end_with_one_line(run, files, damage, message, model):
    adata = anndata.read_h5ad(files / "screen.h5ad")
    damage(adata)
    adata.write_h5ad(files / "bad.h5ad")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # anndata's own word on duplicate names
        status, _, err = run(
            "train", files / "bad.h5ad", "--model", model, "--split", "random_condition", "-o", files / "m"
        )
    assert status == 1
    assert err.startswith("error: ")
    assert message in err
    assert not (files / "m").exists()


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("s.gmt", "one\t\tA\tB\ntwo\tdescription\n", "s.gmt:2: 2 fields and no gene"),
        ("e.csv", "source,target,weight\nA,B,inf\n", "e.csv:2: weight 'inf' is not a finite number"),
        ("e.csv", "source,target,weight\nA,B,high\n", "e.csv:2: weight 'high' is not a finite number"),
        ("e.csv", "", "e.csv: the file is empty"),
    ],
)
def test_unusable_knowledge_ends_with_one_line(run, tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    kind = 'kind = "gene_sets"\npath' if name.endswith("gmt") else 'kind = "table"\ntable'
    config = toml(tmp_path / "kg.toml", f'{kind} = "{name}"')
    status, _, err = run("graph", "build", config, "-o", tmp_path / "kg")
    assert status == 1
    assert err.startswith("error: ")
    assert message in err
    assert not (tmp_path / "kg").exists()


def test_models_and_graphs_that_do_not_fit_end_with_one_line(run, files):
    (files / "mouse.csv").write_text("source,target\nCdk4,Mdm2\n")
    config = toml(files / "mouse.toml", 'kind = "table"\ntable = "mouse.csv"')
    run("graph", "build", config, "-o", files / "mouse")
    options = [
        "--split",
        "random_condition",
        "--no-coexpression",
        "--no-progress",
        "--epochs",
        1,
    ]
    status, _, err = run("train", files / "screen.h5ad", "--graph", files / "mouse", "-o", files / "m", *options)
    assert status == 1
    assert "the graph shares no gene with the data" in err
    assert run("train", files / "screen.h5ad", "-o", files / "m", *options)[0] == 0
    status, _, err = run("predict", files / "m", "NOBODY", "-o", files / "p.h5ad")
    assert status == 1
    assert "the gene 'NOBODY' is neither measured" in err
    arrays = files / "m" / "arrays.safetensors"
    arrays.write_bytes(arrays.read_bytes()[:-9])
    status, _, err = run("predict", files / "m", "G001", "-o", files / "p.h5ad")
    assert status == 1
    assert "arrays.safetensors: damaged, edited or cut short" in err
    assert not (files / "p.h5ad").exists()


def test_predict_wants_a_condition(run, files):
    run("train", files / "screen.h5ad", "--model", "mean", "-o", files / "m", "--seed", 1)
    assert "name some, or give --split" in run("predict", files / "m")[2]


def test_raw_counts_warn_in_one_line(run, files):
    adata = anndata.read_h5ad(files / "screen.h5ad")
    adata.X = adata.layers["counts"]
    adata.write_h5ad(files / "raw.h5ad")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        status, _, err = run("train", files / "raw.h5ad", "--model", "mean", "-o", files / "m", "--seed", 1)
    assert status == 0
    assert err.startswith("warning: X holds whole numbers only")


def test_the_command_line_leaves_warnings_as_they_were(run):
    shown = warnings.showwarning
    run("--help")
    assert warnings.showwarning is shown
    assert logging.getLogger("lightning.pytorch.utilities.rank_zero").level == logging.WARNING


@pytest.mark.slow
def test_benchmark_and_ablate(run, files):
    config = toml(files / "kg.toml", 'kind = "table"\ntable = "edges.csv"\nrelation = "regulates"')
    assert run("graph", "build", config, "-o", files / "kg")[0] == 0
    (files / "bench.toml").write_text(
        '[[datasets]]\nname = "small"\npath = "screen.h5ad"\ngraph = "kg"\n[[splits]]\nkind = "random_condition"\n'
        '[[models]]\ntype = "kg"\n[[models]]\ntype = "mean"\n'
    )
    status, out, _ = run("benchmark", files / "bench.toml", "-o", files / "bench", "--json", files / "bench.json")
    assert status == 0
    assert "3 runs, 0 of them done before" in out
    assert {row["model"] for row in json.loads((files / "bench.json").read_text())["summary"]} == {
        "kg",
        "mean",
        *POINTS,
    }
    assert (files / "bench/report.html").is_file()
    status, out, _ = run(
        "ablate", files / "screen.h5ad", "--graph", files / "kg", "-o", files / "ablate", "--seeds", 2,
        "--controls", "true,rewired,none,shapley", "--json", files / "ablate.json",
    )  # fmt: skip
    assert status == 0
    assert "rewired graph" in out
    assert "edges contributes" in out
    assert (files / "ablate/ablation.png").stat().st_size > 10_000
    assert {file.name for file in (files / "ablate").iterdir()} >= {"scores.csv", "summary.csv", "sources.csv"}
    status, _, err = run("benchmark", files / "missing.toml", "-o", files / "x")
    assert status == 1
    assert "missing.toml" in err


def test_demo(run, tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "simulate", partial(simulate, cells_per_condition=12, n_controls=60))
    status, out, _ = run("demo", "-o", tmp_path / "demo", "--json", tmp_path / "demo.json")
    assert status == 0
    result = json.loads((tmp_path / "demo.json").read_text())
    assert len(result["models"]) == 11
    assert result["conditions"]["test"] >= 15
    for name in result["models"]:
        assert name in out
    for file in (
        "scores.png",
        "scores.csv",
        "split.json",
        "predictions.h5ad",
        "graph/manifest.json",
        "model/config.json",
    ):
        assert (tmp_path / "demo" / file).exists()


def test_pretrain_and_embed(run, tmp_path):
    atlas = simulate_atlas(n_genes=40, branches=(2, 2), cells_per_type=30)
    terms = sorted({"T:0", *atlas.uns["ontology"]["child"]})
    parent = dict(atlas.uns["ontology"].to_numpy())
    stanzas = [
        f"[Term]\nid: {term}\nname: type {term}\n" + (f"is_a: {parent[term]}\n" if term in parent else "")
        for term in terms
    ]
    (tmp_path / "types.obo").write_text("format-version: 1.2\n\n" + "\n".join(stanzas))
    atlas.write_h5ad(tmp_path / "atlas.h5ad")
    model, out = tmp_path / "model", tmp_path / "out.h5ad"
    pretraining = ["--label", "cell_type", "--label", "tissue", "--ontology", tmp_path / "types.obo", "--channels", 16]
    pretraining += ["--epochs", 3, "--objective", "classify=1", "--objective", "denoise=0.5", "--json", tmp_path / "p"]
    pretraining += ["--validation", 0.1]
    status, text, errors = run("pretrain", tmp_path / "atlas.h5ad", "--out", model, *pretraining)
    assert (status, errors) == (0, "")
    assert "40 genes, 3 epochs" in text
    assert len(json.loads((tmp_path / "p").read_text())["loss"]) == 3
    status, text, _ = run("embed", model, tmp_path / "atlas.h5ad", "--out", out, "--json", tmp_path / "e")
    assert status == 0
    found = anndata.read_h5ad(out)
    assert found.obsm["X_kgnn"].shape == (120, 16)
    assert found.obs["kgnn_cell_type_term"].str.startswith("T:").all()
    labels = json.loads((tmp_path / "e").read_text())["labels"]
    assert sum(labels["tissue"].values()) == 120
    status, _, errors = run("predict", model, "A", "--out", out)
    assert status == 1
    assert "predicts no perturbations" in errors
    for wrong, message in (
        (["--objective", "classify"], "write name=weight"),
        (["--label", "cell_type", "--validation", 1.5], "validation is a share of the cells"),
        (["--ontology", tmp_path / "types.obo"], "needs --label"),
        (["--label", "batch", "--ontology", tmp_path / "types.obo"], "no terms of the ontology"),
    ):
        status, _, errors = run("pretrain", tmp_path / "atlas.h5ad", "--out", tmp_path / "no", *wrong)
        assert status == 1
        assert message in errors
    assert not (tmp_path / "no").exists()
