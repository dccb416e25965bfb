"""The section Trainings, off screen: every control is moved, and a real training is followed to the end."""

import json
import struct
import sys
import time

import numpy as np
import pytest

pytest.importorskip("slicer", reason="needs the package slicer-core")

import slicer
import slicer.util
import vtk

import train_window
from DiffSegLib.errors import InputError
from DiffSegLib.models.shipped import find, home
from DiffSegLib.scene import detached, trainings
from DiffSegLib.scene.training import FAILED, FINISHED, RUNNING, STOPPED, STOPPING, Training
from host.application import note_opened
from train_window import check, config_of, shown

# fixtures
host, client, folder = train_window.host, train_window.client, train_window.folder
window = train_window.window


def fake_run(name, rows=3, alive=False, answer=None, stderr="iteration 60\n", minutes=None):
    """A run folder as a training leaves it; its process only sleeps."""
    run = home() / "trainings" / name
    run.mkdir(parents=True)
    (run / "config.json").write_text(json.dumps({"training": {"minutes": minutes, "iterations": 100}}))
    (run / "fingerprint.json").write_text(json.dumps({"labels": [{"name": "liver"}, {"name": "spleen"}]}))
    record = {"name": name, "created": f"2025-11-2{len(name)}T10:00:00", "options": ["--data", "x"], "first": []}
    if alive:
        pid = detached.launch([sys.executable, "-c", "import time; time.sleep(60)"], {}, run / "o", run / "e")
        record |= {"pid": pid, "identity": detached.identity(pid), "launched": time.time()}
    (run / "training.json").write_text(json.dumps(record))
    (run / "stdout.txt").write_text(json.dumps(answer) + "\n" if answer else "")
    (run / "stderr.txt").write_text(stderr)
    for n in range(1, rows + 1):
        log(run, iteration=20 * n, loss=1.0 / n, seconds=60.0 * n)
    return run


def log(run, **fields):
    with open(run / "log.jsonl", "a") as file:
        file.write(json.dumps({"event": "metric", "v": 1, **fields}) + "\n")


def rows_of(panel):
    table = panel.ui.trainingsTable
    return [tuple(table.item(row, column).text() for column in range(2)) for row in range(table.rowCount)]


def table_of(name):
    found = [node for node in slicer.util.getNodesByClass("vtkMRMLTableNode") if node.GetName() == f"{name} table"]
    assert len(found) == 1
    return {
        found[0].GetColumnName(n): slicer.util.arrayFromTableColumn(found[0], found[0].GetColumnName(n)).tolist()
        for n in range(found[0].GetNumberOfColumns())
    }


def test_without_trainings_the_section_says_so(window):
    panel = window.trainingsPanel
    assert "No training has been started" in panel.ui.trainingLabel.text
    for button in ("stop", "resume", "open"):
        assert not getattr(panel.ui, f"{button}TrainingButton").enabled


def test_the_list_tells_how_each_training_ended(host, window, monkeypatch):
    panel = window.trainingsPanel
    fake_run("a", answer={"exit_code": 4, "error": "Training was stopped; go on with --resume (x)."})
    fake_run("bb", answer=None, stderr="first\nCUDA out of memory\n")
    fake_run("ccc", answer={"exit_code": 2, "error": "x: holds one case only."})
    panel.ui.trainingsCollapsibleButton.collapsed = False
    assert rows_of(panel) == [("ccc", "failed"), ("bb", "failed"), ("a", "stopped")]
    assert "x: holds one case only." in panel.ui.trainingLabel.text
    panel.ui.trainingsTable.setCurrentCell(1, 0)
    assert "ended unexpectedly. It last said: CUDA out of memory" in panel.ui.trainingLabel.text
    panel.ui.trainingsTable.setCurrentCell(2, 0)
    assert "Press Resume to go on" in panel.ui.trainingLabel.text and panel.ui.resumeTrainingButton.enabled
    assert panel.ui.trainingBudgetSpinBox.value == 100 and panel.ui.trainingBudgetSpinBox.suffix == " iterations"
    assert not panel.ui.stopTrainingButton.enabled and not panel.ui.useTrainingModelButton.enabled
    opened = note_opened(monkeypatch, sys.modules[type(panel).__module__])
    panel.ui.openTrainingButton.click()
    assert opened[0].toLocalFile() == str(home() / "trainings" / "a")


def test_the_table_behind_a_chart_is_hidden_before_it_is_in_the_scene(window):
    """Slicer's subject hierarchy looks at that moment only, and would show it in its tree."""
    seen = []

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def note(_caller, _event, node):
        seen.append((node.GetClassName(), bool(node.GetHideFromEditors())))

    fake_run("a")
    tag = slicer.mrmlScene.AddObserver(slicer.mrmlScene.NodeAddedEvent, note)
    window.trainingsPanel.ui.trainingsCollapsibleButton.collapsed = False
    slicer.mrmlScene.RemoveObserver(tag)
    assert [hidden for kind, hidden in seen if kind == "vtkMRMLTableNode"] == [True]


