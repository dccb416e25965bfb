"""What a training tells while it runs: a line each in log.jsonl, and TensorBoard events where that is installed."""

import itertools
import json
import re
import sys
from pathlib import Path

import pytest
import torch

from DiffSegLib import events
from DiffSegLib.data.batch import Outcome
from DiffSegLib.errors import DiffSegError
from DiffSegLib.terminal import Show
from DiffSegLib.training import log as training_log
from DiffSegLib.training import loop
from DiffSegLib.training.log import Log
from small_training import settings_of, small_training, spoiled


def lines(run):
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


def test_the_loss_stands_in_the_log_with_clock_and_time_left(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "LOG_EVERY", 2)
    monkeypatch.setattr(training_log, "SHOW_EVERY", 0.0)
    heard = []
    small_training(tmp_path, settings_of("training.iterations=4", "training.validations=2"), listener=heard.append)
    written = lines(tmp_path)
    assert written == [event for event in heard if event["event"] != "progress"]
    losses, scores = ([event for event in written if key in event] for key in ("loss", "dice"))
    assert [event["iteration"] for event in losses] == [event["iteration"] for event in scores] == [2, 4]
    for event in losses:
        assert 0 < event["loss"] < 5 and event["gradient_norm"] > 0 and event["learning_rate"] > 0
        assert event["seconds"] >= 0 and event["seconds_left"] >= 0
    assert losses[-1]["seconds_left"] == 0 and len(scores[0]["dice_by_class"]) == 2
    progress = [event for event in heard if event["event"] == "progress"]
    assert [event["text"] for event in progress if "loss" not in event["text"]] == [
        f"iteration {n}, validating (1)" for n in (2, 4)
    ]
    shown = [event for event in progress if "loss" in event["text"]]
    assert [event["fraction"] for event in shown] == [0.25, 0.5, 0.75, 1.0]
    assert shown[-1]["text"].endswith(", 0 s left")


def test_the_time_left_is_told_in_minutes_from_two_on(tmp_path, monkeypatch):
    monkeypatch.setattr(training_log, "SHOW_EVERY", 0.0)
    clock, heard = itertools.count(0.0, 8.0), []
    monkeypatch.setattr(loop.time, "monotonic", lambda: next(clock))
    small_training(tmp_path, settings_of("training.iterations=6", "training.validations=1"), listener=heard.append)
    shown = [event["text"] for event in heard if event["event"] == "progress"]
    left = [text.rpartition(", ")[2] for text in shown if "loss" in text]
    assert re.fullmatch(r"\d+ min left", left[0]) and left[-1] == "0 s left"
    for number, unit, _ in map(str.split, left):
        assert int(number) >= 2 if unit == "min" else int(number) < 120


def test_bytes_that_are_no_text_keep_no_training_from_going_on(tmp_path):
    small_training(tmp_path, settings_of("training.iterations=2", "training.validations=1"))
    with open(tmp_path / "log.jsonl", "ab") as file:
        file.write(b"\xff\xfe what a disk made of it\n")
    small_training(tmp_path, settings_of("training.iterations=3", "training.validations=1"), resume=True)
    assert lines(tmp_path)[-1]["iteration"] == 3


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_log_that_cannot_be_written_is_told_once_and_costs_no_training(tmp_path):
    (tmp_path / "log.jsonl").symlink_to("/dev/full")
    heard = []
    small_training(tmp_path, settings_of("training.iterations=4", "training.validations=4"), listener=heard.append)
    told = [event["text"] for event in heard if event["event"] == "warning"]
    assert len(told) == 1 and "log.jsonl: cannot be written (No space left" in told[0]
    assert [event["iteration"] for event in heard if "dice" in event] == [1, 2, 3, 4]
    assert (tmp_path / "checkpoint" / "last.safetensors").is_file()


def test_a_bad_step_leaves_no_number_in_the_log_that_is_none(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "LOG_EVERY", 3)
    spoiled(monkeypatch, [2])
    small_training(tmp_path, settings_of("training.iterations=3", "training.validations=1"))
    warning, metric, score = lines(tmp_path)
    assert "not finite" in warning["text"] and 0 < metric["loss"] < 5 and metric["gradient_norm"] > 0 and score["dice"]


