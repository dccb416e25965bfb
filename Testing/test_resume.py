"""Nothing is lost: a training that is stopped, killed or finds a damaged file goes on bit for bit."""

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from conftest import ROOT, TINY
from DiffSegLib import config
from DiffSegLib.errors import Cancelled, DiffSegError, InputError
from DiffSegLib.network.build import build
from DiffSegLib.training import checkpoint, loop
from DiffSegLib.training.lock import locked
from DiffSegLib.training.run import train_folder
from DiffSegLib.training.time_sampling import TimeSampler
from small_training import ALL, assert_same, settings_of, small_training, spoiled, state_of
from tally import tried


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The run folder of a training that nobody disturbed."""
    run = tmp_path_factory.mktemp("whole")
    small_training(run, settings_of(*ALL))
    return run


def stop_after(count):
    calls = iter(range(100_000))
    return lambda: next(calls) == count


def events_of(run):
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


# asked before each batch, of which there are two in a step, and for each window of a validation
@pytest.mark.parametrize("call", [1, 8, 14])
def test_a_training_stopped_anywhere_ends_as_one_that_was_not(whole, tmp_path, call):
    with pytest.raises(Cancelled, match="--resume"):
        small_training(tmp_path, settings_of(*ALL), cancelled=stop_after(call))
    with pytest.raises(Cancelled):
        small_training(tmp_path, settings_of(*ALL), resume=True, cancelled=stop_after(call))
    small_training(tmp_path, settings_of(*ALL), resume=True)
    for name in (checkpoint.LAST, checkpoint.BEST):
        assert_same(state_of(tmp_path, name), state_of(whole, name))
    story = [{k: x for k, x in event.items() if k != "seconds"} for event in events_of(tmp_path)]
    assert story == [{k: x for k, x in event.items() if k != "seconds"} for event in events_of(whole)]


@pytest.mark.parametrize("kill", range(int(os.environ.get("DIFFSEG_KILLS", "1"))))
def test_a_training_killed_anywhere_ends_as_one_that_was_not(whole, tmp_path, kill):
    code = "import sys; from pathlib import Path; from small_training import *\n"
    code += "small_training(Path(sys.argv[1]), settings_of(*ALL))"
    folders = [os.environ["PYTHONPATH"], str(ROOT), str(ROOT / "Testing")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(folders)}
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], env=environment)
    while not (tmp_path / "checkpoint" / checkpoint.LAST).exists() and process.poll() is None:
        time.sleep(0.01)
    delay = random.uniform(0.0, 1.0)
    time.sleep(delay)
    process.kill()
    process.wait()
    tried("processes killed")
    small_training(tmp_path, settings_of(*ALL), resume=True)
    for name in (checkpoint.LAST, checkpoint.BEST):
        assert_same(state_of(tmp_path, name), state_of(whole, name))
    assert not list((tmp_path / "checkpoint").glob(".*")), f"kill {kill} after {delay} s"


def cut_off(path):
    path.write_bytes(path.read_bytes()[:-100])


def flip_a_bit(path):
    data = bytearray(path.read_bytes())
    data[-1000] ^= 4
    path.write_bytes(data)


@pytest.mark.parametrize("spoil", [cut_off, flip_a_bit])
def test_a_damaged_checkpoint_is_noticed_and_the_one_before_goes_on(whole, tmp_path, spoil):
    with pytest.raises(Cancelled):
        small_training(tmp_path, settings_of(*ALL), cancelled=stop_after(20))
    folder = tmp_path / "checkpoint"
    before = checkpoint.read(folder / checkpoint.PREVIOUS)[1]["progress"]["iteration"]
    spoil(folder / checkpoint.LAST)
    heard = []
    small_training(tmp_path, settings_of(*ALL), resume=True, listener=heard.append)
    said = [event["text"] for event in heard if event["event"] == "warning"]
    assert len(said) == 1 and "last.safetensors: is damaged" in said[0] and f"iteration {before}." in said[0]
    assert_same(state_of(tmp_path), state_of(whole))
    for name in (checkpoint.LAST, checkpoint.PREVIOUS):
        spoil(folder / name)
    with pytest.raises(InputError, match="No checkpoint is left to go on from"):
        small_training(tmp_path, settings_of(*ALL), resume=True)


def of_another_shape(path):
    tensors, more = checkpoint.read(path)
    key = next(key for key, value in tensors.items() if value.ndim == 1)
    checkpoint.write(path, tensors | {key: tensors[key][:1]}, more)


@pytest.mark.parametrize("spoil", [flip_a_bit, Path.unlink, of_another_shape])
def test_a_damaged_best_checkpoint_leaves_the_last_weights_with_a_score_of_their_own(tmp_path, spoil, monkeypatch):
    settings = settings_of("training.iterations=3", "training.validations=1")
    small_training(tmp_path, settings)
    spoil(tmp_path / "checkpoint" / checkpoint.BEST)
    scripted(monkeypatch, [0.25])
    heard = []
    trained = small_training(tmp_path, settings, resume=True, listener=heard.append)
    assert "best.safetensors: is" in heard[0]["text"] and "has the last weights instead" in heard[0]["text"]
    assert (trained.dice, trained.iteration) == (0.25, 3)
    last = state_of(tmp_path)
    assert all(torch.equal(value, last[f"ema.{key}"]) for key, value in trained.weights.items())


def test_a_checkpoint_of_another_network_is_refused_by_name(whole):
    with pytest.raises(InputError, match=r"last.safetensors: is no checkpoint of this configuration"):
        small_training(whole, settings_of(*ALL, "network.channels=[8,8]"), resume=True)


def test_a_configuration_that_was_edited_since_is_refused_by_its_key(dataset, tmp_path):
    settings = config.override(config.from_json(TINY), ["training.iterations=2", "training.validations=1"])
    train_folder(dataset, tmp_path / "run", settings, device="cpu")
    file = tmp_path / "run" / "config.json"
    text = file.read_text()
    file.write_text(text.replace('"normalisation": "zscore"', '"normalisation": "percentile"'))
    more = config.override(settings, ["training.iterations=4", "training.patience=9"])
    told = r"last\.safetensors: .* \(data\.normalisation was zscore, not percentile\); put config\.json back"
    with pytest.raises(InputError, match=told):
        train_folder(dataset, tmp_path / "run", more, resume=True, device="cpu")
    file.write_text(text)
    assert train_folder(dataset, tmp_path / "run", more, resume=True, device="cpu").is_file()


def scripted(monkeypatch, dice):
    """Validations that find these Dice, whatever the weights are."""
    found = iter(dice)

    def validate(*_args, **_options):
        return {"dice": next(found), "dice_first_step": 0.0, "dice_by_class": []}

    monkeypatch.setattr(loop, "validate", validate)


PATIENT = ["training.iterations=12", "training.validations=12", "training.patience=3"]


def test_patience_ends_a_training_and_says_so(tmp_path, monkeypatch):
    scripted(monkeypatch, [0.5, 0.4, 0.6, 0.6, 0.5, 0.55])
    trained = small_training(tmp_path, settings_of(*PATIENT))
    assert (trained.iteration, trained.dice, state_of(tmp_path)["progress"]["iteration"]) == (3, 0.6, 6)
    said = [event["text"] for event in events_of(tmp_path) if event["event"] == "log"]
    assert said == ["Stopped early: 3 validations without a better Dice than 0.6000 at iteration 3."]
    best = state_of(tmp_path, checkpoint.BEST)
    assert all(torch.equal(value, best[f"ema.{key}"]) for key, value in trained.weights.items())
    again = small_training(tmp_path, settings_of(*PATIENT), resume=True)  # it is over, and stays so
    assert again.iteration == 3 and len(events_of(tmp_path)) == 7


def test_patience_survives_a_resume(tmp_path, monkeypatch):
    scripted(monkeypatch, [0.5, 0.4, 0.3, 0.2])
    with pytest.raises(Cancelled):
        small_training(tmp_path, settings_of(*PATIENT), cancelled=stop_after(2))
    small_training(tmp_path, settings_of(*PATIENT), resume=True)
    assert state_of(tmp_path)["progress"]["iteration"] == 4


def test_a_long_training_is_saved_between_its_validations(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "SAVE_EVERY", 0.0)
    spoiled(monkeypatch, [2], "no number")  # a defect: it ends the third step with a TypeError
    with pytest.raises(TypeError):
        small_training(tmp_path, settings_of("training.iterations=100", "training.validations=1"))
    assert state_of(tmp_path)["progress"]["iteration"] == 2


def test_a_longer_budget_goes_on_with_its_validations(tmp_path):
    small_training(tmp_path, settings_of("training.iterations=2", "training.validations=2"))
    small_training(tmp_path, settings_of("training.iterations=6", "training.validations=3"), resume=True)
    assert [event["iteration"] for event in events_of(tmp_path) if "dice" in event] == [1, 2, 4, 6]


@pytest.mark.parametrize(("budget", "validated"), [("iterations=1", [4, 6]), ("minutes=1e-9", [4, 6])])
def test_a_budget_that_is_spent_already_trains_no_more_and_keeps_the_best_of_what_there_is(
    tmp_path, monkeypatch, budget, validated
):
    scripted(monkeypatch, [0.5, 0.4])
    ample = ("training.iterations=12", "training.validations=3")
    with pytest.raises(Cancelled):  # a step asks once, and none is asked for in the scripted validation
        small_training(tmp_path, settings_of(*ample), cancelled=stop_after(6))
    weights = state_of(tmp_path)
    trained = small_training(tmp_path, settings_of(*ample, f"training.{budget}"), resume=True)
    assert (trained.iteration, trained.dice) == (4, 0.5)
    assert [event["iteration"] for event in events_of(tmp_path) if "dice" in event] == validated
    after, best = state_of(tmp_path), state_of(tmp_path, checkpoint.BEST)
    assert after["progress"]["iteration"] == 6, "not one step more"
    assert all(torch.equal(after[key], value) for key, value in weights.items() if isinstance(value, torch.Tensor))
    assert all(torch.equal(value, best[f"ema.{key}"]) for key, value in trained.weights.items())
    small_training(tmp_path, settings_of(*ample, f"training.{budget}"), resume=True)  # nothing is validated twice


def test_a_training_stopped_before_its_first_validation_still_becomes_a_model(tmp_path):
    with pytest.raises(Cancelled):
        small_training(
            tmp_path, settings_of("training.iterations=100", "training.validations=1"), cancelled=stop_after(3)
        )
    trained = small_training(tmp_path, settings_of("training.iterations=1", "training.validations=1"), resume=True)
    last = state_of(tmp_path)
    assert trained.iteration == 3 and trained.dice >= 0.0
    assert all(torch.equal(value, last[f"ema.{key}"]) for key, value in trained.weights.items())


def test_one_process_at_a_time_trains_in_a_run_folder(tmp_path):
    code = "import sys, time; from pathlib import Path; from DiffSegLib.training.lock import locked\n"
    code += "with locked(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    run = tmp_path / "run"
    command = [sys.executable, "-c", code, str(run)]
    process = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    (run / "config.json").write_text("{}")
    with pytest.raises(InputError, match=f"run: process {process.pid} is training here"), locked(run):
        pass
    process.kill()
    process.wait()
    with locked(run), pytest.raises(InputError, match="is training here"), locked(run):
        pass
    with locked(tmp_path / "new"):
        pass
    assert not (tmp_path / "new").exists()  # a training that never began leaves nothing


def test_a_step_that_is_not_finite_teaches_nothing(tmp_path, monkeypatch):
    settings = settings_of("diffusion.time_sampling=loss_aware", "training.iterations=100")
    with pytest.raises(Cancelled):
        small_training(tmp_path, settings, cancelled=stop_after(2))
    before = state_of(tmp_path)
    spoiled(monkeypatch, [0])
    with pytest.raises(Cancelled):
        small_training(tmp_path, settings, resume=True, cancelled=stop_after(1))
    after = state_of(tmp_path)
    old, new = before.pop("progress"), after.pop("progress")
    assert_same(after, before)
    assert new == {**old, "iteration": 3, "samples": old["samples"] + 2, "skipped": 1}
    with pytest.raises(Cancelled):
        small_training(tmp_path, settings, resume=True, cancelled=stop_after(1))
    assert state_of(tmp_path)["progress"]["skipped"] == 0
    assert any("Iteration 2: the loss or its gradient was not finite" in event["text"] for event in events_of(tmp_path))


def test_a_training_that_stays_broken_names_its_cases(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "MAX_SKIPPED", 3)
    spoiled(monkeypatch, range(100))
    with pytest.raises(DiffSegError, match=r"not finite 3 times in a row, last with blob \d, blob \d; look at these"):
        small_training(tmp_path, settings_of())


def test_an_overflow_of_half_precision_is_the_scaler_s_and_no_failure(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "MAX_SKIPPED", 1)
    spoiled(monkeypatch, [1, 2], 1e35)  # times 65536 it is infinite
    settings = settings_of("training.precision=fp16", "training.iterations=100")
    with pytest.raises(Cancelled):
        small_training(tmp_path, settings, cancelled=stop_after(3))
    state = state_of(tmp_path)
    assert state["scaler"]["scale"] == 65536 / 4 and state["progress"]["skipped"] == 0
    assert state["optimizer.0.step"] == 1 and state["progress"]["iteration"] == 3
    with pytest.raises(Cancelled):
        small_training(tmp_path, settings, resume=True, cancelled=stop_after(0))
    assert_same(state_of(tmp_path), state)
    spoiled(monkeypatch, range(100))  # a loss that is not finite itself is no matter of scale
    with pytest.raises(DiffSegError, match="not finite 1 times"):
        small_training(tmp_path, settings, resume=True)


def test_memory_that_runs_out_on_a_processor_is_one_sentence_and_what_was_learnt_is_kept(tmp_path, monkeypatch):
    plain, asked = loop.training_loss, iter(range(100))

    def hungry(*arguments):
        if next(asked) == 3:
            raise RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory")
        return plain(*arguments)

    monkeypatch.setattr(loop, "training_loss", hungry)
    with pytest.raises(DiffSegError, match=r"memory is not enough; train anew with a smaller training\.batch"):
        small_training(tmp_path, settings_of("training.iterations=10"))
    assert state_of(tmp_path)["progress"]["iteration"] == 3


def test_the_best_weights_bring_their_own_score(tmp_path):
    settings = settings_of("training.iterations=4", "training.validations=2")
    small_training(tmp_path, settings)
    _, more = checkpoint.read(tmp_path / "checkpoint" / checkpoint.BEST)
    network = build(settings.network, 1, 3, settings.diffusion)
    times = TimeSampler(settings.diffusion, 5)
    state = checkpoint.State(network, torch.optim.AdamW(network.parameters()), torch.amp.GradScaler("cpu"), times)
    assert checkpoint.load_best(tmp_path / "checkpoint", state) == ""
    assert state.progress.best_dice == more["progress"]["best_dice"] > -1.0
    assert state.progress.best_iteration == more["progress"]["best_iteration"]


def test_a_training_that_left_cases_out_goes_on_without_being_told_again(dataset, tmp_path):
    settings = config.override(config.from_json(TINY), ["training.iterations=2", "training.validations=1"])
    (dataset / "imagesTr" / "blob_01.nii.gz").unlink()
    train_folder(dataset, tmp_path / "run", settings, skip_bad=True, device="cpu")
    more = config.override(settings, ["training.iterations=4"])
    assert train_folder(dataset, tmp_path / "run", more, resume=True, device="cpu").is_file()
