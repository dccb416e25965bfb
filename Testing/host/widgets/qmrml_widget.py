"""qMRMLWidget."""

from PySide6 import QtWidgets
from PySide6.QtCore import Signal


class qMRMLWidget(QtWidgets.QWidget):
    """Passes the scene to its children, as the form's connections do in Slicer."""

    mrmlSceneChanged = Signal(object)
    isEntered = False
    module = None  # the Python widget that stands in it, as in a qSlicerScriptedLoadableModuleWidget

    def enter(self):
        self.isEntered = True
        self.module.enter()

    def exit(self):
        self.isEntered = False
        self.module.exit()

    def setMRMLScene(self, scene):
        self.mrmlSceneChanged.emit(scene)
        for child in self.findChildren(QtWidgets.QWidget):
            if child is not self and hasattr(child, "setMRMLScene"):
                child.setMRMLScene(scene)
