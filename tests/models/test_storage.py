"""What a saved model's arrays must be before compiled code sees them."""

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from scipy import sparse

import kgnn
from kgnn import folders
from kgnn.data import simulate, simulate_atlas
from kgnn.errors import InputError, OutputError
from kgnn.graph import load_table
from kgnn.models.storage import csr_of
from tests.folders import sealed_again

WHOLE = sparse.csr_matrix(np.array([[0.0, 2, 0], [1, 0, 3]]))


def parts(**changes):
    return {name: getattr(WHOLE, name) for name in ("data", "indices", "indptr")} | changes


def test_a_sparse_matrix_comes_back():
    assert (csr_of(parts(), (2, 3), "f") != WHOLE).nnz == 0
    empty = {"data": np.zeros(0, np.float32), "indices": np.zeros(0, np.int32), "indptr": np.zeros(1, np.int32)}
    assert csr_of(empty, (0, 0), "f").shape == (0, 0)


@pytest.mark.parametrize(
    ("changes", "shape"),
    [
        ({"indices": np.array([1, 0, 3])}, (2, 3)),
        ({"indices": np.array([1, -1, 2])}, (2, 3)),
        ({"indices": np.array([1, 10**9, 2])}, (2, 3)),
        ({"indices": np.array([1.0, 0.0, 2.0])}, (2, 3)),
        ({"indptr": np.array([0, 4, 3])}, (2, 3)),
        ({"indptr": np.array([0, 10**9, 3])}, (2, 3)),
        ({"indptr": np.array([1, 1, 3])}, (2, 3)),
        ({"indptr": np.array([0, 3])}, (2, 3)),
        ({"indptr": np.array([0, 1, 2])}, (2, 3)),
        ({"data": np.array([1.0, np.nan, 2.0])}, (2, 3)),
        ({"data": np.array([1.0, 2.0])}, (2, 3)),
        ({"data": np.array([1.0, 2.0, 3.0], np.float16)}, (2, 3)),
        ({"data": np.array([1, 2, 3])}, (2, 3)),
        ({}, (3, 3)),
        ({}, (2, 2)),
        ({}, (-1, 3)),
    ],
)
def test_one_that_points_outside_itself_is_refused(changes, shape):
    with pytest.raises(InputError, match="f: is no sparse matrix"):
        csr_of(parts(**changes), shape, "f")


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A fitted model in a folder."""
    folder = tmp_path_factory.mktemp("saved") / "m"
    screen = simulate(n_genes=60, n_singles=8, n_pairs=2, cells_per_condition=8, seed=0)
    kg = load_table(screen.uns["network"], relation="regulates", origin="network")
    kgnn.PerturbationModel(kg).fit(screen).save(folder)
    return folder


@pytest.mark.parametrize(
    ("file", "name", "change", "told"),
    [
        ("controls", "indices", lambda x: np.full_like(x, 10**6), "is no sparse matrix"),
        ("controls", "shape", lambda x: x * 1000, "is no sparse matrix"),
        ("controls", "shape", lambda x: x[:1], "has no shape"),
        ("controls", "data", lambda x: x * np.nan, "data holds what is no number"),
        ("arrays", "control_group", lambda x: x - 1, "control cells of other genes or groups"),
        ("arrays", "control_mean", lambda x: x[1:], "control_mean must be finite numbers"),
        ("arrays", "network.bag_genes", lambda x: x + 10**6, "training samples of other genes"),
        ("arrays", "network.bag_offsets", lambda x: x[::-1], "out of order"),
        ("arrays", "network.bag_line", lambda x: x + 2**60, "training samples of other genes or lines"),
        ("arrays", "network.weights", lambda x: x[:, 1:], "do not fit"),
        ("arrays", "network.offset", lambda x: x * np.inf, "not finite|no number"),
        ("arrays", "network.programmes", None, "Missing key.*programmes.*Fit again"),
        ("arrays", "network.weights", None, "weights.*again"),
    ],
)
def test_arrays_that_do_not_fit_are_refused_before_they_are_used(saved, tmp_path, file, name, change, told):
    folder = tmp_path / "m"
    folder.symlink_to(saved)
    path = saved / f"{file}.safetensors"
    whole = path.read_bytes()
    values = load_file(path)
    value = values.pop(name)
    with np.errstate(invalid="ignore"):
        save_file(values | ({name: np.ascontiguousarray(change(value))} if change else {}), path)
    sealed_again(saved)
    try:
        with pytest.raises(InputError, match=told):
            kgnn.load_model(folder)
    finally:
        path.write_bytes(whole)
        sealed_again(saved)
    kgnn.load_model(folder)


def fitted(kind):
    """A fitted model, or a graph, and what it answers."""
    if kind == "cells":
        atlas = simulate_atlas(n_genes=40, branches=(2, 2), cells_per_type=3)
        cells = kgnn.CellModel(classes=["cell_type"], channels=8, heads=2)
        return cells.fit(atlas, max_epochs=1, enable_progress_bar=False), lambda model: model.gene_embeddings()
    screen = simulate(n_genes=60, n_singles=8, n_pairs=2, cells_per_condition=8, seed=0)
    kg = load_table(screen.uns["network"], relation="regulates", origin="network")
    if kind == "graph":
        return kg, lambda kg: kg.edges(("gene", "regulates", "gene"))
    if kind == "links":
        asked = ("gene", "regulates", "gene")
        return kgnn.LinkModel(kg, channels=4).fit(max_epochs=1), lambda model: model.predict(asked, source="G001")
    return kgnn.PerturbationModel(kg).fit(screen), lambda model: model.predict(["G001"]).to_df()


@pytest.mark.parametrize("kind", ["perturbation", "cells", "links", "graph"])
def test_a_bad_target_is_told_at_once_and_the_model_is_saved_elsewhere(kind, tmp_path, monkeypatch):
    model, answer = fitted(kind)
    before = answer(model)
    (tmp_path / "file").write_text("mine")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    with monkeypatch.context() as patch:
        patch.setattr(folders, "workplace", None)  # nothing may be begun
        for target in ("file", "mine", "file/in", "x" * 300, "."):
            with pytest.raises(OutputError):
                model.save(tmp_path / target)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "mine", "notes.txt"]
    model.save(tmp_path / "m")
    loaded = kgnn.KnowledgeGraph.load(tmp_path / "m") if kind == "graph" else kgnn.load_model(tmp_path / "m")
    for found in (answer(model), answer(loaded)):
        assert found.equals(before)


@pytest.mark.parametrize("kind", ["perturbation", "cells", "links"])
def test_a_model_is_read_once(kind, tmp_path, monkeypatch):
    fitted(kind)[0].save(tmp_path / "m")
    hashed, plain = [], folders._hash_file
    monkeypatch.setattr(folders, "_hash_file", lambda file: hashed.append(file) or plain(file))
    assert type(kgnn.load_model(tmp_path / "m")) is type(fitted(kind)[0])
    top = [file.name for file in hashed if file.parent == tmp_path / "m"]
    assert len(top) == len({*top}) >= 3


def test_a_model_of_another_kind_is_told(tmp_path):
    fitted("cells")[0].save(tmp_path / "m")
    for kind in (kgnn.PerturbationModel, kgnn.LinkModel):
        with pytest.raises(InputError, match=r"m: holds a 'cell' model; use kgnn\.load_model"):
            kind.load(tmp_path / "m")
