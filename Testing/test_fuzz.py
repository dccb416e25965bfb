"""Bytes changed by chance, a fixed number from fixed seeds: an answer that holds, or one sentence."""

import itertools
import json
import os
import random
from types import SimpleNamespace

import numpy as np
import pytest

import bad.images
from bad.images import itk, nifti
from conftest import make_dataset
from DiffSegLib import config, events
from DiffSegLib.data.datasets import load_dataset
from DiffSegLib.data.dicom_elements import PIXELS, elements
from DiffSegLib.data.files import read
from DiffSegLib.errors import InputError
from DiffSegLib.jobs import DescribeJob, SegmentJob
from DiffSegLib.models.store import load
from DiffSegLib.scene.process import WorkerClient
from DiffSegLib.scene.transport import kill_tree
from multiframe import write_frames, write_slice
from tally import tried
from tiny_models import write_model

ROUNDS = 200
assert bad.images


def damaged(data, rng, most):
    """A few bytes within the first `most` replaced, removed or doubled."""
    tried("files and requests with bytes changed by chance")
    data = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        place = rng.randrange(min(most, len(data)))
        how = rng.random()
        if how < 0.7:
            data[place] = rng.choice((0, 1, 127, 128, 255, rng.randrange(256)))
        elif how < 0.85:
            del data[place : place + rng.randint(1, 8)]
        else:
            data[place:place] = data[place : place + rng.randint(1, 8)]
    return bytes(data)


def attempt(reader, path):
    """What is read, or None where it is refused in a sentence that names the file."""
    try:
        return reader(path)
    except InputError as problem:
        assert path.name in str(problem), problem
        return None


@pytest.mark.parametrize("ending", ["nii", "nii.gz", "nrrd", "mha"])
def test_images(tmp_path, ending):
    rng, path = random.Random(1), tmp_path / f"scan.{ending}"
    if ending.startswith("nii"):
        bad.images.write(tmp_path, nifti(), path.name)
    else:
        itk(tmp_path, path.name)
    good, found = path.read_bytes(), 0
    for _ in range(ROUNDS):
        path.write_bytes(damaged(good, rng, 352 if ending == "nii" else 400))
        volume = attempt(read, path)
        if volume is not None:
            found += 1
            assert np.isfinite(volume.array).all() and np.isfinite(volume.affine).all() and volume.array.ndim == 4
    assert ending == "nii.gz" or found > 10, "most of a header may be anything"


DICOM = np.arange(4 * 6 * 8, dtype=np.int16).reshape(4, 6, 8)
PLACES = [(0.0, 0.0, 2.0 * n) for n in range(len(DICOM))]
# rows, columns, frames, bits stored, high bit, whether signed, intercept, slope, place, pixels
TAGS = ROWS, COLUMNS, FRAMES, STORED, HIGH, SIGNED, SHIFT, SLOPE, PLACE = (
    *(0x00280010, 0x00280011, 0x00280008, 0x00280101, 0x00280102, 0x00280103, 0x00281052, 0x00281053, 0x00200032),
)


def told(path):
    """What the elements of a DICOM file say: (frames, rows, columns) values, and the places of the frames."""
    found = {tag: [] for tag in TAGS}
    for each in elements(path, TAGS):
        if each.tag in TAGS:
            found[each.tag].append(each)
        if each.tag == PIXELS:
            raw = path.read_bytes()[each.at : each.at + each.length]
    data = path.read_bytes()

    def number(tag, otherwise=None):
        return int.from_bytes(data[found[tag][0].at :][:2], "little") if found[tag] or otherwise is None else otherwise

    def numbers(tag, *otherwise):
        values = [each.value.partition(b"\0")[0].decode("latin-1") for each in found[tag]]
        return [[float(x) for x in value.split("\\")] for value in values if value.strip()] or [otherwise]

    frames = int(numbers(FRAMES, 1)[0][0])
    values = np.frombuffer(raw, "<u2")[: frames * number(ROWS) * number(COLUMNS)].astype(np.int64)
    stored = number(STORED, 16)
    values = (values >> (number(HIGH, stored - 1) + 1 - stored)) & ((1 << stored) - 1)
    values -= ((values >> (stored - 1)) & number(SIGNED)) << stored
    values = values * numbers(SLOPE, 1)[0][0] + numbers(SHIFT, 0)[0][0]
    return values.reshape(frames, number(ROWS), number(COLUMNS)), numbers(PLACE, 0, 0, 0)


def header_of(data):
    """How many bytes come before the pixels."""
    return data.rindex(b"\xe0\x7f\x10\0") + 12


