"""The nodes that show a comparison: a table, and bars in the segments' colours. Updated in place, never piled up."""

import math
from typing import TYPE_CHECKING, Any

import slicer
import slicer.util
import vtk

from DiffSegLib.scene.nodes import ATTRIBUTE, add_hidden
from DiffSegLib.scene.words import tr as _

if TYPE_CHECKING:
    from DiffSegLib.scene.evaluation import Evaluation

# column -> key of the measures, what it says
COLUMNS = {
    "Segment": ("name", _("Name of the segment")),
    "Dice": ("dice", _("Dice coefficient: 2 |P and R| / (|P| + |R|), 1 is best")),
    "HD95 [mm]": ("hd95_mm", _("95 % Hausdorff distance, 0 is best")),
    "NSD": ("nsd", _("Normalised surface Dice: share of both surfaces within the tolerance, 1 is best")),
    "Volume [ml]": ("volume_ml", _("Volume in the prediction")),
    "Reference volume [ml]": ("reference_volume_ml", _("Volume in the reference")),
    "Volume difference [ml]": ("volume_difference_ml", _("Volume in the prediction less that in the reference")),
    "IoU": ("iou", _("Intersection over union (Jaccard index), 1 is best")),
    "ASD [mm]": ("asd_mm", _("Average symmetric surface distance, 0 is best")),
    "Centroid distance [mm]": ("centroid_mm", _("Distance of the centres of mass, 0 is best")),
    "Outcome": ("outcome", _("found in both, missed or spurious (empty in one of them), absent in both")),
}
TEXTS = ("name", "outcome")
BARS = {"Dice": "dice", "IoU": "iou", "NSD": "nsd"}  # bounded measures only: they share an axis
LABELS = "Measure"
PREDICTION_ROLE, REFERENCE_ROLE = "DiffSeg.Prediction", "DiffSeg.Reference"  # tell of which comparison a node is
DECIMALS = 4  # in the table; a cell shows every digit that it holds


def make_table(result: "Evaluation") -> Any:
    """The table node of a comparison: a row a segment, typed columns with descriptions."""
    title = f"{result.prediction.GetName()} compared with {result.reference.GetName()}"
    table = _node(result, "vtkMRMLTableNode", "table", title)
    with slicer.util.NodeModify(table):
        table.RemoveAllColumns()
        for column, (key, description) in COLUMNS.items():
            text = key in TEXTS
            found: list[Any] = [name if key == "name" else measures[key] for name, measures in result.segments.items()]
            _add_column(table, column, found if text else [round(value, DECIMALS) for value in found], text)
            table.SetColumnDescription(column, description)
        table.SetAttribute(ATTRIBUTE + "ToleranceMm", f"{result.tolerance:g}")
        table.SetUseFirstColumnAsRowHeader(True)
        table.SetLocked(True)
    return table


def update_chart(result: "Evaluation") -> None:
    """Bring the chart of an earlier comparison of the same two up to date; without one nothing happens."""
    if _find(result, "vtkMRMLPlotChartNode", "chart") is not None:
        make_chart(result)


def make_chart(result: "Evaluation") -> Any:
    """The chart node of a comparison: a series a segment, so that each has its colour; a group of bars a measure.

    Segments that are in neither segmentation have no bars. The axis can show numbers only, so its title names them.
    """
    shown = {name: found for name, found in result.segments.items() if not math.isnan(found["dice"])}
    bars = _node(result, "vtkMRMLTableNode", "bars", f"{result.table.GetName()} bars", hidden=True)
    chart = _node(result, "vtkMRMLPlotChartNode", "chart", f"{result.table.GetName()} chart")
    with slicer.util.NodeModify(bars):
        bars.RemoveAllColumns()
        measures = {
            text if text != "NSD" else _("NSD at {tolerance:g} mm").format(tolerance=result.tolerance): key
            for text, key in BARS.items()
        }
        _add_column(bars, LABELS, list(measures), text=True)
        for name, found in shown.items():
            _add_column(bars, f"{name} ", [found[key] for key in measures.values()])  # no name can hide the labels
    series = [_make_series(result, name, bars) for name in shown]
    with slicer.util.NodeModify(chart):
        chart.RemoveAllPlotSeriesNodeIDs()
        for node in series:
            chart.AddAndObservePlotSeriesNodeID(node.GetID())
        chart.SetTitle(result.table.GetName())
        chart.SetXAxisTitle(",   ".join(f"{n}: {text}" for n, text in enumerate(measures)))
        chart.SetXAxisRangeAuto(False)
        chart.SetXAxisRange(-0.5, len(measures) + 0.5)  # one group's width for the legend
        chart.SetYAxisTitle(_("1 is best"))
        chart.SetYAxisRangeAuto(False)
        chart.SetYAxisRange(0.0, 1.0)
        chart.SetLegendVisibility(True)
    for node in slicer.util.getNodesByClass("vtkMRMLPlotSeriesNode"):
        if _belongs(node, result) and node not in series:
            slicer.mrmlScene.RemoveNode(node)
    return chart


def _make_series(result: "Evaluation", name: str, bars: Any) -> Any:
    series = _node(result, "vtkMRMLPlotSeriesNode", f"bars of {name}", name, unique=False)  # its name is the legend
    with slicer.util.NodeModify(series):
        series.SetAndObserveTableNodeID(bars.GetID())
        series.SetYColumnName(f"{name} ")
        series.SetLabelColumnName(LABELS)
        series.SetPlotType(series.PlotTypeBar)
        series.SetColor(*result.colors[name])
    return series


def _node(result: "Evaluation", kind: str, what: str, name: str, unique: bool = True, hidden: bool = False) -> Any:
    """The node of a comparison that is its `what`, or a new one; a user's new name for it stays."""
    node = _find(result, kind, what)
    if node is not None:
        return node
    name = slicer.mrmlScene.GenerateUniqueName(name) if unique else name
    node = add_hidden(kind, name) if hidden else slicer.mrmlScene.AddNewNodeByClass(kind, name)
    node.SetAttribute(ATTRIBUTE + "Evaluation", what)
    node.SetNodeReferenceID(PREDICTION_ROLE, result.prediction.GetID())
    node.SetNodeReferenceID(REFERENCE_ROLE, result.reference.GetID())
    return node


def _find(result: "Evaluation", kind: str, what: str) -> Any:
    for node in slicer.util.getNodesByClass(kind):
        if _belongs(node, result) and node.GetAttribute(ATTRIBUTE + "Evaluation") == what:
            return node
    return None


def _belongs(node: Any, result: "Evaluation") -> bool:
    """Whether a node was made by a comparison of the same two; ids are no help, they are given anew in a merge."""
    pair = node.GetNodeReference(PREDICTION_ROLE), node.GetNodeReference(REFERENCE_ROLE)
    return pair == (result.prediction, result.reference)


def _add_column(table: Any, name: str, values: list[Any], text: bool = False) -> None:
    column = vtk.vtkStringArray() if text else vtk.vtkDoubleArray()
    column.SetName(name)
    for value in values:
        column.InsertNextValue(value)
    table.AddColumn(column)
    table.SetColumnType(name, vtk.VTK_STRING if text else vtk.VTK_DOUBLE)
