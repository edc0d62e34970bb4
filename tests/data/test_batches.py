import numpy as np
import pytest

from kgnn.data import read_screen, training_batches
from kgnn.errors import InputError


def rows_of(loader):
    return [(cells.tolist(), controls.tolist()) for cells, controls in loader.sampler]


def test_an_epoch_shows_every_training_and_control_cell_once(screen):
    read = read_screen(screen)
    train = read.conditions[:5]
    loader = training_batches(read, train, batch_size=8, seed=0)
    cells = [cell for batch, _ in rows_of(loader) for cell in batch]
    assert sorted(cells) == sorted([*read.controls, *read.cells(train)])
    assert len(loader) == -(-len(cells) // 8)


def test_batches_hold_the_cells_and_number_their_conditions(screen):
    read = read_screen(screen)
    loader = training_batches(read, read.conditions, batch_size=16, seed=1)
    rows = rows_of(training_batches(read, read.conditions, batch_size=16, seed=1))
    for batch, (cells, controls) in zip(loader, rows, strict=True):
        np.testing.assert_array_equal(batch.target.numpy(), read.x[cells].toarray())
        np.testing.assert_array_equal(batch.control.numpy(), read.x[controls].toarray())
        assert [batch.conditions[number] for number in batch.condition] == read.condition[cells].tolist()
        assert sorted(set(batch.condition.tolist())) == list(range(len(batch.conditions)))


def test_the_seed_decides_and_epochs_differ(screen):
    read = read_screen(screen)
    first, second, other = (training_batches(read, read.conditions, 16, seed) for seed in (0, 0, 1))
    epoch = rows_of(first)
    assert epoch == rows_of(second)
    assert epoch != rows_of(other)
    assert epoch != rows_of(first)


def test_controls_come_from_the_cells_own_group(screen):
    screen.obs["line"] = np.random.default_rng(0).choice(["K562", "RPE1"], screen.n_obs)
    read = read_screen(screen, group_key="line")
    for cells, controls in rows_of(training_batches(read, read.conditions, 16, seed=0)):
        assert (read.group[cells] == read.group[controls]).all()
        assert (read.condition[controls] == "").all()


def test_by_group_each_condition_has_the_state_of_its_group(screen):
    """By hand: a row a pair of condition and group, and the mean control cell of the group."""
    screen.obs["batch"] = np.tile(["x", "y", "z"], screen.n_obs)[: screen.n_obs]
    read = read_screen(screen, group_key="batch")
    options = (read, read.conditions, 32, 1, None)
    rows = rows_of(training_batches(*options))
    x, control = read.x.toarray(), read.condition == ""
    for batch, (cells, _) in zip(training_batches(*options, True), rows, strict=True):
        told = [(batch.conditions[n], batch.state[n].numpy()) for n in batch.condition]
        for cell, (name, state) in zip(cells, told, strict=True):
            assert name == read.condition[cell]
            own = x[control & (read.group == read.group[cell])].mean(0)
            np.testing.assert_allclose(state, own, rtol=1e-5)
        pairs = {(read.condition[cell], read.group[cell]) for cell in cells}
        assert len(batch.conditions) == len(batch.state) == len(pairs)
    plain = [*training_batches(*options)]
    assert all(batch.state is None for batch in plain)
    one = training_batches(read_screen(screen), *options[1:], True)
    assert all(batch.state is None for batch in one)


@pytest.mark.parametrize(("size", "sizes"), [(1000, [198]), (99, [99, 99]), (98, [98, 98, 2]), (197, [197])])
def test_a_last_batch_of_one_cell_is_left_out(screen, size, sizes):
    read = read_screen(screen)  # 198 cells
    loader = training_batches(read, read.conditions, size, seed=0)
    assert [len(cells) for cells, _ in rows_of(loader)] == sizes
    assert len(loader) == len(sizes)


@pytest.mark.parametrize(("batch_size", "conditions_per_batch"), [(16, 2), (16, 16), (12, 5), (200, 1)])
def test_grouped_batches_show_every_cell_once_from_few_conditions(screen, batch_size, conditions_per_batch):
    read = read_screen(screen)
    train = read.conditions[:6]
    loader = training_batches(read, train, batch_size, 0, conditions_per_batch)
    epoch = rows_of(loader)
    assert len(loader) == len(epoch)
    assert sorted(cell for batch, _ in epoch for cell in batch) == sorted([*read.controls, *read.cells(train)])
    for cells, controls in epoch:
        assert len(cells) == len(controls) <= batch_size
        assert len(set(read.condition[cells])) <= conditions_per_batch
        assert (read.condition[controls] == "").all()
    assert epoch != rows_of(loader)
    again = training_batches(read, train, batch_size, 0, conditions_per_batch)
    assert epoch == rows_of(again)


@pytest.mark.parametrize("number", [0, 17])
def test_more_conditions_than_cells_are_refused(screen, number):
    read = read_screen(screen)
    with pytest.raises(InputError, match=f"= {number};"):
        training_batches(read, read.conditions, 16, 0, number)