def test_a_running_training_is_drawn_as_it_goes_and_the_charts_follow_the_scene(host, window):
    panel = window.trainingsPanel
    run = fake_run("live", alive=True)
    panel.ui.trainingsCollapsibleButton.collapsed = False
    assert rows_of(panel) == [("live", "60 %")] and panel.ui.trainingProgressBar.value == 60
    assert "Iteration 60 of the training, about 2 min left." in panel.ui.trainingLabel.text
    assert table_of("DiffSeg training loss")["loss"] == [1.0, 0.5, 1.0 / 3]
    count = slicer.mrmlScene.GetNumberOfNodes()
    log(run, iteration=80, loss=0.25, seconds=240.0)
    host.wait_for(lambda: panel.ui.trainingProgressBar.value == 80)
    assert table_of("DiffSeg training loss")["Iteration"] == [20.0, 40.0, 60.0, 80.0]
    assert slicer.mrmlScene.GetNumberOfNodes() == count  # updated in place
    log(run, iteration=80, dice=0.8, dice_first_step=0.7, dice_by_class=[0.9, None], seconds=250.0)
    host.wait_for(lambda: "Dice 0.800 (liver 0.900)" in panel.ui.trainingLabel.text)
    scores = table_of("DiffSeg training Dice")
    assert list(scores) == ["Iteration", "mean", "liver", "spleen"] and np.isnan(scores["spleen"][0])
    charts = slicer.util.getNodesByClass("vtkMRMLPlotChartNode")
    assert {chart.GetYAxisTitle() for chart in charts} == {"Loss", "Validation Dice"}
    assert not any(chart.GetSaveWithScene() for chart in charts)
    unsaved = vtk.vtkCollection()
    slicer.mrmlScene.GetStorableNodesModifiedSinceRead(unsaved)
    asked = [unsaved.GetItemAsObject(n).GetName() for n in range(unsaved.GetNumberOfItems())]
    assert not [name for name in asked if name.startswith("DiffSeg training")], "Slicer would ask to save them"
    assert sorted(panel._plots) == ["dice", "loss"]
    assert panel._plots["loss"].mrmlPlotViewNode().GetPlotChartNode().GetYAxisTitle() == "Loss"

    slicer.mrmlScene.Clear(0)
    log(run, iteration=100, loss=0.2, seconds=300.0)
    host.wait_for(lambda: panel.ui.trainingProgressBar.value == 100)
    assert len(table_of("DiffSeg training loss")["loss"]) == 5

    fake_run("longer name", rows=1, answer={"exit_code": 4, "error": "x"})
    panel.refresh()
    other = next(row for row, (name, _) in enumerate(rows_of(panel)) if name == "longer name")
    panel.ui.trainingsTable.setCurrentCell(other, 0)
    assert table_of("DiffSeg training loss")["loss"] == [1.0] and len(charts_now()) == 1
    Training(run).kill()
    host.wait_for(lambda: ("live", "failed") in rows_of(panel))
    assert not panel._timer.isActive()


def test_the_views_of_the_charts_stay_their_own_when_a_scene_is_closed_unseen(window):
    """The scene keeps them, and takes from them what keeps another module's chart out."""
    panel = window.trainingsPanel
    fake_run("ended", answer={"exit_code": 4, "error": "x"})
    panel.ui.trainingsCollapsibleButton.collapsed = False
    views = [plot.mrmlPlotViewNode() for plot in panel._plots.values()]
    window.parent.exit()
    slicer.mrmlScene.Clear(0)
    assert len(views) >= 1 and not any(view.GetDoPropagatePlotChartSelection() for view in views)
    assert {view.GetParentLayoutNode() for view in views} == {window.logic.getParameterNode().parameterNode}


def charts_now():
    return slicer.util.getNodesByClass("vtkMRMLPlotChartNode")


def test_stop_asks_first_and_ends_it_at_once_when_pressed_again(host, window):
    panel = window.trainingsPanel
    run = fake_run("stubborn", alive=True, minutes=10.0)
    panel.ui.trainingsCollapsibleButton.collapsed = False
    assert panel.ui.trainingBudgetSpinBox.suffix == " min" and not panel.ui.trainingBudgetSpinBox.enabled
    assert not panel.ui.resumeTrainingButton.enabled
    panel.ui.stopTrainingButton.click()
    assert (run / "stop").exists() and rows_of(panel) == [("stubborn", "stopping")]
    assert panel.ui.stopTrainingButton.text == "End at once"
    panel.ui.stopTrainingButton.click()
    host.wait_for(lambda: rows_of(panel) == [("stubborn", "failed")])
    assert panel.ui.stopTrainingButton.text == "Stop" and panel.ui.resumeTrainingButton.enabled


