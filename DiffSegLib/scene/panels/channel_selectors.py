"""Node selectors for the further channels of a model: one for each, made when a model needs it for the first time."""

from collections.abc import Callable, Sequence
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

ROLE = "channel{number}"  # of the module's parameter node: the volume chosen for the n-th further channel


class ChannelSelectors:
    """Rows of a form layout from `row` on; what is chosen is a node reference of the parameter node, saved with it."""

    def __init__(self, layout: Any, row: int, parameterNode: Callable[[], Any]) -> None:
        self._layout, self._row, self._parameterNode = layout, row, parameterNode
        self.rows: list[tuple[Any, Any]] = []
        self._shown = 0

    def show(self, names: Sequence[str]) -> None:
        """Show one selector for each of these channels."""
        for number in range(len(self.rows), len(names)):
            self._make(number)
        self._shown = len(names)
        for number, (label, selector) in enumerate(self.rows):
            isShown = number < len(names)
            label.visible = selector.visible = isShown
            if isShown:
                label.text = _("{channel}:").format(channel=names[number])
                tip = _("The volume with the channel {channel}; it may lie on another grid")
                selector.toolTip = tip.format(channel=names[number])
        self.follow()

    def follow(self) -> None:
        """Show what the parameter node says."""
        node = self._parameterNode()
        for number, (_label, selector) in enumerate(self.rows if node is not None else ()):
            wanted = node.GetNodeReference(ROLE.format(number=number + 1))
            if selector.currentNode() is not wanted:
                selector.setCurrentNode(wanted)

    def nodes(self) -> list[Any]:
        """The chosen volumes of the channels that are shown; None where none is chosen."""
        return [selector.currentNode() for _label, selector in self.rows[: self._shown]]

    def _make(self, number: int) -> None:
        label = qt.QLabel()
        selector = slicer.qMRMLNodeComboBox()
        selector.nodeTypes = ["vtkMRMLScalarVolumeNode"]
        selector.showChildNodeTypes = False
        selector.addEnabled = False
        selector.removeEnabled = False
        selector.noneEnabled = True
        selector.setSizePolicy(qt.QSizePolicy(qt.QSizePolicy.Ignored, qt.QSizePolicy.Fixed))  # as those of the form
        selector.setMRMLScene(slicer.mrmlScene)

        def onChosen(node: Any) -> None:
            parameters = self._parameterNode()
            if parameters is not None:
                role = ROLE.format(number=number + 1)
                if parameters.GetNodeReference(role) is not node:
                    parameters.SetNodeReferenceID(role, node.GetID() if node else None)

        if not selector.connect("currentNodeChanged(vtkMRMLNode*)", onChosen):
            raise RuntimeError("There is no signal currentNodeChanged.")
        self._layout.insertRow(self._row + number, label, selector)
        self.rows.append((label, selector))
