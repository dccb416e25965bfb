"""Prediction of a folder: what fails costs one case, and nothing that is not ours is replaced or stays."""

import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest

from conftest import blob_case, write_image
from dicom_series import write_series
from DiffSegLib.commands import run
from DiffSegLib.data.batch import find_cases, run_cases
from DiffSegLib.data.datasets import load_dataset
from DiffSegLib.data.files import read, read_label
from DiffSegLib.data.outputs import Outputs
from DiffSegLib.errors import InputError
from DiffSegLib.evaluation.table import evaluate_folders
from DiffSegLib.inference.predict import Predictor
from DiffSegLib.jobs import SegmentOptions
from DiffSegLib.models.store import load

as_links = pytest.mark.skipif(sys.platform == "win32", reason="makes links")


@pytest.fixture
def predictor(tiny_model):
    return Predictor(load(tiny_model), "cpu")


def test_a_folder_is_segmented_and_a_bad_file_does_not_stop_the_rest(predictor, tmp_path):
    scans = tmp_path / "in"
    scans.mkdir()
    for n in range(2):
        write_image(scans / f"case{n}.nii.gz", blob_case(n)[0])
    (scans / "broken.nii.gz").write_bytes(b"no image")
    out = tmp_path / "out"
    options = SegmentOptions(keep_steps=True, uncertainty=True)
    labels = predictor.model.card.labels

    def segment(volume, listener):
        return predictor(volume, options, listener)

    outcome = run_cases(find_cases([scans]), Outputs(out, labels), segment)
    assert outcome.done == ["case0", "case1"] and "broken.nii.gz" in outcome.failed["broken"]
    names = {
        "case0.seg.nrrd",
        "case0.json",
        "case0.uncertainty.nrrd",
        *(f"case0.step-{k}.seg.nrrd" for k in range(1, 6)),
    }
    assert names == {p.name for p in out.iterdir() if p.name.startswith("case0")}
    assert {p.name for p in out.iterdir() if not p.name.startswith("case")} == {"volumes.csv", ".volumes.csv.sha256"}
    mask, _ = read_label(out / "case0.seg.nrrd")
    np.testing.assert_array_equal(mask, predictor(read(scans / "case0.nii.gz"), options).mask)
    record = json.loads((out / "case0.json").read_text())
    assert set(record["volumes_ml"]) == {"first", "second"} and record["case"] == "case0"
    again = run_cases(find_cases([scans]), Outputs(out, labels), segment, skip_existing=True)
    assert again.skipped == ["case0", "case1"] and not again.done


@pytest.mark.parametrize("ending", ["nii.gz", "nrrd"])
def test_masks_in_any_format_may_lie_beside_images_that_are_called_otherwise(predictor, tmp_path, ending):
    """Else the next run, or the next shard, would take them for images."""
    for name in ("a_0000", "b_0000"):
        write_image(tmp_path / f"{name}.nii.gz", blob_case(0)[0])
    cases = find_cases([tmp_path])
    outputs = Outputs(tmp_path, predictor.model.card.labels, ending)
    options = SegmentOptions(keep_steps=True, steps=2, uncertainty=True)
    assert run_cases(cases, outputs, lambda volume, _: predictor(volume, options)).done == ["a", "b"]
    assert (tmp_path / f"a.step-2.{ending}").is_file() and find_cases([tmp_path]) == cases
    (tmp_path / "a.json").unlink()  # whose mask is it now?
    write_image(tmp_path / "a_0001.nii.gz", blob_case(0)[0])
    for step in tmp_path.glob("a.step*"):
        step.unlink()
    with pytest.raises(
        InputError, match=rf"a_0000.* is of the same case as .*a\.{ending}; their outputs would collide"
    ):
        find_cases([tmp_path], 2)


def test_masks_may_lie_beside_their_images(predictor, tmp_path):
    image = write_image(tmp_path / "case.nii.gz", blob_case(0)[0])
    outputs = Outputs(tmp_path, predictor.model.card.labels)

    def segment(volume, listener):
        return predictor(volume, SegmentOptions(keep_steps=True, uncertainty=True), listener)

    for done, skipped in ((["case"], []), ([], ["case"])):
        assert find_cases([tmp_path]) == [("case", (image,))]
        outcome = run_cases(find_cases([tmp_path]), outputs, segment, skip_existing=True)
        assert (outcome.done, outcome.skipped) == (done, skipped)
    assert len(list(tmp_path.glob("*.nrrd"))) == 7


