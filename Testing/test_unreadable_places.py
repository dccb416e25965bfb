"""Folders and files that may not be read cost what lies in them, are told, and end nothing else."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from conftest import blob_case, write_image
from dicom_series import write_series
from DiffSegLib import terminal
from DiffSegLib.commands import run
from DiffSegLib.data.batch import find_cases
from DiffSegLib.data.datasets import load_dataset
from DiffSegLib.data.outputs import Outputs, Prediction
from DiffSegLib.errors import InputError
from DiffSegLib.labels import labels_from_names


@pytest.fixture
def lock(monkeypatch):
    """Make a place one that may not be read; by hand, as nothing is locked for an administrator."""
    shut, plain, may = [], Path.iterdir, os.access

    def is_shut(path):
        return any(Path(path) == place for place in shut)

    def iterdir(folder):
        if is_shut(folder):
            raise PermissionError(13, "Permission denied", str(folder))
        return plain(folder)

    monkeypatch.setattr(Path, "iterdir", iterdir)
    monkeypatch.setattr(os, "access", lambda path, mode, **more: not is_shut(path) and may(path, mode, **more))
    return shut.append


def predict(model, images, masks, *more):
    return run([*map(str, ("predict", "--model", model, "--input", images, "--output", masks)), *more])


def test_a_folder_of_images_is_told(lock, tmp_path, tiny_model, capsys):
    (tmp_path / "in").mkdir()
    lock(tmp_path / "in")
    assert predict(tiny_model, tmp_path / "in", tmp_path / "out") == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and f"{tmp_path / 'in'}: cannot be read (Permission denied)." in said


@pytest.mark.parametrize("what", ["folder", "slice"])
def test_a_locked_series_costs_itself(lock, tmp_path, tiny_model, capsys, what):
    studies = tmp_path / "studies"
    for name in ("one", "two"):
        write_series(studies / name, blob_case(0)[0].astype("int16"), uid={"one": "1.2.3", "two": "1.2.4"}[name])
    lock(studies / "one" if what == "folder" else studies / "one" / "1.2.3-004.dcm")
    assert predict(tiny_model, studies, tmp_path / "out", "--json") == 1
    answer = json.loads(capsys.readouterr().out)
    assert answer["done"] == ["two"] and list(answer["failed"]) == ["one"]
    words = {"folder": "one: cannot be read (Permission denied).", "slice": "1.2.3-004.dcm: may not be read by you."}
    assert answer["failed"]["one"].endswith(words[what])


def test_a_record_that_may_not_be_read_is_told(lock, tmp_path):
    mask = np.zeros((3, 4, 5), np.uint8)
    folder = Outputs(tmp_path, labels_from_names({1: "first"}))
    folder.write("a", Prediction(mask, [], None, {1: 0.0}, [], {}), np.eye(4))
    folder.check("a")
    lock(tmp_path / "a.json")
    (tmp_path / "a.json").write_bytes(b"what nobody may read is no record")
    with pytest.raises(InputError, match=r"a\.json: may not be read by you\."):
        folder.check("a")


def test_a_data_set_is_told(lock, tmp_path):
    for part in ("images", "labels"):
        (tmp_path / part).mkdir()
        write_image(tmp_path / part / "a.nii.gz", blob_case(0)[part == "labels"])
    lock(tmp_path / "images")
    with pytest.raises(InputError, match=r"images: cannot be read \(Permission denied\)\."):
        load_dataset(tmp_path)


def test_a_folder_that_cannot_even_be_asked_for_is_one_sentence(monkeypatch, capsys, tmp_path):
    def closed(path, **_):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "is_dir", closed)
    with pytest.raises(PermissionError):
        find_cases([tmp_path])
    assert terminal.finish("diffseg predict", lambda: find_cases([tmp_path]), True) == 2
    said = capsys.readouterr()
    assert said.err == f"diffseg predict: {tmp_path}: Permission denied.\n"
    assert json.loads(said.out)["error"] == f"{tmp_path}: Permission denied."


def test_an_error_of_the_system_that_names_no_file_is_ours_and_keeps_its_traceback():
    def broken():
        raise OSError(5, "Input/output error")

    with pytest.raises(OSError, match="Input/output"):
        terminal.finish("diffseg predict", broken, False)
