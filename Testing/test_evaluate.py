"""Two folders of masks in, a report out: pairing, refusals that name the case, statistics, and the page."""

import errno
import json
import os
import re
import tempfile
from pathlib import Path

import numpy as np
import pytest

import compared
from compared import AFFINE, LABELS, SPACING_IJK, mask
from conftest import write_image
from DiffSegLib.commands import run
from DiffSegLib.data.files import write_mask, write_volume
from DiffSegLib.errors import InputError
from DiffSegLib.evaluation import metrics, report
from DiffSegLib.evaluation.report import evaluate
from DiffSegLib.evaluation.table import evaluate_folders
from DiffSegLib.labels import Label

folders = compared.folders  # fixture


def rows_of(table) -> dict:
    return {(row.case, row.label): row.scores for row in table.rows}


def test_each_case_gets_the_scores_of_its_arrays_with_spacing_in_array_order(folders):
    table = evaluate_folders(*folders)
    rows = rows_of(table)
    assert table.problems == {}
    assert table.labels == {1: "Anterior", 2: "Posterior"}
    assert set(rows) == {(case, label) for case in "abc" for label in (1, 2)}
    assert rows["a", 1].dice == 1.0
    for label in (1, 2):
        wanted = metrics.score(mask(1), mask(), label, SPACING_IJK[::-1])
        for name in ("dice", "iou", "hd95_mm", "nsd", "asd_mm", "centroid_mm", "volume_ml", "reference_volume_ml"):
            assert getattr(rows["b", label], name) == pytest.approx(getattr(wanted, name), rel=1e-5), name
    assert rows["c", 2].outcome == "missed"


def test_steps_uncertainty_and_other_files_beside_the_masks_are_no_cases(folders):
    prediction, _ = folders
    write_mask(prediction / "a.step-1.seg.nrrd", mask(2), AFFINE, LABELS)
    write_mask(prediction / "a.step-12.nii.gz", mask(2), AFFINE)
    write_image(prediction / "a.uncertainty.nrrd", np.zeros((8, 12, 14), np.float32), AFFINE)
    (prediction / "a.json").write_text("{}")
    (prediction / ".a.seg.nrrd.77.part.nrrd").write_bytes(b"half")
    table = evaluate_folders(*folders)
    assert table.cases == ["a", "b", "c"] and table.problems == {}
    assert rows_of(table)["a", 1].dice == 1.0


def spoil_size(path: Path) -> None:
    write_mask(path, mask()[:-1], AFFINE, LABELS)


def spoil_spacing(path: Path) -> None:
    write_mask(path, mask(), AFFINE @ np.diag([1.01, 1, 1, 1]), LABELS)


def spoil_origin(path: Path) -> None:
    moved = AFFINE.copy()
    moved[1, 3] += 0.5
    write_mask(path, mask(), moved, LABELS)


def spoil_direction(path: Path) -> None:
    write_mask(path, mask(), AFFINE @ np.diag([-1, -1, 1, 1]), LABELS)


def spoil_content(path: Path) -> None:
    path.write_bytes(b"no image at all")


def spoil_names(path: Path) -> None:
    write_mask(path, mask(), AFFINE, (Label(1, "Posterior"), Label(2, "Anterior")))


def spoil_twice(path: Path) -> None:
    write_mask(path.with_name("b.nii.gz"), mask(), AFFINE)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (Path.unlink, "holds no mask of case b"),
        (spoil_content, "b.seg.nrrd: is no image"),
        (spoil_size, "(14 x 12 x 7 voxels of"),
        (spoil_spacing, "of 0.707 x 1.1 x 2.5 mm at -20, 5, 33 against 14 x 12 x 8 voxels of 0.7 x 1.1 x 2.5 mm"),
        (spoil_direction, "(the directions of their axes)"),
        (spoil_origin, "at -20, 5.5, 33 against"),
        (spoil_names, "label 1 is 'Posterior' here and 'Anterior' in b.seg.nrrd"),
        (spoil_twice, "two masks of one case"),
    ],
)
def test_a_case_that_cannot_be_measured_is_named_and_the_rest_go_on(folders, spoil, says):
    prediction, reference = folders
    (reference / "b.nii.gz").unlink()
    write_mask(reference / "b.seg.nrrd", mask(), AFFINE, LABELS)
    spoil(prediction / "b.seg.nrrd")
    heard = []
    table = evaluate_folders(prediction, reference, listener=heard.append)
    assert table.cases == ["a", "c"]
    assert set(table.problems) == {"b"} and says in table.problems["b"]
    told = f"b: not measured. {table.problems['b']}"
    if spoil is Path.unlink:
        told = f"1 of the cases in {reference} have no prediction (b) and are not measured"
        told += "; --predicted-only leaves them out."
    assert [event["text"] for event in heard if event["event"] == "warning"] == [told]
    tried = 2 if spoil is Path.unlink else 3
    fractions = [event["fraction"] for event in heard if event["event"] == "progress"]
    assert fractions == pytest.approx([(n + 1) / tried for n in range(tried)])


