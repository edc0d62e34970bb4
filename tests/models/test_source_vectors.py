"""Vectors of knowledge sources: by hand with scikit-learn, each source by itself, masks."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse

from kgnn import KnowledgeGraph, PerturbationModel
from kgnn.errors import DataWarning, InputError
from kgnn.graph.embeddings import node2vec
from kgnn.models.perturbation import source_vectors as module
from kgnn.models.perturbation.source_vectors import prepared, source_vectors
from kgnn.nn.pooling import Fusion
from tests.models.own import QUICK

NODES = pd.Index([*"ABCDEFZ"], dtype=object)
ACTS, MEMBER = ("gene", "acts", "gene"), ("gene", "member_of", "gene_set")


def edges(pairs, **more):
    return pd.DataFrame([*map(tuple, pairs)], columns=["source", "target"]).assign(**more)


@pytest.fixture
def kg():
    acts = edges(["AB", "BC", "CD"], weight=[1.0, 2.0, 3.0])
    member = edges(["A1", "B1", "C2", "E2", "A2", "B3"])
    table = pd.DataFrame({"x": [1.0, 4.0, 1.0], "y": [0.0, 3.0, 7.0]}, index=["F", "B", "D"])
    nodes = {"gene": [*"ABCDEF"], "gene_set": [*"123"]}
    return KnowledgeGraph(nodes, {ACTS: acts, MEMBER: member}).with_features("told", table)


def by_hand(matrix):
    """Standardise → principal components by singular value decomposition → divide by the median norm."""
    spread = matrix.std(0)
    x = (matrix - matrix.mean(0)) / np.where(spread > 0, spread, 1)
    left, values, _ = np.linalg.svd(x, full_matrices=False)
    found = left * values
    return found / np.median(np.linalg.norm(found, axis=1))


def inner(x):
    return x @ x.T


def test_each_source_by_hand(kg):
    """Inner products, since a component is defined up to its sign; A … F are rows 0 … 5, of Z nothing is known."""
    vectors, known = source_vectors(kg, NODES)
    assert vectors.shape == (3, 7, 128)
    assert vectors.dtype == np.float32
    told = {tuple(np.flatnonzero(row)): x[row] for row, x in zip(known, vectors, strict=True)}
    assert set(told) == {(0, 1, 2, 3), (0, 1, 2, 4), (1, 3, 5)}
    links = np.zeros((4, 4))
    for a, b, weight in ((0, 1, 0.5), (1, 2, 1.0), (2, 3, 1.5)):
        links[a, b] = links[b, a] = weight
    sets = np.array([[1, 1, 0], [1, 0, 1], [0, 1, 0], [0, 1, 0]], float)
    expected = {
        (0, 1, 2, 3): node2vec(sparse.csr_array(links), 4, 0).astype(float),
        (0, 1, 2, 4): sets,
        (1, 3, 5): np.array([[4.0, 3.0], [1.0, 7.0], [1.0, 0.0]]),
    }
    for rows, matrix in expected.items():
        np.testing.assert_allclose(inner(told[rows]), inner(by_hand(matrix)), rtol=1e-4, atol=1e-4)
    assert (vectors[~known] == 0).all()


def test_large_sparse_sources_are_as_dense_ones(monkeypatch):
    monkeypatch.setattr(module, "DIM", 5)
    matrix = (np.random.default_rng(0).random((30, 20)) < 0.3).astype(float)
    found = [prepared(x) for x in (matrix, sparse.csr_array(matrix))]
    assert found[0].shape == (30, 5)
    np.testing.assert_allclose(inner(found[0]), inner(found[1]), rtol=1e-6, atol=1e-8)


def test_one_source_does_not_change_another_and_origins_stand_apart(kg):
    """Each matrix is its own: no source holds what others say."""
    alone, _ = source_vectors(kg, NODES)
    both = kg | KnowledgeGraph({"gene": [*"AF"]}, {ACTS: edges(["AF"], origin="other")})
    vectors, known = source_vectors(both, NODES)
    assert len(vectors) == 4
    sizes = sorted(known.sum(1))
    assert sizes == [2, 3, 4, 4]
    ours = {x.tobytes() for x in vectors}
    assert all(x.tobytes() in ours for x in alone)
    assert len(ours) == 4


def test_a_source_that_tells_no_gene_from_another_is_left_out():
    same = KnowledgeGraph({"gene": [*"ABC"], "gene_set": ["1"]}, {MEMBER: edges(["A1", "B1", "C1"])})
    for kg in (None, same):
        with pytest.raises(InputError, match="no knowledge source tells one gene from another: give a graph"):
            source_vectors(kg, NODES)


def test_perturbed_genes_without_a_source_are_told(screen, network):
    known = network.subset([gene for gene in screen.var_names if gene != "G000"])
    with pytest.warns(DataWarning, match="1 perturbed genes have no neighbour.*they all get one and the same answer"):
        model = PerturbationModel(known, encoder="presage", channels=8).fit(screen, **QUICK)
    assert "G000" in model.predictor_.unlinked()


def test_the_sources_matter_and_are_saved_not_made_again(screen, network, tmp_path, monkeypatch):
    true, rewired = (
        PerturbationModel(kg, encoder="presage", channels=8).fit(screen, **QUICK) for kg in (network, network.rewire(0))
    )
    found, other = (model.predict(["G000", "G005"]).X for model in (true, rewired))
    assert np.abs(found - other).max() > 1e-4
    true.save(tmp_path / "m")
    monkeypatch.setattr("kgnn.models.perturbation.peers.source_vectors", None)
    np.testing.assert_array_equal(PerturbationModel.load(tmp_path / "m").predict(["G000", "G005"]).X, found)


def test_fusion_learns_to_reconstruct_its_inputs_while_it_trains(screen, network, monkeypatch):
    error, errors = Fusion.extra_loss, []
    options = QUICK | {"max_epochs": 6, "schedule": "constant", "learning_rate": 0.003}
    for _ in range(2):  # as it is, and without
        fitted = PerturbationModel(network, encoder="fusion", channels=20).fit(screen, **options).predictor_
        batch = fitted.inputs(["G000", "G003", "G005"], torch.ones(3), torch.zeros(40))
        errors.append(error(fitted.network, batch).item())
        monkeypatch.delattr(Fusion, "extra_loss", raising=False)
    assert errors[0] < 0.8 * errors[1]


def test_channels_fall_into_heads():
    with pytest.raises(InputError, match="channels = 8 do not fall into 10 heads"):
        PerturbationModel(encoder="fusion", channels=8)
