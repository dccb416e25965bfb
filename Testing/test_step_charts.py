"""What changed from step to step: measured and charted."""

import types

import numpy as np
import pytest

from conftest import blob_case

pytest.importorskip("slicer", reason="needs the package slicer-core")

import slicer
import slicer.util

import finished_run
from DiffSegLib.labels import Label
from DiffSegLib.scene import changes, plots
from finished_run import LABELS, MASK, count, make_run

host, volume, run = finished_run.host, finished_run.volume, finished_run.run  # fixtures


def dice(a, b):
    return 2 * (a & b).sum() / (a.sum() + b.sum())


def test_the_change_is_dice_to_the_step_before_and_volumes_are_in_ml(run):
    found = changes.changes(run)
    assert found[0].dice == {} and found[0].meanDice is None
    for number in (1, 2):
        before, now = run.masks[number - 1 : number + 1]
        wanted = {value: dice(now == value, before == value) for value in (1, 2)}
        assert found[number].dice == pytest.approx(wanted)
        assert found[number].meanDice == pytest.approx(np.mean(list(wanted.values())))
    sizes = changes.volumes_ml(run, found[2])
    assert sizes == pytest.approx({v: (run.masks[2] == v).sum() * 0.8 * 0.9 * 2.0 / 1000 for v in (1, 2)})


def test_structures_that_neither_step_has_do_not_count_as_a_change():
    only = np.where(MASK == 1, MASK, 0)
    empty = np.zeros_like(MASK)
    assert changes.compare(only, only).dice == {1: 1.0}
    assert changes.compare(only, empty).dice == {1: 0.0}
    assert changes.compare(empty, empty).meanDice is None and changes.compare(empty, only).counts.sum() == 0
    assert changes.compare(MASK, only).dice == {1: 1.0, 2: 0.0}


def column(table, name):
    values = table.GetTable().GetColumnByName(name)
    return [values.GetValue(n) for n in range(values.GetNumberOfTuples())]


def test_the_charts_show_dice_and_volume_of_each_structure_in_its_color(run):
    run.node.GetSegmentation().GetSegment("Segment_2").SetColor(0.0, 1.0, 0.0)
    charts = plots.update(run)
    for kind, chart in charts.items():
        series = [chart.GetNthPlotSeriesNode(n) for n in range(chart.GetNumberOfPlotSeriesNodes())]
        assert [each.GetName() for each in series] == ["first", "second"]
        assert series[0].GetColor() == pytest.approx(LABELS[0].color, abs=1e-3)
        assert series[1].GetColor() == pytest.approx((0.0, 1.0, 0.0))
        table = series[0].GetTableNode()
        assert column(table, series[0].GetXColumnName()) == [1, 2, 3]
        values = column(table, series[1].GetYColumnName())
        if kind == plots.DICE:
            assert np.isnan(values[0])
            assert values[1:] == pytest.approx([c.dice[2] for c in changes.changes(run)[1:]])
        else:
            assert values == pytest.approx([changes.volumes_ml(run, c)[2] for c in changes.changes(run)])


def test_the_charts_are_updated_in_place_also_for_another_model_and_after_a_scene_was_closed(run, host):
    charts = plots.update(run)
    before = count()
    longer = make_run(run.volume, [np.roll(MASK, n, axis=0) for n in range(5)])
    assert plots.update(longer) == charts and count() == before
    table = charts[plots.DICE].GetNthPlotSeriesNode(0).GetTableNode()
    assert table.GetTable().GetNumberOfRows() == 5
    other = types.SimpleNamespace(**{**vars(longer), "labels": (Label(4, "third"),), "node": None, "changes": []})
    assert plots.update(other) == charts
    assert len(slicer.util.getNodesByClass("vtkMRMLPlotSeriesNode")) == 2
    assert charts[plots.VOLUME].GetNthPlotSeriesNode(0).GetName() == "third"
    host.scene.Clear(0)
    volume = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "next")
    slicer.util.updateVolumeFromArray(volume, blob_case(1)[0])
    fresh = plots.update(make_run(volume, [MASK, MASK]))
    assert all(chart.GetScene() is host.scene for chart in fresh.values())
    assert table.GetTable().GetNumberOfRows() == 5


def test_the_view_of_the_charts_is_one_that_neither_the_layout_nor_another_chart_takes(volume):
    owner = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScriptedModuleNode")
    view = plots.view_node(owner)
    assert view.GetParentLayoutNode() is owner and not view.GetDoPropagatePlotChartSelection()
    slicer.mrmlScene.Clear(0)  # keeps the view, and takes from it whose it is
    next_owner = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScriptedModuleNode")
    assert plots.view_node(next_owner) is view
    assert view.GetParentLayoutNode() is next_owner and not view.GetDoPropagatePlotChartSelection()
