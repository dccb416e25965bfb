"""The window in a dark style, at 125 % and with letters larger by as much; and that opening it loads nothing large."""

import json
import os
import re
import subprocess
import sys

import pytest

from conftest import ROOT

pytest.importorskip("slicer", reason="needs the package slicer-core")

from DiffSegLib.scene.host import inside_slicer
from host.application import need_window

need_window()
if inside_slicer():
    pytest.skip("opens a window of its own, in another process", allow_module_level=True)


@pytest.fixture(scope="module")
def look():
    """What Testing/look.py says of the window in a process that was started at 125 %."""
    folders = os.pathsep.join((str(ROOT), str(ROOT / "Testing")))
    settings = {"PYTHONPATH": folders, "QT_SCALE_FACTOR": "1.25", "QT_QPA_PLATFORM": "offscreen"}
    command = [sys.executable, str(ROOT / "Testing" / "look.py")]
    ended = subprocess.run(command, env=os.environ | settings, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr[-3000:]
    return json.loads(ended.stdout.splitlines()[-1])


def test_importing_and_opening_the_module_loads_no_package_but_its_own(look):
    """Neither torch nor scipy, SimpleITK or matplotlib: each of them takes longer than 100 ms."""
    assert look["imported"] == look["opened"] == ["DiffSeg", "DiffSegLib"]


def test_no_text_is_cut_off_at_125_percent(look):
    assert look["ratio"] == 1.25 and look["widgets"] > 100
    assert look["clipped"] == []


def test_every_text_can_be_read_in_a_dark_style(look):
    assert look["unreadable"] == []


def test_no_form_and_no_panel_has_colours_of_its_own():
    """Style sheets and colours in a text are seen by no palette, so they are looked for."""
    fixed = re.compile(r"styleSheet|Palette|(?<![\w-])(?:background-)?color\s*[:=]\s*[\"'#\w]", re.I)
    files = [*(ROOT / "DiffSeg" / "Resources" / "UI").glob("*.ui"), *(ROOT / "DiffSegLib/scene/panels").glob("*.py")]
    assert len(files) > 12
    found = {f.name: fixed.findall(f.read_text(encoding="utf-8")) for f in files}
    assert {name: hits for name, hits in found.items() if hits} == {}
