"""Two folders of masks in, a report out: pairing, refusals that name the case, statistics, and the page."""

import csv
import errno
import json
import math
import os
import re
import tempfile
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from conftest import write_image
from DiffSegLib.commands import run
from DiffSegLib.data.files import read_label, write_mask, write_volume
from DiffSegLib.errors import InputError
from DiffSegLib.evaluation import metrics, report
from DiffSegLib.evaluation.plots import LEFT, RIGHT, WIDTH, box_plot
from DiffSegLib.evaluation.report import evaluate
from DiffSegLib.evaluation.summary import bootstrap_interval, describe
from DiffSegLib.evaluation.table import evaluate_folders
from DiffSegLib.labels import Label

SPACING_IJK = (0.7, 1.1, 2.5)
AFFINE = np.array([[0.7, 0, 0, -20.0], [0, 0, 2.5, 5.0], [0, -1.1, 0, 33.0], [0, 0, 0, 1]])  # a coronal acquisition
LABELS = (Label(1, "Anterior"), Label(2, "Posterior"))


def mask(shift: int = 0) -> np.ndarray:
    array = np.zeros((8, 12, 14), dtype=np.uint8)
    array[2:6, 2 + shift : 6 + shift, 3:10] = 1
    array[2:6, 6 + shift : 9 + shift, 3:10] = 2
    return array


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Cases a, b, c: a is exact, b is one voxel off, c lacks structure 2."""
    prediction, reference = tmp_path / "prediction", tmp_path / "reference"
    for folder in (prediction, reference):
        folder.mkdir()
    lacking = mask()
    lacking[lacking == 2] = 0
    for name, predicted in (("a", mask()), ("b", mask(1)), ("c", lacking)):
        write_mask(prediction / f"{name}.seg.nrrd", predicted, AFFINE, LABELS)
        write_mask(reference / f"{name}.nii.gz", mask(), AFFINE)
    return prediction, reference


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


def test_the_summary_counts_what_its_means_leave_out(folders, tmp_path):
    summary = evaluate(*folders, tmp_path / "out")
    assert summary == json.loads((tmp_path / "out" / "summary.json").read_text())
    first, second = summary["labels"]
    assert (first["name"], first["found"], first["missed"]) == ("Anterior", 3, 0)
    assert (second["name"], second["found"], second["missed"]) == ("Posterior", 2, 1)
    assert (second["metrics"]["dice"]["n"], second["metrics"]["hd95_mm"]["n"]) == (3, 2)
    one_off = metrics.score(mask(1), mask(), 2, SPACING_IJK[::-1]).dice
    assert second["metrics"]["dice"]["mean"] == pytest.approx((1 + one_off + 0) / 3)
    assert second["metrics"]["dice"]["median"] == pytest.approx(one_off)
    by_case = [1, (one_off + metrics.score(mask(1), mask(), 1, SPACING_IJK[::-1]).dice) / 2, 0.5]
    assert summary["overall"]["metrics"]["dice"]["mean"] == pytest.approx(np.mean(by_case))
    assert summary["overall"]["metrics"]["dice"]["sd"] == pytest.approx(np.std(by_case, ddof=1))
    assert (summary["cases"], summary["overall"]["missed"], summary["problems"]) == (3, 1, [])


def test_the_table_file_holds_every_score(folders, tmp_path):
    (folders[1].parent / "dataset.json").write_text(json.dumps({"labels": {"9": "gone"}}))
    table = evaluate_folders(*folders)
    evaluate(*folders, tmp_path / "out")
    with open(tmp_path / "out" / "metrics.csv", newline="", encoding="utf-8") as stream:
        lines = {(line["case"], int(line["label"])): line for line in csv.DictReader(stream)}
    assert len(lines) == len(table.rows) == 9
    for row in table.rows:
        line = lines[row.case, row.label]
        assert (line["name"], line["outcome"]) == (row.name, row.scores.outcome)
        for name in ("dice", "iou", "hd95_mm", "nsd", "asd_mm", "centroid_mm", "volume_ml", "reference_volume_ml"):
            value = getattr(row.scores, name)
            assert line[name] == "" if math.isnan(value) else float(line[name]) == pytest.approx(value, rel=5e-6)
            assert len(re.sub(r"^0\.0*|\.|e.*", "", line[name])) <= 6, "nobody measures seventeen digits"


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such file names")
def test_a_case_whose_name_holds_a_carriage_return_has_one_line(folders, tmp_path):
    for folder in folders:
        for path in sorted(folder.iterdir())[:1]:
            path.rename(path.with_name(f"odd\r{path.name}"))
    evaluate(*folders, tmp_path / "out")
    table = evaluate_folders(*folders)
    lines = (tmp_path / "out" / "metrics.csv").read_text().splitlines()
    assert len(lines) == 1 + len(table.rows) and any(line.startswith(r"odd\r") for line in lines)


def test_the_same_masks_give_the_same_report_and_leave_no_other_file(folders, tmp_path):
    texts = []
    for name in ("one", "two", "one"):  # the last one over an older report
        evaluate(*folders, tmp_path / name)
        texts.append({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()})
    assert texts[0] == texts[1] == texts[2]
    assert set(texts[0]) == {"metrics.csv", "summary.json", "report.html"}


class Page(HTMLParser):
    """Checks that tags are balanced, and collects addresses and text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open, self.links, self.text = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.links += [value for key, value in attributes if key in ("src", "href", "data", "action")]
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, tag

    def handle_startendtag(self, tag, attributes):
        self.links += [value for key, value in attributes if key in ("src", "href")]

    def handle_data(self, data):
        self.text.append(data)


