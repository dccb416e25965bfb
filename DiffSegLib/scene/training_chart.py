"""The course of a training as Slicer's table and plot nodes: the loss, and the validation Dice, mean and by structure.

The nodes are not saved with the scene: they follow a training, which has its own log.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import slicer
import slicer.util

from DiffSegLib.labels import distinct_color
from DiffSegLib.scene.nodes import add_hidden, plot_view
from DiffSegLib.scene.training import Training

LOSS, DICE = "loss", "dice"
KINDS = (LOSS, DICE)
NAMES = {LOSS: "DiffSeg training loss", DICE: "DiffSeg training Dice"}
MEAN_COLOR = (0.2, 0.2, 0.2)
FONT_SIZE = 12


class TrainingChart:
    """One chart of each of KINDS, made when there is something to show and updated in place.

    titles: kind -> what stands at the upright axis. `clear` must be called when the scene was closed.
    """

    def __init__(self, titles: dict[str, str], iteration: str, mean: str) -> None:
        self.titles, self.iteration, self.mean = titles, iteration, mean
        self._nodes: dict[str, dict[str, Any]] = {kind: {} for kind in KINDS}
        self._columns: dict[str, Sequence[str]] = dict.fromkeys(KINDS, ())

    def update(self, training: Training) -> dict[str, Any]:
        """Show a training and return its chart nodes by kind; a kind without numbers yet has none."""
        loss = [event for event in training.metrics if "loss" in event]
        scores = [event for event in training.metrics if "dice" in event]
        tables = {
            LOSS: ([LOSS], [[event["iteration"], event["loss"]] for event in loss]),
            DICE: (
                [self.mean, *training.classes],
                [[event["iteration"], event["dice"], *event["dice_by_class"]] for event in scores],
            ),
        }
        return {kind: self._plot(kind, *table) for kind, table in tables.items() if table[1]}

    def clear(self, remove: bool = False) -> None:
        """Forget the nodes, and with `remove` take them out of the scene."""
        for kind in KINDS:
            self._drop(kind, remove)

    def _plot(self, kind: str, names: Sequence[str], rows: list[list[float | None]]) -> Any:
        nodes = self._nodes[kind]
        columns = [self.iteration, *_distinct(names, self.iteration)]
        gone = any(node.GetScene() is None for node in _flat(nodes))
        if gone or list(self._columns[kind]) != columns:
            self._drop(kind, remove=not gone)
        self._columns[kind] = columns
        array = np.array([[np.nan if x is None else x for x in row] for row in rows], dtype=float)
        fresh = not nodes
        if fresh:  # a table that can be seen Slicer would ask about at its exit, whether to save what it does not save
            nodes["table"] = add_hidden("vtkMRMLTableNode", NAMES[kind])
        chart = slicer.util.plot(array, 0, columns, NAMES[kind], False, nodes)
        for series, name in zip(nodes["series"], names, strict=True):
            series.SetName(name)  # plot() gives the chart's name to each; the legend shows it
        if fresh:
            self._style(kind, chart, nodes)
        return chart

    def _style(self, kind: str, chart: Any, nodes: dict[str, Any]) -> None:
        """Once: later updates leave it, and what the user changes too."""
        for node in _flat(nodes):
            node.SetSaveWithScene(False)
        chart.SetTitleVisibility(False)  # the axis says it, and the chart is small
        chart.SetXAxisTitle(self.iteration)
        chart.SetYAxisTitle(self.titles[kind])
        chart.SetLegendVisibility(kind == DICE)
        for setSize in (chart.SetAxisTitleFontSize, chart.SetAxisLabelFontSize, chart.SetLegendFontSize):
            setSize(FONT_SIZE)
        for n, series in enumerate(nodes["series"]):
            series.SetColor(*(MEAN_COLOR if n == 0 else distinct_color(n - 1)))
            series.SetMarkerStyle(series.MarkerStyleNone if kind == LOSS else series.MarkerStyleCircle)

    def _drop(self, kind: str, remove: bool) -> None:
        nodes = self._nodes[kind]
        for node in _flat(nodes) if remove else []:
            if node.GetScene() is not None:
                slicer.mrmlScene.RemoveNode(node)
        nodes.clear()
        self._columns[kind] = ()


def view_node(kind: str, ownerNode: Any) -> Any:
    """The plot view node of the chart of a kind."""
    return plot_view(f"DiffSegTraining{kind.capitalize()}", ownerNode)


def _flat(nodes: dict[str, Any]) -> list[Any]:
    return [node for node in (nodes.get("chart"), nodes.get("table"), *nodes.get("series", [])) if node is not None]


def _distinct(names: Sequence[str], taken: str) -> list[str]:
    """Names of table columns, which must differ."""
    found = [taken]
    for name in names:
        found.append(next(c for n in range(len(names) + 2) if (c := f"{name} ({n})" if n else name) not in found))
    return found[1:]
