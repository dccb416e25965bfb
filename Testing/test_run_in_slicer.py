"""The runner for a real Slicer, started as Slicer starts a script; what it runs is chosen by its arguments."""

import os
import re
import subprocess
import sys

import pytest

from conftest import ROOT

pytest.importorskip("slicer", reason="needs the package slicer-core")
pytest.importorskip("PySide6.QtUiTools", reason="needs the package PySide6_Essentials", exc_type=ImportError)

# Slicer executes the text of the file, with the path as typed; its streams are PythonQt's, which have no more than this
AS_SLICER = """
import sys, types, slicer.util
class Stream:
    closed, softspace = False, 0
    def __init__(self, stream): self.write = lambda text: [stream.write(text), stream.flush()][:0]
    def flush(self): pass
    def isatty(self): return False
sys.stdout, sys.stderr = Stream(sys.stdout), Stream(sys.stderr)
slicer.util.exit = sys.exit
slicer.app = types.SimpleNamespace(testingEnabled=lambda: {testing!r})
sys.argv = {argv!r}
exec(compile(open(sys.argv[0]).read(), "<string>", "exec"), {{"__name__": "__main__", "__file__": sys.argv[0]}})
"""


# what Slicer's own Python has of the engine's packages before any is installed
AT_FIRST = {"numpy", "simpleitk"}


def start(*options, before="", testing=True):
    """The script with these options; before: lines that run first."""
    code = AS_SLICER.format(argv=["Testing/run_in_slicer.py", *options], testing=testing)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "Testing")])}
    environment.pop("DIFFSEG_TALLY", None)  # what is counted is counted once
    command = [sys.executable, "-c", before + code]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)


def files_of(ended):
    """The names of the test files that were collected."""
    return {line.partition("::")[0].rpartition("/")[2] for line in ended.stdout.splitlines() if "::" in line}


def test_the_chosen_tests_run_and_the_code_says_how():
    ended = start("-q", "-k", "without_a_volume_segment_cannot_be_pressed")
    assert ended.returncode == 0 and "1 passed" in ended.stdout, ended.stdout + ended.stderr


def test_nothing_run_is_no_success():
    assert start("-q", "-k", "no_test_has_this_name").returncode not in (0, None)


def test_nothing_runs_where_the_users_own_settings_would_be_changed():
    ended = start("-q", "-k", "no_test_has_this_name", testing=False)
    assert ended.returncode == 2 and ended.stdout == "" and "--testing" in ended.stderr and "Trace" not in ended.stderr


def test_another_extension_than_that_of_the_tests_is_not_tested_by_mistake():
    other = "import sys, types; sys.modules['DiffSeg'] = types.SimpleNamespace(__file__='/installed/DiffSeg.py')\n"
    ended = start("-q", "-k", "no_test_has_this_name", before=other)
    assert ended.returncode == 2 and "/installed/DiffSeg.py, not from the folder of these tests" in ended.stderr


def test_every_file_that_needs_the_scene_is_run():
    """None is left out because somebody forgot to add it to a list."""
    ran = files_of(start("--collect-only", "-q"))
    left = {"test_demo.py", "test_run_in_slicer.py", "test_steps_pictures.py"}
    mine = {path.name for path in (ROOT / "Testing").glob("test_*.py") if "import slicer\n" in path.read_text()}
    assert len(ran) > 20 and mine - ran <= left, sorted(mine - ran)


def test_no_test_exchanges_a_method_of_a_class_of_qt():
    """PythonQt gives it back without its class, and the next call of it ends Slicer; see host.application."""
    patched = re.compile(r"monkeypatch\.(set|del)attr\(\s*(qt|ctk)\.Q?\w")
    found = [path.name for path in (ROOT / "Testing").rglob("*.py") if patched.search(path.read_text(encoding="utf-8"))]
    assert found == []


def test_without_the_engines_packages_the_other_tests_run():
    needed = (line.partition(">")[0] for line in (ROOT / "DiffSeg/Resources/requirements.txt").read_text().splitlines())
    gone = ["torch", *(name for name in needed if name.lower() not in AT_FIRST)]
    ended = start("--collect-only", "-q", before=f"import without_torch; without_torch.hide(*{gone!r})\n")
    assert "scipy" in gone and ended.returncode == 0, ended.stdout[-4000:]
    assert {"test_scene.py", "test_segment_run.py", "test_segment_panel.py", "test_roi.py"} <= files_of(ended)


def test_a_file_that_cannot_be_read_keeps_no_other_from_running():
    gone = "import without_torch; without_torch.hide('tally')\n"  # some test files need it
    ended = start("-q", "-k", "without_a_volume_segment_cannot_be_pressed or test_roi", before=gone)
    assert ended.returncode not in (0, None) and " passed" in ended.stdout and " errors" in ended.stdout
