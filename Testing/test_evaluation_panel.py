"""Comparing two segmentations in the window."""

import contextlib

import numpy as np
import pytest

from conftest import blob_case

pytest.importorskip("slicer", reason="needs the package slicer-core")

import slicer
import slicer.util

import comparison
from comparison import AFFINE, coarse_grid, masks, segmentation
from DiffSegLib.errors import DiffSegError
from DiffSegLib.labels import Label
from DiffSegLib.scene import nodes

host, client, window = comparison.host, comparison.client, comparison.window  # fixtures
logic, volume, pair = comparison.logic, comparison.volume, comparison.pair


def evaluate(host, window):
    panel = window.evaluatePanel
    panel.ui.evaluateButton.click()
    host.wait_for(lambda: panel.ui.evaluateButton.text == "Evaluate")
    return panel.evaluation


def choose(window, pair):
    window.evaluatePanel.ui.evaluatePredictionSelector.setCurrentNode(pair[0])
    window.evaluatePanel.ui.evaluateReferenceSelector.setCurrentNode(pair[1])


def test_evaluate_can_be_pressed_once_two_are_chosen(window, pair):
    ui = window.evaluatePanel.ui
    window.parameterNode.evaluatePrediction = window.parameterNode.evaluateReference = None
    assert not ui.evaluateButton.enabled and "Choose two segmentations" in ui.evaluateStatusLabel.text
    ui.evaluatePredictionSelector.setCurrentNode(pair[0])
    assert not ui.evaluateButton.enabled
    ui.evaluateReferenceSelector.setCurrentNode(pair[1])
    assert ui.evaluateButton.enabled and not ui.evaluateChartButton.enabled


def test_the_button_gives_a_table_a_sentence_and_a_chart(host, window, pair):
    choose(window, pair)
    ui = window.evaluatePanel.ui
    ui.evaluateButton.click()
    assert ui.evaluateButton.text == "Cancel"
    host.wait_for(lambda: ui.evaluateButton.text == "Evaluate")
    result = window.evaluatePanel.evaluation
    dice = f"first Dice {result.segments['first']['dice']:.3f}, HD95"
    assert dice in ui.evaluateStatusLabel.text and "second Dice" in ui.evaluateStatusLabel.text
    assert ui.evaluateTableView.mrmlTableNode() is result.table
    ui.evaluateChartButton.click()
    assert len(slicer.util.getNodesByClass("vtkMRMLPlotChartNode")) == 1


def test_every_setting_reaches_the_comparison(host, window, pair):
    choose(window, pair)
    other = coarse_grid()
    window.evaluatePanel.ui.evaluateVolumeSelector.setCurrentNode(other)
    window.evaluatePanel.ui.evaluateToleranceSpinBox.value = 2.5
    result = evaluate(host, window)
    assert result.tolerance == 2.5 and "grid of other grid" in window.evaluatePanel.ui.evaluateStatusLabel.text
    assert result.segments["first"] == window.logic.evaluate(*pair, volume=other, tolerance=2.5).segments["first"]


def test_empty_and_unmatched_segments_are_said_in_the_status_line(host, window, volume, pair):
    labels = tuple(Label(n, name) for n, name in enumerate(("first", "second", "third", "fourth"), 1))
    prediction = masks()[0]
    prediction[prediction == 2] = 0
    choose(window, (segmentation("p", prediction, volume, labels), pair[1]))
    evaluate(host, window)
    text = window.evaluatePanel.ui.evaluateStatusLabel.text
    assert "Empty in the prediction: second." in text and "Only in p and not compared: third, fourth." in text


def test_many_segments_are_summed_up(host, window, volume):
    labels = tuple(Label(n, f"part {n}") for n in range(1, 7))
    parts = np.zeros(blob_case(0)[0].shape, dtype=np.uint8)
    for n in range(1, 7):
        parts[2:6, 3 * n : 3 * n + 2, 4:9] = n
    choose(window, (segmentation("p", parts, volume, labels), segmentation("r", parts, volume, labels)))
    evaluate(host, window)
    assert window.evaluatePanel.ui.evaluateStatusLabel.text == "Done: mean Dice 1.000 of 6 segments."


def test_a_mistake_is_said_in_the_status_line(window, pair):
    choose(window, (pair[0], pair[0]))
    window.evaluatePanel.ui.evaluateButton.click()
    ui = window.evaluatePanel.ui
    assert ui.evaluateStatusLabel.text.startswith("⚠ Not done: automatic is both") and ui.evaluateButton.enabled


