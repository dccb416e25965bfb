"""Training from the scene or a folder: a process that is found again, stopped and resumed, and its model used."""

import json
import os
import shutil
import signal
import time

import numpy as np
import pytest

from conftest import blob_case, make_dataset, write_image

pytest.importorskip("slicer", reason="needs the package slicer-core")

import slicer
import slicer.util

import scene_cases
from DiffSegLib import commands
from DiffSegLib.data.datasets import load_dataset
from DiffSegLib.errors import Cancelled, EnvironmentProblem, InputError
from DiffSegLib.models.shipped import available, find, home, read_card
from DiffSegLib.scene import detached, settings
from DiffSegLib.scene.logic import SegmentLogic
from DiffSegLib.scene.process import WorkerClient
from DiffSegLib.scene.training import FAILED, FINISHED, RUNNING, STARTING, STOPPED, STOPPING, Training
from DiffSegLib.scene.trainings import TrainLogic
from DiffSegLib.scene.transport import PipeTransport
from scene_cases import LABELS, add_case, drop, rename
from tally import tried

host, scene = scene_cases.host, scene_cases.scene  # fixtures

SMALL = {
    "data": {"spacing": [1.0, 1.0, 1.0], "patch": [8, 10, 8]},
    "network": {"channels": [4, 8], "strides": [[2, 2, 2]], "blocks": 1, "heads": 2},
    "training": {"iterations": 20, "batch": 1, "validations": 2, "precision": "fp32"},
}
ENDLESS = {**SMALL, "training": {**SMALL["training"], "iterations": 10_000_000, "validations": 1_000_000}}


class Logic(SegmentLogic, TrainLogic):
    """As the module's."""


@pytest.fixture(scope="module")
def client():
    made = WorkerClient(transport=PipeTransport)
    yield made
    made.shutdown()


@pytest.fixture
def logic(client, scene):
    return Logic(client)


@pytest.fixture(autouse=True)
def an_empty_home():
    yield
    shutil.rmtree(home(), ignore_errors=True)
    settings.put("Trainings", "")
    settings.put("TrainingsFolder", "")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_dataset(tmp_path_factory.mktemp("labelled") / "blobs", 3)


