"""The batch in the way Slicer runs a script, and beside an extension that is installed as well."""

import os
import runpy
import subprocess
import sys
import types

import pytest

import batch_run
from batch_run import SCRIPT, arguments, as_program
from conftest import ROOT

pytest.importorskip("slicer", reason="needs the package slicer-core")

import slicer
import slicer.util

from DiffSegLib.jobs import DescribeJob
from DiffSegLib.scene import batch, process, transport
from DiffSegLib.scene.host import SceneHost, inside_slicer

client, warm, scans = batch_run.client, batch_run.warm, batch_run.scans  # fixtures


class Redirected:
    """All that PythonQt's sys.stdout and sys.stderr have: no encoding, no number, no buffer."""

    closed, softspace = False, 0

    def __init__(self, stream):
        self.write = stream.write

    def flush(self):
        pass

    def isatty(self):
        return False


@pytest.fixture
def application(monkeypatch):
    """What the script sees of Slicer: its scene and logics, `exit` that only notes a wish, and no dialog at all."""
    host = SceneHost()
    wishes = []
    if not inside_slicer():
        monkeypatch.setattr(
            slicer,
            "app",
            types.SimpleNamespace(applicationLogic=lambda: None, pauseRender=lambda: None, resumeRender=lambda: None),
            raising=False,
        )
    monkeypatch.setattr(slicer.util, "exit", wishes.append)
    for name in ("errorDisplay", "infoDisplay", "confirmOkCancelDisplay", "confirmYesNoDisplay", "delayDisplay"):
        monkeypatch.setattr(slicer.util, name, lambda *_a, **_k: pytest.fail("a dialog"))
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield wishes
    host.scene.Clear(0)


def run_as_slicer_does(monkeypatch, folder, given):
    """The file's text in a namespace called __main__, its path as typed, its folder first on the path; "--" is gone."""
    typed = os.path.relpath(SCRIPT, folder)
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", [typed, *given])
    sys.path.insert(0, os.path.dirname(typed))
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, Redirected(getattr(sys, name)))
    exec(compile(SCRIPT.read_text(), "<string>", "exec"), {"__name__": "__main__", "__file__": typed})


def test_slicer_is_asked_to_exit_with_the_code_and_its_scene_is_as_before(
    warm, application, scans, tmp_path, tiny_model, monkeypatch
):
    volume = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "of the user")
    count = slicer.mrmlScene.GetNumberOfNodes()
    run_as_slicer_does(monkeypatch, tmp_path, arguments(tiny_model, "scans", "out", "--save-steps"))
    assert application == [0]
    assert len(list((tmp_path / "out").iterdir())) == 3 * 7 + 2  # the table of volumes and its checksum
    assert slicer.mrmlScene.GetNumberOfNodes() == count and volume.GetScene() is slicer.mrmlScene
    assert os.path.dirname(os.path.relpath(SCRIPT, tmp_path)) not in sys.path and sys.path[0] == str(ROOT)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")
@pytest.mark.parametrize("by_launcher", [True, False])
def test_the_batch_stops_when_the_launcher_that_started_slicer_is_gone(
    warm, application, scans, tmp_path, tiny_model, monkeypatch, by_launcher
):
    parent = os.getpid()  # whatever started the tests may be another user's
    launcher = os.path.realpath(f"/proc/{parent}/exe") if by_launcher else sys.executable + ".not"
    monkeypatch.setattr(slicer, "app", types.SimpleNamespace(launcherExecutableFilePath=launcher), raising=False)
    looks = []

    def getppid():
        looks.append(1)
        return parent if len(looks) < 4 else -1

    monkeypatch.setattr(os, "getppid", getppid)
    assert batch._launched()() and batch._launched()() is not by_launcher


@pytest.mark.parametrize(("given", "code"), [(["--help"], 0), (["--frob"], 2), ([], 2)])
def test_slicer_is_asked_to_exit_whatever_happens(application, tmp_path, monkeypatch, given, code):
    run_as_slicer_does(monkeypatch, tmp_path, given)
    assert application == [code]


def test_slicer_exits_even_when_the_library_cannot_be_imported(application, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "DiffSegLib.options", None)
    run_as_slicer_does(monkeypatch, tmp_path, ["--help"])
    assert application == [1] and "Traceback" in capsys.readouterr().err


@as_program
def test_run_as_a_file_it_leaves_its_folder_off_the_path(monkeypatch):
    """So that no file of this folder can stand in front of a package of that name."""
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), "--help"])
    monkeypatch.setattr(sys, "path", [str(SCRIPT.parent), *sys.path])
    monkeypatch.delattr(slicer, "app", raising=False)
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(SCRIPT), run_name="__main__")
    assert ended.value.code == 0 and str(SCRIPT.parent) not in sys.path


# -- an extension that is installed as well


@pytest.fixture
def installed(tmp_path):
    """The folder of an extension whose library is of another version."""
    package = tmp_path / "installed" / "DiffSegLib"
    package.mkdir(parents=True)
    for name in ("__init__", "__main__", "errors", "options", "terminal"):
        (package / f"{name}.py").write_text(f"print('{name} of the installed extension')\n")
    return package.parent


def test_a_checkouts_batch_runs_with_its_own_library(installed, tmp_path):
    """Slicer has the extension on its path, and its module has imported the library, before a script runs."""
    (tmp_path / "as_slicer.py").write_text(
        f"import sys; sys.path.insert(0, {str(installed)!r}); import DiffSegLib.errors\n"
        f"sys.argv = [{str(SCRIPT)!r}, '--help']; sys.path.insert(0, {str(SCRIPT.parent)!r})\n"
        "exec(compile(open(sys.argv[0]).read(), '<string>', 'exec'), "
        "{'__name__': '__main__', '__file__': sys.argv[0]})\n"
    )
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    command = [sys.executable, str(tmp_path / "as_slicer.py")]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert ended.returncode == 0 and "--skip-existing" in ended.stdout, ended.stderr
    assert "options of the installed extension" not in ended.stdout


@pytest.mark.skipif(sys.platform == "win32", reason="its launcher is a shell script")
def test_the_engine_is_the_one_beside_the_window_whatever_the_launcher_puts_first(installed, tmp_path):
    """As PythonSlicer does with the folders of extensions, whatever PYTHONPATH says."""
    launcher = tmp_path / "PythonSlicer"
    launcher.write_text(f"#!/bin/sh\nPYTHONPATH='{installed}':$PYTHONPATH exec '{sys.executable}' \"$@\"\n")
    launcher.chmod(0o755)
    client = process.WorkerClient(process.worker_command(str(launcher)), transport.PipeTransport)
    heard = []
    try:
        client.submit(DescribeJob("describe-1"), heard.append)
        client.wait("describe-1")
    finally:
        client.shutdown()
    assert [event["event"] for event in heard] == ["result"], heard