def test_after_a_mistake_nothing_looks_like_its_result(host, window, pair):
    choose(window, pair)
    table = evaluate(host, window).table
    ui = window.evaluatePanel.ui
    assert not ui.evaluateTableView.isHidden() and ui.evaluateChartButton.enabled
    choose(window, (pair[0], pair[0]))
    ui.evaluateButton.click()
    assert ui.evaluateTableView.isHidden() and not ui.evaluateChartButton.enabled
    choose(window, pair)
    assert evaluate(host, window).table is table
    assert not ui.evaluateTableView.isHidden() and ui.evaluateChartButton.enabled


def test_the_same_button_cancels(host, window, client, pair, volume, tiny_model):
    client.start()
    run = window.logic.segment(volume, model=str(tiny_model), steps=100, keepSteps=False, wait=False)
    choose(window, pair)
    ui = window.evaluatePanel.ui
    ui.evaluateButton.click()
    ui.evaluateButton.click()
    host.wait_for(lambda: ui.evaluateButton.text == "Evaluate")
    assert "cancelled" in ui.evaluateStatusLabel.text and not ui.evaluateStatusLabel.text.startswith("Not done")
    host.wait_for(lambda: run.finished)
    assert run.error is None and evaluate(host, window).error is None


def test_a_table_that_was_deleted_cannot_be_charted(host, window, pair):
    choose(window, pair)
    slicer.mrmlScene.RemoveNode(evaluate(host, window).table)
    window.evaluatePanel.ui.evaluateChartButton.click()
    assert "evaluate first" in window.evaluatePanel.ui.evaluateStatusLabel.text
    assert not window.evaluatePanel.ui.evaluateChartButton.enabled


def test_closing_the_scene_during_a_comparison_leaves_nothing_behind(host, window, client, pair):
    choose(window, pair)
    window.evaluatePanel.ui.evaluateButton.click()
    result = window.evaluatePanel.evaluation
    slicer.mrmlScene.Clear(0)
    host.wait_for(lambda: result.finished and not client.busy)
    assert slicer.util.getNodesByClass("vtkMRMLTableNode") == [] and isinstance(result.error, DiffSegError)
    assert window.evaluatePanel.ui.evaluateTableView.mrmlTableNode() is None


def test_a_window_that_closes_during_a_comparison_is_not_called_any_more(host, window, client, pair):
    choose(window, pair)
    window.evaluatePanel.ui.evaluateButton.click()
    result = window.evaluatePanel.evaluation
    window.cleanup()
    window.evaluatePanel.ui = None
    host.wait_for(lambda: result.finished)
    host._windows.clear()


def test_a_fresh_segmentation_is_offered_as_prediction(host, window, volume, tiny_model):
    window.parameterNode.evaluatePrediction = None
    window.segmentPanel.useModelFile(str(tiny_model))
    window.segmentPanel.ui.inputSelector.setCurrentNode(volume)
    window.segmentPanel.ui.applyButton.click()
    host.wait_for(lambda: window.segmentPanel.run.finished)
    assert window.parameterNode.evaluatePrediction is window.segmentPanel.run.node


def choose_two(window):
    volume = nodes.make_volume("scan", blob_case(0)[0], AFFINE)
    prediction, reference = masks()
    window.parameterNode.evaluatePrediction = segmentation("automatic", prediction, volume)
    window.parameterNode.evaluateReference = segmentation("by hand", reference, volume)


def test_whatever_goes_wrong_the_button_is_ready_again(host, window, monkeypatch):
    panel = window.evaluatePanel
    choose_two(window)
    monkeypatch.setattr(window.logic, "evaluate", lambda *_a, **_k: (_ for _ in ()).throw(MemoryError("no room")))
    with contextlib.suppress(MemoryError):
        panel.onEvaluate()
    assert panel.ui.evaluateButton.text == "Evaluate" and panel.ui.evaluateButton.enabled
    assert "no room" in panel.ui.evaluateStatusLabel.text


def test_the_end_of_a_comparison_of_a_closed_scene_is_not_that_of_the_next(host, window):
    panel = window.evaluatePanel
    choose_two(window)
    panel.ui.evaluateButton.click()
    first = panel.evaluation
    slicer.mrmlScene.Clear(0)
    choose_two(window)
    panel.ui.evaluateButton.click()
    second = panel.evaluation
    host.wait_for(lambda: first.finished)
    assert second.finished or panel.ui.evaluateButton.text == "Cancel"
    host.wait_for(lambda: second.finished)
    assert second.error is None and "Done" in panel.ui.evaluateStatusLabel.text
