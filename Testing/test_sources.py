"""A mask counts as done for the image that it was made of, and only while it can be read."""

import json
import os
import sys
import threading

import numpy as np
import pytest
import SimpleITK as sitk

from conftest import blob_case, write_image
from DiffSegLib.commands import run
from DiffSegLib.data import batch, outputs
from DiffSegLib.data.sources import is_other, sources_of
from DiffSegLib.errors import InputError
from DiffSegLib.labels import labels_from_names

LABELS = labels_from_names({1: "first", 2: "second"})


@pytest.fixture
def predict(tmp_path, tiny_model, capsys):
    """Segment `in` into `out`; the answer of --json, and what is said."""
    (tmp_path / "in").mkdir()
    for name in ("a", "b"):
        write_image(tmp_path / "in" / f"{name}.nii.gz", blob_case(ord(name))[0])

    def call(*more, code=0):
        command = ["predict", "--model", tiny_model, "--input", tmp_path / "in", "--output", tmp_path / "out", "--json"]
        assert run([*map(str, command), *more]) == code
        said = capsys.readouterr()
        return json.loads(said.out), said.err

    return call


@pytest.mark.parametrize("options", [("--skip-existing",), ()])
def test_another_image_of_the_same_name_is_told_and_segmented(predict, tmp_path, options):
    predict()
    image, record = tmp_path / "in" / "a.nii.gz", tmp_path / "out" / "a.json"
    before = json.loads(record.read_text())["images"]
    write_image(image, blob_case(7)[0])
    answer, said = predict(*options)
    assert said.count("a: is there, but made otherwise (of another image); it is done again.") == 1
    assert "a" in answer["done"] and "b: is there" not in said
    assert answer["skipped"] == (["b"] if options else [])
    assert json.loads(record.read_text())["images"] == sources_of([image]) != before
    assert predict("--skip-existing")[0]["skipped"] == ["a", "b"]


def test_a_mask_in_another_format_is_not_done_if_its_image_was_another_one(predict, tmp_path):
    nifti = ("--format", "nii.gz")
    predict(*nifti)
    write_image(tmp_path / "in" / "a.nii.gz", blob_case(7)[0])
    predict()
    assert set(json.loads((tmp_path / "out" / "a.json").read_text())["files"]) == {"a.seg.nrrd"}
    answer, said = predict("--skip-existing", *nifti)
    assert answer["again"] == ["a"] and answer["skipped"] == ["b"]
    assert "a: is there, but made otherwise (a.nii.gz of another run)" in said


def test_a_mask_of_a_record_that_names_no_image_is_not_vouched_for_by_a_later_one(predict, tmp_path):
    predict("--format", "nii.gz")
    record = tmp_path / "out" / "a.json"
    body = json.loads(record.read_text())
    record.write_text(json.dumps({key: value for key, value in body.items() if key != "images"}))
    predict()
    assert set(json.loads(record.read_text())["files"]) == {"a.seg.nrrd"}


