"""Training by epochs: stopping it, going on with it to the last bit, and fits that fail."""

import copy
import logging
import os
import shutil
import signal
import threading
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import nn

import kgnn
from kgnn import CellModel, PerturbationModel
from kgnn.data import read_screen, simulate, simulate_atlas, split, training_batches, training_cells
from kgnn.errors import InputError
from kgnn.graph import load_coexpression, load_table
from kgnn.models import checkpoints
from kgnn.models.epochs import repeatable
from kgnn.models.lightning import KeepBest
from tests.models.own import SMALL, TRAINED

QUICK = {"accelerator": "cpu", "enable_progress_bar": False, "learning_rate": 0.01}
PLAIN = {"accelerator": "cpu", "enable_progress_bar": False}

pytestmark = pytest.mark.filterwarnings("ignore:the squared error on:kgnn.errors.DataWarning")  # two epochs are few


@pytest.fixture(autouse=True)
def interrupts():
    """SIGINT interrupts, also where a shell has started the tests in the background and told them to ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="module")
def screen():
    return simulate(n_genes=30, n_regulators=12, n_singles=7, n_pairs=5, cells_per_condition=8, n_controls=16, seed=3)


@pytest.fixture(scope="module")
def parts(screen):
    return split(screen, "simulation", seed=1)


@pytest.fixture(scope="module")
def kg(screen, parts):
    true = load_table(screen.uns["network"], relation="regulates", origin="truth")
    return true | load_coexpression(training_cells(screen, parts))


class Own(nn.Module):
    """A vector a gene; dropout and batch norm, so that random numbers and buffers matter."""

    def __init__(self, graph, *, channels=4, dropout=0.3):
        super().__init__()
        self.genes = nn.Embedding(graph.n_nodes["gene"], channels)
        self.norm, self.dropout = nn.BatchNorm1d(channels), nn.Dropout(dropout)
        self.out = nn.Linear(channels, graph.n_genes)

    def forward(self, batch):
        summed = torch.zeros(len(batch.counts), self.genes.embedding_dim)
        summed = summed.index_add(0, batch.condition, self.genes(batch.nodes) * batch.strengths.unsqueeze(1))
        return self.out(self.dropout(self.norm(summed)))


class At(Callback):
    """Do something when training comes to a hook of an epoch, counted from 0."""

    def __init__(self, hook, do, epoch=0, step=0):
        def call(trainer, *arguments):
            batch_idx = arguments[-1] if "batch" in hook else step
            if trainer.current_epoch == epoch and batch_idx == step:
                do()

        setattr(self, hook, call)


class Watch(Callback):
    """Note the weights at the end of each epoch, and how many steps were done."""

    def __init__(self):
        self.weights, self.steps = [], 0

    def on_train_epoch_end(self, trainer, pl_module):
        self.weights.append(copy.deepcopy(pl_module.network.state_dict()))

    def on_train_batch_end(self, trainer, *_):
        self.steps = trainer.global_step


def gears(kg=None):
    return PerturbationModel(kg, encoder="gears", channels=4)


def send(number, times=1):
    def do():
        for _ in range(times):
            os.kill(os.getpid(), number)

    return do


def weights(model):
    return copy.deepcopy(model.network_.state_dict())


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def copying(folder, epochs=2):
    """The callbacks that leave `folder/kept.ckpt` as it was after so many epochs."""
    keep = At("on_train_epoch_start", lambda: shutil.copy(folder / "last.ckpt", folder / "kept.ckpt"), epochs)
    return [checkpoints(folder), keep]


@pytest.fixture
def handlers():
    """Handlers of one's own for the two signals; the signals that reached them."""
    reached = []
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    mine = {number: lambda got, _: reached.append(got) for number in before}
    for number, handler in mine.items():
        signal.signal(number, handler)
    yield mine, reached
    for number, handler in before.items():
        signal.signal(number, handler)


def in_place(mine):
    return all(signal.getsignal(number) is handler for number, handler in mine.items())


# stopping


