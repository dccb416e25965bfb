"""The section Train, off screen: every control is moved, data come from a folder or from the scene."""

import numpy as np
import pytest

from conftest import blob_case, make_dataset, write_image

pytest.importorskip("slicer", reason="needs the package slicer-core")

import slicer
import slicer.util

import train_window
from DiffSegLib.data.datasets import load_dataset
from DiffSegLib.models.shipped import home
from DiffSegLib.presets import PRESETS
from DiffSegLib.scene import dataset, nodes
from train_window import LABELS, add_case, check, config_of, shown

# fixtures
host, client, folder = train_window.host, train_window.client, train_window.folder
window, panel, started = train_window.window, train_window.panel, train_window.started


def test_nothing_can_be_started_before_data_are_chosen_and_checked(host, panel, tmp_path):
    assert not panel.ui.trainStartButton.enabled
    panel.ui.trainCheckButton.click()
    assert "Choose a folder of labelled images first" in panel.ui.trainStatusLabel.text
    panel.ui.trainFolderPathLineEdit.currentPath = str(tmp_path)
    check(host, panel)
    assert "holds no data set in a known layout" in panel.ui.trainStatusLabel.text
    assert not panel.ui.trainStartButton.enabled and not shown(panel, "trainReportText")


def test_a_check_shows_what_was_found_and_a_proposal_with_reasons(host, panel, folder):
    panel.ui.trainFolderPathLineEdit.currentPath = str(folder)
    assert panel.parameters.trainFolder == str(folder)
    check(host, panel)
    text = panel.ui.trainReportText.plainText
    assert "2 cases to train with, 1 to validate" in text and "first (in 3 cases)" in text
    assert "18 × 22 × 20 voxels of 1 × 1 × 1 mm" in text and "Spacing 1, 1, 1 mm: the median" in text
    assert panel.ui.trainPatchLineEdit.placeholderText == "20, 24, 20"
    assert panel.ui.trainBatchSpinBox.specialValueText == "proposed: 4"
    assert config_of(panel)["training"]["minutes"] == 60 and panel.ui.trainStartButton.enabled


def test_every_choice_is_told_in_the_users_language(host, panel, monkeypatch):
    monkeypatch.setattr("DiffSegLib.scene.panels.choices._", lambda text: f"~{text}")
    panel.parameters.trainBudget = "iterations"
    panel.window.parent.exit()
    panel.window.parent.enter()
    assert panel.ui.trainBudgetComboBox.currentText == "~iterations" and panel.parameters.trainBudget == "iterations"
    for box in (panel.ui.trainBudgetComboBox, panel.ui.trainPresetComboBox):
        assert all(box.itemText(number).startswith("~") for number in range(box.count))


def test_an_emptied_folder_is_no_folder_any_more(panel, tmp_path):
    panel.ui.trainFolderPathLineEdit.currentPath = str(tmp_path)
    panel.ui.trainFolderPathLineEdit.currentPath = ""
    panel.parameters.trainPreset = "fast"  # the line follows the parameters at any change of them
    assert panel.parameters.trainFolder == panel.ui.trainFolderPathLineEdit.currentPath == ""


def test_the_module_may_be_left_during_a_check_and_within_the_pause_after_a_change(host, window, panel, folder, capsys):
    panel.ui.trainFolderPathLineEdit.currentPath = str(folder)
    panel.ui.trainCheckButton.click()
    window.parent.exit()
    host.wait_for(lambda: not panel._preparation.busy)
    window.parent.enter()
    assert panel.plan is not None and panel.ui.trainStartButton.enabled
    panel.parameters.trainSpacing = "2 2 2"
    assert panel._later.isActive()
    window.parent.exit()
    host.wait_for(lambda: not panel._later.isActive())
    window.parent.enter()
    host.wait_for(lambda: config_of(panel)["data"]["spacing"] == [2.0, 2.0, 2.0])
    assert "Traceback" not in capsys.readouterr().err


def test_a_folder_without_names_is_told_how_to_give_them(host, panel, tmp_path):
    from DiffSegLib.scene.proposal_text import report

    folder = tmp_path / "plain"
    for part in ("images", "labels"):
        (folder / part).mkdir(parents=True)
    for n in range(3):
        image, label = blob_case(n)
        write_image(folder / "images" / f"case{n}.nii.gz", image)
        write_image(folder / "labels" / f"case{n}.nii.gz", label)
    panel.ui.trainFolderPathLineEdit.currentPath = str(folder)
    check(host, panel)
    assert report(panel.plan).startswith("The structures have no names: ")
    (folder / "labels.csv").write_text("1,head\n2,tail\n")
    panel.ui.trainCheckButton.click()
    host.wait_for(lambda: panel.plan is not None and "Structures: head" in report(panel.plan))
    assert "no names" not in report(panel.plan)