def checkpoint_of(run, iteration):
    """The header of a checkpoint; its weights are not looked at."""
    header = json.dumps({"__metadata__": {"state": json.dumps({"progress": {"iteration": iteration}})}}).encode()
    (run / "checkpoint").mkdir()
    (run / "checkpoint" / "last.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)


@pytest.mark.parametrize(
    ("kept", "words"), [(0, "before it had learnt anything"), (7, "or Finish now to make a model")]
)
def test_a_model_can_be_made_of_a_stopped_training_that_has_learnt_something(window, kept, words):
    """Even before the first line of its log, which a slow one writes late."""
    panel = window.trainingsPanel
    checkpoint_of(fake_run("slow", rows=0, answer={"exit_code": 4, "error": "x"}), kept)
    panel.ui.trainingsCollapsibleButton.collapsed = False
    assert words in panel.ui.trainingLabel.text
    assert panel.ui.finishTrainingButton.enabled == bool(kept)


@pytest.mark.parametrize("looked_at_before", [False, True])
def test_finish_now_stops_a_running_training_and_then_makes_its_model(host, window, monkeypatch, looked_at_before):
    panel = window.trainingsPanel
    run = fake_run("busy", alive=True)
    checkpoint_of(run, 60)
    finished = []
    monkeypatch.setattr(Training, "finish", lambda training: finished.append(training))
    panel.ui.trainingsCollapsibleButton.collapsed = False
    assert panel.ui.finishTrainingButton.enabled
    panel.ui.finishTrainingButton.click()
    assert (run / "stop").exists() and not finished and not panel.ui.finishTrainingButton.enabled
    assert "Stopping; then its model is made" in panel.ui.trainingLabel.text
    Training(run).kill()
    if looked_at_before:  # the module was entered, the section opened, before the timer's turn
        panel._timer.stop()
        other = Training(run)
        while other.active:
            time.sleep(0.02)
            other.update()
        panel.refresh()
        assert finished
    host.wait_for(lambda: finished)
    assert [each.folder for each in finished] == [run.resolve()] and panel._finishing == set()


def test_what_could_not_be_done_with_a_training_stays_in_view(window, monkeypatch):
    panel = window.trainingsPanel
    fake_run("a", answer={"exit_code": 4, "error": "x"})
    fake_run("other", alive=True)  # so that the section looks again and again
    panel.ui.trainingsCollapsibleButton.collapsed = False
    panel.ui.trainingsTable.setCurrentCell(1, 0)

    def refuse(*_arguments, **_options):
        raise InputError("No room.")

    monkeypatch.setattr(Training, "resume", refuse)
    panel.ui.resumeTrainingButton.click()
    panel.onTimer()
    assert panel.ui.trainingLabel.text.startswith("⚠ No room. ")
    panel.ui.trainingsTable.setCurrentCell(0, 0)
    assert "No room" not in panel.ui.trainingLabel.text
    panel.trainings[0].kill()


@pytest.mark.parametrize(("left", "told"), [("12 min", 12), ("118 s", 2)])
def test_a_training_as_slow_as_to_have_logged_nothing_is_told_in_plain_words(window, left, told):
    panel = window.trainingsPanel
    run = fake_run("slow", rows=0, alive=True, stderr=f"checking\n  8 %  iteration 6, loss 1.575, {left} left\n")
    panel.ui.trainingsCollapsibleButton.collapsed = False
    assert panel.ui.trainingLabel.text == f"Iteration 6 of the training, about {told} min left."
    Training(run).kill()


def test_the_list_is_as_high_as_its_rows_and_shows_every_state_whole(window):
    import qt

    panel, table = window.trainingsPanel, window.trainingsPanel.ui.trainingsTable
    panel.ui.trainingsCollapsibleButton.collapsed = False
    for name in ("trainingsTable", "trainingProgressBar", "resumeTrainingButton", "trainingBudgetSpinBox"):
        assert not shown(panel, name), "there is nothing to resume"
    heights = []
    for n in range(1, 9):
        fake_run("x" * n, rows=0, answer={"exit_code": 4, "error": "x"})
        panel.refresh()
        heights.append(table.maximumHeight)
    assert heights[:6] == sorted(set(heights[:6])) and heights[5] == heights[7]
    assert table.horizontalHeader().sectionResizeMode(1) == qt.QHeaderView.ResizeToContents
    assert shown(panel, "trainingsTable") and shown(panel, "resumeTrainingButton")


def test_closing_the_window_ends_no_training_and_takes_its_charts_along(host, window):
    run = fake_run("alone", alive=True)
    window.trainingsPanel.ui.trainingsCollapsibleButton.collapsed = False
    assert len(charts_now()) == 1
    host.close()
    training = Training(run)
    assert training.active and charts_now() == []
    training.kill()


def test_the_console_hears_of_a_training_through_the_event_loop(host, window):
    run = fake_run("heard", alive=True)
    seen, ended = [], []
    trainings._follow(training := Training(run), seen.append, ended.append)
    log(run, iteration=80, loss=0.25, seconds=240.0)
    host.wait_for(lambda: seen)
    assert seen[0]["iteration"] == 80 and not ended
    training.kill()
    host.wait_for(lambda: ended)
    assert ended[0] is training and training.state == FAILED and trainings._followed == set()


def test_from_start_over_stop_and_resume_to_a_model_that_can_be_chosen(host, window, folder):
    """A real training, small."""
    panel, section = window.trainPanel, window.trainingsPanel
    panel.ui.trainFolderPathLineEdit.currentPath = str(folder)
    check(host, panel)
    small = config_of(panel)
    small["data"] |= {"patch": [8, 10, 8]}
    small["network"] |= {"channels": [4, 8], "strides": [[2, 2, 2]], "blocks": 1, "heads": 2}
    small["training"] |= {"minutes": None, "iterations": 1_000_000, "batch": 1, "validations": 10, "precision": "fp32"}
    panel.ui.trainOwnConfigCheckBox.checked = True
    panel.ui.trainConfigText.plainText = json.dumps(small)
    panel.ui.trainNameLineEdit.text = "blobs"
    panel.ui.trainStartButton.click()
    assert "has started" in panel.ui.trainStatusLabel.text
    assert not section.ui.trainingsCollapsibleButton.collapsed and rows_of(section) == [("blobs", "starting")]
    training = section.trainings[0]
    slicer.mrmlScene.Clear(0)
    host.wait_for(lambda: training.iteration >= 20)
    assert training.state == RUNNING and section.ui.stopTrainingButton.enabled
    section.ui.stopTrainingButton.click()
    assert training.state in (STOPPING, STOPPED)
    host.wait_for(lambda: training.state == STOPPED)
    assert section.ui.trainingBudgetSpinBox.value == 1_000_000, "what was asked for, though the list is as it was made"
    assert "Finish now" in section.ui.trainingLabel.text and not section.ui.useTrainingModelButton.enabled
    section.ui.trainingBudgetSpinBox.value = training.iteration + 30
    section.ui.resumeTrainingButton.click()
    assert training.active and not section.ui.resumeTrainingButton.enabled
    listed = window.segmentPanel.ui.modelComboBox
    assert listed.findData("blobs") < 0
    host.wait_for(lambda: not training.active)
    assert training.state == FINISHED, training.reason
    assert listed.findData("blobs") >= 0 and window.parameterNode.model == "hippocampus"
    assert str(find("blobs")) in section.ui.trainingLabel.text and not section.ui.resumeTrainingButton.enabled
    section.ui.useTrainingModelButton.click()
    assert window.parameterNode.model == "blobs"
    assert not section.ui.finishTrainingButton.enabled
    section.ui.trainingBudgetSpinBox.value += 1_000_000  # with a larger budget it goes on
    budget = section.ui.trainingBudgetSpinBox.value
    section.ui.resumeTrainingButton.click()
    reached = training.iteration
    host.wait_for(lambda: training.iteration >= reached + 20)
    section.ui.stopTrainingButton.click()
    host.wait_for(lambda: training.state == STOPPED)
    section.ui.finishTrainingButton.click()
    host.wait_for(lambda: not training.active)
    assert training.state == FINISHED and training.model is not None
    assert section.ui.trainingBudgetSpinBox.value == budget and section.ui.resumeTrainingButton.enabled, "it may go on"
    assert section.ui.useTrainingModelButton.enabled and not section.ui.finishTrainingButton.enabled


def test_a_training_that_was_just_started_keeps_the_budget_that_it_was_given(window, tmp_path):
    panel = window.trainingsPanel
    run = fake_run("half an hour", alive=True)
    (run / "config.json").unlink()
    record = json.loads((run / "training.json").read_text())
    (run / "training.json").write_text(json.dumps({**record, "command": ["python", "train", "--minutes", "30"]}))
    panel.ui.trainingsCollapsibleButton.collapsed = False
    assert panel.ui.trainingBudgetSpinBox.value == 30 and panel.ui.trainingBudgetSpinBox.suffix == " min"
    Training(run).kill()