def test_an_image_that_cannot_be_read_is_told_by_its_reader(predict, tmp_path, monkeypatch):
    from DiffSegLib.data import sources

    def denied(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(sources, "checksum", denied)
    assert sources_of([tmp_path / "in" / "a.nii.gz"]) == []
    assert predict()[0]["done"] == ["a", "b"]


def test_a_mask_that_is_done_is_read_through_once(predict, monkeypatch):
    predict()
    seen, plain = [], outputs.checksum
    monkeypatch.setattr(outputs, "checksum", lambda path: (seen.append(path.name), plain(path))[1])
    monkeypatch.setattr(outputs.Outputs, "write_table", lambda *_: [])
    assert predict("--skip-existing")[0]["skipped"] == ["a", "b"]
    assert seen == ["a.seg.nrrd", "b.seg.nrrd"]


def test_an_image_that_changes_while_it_is_read_counts_as_another(predict, tmp_path, monkeypatch):
    image, plain = tmp_path / "in" / "a.nii.gz", batch.read_case
    known = sources_of([image])

    def read_and_change(paths, channels):
        volume = plain(paths, channels)
        if image in paths:
            write_image(image, blob_case(7)[0])
        return volume

    monkeypatch.setattr(batch, "read_case", read_and_change)
    predict()
    assert json.loads((tmp_path / "out" / "a.json").read_text())["images"] == known != sources_of([image])


def test_an_image_of_another_size_is_another_one_though_its_time_is_the_same(tmp_path):
    image = write_image(tmp_path / "a.nii.gz", blob_case(0)[0])
    os.utime(image, ns=(5, 5))
    known = sources_of([image])
    image.write_bytes(image.read_bytes() + b"more")
    os.utime(image, ns=(5, 5))
    assert is_other(known, [image])


def test_the_same_image_copied_anew_is_done(predict, tmp_path):
    predict()
    os.utime(tmp_path / "in" / "a.nii.gz", ns=(1, 1))
    assert predict("--skip-existing")[0]["skipped"] == ["a", "b"]


@pytest.mark.parametrize("left", [0, 200])
def test_a_mask_that_is_cut_off_is_not_taken_for_done(predict, tmp_path, left):
    predict()
    mask = tmp_path / "out" / "a.seg.nrrd"
    mask.write_bytes(mask.read_bytes()[:left])
    answer, said = predict("--skip-existing", code=1)
    assert answer["skipped"] == ["b"] and "a.seg.nrrd: is there with its record, but cannot be read" in said
    assert mask.stat().st_size == left, "somebody may be copying it"
    assert predict("--skip-existing", "--overwrite")[0]["done"] == ["a"]
    assert predict("--skip-existing")[0]["skipped"] == ["a", "b"]


@pytest.mark.skipif(sys.platform == "win32", reason="has no pipes among files")
@pytest.mark.parametrize("name", ["a.seg.nrrd", "a.step-1.seg.nrrd"])
def test_a_pipe_in_place_of_what_was_written_does_not_block(tmp_path, name):
    folder = outputs.Outputs(tmp_path, LABELS)
    mask = np.zeros((3, 4, 5), np.uint8)
    folder.write("a", outputs.Prediction(mask, [mask], None, {1: 0.0, 2: 0.0}, [], {}), np.eye(4))
    (tmp_path / name).unlink()
    os.mkfifo(tmp_path / name)
    found = []

    def look():
        found.append((folder.is_there("a"), folder.write_table()))
        folder.write("a", outputs.Prediction(mask, [], None, {1: 0.0, 2: 0.0}, [], {}), np.eye(4))

    looking = threading.Thread(target=look, daemon=True)
    looking.start()
    looking.join(60)
    assert not looking.is_alive()
    there, changed = found[0]
    assert there == (name != "a.seg.nrrd") and len(changed) == (name == "a.seg.nrrd")


def test_files_are_compared_by_their_bytes_where_their_times_differ(tmp_path):
    image = tmp_path / "scan.mhd"
    sitk.WriteImage(sitk.GetImageFromArray(np.ones((3, 4, 5), np.uint8)), str(image))
    known = sources_of([image])
    assert [each["file"] for each in known] == ["scan.mhd", "scan.raw"]
    assert not is_other(known, [image]) and not is_other(None, [image]) and not is_other(known, [])
    os.utime(image, ns=(1, 1))
    assert not is_other(known, [image])
    (tmp_path / "scan.raw").write_bytes(bytes(3 * 4 * 5))
    os.utime(tmp_path / "scan.raw", ns=(2, 2))
    assert is_other(known, [image])
    assert is_other([*known, *known], [image]) and is_other([7, 7], [image])


def test_a_model_is_the_one_that_was_read(tiny_model, tmp_path):
    from DiffSegLib.models.store import load
    from DiffSegLib.whole_files import checksum

    path = tmp_path / "model.safetensors"
    path.write_bytes(tiny_model.read_bytes())
    model = load(path)
    path.unlink()
    assert model.sha256 == checksum(tiny_model)


def test_an_archive_is_no_array(tmp_path):
    from DiffSegLib.serving.arrays import load_array

    np.savez(tmp_path / "x.npz", a=np.zeros(3))
    with pytest.raises(InputError, match=r"x\.npz: is an archive; an array \(\.npy\) is needed"):
        load_array(str(tmp_path / "x.npz"))