def test_every_field_reaches_the_configuration_once_the_user_pauses(host, panel, folder):
    panel.ui.trainFolderPathLineEdit.currentPath = str(folder)
    check(host, panel)
    panel.ui.trainPresetComboBox.setCurrentIndex(list(PRESETS).index("fast"))
    panel.ui.trainBudgetComboBox.setCurrentText("iterations")
    panel.ui.trainAmountSpinBox.value = 123
    panel.ui.trainSpacingLineEdit.text = "1; 1 2"
    panel.ui.trainPatchLineEdit.text = "8x16 x 8"
    panel.ui.trainChannelsLineEdit.text = "8, 16"
    panel.ui.trainBatchSpinBox.value = 3
    panel.ui.trainSeedSpinBox.value = 7
    panel.ui.trainMemorySpinBox.value = 4
    assert not panel.ui.trainStartButton.enabled  # the proposal that is shown is another one
    host.wait_for(lambda: panel.ui.trainStartButton.enabled)
    made = config_of(panel)
    assert (made["data"]["spacing"], made["data"]["patch"]) == ([1, 1, 2], [8, 16, 8])
    assert (made["network"]["channels"], made["network"]["blocks"]) == ([8, 16], 1)
    assert made["training"] | {"iterations": 123, "minutes": None, "batch": 3, "seed": 7} == made["training"]
    assert panel._preparation._wish[2] == 4


@pytest.mark.parametrize(
    ("text", "words"), [("wide", "Patch: “wide” is no list of numbers"), ("2, 2, 2", "data.patch must be at least 4")]
)
def test_a_field_that_makes_no_sense_is_said_and_corrected(host, panel, folder, text, words):
    panel.ui.trainFolderPathLineEdit.currentPath = str(folder)
    check(host, panel)
    panel.ui.trainPatchLineEdit.text = text
    host.wait_for(lambda: words in panel.ui.trainStatusLabel.text)
    assert not panel.ui.trainStartButton.enabled
    panel.ui.trainPatchLineEdit.text = ""
    host.wait_for(lambda: panel.ui.trainStartButton.enabled)


def test_all_problems_are_listed_and_the_cases_left_out_if_the_user_says_so(host, panel, tmp_path, started):
    data = make_dataset(tmp_path / "data", 4)
    for n in (0, 1):
        (data / "imagesTr" / f"blob_0{n}.nii.gz").write_bytes(b"no image")
    panel.ui.trainFolderPathLineEdit.currentPath = str(data)
    check(host, panel)
    listed = panel.ui.trainProblemsText.plainText.splitlines()
    assert len(listed) == 2 and "blob_00" in listed[0] and "blob_01" in listed[1]
    assert shown(panel, "trainProblemsGroupBox") and not panel.ui.trainStartButton.enabled
    panel.ui.trainSkipBadCheckBox.checked = True
    assert panel.ui.trainStartButton.enabled
    panel.ui.trainNameLineEdit.text = "some"
    panel.ui.trainStartButton.click()
    assert started[0]["skipBad"] and started[0]["data"] == data


def test_a_model_needs_a_name_that_is_free(host, panel, folder, started):
    panel.ui.trainFolderPathLineEdit.currentPath = str(folder)
    check(host, panel)
    (home() / "trainings" / "taken").mkdir(parents=True)
    for name, words in (
        ("", "Give the model a name"),
        ("hippocampus", "is there already"),
        ("taken", "is there already"),
    ):
        panel.ui.trainNameLineEdit.text = name
        panel.ui.trainStartButton.click()
        assert words in panel.ui.trainStatusLabel.text and started == []
    panel.ui.trainNameLineEdit.text = "free"
    panel.ui.trainStartButton.click()
    assert started[0]["name"] == "free" and started[0]["run"] == home() / "trainings" / "free"
    assert started[0]["configuration"]["training"]["minutes"] == 60
    assert "has started" in panel.ui.trainStatusLabel.text and not panel.ui.trainStartButton.enabled


