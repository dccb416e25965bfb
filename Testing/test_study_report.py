"""The study's tables: each arm beside the twin of its network and of its time, and docs/results.md as they are."""

import pytest

from conftest import ROOT

pytest.importorskip("matplotlib", reason="needs the extra demo")


@pytest.fixture
def report(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "Testing" / "study"))
    import report

    return report


def result(arm, dice, network=None, minutes=2.0, seed=0):
    """Two cases, of which the first structure has `dice` and the second 0.1 less."""
    found = {"arm": arm, "seed": seed, "budget_core_minutes": minutes, "cases": ["a", "b"], "dice_mean": dice - 0.05}
    for key in ("dice", "hd95_mm", "nsd"):
        found[key] = [[dice, dice - 0.1], [dice, dice - 0.1]]
    found |= {"ece": [0.1, 0.1], "auroc": [0.9, 0.9]}
    return found | ({"config": {"network": {"name": network}}} if network else {})


def row(table, arm):
    """The cells of an arm's row."""
    lines = [line for line in table.splitlines() if line.startswith(f"| {arm} |")]
    assert len(lines) == 1, table
    return [cell.strip() for cell in lines[0].strip("|").split("|")]


def test_an_arm_is_compared_with_the_twin_of_its_network_whatever_its_name(report):
    arms = {
        "supervised": [result("supervised", 0.5, "unet")],
        "cached-supervised": [result("cached-supervised", 0.8, "cached")],
        "no-average": [result("no-average", 0.9, "cached")],
        "epsilon": [result("epsilon", 0.3, "unet")],
    }
    table = report.comparisons(arms, report.TWIN, "its twin")
    assert row(table, "no-average")[1:3] == ["cached-supervised", "+0.1000 (+0.1000 to +0.1000)"]
    assert row(table, "epsilon")[1:3] == ["supervised", "-0.2000 (-0.2000 to -0.2000)"]
    assert "\n| supervised |" not in table and "\n| cached-supervised |" not in table


def test_an_ensemble_is_compared_with_one_of_as_many_and_its_time_is_said(report):
    arms = {"cached-unrolled x2": [result("cached-unrolled x2", 0.9, minutes=4.0)]}
    arms["cached-supervised"] = [result("cached-supervised", 0.8, "cached", seed=n) for n in range(3)]
    assert row(report.comparisons(arms, report.TWIN, "its twin"), "cached-unrolled x2")[1] == "cached-supervised"
    arms["cached-supervised x2"] = [result("cached-supervised x2", 0.85, minutes=4.0)]
    table = report.comparisons(arms, report.TWIN, "its twin")
    assert row(table, "cached-unrolled x2")[1:3] == ["cached-supervised x2", "+0.0500 (+0.0500 to +0.0500)"]
    assert row(report.scores(arms), "cached-unrolled x2")[1:3] == ["1", "4"]
    assert row(report.scores(arms), "cached-supervised")[1:3] == ["3", "2"]


def test_each_structure_has_its_own_numbers(report):
    cells = row(report.structures({"one": [result("one", 0.9)]}), "one")
    assert cells[1:3] == ["0.900 (0.900–0.900)", "0.800 (0.800–0.800)"] and len(cells) == 7


def test_the_page_holds_every_result_and_what_was_learnt(report):
    page = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    assert report.LEARNT.read_text(encoding="utf-8").strip() in page, "run Testing/study/report.py"
    for arms in report.finished().values():
        for line in report.scores(arms).splitlines():
            assert line in page, "run Testing/study/report.py"
