"""The runner for a real Slicer, started as Slicer starts a script; what it runs is chosen by its arguments."""

import os
import subprocess
import sys

import pytest

from conftest import ROOT

pytest.importorskip("slicer", reason="needs the package slicer-core")
pytest.importorskip("PySide6.QtUiTools", reason="needs the package PySide6_Essentials", exc_type=ImportError)

# Slicer executes the text of the file, with the path as typed
AS_SLICER = """
import sys, slicer.util
slicer.util.exit = sys.exit
sys.argv = {argv!r}
exec(compile(open(sys.argv[0]).read(), "<string>", "exec"), {{"__name__": "__main__", "__file__": sys.argv[0]}})
"""


def run(tests):
    code = AS_SLICER.format(argv=["Testing/run_in_slicer.py", "-q", "-k", tests])
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)


def test_the_chosen_tests_run_and_the_code_says_how():
    ended = run("without_a_volume_segment_cannot_be_pressed")
    assert ended.returncode == 0 and "1 passed" in ended.stdout, ended.stdout + ended.stderr


def test_nothing_run_is_no_success():
    assert run("no_test_has_this_name").returncode not in (0, None)


def test_every_file_that_needs_the_scene_is_run():
    """None is left out because somebody forgot to add it to a list."""
    code = AS_SLICER.format(argv=["Testing/run_in_slicer.py", "--collect-only", "-q"])
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)
    ran = {line.partition("::")[0].rpartition("/")[2] for line in ended.stdout.splitlines() if "::" in line}
    left = {"test_demo.py", "test_run_in_slicer.py", "test_steps_pictures.py"}
    mine = {path.name for path in (ROOT / "Testing").glob("test_*.py") if "import slicer\n" in path.read_text()}
    assert len(ran) > 20 and mine - ran <= left, sorted(mine - ran)