@pytest.mark.parametrize("hook", ["on_train_batch_start", "on_before_optimizer_step"])
@pytest.mark.parametrize(("number", "error"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)])
def test_a_signal_in_the_third_epoch_leaves_the_best_epoch_so_far(kg, screen, parts, hook, number, error):
    watch = Watch()
    n_steps = len(_batches(screen, parts))
    sender = At(hook, send(number), epoch=2)
    if hook == "on_before_optimizer_step":
        sender = Callback()
        sender.on_before_optimizer_step = lambda trainer, *_: trainer.global_step == 2 * n_steps and send(number)()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    model = gears(kg)
    with pytest.raises(error) as stop:
        model.fit(screen, parts, max_epochs=5, callbacks=[watch, sender], **QUICK)
    if error is SystemExit:
        assert stop.value.code == 143
    assert watch.steps == 2 * n_steps + 1, "the step is ended and no other begun"
    assert len(model.history_) == 2
    assert same(weights(model), watch.weights[int(np.argmin(model.history_))])
    whole = gears(kg).fit(screen, parts, max_epochs=2, patience=5, **QUICK)
    assert whole.history_ == model.history_
    assert (whole.predict(parts["test"]).X == model.predict(parts["test"]).X).all()
    assert {number: signal.getsignal(number) for number in before} == before


def _batches(screen, parts):
    return training_batches(read_screen(screen), parts["train"], 32, 0)


def test_the_best_epoch_is_kept_also_where_it_is_not_the_last(screen, parts):
    watch = Watch()
    model = gears()
    options = PLAIN | {"learning_rate": 0.1, "schedule": "constant"}
    stop = At("on_train_batch_start", send(signal.SIGINT), epoch=4)
    with pytest.raises(KeyboardInterrupt):
        model.fit(screen, parts, max_epochs=6, patience=9, callbacks=[watch, stop], **options)
    best = int(np.argmin(model.history_))
    assert best < 3, "the steps are so large that later epochs are worse"
    assert same(weights(model), watch.weights[best])
    assert not same(weights(model), watch.weights[-1])


def test_the_best_epoch_is_told_counted_from_one(caplog):
    keep, task = KeepBest("val_loss"), SimpleNamespace(network=nn.Linear(1, 1))
    for epoch, score in enumerate([3.0, 1.0, 2.0]):
        metrics = {"val_loss": torch.tensor(score)}
        trainer = SimpleNamespace(sanity_checking=False, current_epoch=epoch, callback_metrics=metrics)
        keep.on_validation_end(trainer, task)
    with caplog.at_level(logging.INFO, "kgnn"):
        keep.put_back(task)
    assert caplog.messages == ["best epoch 2 of 3, val_loss 1.00000"]


def test_without_validation_a_stop_leaves_the_weights_of_the_last_step(kg, screen):
    steps = []
    model = gears(kg)
    note = Callback()
    note.on_train_batch_end = lambda trainer, task, *_: steps.append(copy.deepcopy(task.network.state_dict()))
    stop = At("on_train_batch_start", send(signal.SIGINT), epoch=1, step=1)
    with pytest.raises(KeyboardInterrupt):
        model.fit(screen, max_epochs=3, callbacks=[note, stop], **QUICK)
    parameters = dict(model.predictor_.network.named_parameters())  # statistics of batch norms are taken anew,
    learned = {name: value for name, value in parameters.items() if "embedding" not in name}  # long vectors are cut
    assert same(learned, {name: steps[-1][name] for name in learned})
    assert not same(learned, {name: steps[-2][name] for name in learned})
    assert model.history_ == []
    assert np.isfinite(model.predict("control").X).all()


def test_a_stopped_model_can_be_saved_and_fitted_again(kg, screen, parts, tmp_path):
    model = gears(kg)
    with pytest.raises(SystemExit):
        model.fit(screen, parts, callbacks=[At("on_train_batch_start", send(signal.SIGTERM), epoch=1)], **QUICK)
    model.save(tmp_path / "m")
    again = kgnn.load_model(tmp_path / "m")
    assert (again.predict(parts["test"]).X == model.predict(parts["test"]).X).all()
    model.fit(screen, parts, max_epochs=3, **QUICK)
    fresh = gears(kg).fit(screen, parts, max_epochs=3, **QUICK)
    assert model.history_ == fresh.history_
    assert same(weights(model), weights(fresh))


