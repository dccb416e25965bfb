"""ctkCollapsibleButton."""

from PySide6 import QtCore, QtGui, QtWidgets
from PySide6.QtCore import Property, Signal

HEADER = 24  # pixels


class ctkCollapsibleButton(QtWidgets.QFrame):
    """A titled frame; collapsing hides its children, and what the module hid itself stays hidden when it opens."""

    contentsCollapsed = Signal(bool)

    def __init__(self, parent=None):
        super().__init__(parent)
        self._title, self._closed, self._put_away = "", False, []
        self.setContentsMargins(0, HEADER, 0, 0)
        self.setMinimumHeight(HEADER)

    def paintEvent(self, event):
        super().paintEvent(event)
        width = QtWidgets.QWidget.property(self, "size").width()
        painter = QtGui.QPainter(self)
        painter.fillRect(0, 0, width, HEADER - 2, QtGui.QColor(205, 210, 216))
        sign = "\u25b8" if self._closed else "\u25be"
        painter.drawText(8, HEADER - 8, f"{sign}  {self._title}")

    def _collapse(self, closed):
        changed, self._closed = closed != self._closed, closed
        if closed:
            children = self.findChildren(QtWidgets.QWidget, options=QtCore.Qt.FindDirectChildrenOnly)
            self._put_away += [child for child in children if not child.isHidden()]  # those that came since, too
        for child in self._put_away:
            child.setVisible(not closed)
        if not closed:
            self._put_away = []
        if changed:
            self.contentsCollapsed.emit(closed)

    text = Property(str, lambda self: self._title, lambda self, value: setattr(self, "_title", value))
    collapsed = Property(bool, lambda self: self._closed, _collapse)