def test_the_whole_configuration_can_be_edited(host, panel, folder, started):
    panel.ui.trainFolderPathLineEdit.currentPath = str(folder)
    check(host, panel)
    assert panel.ui.trainConfigText.readOnly
    panel.ui.trainOwnConfigCheckBox.checked = True
    assert not panel.ui.trainConfigText.readOnly and not panel.ui.trainPatchLineEdit.enabled
    proposed = panel.ui.trainConfigText.plainText
    for text, words in (
        ("{", "is no valid JSON"),
        ('{"data": {"ptch": [1]}}', "unknown key 'data.ptch'"),
        (proposed.replace('"batch": 4', '"batch": 0'), "training.batch must be from 1 to 4096"),
        (proposed.replace('"reverse_step": false', '"reverse_step": true'), "it acts with diffusion.strategy"),
    ):
        panel.ui.trainConfigText.plainText = text
        assert words in panel.ui.trainStatusLabel.text and not panel.ui.trainStartButton.enabled
    panel.ui.trainConfigText.plainText = proposed.replace('"batch": 4', '"batch": 2')
    assert panel.ui.trainStatusLabel.text == "The configuration is valid." and panel.ui.trainStartButton.enabled
    panel.ui.trainNameLineEdit.text = "mine"
    panel.ui.trainStartButton.click()
    assert started[0]["configuration"]["training"]["batch"] == 2
    panel.ui.trainOwnConfigCheckBox.checked = False
    assert panel.ui.trainConfigText.readOnly and panel.ui.trainPatchLineEdit.enabled


def test_a_check_is_cancelled_by_the_same_button(host, panel, folder, client):
    client.shutdown()
    panel.ui.trainFolderPathLineEdit.currentPath = str(folder)
    panel.ui.trainCheckButton.click()
    assert panel.ui.trainCheckButton.text == "Cancel"
    panel.ui.trainCheckButton.click()
    host.wait_for(lambda: panel.ui.trainCheckButton.enabled)
    assert panel.ui.trainStatusLabel.text == "Cancelled." and panel.ui.trainCheckButton.text == "Check and propose"


def test_the_trainings_may_be_put_elsewhere(panel, tmp_path, window, host):
    panel.ui.trainingsFolderPathLineEdit.currentPath = str(tmp_path / "elsewhere")
    assert window.logic.trainingsFolder != tmp_path / "elsewhere", "another letter may come"
    host.wait_for(lambda: window.logic.trainingsFolder == tmp_path / "elsewhere")
    assert host.open().trainPanel.ui.trainingsFolderPathLineEdit.currentPath == str(tmp_path / "elsewhere")
    panel.ui.trainingsFolderPathLineEdit.currentPath = ""
    host.wait_for(lambda: window.logic.trainingsFolder != tmp_path / "elsewhere")
    assert window.logic.trainingsFolder == home() / "trainings"


# The scene as data


def ticks(panel):
    table = panel.ui.trainCasesTable
    rows = [[table.item(row, column) for column in range(3)] for row in range(table.rowCount)]
    return {row[0].text(): (row[0].checkState() == checked(), row[1].text(), row[2].text()) for row in rows}


def checked():
    import qt

    return qt.Qt.Checked


def tick(panel, name, on):
    import qt

    table = panel.ui.trainCasesTable
    for row in range(table.rowCount):
        if table.item(row, 0).text() == name:
            table.item(row, 0).setCheckState(qt.Qt.Checked if on else qt.Qt.Unchecked)


def test_the_table_lists_the_segmentations_with_their_volumes_and_what_hinders_them(host, window, panel):
    volume, _ = add_case(0)
    slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "empty")
    nodes.make_segmentation(volume, "scan 0 DiffSeg", "scan 0 DiffSeg", LABELS)
    answer = nodes.make_segmentation(volume, "scan 0 answer", "DiffSeg", LABELS)
    step = nodes.make_segmentation(volume, "scan 0 DiffSeg step 1", "DiffSeg|1", LABELS)
    for node in (answer, step):
        node.SetAttribute("DiffSeg.Step", "1")
    panel.ui.trainSceneRadioButton.click()
    assert panel.parameters.trainFromScene and shown(panel, "trainCasesTable")
    assert not shown(panel, "trainFolderPathLineEdit")
    assert ticks(panel) == {
        "drawn 0": (True, "scan 0", "liver, spleen"),
        "empty": (False, "none", "has no segments."),
        "scan 0 DiffSeg": (False, "scan 0", "liver, spleen"),
        "scan 0 answer": (False, "scan 0", "liver, spleen"),
    }
    panel.ui.trainFolderRadioButton.click()
    assert not shown(panel, "trainCasesTable") and shown(panel, "trainFolderPathLineEdit")


