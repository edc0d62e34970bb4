"""What `ClosedForm` makes of a screen and a graph, and its covariance after training."""

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

from kgnn import PerturbationModel
from kgnn.data import simulate
from kgnn.data.screen import read_screen
from kgnn.graph import estimate_effects, load_table
from kgnn.graph.effects import EFFECT
from kgnn.models import Start, load_model
from kgnn.models.perturbation import solving
from kgnn.models.perturbation.closed_form import MIN_CELLS, with_effects
from tests.nn.literal import posterior


@pytest.fixture(scope="module")
def screen():
    return simulate(n_genes=40, n_singles=10, n_pairs=3, n_lines=2, seed=1)


@pytest.fixture(scope="module")
def kg(screen):
    return load_table(screen.uns["network"], relation="regulates")


@pytest.fixture(scope="module")
def model(screen, kg):
    test = sorted(set(screen.obs["condition"]) - {"control"})[:4]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(solving, "STEPS", 5)
        return PerturbationModel(kg, group_key="cell_line").fit(screen[~screen.obs["condition"].isin(test)].copy())


def test_the_covariance_after_training_is_that_of_a_gaussian_process_of_scikit_learn(model, screen):
    predictor, network = model.predictor_, model.network_
    wanted = sorted(set(screen.obs["condition"]) - {"control"})[:5]  # the last was seen
    found, noise = predictor.posterior(wanted)
    test, _ = predictor.inputs(wanted, Start(predictor.control_mean))
    training, kernel = network.training_bags, network.kernel
    reached = [network.propagation.reached(bags) for bags in (training, test)]
    both = ((training, reached[0]), (test, reached[1]))
    matrix = np.block([[kernel(a, b, i, j).detach().numpy() for b, j in both] for a, i in both])
    obs = screen.obs
    cells = [
        ((obs["condition"] == name) & (obs["cell_line"] == predictor.lines[line])).sum()
        for name, line in zip(predictor.trained, training.line.tolist(), strict=True)
    ]
    assert noise == pytest.approx(float(kernel.noise.detach()))
    level = noise * (np.mean(cells) / np.array(cells)).clip(0.25, 4)
    n, m = len(cells), len(wanted)
    _, expected = posterior(matrix, level, np.zeros((n, 1)), range(n), range(n, n + m))
    np.testing.assert_allclose(found.detach().diagonal(), expected, rtol=1e-6)
    cross = matrix[n:, :n]
    whole = matrix[n:, n:] - cross @ np.linalg.solve(matrix[:n, :n] + np.diag(level), cross.T)
    np.testing.assert_allclose(found.detach(), whole, atol=1e-8)
    assert found[4, 4] < found[:4].diagonal().min()


def test_a_condition_starts_from_its_line(model, screen):
    predictor = model.predictor_
    names, lines = predictor.trained[:2], predictor.lines
    assert len(lines) == 2
    mean = predictor.control_mean * 2
    for line, number in ((lines[0], 0), (lines[1], 1), ("another", -1), (None, -1)):
        bags, state = predictor.inputs(names, Start(mean, line))
        assert bags.line.tolist() == [number] * 2
        np.testing.assert_allclose(state, [mean] * 2, rtol=1e-6)
    gene = names[0].split("+")[0]
    own = (mean / model.network_.reference.numpy())[screen.var_names.get_loc(gene)]
    assert float(bags.strength[0]) == pytest.approx(-min(own, 5))  # what is expressed can be taken away
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(solving, "STEPS", 1)
        one = PerturbationModel(None).fit(screen).predictor_
    assert one.inputs(names, Start(mean, "another"))[0].line.tolist() == [0, 0]


def test_a_line_of_controls_alone_is_another_line_after_loading_too(screen, tmp_path, monkeypatch):
    monkeypatch.setattr(solving, "STEPS", 1)
    last = screen.obs["cell_line"] == "line1"
    known = screen[~last | (screen.obs["condition"] == "control")].copy()
    model = PerturbationModel(None, group_key="cell_line").fit(known)
    assert model.network_.bag_line.unique().tolist() == [0]
    model.save(tmp_path / "run")
    again = load_model(tmp_path / "run")
    for line in model.predictor_.lines:
        found = [each.predict(model.conditions_, line=line).layers["delta"] for each in (model, again)]
        np.testing.assert_array_equal(*found)


def test_genes_that_no_source_knows_are_unlinked(model, kg, screen):
    known = {gene for end in ("source", "target") for gene in kg.edges(("gene", "regulates", "gene"))[end]}
    lonely = model.predictor_.unlinked()
    assert lonely
    assert lonely == set(screen.var_names) - known
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(solving, "STEPS", 1)
        assert PerturbationModel(None).fit(screen).predictor_.unlinked() == set()


def test_effects_are_estimated_from_cells_of_training_and_controls_where_they_suffice(screen, kg):
    read = read_screen(screen, group_key="cell_line")
    names = sorted(set(screen.obs["condition"]) - {"control"})
    train = names[4:]
    found = with_effects(kg, read, train, 0)
    cells = np.isin(screen.obs["condition"], ["control", *train])
    obs = screen.obs[cells]
    varying = AnnData(
        screen.X[cells], obs=pd.DataFrame({"g": obs["condition"].astype(str) + obs["cell_line"].astype(str)})
    )
    varying.var_names = screen.var_names
    assert found == kg | estimate_effects(kg, varying, groupby="g")
    assert found != with_effects(kg, read, names, 0)
    assert with_effects(found, read, train, 0) is found
    assert with_effects(None, read, train, 0) is None
    alike = load_table(pd.DataFrame({"source": ["G001"], "target": ["G002"]}), relation="coexpressed", weight=None)
    assert with_effects(alike, read, train, 0) is alike


@pytest.mark.parametrize("more", [0, 1])
def test_a_few_cells_are_too_few_to_estimate_effects(screen, kg, more):
    names = screen.obs["condition"][screen.obs["condition"] != "control"].unique()[:2]
    one = screen.obs["cell_line"] == screen.obs["cell_line"].iloc[0]
    rows = [np.flatnonzero(one & (screen.obs["condition"] == name)) for name in ("control", *names)]
    few = np.concatenate([rows[0][: MIN_CELLS - 8 + more], rows[1][:5], rows[2][:5]])  # in three conditions
    assert len(few) == MIN_CELLS + 2 + more
    found = with_effects(kg, read_screen(screen[few].copy()), list(names), 0)
    assert (EFFECT in found.relations) == bool(more)