@pytest.mark.parametrize(("number", "error"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)])
def test_a_stop_before_the_first_step_leaves_a_model_unfitted(kg, screen, parts, number, error):
    model = gears(kg)
    at_once = At("on_train_batch_start", send(number))
    with pytest.raises(error) as stop:
        model.fit(screen, parts, callbacks=[at_once], accumulate_grad_batches=50, max_epochs=2, **QUICK)
    if error is SystemExit:
        assert stop.value.code == 143
    with pytest.raises(InputError, match="not fitted"):
        model.predict("control")
    assert not hasattr(model, "genes_")


def test_a_signal_while_training_is_set_up_ends_it_after_one_step(kg, screen, parts):
    watch, model = Watch(), gears(kg)
    with pytest.raises(KeyboardInterrupt):
        model.fit(screen, parts, callbacks=[watch, At("on_fit_start", send(signal.SIGINT))], max_epochs=2, **QUICK)
    assert watch.steps == 1
    assert model.history_ == []


def test_a_second_signal_ends_at_once(kg, screen, parts):
    watch, model = Watch(), gears(kg)
    before = signal.getsignal(signal.SIGINT)
    stop = At("on_train_batch_start", send(signal.SIGINT, times=2), epoch=1)
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        model.fit(screen, parts, max_epochs=4, callbacks=[watch, stop], **QUICK)
    assert len(watch.weights) == 1
    assert watch.steps == len(_batches(screen, parts))
    assert signal.getsignal(signal.SIGINT) is before


def test_handlers_are_as_before_after_each_fit(kg, screen, parts, handlers):
    mine, reached = handlers
    model = gears(kg)
    for _ in range(2):
        model.fit(screen, parts, max_epochs=1, **QUICK)
        assert in_place(mine)
        with pytest.raises(KeyboardInterrupt):
            model.fit(screen, parts, callbacks=[At("on_train_batch_start", send(signal.SIGINT), epoch=1)], **QUICK)
        assert in_place(mine)
        with pytest.raises(InputError):
            model.fit(screen, parts, max_epochs=2, callbacks=[At("on_train_epoch_start", fail)], **QUICK)
        assert in_place(mine)
    assert reached == []
    os.kill(os.getpid(), signal.SIGTERM)
    assert reached == [signal.SIGTERM]


def fail():
    raise InputError("as told")


def test_a_fit_in_another_thread_is_the_same(kg, screen, parts, handlers):
    mine, _ = handlers
    found = {}

    def work():
        try:
            found["model"] = gears(kg).fit(screen, parts, max_epochs=2, **QUICK)
        except BaseException as error:
            found["error"] = error

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert "error" not in found, found.get("error")
    expected = gears(kg).fit(screen, parts, max_epochs=2, **QUICK)
    assert found["model"].history_ == expected.history_
    assert same(weights(found["model"]), weights(expected))
    assert in_place(mine)


# going on


ENCODERS = {name: {"encoder": name} | SMALL[name] for name in TRAINED} | {"own": {"encoder": Own}}


@pytest.mark.parametrize("validation", [True, False])
@pytest.mark.parametrize("conditions_per_batch", [None, 4])
@pytest.mark.parametrize("name", ENCODERS)
def test_training_goes_on_to_the_last_bit(kg, screen, parts, tmp_path, name, conditions_per_batch, validation):
    parts = parts if validation else parts | {"val": []}
    options = {"max_epochs": 4, "patience": 9, "conditions_per_batch": conditions_per_batch, "seed": 5} | QUICK
    whole = PerturbationModel(kg, **ENCODERS[name]).fit(screen, parts, callbacks=copying(tmp_path), **options)
    watch = Watch()
    again = PerturbationModel(kg, **ENCODERS[name])
    again.fit(screen, parts, ckpt_path=tmp_path / "kept.ckpt", callbacks=[watch], **options)
    assert len(watch.weights) == 2
    assert again.history_ == whole.history_
    assert len(again.history_) == (4 if validation else 0)
    assert same(weights(again), weights(whole))
    assert (again.predict(parts["test"]).X == whole.predict(parts["test"]).X).all()


