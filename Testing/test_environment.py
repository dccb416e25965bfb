"""The section Environment: what the engine has, another Python, installing, and the text of a bug report."""

import contextlib
import shlex
import shutil
import subprocess
import sys
import tomllib
import types
from pathlib import Path

import pytest

import without_torch
from conftest import ROOT

pytest.importorskip("slicer", reason="needs the package slicer-core")

import slicer
import slicer.util

import DiffSegLib
import one_window
from DiffSegLib.errors import EnvironmentProblem
from DiffSegLib.models.shipped import home
from DiffSegLib.scene import environment, settings
from DiffSegLib.scene.damage import damaged
from DiffSegLib.scene.process import WorkerClient, chosen_python, interpreter, users_environment
from host.application import need_window, note_opened

need_window()

host = one_window.host  # fixtures

REQUIREMENTS = ROOT / "DiffSeg" / "Resources" / "requirements.txt"


@pytest.fixture
def client():
    made = WorkerClient()
    yield made
    made.shutdown()


@pytest.fixture
def panel(host, client, monkeypatch):
    monkeypatch.delenv("DIFFSEG_PYTHON", raising=False)
    settings.put("Python", "")
    slicer.mrmlScene.Clear(0)
    widget = host.open()
    widget.logic._client = client
    yield widget.environmentPanel
    settings.put("Python", "")
    host.close()


def answered(host, panel):
    host.wait_for(lambda: panel.ui.checkButton.enabled)
    return panel.ui.factsText.plainText


def choose(host, panel, path):
    """Type or browse, and wait until it is taken for whole."""
    panel.ui.pythonPathLineEdit.currentPath = str(path)
    host.wait_for(lambda: not panel._pauses[0].isActive())


def python_of_ones_own(folder, first=""):
    """A program that runs this Python; first: a line of shell that comes before."""
    path = folder / "python-of-mine"
    path.write_text(f"#!/bin/sh\n{first}\nexec '{sys.executable}' \"$@\"\n")
    path.chmod(0o755)
    return path


def test_opening_the_section_asks_the_engine_once(host, panel):
    assert panel.report.facts == {}
    panel.ui.environmentCollapsibleButton.collapsed = False
    text = answered(host, panel)
    assert "torch 2." in text and "Device: CPU" in text and sys.executable in text
    assert panel.ui.environmentStatusLabel.text == "The engine is ready."


def test_a_python_without_torch_is_said_with_what_to_do(host, panel):
    panel.logic._client = WorkerClient(without_torch.worker_command())
    panel.ui.checkButton.click()
    answered(host, panel)
    assert "cannot run the engine (No module named 'torch')" in panel.ui.environmentStatusLabel.text
    assert panel.ui.environmentStatusLabel.text.endswith("Press Install or repair.")


def test_a_python_of_ones_own_without_packages_gets_the_command_that_installs_them(host, panel, tmp_path):
    instead = f"[ \"${{3##*/}}\" != __main__.py ] || exec '{sys.executable}' {without_torch.__file__} worker"
    bare = python_of_ones_own(tmp_path, instead)
    panel.logic._client = WorkerClient()
    choose(host, panel, bare)
    answered(host, panel)
    said = panel.ui.environmentStatusLabel.text
    assert f"run: {bare} -m pip install" in said and '"safetensors>=0.4.5,<1"' in said
    assert "Empty “Other Python”" in said
    panel.ui.installButton.click()
    assert f"{bare} -m pip install" in panel.ui.environmentStatusLabel.text
    panel.logic._client.shutdown()


def test_the_report_for_a_bug_holds_versions_and_the_problem(host, panel):
    import qt

    panel.ui.checkButton.click()
    answered(host, panel)
    panel.report.problem, panel.report.detail = "It broke.", "Traceback: here"
    panel.ui.copyReportButton.click()
    text = qt.QApplication.clipboard().text()
    assert "DiffSeg: " in text and "torch 2." in text and "It broke." in text and "Traceback: here" in text