def test_the_page_stands_alone_and_shows_names_as_text(folders, tmp_path):
    prediction, reference = folders
    write_mask(prediction / "lonely & <b>odd.nii.gz", mask(), AFFINE)
    for path in prediction.glob("*.seg.nrrd"):
        write_mask(path, read_label(path)[0], AFFINE, [Label(1, "<script>alert(1)</script>"), LABELS[1]])
    evaluate(prediction, reference, tmp_path / "out")
    source = (tmp_path / "out" / "report.html").read_text()
    page = Page(source)
    assert page.open == [] and page.links == []
    assert "<script" not in source and "url(" not in source and "@import" not in source
    text = " ".join(page.text)
    assert "<script>alert(1)</script>" in text and "lonely & <b>odd" in text
    assert "Not measured: 1 case" in text and "missed" in text


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


def test_the_interval_has_the_width_that_theory_gives():
    values = np.random.default_rng(5).normal(0.9, 0.04, 400)
    low, high = bootstrap_interval(values)
    half = 1.96 * values.std(ddof=1) / math.sqrt(values.size)
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.08 * half)
    assert describe([0.5])["ci95"] is None and describe([0.5])["sd"] is None
    assert describe([math.nan, math.inf]) == describe([])


def test_every_finite_case_is_a_dot_at_its_place_in_the_plot():
    values = {"one": [("a", 0.8), ("b", 0.9), ("c", math.inf)], "two": [("a", 1.0), ("b", math.nan), ("c", 0.85)]}
    svg = ET.fromstring(box_plot(values, {"one": "red", "two": "blue"}, title="Dice", at_most=1.0))
    space = "{http://www.w3.org/2000/svg}"
    dots = {circle.find(f"{space}title").text: float(circle.get("cx")) for circle in svg.iter(f"{space}circle")}
    assert set(dots) == {"a: 0.8", "b: 0.9", "a: 1", "c: 0.85"}
    ticks = {float(t.text): float(t.get("x")) for t in svg.iter(f"{space}text") if t.get("class") == "tick"}
    assert max(ticks) == 1.0 and (min(ticks.values()), max(ticks.values())) == (LEFT, WIDTH - RIGHT)
    for tick in (0.8, 0.9, 1.0):
        place = dots[next(name for name in dots if float(name.split(": ")[1]) == tick)]
        assert place == pytest.approx(ticks[tick], abs=0.11)
    assert [t.text for t in svg.iter(f"{space}text") if t.get("class") == "note"] == ["1 without a finite value"]