@pytest.mark.parametrize(
    "more",
    [{"optimizer": "adamw"}, {"optimizer": "sgd"}, {"schedule": "constant"}, {"loss": nn.HuberLoss}, {"batch_size": 7}],
    ids=str,
)
def test_it_goes_on_with_other_options_too(kg, screen, parts, tmp_path, more):
    options = {"max_epochs": 4, "patience": 9} | QUICK | more
    whole = PerturbationModel(kg, encoder=Own).fit(screen, parts, callbacks=copying(tmp_path), **options)
    again = PerturbationModel(kg, encoder=Own)
    again.fit(screen, parts, ckpt_path=tmp_path / "kept.ckpt", **options)
    assert again.history_ == whole.history_
    assert same(weights(again), weights(whole))


def test_it_goes_on_after_a_signal(kg, screen, parts, tmp_path):
    options = {"max_epochs": 4, "patience": 9} | QUICK
    whole = gears(kg).fit(screen, parts, **options)
    model = gears(kg)
    stop = At("on_train_batch_start", send(signal.SIGINT), epoch=2, step=1)
    with pytest.raises(KeyboardInterrupt):
        model.fit(screen, parts, callbacks=[checkpoints(tmp_path), stop], **options)
    model.fit(screen, parts, ckpt_path=tmp_path / "last.ckpt", **options)
    assert model.history_ == whole.history_
    assert same(weights(model), weights(whole))


def test_a_training_that_was_over_stays_as_it_was(kg, screen, parts, tmp_path):
    options = {"max_epochs": 2} | QUICK
    whole = gears(kg).fit(screen, parts, callbacks=[checkpoints(tmp_path)], **options)
    watch = Watch()
    again = gears(kg).fit(screen, parts, ckpt_path=tmp_path / "last.ckpt", callbacks=[watch], **options)
    assert watch.steps == 0
    assert again.history_ == whole.history_
    assert same(weights(again), weights(whole))


def test_a_second_training_into_a_folder_replaces_the_checkpoint(kg, screen, parts, tmp_path):
    options = {"max_epochs": 1} | QUICK
    gears(kg).fit(screen, parts, callbacks=[checkpoints(tmp_path)], seed=0, **options)
    second = gears(kg).fit(screen, parts, callbacks=[checkpoints(tmp_path)], seed=1, **options)
    assert [file.name for file in tmp_path.iterdir()] == ["last.ckpt"]
    again = gears(kg).fit(screen, parts, ckpt_path=tmp_path / "last.ckpt", seed=1, **options)
    assert same(weights(again), weights(second))


def test_it_goes_on_to_more_epochs_than_were_planned(kg, screen, parts, tmp_path):
    options = {"patience": 9} | QUICK
    whole = gears(kg).fit(screen, parts, max_epochs=4, **options)
    gears(kg).fit(screen, parts, max_epochs=2, callbacks=[checkpoints(tmp_path)], **options)
    again = gears(kg).fit(screen, parts, max_epochs=4, ckpt_path=tmp_path / "last.ckpt", **options)
    assert again.history_ == whole.history_
    assert same(weights(again), weights(whole))


def test_early_stopping_that_had_stopped_does_not_train_on(screen, parts, tmp_path):
    options = {"max_epochs": 30, "patience": 2, "schedule": "constant"} | PLAIN | {"learning_rate": 0.1}
    whole = gears().fit(screen, parts, callbacks=[checkpoints(tmp_path)], **options)
    assert len(whole.history_) == int(np.argmin(whole.history_)) + 1 + 2 < 30
    watch = Watch()
    again = gears().fit(screen, parts, ckpt_path=tmp_path / "last.ckpt", callbacks=[watch], **options)
    assert watch.steps == 0
    assert again.history_ == whole.history_
    assert same(weights(again), weights(whole))