def test_another_python_runs_the_engine_from_then_on(host, panel, tmp_path):
    other = python_of_ones_own(tmp_path)
    choose(host, panel, other)
    assert chosen_python() == interpreter() == str(other)
    assert "torch 2." in answered(host, panel) and panel.report.facts["Engine runs with"] == str(other)
    assert host.open().environmentPanel.ui.pythonPathLineEdit.currentPath == str(other)
    choose(host, panel, "")
    assert chosen_python() == ""


OF_THE_LAUNCHER = ("PYTHONHOME", "PYTHONNOUSERSITE", "LD_LIBRARY_PATH", "QT_PLUGIN_PATH", "PATH")


@pytest.mark.parametrize("inside", [True, False])
def test_a_python_of_ones_own_sees_what_it_would_in_a_terminal(host, panel, tmp_path, monkeypatch, inside):
    """Nothing of Slicer's launcher, which hides the packages of the user's own folder; what is meant for us it does."""
    for name in OF_THE_LAUNCHER if inside else OF_THE_LAUNCHER[:3]:
        monkeypatch.setenv(name, "/of/the/launcher")
    monkeypatch.setenv("DIFFSEG_MEANT", "for us")
    if not inside:
        monkeypatch.delattr(slicer, "app")
        assert not any("/of/the/launcher" in value for value in users_environment().values())
        return
    seen = tmp_path / "seen"
    choose(host, panel, python_of_ones_own(tmp_path, f"env >> {seen}"))
    answered(host, panel)
    text = seen.read_text()
    assert text.count("DIFFSEG_MEANT=for us") == 2, "as it is tried, so it is started"
    assert "/of/the/launcher" not in text and f"PYTHONPATH={Path(DiffSegLib.__file__).parents[1]}" in text


def test_a_path_is_taken_once_it_is_typed_and_no_job_runs(host, panel, tmp_path, monkeypatch):
    tried = []
    monkeypatch.setattr(environment, "choose_python", tried.append)
    for end in range(1, 6):
        panel.ui.pythonPathLineEdit.currentPath = "/a/bc"[:end]
    assert tried == []
    host.wait_for(lambda: tried)
    assert tried == ["/a/bc"]
    busy = [True]
    monkeypatch.setattr(WorkerClient, "busy", property(lambda _self: busy[0]))
    choose(host, panel, "/a/bcd")
    assert tried == ["/a/bc"] and "once the running job has ended" in panel.ui.environmentStatusLabel.text
    busy[0] = False
    host.wait_for(lambda: len(tried) > 1)
    assert tried == ["/a/bc", "/a/bcd"]


def test_the_python_of_an_environment_is_taken_as_it_is_called(panel):
    """It is a link, and the file dialog of macOS would give back what it leads to: a Python without the packages."""
    import ctk

    assert panel.ui.pythonPathLineEdit.options == ctk.ctkPathLineEdit.DontResolveSymlinks


def test_a_path_that_is_no_program_is_refused(host, panel, tmp_path):
    (tmp_path / "note.txt").write_text("no program")
    for path in (str(tmp_path / "note.txt"), shutil.which("ls")):
        choose(host, panel, path)
        assert f"{path}: is no Python" in panel.ui.environmentStatusLabel.text and chosen_python() == ""


class Packaging(types.ModuleType):
    """slicer.packaging, recording what it is asked for."""

    def __init__(self, has_torch=True, failure=None):
        super().__init__("slicer.packaging")
        self.asked, self.removed, self.has_torch, self.failure = [], [], has_torch, failure

    def pip_check(self, requirement):
        return self.has_torch

    def load_requirements(self, path):
        return environment.requirement_lines(path)

    def pip_uninstall(self, requirements):
        self.removed.append(requirements)

    def pip_ensure(self, requirements, requester=None):
        if self.failure:
            raise self.failure
        self.asked.append((list(requirements), requester))


@pytest.fixture
def packaging(monkeypatch):
    def use(**options):
        made = Packaging(**options)
        monkeypatch.setitem(sys.modules, "slicer.packaging", made)
        monkeypatch.setattr(slicer, "packaging", made, raising=False)
        return made

    return use


