"""Volumes, models and machines that a run cannot take or not as they are: each is told, and the scene is left."""

import dataclasses
import errno
import os
import sys

import numpy as np
import pytest

import without_torch
from conftest import blob_case

pytest.importorskip("slicer", reason="needs the package slicer-core")


import scene_run
from DiffSegLib.errors import DiffSegError, EnvironmentProblem, InputError
from DiffSegLib.scene import logic as logic_module
from DiffSegLib.scene import nodes
from DiffSegLib.scene.logic import SegmentLogic
from DiffSegLib.scene.process import WorkerClient, worker_environment
from DiffSegLib.scene.transport import PipeTransport
from host.application import put_temporary
from scene_run import add_volume, cancel_after, everything
from tally import tried
from test_expectations import add_sequence
from tiny_models import FLAT, write_model

host, scene, client = scene_run.host, scene_run.scene, scene_run.client  # fixtures
logic, volume, two_channels = scene_run.logic, scene_run.volume, scene_run.two_channels


@pytest.fixture(scope="module")
def flat_model(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("model") / "flat.safetensors", settings=FLAT)


def test_a_model_of_single_slices_takes_one(logic, scene, flat_model):
    slice_ = add_volume(blob_case(0)[0][9:10], name="slice")
    run = logic.segment(slice_, flat_model)
    assert run.mask.shape == (1, 22, 20) and run.node.GetSegmentation().GetNumberOfSegments() == 2
    np.testing.assert_array_equal(nodes.read_labels(run.node, slice_, run.labels), run.mask)


def test_single_slices_and_volumes_are_not_mixed_up(logic, volume, flat_model, tiny_model):
    slice_ = add_volume(blob_case(0)[0][9:10], name="slice")
    before = everything()
    with pytest.raises(InputError, match=r"scan has 18 slices; this model takes a single one"):
        logic.segment(volume, flat_model)
    with pytest.raises(InputError, match=r"slice is a single slice; this model needs a 3D volume"):
        logic.segment(slice_, tiny_model)
    thin = ((9, 10), (0, 22), (0, 20))
    with pytest.raises(InputError, match=r"region of interest in scan is a single slice"):
        logic.segment(volume, tiny_model, roi=thin)
    assert everything() == before
    run = logic.segment(volume, flat_model, roi=thin)  # a slice of a volume is one
    np.testing.assert_array_equal(run.mask[9:10], logic.segment(slice_, flat_model).mask)


def test_a_frame_of_a_sequence_is_segmented_with_a_warning(logic, volume, tiny_model):
    proxy = add_sequence(volume, 4)
    run = logic.segment(proxy, tiny_model)
    assert any("shows frame 2 of 4 of a sequence" in text for text in run.warnings)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_voxels_that_are_no_numbers_are_told_with_the_volumes_name(logic, volume, two_channels, tiny_model, value):
    array = blob_case(0)[0].copy()
    array[3, 4, 5] = value
    broken = add_volume(array, name="broken")
    before = everything()
    with pytest.raises(DiffSegError, match=r"broken: holds values that are not numbers"):
        logic.segment(broken, tiny_model)
    with pytest.raises(DiffSegError, match=r"broken: holds values that are not numbers"):
        logic.segment(volume, two_channels, channels=[broken])
    assert everything() == before and logic.segment(volume, tiny_model).error is None


def test_integers_of_any_kind_give_the_mask_of_their_values(logic, scene, tiny_model):
    array = blob_case(0)[0].round()
    masks = [
        logic.segment(add_volume(array.astype(kind)), tiny_model).mask for kind in (np.float64, np.int16, np.int32)
    ]
    assert masks[0].any() and all((mask == masks[0]).all() for mask in masks)


def test_a_temporary_folder_that_is_none(logic, volume, tiny_model, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("no folder")
    put_temporary(monkeypatch, tmp_path / "file")
    before = everything()
    with pytest.raises(InputError, match=r"cannot be handed to the engine .*free some space, or choose another"):
        logic.segment(volume, tiny_model)
    assert everything() == before and not logic.client.busy


def test_a_full_disk_before_the_run(logic, volume, tiny_model, tmp_path, monkeypatch):
    def full(*_):
        tried("faults injected: memory, disk, loss")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    put_temporary(monkeypatch, tmp_path)
    monkeypatch.setattr(np, "save", full)
    with pytest.raises(InputError, match="No space left on device"):
        logic.segment(volume, tiny_model)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_during_the_run(logic, volume, tiny_model, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("no folder")
    plain = logic_module.write_job

    def write_job(*arguments):
        job, folder = plain(*arguments)
        return dataclasses.replace(job, output=str(tmp_path / "file" / "below")), folder

    monkeypatch.setattr(logic_module, "write_job", write_job)
    before = everything()
    with pytest.raises(DiffSegError, match="cannot be written"):
        logic.segment(volume, tiny_model)
    assert everything() == before


def test_no_files_are_left_behind(logic, volume, tiny_model, tmp_path, monkeypatch):
    put_temporary(monkeypatch, tmp_path)
    logic.segment(volume, tiny_model)
    cancel_after(logic, 1, volume, model=tiny_model)
    assert list(tmp_path.iterdir()) == []


def test_a_python_without_torch_points_to_the_section_environment(volume, tiny_model):
    bare = WorkerClient(without_torch.worker_command(), PipeTransport, worker_environment(sys.executable))
    before = everything()
    with pytest.raises(EnvironmentProblem, match=r"No module named 'torch'.*section Environment"):
        SegmentLogic(bare).segment(volume, tiny_model)
    assert everything() == before


def test_what_a_worker_last_said_is_read_whatever_the_code_page(volume, monkeypatch):
    """On Windows a pipe has the system's: a folder of Jörg's came as of J?rg's."""
    monkeypatch.setenv("PYTHONIOENCODING", "cp1252")
    program = "import sys; sys.exit('C:/Users/J\\u00f6rg: no such folder')"
    broken = WorkerClient([sys.executable, "-c", program], PipeTransport, worker_environment(sys.executable))
    with pytest.raises(EnvironmentProblem, match="It last said: C:/Users/Jörg: no such folder"):
        SegmentLogic(broken).segment(volume)


def test_the_workers_threads_do_not_spin_unless_the_user_says_how(monkeypatch):
    for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY"):
        monkeypatch.delenv(name, raising=False)
    assert worker_environment(sys.executable)["GOMP_SPINCOUNT"] == "1000"
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    assert "GOMP_SPINCOUNT" not in worker_environment(sys.executable)
    monkeypatch.setenv("GOMP_SPINCOUNT", "7")
    assert worker_environment(sys.executable)["GOMP_SPINCOUNT"] == "7"


def test_a_model_that_cannot_be_loaded_is_told(logic, tmp_path):
    with pytest.raises(InputError, match="neither a model file"):
        logic.prepare("nowhere")
    path = write_model(tmp_path / "cut.safetensors")
    path.write_bytes(path.read_bytes()[:-100])
    told = []
    logic.prepare(path, onFinished=told.append)
    while not told:
        logic.client.pump(0.1)
    assert "cut.safetensors: cannot be read" in told[0]
