"""The models in the section Segment: listed, chosen, browsed, remembered, and their cards."""

import types
from dataclasses import replace

import pytest

from conftest import blob_case

pytest.importorskip("slicer", reason="needs the package slicer-core")


import segment_window
from DiffSegLib.models import library
from DiffSegLib.models.shipped import find, read_card
from DiffSegLib.scene import own_models
from segment_window import add_volume, choose, press
from tiny_models import FLAT, write_model

host, client = segment_window.host, segment_window.client  # fixtures
remembered, window, panel = segment_window.remembered, segment_window.window, segment_window.panel


def test_the_models_card_is_shown_in_the_module(panel):
    panel.ui.modelComboBox.setCurrentIndex(panel.ui.modelComboBox.findData("hippocampus"))
    assert panel.ui.cardBrowser.isHidden()
    panel.ui.cardButton.checked = True
    text = panel.ui.cardBrowser.toPlainText()
    assert not panel.ui.cardBrowser.isHidden()
    for words in (
        "Anterior and posterior hippocampus in a T1 MR crop",
        "Not for: Not for diagnosis",
        "Structures: Anterior hippocampus, Posterior hippocampus",
        "about 35 × 50 × 36 mm",
        "Medical Segmentation Decathlon",
        "181 cases",
        f"Dice {read_card(find('hippocampus')).scores['dice']}",
        "Licence: CC BY-SA 4.0",
        "Antonelli",
    ):
        assert words in text
    panel.ui.modelComboBox.setCurrentIndex(0 if panel.ui.modelComboBox.currentIndex else 1)
    assert "first, second" in panel.ui.cardBrowser.toPlainText()
    panel.ui.cardButton.checked = False
    assert panel.ui.cardBrowser.isHidden()


def test_what_stands_in_a_card_is_text_and_no_page(host, tiny_model):
    from DiffSegLib.scene.panels.card_page import card_page

    card = replace(read_card(tiny_model), description="<img src=x> & more", training={"best_validation_dice": 0.5})
    page = card_page(card)
    assert "&lt;img src=x&gt; &amp; more" in page and "<img" not in page and "Dice 0.5 on its validation cases" in page


def test_own_models_are_remembered_and_those_that_are_gone_left_out(host, client, panel, remembered, tmp_path):
    kept, gone = (write_model(tmp_path / f"{name}.safetensors") for name in ("kept", "gone"))
    for path in (kept, gone, kept):
        panel.useModelFile(str(path))
    assert list(own_models.remembered())[-2:] == [str(gone), str(kept)]
    gone.unlink()
    other = host.open()
    listed = [other.segmentPanel.ui.modelComboBox.itemData(n) for n in range(other.segmentPanel.ui.modelComboBox.count)]
    assert str(kept) in listed and str(gone) not in listed and listed.count(str(kept)) == 1


def test_settings_that_are_damaged_are_no_models(remembered):
    for text in ("no JSON", '{"a": 1}', "[1, 2]", ""):
        remembered[own_models.KEY] = text
        assert own_models.remembered() == {}


def test_browse_takes_a_file_of_ones_own(panel, tmp_path, monkeypatch):
    """On Windows Qt writes a path with other slashes than Python; it is the same file, of a named model as well."""
    import qt

    path = write_model(tmp_path / "mine.safetensors")
    parents = []
    picker = types.SimpleNamespace(
        getOpenFileName=lambda parent, *_: parents.append(parent) or f"{tmp_path}//mine.safetensors"
    )
    monkeypatch.setattr("DiffSegLib.scene.panels.model_choice.qt", types.SimpleNamespace(QFileDialog=picker, Qt=qt.Qt))
    panel.ui.browseButton.click()
    assert panel.parameters.model == str(path) and panel.ui.modelComboBox.currentText == "mine (own file)"
    assert parents == [panel.ui.browseButton], "a dialog without a parent may open behind Slicer's window"
    monkeypatch.setattr(picker, "getOpenFileName", lambda *_: ("", ""))
    panel.ui.browseButton.click()
    assert panel.parameters.model == str(path)
    named = library.add(path, "by name")
    panel.useModelFile(f"{named.parent}//{named.name}")
    assert panel.parameters.model == "by name"
    named.unlink()


def test_a_scene_with_a_model_that_is_not_here_says_so_and_goes_on(host, panel):
    before = panel.parameters.model
    panel.parameters.model = "/no/such/model.safetensors"
    assert "/no/such/model.safetensors: there is no such model file" in panel.ui.statusLabel.text
    assert panel.parameters.model == before
    choose(panel, add_volume())
    assert press(host, panel).error is None


def test_a_model_that_is_wanted_is_chosen(window, panel, tmp_path):
    path = write_model(tmp_path / "new.safetensors")
    window.tell("onModelWanted", str(path))
    assert panel.parameters.model == str(path)


def test_a_model_that_was_trained_meanwhile_is_listed_and_the_chosen_one_stays(window, panel, tmp_path):
    chosen, count = panel.parameters.model, panel.ui.modelComboBox.count
    path = library.add(write_model(tmp_path / "new.safetensors"), "my liver")
    window.tell("onModelsChanged", str(path))
    assert panel.parameters.model == chosen and panel.ui.modelComboBox.count == count + 1
    window.tell("onModelWanted", str(path))
    assert panel.parameters.model == "my liver"
    path.unlink()


def test_a_model_of_single_slices(host, panel, tmp_path):
    panel.useModelFile(str(write_model(tmp_path / "flat.safetensors", settings=FLAT)))
    choose(panel, add_volume())
    assert press(host, panel) is None and "has 18 slices" in panel.ui.statusLabel.text
    choose(panel, add_volume(blob_case(0)[0][9:10], "slice"))
    assert press(host, panel).error is None
