"""ctkFittedTextBrowser."""

from PySide6 import QtCore, QtWidgets


class ctkFittedTextBrowser(QtWidgets.QTextBrowser):
    """As high as its text; the height follows the width."""

    def sizeHint(self):
        self.document().setTextWidth(max(self.viewport().width(), 200))
        return QtCore.QSize(200, int(self.document().size().height()) + 4)

    minimumSizeHint = sizeHint

    def resizeEvent(self, event):
        super().resizeEvent(event)
        self.updateGeometry()