def test_the_scenes_cases_are_written_and_moved_into_the_training(host, panel, started):
    for n in range(4):
        add_case(n)
    panel.ui.trainSceneRadioButton.click()
    tick(panel, "drawn 3", False)
    check(host, panel)
    assert "2 cases to train with, 1 to validate" in panel.ui.trainReportText.plainText
    assert "liver (in 3 cases)" in panel.ui.trainReportText.plainText
    waiting = list((home() / "trainings").iterdir())
    assert len(waiting) == 1 and waiting[0].name.startswith(".prepared-")
    panel.ui.trainAmountSpinBox.value = 5  # the proposal is made anew without writing the cases again
    host.wait_for(lambda: panel.ui.trainStartButton.enabled)
    assert list((home() / "trainings").iterdir()) == waiting
    panel.ui.trainNameLineEdit.text = "organs"
    panel.ui.trainStartButton.click()
    run = home() / "trainings" / "organs"
    assert started[0]["data"] == run / "data" and len(load_dataset(run / "data").cases) == 3
    assert not waiting[0].exists() and (run / "data" / "segments.json").is_file()


def test_the_trainings_folder_in_another_spelling_is_no_other_folder(host, panel, started):
    """The cases that were written would be thrown away at the start; on Windows a chosen path has other slashes."""
    for n in range(2):
        add_case(n)
    panel.ui.trainSceneRadioButton.click()
    check(host, panel)
    panel.onTrainingsFolder(f"{home() / 'trainings'}/")
    panel.ui.trainingsFolderPathLineEdit.currentPath = ""  # stands for the same
    panel.ui.trainNameLineEdit.text = "organs"
    panel.ui.trainStartButton.click()
    assert len(started) == 1, panel.ui.trainStatusLabel.text


def test_a_case_with_other_segments_is_told_and_another_choice_needs_another_check(host, panel):
    for n in range(3):
        add_case(n)
    add_case(3)[1].GetSegmentation().RemoveSegment("Segment_2")
    panel.ui.trainSceneRadioButton.click()
    check(host, panel)
    assert panel.ui.trainProblemsText.plainText.startswith("drawn 3: lacks the segment spleen")
    assert shown(panel, "trainReportText") and not panel.ui.trainStartButton.enabled
    tick(panel, "drawn 3", False)
    assert "Other data are chosen" in panel.ui.trainStatusLabel.text
    check(host, panel)
    assert panel.ui.trainStartButton.enabled and not shown(panel, "trainProblemsGroupBox")
    tick(panel, "drawn 1", False)
    tick(panel, "drawn 2", False)
    check(host, panel)
    assert "One case is chosen; at least two are needed" in panel.ui.trainProblemsText.plainText
    assert not panel.ui.trainStartButton.enabled


def test_what_was_drawn_after_the_check_is_noticed(host, panel, started):
    pairs = [add_case(n) for n in range(2)]
    panel.ui.trainSceneRadioButton.click()
    check(host, panel)
    panel.ui.trainNameLineEdit.text = "organs"
    nodes.write_labels(pairs[0][1], np.roll(blob_case(0)[1], 1, axis=0), pairs[0][0], LABELS)
    panel.ui.trainStartButton.click()
    assert "The scene has changed since it was checked" in panel.ui.trainStatusLabel.text and started == []


def test_a_case_that_cannot_be_written_for_any_reason_leaves_no_half_data_set(host, panel, monkeypatch):
    for n in range(4):
        add_case(n)
    plain, calls = dataset.labels_on_grid, []

    def without_memory(*arguments):
        calls.append(1)
        if len(calls) == 3:
            raise MemoryError("no room")
        return plain(*arguments)

    monkeypatch.setattr(dataset, "labels_on_grid", without_memory)
    panel.ui.trainSceneRadioButton.click()
    check(host, panel)
    assert "could not be written (MemoryError: no room)" in panel.ui.trainStatusLabel.text
    assert panel.plan is None and not panel.ui.trainStartButton.enabled


def test_closing_the_scene_or_the_window_leaves_no_written_case_behind(host, panel, window):
    for close in (lambda: slicer.mrmlScene.Clear(0), window.cleanup):
        for n in range(2):
            add_case(n)
        panel.ui.trainSceneRadioButton.click()
        check(host, panel)
        assert len(list((home() / "trainings").iterdir())) == 1
        close()
        assert list((home() / "trainings").iterdir()) == [] and panel.plan is None
    host._windows.clear()
