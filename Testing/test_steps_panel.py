"""The section Steps: every control is moved, while a run goes on and after it, and whatever becomes of its nodes."""

import json

import numpy as np
import pytest

pytest.importorskip("slicer", reason="needs the package slicer-core")

import slicer
import slicer.util

import steps_window
from DiffSegLib.errors import Cancelled
from DiffSegLib.labels import Label
from DiffSegLib.scene import edits, steps
from DiffSegLib.scene.logic import Segmentation
from steps_window import LABELS, MASK, MASKS, add_volume, arrive, edit, finish, held, started

host, window, panel, run = steps_window.host, steps_window.window, steps_window.panel, steps_window.run  # fixtures


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
