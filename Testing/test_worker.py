"""The worker process, spoken to as a window would: real process, real pipe."""

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from conftest import ROOT, blob_case
from DiffSegLib import events
from DiffSegLib.data.volume import Volume
from DiffSegLib.errors import InputError
from DiffSegLib.inference.predict import Predictor
from DiffSegLib.jobs import TEMPORARY, SegmentJob, SegmentOptions
from DiffSegLib.models.library import write_card
from DiffSegLib.models.store import load
from DiffSegLib.serving.arrays import filled
from DiffSegLib.serving.segment import load_volume

IDENTITY = tuple(tuple(float(i == j) for j in range(4)) for i in range(4))


class Worker:
    """A started worker and its event stream."""

    def __init__(self):
        # strict, as Python's stdin is in every locale but C
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8:strict"}
        command = [sys.executable, "-u", "-m", "DiffSegLib", "worker"]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
        )

    def send(self, line):
        self.process.stdin.write((line + "\n").encode("latin-1"))
        self.process.stdin.flush()

    def next(self):
        line = self.process.stdout.readline()
        assert line, self.process.stderr.read().decode()[-2000:]
        event = events.from_line(line)
        assert event is not None, line
        return event

    def until(self, *kinds):
        seen = [self.next()]
        while seen[-1]["event"] not in kinds:
            seen.append(self.next())
        return seen


@pytest.fixture(scope="module")
def worker():
    made = Worker()
    ready = made.next()
    assert ready["state"] == "ready" and ready["pid"] == made.process.pid
    yield made
    made.send('{"do": "quit"}')
    assert made.process.wait(120) == 0


def job(tmp_path: Path, model: Path | str, number: str, shape=(18, 22, 20), **options) -> SegmentJob:
    np.save(tmp_path / "image.npy", blob_case(0, shape)[0])
    return SegmentJob(
        number, str(model), str(tmp_path / "image.npy"), IDENTITY, str(tmp_path / "out"), SegmentOptions(**options)
    )


def test_a_job_gives_its_steps_and_the_same_mask_as_python(worker, tmp_path, tiny_model):
    request = job(tmp_path, tiny_model, "one", keep_steps=True, seed=3, uncertainty=True)
    worker.send(request.to_line())
    seen = worker.until("result", "error")
    result = seen[-1]
    assert result["event"] == "result" and {event["job"] for event in seen} == {"one"}
    steps = [event for event in seen if event["event"] == "step"]
    assert [event["step"] for event in steps] == [1, 2, 3, 4, 5]
    assert [event["mask"] for event in steps] == result["steps"] and set(steps[0]["volumes_ml"]) == {"1", "2"}
    levels = [1.0, 751 / 1001, 501 / 1001, 251 / 1001, 1 / 1001]
    assert [event["noise"] for event in steps] == pytest.approx(levels)
    wanted = Predictor(load(tiny_model), "cpu")(
        Volume(np.load(request.image)[None], np.eye(4)), SegmentOptions(seed=3, keep_steps=True)
    )
    np.testing.assert_array_equal(np.load(result["mask"]), wanted.mask)
    for event, mask in zip(steps, wanted.steps, strict=True):
        np.testing.assert_array_equal(np.load(event["mask"]), mask)
        assert event["crc32"] == zlib.crc32(mask.tobytes()) and event["filled"] == list(filled(mask))
    assert result["mask"] == result["steps"][-1]  # the answer is not written twice
    assert np.load(result["uncertainty"]).dtype == np.float32
    assert result["provenance"]["seed"] == 3 and [label["name"] for label in result["labels"]] == ["first", "second"]


def test_the_images_of_a_temporary_folder_are_gone_once_they_are_read_and_no_others(worker, tmp_path, tiny_model):
    own = tmp_path / f"{TEMPORARY}job"
    own.mkdir()
    for number, folder in (("1", own), ("2", tmp_path / "out")):
        request = replace(job(tmp_path, tiny_model, number, steps=1), output=str(folder))
        if folder is own:
            request = replace(request, image=shutil.move(request.image, own / "image.npy").as_posix())
        worker.send(request.to_line())
        assert worker.until("result", "error")[-1]["event"] == "result"
        assert Path(request.image).exists() == (folder is not own)


@pytest.mark.parametrize(
    ("change", "words", "code"),
    [
        ({"model": "nowhere"}, "neither a model file", 2),
        ({"image": "/no/such.npy"}, "cannot be read", 2),
        ({"options": {"steps": 0}}, "steps is 0", 2),
        ({"options": {"stepz": 5}}, "unknown key 'options.stepz'", 2),
        ({"extra": 1}, "unknown key 'extra'", 2),
        ({"do": "dance"}, "unknown request 'dance'", 2),
        ({"ijk_to_lps": [[1, 0, 0, 0]] * 4}, "spacing", 2),
    ],
)
def test_a_bad_request_gets_one_sentence_and_the_next_job_works(worker, tmp_path, tiny_model, change, words, code):
    good = json.loads(job(tmp_path, tiny_model, "bad").to_line())
    worker.send(json.dumps({**good, **change}))
    error = worker.until("result", "error")[-1]
    assert error["event"] == "error" and words in error["message"] and error["exit_code"] == code
    assert error["detail"] == "" and error["job"] == "bad"
    worker.send(job(tmp_path, tiny_model, "good", steps=1).to_line())
    assert worker.until("result", "error")[-1]["event"] == "result"


