"""ctkPathLineEdit."""

from PySide6 import QtWidgets
from PySide6.QtCore import Property, Signal


class ctkPathLineEdit(QtWidgets.QWidget):
    """A line for a path, with a button that would browse.

    As CTK's it tells of a path only where there is one: its validator wants a letter, so that an emptied line is known
    by validInputChanged alone.
    """

    currentPathChanged = Signal(str)
    validInputChanged = Signal(bool)
    Dirs = 1
    DontResolveSymlinks = 2

    def __init__(self, parent=None):
        super().__init__(parent)
        self._filters, self._options, self._valid = 0, 0, False
        self._line = QtWidgets.QLineEdit()
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._line)
        layout.addWidget(QtWidgets.QToolButton())
        self._line.textChanged.connect(self._tell)

    def _tell(self, text):
        was, self._valid = self._valid, bool(text)
        if text:
            self.currentPathChanged.emit(text)
        if was != self._valid:
            self.validInputChanged.emit(self._valid)

    def _path(self):
        return QtWidgets.QLineEdit.property(self._line, "text")

    def _take(self, path):
        QtWidgets.QLineEdit.setProperty(self._line, "text", path)

    currentPath = Property(str, _path, _take)
    filters = Property(int, lambda self: self._filters, lambda self, value: setattr(self, "_filters", value))
    options = Property(int, lambda self: self._options, lambda self, value: setattr(self, "_options", value))
