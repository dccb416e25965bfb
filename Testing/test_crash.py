"""Killed with `kill -9` at any moment: nothing half under a final name, and what is run again ends as if undisturbed.

DIFFSEG_KILLS says how often, three times if not set; `make nightly` takes 50.
"""

import json
import os
import random
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from conftest import ROOT, blob_case, write_image
from DiffSegLib.commands import run
from DiffSegLib.data.cases import image_files
from DiffSegLib.data.files import read_label
from DiffSegLib.whole_files import check_folder, whole_file, write_text
from tally import tried

KILLS = int(os.environ.get("DIFFSEG_KILLS", "3"))


def test_what_a_killed_process_left_of_a_file_goes_when_it_is_written_again(tmp_path):
    names = (".a.json.diffseg-1.part", ".b.json.diffseg-2.part", ".a.json.1.part", ".a.json.mine.part2")
    old, *others = (tmp_path / name for name in names)
    for path in (old, *others, young := tmp_path / ".a.json.diffseg-3.part"):
        path.write_text("half")
        if path != young:
            os.utime(path, (time.time() - 3600,) * 2)
    write_text(tmp_path / "a.json", "{}")
    assert set(tmp_path.iterdir()) == {tmp_path / "a.json", young, *others}


def test_what_killed_processes_left_of_files_that_are_whole_goes_when_the_folder_is_looked_at(tmp_path):
    names = (".a.seg.nrrd.diffseg-01234567.part.nrrd", ".b.json.diffseg-89abcdef.part", ".dir.diffseg-0.part")
    old = [tmp_path / name for name in names]
    own = [tmp_path / name for name in (".movie.mkv.12345678.part", ".download.1.part", "a.diffseg-1.part", ".a.part")]
    old[-1].mkdir()
    for path in (*old, *own, young := tmp_path / ".d.json.diffseg-1.part"):
        if not path.is_dir():
            path.write_text("half")
        if path != young:
            os.utime(path, (time.time() - 3600,) * 2)
    check_folder(tmp_path)
    assert set(tmp_path.iterdir()) == {*own, young, old[-1]}, "what cannot be removed stays, and nothing is said"


def test_another_process_may_remove_what_is_left_at_the_same_moment(tmp_path, monkeypatch):
    left = tmp_path / ".a.json.diffseg-1.part"
    left.write_text("half")
    os.utime(left, (1, 1))
    plain = Path.lstat
    monkeypatch.setattr(Path, "lstat", lambda path: (plain(path), path.unlink())[0])
    check_folder(tmp_path)
    assert not list(tmp_path.iterdir())


def test_nobody_knows_what_a_file_is_called_while_it_is_written(tmp_path):
    """Else a link of that name could lead the writer to a file of its user's elsewhere."""
    names = set()
    for _ in range(3):
        with whole_file(tmp_path / "a.json") as aside:
            names.add(aside.name)
            aside.write_text("{}")
    assert len(names) == 3 and [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_no_test_reaches_another_machine():
    for where in ("here", "in a process"):
        if where == "here":
            with pytest.raises(OSError, match="no other machine"):
                socket.create_connection(("192.0.2.1", 80), timeout=1)
            continue
        code = "import socket; socket.create_connection(('192.0.2.1', 80), timeout=1)"
        ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert "no other machine" in ended.stderr


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scans")
    for n in range(6):
        write_image(folder / f"case{n}.nii.gz", blob_case(n, (28, 32, 24))[0])
    return folder


def test_a_batch_killed_at_any_moment_goes_on_with_what_is_whole(scans, tiny_model, tmp_path):
    options = ["--model", str(tiny_model), "--input", str(scans), "--device", "cpu", "--format", "nii.gz"]
    assert run(["predict", *options, "--output", str(tmp_path / "whole")]) == 0
    wanted = {path.name: read_label(path)[0] for path in (tmp_path / "whole").glob("*.nii.gz")}
    out, chance = tmp_path / "out", random.Random()
    for kill in range(KILLS):
        command = [sys.executable, "-m", "DiffSegLib", "predict", *options, "--output", str(out), "--skip-existing"]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([os.environ["PYTHONPATH"], str(ROOT)])}
        process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
        seen = set(out.glob("*.nii.gz"))  # hidden ones too: half of the kills come while a file is written
        while process.poll() is None and set(out.glob("*.nii.gz")) <= seen:
            time.sleep(0.002)
        delay = chance.uniform(0.0, 0.15) if kill % 2 else 0.0
        time.sleep(delay)
        process.kill()
        process.wait()
        tried("processes killed")
        for path in image_files(out):  # whatever stands under a final name is whole; what was begun is hidden
            np.testing.assert_array_equal(read_label(path)[0], wanted[path.name], err_msg=f"kill {kill}, {delay} s")
        for path in out.glob("*.json"):
            assert json.loads(path.read_text())["case"] == path.stem and (out / f"{path.stem}.nii.gz").is_file()
        if len(list(out.glob("*.json"))) == len(wanted):
            for path in out.iterdir():
                path.unlink()  # begin anew: some kills are left
    assert run(["predict", *options, "--output", str(out), "--skip-existing"]) == 0
    assert {path.name for path in image_files(out)} == set(wanted) and len(list(out.glob("*.json"))) == 6
    for name, mask in wanted.items():
        np.testing.assert_array_equal(read_label(out / name)[0], mask)
