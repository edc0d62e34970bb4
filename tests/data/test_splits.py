import json

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from kgnn.data import leave_one_out, load_split, merge_validation, save_split, split, training_cells
from kgnn.data.splits import SETS
from kgnn.errors import InputError
from tests.peer_code import cell_gears

GENES = [f"G{i}" for i in range(10)]
gene_sets = st.sets(
    st.lists(st.sampled_from(GENES), min_size=1, max_size=3, unique=True).map(lambda genes: "+".join(sorted(genes))),
    min_size=3,
    max_size=40,
).map(sorted)
KINDS = ["random_condition", "unseen_single", "unseen_combo", "simulation"]


def try_split(names, kind, seed):
    try:
        return split(names, kind, seed=seed)
    except InputError as error:
        assert "empty" in str(error)  # noqa: PT017
        assume(False)


def genes_of(names):
    return {gene for name in names for gene in name.split("+")}


@given(gene_sets, st.sampled_from(KINDS), st.integers(0, 50))
def test_every_condition_is_in_one_group_and_the_seed_decides(names, kind, seed):
    result = try_split(names, kind, seed)
    parts = [name for part in (*SETS, "unused") for name in result[part]]
    assert sorted(parts) == names
    assert all(result[part] for part in SETS)
    assert sorted(name for group in result["subgroups"].values() for name in group) == sorted(result["test"])
    assert split(list(reversed(names)), kind, seed=seed) == result
    assert json.loads(json.dumps(result)) == result


@given(gene_sets, st.integers(0, 50))
def test_unseen_single_never_shows_the_held_out_genes(names, seed):
    result = try_split(names, "unseen_single", seed)
    assert all("+" not in name for name in result["test"] + result["val"])
    assert not genes_of(result["test"] + result["val"]) & genes_of(result["train"])
    assert not genes_of(result["test"]) & genes_of(result["val"])


@given(gene_sets, st.integers(0, 50))
def test_unseen_combo_groups_by_genes_seen_alone(names, seed):
    result = try_split(names, "unseen_combo", seed)
    for group, members in result["subgroups"].items():
        for name in members:
            assert "+" in name
            assert sum(gene in result["train"] for gene in name.split("+")) == int(group.removeprefix("seen_"))


@given(gene_sets, st.integers(0, 50))
def test_simulation_groups_are_those_of_gears(names, seed):
    """Which genes count as seen is fixed by the groups themselves; each group must fit them."""
    result = try_split(names, "simulation", seed)
    groups = result["subgroups"]
    unseen = genes_of(groups.get("unseen_single", [])) | genes_of(groups.get("combo_seen0", []))
    assert not unseen & genes_of(result["train"] + result["val"])
    for name in groups.get("combo_seen2", []):
        assert len(name.split("+")) == 2 or len(name.split("+")) == 3
        assert not genes_of([name]) & unseen or len(name.split("+")) == 3
    trained = genes_of(result["train"] + result["val"])
    for name in groups.get("combo_seen1", []):
        if len(name.split("+")) == 2:
            assert not genes_of([name]) <= trained


def test_simulation_has_the_sizes_of_cell_gears_own_splitter():
    """Group sizes depend on which genes are drawn; with all singles and pairs present they do not."""
    data_utils = cell_gears("data_utils")
    singles = [f"{gene}+ctrl" for gene in GENES]
    pairs = [f"{a}+{b}" for i, a in enumerate(GENES) for b in GENES[i + 1 :]]
    splitter = data_utils.DataSplitter.__new__(data_utils.DataSplitter)
    train, _, groups = splitter.get_simulation_split(np.array(singles + pairs), 0.75, 0.75, seed=1)
    result = split(singles + pairs, "simulation", seed=1)
    assert {name: len(group) for name, group in result["subgroups"].items()} == {
        name: len(group) for name, group in groups.items()
    }
    assert len(result["train"]) + len(result["val"]) == len(train)


def test_leave_one_out(norman):
    splits = leave_one_out(norman, seed=1)
    assert len(splits) == 33
    one = splits["KLF1+SET"]
    assert one["test"] == ["KLF1+SET"]
    assert len(one["train"]) + len(one["val"]) == 32
    assert one == split(norman, "leave_one_out", held_out="SET+KLF1", seed=1)