def test_a_cell_model_goes_on_to_the_last_bit(tmp_path):
    cells = simulate_atlas(cells_per_type=12)
    options = {"max_epochs": 4, "validation": 0.2, "seed": 2} | PLAIN

    def make():
        return CellModel(classes=["cell_type"], channels=8)

    whole = make().fit(cells, callbacks=copying(tmp_path), **options)
    watch = Watch()
    again = make().fit(cells, ckpt_path=tmp_path / "kept.ckpt", callbacks=[watch], **options)
    assert len(watch.weights) == 2
    assert len(again.history_) == 4
    assert list(again.history_) == list(whole.history_)
    assert same(weights(again), weights(whole))


# checkpoints that are refused


class Line(LightningModule):
    def __init__(self):
        super().__init__()
        self.network = nn.Linear(1, 1)

    def training_step(self, batch, _):
        return self.network(batch.float().reshape(-1, 1)).mean()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def refused(kg, screen, parts, path, match):
    model = gears(kg)
    with pytest.raises(InputError, match=match):
        model.fit(screen, parts, ckpt_path=path, max_epochs=4, **QUICK)
    assert not hasattr(model, "genes_")


@pytest.fixture(scope="module")
def checkpoint(kg, screen, parts, tmp_path_factory):
    folder = tmp_path_factory.mktemp("good")
    gears(kg).fit(screen, parts, max_epochs=2, callbacks=[checkpoints(folder)], **QUICK)
    return folder / "last.ckpt"


def test_a_missing_checkpoint_is_refused(kg, screen, parts, tmp_path):
    refused(kg, screen, parts, tmp_path / "none.ckpt", "none.ckpt: no such file")


@pytest.mark.parametrize("share", [0, 0.01, 0.5, 0.99])
def test_a_checkpoint_cut_short_is_refused(kg, screen, parts, tmp_path, checkpoint, share):
    whole = checkpoint.read_bytes()
    (tmp_path / "cut.ckpt").write_bytes(whole[: int(share * len(whole))])
    refused(kg, screen, parts, tmp_path / "cut.ckpt", "cut.ckpt: (no checkpoint that can be read|the file is empty)")


def test_a_file_that_is_no_checkpoint_is_refused(kg, screen, parts, tmp_path):
    (tmp_path / "text.ckpt").write_text("weights")
    torch.save({"weights": torch.zeros(3)}, tmp_path / "other.ckpt")
    torch.save(torch.zeros(3), tmp_path / "tensor.ckpt")
    for name in ("text.ckpt", "other.ckpt", "tensor.ckpt"):
        refused(kg, screen, parts, tmp_path / name, f"{name}: no checkpoint that can be read")
    refused(kg, screen, parts, tmp_path, "is a folder where a file was expected")
    os.mkfifo(tmp_path / "pipe.ckpt")
    refused(kg, screen, parts, tmp_path / "pipe.ckpt", "is a device or a pipe")


@pytest.mark.parametrize(
    "change",
    [
        {"optimizer_states": [{"state": {}, "param_groups": []}]},
        {"callbacks": 3},
        {"pytorch-lightning_version": "x"},
        {"state_dict": {}},
    ],
)
def test_a_checkpoint_whose_parts_do_not_fit_is_refused_in_one_line(kg, screen, parts, tmp_path, checkpoint, change):
    torch.save(torch.load(checkpoint, weights_only=True) | change, tmp_path / "odd.ckpt")
    refused(kg, screen, parts, tmp_path / "odd.ckpt", r"odd\.ckpt: the checkpoint is of another network or training")


def test_a_checkpoint_written_within_an_epoch_is_refused(kg, screen, parts, tmp_path):
    often = ModelCheckpoint(tmp_path, every_n_train_steps=2, save_top_k=-1, filename="{step}")
    gears(kg).fit(screen, parts, max_epochs=1, callbacks=[often], **QUICK)
    refused(kg, screen, parts, tmp_path / "step=2.ckpt", "was written within an epoch")


def test_a_checkpoint_of_another_training_is_refused(kg, screen, parts, tmp_path):
    trainer = Trainer(max_epochs=1, logger=False, default_root_dir=tmp_path, **PLAIN, enable_checkpointing=False)
    trainer.fit(Line(), torch.utils.data.DataLoader(torch.arange(4)))
    trainer.save_checkpoint(tmp_path / "line.ckpt")
    refused(kg, screen, parts, tmp_path / "line.ckpt", "line.ckpt")