def until(condition, seconds=300.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def until_logged(training, iteration):
    until(lambda: training.update() is not None and (training.iteration >= iteration or not training.active))
    assert training.active, training.reason


# The data set of a scene


# The plan


def test_a_plan_says_what_would_be_trained_and_why(logic, folder):
    progress = []
    plan = logic.planTraining(folder, "fast", ["training.minutes=5"], onEvent=progress.append)
    assert plan.config["data"]["patch"] == [20, 24, 20] and plan.config["training"]["minutes"] == 5
    assert plan.config["network"]["channels"][0] == 16 and "median" in plan.reasons["data.spacing"]
    assert (plan.trainingCases, plan.validationCases, plan.problems) == (2, 1, [])
    assert json.loads(plan.text) == plan.config
    assert any("checking case" in event["text"] for event in progress if event["event"] == "progress")


def test_another_wish_needs_no_second_look_at_the_data_until_a_file_changes(logic, tmp_path):
    data = make_dataset(tmp_path / "data", 3)

    def looks(*wishes):
        seen = []
        plan = logic.planTraining(data, "default", wishes, onEvent=seen.append)
        return plan, sum("checking case" in event.get("text", "") for event in seen)

    assert looks()[1] == 3
    plan, looked = looks("training.batch=3", "data.patch=[16,16,16]")
    assert looked == 0 and plan.config["training"]["batch"] == 3 and plan.config["data"]["patch"] == [16, 16, 16]
    with pytest.raises(InputError, match=r"data\.patch must be at least 4"):
        looks("data.patch=[2,16,16]")
    write_image(data / "imagesTr" / "blob_00.nii.gz", blob_case(9)[0])
    assert looks()[1] == 3


def test_all_problems_of_the_data_are_in_the_plan_at_once(logic, tmp_path):
    data = make_dataset(tmp_path / "data", 4)
    (data / "imagesTr" / "blob_00.nii.gz").write_bytes(b"no image")
    write_image(data / "labelsTr" / "blob_01.nii.gz", np.zeros((18, 22, 20), dtype=np.uint8))
    plan = logic.planTraining(data)
    assert len(plan.problems) == 2 and "blob_00" in plan.problems[0] and "is empty" in plan.problems[1]
    assert plan.config is not None and (plan.trainingCases, plan.validationCases) == (1, 1)
    (data / "imagesTr" / "blob_02.nii.gz").write_bytes(b"no image")
    plan = logic.planTraining(data)
    assert plan.config is None and len(plan.problems) == 3


def test_a_folder_without_data_and_a_wrong_wish_are_one_sentence(logic, tmp_path, folder):
    with pytest.raises(InputError, match="holds no data set in a known layout"):
        logic.planTraining(tmp_path)
    with pytest.raises(InputError, match="unknown preset 'slow'"):
        logic.planTraining(folder, "slow")


# The process


def test_a_training_on_the_scene_goes_on_without_it_is_found_again_and_its_model_segments(logic, client, tmp_path):
    """From the segmentations of a scene to a mask with their names and colours."""
    pairs = [add_case(n, affine=np.eye(4)) for n in range(3)]
    seen = []
    training = logic.train(pairs, name="blobs", configuration=SMALL)
    assert training.state == STARTING and training.folder == home() / "trainings" / "blobs"
    slicer.mrmlScene.Clear(0)
    found = Logic(client).trainings()
    assert [each.folder for each in found] == [training.folder] and found[0].pid == training.pid
    assert found[0].wait(300, seen.append) == FINISHED, found[0].reason
    assert [event["iteration"] for event in seen if "dice" in event] == [10, 20]
    assert [event["iteration"] for event in seen if "loss" in event] == [20] and found[0].fraction == 1.0
    assert found[0].classes == ["First part", "second"] and found[0].validation["iteration"] == 20
    assert training.update() is not None and training.state == FINISHED

    path = home() / "models" / "blobs.safetensors"
    card = read_card(path)
    assert training.model == path == find("blobs") and "blobs" in available()
    assert card.name == "blobs" and card.labels[0].name == "First part"
    assert card.labels[0].color == pytest.approx((0.9, 0.6, 0.3), abs=1e-6) and card.labels[0].type == LABELS[0].type
    volume, _ = add_case(5, affine=np.eye(4))
    result = logic.segment(volume, model="blobs", steps=2)
    segment = result.node.GetSegmentation().GetSegment("Segment_1")
    assert segment.GetName() == "First part" and segment.GetColor() == pytest.approx((0.9, 0.6, 0.3), abs=1e-3)

    with pytest.raises(InputError, match="A model called Blobs is there already"):
        logic.train(tmp_path, name="Blobs")


def test_a_training_is_stopped_resumed_and_killed_and_leaves_bad_cases_out(logic, tmp_path):
    data = make_dataset(tmp_path / "data", 4)
    (data / "imagesTr" / "blob_00.nii.gz").write_bytes(b"no image")
    training = logic.train(data, tmp_path / "run", configuration=ENDLESS, skipBad=True)
    until_logged(training, 20)
    assert training.state == RUNNING and 0 < training.fraction < 1 and training.secondsLeft > 0
    with pytest.raises(InputError, match="is training already"):
        training.resume()
    with pytest.raises(InputError, match="already holds a training"):
        logic.train(data, tmp_path / "run")
    with pytest.raises(InputError, match="a training has one budget"):
        logic.train(data, tmp_path / "other", minutes=1.0, iterations=2)
    found = Logic().trainings()[0]
    assert found.folder == training.folder.resolve()  # remembered, though it lies elsewhere
    found.stop()  # whoever finds it may ask
    assert training.update() is not None and training.state in (STOPPING, STOPPED)
    assert training.wait(300) == STOPPED and "--resume" in training.reason
    assert isinstance(training.problem(), Cancelled) and not (training.folder / "stop").exists()
    reached = training.iteration

    training.resume()
    until_logged(training, reached + 20)
    assert training.metrics[0]["iteration"] <= reached  # the log tells one story
    os.kill(training.pid, signal.SIGKILL)
    tried("processes killed")
    assert training.wait(120) == FAILED
    assert "ended unexpectedly. It last said:" in training.reason and training.said in training.reason
    assert training.model is None


HALF_AN_HOUR = {**SMALL, "training": {"minutes": 30, "batch": 1, "validations": 2, "precision": "fp32"}}


def test_the_budget_is_known_before_the_process_has_written_anything_and_stays(logic, folder, tmp_path):
    training = logic.train(folder, tmp_path / "run", configuration=HALF_AN_HOUR)
    assert not (training.folder / "config.json").exists() and training.budget == (True, 30.0)
    training.stop()
    assert training.wait(300) == STOPPED and training.budget == (True, 30.0)
    training.resume()
    assert training.budget == (True, 30.0)
    until(lambda: (training.folder / "config.json").exists())
    assert json.loads((training.folder / "config.json").read_text())["training"]["minutes"] == 30
    training.kill()


@pytest.mark.parametrize(
    ("options", "budget"),
    [
        ({"preset": "fast", "minutes": 2.5}, (True, 2.5)),
        ({"iterations": 7}, (False, 7.0)),
        ({"assignments": ["training.minutes=9"]}, (True, 9.0)),
        ({"assignments": ["training.minutes=9"], "iterations": 3}, (False, 3.0)),
        ({"configuration": HALF_AN_HOUR, "minutes": 4}, (True, 4.0)),
    ],
)
def test_the_budget_is_that_of_the_command_line(logic, folder, tmp_path, monkeypatch, options, budget):
    monkeypatch.setattr(Training, "_launch", lambda *_, **__: None)
    assert logic.train(folder, tmp_path / "run", **options).budget == budget


def test_a_killed_training_becomes_a_model_of_what_it_had_kept_and_goes_on_later(logic, folder, tmp_path):
    training = logic.train(folder, tmp_path / "run", configuration=ENDLESS)
    with pytest.raises(InputError, match="is training already"):
        training.finish()
    until(lambda: training.update() is not None and training.kept > 0)
    training.kill()
    assert training.wait(120) == FAILED and training.model is None
    kept = training.kept
    training.finish()
    assert training.finishing
    assert training.wait(300) == FINISHED, training.reason
    assert training.kept == kept, "it has learnt no more"
    card = read_card(training.model)
    assert 0 < card.training["iterations"] <= kept and training.budget == (False, 10_000_000.0)
    training.resume()
    assert not training.finishing and training.fraction < 1
    until(lambda: training.update() is not None and training.kept > kept)
    training.kill()


def test_a_training_that_never_began_has_nothing_to_finish(logic, folder, tmp_path):
    training = logic.train(folder, tmp_path / "run", configuration=ENDLESS)
    training.kill()
    assert training.wait(120) == FAILED and training.kept == 0
    with pytest.raises(InputError, match="run was stopped before it had learnt anything"):
        training.finish()


def test_names_of_ones_own_are_those_of_the_model_and_of_the_course(logic, folder, tmp_path):
    training = logic.train(folder, tmp_path / "run", configuration=SMALL, names={1: "kidney", 2: "tumour"})
    assert training.wait(300) == FINISHED, training.reason
    assert [label.name for label in read_card(training.model).labels] == ["kidney", "tumour"]
    assert training.classes == ["kidney", "tumour"]


def test_a_training_that_is_ended_at_once_leaves_nothing_running(logic, folder, tmp_path):
    training = logic.train(folder, tmp_path / "run", configuration=ENDLESS)
    assert training.active
    training.kill()
    assert training.wait(120) == FAILED and detached.identity(training.pid) is None


def test_a_process_that_got_the_same_number_later_is_not_taken_for_the_training(logic, folder, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    mine = detached.identity(os.getpid())
    record = {"name": "x", "options": [], "first": [], "pid": os.getpid(), "identity": mine, "launched": 1.0}
    (run / "training.json").write_text(json.dumps(record))
    assert Training(run).active  # so the number alone would do
    (run / "training.json").write_text(json.dumps({**record, "identity": f"{mine}0"}))
    training = Training(run)
    assert training.state == FAILED
    training.kill()  # and this process is still here
    with pytest.raises(InputError, match=r"training\.json is missing"):
        Training(tmp_path).resume()


def test_a_training_on_bad_data_fails_with_every_problem_in_its_words(logic, tmp_path):
    data = make_dataset(tmp_path / "data", 3)
    for n in (0, 1):
        (data / "imagesTr" / f"blob_0{n}.nii.gz").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"(?s)2 of 3 cases cannot be used.*blob_00.*blob_01"):
        logic.train(data, tmp_path / "run", configuration=SMALL, wait=True)
    assert not (tmp_path / "run" / "config.json").exists()  # the next try may use the folder


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"preset": "slow"}, "unknown preset 'slow'"),
        ({"assignments": ["training.batch=0.5"]}, r"training\.batch is 0\.5; it must be a whole number"),
        ({"configuration": {"dta": {}}}, "unknown key 'dta'"),
        ({"name": "../x"}, "cannot be a model's name"),
        ({"name": "hippocampus"}, "A model called hippocampus is there already"),
    ],
)
def test_a_wrong_wish_is_told_before_anything_is_made(logic, folder, tmp_path, options, words):
    with pytest.raises(InputError, match=words):
        logic.train(folder, tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()


def test_a_folder_that_cannot_be_written_or_read_is_one_sentence(logic, folder, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(InputError, match=r"file.*cannot be written \(Not a directory\).*another folder"):
        logic.train(folder, tmp_path / "file" / "run")
    with pytest.raises(InputError, match=r"file.*cannot be written"):
        logic.train([add_case(0), add_case(1)], tmp_path / "file" / "run")
    with pytest.raises(InputError, match="there is no such folder"):
        logic.train(tmp_path / "nowhere", tmp_path / "run")
    monkeypatch.setenv("DIFFSEG_PYTHON", str(tmp_path / "no-python"))
    with pytest.raises(EnvironmentProblem, match=r"could not be started \(.*no-python: No such file"):
        logic.train(folder, tmp_path / "run")


def test_scene_cases_that_differ_are_refused_all_at_once_or_left_out(logic, tmp_path, monkeypatch):
    pairs = [add_case(n) for n in range(4)]
    drop(pairs[0], 2)
    rename(pairs[1], 1, "other")
    with pytest.raises(InputError, match=r"(?s)scan 0 drawn: lacks.*scan 1 drawn: has the segments"):
        logic.train(pairs, tmp_path / "run")
    monkeypatch.setattr("DiffSegLib.scene.trainings.begin", lambda folder, data, *_: load_dataset(data))
    monkeypatch.setattr("DiffSegLib.scene.trainings._follow", lambda *_: None)
    assert len(logic.train(pairs, tmp_path / "run", skipBad=True).cases) == 2


def test_the_command_line_lists_own_models_and_stops_by_a_file(folder, tmp_path, capsys, tiny_model):
    (home() / "models").mkdir(parents=True)
    shutil.copy(tiny_model, home() / "models" / "mine.safetensors")
    (home() / "models" / "broken.safetensors").write_bytes(b"nothing")
    assert commands.run(["models"]) == 0
    out, err = capsys.readouterr()
    assert "mine" in out and "hippocampus" in out and "broken.safetensors: is no model file" in err
    run = tmp_path / "run"
    run.mkdir()
    (run / "stop").touch()
    assert commands.run(["train", "--data", str(folder), "--out", str(run), "--json"]) == 4
    assert not (run / "stop").exists() and "stopped" in json.loads(capsys.readouterr().out)["error"]