def test_cases_without_a_prediction_are_told_in_one_sentence(folders):
    prediction, reference = folders
    for name in "defgh":
        write_mask(reference / f"{name}.nii.gz", mask(), AFFINE, LABELS)
    heard = []
    table = evaluate_folders(prediction, reference, listener=heard.append)
    assert table.cases == ["a", "b", "c"] and list(table.problems) == list("defgh")
    (told,) = (event["text"] for event in heard if event["event"] == "warning")
    assert told.startswith("5 of the cases in") and "(d, e, f, ...)" in told and "--predicted-only" in told
    assert not evaluate_folders(prediction, reference, predicted_only=True).problems


def test_a_prediction_without_reference_is_named(folders):
    prediction, reference = folders
    (reference / "c.nii.gz").unlink()
    table = evaluate_folders(prediction, reference)
    assert table.cases == ["a", "b"]
    assert table.problems == {"c": f"{reference}: holds no mask of case c."}


def test_rounding_in_a_header_is_no_other_grid(folders):
    prediction, reference = folders
    nearly = AFFINE.copy()
    nearly[:3, 3] += 4e-4
    write_mask(prediction / "b.seg.nrrd", mask(), nearly, LABELS)
    assert rows_of(evaluate_folders(prediction, reference))["b", 1].dice == 1.0


@pytest.mark.parametrize(
    "labels", [{"background": 0, "left": 1, "right": 2}, {"0": "background", "1": "left", "2": "right"}]
)
def test_names_come_from_the_data_set_when_the_masks_have_none(folders, labels):
    prediction, reference = folders
    for path in list(prediction.iterdir()):
        path.unlink()
    write_mask(prediction / "a.nii.gz", mask(), AFFINE)
    (reference.parent / "dataset.json").write_text(json.dumps({"labels": labels}))
    assert evaluate_folders(prediction, reference, predicted_only=True).labels == {1: "left", 2: "right"}


@pytest.mark.parametrize(
    "labels",
    [
        {"background": 0, "left": 1, "ignore": None, "right": 2},
        {"0": "background", "note": "see paper", "1": "left", "2": "right"},
        {"background": 0, "--": "x", "left": 1, "right": 2, "both": [1, 2]},
    ],
)
def test_an_odd_entry_of_the_description_takes_no_other_name_away(folders, labels):
    for path in [path for folder in folders for path in folder.iterdir()]:
        path.unlink()
    for folder in folders:
        write_mask(folder / "a.nii.gz", mask(), AFFINE)
    (folders[1].parent / "dataset.json").write_text(json.dumps({"labels": labels}))
    assert evaluate_folders(*folders).labels == {1: "left", 2: "right"}
    described = {"labels": {"whole": [1, 2], "right": 2}, "regions_class_order": [1, 2]}
    (folders[1].parent / "dataset.json").write_text(json.dumps(described))
    assert evaluate_folders(*folders).labels == {1: "whole", 2: "right"}


def test_a_structure_that_only_other_cases_have_counts_as_absent(folders):
    prediction, reference = folders
    extra = mask()
    extra[0, 0, 0] = 5
    write_mask(prediction / "a.seg.nrrd", extra, AFFINE, LABELS)
    rows = rows_of(evaluate_folders(prediction, reference))
    assert [rows[case, 5].outcome for case in "abc"] == ["spurious", "absent", "absent"]