def test_installing_asks_for_what_the_requirements_name(host, panel, packaging, monkeypatch):
    monkeypatch.setitem(sys.modules, "PyTorchUtils", None)  # the extension, which would install torch itself
    used = packaging(has_torch=False)
    panel.ui.installButton.click()
    answered(host, panel)
    assert used.asked[0] == ([f"torch{environment.TORCH}"], "DiffSeg")
    assert any(line.startswith("monai") for line in used.asked[1][0])


@pytest.mark.parametrize("agrees", [True, False])
def test_a_package_that_cannot_be_loaded_is_removed_and_comes_anew(host, panel, packaging, monkeypatch, agrees):
    used, questions = packaging(), []
    monkeypatch.setattr(environment, "damaged", lambda python: "monai" if python == interpreter() else "")
    monkeypatch.setattr(slicer.util, "WaitCursor", contextlib.nullcontext, raising=False)
    monkeypatch.setattr(
        slicer.util, "confirmOkCancelDisplay", lambda text, *_: questions.append(text) or agrees, raising=False
    )
    panel.ui.installButton.click()
    answered(host, panel)
    assert not questions and not used.removed  # the engine runs: nobody asks what is damaged
    panel.report.problem = "The engine's Python cannot run the engine."
    panel.ui.installButton.click()
    assert questions == ["monai is installed and cannot be loaded. Remove it and install it anew?"]
    assert used.removed == [["monai"]] * agrees and len(used.asked) == 1 + agrees
    if not agrees:
        assert "as you wished" in panel.ui.environmentStatusLabel.text


def test_a_damaged_package_is_found_by_loading_it(tmp_path, monkeypatch):
    for name, text in {"whole": "", "broken": "raise OSError('no libtorch')", "ends": "import os; os._exit(3)"}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(text)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert damaged(sys.executable, ("whole", "not_there")) == ""
    assert damaged(sys.executable, ("whole", "broken", "ends")) == "broken"
    assert damaged(sys.executable, ("not_there", "whole", "ends")) == "ends"
    assert damaged(str(tmp_path / "no-python"), ("broken",)) == ""


def test_the_pytorch_extension_installs_torch_where_it_is_there(panel, packaging, monkeypatch):
    used, calls = packaging(has_torch=False), []

    class Logic:
        def installTorch(self, **options):  # noqa: N802 - the extension's own name
            calls.append(options)
            return object()

    monkeypatch.setitem(sys.modules, "PyTorchUtils", types.SimpleNamespace(PyTorchUtilsLogic=Logic))
    panel.ui.installButton.click()
    assert calls == [{"askConfirmation": True, "torchVersionRequirement": environment.TORCH}]
    assert len(used.asked) == 1


def test_once_the_engine_can_run_nothing_says_that_it_cannot(host, panel, monkeypatch):
    """As after Install or repair: the line above would still name what was missing."""
    segment, problems = panel.window.segmentPanel, ["No module named 'torch'.", "", ""]
    monkeypatch.setattr(panel.logic, "prepare", lambda *_given, **told: told["onFinished"](problems.pop(0)))
    segment._prepareTimer.setInterval(0)
    monkeypatch.setattr(panel, "onCheck", lambda: None)
    assert panel.ui.environmentCollapsibleButton.collapsed
    segment.onPrepare()
    assert segment.ui.statusLabel.text == "The engine is not ready: No module named 'torch'."
    assert not panel.ui.environmentCollapsibleButton.collapsed
    panel.onReport(environment.Report({"Packages": "torch 2"}))
    host.wait_for(lambda: problems == [""])
    assert segment.ui.statusLabel.text.startswith("Load an image")
    segment.say("Done.")
    panel.onReport(environment.Report({"Packages": "torch 2"}))
    host.wait_for(lambda: not problems)
    assert segment.ui.statusLabel.text == "Done."