@pytest.mark.parametrize("other", [{"encoder": "gears", "channels": 8}, {"encoder": Own}, {"encoder": "cpa"}])
def test_a_checkpoint_of_another_network_is_refused(kg, screen, parts, tmp_path, other):
    other = PerturbationModel(kg, **other)
    other.fit(screen, parts, max_epochs=1, callbacks=[checkpoints(tmp_path)], **QUICK)
    refused(kg, screen, parts, tmp_path / "last.ckpt", "last.ckpt")


def test_a_refused_checkpoint_leaves_a_fitted_model_as_it_was(kg, screen, parts, tmp_path):
    model = gears(kg).fit(screen, parts, max_epochs=1, **QUICK)
    before = weights(model)
    with pytest.raises(InputError):
        model.fit(screen, parts, ckpt_path=tmp_path / "none.ckpt", **QUICK)
    assert same(weights(model), before)


# fits that fail


def failing_loss(after):
    """A loss that raises at its n-th call."""
    calls = []

    def loss(predicted, observed):
        calls.append(1)
        if len(calls) > after:
            raise RuntimeError("this loss fails")
        return (predicted - observed).square().mean()

    return loss


def test_training_that_diverges_is_refused_and_says_what_helps(kg, screen, parts):
    for split_ in (parts, None):
        model = gears(kg)
        with pytest.raises(InputError, match=r"diverged.*learning_rate"):
            model.fit(screen, split_, max_epochs=2, **PLAIN, learning_rate=1e12)
        with pytest.raises(InputError, match="not fitted"):
            model.predict("control")


@pytest.mark.parametrize("why", ["diverging", "loss", "data"])
def test_a_second_fit_that_fails_leaves_everything_as_it_was(kg, screen, parts, why):
    model = gears(kg).fit(screen, parts, max_epochs=2, **QUICK)
    before = model.predict(parts["test"], n_cells=3)
    genes, history, conditions = list(model.genes_), list(model.history_), list(model.conditions_)
    other = screen[:, ::2].copy()
    if why == "diverging":
        with pytest.raises(InputError, match="diverged"):
            model.fit(other, parts, max_epochs=2, **PLAIN, learning_rate=1e12)
    elif why == "loss":
        n_steps = len(_batches(screen, parts))
        with pytest.raises(RuntimeError, match="this loss fails"):
            model.fit(other, parts, max_epochs=3, loss=failing_loss(n_steps + 1), **QUICK)
    else:
        without = other[other.obs["condition"] != "control"].copy()
        with pytest.raises(InputError, match="no control cells"):
            model.fit(without, parts, max_epochs=2, **QUICK)
    after = model.predict(parts["test"], n_cells=3)
    assert (after.X == before.X).all()
    assert (list(model.genes_), list(model.history_), list(model.conditions_)) == (genes, history, conditions)


def test_a_first_fit_that_fails_leaves_the_model_unfitted(kg, screen, parts):
    model = gears(kg)
    n_steps = len(_batches(screen, parts))
    with pytest.raises(RuntimeError, match="this loss fails"):
        model.fit(screen, parts, max_epochs=3, loss=failing_loss(n_steps + 1), **QUICK)
    with pytest.raises(InputError, match="not fitted"):
        model.predict("control")
    assert not {"genes_", "predictor_", "controls_"} & set(vars(model))
    assert model.fit(screen, parts, max_epochs=1, **QUICK) is model
    assert len(model.history_) == 1


# what is refused


