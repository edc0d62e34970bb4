"""Reading cells: what values are, what is refused, blocks from disk, several readers."""

import json
import os
import pickle
from pathlib import Path

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from kgnn.data import effects, simulate_atlas
from kgnn.data.cells import CellSource, ShuffledCells, open_cells, usable_cells, what_values
from kgnn.errors import DataWarning, InputError
from kgnn.files import read_h5ad


def cells(x, genes=None, form=sparse.csr_matrix):
    x = np.asarray(x, np.float32)
    adata = AnnData(form(x), obs=pd.DataFrame(index=[f"c{n}" for n in range(len(x))]))
    adata.var_names = [f"g{n}" for n in range(x.shape[1])] if genes is None else genes
    return adata


COUNTS = np.array([[1, 0, 3], [0, 2, 0], [5, 0, 0]])


def test_counts_and_log_values_are_told_apart():
    assert what_values(COUNTS) == "counts"
    assert what_values(np.log1p(COUNTS)) == "log"
    with pytest.raises(InputError, match="neither raw counts nor log-normalised"):
        what_values(COUNTS * 33.3)
    with pytest.raises(InputError, match="scaled data"):
        what_values(COUNTS - 1.5)


@pytest.mark.parametrize("form", [np.asarray, sparse.csr_matrix, sparse.csc_matrix])
def test_rows_are_brought_to_the_vocabulary(form):
    source = CellSource(cells(COUNTS, form=form), pd.Index(["new", "g2", "g0"]))
    assert source.n_known == 2
    np.testing.assert_array_equal(source.rows(np.array([0, 2])).toarray(), [[0, 3, 1], [0, 0, 5]])


def test_bad_values_name_the_cell():
    x = COUNTS.astype(float)
    x[1, 1] = np.nan
    with pytest.raises(InputError, match="cell 'c1': the value nan is no expression"):
        CellSource(cells(x)).rows(np.array([0, 1, 2]))


def test_bad_data_is_told(tmp_path):
    with pytest.raises(InputError, match="'a' stands twice in var_names"):
        CellSource(cells(COUNTS, ["a", "a", "b"]))
    with pytest.raises(InputError, match="none of the 3 genes of the data"):
        CellSource(cells(COUNTS), pd.Index(["x"]))
    with pytest.raises(InputError, match="no layer 'raw'; the layers are none"):
        CellSource(cells(COUNTS), layer="raw")
    with pytest.raises(InputError, match="no cells"):
        CellSource(cells(COUNTS)[:0])
    (tmp_path / "x.h5ad").write_text("no")
    with pytest.raises(InputError, match=r"x\.h5ad: cannot be read as AnnData"):
        CellSource(tmp_path / "x.h5ad")
    (tmp_path / "empty.zarr").mkdir()
    with pytest.raises(InputError, match=r"empty\.zarr: cannot be read as AnnData"):
        CellSource(tmp_path / "empty.zarr")
    with pytest.raises(InputError, match="no such file"):
        CellSource(tmp_path / "none.h5ad")


def test_cells_without_a_known_gene_are_left_out_and_counted():
    source = CellSource(cells(COUNTS), pd.Index(["g0"]))
    with pytest.warns(DataWarning, match=r"1 of 3 cells express no known gene and are left out \('c1', …\)"):
        assert usable_cells(source).tolist() == [0, 2]
    with pytest.raises(InputError, match="no cell expresses any gene"):
        usable_cells(CellSource(cells([[0, 0, 0]])))
    adata = cells(COUNTS)
    adata.X.data[2] = 0  # stored, in the second cell
    with pytest.warns(DataWarning, match=r"1 of 3 cells express no known gene and are left out \('c1', …\)"):
        assert usable_cells(CellSource(adata)).tolist() == [0, 2]
    assert adata.X.nnz == 4


