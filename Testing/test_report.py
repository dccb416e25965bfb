"""What an evaluation writes: the summary and its intervals, the table, the page and its plots."""

import csv
import json
import math
import os
import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser

import numpy as np
import pytest

import compared
from compared import AFFINE, LABELS, SPACING_IJK, mask
from DiffSegLib.data.files import read_label, write_mask
from DiffSegLib.evaluation import metrics
from DiffSegLib.evaluation.plots import LEFT, RIGHT, WIDTH, box_plot
from DiffSegLib.evaluation.report import evaluate
from DiffSegLib.evaluation.summary import bootstrap_interval, describe
from DiffSegLib.evaluation.table import evaluate_folders
from DiffSegLib.labels import Label

folders = compared.folders  # fixture


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