def test_real_norman_splits(norman):
    for kind in KINDS:
        result = split(norman, kind, seed=0)
        assert all(result[part] for part in SETS)
    sizes = {name: len(group) for name, group in split(norman, "simulation", seed=0)["subgroups"].items()}
    assert set(sizes) == {"unseen_single", "combo_seen0", "combo_seen1", "combo_seen2"}


def test_training_cells_and_merged_validation(screen):
    result = split(screen, "random_condition", seed=0)
    cells = training_cells(screen, result)
    assert set(cells.obs["condition"]) == {"control", *result["train"]}
    merged = merge_validation(result)
    assert merged["train"] == sorted(result["train"] + result["val"])
    assert merged["val"] == []
    assert merged["test"] == result["test"]


def test_json_round_trip_and_foreign_files(tmp_path, screen):
    result = split(screen, "simulation", seed=2)
    save_split(result, tmp_path / "split.json")
    assert load_split(tmp_path / "split.json") == result
    (tmp_path / "own.json").write_text('{"train": ["B+A", "C+ctrl"], "val": ["C+D"], "test": ["E"]}')
    assert load_split(tmp_path / "own.json")["train"] == ["A+B", "C"]
    for text, message in (
        ("[1]", "not a split"),
        ('{"train": [1]}', "not a split"),
        ("{", "not JSON"),
        ('{"train": ["A+B"], "val": ["B+A"], "test": []}', "'A.B' stands twice"),
    ):
        (tmp_path / "bad.json").write_text(text)
        with pytest.raises(InputError, match=message):
            load_split(tmp_path / "bad.json")


@pytest.mark.parametrize(
    ("names", "options", "message"),
    [
        (["A", "B"], {"kind": "random_condition"}, "2 conditions .* too few .* at least 3"),
        (["A", "B", "C"], {"kind": "unseen_combo"}, "leaves the val group empty: it needs at least 2 combinations"),
        (["A+B", "C+D", "E+F"], {"kind": "unseen_single"}, "group empty: it needs at least 3 singly perturbed"),
        (["A", "B", "A+B"], {"kind": "simulation"}, "group empty: .* try another seed"),
        (["A", "B", "C"], {"kind": "by_luck"}, "choose one of random_condition, unseen_single"),
        (["A", "B", "C"], {"kind": "leave_one_out"}, "needs held_out="),
        (["A", "B", "C"], {"kind": "random_condition", "held_out": "A"}, "needs held_out="),
        (["A", "B", "C"], {"kind": "leave_one_out", "held_out": "Z"}, "'Z' is no condition"),
        (["A", "B", "C"], {"kind": "random_condition", "test_fraction": 1.5}, "test_fraction = 1.5; it must"),
    ],
)
def test_a_split_that_cannot_be_made_says_what_would_work(names, options, message):
    with pytest.raises(InputError, match=message):
        split(names, **options)


def test_a_byte_order_mark_before_a_split(tmp_path):
    (tmp_path / "split.json").write_bytes(b'\xef\xbb\xbf{"train": ["G\xc3\xa91"], "val": [], "test": ["B"]}')
    assert load_split(tmp_path / "split.json")["train"] == ["Gé1"]


@given(gene_sets, st.sampled_from(["unseen_single", "unseen_combo", "simulation"]), st.integers(0, 50))
def test_genes_are_held_out_at_all_their_doses_as_without_doses(names, kind, seed):
    without = try_split(names, kind, seed)
    twice = {f"{name}+".replace("+", f"@{dose}+")[:-1]: name for name in names for dose in (1, 20)}
    dosed = split(twice, kind, seed=seed)
    for part in (*SETS, "unused"):
        assert sorted(dosed[part]) == sorted(name for name, bare in twice.items() if bare in without[part])
    assert dosed["subgroups"].keys() == without["subgroups"].keys()
    for group, members in dosed["subgroups"].items():
        assert sorted(members) == sorted(name for name, bare in twice.items() if bare in without["subgroups"][group])
