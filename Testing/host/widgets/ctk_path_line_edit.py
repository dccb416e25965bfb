"""ctkPathLineEdit."""

from PySide6 import QtWidgets
from PySide6.QtCore import Property, Signal


class ctkPathLineEdit(QtWidgets.QWidget):
    """A line for a path, with a button that would browse."""

    currentPathChanged = Signal(str)
    Dirs = 1

    def __init__(self, parent=None):
        super().__init__(parent)
        self._filters = 0
        self._line = QtWidgets.QLineEdit()
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._line)
        layout.addWidget(QtWidgets.QToolButton())
        self._line.textChanged.connect(self.currentPathChanged.emit)

    def _path(self):
        return QtWidgets.QLineEdit.property(self._line, "text")

    def _take(self, path):
        QtWidgets.QLineEdit.setProperty(self._line, "text", path)

    currentPath = Property(str, _path, _take)
    filters = Property(int, lambda self: self._filters, lambda self, value: setattr(self, "_filters", value))
