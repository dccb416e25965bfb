"""The benchmarks run: what they watch is still called so. Their figures are no test's business."""

import importlib
import json
import subprocess
import sys

import pytest

from conftest import ROOT

BENCHMARKS = ROOT / "Testing" / "benchmarks"


def test_a_volume_from_file_to_file_tells_where_its_time_went():
    command = [sys.executable, str(BENCHMARKS / "end_to_end.py"), "--shape", "12", "10", "8"]
    command += ["--patch", "8", "--classes", "2", "--steps", "2", "--channels", "8", "16", "--rounds", "0"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout)
    stages = ("read", "prepare", "network", "diffusion and blending", "resample back", "write")
    assert all(found[stage] > 0 for stage in stages) and found["rounds"] == 0
    assert found["seconds"] >= sum(found[stage] for stage in stages) > 0


def test_a_warm_worker_is_asked_and_answers():
    command = [sys.executable, str(BENCHMARKS / "worker.py"), "--rounds", "1"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout)
    assert found["first_step"] > 0 and found["network"] > 0
    assert found["beyond"] == found["worst"] == pytest.approx(found["first_step"] - found["network"])


def test_a_figure_that_is_not_reached_is_called_missed(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    figures = importlib.import_module("figures")
    measured = json.loads((BENCHMARKS / "measured.json").read_text(encoding="utf-8"))
    kept = json.dumps({**measured, "worker": {"beyond": 0.05}})

    def missed(change):
        found = json.loads(kept)
        change(found)
        lines = [line for line in figures.table(found).splitlines() if line.startswith("| ")][2:]
        assert len(lines) == 11
        return [line.split(" | ")[0] for line in lines if line.endswith("| MISSED |")]

    def slower(found):
        next(row for row in found["networks"]["rows"] if row["what"] == "cached, five diffusion steps")["seconds"] *= 9

    def slow_convolution(found):
        found["networks"]["rows"][0]["convolution_seconds"] *= 9

    def busy(found):
        found["volumes"][0]["network"] = 0.8 * found["volumes"][0]["seconds"]

    def large(found):
        found["volumes"][-1]["peak_mb"] += 5000

    def late(found):
        found["worker"]["beyond"] = 0.151

    def starving(found):
        found["loading"]["cpu_seconds_a_batch"] *= 9

    before = missed(lambda _: None)
    for change, words in (
        (slower, "time of cached, five"),
        (slow_convolution, "own convolutions"),
        (busy, "not the network, of the time of 36 x 50 x 36"),
        (large, "memory above the image"),
        (late, "a warm worker"),
        (starving, "cutting and changing"),
    ):
        assert any(words in line for line in missed(change)) and not any(words in line for line in before), words
