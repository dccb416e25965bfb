"""The section Steps: every control is moved, while a run goes on and after it, and whatever becomes of its nodes."""

import json

import numpy as np
import pytest

from conftest import blob_case

pytest.importorskip("slicer", reason="needs the package slicer-core")

import slicer
import slicer.util
from vtk.util.numpy_support import vtk_to_numpy

import one_window
from DiffSegLib.errors import Cancelled
from DiffSegLib.labels import Label
from DiffSegLib.scene import edits, nodes, plots, steps, uncertainty
from DiffSegLib.scene.logic import Segmentation
from DiffSegLib.scene.process import WorkerClient
from host.application import need_window

need_window()

host = one_window.host  # fixtures

LABELS = (Label(1, "first", (0.9, 0.6, 0.3)), Label(2, "second", (0.2, 0.3, 0.9)))
MASK = blob_case(0)[1]
MASKS = [np.roll(MASK, n, axis=1) for n in (4, 3, 2, 1, 0)]
NOISE = [1.0, 0.75, 0.5, 0.25, 0.001]


@pytest.fixture
def window(host):
    slicer.mrmlScene.Clear(0)
    widget = host.open()
    yield widget
    host.close()


@pytest.fixture
def panel(window):
    return window.stepsPanel


def add_volume(name="scan", seed=0):
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
    slicer.util.updateVolumeFromArray(node, blob_case(seed)[0])
    return node


def started(window, volume=None):
    """A run that was started, with its segmentation, still without a mask."""
    volume = volume or add_volume()
    run = Segmentation("segment-1", volume, labels=LABELS, stepCount=5)
    run.node = nodes.make_segmentation(volume, f"{volume.GetName()} DiffSeg", f"{volume.GetName()} DiffSeg", LABELS)
    window.tell("onRunStarted", run)
    return run


def arrive(window, run):
    """The next mask comes."""
    run.noise.append(NOISE[len(run.masks)])
    run.masks.append(MASKS[len(run.masks)])
    if len(run.masks) == 1:
        nodes.write_labels(run.node, run.masks[0], run.volume, LABELS)
    window.tell("onRunStep", run)


def finish(window, run):
    while len(run.masks) < 5:
        arrive(window, run)
    run.mask, run.finished, run.provenance = run.masks[-1], True, {"engine": "DiffSeg", "seed": 1, "steps": 5}
    nodes.write_labels(run.node, run.mask, run.volume, LABELS)
    steps.finish(run)
    window.tell("onRunFinished", run)
    return run


@pytest.fixture
def run(window):
    return finish(window, started(window))


def held(run):
    return edits.current_labels(run.node, run.volume, LABELS)


def edit(run):
    image = run.node.GetSegmentation().GetNthSegment(0).GetRepresentation("Binary labelmap")
    vtk_to_numpy(image.GetPointData().GetScalars())[:5] = 2
    image.Modified()


# ---- the slider


def test_before_a_run_there_is_nothing_to_move(panel):
    ui = panel.ui
    for widget in (ui.stepSlider, ui.playButton, ui.keepStepsButton, ui.sequenceButton, ui.showUncertaintyCheckBox):
        assert not widget.enabled
    assert ui.keepEditButton.isHidden() and "Segment a volume" in ui.stepLabel.text


def test_the_range_grows_with_each_step_and_follows_the_newest(window, panel):
    run = started(window)
    assert not panel.ui.stepSlider.enabled
    for number in range(1, 6):
        arrive(window, run)
        assert panel.ui.stepSlider.maximum == panel.ui.stepSlider.value == number
        assert panel.ui.stepSlider.enabled == (number > 1)
        np.testing.assert_array_equal(held(run), MASKS[number - 1])
        assert panel.ui.stepLabel.text.startswith(f"scan DiffSeg: step {number} of 5")


def test_a_step_that_the_user_chose_stays_while_others_arrive_and_the_end_shows_the_answer(window, panel):
    run = started(window)
    for _ in range(3):
        arrive(window, run)
    panel.ui.stepSlider.value = 2
    arrive(window, run)
    assert panel.ui.stepSlider.value == 2 and panel.ui.stepSlider.maximum == 4
    np.testing.assert_array_equal(held(run), MASKS[1])
    panel.ui.stepSlider.value = 4  # back at the end: follow again
    arrive(window, run)
    assert panel.ui.stepSlider.value == 5
    panel.ui.stepSlider.value = 1
    finish(window, run)
    assert panel.ui.stepSlider.value == 5
    np.testing.assert_array_equal(held(run), MASKS[-1])


