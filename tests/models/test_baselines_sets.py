"""Kernel ridge regression on set membership, against a literal kernel and scikit-learn."""

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.kernel_ridge import KernelRidge

from kgnn import KnowledgeGraph
from kgnn.data import simulate
from kgnn.errors import DataWarning, InputError
from kgnn.graph import load_table
from kgnn.metrics import evaluate
from kgnn.models import KNOWLEDGE_BASELINES, load_model, make_model
from kgnn.models.baselines.ridge import RIDGES
from kgnn.models.baselines.sets import membership
from kgnn.models.perturbation.knowledge import rare_rows
from tests.models.test_baselines_vectors import latent_screen

MEASURED = [f"M{number:02d}" for number in range(30)]  # of the screen; nodes without an edge


def edges(pairs):
    return pd.DataFrame(pairs, columns=["source", "target"]).assign(origin="o")


@pytest.fixture
def kg():
    """Complexes, a family that points at genes, regulation, a symmetric relation; G is in a set of its own."""
    return KnowledgeGraph(
        {"gene": [*"ABCDEFGH", *MEASURED], "complex": ["c1", "c2", "c3"], "family": ["f"]},
        {
            ("gene", "member_of", "complex"): edges(
                [("A", "c1"), ("B", "c1"), ("C", "c1"), ("C", "c2"), ("D", "c2"), ("G", "c3")]
            ),
            ("family", "has", "gene"): edges([("f", "A"), ("f", "E")]),
            ("gene", "regulates", "gene"): edges([("A", "F"), ("B", "F"), ("F", "D"), ("F", "E")]),
            ("gene", "binds", "gene"): edges([("C", "D"), ("D", "C"), ("D", "E"), ("E", "D")]),
        },
    )


SETS = {  # by hand: complexes; the family; who regulates F; whom F regulates; neighbours of C, D, E and themselves
    "c1": "ABC", "c2": "CD", "f": "AE", "to F": "AB", "from F": "DE", "near C": "CD", "near D": "CDE", "near E": "DE",
}  # fmt: skip


def literal_kernel():
    """Genes A to E, all that are in a set of two or more: Σ over common sets of log²(N / size), scaled to 1."""
    genes = "ABCDE"
    raw = np.array(
        [[sum(np.log(5 / len(s)) ** 2 for s in SETS.values() if a in s and b in s) for b in genes] for a in genes]
    )
    size = np.sqrt(np.diag(raw))
    return raw / size[:, None] / size


def test_membership_by_hand(kg):
    found = membership(kg).toarray()
    sets = sorted(
        "".join(gene for gene, here in zip("ABCDEFGH", column[:8], strict=True) if here) for column in found.T
    )
    assert sets == sorted(SETS.values())
    assert set(np.unique(found)) == {0.0, 1.0}
    known = membership(kg)[:5]
    rows = rare_rows(known).toarray()
    np.testing.assert_allclose(rows @ rows.T, literal_kernel())


def test_rarer_sets_count_more():
    member = np.array([[1, 1, 0], [1, 0, 1], [1, 1, 0], [1, 0, 1], [0, 0, 1]], float)
    rows = rare_rows(sparse.csr_array(member))
    kernel = (rows @ rows.T).toarray()
    np.testing.assert_allclose(kernel[0, 2], 1)
    common, rare = np.log(5 / 4) ** 2, np.log(5 / 2) ** 2
    other = np.log(5 / 3) ** 2
    np.testing.assert_allclose(kernel[0, 1], common / np.sqrt((common + rare) * (common + other)))
    whole = rare_rows(sparse.csr_array(np.ones((3, 1))))
    assert not whole.toarray().any(), "a set of all genes says nothing"


def small_screen(names, seed=0):
    adata, _ = latent_screen(seed, len(names))
    new = dict(zip([f"P{number:02d}" for number in range(len(names))], names, strict=True))
    adata.obs["condition"] = adata.obs["condition"].replace(new)
    return adata


