"""No misspelt property, signal or method of Qt, CTK or Slicer's widgets: against a list made from their headers.

With DIFFSEG_SLICER_SOURCE and DIFFSEG_CTK_SOURCE naming checkouts, the list itself is held against the headers.
"""

import json
import os
from pathlib import Path

import pytest

from conftest import ROOT
from host import api

pytest.importorskip("PySide6.QtUiTools", reason="needs the package PySide6_Essentials", exc_type=ImportError)
from PySide6 import QtCore, QtGui, QtWidgets

MANIFEST = json.loads((ROOT / "Testing" / "fixtures" / "slicer_api.json").read_text())
USES = api.all_uses(ROOT)


def qt_class(name):
    return next((getattr(m, name) for m in (QtWidgets, QtCore, QtGui) if hasattr(m, name)), None)


def problem(use):
    """What is wrong with a use, or None."""
    if use.kind == "widget":
        return f"{use.where}: {use.name} is in no form"
    owner = use.owner
    while owner in MANIFEST:
        entry = MANIFEST[owner]
        if use.kind == "property" and use.name in entry["properties"]:
            return None
        if use.kind == "method" and use.name in entry["methods"]:
            return None
        if use.kind == "signal" and use.name in entry["signals"]:
            return None
        owner = entry["base"]
    kind = qt_class(owner)
    if kind is None:
        return f"{use.where}: nothing is known of the class {use.owner}"
    properties = set()
    if hasattr(kind, "staticMetaObject"):
        meta = kind.staticMetaObject
        properties = {meta.property(n).name() for n in range(meta.propertyCount())}
        if use.kind == "signal":
            signature = bytes(QtCore.QMetaObject.normalizedSignature(use.name).data()).decode()
            return None if meta.indexOfSignal(signature) >= 0 else f"{use.where}: {use.owner} has no signal {use.name}"
    if use.kind == "property":
        known = use.name in properties or (use.name[:1].isupper() and hasattr(kind, use.name))  # an enum's value
        return None if known else f"{use.where}: {use.owner} has no property {use.name}"
    if use.name in properties:
        return f"{use.where}: {use.owner}.{use.name} is a property, and PythonQt cannot call it"
    return None if hasattr(kind, use.name) else f"{use.where}: {use.owner} has no method {use.name}"


def test_every_name_of_a_widget_that_the_module_uses_exists():
    assert len(USES) > 50
    assert [text for text in map(problem, USES) if text] == []


@pytest.mark.parametrize(
    "use",
    [
        api.Use("QSlider", "signal", "valuechanged(int)", "x"),
        api.Use("QSpinBox", "method", "value", "x"),
        api.Use("QSpinBox", "property", "valu", "x"),
        api.Use("qMRMLNodeComboBox", "signal", "currentNodeChange(vtkMRMLNode*)", "x"),
        api.Use("qMRMLNodeComboBox", "method", "currentNod", "x"),
        api.Use("ctkCollapsibleButton", "property", "colapsed", "x"),
    ],
    ids=lambda use: f"{use.owner}.{use.name}",
)
def test_a_misspelt_name_is_found(use):
    assert problem(use)


def test_the_list_says_what_the_headers_say():
    names = ("DIFFSEG_SLICER_SOURCE", "DIFFSEG_CTK_SOURCE")
    if not all(os.environ.get(name) for name in names):
        pytest.skip(f"needs {' and '.join(names)}: checkouts of Slicer and CTK")
    assert api.read_headers([Path(os.environ[name]) for name in names], set(MANIFEST)) == MANIFEST
