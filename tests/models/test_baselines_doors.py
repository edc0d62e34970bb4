"""One line each: the command line, a benchmark, an ablation."""

import pytest

from kgnn.benchmark import run_benchmark
from kgnn.controls import ablate
from kgnn.data import simulate, split
from kgnn.evaluation.headline import POINTS
from kgnn.graph import load_table
from kgnn.models import KNOWLEDGE_BASELINES, LINE_BASELINES
from tests.test_cli import files, run  # noqa: F401

pytestmark = pytest.mark.usefixtures("few_steps")


@pytest.mark.parametrize("name", KNOWLEDGE_BASELINES)
def test_trained_and_asked_on_the_command_line(run, files, name):  # noqa: F811
    out = files / "run"
    assert run("train", files / "screen.h5ad", "--model", name, "--out", out)[0] == 0
    assert run("predict", out, "G003", "G000+G004", "-o", files / "p.h5ad")[0] == 0


def test_all_in_a_benchmark(tmp_path):
    screen = simulate(n_genes=40, n_singles=8, n_pairs=4, cells_per_condition=10, n_controls=20, n_lines=2, seed=0)
    for name in list(screen.varm):
        del screen.varm[name]
    screen.write_h5ad(tmp_path / "sim.h5ad")
    load_table(screen.uns["network"], relation="regulates", origin="network").save(tmp_path / "kg")
    names = [*KNOWLEDGE_BASELINES, *LINE_BASELINES]
    data = {"name": "sim", "path": str(tmp_path / "sim.h5ad"), "graph": str(tmp_path / "kg"), "group_key": "cell_line"}
    config = {
        "datasets": [data],
        "splits": [{"kind": "unseen_line", "held_out": "line1"}],
        "models": [*({"type": name} for name in names), {"name": "knn, rewired", "type": "knn", "graph": "rewired"}],
    }
    scores = run_benchmark(config, tmp_path / "out")
    assert set(scores["model"]) == {*names, "knn, rewired", *POINTS}
    assert scores["pearson_delta"].notna().all()


def test_the_graph_of_a_baseline_is_scrambled():
    screen = simulate(n_genes=40, n_singles=10, n_pairs=0, cells_per_condition=10, n_controls=20, seed=0)
    kg = load_table(screen.uns["network"], relation="regulates", origin="network")
    kinds = ("true", "rewired", "complete")
    for name in KNOWLEDGE_BASELINES:
        scores = ablate(kg, screen, split(screen, seed=0), model=name, kinds=kinds, seeds=[0])
        assert scores.reset_index()["variant"].nunique() == 3