def test_a_gpu_that_is_too_small_is_told_in_a_sentence(tmp_path, monkeypatch):
    def full(*_args):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB ...")

    monkeypatch.setattr(loop, "training_loss", full)
    with pytest.raises(DiffSegError, match=r"memory is not enough; train anew with a smaller training.batch"):
        small_training(tmp_path, settings_of())


def test_what_a_resumed_training_will_tell_again_is_taken_out(tmp_path):
    def told(iteration):
        return events.make("metric", iteration=iteration, loss=1.0)

    first = Log(tmp_path, events.silent, 0)
    for event in (events.make("warning", text="x"), told(20), told(40), told(60)):
        first(event)
    with open(tmp_path / "log.jsonl", "a") as file:
        file.write('{"event": "metric", "iterat')  # killed while it wrote
    Log(tmp_path, events.silent, 40)(told(60))
    assert [event.get("iteration") for event in lines(tmp_path)] == [None, 20, 40, 60]


def test_a_process_that_does_not_speak_writes_nothing(tmp_path):
    heard = []
    log = Log(tmp_path, heard.append, 0, active=False)
    log(events.make("log", text="x"))
    log.progress(0.5, "x")
    log.close()
    assert not heard and not list(tmp_path.iterdir())


def test_tensorboard_shows_the_numbers_of_the_log(tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    log = Log(tmp_path, events.silent, 0)
    log(events.make("metric", iteration=20, loss=0.5, seconds=3.0))
    log(events.make("metric", iteration=40, dice=0.75, dice_by_class=[0.5, None]))
    log(events.make("log", text="no number"))
    log.close()
    found = accumulator.EventAccumulator(str(tmp_path)).Reload()
    tags = found.Tags()["scalars"]
    assert set(tags) == {"loss", "dice", "dice_by_class/1"}
    assert [(x.step, x.value) for x in found.Scalars("dice")] == [(40, 0.75)]


def test_without_tensorboard_only_the_log_is_written(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    log = Log(tmp_path, events.silent, 0)
    log(events.make("metric", iteration=20, loss=0.5))
    log.close()
    assert [path.name for path in tmp_path.iterdir()] == ["log.jsonl"]


def test_a_class_that_no_validation_case_holds_is_shown_as_a_dash(capsys):
    show = Show(sys.stderr)
    show(events.make("metric", iteration=5, dice=0.5, dice_by_class=[0.5, None], dice_first_step=0.4))
    assert "Dice 0.5000 (0.500, -)" in capsys.readouterr().err


def test_a_line_whose_iteration_is_no_number_does_not_stop_a_training(tmp_path):
    good = events.to_line(events.make("log", text="a", iteration=2)) + "\n"
    odd = [events.to_line(events.make("log", text="b", iteration=x)) + "\n" for x in ("x", None, [1], {})]
    (tmp_path / "log.jsonl").write_text("".join([*odd, good]))
    Log(tmp_path, events.silent, 3).close()
    assert (tmp_path / "log.jsonl").read_text() == good


def test_the_name_of_a_file_tells_a_terminal_nothing(tmp_path, capsys):
    show = Show(sys.stderr)
    for kind in ("progress", "warning"):
        show(events.make(kind, fraction=0.0, text="a\x1b]0;title\x07\r.nii"))
    assert capsys.readouterr().err.count("a\\x1b]0;title\\x07\\r.nii\n") == 2
    assert str(DiffSegError("a\x1b[2J: line\nline")) == "a\\x1b[2J: line\nline"
    Outcome(done=["b"], failed={"a": "a\x1b[2J.nii: failed"}).report("diffseg", tmp_path / "\x1b[2J")
    Outcome(failed={"a": "a\x1b[2J.nii: failed"}).report("diffseg", tmp_path)
    assert "\x1b" not in (said := capsys.readouterr().err) and said.count("\\x1b[2J") == 2


def test_without_a_terminal_the_last_progress_is_the_last_line(capsys):
    show = Show(sys.stderr)
    for n in range(5):
        show(events.make("progress", fraction=n / 4, text=f"case {n}"))
    show(events.make("warning", text="w"))
    assert capsys.readouterr().err == "  0 %  case 0\nWarning: w\n"
    show.close()
    show.close()
    assert capsys.readouterr().err == "100 %  case 4\n"