@pytest.mark.parametrize("explicit", [True, False])
@pytest.mark.parametrize("kind", ["a slice", "a series", "frames", "frames with delimiters"])
def test_dicom(tmp_path, explicit, kind):
    rng, found, folder = random.Random(6), 0, tmp_path / "series"
    folder.mkdir()
    if kind in ("a slice", "a series"):
        for n, plane in enumerate(DICOM):
            write_slice(folder / f"{n}.dcm", plane, n, PLACES[n], explicit)
    else:
        how = {"explicit": explicit, "delimited": kind != "frames"}
        write_frames(folder / "0.dcm", DICOM, PLACES, (1, 0, 0, 0, 1, 0), **how)
    files = sorted(folder.iterdir())[: 1 if kind == "a slice" else None]
    for other in sorted(folder.iterdir())[len(files) :]:
        other.unlink()
    good = [file.read_bytes() for file in files]
    for _ in range(ROUNDS // 2):
        n = rng.randrange(len(files))
        files[n].write_bytes(damaged(good[n], rng, header_of(good[n])))
        volume = attempt(read, folder)
        if volume is not None:
            found += 1
            values, places = zip(*map(told, files), strict=True)
            order = np.argsort([place[0][2] for place in places])
            np.testing.assert_allclose(volume.array[0], np.concatenate([values[m] for m in order]), rtol=1e-6)
            at = np.concatenate([places[m] for m in order])
            np.testing.assert_allclose(volume.affine[:3, 3], at[0])
            assert len(at) == 1 or np.allclose(volume.affine[:3, 2], at[1] - at[0])
        files[n].write_bytes(good[n])
    assert found > 5, "some bytes do not matter"


def test_models(tmp_path):
    rng, path = random.Random(2), write_model(tmp_path / "model.safetensors")
    good, found = path.read_bytes(), 0
    for _ in range(ROUNDS):
        path.write_bytes(damaged(good, rng, 4000))
        model = attempt(load, path)
        if model is not None:
            found += 1
            assert all(bool(np.isfinite(value.numpy()).all()) for value in model.network.state_dict().values())
    assert found < ROUNDS


def test_configurations(tmp_path):
    rng, path = random.Random(3), tmp_path / "config.json"
    good = config.to_text(config.preset("default").to_json()).encode()
    for _ in range(2 * ROUNDS):
        path.write_bytes(damaged(good, rng, len(good)))
        settings = attempt(config.load, path)
        assert settings is None or config.from_json(settings.to_json()) == settings


def test_descriptions_of_data_sets(tmp_path):
    rng = random.Random(4)
    folder = make_dataset(tmp_path / "set", 3)
    path = folder / "dataset.json"
    good = path.read_bytes()
    for _ in range(2 * ROUNDS):
        path.write_bytes(damaged(good, rng, len(good)))
        try:
            dataset = load_dataset(folder)
        except InputError as problem:
            assert str(folder) in str(problem)
        else:
            assert dataset.cases and all(1 <= label.value <= 255 for label in dataset.labels)


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="there are no groups of processes")
def test_whatever_a_worker_says_the_client_goes_on_and_ends_nobody_else(monkeypatch):
    ended, silent = [], SimpleNamespace(start=lambda *_: None, write=lambda _: None, stderr=lambda: "")
    silent.kill = lambda leader: kill_tree(0, leader)
    monkeypatch.setattr(os, "killpg", lambda group, _signal: ended.append(group))
    ready = events.make("log", text="", state="ready", pid=987654)
    failed = events.make("error", message="no torch", exit_code=3, detail="")
    for event, key in itertools.product((ready, failed, {**failed, "job": "a"}), (*ready, *failed, "job")):
        for value in (None, True, 0, 1, -1, 1 << 80, 1e300, "", "1", [], [[]], {"a": 1}):
            tried("files and requests with bytes changed by chance")
            client, heard = WorkerClient(["none"], lambda: silent, {}), []
            client.submit(DescribeJob("a"), heard.append)
            for line in ({**event, key: value}, events.make("result", job="a")):
                client._on_output(json.dumps(line).encode() + b"\n")
            client.shutdown()
            assert [each["event"] in ("result", "error") for each in heard].count(True) == 1, (event, key, value)
    assert set(ended) <= {987654}


def test_lines_of_events_and_jobs():
    rng = random.Random(5)
    job = SegmentJob("1", "model", "image.npy", tuple(tuple(row) for row in np.eye(4).tolist()), "out").to_line()
    line = events.to_line(events.make("progress", fraction=0.5, text="half"))
    for _ in range(2 * ROUNDS):
        event = events.from_line(damaged(line.encode(), rng, len(line)))
        assert event is None or event["event"] in events.KINDS
        try:
            body = json.loads(damaged(job.encode(), rng, len(job)))
        except ValueError:  # the worker's listener refuses it before
            continue
        if isinstance(body, dict):
            try:
                SegmentJob.from_json(body)
            except InputError as problem:
                assert str(problem)
