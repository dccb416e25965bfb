"""ctkCollapsibleButton."""

from PySide6 import QtCore, QtWidgets
from PySide6.QtCore import Property, Signal


class ctkCollapsibleButton(QtWidgets.QFrame):
    """A titled frame; collapsing hides its children."""

    contentsCollapsed = Signal(bool)

    def __init__(self, parent=None):
        super().__init__(parent)
        self._title, self._closed = "", False

    def _collapse(self, closed):
        self._closed = closed
        for child in self.findChildren(QtWidgets.QWidget, options=QtCore.Qt.FindDirectChildrenOnly):
            child.setVisible(not closed)
        self.contentsCollapsed.emit(closed)

    text = Property(str, lambda self: self._title, lambda self, value: setattr(self, "_title", value))
    collapsed = Property(bool, lambda self: self._closed, _collapse)
