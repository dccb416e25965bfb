"""ctkFittedTextBrowser."""

from PySide6 import QtWidgets


class ctkFittedTextBrowser(QtWidgets.QTextBrowser):
    """As high as its text in Slicer; here it may scroll."""