def test_a_graphics_card_that_is_missing_is_no_engine_that_is(panel, monkeypatch):
    monkeypatch.setattr(panel.logic.client, "_leader", 1)  # the process is ready
    monkeypatch.setattr(panel, "onCheck", lambda: pytest.fail("the section has nothing to tell"))
    panel.window.segmentPanel.onPrepared("No CUDA device can be used.")
    assert panel.ui.environmentCollapsibleButton.collapsed


@pytest.mark.parametrize(
    ("failure", "words"),
    [
        (RuntimeError("User declined package installation"), "as you wished"),
        (subprocess.CalledProcessError(1, ["pip"]), "could not be installed"),
    ],
)
def test_an_installation_that_fails_is_one_sentence(panel, packaging, failure, words):
    packaging(failure=failure)
    panel.ui.installButton.click()
    assert words in panel.ui.environmentStatusLabel.text


def test_an_older_slicer_and_an_own_python_are_told_what_to_do(panel, packaging, monkeypatch, client):
    monkeypatch.setitem(sys.modules, "slicer.packaging", None)
    with pytest.raises(EnvironmentProblem, match=r"Slicer 5\.12"):
        environment.install(REQUIREMENTS, client)
    packaging()
    monkeypatch.setenv("DIFFSEG_PYTHON", sys.executable)
    with pytest.raises(EnvironmentProblem, match="-m pip install"):
        environment.install(REQUIREMENTS, client)


def test_an_intel_mac_is_told_that_there_is_no_torch_for_it(panel, packaging, monkeypatch):
    used = packaging(has_torch=False)
    monkeypatch.setattr(environment, "sys", types.SimpleNamespace(platform="darwin", version_info=sys.version_info))
    monkeypatch.setattr(environment.platform, "machine", lambda: "x86_64")
    panel.ui.installButton.click()
    assert "There is no PyTorch >=2.10" in panel.ui.environmentStatusLabel.text and used.asked == []


def test_the_way_without_internet_names_every_package(panel):
    panel.ui.offlineButton.click()
    text = panel.ui.factsText.plainText
    assert "pip download" in text and "--no-index" in text
    assert all(line in text for line in environment.requirement_lines(REQUIREMENTS))


def test_the_way_without_internet_takes_any_path(monkeypatch):
    """Slicer divides a text as a shell does, which takes the backslashes out of a path of Windows."""
    asked, path = [], r"C:\Users\Jörg Maß\wheels"
    monkeypatch.setattr(slicer.util, "pip_install", asked.append, raising=False)
    line = environment.offline_instructions(REQUIREMENTS).splitlines()[-1].strip()
    exec(line.replace("/path/to/wheels", path), {"slicer": slicer})
    (given,) = asked
    given = ["install", *(shlex.split(given) if isinstance(given, str) else given)]  # as slicer.packaging does
    wanted = ["torch", *environment.requirement_lines(REQUIREMENTS)]
    assert given == ["install", "--no-index", "--find-links", path, *wanted]


def test_the_command_for_a_python_of_ones_own_can_be_pasted(monkeypatch):
    monkeypatch.setenv("DIFFSEG_PYTHON", "/home/me/my env/bin/python")
    said = shlex.split(environment._advice(REQUIREMENTS).partition("run: ")[2])
    assert said[:4] == ["/home/me/my env/bin/python", "-m", "pip", "install"] and said[4].startswith("torch>")


def test_the_folder_of_the_models_is_opened(panel, monkeypatch):
    opened = note_opened(monkeypatch, sys.modules[type(panel).__module__])
    panel.ui.modelsFolderButton.click()
    assert opened[0].toLocalFile() == str(home() / "models") and (home() / "models").is_dir()


def test_the_modules_requirements_are_those_of_the_project():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = {line for line in project["dependencies"] if not line.startswith("torch")}
    assert set(environment.requirement_lines(REQUIREMENTS)) == needed
    torch = next(line for line in project["dependencies"] if line.startswith("torch"))
    assert environment.TORCH.startswith(torch.removeprefix("torch"))
