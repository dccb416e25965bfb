"""qMRMLPlotWidget."""

from PySide6 import QtWidgets


class qMRMLPlotWidget(QtWidgets.QWidget):
    """Remembers the view node; draws nothing."""

    def __init__(self, parent=None):
        super().__init__(parent)
        self._view, self._bar = None, QtWidgets.QWidget(self)

    def setMRMLScene(self, scene):
        pass

    def plotController(self):
        return self._bar

    def mrmlPlotViewNode(self):
        return self._view

    def setMRMLPlotViewNode(self, node):
        self._view = node