@pytest.fixture(scope="module")
def on_disk(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cells")
    atlas = simulate_atlas(n_genes=30, cells_per_type=30, seed=1)
    anndata.settings.zarr_write_format = 2
    atlas.write_h5ad(folder / "a.h5ad")
    atlas.write_zarr(folder / "a.zarr")
    dense = atlas.copy()
    dense.X = dense.X.toarray()
    dense.write_zarr(folder / "dense.zarr")
    return atlas, folder


@pytest.mark.parametrize("name", ["a.h5ad", "a.zarr", "dense.zarr"])
def test_disk_and_memory_give_the_same_rows(on_disk, name):
    atlas, folder = on_disk
    source = CellSource(folder / name)
    assert source.on_disk
    rows = np.array([3, 4, 5, 100, 260])
    np.testing.assert_array_equal(source.rows(rows).toarray(), atlas.X[rows].toarray())
    assert list(source.adata.obs["cell_type"]) == list(atlas.obs["cell_type"])


def epoch(cells):
    return [(batch.rows.numpy(), batch.x.numpy()) for batch in cells]


def make(source, rows, **options):
    n = len(source)
    labels = np.arange(n)[:, None] % 5
    return ShuffledCells(source, rows, labels, np.zeros(n, np.int64), **options)


@pytest.mark.parametrize("name", ["memory", "a.h5ad", "a.zarr"])
def test_an_epoch_gives_every_cell_once_in_another_order_each_time(on_disk, name):
    atlas, folder = on_disk
    source = CellSource(atlas if name == "memory" else folder / name)
    rows = np.arange(0, 270, 2)
    loader = make(source, rows, batch_size=16, block_size=8, mixed=4, seed=3)
    first, second = epoch(loader), epoch(loader)
    assert len(first) == len(loader) == -(-len(rows) // 16)
    for found in (first, second):
        order = np.concatenate([part for part, _ in found])
        assert sorted(order.tolist()) == rows.tolist()
        np.testing.assert_array_equal(np.concatenate([x for _, x in found]), atlas.X[order].toarray())
    assert [part.tolist() for part, _ in first] != [part.tolist() for part, _ in second]
    again = epoch(make(source, rows, batch_size=16, block_size=8, mixed=4, seed=3))
    assert [part.tolist() for part, _ in again] == [part.tolist() for part, _ in first]
    plain = epoch(make(source, rows, batch_size=16, shuffle=False))
    assert np.concatenate([part for part, _ in plain]).tolist() == rows.tolist()


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 90), st.integers(1, 9), st.integers(1, 9), st.integers(1, 4))
def test_several_readers_have_cells_of_their_own_and_as_many_batches(n, batch_size, block_size, readers):
    source = CellSource(cells(np.ones((n, 1))))
    source.__class__.on_disk, old = True, source.__class__.on_disk
    try:
        found = []
        for reader in range(readers):
            loader = make(source, np.arange(n), batch_size=batch_size, block_size=block_size, mixed=3, seed=1)
            loader._share = lambda reader=reader: (readers, reader)
            batches = epoch(loader)
            assert len(batches) == len(loader)
            found.append(np.concatenate([part for part, _ in batches]) if batches else np.zeros(0, int))
        assert len({len(part) for part in found}) == 1
        together = np.concatenate(found)
        assert len(set(together.tolist())) == len(together)
        if readers == 1:
            assert len(together) == n
        else:
            assert len(together) > n - (readers + 1) * block_size
    finally:
        source.__class__.on_disk = old


def test_the_atlas_has_its_hierarchy_and_network():
    atlas = simulate_atlas(n_genes=40, branches=(2, 3), cells_per_type=50, inner=0.3, n_species=2, seed=0)
    assert atlas.n_obs == 2 * 3 * 50 * 2
    parents = dict(atlas.uns["ontology"].to_numpy())
    said, true = atlas.obs["cell_type"].astype(str), atlas.obs["true_type"].astype(str)
    assert all(a in (b, parents[b]) for a, b in zip(said, true, strict=True))
    assert 0.2 < (said != true).mean() < 0.4
    x = np.log1p(atlas.X.toarray())
    mean = {name: x[(true == name).to_numpy()].mean(0) for name in true.unique()}
    sisters = [np.linalg.norm(mean[a] - mean[b]) for a in mean for b in mean if a < b and parents[a] == parents[b]]
    others = [np.linalg.norm(mean[a] - mean[b]) for a in mean for b in mean if a < b and parents[a] != parents[b]]
    assert np.mean(sisters) < 0.85 * np.mean(others)
    again = simulate_atlas(n_genes=40, branches=(2, 3), cells_per_type=50, inner=0.3, n_species=2, seed=0)
    assert (again.X != atlas.X).nnz == 0
    with pytest.raises(InputError, match="inner 2"):
        simulate_atlas(inner=2)
    with pytest.raises(InputError, match="at least"):
        simulate_atlas(branches=())


