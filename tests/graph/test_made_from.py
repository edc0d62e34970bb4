"""A graph remembers from which cells its sources were made: through every operation, on disk, in other processes."""

import hashlib
import json

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from hypothesis import given
from hypothesis import strategies as st

from kgnn import KnowledgeGraph
from kgnn.errors import InputError
from kgnn.graph import embed_graph, estimate_effects, load_coexpression, load_markers
from tests.folders import sealed_again

GENES = list("ABCDEF")
REGULATES = ("gene", "regulates", "gene")


def hashes(names):
    """Sorted, each once, as the file format says."""
    return sorted({int.from_bytes(hashlib.blake2b(n.encode(), digest_size=8).digest(), "little") for n in names})


def cells(n=12, prefix="cell", seed=0):
    rng = np.random.default_rng(seed)
    adata = AnnData(rng.normal(size=(n, len(GENES))) + 3)
    adata.obs_names = [f"{prefix}{number}" for number in range(n)]
    adata.var_names = GENES
    adata.obs["type"] = ["x", "y"] * (n // 2)
    return adata


def regulation(origin="network"):
    return KnowledgeGraph({"gene": GENES}, {REGULATES: pd.DataFrame({"source": list("ABC"), "target": list("BCD"),
                                                                     "origin": origin})})  # fmt: skip


def told(kg):
    return {source: seen.tolist() for source, seen in kg.cells.items()}


def test_what_is_made_from_cells_notes_them():
    adata = cells()
    all_of_them = hashes(adata.obs_names)
    assert told(load_coexpression(adata, threshold=0.0)) == {"coexpression": all_of_them}
    assert told(estimate_effects(regulation(), adata)) == {"estimated": all_of_them}
    typed = cells(13 * 2)
    typed.obs["type"] = ["x"] * 13 + ["y"] * 12 + ["of one cell"]
    typed.X[:13, 0] += 5
    of_two_types = load_markers(typed, "type", method="t-test", min_log_fold_change=0.1)
    assert told(of_two_types) == {"markers": hashes(typed.obs_names[:-1])}
    assert told(regulation()) == {}


def test_a_hash_is_the_same_in_every_process():
    kg = regulation().with_cells(["AAACCTGAGAAACCAT-1"], "network")
    of_b2sum = bytes.fromhex("cf5b7d88df1ad37f")  # printf AAACCTGAGAAACCAT-1 | b2sum -l 64
    assert told(kg) == {"network": [int.from_bytes(of_b2sum, "little")]}


def test_effects_along_learned_edges_have_seen_their_cells_too():
    learned = regulation().with_cells(["old"], "network")
    found = estimate_effects(learned | load_coexpression(cells(prefix="other"), threshold=0.0), cells())
    assert told(found) == {"estimated": hashes(["old", *cells().obs_names])}


names = st.lists(st.sampled_from([f"c{number}" for number in range(8)]), max_size=8)


@given(st.lists(st.tuples(st.sampled_from(["one", "two", "three"]), names), min_size=1, max_size=4))
def test_united_and_saved_graphs_know_the_cells_of_all(tmp_path_factory, parts):
    expected = {}
    for origin, seen in parts:
        expected.setdefault(origin, set()).update(seen)
    whole = KnowledgeGraph.merge([regulation(origin).with_cells(seen, origin) for origin, seen in parts])
    assert told(whole) == {origin: hashes(seen) for origin, seen in expected.items()}
    folder = tmp_path_factory.mktemp("graph") / "kg"
    whole.save(folder)
    again = KnowledgeGraph.load(folder)
    assert told(again) == told(whole)
    assert all(seen.dtype == np.uint64 for seen in again.cells.values())


def test_every_operation_keeps_them_and_they_go_with_their_source():
    kg = regulation() | load_coexpression(cells(), threshold=0.3)
    kg = kg | KnowledgeGraph({"gene": ["A", "B"]}, {REGULATES: pd.DataFrame({"source": ["A"], "target": ["B"]})})
    kept = {"coexpression": hashes(cells().obs_names)}
    table = embed_graph(kg, "spectral", dim=2)
    for changed in (
        kg.subset(list("ABCD")), kg.rewire(0), kg.randomize_edges(0.5, 0), kg.drop_edges(0.2, 0), kg.undirected(),
        kg.add_random_edges(0.1, 0), kg.nearest(2), kg.reverse(), kg.largest_component(), kg.filter(min_weight=0.01),
        kg.with_features("f", table), kg.with_node_column("species", "human"), kg.drop_source("network"),
        kg.only_sources("network", "coexpression"),
    ):  # fmt: skip
        assert told(changed) == kept
    assert told(kg.drop_source("coexpression")) == {}
    assert told(kg.only_sources("network")) == {}
    assert told(kg.filter(("gene", "coexpressed", "gene"), min_weight=2)) == {}  # its last edge
    assert told(load_coexpression(cells(), threshold=1.0)) == {}  # no edge at all
    with_embedding = regulation().with_features("e", table).with_cells(cells(), "e")
    assert told(with_embedding.drop_source("network")) == {"e": hashes(cells().obs_names)}


def test_cells_say_where_a_graph_comes_from_not_what_it_is():
    assert regulation().with_cells(["a"], "network") == regulation()
    with pytest.raises(InputError, match="no source or feature 'other' in the graph; it has network"):
        regulation().with_cells(["a"], "other")
    with pytest.raises(InputError, match="cells: the text 'a' where a list"):
        regulation().with_cells("a", "network")


def test_folders_whose_cells_are_cut_or_lost_are_refused(tmp_path):
    regulation().with_cells(["a", "b"], "network").save(tmp_path / "kg")
    np.save(tmp_path / "kg/cells_0.npy", np.array([1], np.uint64))
    sealed_again(tmp_path / "kg")
    with pytest.raises(InputError, match=r"cells_0.npy: shape \(1,\) where the manifest says 2"):
        KnowledgeGraph.load(tmp_path / "kg")
    manifest = json.loads((tmp_path / "kg/manifest.json").read_text())
    del manifest["cells"]
    (tmp_path / "kg/manifest.json").write_text(json.dumps(manifest))
    sealed_again(tmp_path / "kg")
    with pytest.raises(InputError, match="has no 'cells'; save it again"):
        KnowledgeGraph.load(tmp_path / "kg")
