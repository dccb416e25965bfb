"""The CTK and qMRML widgets that the module's forms use, on PySide6: one file each, found by themselves."""

import importlib
import pkgutil

from PySide6 import QtWidgets

PREFIXES = ("ctk", "qMRML", "qSlicer")


def _found():
    for module in pkgutil.iter_modules(__path__):
        for name, kind in vars(importlib.import_module(f"{__name__}.{module.name}")).items():
            if name.startswith(PREFIXES) and isinstance(kind, type):
                yield kind


CUSTOM = tuple(_found())
# names that Slicer's own parameter connectors mention in annotations
NAMES = """
ctkCheckBox ctkCheckablePushButton ctkDoubleSlider ctkDoubleSpinBox ctkComboBox ctkRangeWidget ctkSliderWidget
ctkDoubleRangeSlider ctkDirectoryButton ctkColorPickerButton ctkMessageBox ctkPathLineEdit qMRMLSliderWidget
qMRMLSpinBox qMRMLRangeWidget qMRMLSegmentsTableView qMRMLCheckableNodeComboBox qMRMLSubjectHierarchyTreeView
qSlicerWidget
"""
_own = {kind.__name__ for kind in CUSTOM}
EMPTY = tuple(type(name, (QtWidgets.QWidget,), {}) for name in NAMES.split() if name not in _own)
