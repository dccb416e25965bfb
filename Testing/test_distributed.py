"""Two processes train as one: the same gradients and weights as one process with the whole batch, and one fate."""

import json
import math
import os
import subprocess
import sys

import pytest

from conftest import ROOT, make_dataset
from DiffSegLib.commands import run
from small_training import settings_of, small_training, state_of

CHANGES = [
    "diffusion.time_sampling=loss_aware",
    "training.iterations=2",
    "training.validations=1",
    "training.clip=1000",
]

COMMAND = ["data.patch=[16,16,16]", "network.channels=[4,8]", "network.strides=[[2,2,2]]", "network.blocks=1"]
COMMAND += ["network.heads=2", "training.validations=1", "training.precision=fp32"]

TWO = """
import json, sys
from pathlib import Path
from DiffSegLib.commands import run
from DiffSegLib.errors import DiffSegError
from DiffSegLib.training import distributed, loop
from small_training import *

folder, changes = Path(sys.argv[1]), sys.argv[2:]
with distributed.join("cpu") as group:
    command = ["train", "--data", str(folder / "data"), "--out", str(folder / "run"), "--json", "--device", "cpu"]
    assert run([*command, "--iterations", "2", "--set", *json.loads((folder / "small.json").read_text())]) == 0

    def tried(do):
        try:
            do()
        except DiffSegError as error:
            return [type(error).__name__, str(error)]

    def read():
        with group.together():
            if group.rank == 1:
                raise DiffSegError("only here")

    small_training(folder / "same", settings_of(*changes), group=group)
    said = {"read": tried(read)}
    calls = iter(range(1000))
    stop = lambda: group.rank == 1 and next(calls) == 3
    forever = settings_of("training.iterations=1000", "training.minutes=60")
    said["stop"] = tried(lambda: small_training(folder / "stop", forever, group=group, cancelled=stop))
    loop.MAX_SKIPPED = 2
    patch = type("Patch", (), {"setattr": staticmethod(setattr)})
    spoiled(patch, range(100) if group.rank == 1 else [])
    said["broken"] = tried(lambda: small_training(folder / "broken", forever, group=group))
    (folder / f"said-{group.rank}.json").write_text(json.dumps(said))
"""


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """The folder in which two processes ran, what each said of its errors, and what both printed."""
    folder = tmp_path_factory.mktemp("two")
    make_dataset(folder / "data", 3)
    (folder / "two.py").write_text(TWO)
    (folder / "small.json").write_text(json.dumps([*COMMAND, "training.batch=1"]))
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    path = os.pathsep.join([str(ROOT), str(ROOT / "Testing")])
    command = [*torchrun, str(folder / "two.py"), str(folder), *CHANGES]
    ended = subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stderr
    said = [json.loads((folder / f"said-{rank}.json").read_text()) for rank in (0, 1)]
    return folder, said, ended


def distance(found, wanted):
    return math.sqrt(sum(float(((found[key] - wanted[key]) ** 2).sum()) for key in wanted))


def assert_close(found, wanted):
    """Gradients, as AdamW's moments hold them, and weights: equal but for rounding."""
    moments = {key: x for key, x in wanted.items() if key.endswith(".exp_avg")}
    size = math.sqrt(sum(float((x**2).sum()) for x in moments.values()))
    assert size > 1e-3 and distance(found, moments) < 1e-5 * size
    weights = {key: x for key, x in wanted.items() if key.startswith(("network.", "ema."))}
    assert distance(found, weights) < 1e-5 * math.sqrt(sum(float((x**2).sum()) for x in weights.values()))
    assert found["progress"]["samples"] == wanted["progress"]["samples"] == 8
    assert found["times"]["counts"] == wanted["times"]["counts"]
    assert found["times"]["squares"] == pytest.approx(wanted["times"]["squares"], rel=1e-5)


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    """Two steps of one process, four samples each."""
    folder = tmp_path_factory.mktemp("one")
    small_training(folder, settings_of(*CHANGES, "training.batch=4"))
    return state_of(folder)


def test_two_processes_step_as_one_with_the_whole_batch(one, two):
    assert_close(state_of(two[0] / "same"), one)


def test_accumulated_gradients_are_those_of_the_whole_batch(one, tmp_path):
    small_training(tmp_path / "2", settings_of(*CHANGES, "training.batch=2", "training.accumulate=2"))
    small_training(tmp_path / "4", settings_of(*CHANGES, "training.batch=1", "training.accumulate=4"))
    for count in ("2", "4"):
        assert_close(state_of(tmp_path / count), one)


def test_what_ends_one_process_ends_both_and_is_said_once(two):
    folder, said, _ = two
    assert said[1]["read"] == ["DiffSegError", "only here"] and said[0]["read"] == ["DiffSegError", ""]
    assert said[0]["stop"][0] == said[1]["stop"][0] == "Cancelled"
    assert "--resume" in said[0]["stop"][1] and said[1]["stop"][1] == ""
    assert state_of(folder / "stop")["progress"]["iteration"] == 3
    assert said[0]["broken"][0] == said[1]["broken"][0] == "DiffSegError"
    assert "not finite 2 times in a row" in said[0]["broken"][1] and said[1]["broken"][1] == ""
    logged = [json.loads(line) for line in (folder / "same" / "log.jsonl").read_text().splitlines()]
    assert [event["iteration"] for event in logged] == [2]


def test_the_command_line_trains_under_torchrun_and_speaks_once(two, tmp_path):
    folder, _, ended = two
    answer = ended.stdout.splitlines()[-1]  # Gloo of older versions of torch writes there, too
    assert json.loads(answer)["model"] == str(folder / "run" / "model.safetensors")
    assert ended.stderr.count("The model is") == 1 and ended.stderr.count("validation Dice") == 1
    arguments = ["train", "--data", str(folder / "data"), "--out", str(tmp_path / "run"), "--device", "cpu"]
    assert run([*arguments, "--iterations", "2", "--set", *COMMAND, "training.batch=2"]) == 0
    found, wanted = (state_of(path) for path in (folder / "run", tmp_path / "run"))
    weights = {key: x for key, x in wanted.items() if key.startswith("network.")}
    assert distance(found, weights) < 1e-5 * math.sqrt(sum(float((x**2).sum()) for x in weights.values()))
