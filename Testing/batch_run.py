"""The batch's script, images for it, and one worker that the tests of a file share."""

import signal

import numpy as np
import pytest

from conftest import ROOT, blob_case, write_image

pytest.importorskip("slicer", reason="needs the package slicer-core")

from DiffSegLib.scene import logic, process
from DiffSegLib.scene.host import inside_slicer

SCRIPT = ROOT / "DiffSegLib" / "scene" / "batch.py"
as_program = pytest.mark.skipif(inside_slicer(), reason="runs outside of Slicer")


@pytest.fixture(scope="module")
def client():
    made = process.WorkerClient()
    yield made
    made.shutdown()


@pytest.fixture
def warm(client, monkeypatch):
    """One worker for all batches of this file; the process's own signal handlers come back."""
    kept = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    assert logic.SegmentLogic  # imported before its client's class is exchanged
    monkeypatch.setattr(process, "WorkerClient", lambda: client)
    monkeypatch.setattr(client, "shutdown", lambda: None)
    yield
    for number, handler in kept.items():
        signal.signal(number, handler)


@pytest.fixture
def scans(tmp_path):
    """Three images, one of them turned and with thick slices."""
    folder = tmp_path / "scans"
    folder.mkdir()
    affine = np.array([[0, 0.9, 0, 3.0], [-1.1, 0, 0, 9.0], [0, 0, 2.0, -4.0], [0, 0, 0, 1]])
    for n, place in enumerate((None, affine, None)):
        write_image(folder / f"case{n}.nii.gz", blob_case(n)[0], place)
    return folder


def arguments(model, scans, out, *more):
    return ["--model", str(model), "--input", str(scans), "--output", str(out), *map(str, more)]
