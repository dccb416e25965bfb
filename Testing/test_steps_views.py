"""What the section Steps makes of a run: nodes of the steps, charts, the uncertainty; and which run it shows."""

import numpy as np
import pytest

pytest.importorskip("slicer", reason="needs the package slicer-core")

import slicer
import slicer.util

import steps_window
from DiffSegLib.scene import plots, uncertainty
from DiffSegLib.scene.process import WorkerClient
from steps_window import MASK, MASKS, add_volume, arrive, finish, held, started

host, window, panel, run = steps_window.host, steps_window.window, steps_window.panel, steps_window.run  # fixtures


def test_keep_steps_and_as_sequence_make_nodes_and_say_where_they_are(panel, run):
    panel.ui.keepStepsButton.click()
    assert "“scan DiffSeg step 1” to “scan DiffSeg step 5”" in panel.ui.stepsStatusLabel.text and len(run.steps) == 5
    before = slicer.mrmlScene.GetNumberOfNodes()
    panel.ui.keepStepsButton.click()
    assert slicer.mrmlScene.GetNumberOfNodes() == before
    panel.ui.sequenceButton.click()
    assert "the sequence “scan DiffSeg steps" in panel.ui.stepsStatusLabel.text
    last = slicer.util.getNodesByClass("vtkMRMLSegmentationNode")[-1]
    assert not last.GetDisplayVisibility() and f"“{last.GetName()}”, which is hidden" in panel.ui.stepsStatusLabel.text
    assert slicer.util.getNodesByClass("vtkMRMLSequenceNode")[0].GetNumberOfDataNodes() == 5
    panel.ui.stepSlider.value = 2
    assert panel.ui.stepsStatusLabel.text == ""


def test_the_charts_are_made_when_they_are_opened_and_follow_the_run(window, panel, run):
    assert slicer.util.getNodesByClass("vtkMRMLPlotChartNode") == []
    panel.ui.chartsCollapsibleButton.collapsed = False
    view = panel._plot.mrmlPlotViewNode()
    table = view.GetPlotChartNode().GetNthPlotSeriesNode(0).GetTableNode()
    assert view.GetPlotChartNode().GetYAxisTitle() == "Dice to the step before"
    assert panel._plot.plotController().isHidden()
    panel.ui.chartComboBox.setCurrentIndex(1)
    assert view.GetPlotChartNode().GetYAxisTitle() == "Volume (ml)"
    panel._drawnAt = 0.0
    run = started(window, run.volume)
    arrive(window, run)
    assert table.GetTable().GetNumberOfRows() == 1
    finish(window, run)
    assert table.GetTable().GetNumberOfRows() == 5


def test_open_charts_live_through_a_closed_scene(window, panel, run):
    panel.ui.chartsCollapsibleButton.collapsed = False
    slicer.mrmlScene.Clear(0)
    finish(window, started(window))
    chart = panel._plot.mrmlPlotViewNode().GetPlotChartNode()
    assert chart.GetScene() is slicer.mrmlScene and chart.GetNumberOfPlotSeriesNodes() == 2
    assert len(slicer.util.getNodesByClass("vtkMRMLPlotChartNode")) == 2


def test_where_there_is_no_plot_widget_there_are_no_charts(host, window, monkeypatch):
    monkeypatch.delattr(slicer, "qMRMLPlotWidget")
    panel = host.open().stepsPanel
    assert panel.ui.chartsCollapsibleButton.isHidden()
    panel.ui.chartsCollapsibleButton.collapsed = False
    assert slicer.util.getNodesByClass("vtkMRMLPlotChartNode") == []


def test_the_uncertainty_is_laid_over_the_slices_and_taken_away(window, panel):
    view = slicer.vtkMRMLSliceCompositeNode()
    view.SetLayoutName("Red")
    view = slicer.mrmlScene.AddNode(view)
    run = started(window)
    run.uncertainty = np.random.default_rng(0).uniform(0, 1, MASK.shape).astype(np.float32)
    node = uncertainty.show(run)
    finish(window, run)
    assert panel.ui.showUncertaintyCheckBox.enabled and not panel.ui.showUncertaintyCheckBox.checked
    panel.ui.showUncertaintyCheckBox.click()
    assert view.GetForegroundVolumeID() == node.GetID()
    panel.ui.showUncertaintyCheckBox.click()
    assert view.GetForegroundVolumeID() is None
    panel.ui.showUncertaintyCheckBox.click()
    finish(window, started(window, run.volume))  # of one sample
    assert not panel.ui.showUncertaintyCheckBox.enabled and not panel.ui.showUncertaintyCheckBox.checked
    assert view.GetForegroundVolumeID() is None


def test_a_real_run_reaches_the_section(host, window, tiny_model):
    client = WorkerClient()
    window.logic._client = client
    try:
        window.segmentPanel.useModelFile(str(tiny_model))
        window.segmentPanel.ui.inputSelector.setCurrentNode(add_volume())
        window.segmentPanel.ui.applyButton.click()
        run = window.segmentPanel.run
        host.wait_for(lambda: run.finished)
    finally:
        client.shutdown()
    assert window.stepsPanel.run is run and ": step 5 of 5, the answer" in window.stepsPanel.ui.stepLabel.text
    window.stepsPanel.ui.stepSlider.value = 1
    np.testing.assert_array_equal(held(run), run.masks[0])


def test_every_chart_of_the_list_is_one_that_is_made(panel, run):
    listed = [panel.ui.chartComboBox.itemData(n) for n in range(panel.ui.chartComboBox.count)]
    assert listed == list(plots.update(run))


def test_back_at_an_earlier_volume_its_steps_are_there_again(window, panel, monkeypatch):
    from DiffSegLib.scene.panels import steps as section

    first, second = (finish(window, started(window, add_volume(name))) for name in ("first", "second"))
    assert panel.run is second
    window.parameterNode.inputVolume = first.volume
    assert panel.run is first and panel.ui.stepLabel.text.startswith("first DiffSeg: step 5 of 5")
    np.testing.assert_array_equal(held(first), MASKS[-1])
    window.parameterNode.inputVolume = second.volume
    assert panel.run is second
    monkeypatch.setattr(section, "KEPT_BYTES", 1)
    window.tell("onRunFinished", second)
    window.parameterNode.inputVolume = first.volume
    assert panel.run is second, "the masks of the first one were let go"


def test_while_a_run_goes_on_its_steps_stay_whatever_volume_is_chosen(window, panel):
    done = finish(window, started(window, add_volume("done")))
    running = started(window, add_volume("running"))
    window.parameterNode.inputVolume = done.volume
    assert panel.run is running