def test_whoever_leaves_the_module_leaves_the_answer_behind(window, panel, run):
    panel.ui.stepSlider.value = 2
    np.testing.assert_array_equal(held(run), MASKS[1])
    assert json.loads(run.node.GetAttribute("DiffSeg.Json"))["step"] == 2, "what is saved now says what it is"
    panel.ui.playButton.checked = True
    window.parent.exit()
    np.testing.assert_array_equal(held(run), MASKS[-1])
    assert "step" not in json.loads(run.node.GetAttribute("DiffSeg.Json"))
    assert panel.ui.stepSlider.value == 5 and not panel.ui.playButton.checked


def test_the_words_say_whose_result_it_is_what_changed_and_sizes(panel, run):
    panel.ui.stepSlider.value = 2
    first, change, sizes = panel.ui.stepLabel.text.split("\n")
    assert first == f"{run.node.GetName()}: step 2 of 5, not the answer"
    a, b = MASKS[0], MASKS[1]
    count = int((a != b).sum())
    assert (
        count
        and change == f"{count} voxels ({100 * count / (b > 0).sum():.1f} % of the structures) changed since step 1."
    )
    assert sizes == ", ".join(f"{label.name} {(b == label.value).sum() / 1000:.2f} ml" for label in LABELS)
    dice = np.mean([2 * ((a == v) & (b == v)).sum() / ((a == v).sum() + (b == v).sum()) for v in (1, 2)])
    assert f"75 % noise. Dice to step 1: {dice:.3f}." in panel.ui.stepLabel.toolTip
    panel.ui.stepSlider.value = 1
    assert "The first answer, from the image and pure noise." in panel.ui.stepLabel.text
    assert "At this step 100 % noise." in panel.ui.stepLabel.toolTip
    panel.ui.stepSlider.value = 5
    assert panel.ui.stepLabel.text.startswith(f"{run.node.GetName()}: step 5 of 5, the answer")


def test_a_step_that_changed_nothing_says_so(window, panel):
    run = Segmentation("n", add_volume("same"), labels=tuple(LABELS), masks=[MASK, MASK], finished=True)
    window.tell("onRunFinished", run)
    assert "same: step 2 of 2, the answer\nNothing changed since step 1" in panel.ui.stepLabel.text


def test_of_many_structures_some_are_named(window, panel):
    volume = add_volume("many")
    run = Segmentation("n", volume, labels=tuple(Label(v, f"part {v}") for v in range(1, 10)), masks=[MASK, MASK])
    run.finished = True
    window.tell("onRunFinished", run)
    assert "part 6 0.00 ml, and 3 more" in panel.ui.stepLabel.text


def test_only_while_the_slider_moves_is_a_large_volumes_surface_left_out(panel, run, monkeypatch):
    monkeypatch.setattr(steps, "LIVE_VOXELS", MASK.size - 1)
    run.node.CreateClosedSurfaceRepresentation()
    segmentation = run.node.GetSegmentation()
    panel.ui.stepSlider.value = 4  # by a key
    assert segmentation.ContainsRepresentation("Closed surface")
    panel.ui.stepSlider.sliderDown = True
    panel.ui.stepSlider.value = 2
    assert not segmentation.ContainsRepresentation("Closed surface")
    np.testing.assert_array_equal(held(run), MASKS[1])
    panel.ui.stepSlider.sliderDown = False  # emits sliderReleased
    assert segmentation.ContainsRepresentation("Closed surface")


def test_play_shows_every_step_from_the_first_and_stops_at_the_answer(host, panel, run):
    panel._timer.setInterval(1)
    seen = []
    panel.connect(panel.ui.stepSlider, "valueChanged(int)", lambda step: seen.append(step))
    panel.ui.playButton.click()
    assert panel.ui.playButton.text == "Stop"
    host.wait_for(lambda: not panel.ui.playButton.checked)
    assert seen == [1, 2, 3, 4, 5] and panel.ui.playButton.text == "Play" and not panel._timer.active
    np.testing.assert_array_equal(held(run), MASKS[4])


def test_play_starts_where_the_slider_stands_and_can_be_stopped(host, panel, run):
    panel._timer.setInterval(1)
    panel.ui.stepSlider.value = 3
    panel.ui.playButton.click()
    assert panel.ui.stepSlider.value == 3
    host.wait_for(lambda: panel.ui.stepSlider.value == 4)
    panel.ui.playButton.click()
    assert not panel._timer.active and panel.ui.stepSlider.value in (4, 5)


def test_leaving_the_module_stops_the_playing(window, panel, run):
    panel.ui.playButton.click()
    window.parent.exit()
    assert not panel._timer.active and not panel.ui.playButton.checked


