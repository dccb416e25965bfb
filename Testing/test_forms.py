"""The forms of the window: fields, tooltips, names, and that nothing written in them makes Slicer's panel wider."""

import xml.etree.ElementTree as ElementTree
from dataclasses import replace

import pytest

from conftest import ROOT

pytest.importorskip("slicer", reason="needs the package slicer-core")

import slicer
import slicer.util

import segment_window
from DiffSegLib.models.shipped import find, read_card
from DiffSegLib.scene import own_models
from segment_window import add_volume

host, client, window = segment_window.host, segment_window.client, segment_window.window  # fixtures
remembered = segment_window.remembered

FORMS = sorted((ROOT / "DiffSeg" / "Resources" / "UI").glob("*.ui"))


def test_every_named_parameter_of_the_forms_is_a_field(host):
    fields = set(host.module.DiffSegParameterNode.allParameters)
    for form in FORMS:
        tree = ElementTree.parse(form)
        named = {f.findtext("string") for f in tree.iter("property") if f.get("name") == "SlicerParameterName"}
        assert named <= fields, form.name


def test_every_control_has_a_tooltip():
    controls = (
        "QComboBox",
        "QSpinBox",
        "QDoubleSpinBox",
        "QCheckBox",
        "QPushButton",
        "QToolButton",
        "QSlider",
        "QLineEdit",
    )
    for form in FORMS:
        bare = [
            widget.get("name")
            for widget in ElementTree.parse(form).iter("widget")
            if widget.get("class") in controls or widget.get("class").startswith(("qMRMLNode", "ctkPath", "ctkDir"))
            if not any(p.get("name") == "toolTip" for p in widget.findall("property"))
        ]
        assert bare == [], form.name


def test_the_names_of_nodes_make_the_window_no_wider(host):
    """The panel of Slicer would stay as wide as the longest name of a series asks for."""
    widths = []
    for length in (1, 80):
        slicer.mrmlScene.Clear(0)
        add_volume(name="W" * length)
        for kind in ("Segmentation", "MarkupsROI"):
            slicer.mrmlScene.AddNewNodeByClass(f"vtkMRML{kind}Node", "W" * length)
        widget = host.open()
        widget.parent.resize(450, 4000)
        widget.evaluatePanel.ui.evaluateCollapsibleButton.collapsed = False
        widget.segmentPanel.channels.show(["T1", "T2"])
        widget.parent.show()
        settle(host)
        widths.append(widget.parent.layout().sizeHint().width())
        assert widget.segmentPanel.ui.inputSelector.width > widths[-1] / 3
        widget.parent.hide()
        host.close()
    assert widths[0] == widths[1] < 600


def settle(host):
    """Layouts tell each other of a new size from inside to outside, one in each turn of the event loop."""
    for _ in range(10):
        host.qt.processEvents()


def test_the_name_of_a_model_makes_the_window_no_wider(host, monkeypatch):
    name = "a network of three weeks on the cases of all our hospitals"
    card = replace(read_card(find("hippocampus")), name=name)
    monkeypatch.setattr(own_models, "remembered", lambda: {"/of/mine.safetensors": card})
    box = host.open().segmentPanel.ui.modelComboBox
    assert box.itemText(box.count - 1) == f"{name} (own file)"
    assert box.property("sizeHint").width() < box.fontMetrics().boundingRect(name).width() / 2
    host.close()


def test_no_line_of_text_makes_the_window_wider(host, window):
    """Slicer's panel is at least as wide as the module wants to be: the views beside it would jump."""
    sentence = "⚠ " + "The answer before was edited and is kept under another name, hidden. " * 5
    wrapped = [
        widget.get("name")
        for form in FORMS
        for widget in ElementTree.parse(form).iter("widget")
        if any(entry.get("name") == "wordWrap" for entry in widget.findall("property"))
    ]
    window.parent.resize(450, 4000)
    window.parent.show()
    for panel in window.panels:
        for name, widget in vars(panel.ui).items():
            if name.endswith("CollapsibleButton"):
                widget.collapsed = False
    settle(host)
    width, told = window.parent.layout().sizeHint().width(), []
    for panel in window.panels:
        for label in (getattr(panel.ui, name) for name in wrapped if hasattr(panel.ui, name)):
            label.visible, label.text = True, sentence
            settle(host)
            told.append(label.name)
            assert window.parent.layout().sizeHint().width() == width, label.name
            assert label.height >= label.heightForWidth(label.width) > 3 * label.fontMetrics().height(), "all is read"
    assert len(told) == len(wrapped) > 8
    window.parent.hide()


def test_no_two_forms_share_a_name():
    names = [w.get("name") for form in FORMS for w in ElementTree.parse(form).iter("widget") if w.get("name")]
    assert len(names) == len(set(names))