def test_two_files_of_one_name_are_refused(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        write_image(tmp_path / folder / "x.nrrd", np.zeros((2, 2, 2), np.float32))
    with pytest.raises(InputError, match="same case name"):
        find_cases([tmp_path / "a", tmp_path / "b"])


def test_a_mask_never_replaces_the_image_that_it_is_made_from(tmp_path, tiny_model, capsys):
    folder = tmp_path / "scans"
    folder.mkdir()
    image = write_image(folder / "a.nii.gz", blob_case(0)[0])
    before = image.read_bytes()
    command = ["predict", "--model", str(tiny_model), "--input", str(folder), "--output", str(folder)]
    assert run([*command, "--format", "nii.gz"]) == 2
    assert "a.nii.gz: is an input image" in capsys.readouterr().err
    assert image.read_bytes() == before and [path.name for path in folder.iterdir()] == ["a.nii.gz"]
    assert run(command) == 0, "another format lies beside it"


def test_a_defect_in_one_case_costs_that_case_only(tmp_path, tiny_model, monkeypatch, capsys):
    from DiffSegLib.data import batch

    (tmp_path / "in").mkdir()
    for n in range(3):
        write_image(tmp_path / "in" / f"{n}.nrrd", blob_case(n)[0])
    plain = batch.read_case

    def read(paths, channels):
        if paths[0].name == "1.nrrd":
            raise ValueError("a defect")
        return plain(paths, channels)

    monkeypatch.setattr(batch, "read_case", read)
    command = [
        "predict",
        "--model",
        str(tiny_model),
        "--input",
        str(tmp_path / "in"),
        "--output",
        str(tmp_path / "out"),
    ]
    assert run(command) == 1
    assert "1.nrrd: failed unexpectedly (ValueError: a defect)" in capsys.readouterr().err
    assert (tmp_path / "out" / "2.json").is_file()


def test_steps_of_a_longer_run_before_do_not_stay(tmp_path, tiny_model):
    image = write_image(tmp_path / "a.nrrd", blob_case(0)[0])
    command = [
        "predict",
        "--model",
        str(tiny_model),
        "--input",
        str(image),
        "--output",
        str(tmp_path / "out"),
        "--save-steps",
    ]
    assert run([*command, "--steps", "4"]) == run([*command, "--steps", "2"]) == 0
    assert sorted(path.name for path in (tmp_path / "out").glob("*.step-*")) == [
        "a.step-1.seg.nrrd",
        "a.step-2.seg.nrrd",
    ]


def not_files(folder):
    """What stands under an image's name and is none: name of the case -> what is said of it."""
    (folder / "gone.nii.gz").symlink_to("/nowhere/annex/key")
    (folder / "loop.nrrd").symlink_to("loop.nrrd")
    (folder / "folder.mha").mkdir()
    said = dict.fromkeys(("gone", "loop"), "is a link to a file that is not here; fetch it, or remove the link.")
    said["folder"] = "is a folder and holds no DICOM series."
    if hasattr(os, "mkfifo"):
        os.mkfifo(folder / "pipe.nii")
        said["pipe"] = "is no plain file."
    return said


@as_links
def test_what_is_called_like_an_image_and_is_none_costs_its_case_and_is_told(tmp_path, tiny_model, capsys):
    scans = tmp_path / "scans"
    scans.mkdir()
    said = not_files(scans)
    (scans / "plain folder").mkdir()
    write_image(scans / "z.nii.gz", blob_case(0)[0])
    command = ["predict", "--model", str(tiny_model), "--output", str(tmp_path / "out"), "--json"]
    for inputs in ([scans], sorted(scans.glob("[glpz]*.n*"))):  # as a folder, and as a shell lists them
        assert run([*command, "--overwrite", "--input", *map(str, inputs)]) == 1
        written = capsys.readouterr()
        answer = json.loads(written.out)
        assert answer["done"] == ["z"]
        wanted = {name: text for name, text in said.items() if inputs == [scans] or name != "folder"}
        assert {name: text.partition(": ")[2] for name, text in answer["failed"].items()} == wanted
        assert all(text in written.err for text in answer["failed"].values())
    (scans / "z.nii.gz").unlink()
    for make in (lambda path: path.symlink_to("/nowhere"), getattr(os, "mkfifo", Path.mkdir)):
        make(scans / "z.nii.gz")  # its image was dropped when it had been segmented
        assert run([*command, "--skip-existing", "--input", str(scans / "z.nii.gz")]) == 0
        (scans / "z.nii.gz").unlink()


@as_links
def test_such_files_of_a_data_set_and_of_an_evaluation_are_told(tmp_path):
    folder = tmp_path / "pairs"
    for part in ("images", "labels"):
        (folder / part).mkdir(parents=True)
        for n in range(3):
            write_image(folder / part / f"{n}.nrrd", np.ones((4, 4, 4), np.uint8))
        (folder / part / "gone.nrrd").symlink_to("/nowhere")
    with pytest.raises(InputError, match=r"image images.gone\.nrrd of case gone; label labels.gone\.nrrd of case gone"):
        load_dataset(folder)
    table = evaluate_folders(folder / "labels", folder / "images")
    assert list(table.problems) == ["gone"] and "is a link to a file that is not here" in table.problems["gone"]


def test_a_folder_of_series_called_like_an_image_stays_one_and_others_there_are_told(tmp_path):
    write_series(tmp_path / "a.nii.gz")
    write_series(tmp_path / "b", uid="1.2.4")
    (tmp_path / "c.nii").mkdir()
    cases = dict(find_cases([tmp_path]))
    assert list(cases) == ["a.nii.gz", "b", "c"] and cases["c"] == (tmp_path / "c.nii",)
    assert read(cases["a.nii.gz"][0]).array.shape == read(cases["b"][0]).array.shape


@as_links
@pytest.mark.parametrize("count", [1, None])
def test_slices_that_are_links_to_nowhere_cost_their_series_and_are_told(tmp_path, count):
    """Of a series whose slices all are, nothing says that it is one but their names."""
    for name in ("a", "b"):
        write_series(tmp_path / name, uid=f"1.2.{len(name)}")
    for path in sorted((tmp_path / "b").iterdir())[-1::-1][:count]:
        path.unlink()
        path.symlink_to("/nowhere")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes").symlink_to("/nowhere")
    cases = dict(find_cases([tmp_path]))
    assert list(cases) == ["a", "b"]
    read(cases["a"][0])
    for path in (cases["b"][0], tmp_path / "b"):
        with pytest.raises(InputError, match=r"\.dcm: is a link to a file that is not here; fetch it"):
            read(path)
