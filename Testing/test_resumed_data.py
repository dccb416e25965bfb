"""A training goes on with the data that it began with, wherever they lie now, and with no other."""

import json

import pytest

from conftest import TINY, make_dataset, write_image
from DiffSegLib import config
from DiffSegLib.data.files import read, read_label
from DiffSegLib.errors import InputError
from DiffSegLib.training.plan import make_plan
from DiffSegLib.training.run import _check_data, train_folder


def exchange_labels(data):
    for path in (data / "labelsTr").iterdir():
        label, _ = read_label(path)
        write_image(path, (3 - label) % 3)


def rename_labels(data):
    described = json.loads((data / "dataset.json").read_text())
    described["labels"] = {"0": "background", "1": "second", "2": "first"}
    (data / "dataset.json").write_text(json.dumps(described))


def rename_channel(data):
    described = json.loads((data / "dataset.json").read_text())
    (data / "dataset.json").write_text(json.dumps({**described, "modality": {"0": "CT"}}))


def mirror_one_label(data):
    path = data / "labelsTr" / "blob_02.nii.gz"
    write_image(path, read_label(path)[0][::-1].copy())


def change_one_voxel(data):
    path = data / "imagesTr" / "blob_01.nii.gz"
    image = read(path).array[0]
    image[9, 9, 9] += 1.0
    write_image(path, image)


def crop(data):
    for part in ("imagesTr", "labelsTr"):
        for path in (data / part).iterdir():
            write_image(path, read_label(path)[0][:-1] if part == "labelsTr" else read(path).array[0][:-1])


@pytest.mark.parametrize("iterations", [6, 8])
@pytest.mark.parametrize(
    ("spoil", "says", "cases"),
    [
        (exchange_labels, "its labels differ", r"; changed: blob_0\d, blob_0\d, blob_0\d, \.\.\."),
        (rename_labels, "its labels differ", ""),
        (rename_channel, "its channels differ", ""),
        (crop, "its shape_voxels differ", "; changed: blob_"),
    ],
)
def test_other_data_are_refused_and_nothing_changes(dataset, tmp_path, spoil, says, cases, iterations):
    run, settings = tmp_path / "run", config.from_json(TINY)
    train_folder(dataset, run, settings, device="cpu")
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    other = make_dataset(tmp_path / "other")
    spoil(other)
    longer = config.override(settings, [f"training.iterations={iterations}"])
    with pytest.raises(
        InputError, match=f"other: is not the data that the training in .*run began with .{says}.*{cases}"
    ):
        train_folder(other, run, longer, device="cpu", resume=True)
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(("spoil", "case"), [(mirror_one_label, "blob_02"), (change_one_voxel, "blob_01")])
def test_a_case_that_was_changed_is_refused_by_name_though_it_counts_as_before(dataset, tmp_path, spoil, case):
    run, settings = tmp_path / "run", config.from_json(TINY)
    train_folder(dataset, run, settings, device="cpu")
    spoil(dataset)
    with pytest.raises(InputError, match=f"image or label of case {case} is not the one .* put it back, or start anew"):
        train_folder(dataset, run, settings, device="cpu", resume=True)


def test_a_folder_that_was_moved_and_has_new_cases_is_taken(dataset, tmp_path):
    run, settings = tmp_path / "run", config.from_json(TINY)
    train_folder(dataset, run, settings, device="cpu")
    moved = make_dataset(tmp_path / "moved", count=7)  # one more, that the split does not name
    train_folder(moved, run, config.override(settings, ["training.iterations=7"]), device="cpu", resume=True)
    assert json.loads((run / "config.json").read_text())["training"]["iterations"] == 6


@pytest.mark.parametrize("known", [None, 3, ["blob_00"], "x"])
def test_a_damaged_fingerprint_is_told_by_its_key(dataset, tmp_path, known):
    settings = config.from_json(TINY)
    plan = make_plan(dataset, settings)
    (tmp_path / "fingerprint.json").write_text(json.dumps({**plan.to_json(), "contents_crc32": known}))
    with pytest.raises(InputError, match=r"fingerprint\.json: its contents_crc32 must be an object"):
        _check_data(tmp_path, dataset, plan)