def test_two_files_are_compared_whatever_they_are_called(folders, tmp_path):
    prediction, reference = folders
    table = evaluate_folders(prediction / "b.seg.nrrd", reference / "a.nii.gz")
    assert table.cases == ["b"] and table.labels == {1: "Anterior", 2: "Posterior"} and not table.problems
    with pytest.raises(InputError, match=r"a\.nii\.gz: is a file; give two files"):
        evaluate_folders(prediction, reference / "a.nii.gz")


def test_a_folder_that_cannot_be_written_is_told_before_all_is_measured(folders, tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(report, "evaluate_folders", lambda *_, **__: pytest.fail("that is work"))
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(InputError, match="out: cannot be written .*is read-only for you"):
        report.evaluate(*folders, tmp_path / "out")
    monkeypatch.undo()
    monkeypatch.setattr(report, "evaluate_folders", lambda *_, **__: pytest.fail("that is work"))
    monkeypatch.setattr(tempfile, "mkdtemp", full)
    with pytest.raises(InputError, match=r"out: cannot be written .No space left on device"):
        report.evaluate(*folders, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_names_come_from_the_record_beside_a_mask_and_other_cases_may_be_left_out(folders, tmp_path):
    prediction = tmp_path / "masks"
    prediction.mkdir()
    write_mask(prediction / "a.nii.gz", mask(), AFFINE)
    (prediction / "a.json").write_text(json.dumps({"case": "a", "labels": [label.to_json() for label in LABELS]}))
    table = evaluate_folders(prediction, folders[1], predicted_only=True)
    assert table.labels == {1: "Anterior", 2: "Posterior"} and table.cases == ["a"] and not table.problems
    assert set(evaluate_folders(prediction, folders[1]).problems) == {"b", "c"}
    (prediction / "a.json").write_text('{"labels": [3]}')
    assert evaluate_folders(prediction, folders[1], predicted_only=True).labels[1] == "Label 1"


def test_folders_that_cannot_be_compared_are_refused_and_nothing_is_written(folders, tmp_path):
    prediction, reference = folders
    out, empty, other = tmp_path / "out", tmp_path / "empty", tmp_path / "other"
    empty.mkdir()
    other.mkdir()
    write_mask(other / "z.nii.gz", mask(), AFFINE)
    for bad, says in (
        (tmp_path / "nowhere", "no such folder"),
        (empty, "holds no mask"),
        (other, "no case is in both"),
    ):
        with pytest.raises(InputError, match=says) as problem:
            evaluate(bad, reference, out)
        assert str(bad) in str(problem.value)
    write_mask(other / "z.nii.gz", 0 * mask(), AFFINE)
    with pytest.raises(InputError, match="label above 0"):
        evaluate(other, other, out)
    with pytest.raises(InputError, match="tolerance_mm"):
        evaluate(prediction, reference, out, tolerance_mm=float("nan"))
    assert not out.exists()
    out.write_text("mine")
    with pytest.raises(InputError, match="is a file"):
        evaluate(prediction, reference, out)
    assert out.read_text() == "mine"


@pytest.mark.parametrize(("kind", "says"), [("float", "is it an image?"), ("8 bit", "a label map is needed")])
def test_images_in_place_of_labels_are_refused_and_no_report_is_written(folders, tmp_path, kind, says):
    """Whole grey values from 0 to 255 would be as many structures."""
    prediction, reference = folders
    grey = np.random.default_rng(0).integers(0, 256, mask().shape).astype(np.uint8)
    for name in "abc":
        write_volume(reference / f"{name}.nii.gz", grey if kind == "8 bit" else grey / np.float32(3), AFFINE)
    path = reference / "a.nii.gz"
    with pytest.raises(InputError, match=f"None of 3 cases could be measured; the first: {path}: .*{re.escape(says)}"):
        evaluate(prediction, reference, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("spoilt", "code", "says"), [("", 0, "3 of 3"), ("b", 1, "2 of 3"), ("abc", 2, None)])
def test_the_exit_code_and_the_table_say_how_many_cases_were_measured(folders, tmp_path, capsys, spoilt, code, says):
    for name in spoilt:
        spoil_content(folders[0] / f"{name}.seg.nrrd")
    prediction, reference, out = (str(path) for path in (*folders, tmp_path / "out"))
    assert run(["evaluate", "--prediction", prediction, "--reference", reference, "--out", out]) == code
    told = capsys.readouterr()
    assert f"mean over {says} cases " in told.out if says else "None of 3 cases could be measured" in told.err
