"""Interaction scores against written-out formulas; what to measure against measuring it."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from kgnn import PerturbationModel
from kgnn.data import simulate
from kgnn.errors import InputError
from kgnn.graph import load_table
from kgnn.interactions import distance_correlation, interaction_scores, interaction_table, next_to_measure
from kgnn.models import Start, make_model
from tests.peer_code import cell_gears, dcor


def dcor_by_definition(x, y):
    def centred(v):
        d = cdist(v, v)
        out = np.empty_like(d)
        for i in range(len(d)):
            for j in range(len(d)):
                out[i, j] = d[i, j] - d[i].mean() - d[:, j].mean() + d.mean()
        return out

    a, b = centred(x), centred(y)
    return np.sqrt((a * b).mean() / np.sqrt((a * a).mean() * (b * b).mean()))


def test_distance_correlation_is_the_definition():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((30, 2)), rng.standard_normal((30, 1))
    assert distance_correlation(x, y[:, 0]) == pytest.approx(dcor_by_definition(x, y))
    assert distance_correlation(x[:, 0], 3 - 2 * x[:, 0]) == pytest.approx(1)
    assert distance_correlation(x[:, 0], np.zeros(30)) == 0


def test_scores_of_a_known_combination():
    rng = np.random.default_rng(1)
    a, b = rng.standard_normal(200), rng.standard_normal(200)
    ab = 0.5 * a + 2.0 * b
    ab[:5] += 50  # Theil–Sen does not mind a few
    found = interaction_scores(a, b, ab)
    assert found["c1"] == pytest.approx(0.5, abs=0.1)
    assert found["c2"] == pytest.approx(2.0, abs=0.1)
    assert found["dominance"] == pytest.approx(np.log10(found["c2"] / found["c1"]))
    assert found["magnitude"] == pytest.approx(np.hypot(found["c1"], found["c2"]))
    assert found["equality_of_contribution"] == pytest.approx(distance_correlation(a, ab) / distance_correlation(b, ab))
    assert found["similarity"] == pytest.approx(distance_correlation(a, b))
    assert found["model_fit"] == pytest.approx(dcor_by_definition(np.stack([a, b], 1), ab[:, None]))
    assert found == interaction_scores(a, b, ab)


@pytest.fixture(scope="module")
def model():
    screen = simulate(n_genes=80, n_singles=12, n_pairs=6, seed=0)
    return PerturbationModel(load_table(screen.uns["network"], relation="regulates")).fit(screen)


def test_all_pairs_are_ranked(model):
    genes = sorted({name for name in model.conditions_ if "+" not in name})[:4]
    table = interaction_table(model, genes)
    assert len(table) == 6
    assert table["epistasis"].is_monotonic_decreasing
    assert (table["uncertainty"] > 0).all()
    delta = model.predict([*genes, table.index[0]]).to_df(layer="delta")
    a, b = table.index[0].split("+")
    alone = np.maximum(delta.loc[a] + delta.loc[b], -model.control_mean_)
    gap = delta.loc[table.index[0]] - alone
    assert table["epistasis"].iloc[0] == pytest.approx(np.linalg.norm(gap), rel=1e-4)
    seen = next(name for name in model.conditions_ if "+" in name)
    assert interaction_table(model, seen.split("+"), scores=False)["seen"].all()


def test_an_additive_model_has_no_interactions():
    screen = simulate(n_genes=40, n_singles=6, n_pairs=0, cells_per_condition=5, seed=0)
    additive = make_model("additive").fit(screen)
    table = interaction_table(additive, additive.conditions_[:3])
    np.testing.assert_allclose(table["epistasis"], 0, atol=1e-5)
    assert table["uncertainty"].isna().all()
    with pytest.raises(InputError, match="at least two"):
        interaction_table(additive, ["G000"])
    with pytest.raises(InputError, match="encoder='kg'"):
        next_to_measure(additive, ["G000"])


def test_anything_that_predicts_has_interactions(model):
    class Tripled:
        def predict(self, conditions):
            prediction = model.predict(conditions)
            prediction.layers["delta"] = 3 * prediction.layers["delta"]
            return prediction

    genes = [name for name in model.conditions_ if "+" not in name][:3]
    theirs, delta = interaction_table(Tripled(), genes, scores=False), model.predict(genes).to_df(layer="delta")
    for pair, found in theirs["epistasis"].items():
        a, b = pair.split("+")
        gap = model.predict(pair).layers["delta"][0] - delta.loc[a] - delta.loc[b]
        assert found == pytest.approx(3 * np.linalg.norm(gap), rel=1e-4), "nobody said that it cannot fall below zero"
    assert "seen" not in theirs, "it does not say what it was trained on"


def test_the_first_choice_is_the_one_whose_measurement_tells_most(model):
    genes = [gene for gene in model.perturbable_ if gene not in model.conditions_][:5]
    candidates = [*genes, f"{genes[0]}+{genes[1]}"]
    chosen = next_to_measure(model, candidates, n=3)
    assert len(chosen) == 3
    assert chosen["left"].is_monotonic_decreasing
    np.testing.assert_allclose(1 - chosen["gain"].cumsum(), chosen["left"], rtol=1e-9)

    import torch

    network, (bags, _) = model.network_, model.predictor_.inputs(candidates, Start(model.control_mean_))
    reached, known = network.propagation.reached(bags), network.propagation.reached(network.training_bags)
    with torch.no_grad():
        cross = network.kernel(bags, network.training_bags, reached, known)
        inverse = torch.linalg.inv(network.factor @ network.factor.T)
        k = (network.kernel(bags, bags, reached, reached) - cross @ inverse @ cross.T).numpy()
    noise, left = float(network.kernel.noise.detach()), {}
    for number, name in enumerate(candidates):  # condition on each one in turn
        column = k[:, [number]]
        left[name] = np.trace(k - column @ np.linalg.inv(k[[number]][:, [number]] + noise) @ column.T) / np.trace(k)
    best = min(left, key=left.get)
    assert model.predict(best).obs["condition"].iloc[0] == chosen.index[0]
    assert chosen["left"].iloc[0] == pytest.approx(left[best])
    with pytest.raises(InputError, match="no candidate"):
        next_to_measure(model, model.conditions_)


# cell-gears' own functions


NAMES = {
    "mag": "magnitude",
    "dcor": "model_fit",
    "dcor_singles": "similarity",
    "eq_contr": "equality_of_contribution",
    "dominance": "dominance",
    "c1": "c1",
    "c2": "c2",
}


@pytest.mark.parametrize("n", [60, 460, 1_300])
def test_scores_are_those_of_cell_gears(n):
    """More than 447 genes: a drawn part of the pairs; more than 1,000: still all genes."""
    rng = np.random.default_rng(n)
    a, b = rng.standard_t(3, (2, n)) * 0.1
    ab = 0.7 * a + 0.4 * b + 0.05 * rng.standard_normal(n)
    theirs = cell_gears("utils").get_GI_params({"A": a, "B": b, "A_B": ab}, ["A", "B"])
    ours = interaction_scores(a, b, ab)
    for name, of_ours in NAMES.items():
        assert ours[of_ours] == pytest.approx(theirs[name], rel=1e-6), name


def test_distance_correlation_of_thousands_is_dcor_s():
    x, y = np.random.default_rng(0).standard_normal((2, 2_500, 2))
    for b in (y, x + 0.1 * y, y[:, :1]):
        assert distance_correlation(x, b) == pytest.approx(dcor().distance_correlation(x, b), rel=1e-6)
    assert distance_correlation(x[:, 0], y[:, 0]) < 0.06, "independent, however many genes there are"


def test_theil_sen_hardly_depends_on_the_seed():
    rng = np.random.default_rng(2)
    a, b, noise = rng.standard_normal((3, 700)) * 0.1
    found = [interaction_scores(a, b, 0.7 * a + 0.4 * b + noise, seed=seed)["magnitude"] for seed in range(3)]
    assert np.ptp(found) < 0.01


def test_scores_over_the_genes_of_a_file(model, tmp_path):
    genes = [f"G{number:03d}" for number in range(10, 60, 2)]
    np.save(tmp_path / "genes.npy", np.array(genes, dtype=object))
    cells = model.predict("G000")
    cells.var["gene_name"] = cells.var_names
    rows = cell_gears("utils").get_GI_genes_idx(cells, tmp_path / "genes.npy")
    names = [g for g in model.perturbable_ if g in model.conditions_][:2]
    delta = model.predict([*names, "+".join(names)]).layers["delta"][:, rows]
    theirs = cell_gears("utils").get_GI_params(dict(zip([*names, "_".join(names)], delta, strict=True)), names)
    ours = interaction_table(model, names, over=genes[::-1]).iloc[0]
    for name in ("mag", "dcor", "dcor_singles", "eq_contr", "c1", "c2"):
        assert ours[NAMES[name]] == pytest.approx(theirs[name], rel=1e-5), name
    for wrong in (["G010"], ["G010", "NOBODY"]):
        with pytest.raises(InputError, match="at least two genes, all of them measured"):
            interaction_table(model, names, over=wrong)