@pytest.mark.parametrize("encoder", ["kg", "gears"])
@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"max_epochs": 0}, "max_epochs = 0; it must be a whole number of 1 or more"),
        ({"max_epochs": -1}, "max_epochs = -1; it must be a whole number of 1 or more"),
        ({"max_epoch": 1}, "no option 'max_epoch'"),
        ({"foo": 3}, "no option 'foo'"),
    ],
    ids=str,
)
def test_options_that_make_no_sense_are_refused(kg, screen, parts, encoder, options, match):
    with pytest.raises(InputError, match=match):
        PerturbationModel(kg, encoder=encoder).fit(screen, parts, **options)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"max_epoch": 1}, "did you mean max_epochs"),
        ({"batch_size": 1}, "batch_size = 1; it must be a whole number of 2 or more"),
        ({"batch_size": 0}, "batch_size = 0; it must be a whole number of 2 or more"),
        ({"patience": 0}, "patience = 0; it must be"),
        ({"learning_rate": -1.0}, "learning_rate = -1.*; it must be a number from 0"),
        ({"learning_rate": float("nan")}, "learning_rate = nan.*; it must be a number from 0"),
        ({"weight_decay": float("inf")}, "weight_decay = inf.*; it must be a number from 0"),
        ({"conditions_per_batch": 0}, "conditions_per_batch = 0; it must be a whole number from 1 to 32"),
        ({"conditions_per_batch": 33}, "conditions_per_batch = 33; it must be a whole number from 1 to 32"),
        ({"accelerator": "abacus"}, "abacus"),
        ({"precision": "17"}, "17"),
    ],
    ids=str,
)
def test_options_of_training_that_make_no_sense_are_refused(kg, screen, parts, options, match):
    with pytest.raises(InputError, match=match):
        gears(kg).fit(screen, parts, **PLAIN | {"max_epochs": 1} | options)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is one")
def test_an_accelerator_that_is_not_there_is_refused_by_name(kg, screen, parts):
    with pytest.raises(InputError, match=r"(?i)gpu|cuda"):
        gears(kg).fit(screen, parts, max_epochs=1, accelerator="gpu")
    with pytest.raises(InputError, match="no option 'accelerator'"):
        PerturbationModel(kg).fit(screen, parts, accelerator="gpu")


def determinism():
    return torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()


@pytest.mark.parametrize("chosen", [False, True])
def test_cuda_adds_in_one_order_while_it_trains_and_as_before_afterwards(chosen):
    def fail(on_cuda):
        with repeatable(on_cuda):
            within.append(determinism())
            raise KeyError

    within = []
    torch.use_deterministic_algorithms(chosen)
    try:
        for on_cuda in (True, False):
            with pytest.raises(KeyError):
                fail(on_cuda)
            assert determinism() == (chosen, False)
    finally:
        torch.use_deterministic_algorithms(False)
    assert within == [(True, not chosen), (chosen, False)]


def test_what_cuda_cannot_add_in_one_order_is_told():
    @repeatable(True)
    def train():
        for text in ("is not deterministic because it uses CuBLAS", "cumsum_cuda has no deterministic implementation"):
            warnings.warn(text, UserWarning, stacklevel=1)

    with pytest.warns(UserWarning, match="cumsum_cuda") as said:
        train()
    assert len(said) == 1


def test_batches_of_one_cell_are_for_networks_without_batch_norm(kg, screen, parts):
    class Flat(Own):
        def __init__(self, graph):
            super().__init__(graph)
            self.norm = nn.Identity()

    model = PerturbationModel(kg, encoder=Flat).fit(screen, parts, max_epochs=1, batch_size=1, **QUICK)
    assert len(model.history_) == 1


@pytest.mark.parametrize("encoder", ["kg", "gears", "cpa", "mean"])
def test_data_from_which_nothing_can_be_learned_are_refused(kg, screen, parts, encoder):
    def fit(adata, split_):
        PerturbationModel(None if adata.n_vars == 1 else kg, encoder=encoder).fit(adata, split_)

    one = parts["train"][0]
    with pytest.raises(InputError, match=f"one training condition only \\('{one}'\\)".replace("+", r"\+")):
        fit(screen, {"train": [one], "val": [], "test": parts["test"]})
    with pytest.raises(InputError, match="no training condition"):
        fit(screen, {"train": [], "val": parts["val"], "test": parts["test"]})
    with pytest.raises(InputError, match=r"one gene only is measured \('G000'\)"):
        fit(screen[:, :1].copy(), parts)
    zero = screen.copy()
    zero.X = zero.X * 0
    with pytest.raises(InputError, match="X is zero everywhere"):
        fit(zero, parts)
