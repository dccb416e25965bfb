"""The nodes of a comparison: a table and a chart."""

import pytest

pytest.importorskip("slicer", reason="needs the package slicer-core")

import slicer
import slicer.util
import vtk

import comparison
from comparison import LABELS, cells, column, masks
from DiffSegLib.scene import nodes

host, client, window = comparison.host, comparison.client, comparison.window  # fixtures
logic, volume, pair = comparison.logic, comparison.volume, comparison.pair


def test_the_table_has_typed_columns_and_is_updated_in_place(logic, volume, pair):
    result = logic.evaluate(*pair)
    table = result.table
    assert table.GetName() == "automatic compared with by hand"
    assert cells(table, "Segment") == ["first", "second"] and cells(table, "Outcome") == ["found", "found"]
    assert column(table, "Segment").GetDataType() == vtk.VTK_STRING
    assert column(table, "HD95 [mm]").GetDataType() == vtk.VTK_DOUBLE
    assert cells(table, "Dice") == [pytest.approx(found["dice"], abs=1e-4) for found in result.segments.values()]
    assert "surface" in table.GetColumnDescription("NSD") and table.GetAttribute("DiffSeg.ToleranceMm") == "1"
    table.SetName("renamed by the user")
    count = slicer.mrmlScene.GetNumberOfNodes()
    nodes.write_labels(pair[0], masks()[1], volume, LABELS)
    again = logic.evaluate(*pair)
    assert again.table is table and slicer.mrmlScene.GetNumberOfNodes() == count
    assert cells(table, "Dice") == [1.0, 1.0] and table.GetName() == "renamed by the user"
    assert logic.evaluate(pair[1], pair[0]).table is not table


def test_the_chart_has_a_series_of_bars_in_the_color_of_each_segment(logic, volume, pair):
    result = logic.evaluate(*pair)
    assert slicer.util.getNodesByClass("vtkMRMLPlotChartNode") == []
    chart = logic.showEvaluation(result)
    series = [chart.GetNthPlotSeriesNode(n) for n in range(chart.GetNumberOfPlotSeriesNodes())]
    assert [node.GetName() for node in series] == ["first", "second"]
    for node, label in zip(series, LABELS, strict=True):
        assert node.GetPlotType() == node.PlotTypeBar and node.GetColor() == pytest.approx(label.color, abs=0.01)
        found = result.segments[label.name]
        bars = cells(node.GetTableNode(), node.GetYColumnName())
        assert bars == [pytest.approx(found[key]) for key in ("dice", "iou", "nsd")]
        assert cells(node.GetTableNode(), node.GetLabelColumnName())[0] == "Dice"
    assert chart.GetXAxisTitle() == "0: Dice,   1: IoU,   2: NSD at 1 mm" and chart.GetYAxisRange() == (0.0, 1.0)
    count = slicer.mrmlScene.GetNumberOfNodes()
    nodes.write_labels(pair[0], masks()[1], volume, LABELS)
    assert cells(series[0].GetTableNode(), series[0].GetYColumnName())[0] < 1
    again = logic.evaluate(*pair)
    assert cells(series[0].GetTableNode(), series[0].GetYColumnName()) == [1.0, 1.0, 1.0]
    assert logic.showEvaluation(again) is chart and slicer.mrmlScene.GetNumberOfNodes() == count


def test_the_table_behind_the_bars_is_hidden_before_it_is_in_the_scene(logic, pair):
    """Slicer's subject hierarchy looks at that moment only, and would show it in its tree."""
    seen = []

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def note(_caller, _event, node):
        seen.append((node.GetClassName(), bool(node.GetHideFromEditors())))

    result = logic.evaluate(*pair)
    tag = slicer.mrmlScene.AddObserver(slicer.mrmlScene.NodeAddedEvent, note)
    logic.showEvaluation(result)
    slicer.mrmlScene.RemoveObserver(tag)
    assert [hidden for kind, hidden in seen if kind == "vtkMRMLTableNode"] == [True]


def test_a_series_whose_segment_is_gone_is_removed(logic, pair):
    chart = logic.showEvaluation(logic.evaluate(*pair))
    pair[0].GetSegmentation().GetSegment("Segment_2").SetName("new name")
    logic.evaluate(*pair)
    assert chart.GetNumberOfPlotSeriesNodes() == len(slicer.util.getNodesByClass("vtkMRMLPlotSeriesNode")) == 1


def test_table_and_chart_come_back_from_a_scene_file(host, logic, pair, tmp_path):
    table = logic.evaluate(*pair).table
    logic.showEvaluation(logic.evaluate(*pair))
    wanted, name = cells(table, "ASD [mm]"), table.GetName()
    host.scene_host.save_bundle(tmp_path / "scene.mrb")
    slicer.mrmlScene.Clear(0)
    host.scene_host.read_bundle(tmp_path / "scene.mrb")
    read = slicer.util.getNode(name)
    assert column(read, "ASD [mm]").GetDataType() == vtk.VTK_DOUBLE
    assert cells(read, "ASD [mm]") == [pytest.approx(value) for value in wanted]
    predicted, present = (slicer.util.getNode(other) for other in ("automatic", "by hand"))
    count = slicer.mrmlScene.GetNumberOfNodes()
    logic.showEvaluation(logic.evaluate(predicted, present))
    assert slicer.mrmlScene.GetNumberOfNodes() == count
