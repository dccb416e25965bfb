"""When memory runs out: the same volume with less and less, said and recorded, and the next job as if nothing was."""

import sys
from dataclasses import asdict
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from conftest import blob_case
from DiffSegLib.data.volume import Volume
from DiffSegLib.errors import InputError
from DiffSegLib.inference import predict, windows
from DiffSegLib.inference.ladder import rungs
from DiffSegLib.inference.predict import Predictor
from DiffSegLib.inference.sampling import Sampling
from DiffSegLib.jobs import SegmentJob, SegmentOptions
from DiffSegLib.models.store import load
from DiffSegLib.network.memory import is_out_of_memory
from DiffSegLib.scene.process import WorkerClient, worker_environment
from DiffSegLib.scene.transport import PipeTransport
from DiffSegLib.serving import segment
from tally import tried

CUDA, CPU = torch.device("cuda"), torch.device("cpu")
PIECES = Sampling.pieces


def volume(shape=(24, 26, 22)):
    return Volume(blob_case(0, shape)[0][None], np.eye(4), "scan")


def failing(monkeypatch, times, at=0, problem=None):
    """Let the first runs fail after `at` steps; the list of what each run was given fills while they run."""
    given = []

    def pieces(sampling, image):
        given.append((sampling.patch, sampling.growth, sampling.state, sampling.device.type))
        for n, found in enumerate(PIECES(sampling, image)):
            if len(given) <= times and n == at:
                tried("faults injected: memory, disk, loss")
                raise problem or torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")
            yield found

    monkeypatch.setattr(Sampling, "pieces", pieces)
    return given


def test_a_gpu_is_left_only_after_smaller_windows():
    names = [(rung.device.type, rung.patch, rung.growth, rung.batch) for rung in rungs(CUDA, (32, 48, 32), (8, 8, 8))]
    on = [((32, 48, 32), None, 1), ((32, 48, 32), 1.0, 1), ((16, 24, 16), 1.0, 1)]
    assert names.pop(0) == ("cuda", (32, 48, 32), None, 4), "fewer windows at once come first of all"
    assert names == [(device, *step) for device in ("cuda", "cpu") for step in on]
    assert len(list(rungs(CPU, (32, 48, 32), (8, 8, 8)))) == 3
    halves = [rung.patch for rung in rungs(CPU, (16, 40), (8, 8))]
    assert halves == [(16, 40), (16, 40), (16, 16)], "never below two voxels at the bottom, always a multiple"


@pytest.mark.parametrize("times", [1, 2])
def test_a_run_that_has_too_little_memory_goes_on_with_less_and_says_so(tiny_model, monkeypatch, times):
    given = failing(monkeypatch, times)
    heard = []
    answer = Predictor(load(tiny_model), "cpu")(volume(), SegmentOptions(keep_steps=True), heard.append)
    assert len(given) == times + 1 and len(answer.steps) == 5
    said = [event["text"] for event in heard if event["event"] == "warning"]
    assert said == answer.warnings == answer.provenance["warnings"] and len(said) == times
    assert "memory ran out" in said[0] and "went on with windows of the model's patch" in said[0]
    assert answer.provenance["windows"] == [rung.name for rung in rungs(CPU, (16,) * 3, (2,) * 3)][times]
    if times == 1:  # the same windows asked for at once give the same mask
        monkeypatch.setattr(windows, "WINDOW_GROWTH", 1.0)
        monkeypatch.setattr(Sampling, "pieces", PIECES)
        plain = Predictor(load(tiny_model), "cpu")(volume(), SegmentOptions(keep_steps=True))
        np.testing.assert_array_equal(plain.mask, answer.mask)


def test_steps_that_were_shown_before_memory_ran_out_are_shown_again(tiny_model, monkeypatch):
    failing(monkeypatch, times=1, at=3)
    shown = []
    answer = Predictor(load(tiny_model), "cpu")(
        volume(), SegmentOptions(keep_steps=True), on_step=lambda k, n, mask: shown.append((k, mask))
    )
    assert [k for k, _ in shown] == [1, 2, 3, 1, 2, 3, 4, 5]
    for (_, mask), kept in zip(shown[3:], answer.steps, strict=True):
        np.testing.assert_array_equal(mask, kept)


def test_where_nothing_is_small_enough_one_sentence_says_what_to_do(tiny_model, monkeypatch):
    failing(monkeypatch, times=99)
    predictor = Predictor(load(tiny_model), "cpu")
    with pytest.raises(InputError, match="scan: memory ran out with windows of .*; choose a region of interest"):
        predictor(volume(), SegmentOptions())
    monkeypatch.setattr(Sampling, "pieces", PIECES)
    assert predictor(volume(), SegmentOptions()).warnings == []


def test_other_failures_are_no_lack_of_memory(tiny_model, monkeypatch):
    given = failing(monkeypatch, times=1, problem=RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    with pytest.raises(RuntimeError, match="mat1"):
        Predictor(load(tiny_model), "cpu")(volume(), SegmentOptions())
    assert len(given) == 1
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 60, dtype=torch.uint8)
    assert is_out_of_memory(caught.value), "torch words it otherwise now"


def test_memory_that_runs_out_before_the_network_runs_is_one_sentence(tiny_model, tmp_path, monkeypatch):
    def nothing_left(*_):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 442368000 bytes.")

    session = SimpleNamespace(predictor=lambda *_: Predictor(load(tiny_model), "cpu"))
    job = SegmentJob("a", str(tiny_model), "none.npy", np.eye(4).tolist(), str(tmp_path), name="scan")
    monkeypatch.setattr(predict, "to_model_space", nothing_left)
    monkeypatch.setattr(segment, "load_array", nothing_left)
    for attempt in (
        lambda: session.predictor()(volume(), SegmentOptions()),
        lambda: segment.run(session, asdict(job), print, lambda: False),
    ):
        with pytest.raises(InputError, match="^scan: memory ran out; choose a region of interest"):
            attempt()


WORKER = """
import sys
import torch
from DiffSegLib.inference.sampling import Sampling
true, calls = Sampling.pieces, []
def pieces(sampling, image):
    calls.append(1)
    if len(calls) == 1:
        raise torch.OutOfMemoryError("CUDA out of memory.")
    return true(sampling, image)
Sampling.pieces = pieces
from DiffSegLib.serving.process import main
sys.exit(main())
"""


def test_the_worker_tells_its_parent_and_the_next_job_is_as_ever(tiny_model, tmp_path):
    array = volume().array[0]
    np.save(tmp_path / "image.npy", array)
    command = [sys.executable, "-c", WORKER]
    client = WorkerClient(command, PipeTransport, worker_environment(sys.executable))
    try:
        results = []
        for name in ("a", "b"):
            output = tmp_path / name
            output.mkdir()
            job = SegmentJob(name, str(tiny_model), str(tmp_path / "image.npy"), np.eye(4).tolist(), str(output))
            heard = []
            client.submit(job, heard.append)
            client.wait(name)
            results.append(heard[-1])
        assert [event["event"] for event in results] == ["result", "result"]
        assert "memory ran out" in results[0]["warnings"][0] and results[1]["warnings"] == []
    finally:
        client.shutdown()
