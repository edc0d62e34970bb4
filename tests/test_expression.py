import numpy as np
import pytest
from anndata import AnnData
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from kgnn.errors import InputError
from kgnn.expression import matrix_of, summed

places = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4), st.integers(-3, 3)), max_size=30)


def raw(matrix, entries):
    """The entries in the order in which they come, places repeated, as CSR or CSC that SciPy has not tidied."""
    kind = {"csr_matrix": sparse.csr_matrix, "csr_array": sparse.csr_array, "csc_matrix": sparse.csc_matrix}[matrix]
    by = 1 if matrix == "csc_matrix" else 0
    entries = sorted(entries, key=lambda entry: entry[by])
    size = (4, 5)
    starts = np.searchsorted([entry[by] for entry in entries], np.arange(size[by] + 1))
    return kind(([float(e[2]) for e in entries], [e[1 - by] for e in entries], starts), shape=size)


@given(places, st.sampled_from(["csr_matrix", "csr_array", "csc_matrix"]))
def test_split_entries_become_their_sum_and_the_users_matrix_stays(entries, matrix):
    x = raw(matrix, entries)
    before = [part.copy() for part in (x.data, x.indices, x.indptr)]
    found = summed(x)
    expected = np.zeros((4, 5))
    for row, column, value in entries:
        expected[row, column] += value
    np.testing.assert_array_equal(found.toarray(), expected)
    places = list(zip(*(ends.tolist() for ends in found.nonzero()), strict=True))
    assert len(found.data) == len({(row, column) for row, column, _ in entries})
    assert places == sorted(places)
    for part, old in zip((x.data, x.indices, x.indptr), before, strict=True):
        np.testing.assert_array_equal(part, old)
    assert isinstance(found, sparse.csr_array if matrix == "csr_array" else sparse.csr_matrix)


def test_what_is_tidy_is_not_copied_and_a_wrong_flag_is_not_believed():
    x = sparse.random_array((5, 5), density=0.5, format="csr", rng=0)
    assert np.shares_memory(summed(x).data, x.data)
    liar = raw("csr_array", [(0, 1, 1), (0, 1, 2)])
    liar.has_canonical_format = True
    assert summed(liar).data.tolist() == [3.0]


def test_a_matrix_that_is_not_there_is_named():
    adata = AnnData(shape=(2, 2), layers={"counts": np.ones((2, 2))})
    assert matrix_of(adata, "counts").sum() == 4
    with pytest.raises(InputError, match="no layer 'raw' in the AnnData; it has counts"):
        matrix_of(adata, "raw")
    with pytest.raises(InputError, match="has no X; name a layer: it has counts"):
        matrix_of(adata)