def test_a_line_that_is_no_request_does_not_stop_the_worker(worker, tmp_path, tiny_model):
    for line, words in (
        ("this is no JSON", "no JSON object"),
        ('{"do": "\xff"}', "unknown request"),
        ("\xff\0", "no JSON"),
    ):
        worker.send(line)
        assert words in worker.until("error")[-1]["message"]
    worker.send(job(tmp_path, tiny_model, "after", steps=1).to_line())
    assert worker.until("result", "error")[-1]["event"] == "result"


def test_a_running_job_is_cancelled(worker, tmp_path, tiny_model):
    worker.send(job(tmp_path, tiny_model, "long", steps=1000, shape=(32, 32, 32)).to_line())
    assert worker.next()["event"] == "progress"
    worker.send('{"do": "cancel", "id": "long"}')
    error = worker.until("result", "error")[-1]
    assert error["event"] == "error" and error["exit_code"] == 4
    assert not (tmp_path / "out" / "mask.npy").exists()


def test_a_job_whose_number_was_cancelled_before_is_done(worker, tmp_path, tiny_model):
    worker.send(job(tmp_path, tiny_model, "again", steps=1000, shape=(32, 32, 32)).to_line())
    assert worker.next()["event"] == "progress"
    worker.send('{"do": "cancel", "id": "again"}')
    assert worker.until("result", "error")[-1]["exit_code"] == 4
    worker.send(job(tmp_path, tiny_model, "again", steps=1).to_line())
    assert worker.until("result", "error")[-1]["event"] == "result"


def test_a_model_that_was_replaced_is_read_again(worker, tmp_path, tiny_model):
    from DiffSegLib.models.shipped import read_card
    from DiffSegLib.whole_files import checksum

    model, seen = tmp_path / "model.safetensors", []
    for name in ("first", "second"):
        write_card(tiny_model, replace(read_card(tiny_model), name=name), model)
        os.utime(model, (len(seen), len(seen)))
        worker.send(job(tmp_path, model, name, steps=1).to_line())
        found = worker.until("result", "error")[-1]["provenance"]
        seen.append((found["model"], found["model_sha256"]))
        assert seen[-1] == (name, checksum(model))
    assert len(set(seen)) == 2


def test_the_worker_ends_with_its_parent(tmp_path, tiny_model):
    lonely = Worker()
    lonely.next()
    lonely.send(job(tmp_path, tiny_model, "long", steps=1000, shape=(32, 32, 32)).to_line())
    assert lonely.next()["event"] == "progress"
    lonely.process.stdin.close()
    assert lonely.process.wait(120) == 0


def test_a_worker_that_outlives_its_parent_leaves_no_image_behind(tmp_path, tiny_model):
    folders = [tmp_path / name for name in ("DiffSeg-running", "DiffSeg-waiting", "of somebody else")]
    lonely = Worker()
    lonely.next()
    for folder in folders:
        folder.mkdir()
        long = job(tmp_path, tiny_model, folder.name, steps=1000, shape=(32, 32, 32))
        lonely.send(replace(long, output=str(folder)).to_line())
    assert lonely.next()["event"] == "progress"
    lonely.process.stdin.close()
    assert lonely.process.wait(120) == 0
    assert [folder.exists() for folder in folders] == [False, False, True]


def test_ctrl_c_in_the_console_is_the_parents_to_handle():
    made = Worker()
    made.next()
    made.process.send_signal(signal.SIGINT)
    made.send('{"do": "quit"}')
    assert made.process.wait(120) == 0


def test_a_job_survives_its_line():
    made = SegmentJob("1", "m", "x.npy", IDENTITY, "out", SegmentOptions(roi=((0, 2), (1, 3), (4, 9)), seed=2**40))
    assert SegmentJob.from_json(json.loads(made.to_line())) == made


def test_a_volume_whose_values_float32_cannot_tell_apart_is_refused_as_its_file_would_be(tmp_path):
    np.save(tmp_path / "x.npy", 1e9 + np.full((4, 5, 3), range(3)).T)  # slices of one value each
    with pytest.raises(InputError, match="^T1: its values, from 1000000000 to 1000000002, are too large, or too near"):
        load_volume(SegmentJob("1", "m", str(tmp_path / "x.npy"), IDENTITY, "out", name="T1"))


@pytest.mark.parametrize(
    "wrong",
    [
        {"samples": 0},
        {"seed": -1},
        {"sampler": "euler"},
        {"device": "tpu"},
        {"roi": [[3, 3]]},
        {"roi": [[0, 1.9]] * 3},
        {"roi": [[0, math.inf]] * 3},
        {"steps": True},
    ],
)
def test_wrong_options_are_named(wrong):
    with pytest.raises(InputError, match=next(iter(wrong))):
        SegmentOptions(**wrong)