# ---- edits


def test_an_edit_stops_the_slider_and_the_button_keeps_it(panel, run):
    edit(run)
    mine, edited = held(run).copy(), run.node
    panel.ui.stepSlider.value = 2
    np.testing.assert_array_equal(held(run), mine)
    assert "“scan DiffSeg” was edited" in panel.ui.stepsStatusLabel.text and not panel.ui.keepEditButton.isHidden()
    panel.ui.keepEditButton.click()
    assert "“scan DiffSeg edited”" in panel.ui.stepsStatusLabel.text and panel.ui.keepEditButton.isHidden()
    assert run.node is not edited
    np.testing.assert_array_equal(edits.current_labels(edited, run.volume, LABELS), mine)
    panel.ui.stepSlider.value = 2
    np.testing.assert_array_equal(held(run), MASKS[1])
    assert panel.ui.stepsStatusLabel.text == ""


def test_playing_over_an_edit_stops(panel, run):
    edit(run)
    panel.ui.playButton.click()
    assert not panel.ui.playButton.checked and not panel._timer.active and not panel.ui.keepEditButton.isHidden()


def test_an_edit_while_steps_arrive_is_kept(window, panel):
    run = started(window)
    arrive(window, run)
    edit(run)
    mine = held(run).copy()
    arrive(window, run)
    np.testing.assert_array_equal(held(run), mine)
    assert "The run goes on in a new one" in panel.ui.stepsStatusLabel.text and panel.ui.keepEditButton.isHidden()


# ---- what becomes of the nodes


def test_a_removed_segmentation_is_said_and_a_new_run_works(window, panel, run):
    slicer.mrmlScene.RemoveNode(run.node)
    panel.ui.stepSlider.value = 2
    assert "was removed from the scene" in panel.ui.stepsStatusLabel.text and not panel.ui.stepSlider.enabled
    again = finish(window, started(window, run.volume))
    panel.ui.stepSlider.value = 2
    np.testing.assert_array_equal(held(again), MASKS[1])
    assert panel.ui.stepsStatusLabel.text == ""


def test_without_its_volume_the_steps_are_still_shown_but_not_kept(panel, run):
    slicer.mrmlScene.RemoveNode(run.volume)
    panel.ui.stepSlider.value = 2
    np.testing.assert_array_equal(held(run), MASKS[1])
    panel.ui.keepStepsButton.click()
    assert "volume of this run was removed" in panel.ui.stepsStatusLabel.text


def test_closing_the_scene_in_the_middle_of_a_run_ends_the_section(window, panel):
    run = started(window)
    for _ in range(3):
        arrive(window, run)
    panel.ui.playButton.click()
    slicer.mrmlScene.Clear(0)
    assert panel.run is None and not panel.ui.stepSlider.enabled and not panel._timer.active
    run.masks.append(MASKS[3])
    window.tell("onRunStep", run)  # late
    assert panel.run is None and slicer.util.getNodesByClass("vtkMRMLSegmentationNode") == []


def test_a_run_that_fails_gives_the_slider_back_to_the_one_before(window, panel, run):
    failed = Segmentation("segment-2", run.volume, stepCount=5)
    window.tell("onRunStarted", failed)
    assert not panel.ui.stepSlider.enabled
    failed.error, failed.finished = Cancelled("Segmentation was cancelled."), True
    window.tell("onRunFinished", failed)
    assert panel.run is run and panel.ui.stepSlider.maximum == panel.ui.stepSlider.value == 5
    panel.ui.stepSlider.value = 3
    np.testing.assert_array_equal(held(run), MASKS[2])


def test_a_first_run_that_fails_leaves_nothing_to_move(window, panel):
    failed = Segmentation("segment-2", add_volume(), stepCount=5)
    window.tell("onRunStarted", failed)
    failed.error, failed.finished = Cancelled("Segmentation was cancelled."), True
    window.tell("onRunFinished", failed)
    assert panel.run is None and not panel.ui.stepSlider.enabled


def test_two_hundred_scrubs_and_runs_on_two_volumes_leave_no_node_behind(window, panel, run):
    other = finish(window, started(window, add_volume("other")))
    assert panel.run is other
    before = slicer.mrmlScene.GetNumberOfNodes()
    for n in range(200):
        panel.ui.stepSlider.value = 1 + n % 5
    finish(window, started(window, run.volume))
    assert slicer.mrmlScene.GetNumberOfNodes() == before
    np.testing.assert_array_equal(held(other), MASKS[4])


# ---- kept, charted, unsure


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