def test_it_is_scikit_learn_s_kernel_ridge(kg):
    """With the ridge of the least error of every condition left out; doubles are sums, unknown genes the mean."""
    train, test = ["A", "B", "C", "B+D", "G"], ["D", "E", "A+E", "E+H", "H", "C"]
    adata = small_screen([*train, "D", "E", "H"])
    x, labels = adata.X.astype(float), adata.obs["condition"].to_numpy()
    control = x[labels == "control"].mean(axis=0)
    change = np.array([x[labels == name].mean(axis=0) - control for name in train])
    gene_kernel = literal_kernel()

    def member(names):
        return np.array([[gene in name.split("+") for gene in "ABCDE"] for name in names], float)

    kernel = member(train) @ gene_kernel @ member(train).T
    scale, errors = np.trace(kernel) / 5, []
    for ridge in RIDGES * scale:
        found = 0.0
        for out in range(5):
            rest = np.arange(5) != out
            mean = change[rest].mean(axis=0)
            one = KernelRidge(alpha=ridge, kernel="precomputed").fit(kernel[np.ix_(rest, rest)], change[rest] - mean)
            found += np.square(change[out] - mean - one.predict(kernel[out : out + 1, rest])[0]).sum()
        errors.append(found)
    ridge, mean = (RIDGES * scale)[int(np.argmin(errors))], change.mean(axis=0)
    model = make_model("set_kernel_ridge", kg).fit(adata, {"train": train, "val": [], "test": []})
    np.testing.assert_allclose(model.predictor_.ridge_, [ridge])
    whole = KernelRidge(alpha=ridge, kernel="precomputed").fit(kernel, change - mean)
    expected = mean + whole.predict(member(test) @ gene_kernel @ member(train).T)
    with pytest.warns(DataWarning, match="1 perturbed genes have no neighbour in the graph: H; nor were they"):
        found = model.predict(test).layers["delta"]
    np.testing.assert_allclose(found, np.maximum(expected, -control), atol=1e-5)
    np.testing.assert_allclose(found[4], np.maximum(mean, -control), atol=1e-5)


def test_a_saved_model_is_the_same(kg, tmp_path):
    names = ["A", "B", "C", "B+D", "E"]
    adata = small_screen(names)
    model = make_model("set_kernel_ridge", kg).fit(adata, {"train": names[:4], "val": [], "test": []})
    model.save(tmp_path / "m")
    again = load_model(tmp_path / "m")
    np.testing.assert_array_equal(again.predict(names).layers["delta"], model.predict(names).layers["delta"])
    assert (again.predictor_.rows_ != model.predictor_.rows_).nnz == 0


def test_no_set_is_told(kg):
    adata = small_screen(["A", "B", "G", "H"])
    parts = {"train": ["A", "G", "H"], "val": [], "test": []}
    with pytest.raises(InputError, match="no gene set: set_kernel_ridge needs a graph with relations of genes"):
        make_model("set_kernel_ridge", KnowledgeGraph({"gene": [*"ABGH", *MEASURED]}, {})).fit(adata, parts)
    with pytest.raises(
        InputError, match="fewer than two of the 3 training conditions perturb a gene that has features"
    ):
        make_model("set_kernel_ridge", kg).fit(adata, parts)


@pytest.mark.parametrize("name", KNOWLEDGE_BASELINES)
def test_sets_of_other_genes_are_at_chance(name):
    """Genes of one complex do the same: the graph predicts unseen genes, that of shuffled genes does not."""
    rng, n = np.random.default_rng(3), 72
    group = np.arange(n) % 8
    names = [f"P{number:02d}" for number in range(n)]
    adata, _ = latent_screen(1, n)
    profile = rng.normal(size=(8, adata.n_vars))
    of_cell = adata.obs["condition"].str.slice(1).where(adata.obs["condition"] != "control").astype(float).to_numpy()
    effect = np.where(np.isnan(of_cell)[:, None], 0, profile[group[np.nan_to_num(of_cell).astype(int)]])
    adata.X = (3 + effect + 0.3 * rng.normal(size=adata.shape)).clip(0).astype(np.float32)
    order = rng.permutation(n)
    parts = {"train": [names[i] for i in order[:48]], "val": [], "test": [names[i] for i in order[48:]]}
    scores = []
    for of in (group, rng.permutation(group)):
        sets = pd.DataFrame({"gene": names, "complex": [f"c{number}" for number in of]})
        kg = load_table(sets, source="gene", target="complex", relation="member_of", target_type="complex", origin="o")
        kg = kg | KnowledgeGraph({"gene": MEASURED}, {})
        found = make_model(name, kg).fit(adata, parts).predict(parts["test"])
        scores.append(evaluate(found, adata, parts)["pearson_centred"].mean())
    assert scores[0] > 0.8
    assert abs(scores[1]) < 0.25


def test_a_complete_graph_says_nothing(tmp_path):
    from kgnn.controls import complete_graph

    adata = simulate(n_genes=20, n_singles=5, n_pairs=0, cells_per_condition=8, n_controls=20, seed=0)
    singles = sorted(set(adata.obs["condition"].astype(str)) - {"control"})
    parts = {"train": singles[:4], "val": [], "test": singles[4:]}
    model = make_model("set_kernel_ridge", complete_graph(adata.var_names)).fit(adata, parts)
    mean = make_model("mean").fit(adata, parts).predict(parts["test"])
    np.testing.assert_allclose(model.predict(parts["test"]).X, mean.X, atol=1e-6)