class Shell:
    """What a pickle does when it is read: here it makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def elsewhere(path, to):
    """An H5AD file whose X is what `to` is."""
    AnnData(np.eye(3, dtype=np.float32)).write_h5ad(path)
    with h5py.File(path, "r+") as file:
        del file["X"]
        if isinstance(to, str):
            file.create_dataset("X", (3, 3), "f4", external=[(to, 0, h5py.h5f.UNLIMITED)])
        elif isinstance(to, h5py.VirtualLayout):
            file.create_virtual_dataset("X", to)
        else:
            file["X"] = to


def virtual(path):
    layout = h5py.VirtualLayout((3, 3), "f4")
    layout[:] = h5py.VirtualSource(path, "X", (3, 3))
    return layout


@pytest.mark.parametrize("read", [CellSource, read_h5ad, effects])
@pytest.mark.parametrize("to", ["/etc/hostname", h5py.ExternalLink("other.h5ad", "/X"), virtual("other.h5ad")])
def test_an_h5ad_file_of_which_a_part_is_elsewhere_is_refused(tmp_path, monkeypatch, read, to):
    """Who made it would choose which of the user's files are read, and a pipe would be waited for."""
    monkeypatch.chdir(tmp_path)
    AnnData(np.eye(3, dtype=np.float32)).write_h5ad("other.h5ad")
    elsewhere(tmp_path / "c.h5ad", to)
    with pytest.raises(InputError, match=r"c\.h5ad: X lies in another file; write it anew"):
        read(tmp_path / "c.h5ad")


def test_a_virtual_part_of_the_file_itself_is_read(tmp_path):
    AnnData(np.eye(3, dtype=np.float32), layers={"own": np.eye(3, dtype=np.float32)}).write_h5ad(tmp_path / "c.h5ad")
    layout = h5py.VirtualLayout((3, 3), "f4")
    layout[:] = h5py.VirtualSource(".", "layers/own", (3, 3))
    with h5py.File(tmp_path / "c.h5ad", "r+") as file:
        attributes = dict(file["X"].attrs)
        del file["X"]
        file.create_virtual_dataset("X", layout).attrs.update(attributes)
    np.testing.assert_array_equal(read_h5ad(tmp_path / "c.h5ad").X, np.eye(3))


@pytest.mark.parametrize("to", [h5py.SoftLink("/X"), h5py.SoftLink("/obs")])
def test_an_x_that_is_no_matrix_is_told(tmp_path, to):
    elsewhere(tmp_path / "c.h5ad", to)
    with pytest.raises(InputError, match="X of the data cannot be read"):
        CellSource(tmp_path / "c.h5ad")


@pytest.mark.parametrize("where", ["X/.zarray", "X/0.0", "obs/pipe"])
def test_a_pipe_in_a_zarr_store_is_refused(tmp_path, where):
    """It would be waited for without end."""
    store = tmp_path / "cells.zarr"
    AnnData(np.eye(3, dtype=np.float32)).write_zarr(store)
    (store / where).unlink(missing_ok=True)
    os.mkfifo(store / where)
    with pytest.raises(InputError, match=f"{where}: is (no file|a device or a pipe)"):
        CellSource(store)


def test_a_zarr_store_with_brackets_without_end_is_refused(tmp_path):
    store = tmp_path / "cells.zarr"
    AnnData(np.eye(3, dtype=np.float32)).write_zarr(store)
    (store / "X" / ".zattrs").write_text("[" * 100_000)
    with pytest.raises(InputError, match=r"X/\.zattrs: not usable JSON"):
        CellSource(store)


def test_links_in_circles_in_a_zarr_store_come_to_an_end(tmp_path):
    store = tmp_path / "cells.zarr"
    AnnData(np.eye(3, dtype=np.float32)).write_zarr(store)
    for name in "ab":
        (store / name).symlink_to(store)
    assert len(CellSource(store)) == 3


@pytest.mark.parametrize("decoy", [None, ".zarray", "zarr.json"])
@pytest.mark.parametrize("spelt", ["pickle", "\\u0070ickle"])
@pytest.mark.parametrize("consolidated", [False, True])
def test_a_zarr_store_that_holds_pickles_is_refused(tmp_path, decoy, spelt, consolidated):
    store, ran = tmp_path / "cells.zarr", tmp_path / "ran"
    AnnData(np.eye(3, dtype=np.float32)).write_zarr(store)
    chunk = store / "layers" / "counts" / "0.0"
    chunk.parent.mkdir(parents=True, exist_ok=True)
    chunk.write_bytes(pickle.dumps(Shell(ran)))
    array = {"zarr_format": 2, "shape": [3, 3], "chunks": [3, 3], "dtype": "|O", "order": "C", "fill_value": None}
    text = json.dumps(array | {"compressor": None, "filters": [{"id": "pickle"}]}).replace("pickle", spelt)
    (chunk.parent / ".zarray").write_text(text)
    if consolidated:
        (store / ".zmetadata").write_text('{"metadata": {"layers/counts/.zarray": ' + text + "}}")
        (chunk.parent / ".zarray").unlink()
    if decoy:
        (store / "layers" / decoy).write_text("{}")
    with pytest.raises(InputError, match="kept as pickles, which can run code"):
        open_cells(store)
    assert not ran.exists()
