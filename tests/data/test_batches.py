import numpy as np
import pytest

from kgnn.data import read_screen, training_batches


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


@pytest.mark.parametrize(("size", "sizes"), [(1000, [198]), (99, [99, 99]), (98, [98, 98, 2]), (197, [197])])
def test_a_last_batch_of_one_cell_is_left_out(screen, size, sizes):
    read = read_screen(screen)  # 198 cells
    loader = training_batches(read, read.conditions, size, seed=0)
    assert [len(cells) for cells, _ in rows_of(loader)] == sizes
    assert len(loader) == len(sizes)
