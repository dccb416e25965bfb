"""The table of the scene's segmentations, of which the ticked ones are the cases of a training."""

from typing import Any

import qt
from slicer.i18n import tr as _

from DiffSegLib.scene import dataset, nodes


class CasesTable:
    """Fills a QTableWidget and remembers, by node, what the user has ticked or not.

    What cannot be a case is shown with the reason and cannot be ticked; DiffSeg's own results are not ticked at first.
    """

    def __init__(self, table: Any) -> None:
        self.table = table
        self._pairs: list[dataset.Pair] = []
        self._chosen: dict[str, bool] = {}

    def refresh(self) -> None:
        """Show the scene as it is now."""
        self._pairs = dataset.pairs_of_scene()
        self.table.blockSignals(True)
        self.table.setRowCount(len(self._pairs))
        for row, (volume, node) in enumerate(self._pairs):
            problem = dataset.problem_of((volume, node))
            first = qt.QTableWidgetItem(node.GetName())
            if not problem:
                first.setCheckState(qt.Qt.Checked if self._isTicked(node) else qt.Qt.Unchecked)
            names = problem.partition(": ")[2] or ", ".join(dataset.segment_names(node))
            texts = (volume.GetName() if volume is not None else _("none"), names)
            for column, item in enumerate((first, *(qt.QTableWidgetItem(text) for text in texts))):
                item.setToolTip(problem or names)
                self.table.setItem(row, column, item)
        self.table.blockSignals(False)
        self.table.resizeColumnsToContents()

    def note(self, item: Any) -> None:
        """The box of a row was ticked or not."""
        if item.column() == 0:
            self._chosen[self._pairs[item.row()][1].GetID()] = item.checkState() == qt.Qt.Checked

    def ticked(self) -> list[dataset.Pair]:
        """The cases that the user has chosen and that are still in the scene."""
        found = [pair for pair in self._pairs if pair[1].GetScene() is not None]
        return [pair for pair in found if not dataset.problem_of(pair) and self._isTicked(pair[1])]

    def forget(self) -> None:
        """The scene is closed."""
        self._pairs, self._chosen = [], {}
        self.table.setRowCount(0)

    def _isTicked(self, node: Any) -> bool:
        return self._chosen.get(node.GetID(), node.GetAttribute(nodes.ATTRIBUTE + "Key") is None)
