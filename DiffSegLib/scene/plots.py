"""The change from step to step as Slicer's table and chart nodes: one set in the scene, which follows the run shown.

The nodes are looked for in the scene at each update, so none of a scene that was closed is ever written to.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
import slicer
import slicer.util

from DiffSegLib.labels import Label
from DiffSegLib.scene import nodes
from DiffSegLib.scene.changes import changes, volumes_ml
from DiffSegLib.scene.words import tr as _

if TYPE_CHECKING:
    from DiffSegLib.scene.logic import Segmentation

CHART = nodes.ATTRIBUTE + "Chart"  # which part of the charts a node is
DICE, VOLUME = "dice", "volume"
VIEW = "DiffSegSteps"


def update(run: "Segmentation") -> dict[str, Any]:
    """Write a run's steps into the charts and return these: DICE to the step before, and VOLUME in ml, by structure.

    Names and colours are those of the answer's segments.
    """
    known = changes(run)
    sizes = [volumes_ml(run, change) for change in known]
    columns = {"step": [float(number + 1) for number in range(len(known))]}
    for label in run.labels:
        columns[_column(DICE, label)] = [change.dice.get(label.value, np.nan) for change in known]
        columns[_column(VOLUME, label)] = [size[label.value] for size in sizes]
    table = _node("vtkMRMLTableNode", "table", "DiffSeg steps")
    with slicer.util.NodeModify(table):
        slicer.util.updateTableFromArray(table, [np.array(column) for column in columns.values()], list(columns))
    charts = {
        DICE: _chart(DICE, _("Dice to the step before")),
        VOLUME: _chart(VOLUME, _("Volume (ml)")),
    }
    for kind, chart in charts.items():
        wanted = [_series(run, kind, label, table) for label in run.labels]
        if [chart.GetNthPlotSeriesNode(n) for n in range(chart.GetNumberOfPlotSeriesNodes())] != wanted:
            chart.RemoveAllPlotSeriesNodeIDs()
            for series in wanted:
                chart.AddAndObservePlotSeriesNodeID(series.GetID())
    for series in slicer.util.getNodesByClass("vtkMRMLPlotSeriesNode"):
        if series.GetAttribute(CHART) not in (None, *columns):  # of a structure that another model had
            slicer.mrmlScene.RemoveNode(series)
    return charts


def view_node(ownerNode: Any) -> Any:
    """The plot view node of the charts of the steps."""
    return nodes.plot_view(VIEW, ownerNode)


def segment_look(run: "Segmentation", label: Label) -> tuple[str, tuple[float, float, float]]:
    """Name and colour (0..1) of a structure as they stand in the answer, where the user may have changed them."""
    inScene = run.node is not None and run.node.GetScene() is not None
    segment = run.node.GetSegmentation().GetSegment(nodes.segment_id(label)) if inScene else None
    return (label.name, label.color) if segment is None else (segment.GetName(), tuple(segment.GetColor()))


def _chart(kind: str, title: str) -> Any:
    chart = _node("vtkMRMLPlotChartNode", kind, f"DiffSeg steps: {kind}")
    with slicer.util.NodeModify(chart):
        chart.SetTitle(title)
        chart.SetTitleVisibility(False)  # the axis says it, and the chart is small
        chart.SetXAxisTitle(_("Step"))
        chart.SetYAxisTitle(title)
        for setSize in (chart.SetAxisTitleFontSize, chart.SetAxisLabelFontSize, chart.SetLegendFontSize):
            setSize(12)
    return chart


def _series(run: "Segmentation", kind: str, label: Label, table: Any) -> Any:
    column = _column(kind, label)
    series = _node("vtkMRMLPlotSeriesNode", column, label.name)
    name, color = segment_look(run, label)
    with slicer.util.NodeModify(series):
        series.SetName(name)  # the legend shows it
        series.SetColor(*color)
        series.SetAndObserveTableNodeID(table.GetID())
        series.SetXColumnName("step")
        series.SetYColumnName(column)
        series.SetPlotType(series.PlotTypeScatter)
        series.SetMarkerStyle(series.MarkerStyleCircle)
    return series


def _column(kind: str, label: Label) -> str:
    return f"{kind} {label.value} {label.name}"


def _node(kind: str, part: str, name: str) -> Any:
    for node in slicer.util.getNodesByClass(kind):
        if node.GetAttribute(CHART) == part:
            return node
    node = slicer.mrmlScene.AddNewNodeByClass(kind, name)
    node.SetAttribute(CHART, part)
    return node
