"""The sample that comes with the module: registered with Sample Data, and good for the shipped model."""

import hashlib
import sys
import types
from urllib.parse import urlparse
from urllib.request import url2pathname

import numpy as np
import pytest

from conftest import ROOT

pytest.importorskip("slicer", reason="needs the package slicer-core")

pytest.importorskip("torch", reason="Slicer's Python has no torch; install it in the section Environment")

import slicer
import slicer.util
import torch

from DiffSegLib.data.files import read
from DiffSegLib.errors import InputError
from DiffSegLib.inference import predict
from DiffSegLib.inference.predict import Predictor
from DiffSegLib.jobs import SegmentOptions
from DiffSegLib.models.shipped import find
from DiffSegLib.models.store import load
from DiffSegLib.scene import sample_data
from DiffSegLib.scene.host import SceneHost, inside_slicer
from DiffSegLib.scene.logic import SegmentLogic
from DiffSegLib.scene.process import WorkerClient


@pytest.fixture
def scene():
    host = SceneHost()
    host.scene.Clear(0)
    yield host
    host.scene.Clear(0)


class SampleDataLogic:
    """Stands for Slicer's; remembers what it was given."""

    def __init__(self):
        self.calls = []

    def registerCustomSampleDataSource(self, **given):  # noqa: N802 - Slicer's name
        self.calls.append(given)


def test_the_sample_is_registered_with_its_file_checksum_and_thumbnail(monkeypatch):
    logic = SampleDataLogic()
    monkeypatch.setitem(sys.modules, "SampleData", types.SimpleNamespace(SampleDataLogic=logic))
    sample_data.register()
    (given,) = logic.calls
    assert given["category"] == "DiffSeg" and given["sampleName"] == given["nodeNames"] == sample_data.NAME
    place = urlparse(given["uris"])
    assert place.scheme == "file"
    with open(url2pathname(place.path), "rb") as file:
        assert given["checksums"] == "SHA256:" + hashlib.sha256(file.read()).hexdigest()
    assert given["uris"].endswith("/" + given["fileNames"]) and given["fileNames"].endswith(".nrrd")
    with open(given["thumbnailFileName"], "rb") as file:
        head = file.read(24)
    assert head[1:4] == b"PNG" and [int.from_bytes(head[n : n + 4], "big") for n in (16, 20)] == [260, 280]


def test_the_category_gets_a_title_where_slicer_knows_titles(monkeypatch):
    logic, titles = SampleDataLogic(), []
    logic.registerCustomSampleDataCategory = lambda category, title: titles.append((category, title))
    monkeypatch.setitem(sys.modules, "SampleData", types.SimpleNamespace(SampleDataLogic=logic))
    sample_data.register()
    assert titles == [("DiffSeg", "DiffSeg")] and len(logic.calls) == 1


def test_a_slicer_without_sample_data_is_no_problem(monkeypatch):
    monkeypatch.setitem(sys.modules, "SampleData", None)
    sample_data.register()


@pytest.mark.skipif(inside_slicer(), reason="Slicer's own application object cannot be listened to")
def test_the_module_registers_it_when_slicer_has_started(monkeypatch):
    pytest.importorskip("PySide6.QtUiTools", reason="needs the package PySide6_Essentials", exc_type=ImportError)
    from host.application import Host

    host, heard = Host(), []
    monkeypatch.setattr(type(slicer.app), "connect", lambda _self, *given: heard.append(given), raising=False)
    shown = types.SimpleNamespace(path=host.module.__file__)
    host.module.DiffSeg(shown)
    assert heard == [("startupCompleted()", sample_data.register)]
    assert "must not be used for diagnosis" in shown.helpText


def test_the_sample_is_small_and_its_licence_stands_beside_it():
    path = sample_data.sample_file()
    assert path.stat().st_size < 200_000
    notice = (path.parent / "MNI152-license.txt").read_text()
    assert "Copyright (C) 1993-2004 Louis Collins" in notice and "modify, and distribute" in notice
    assert b"Copyright:=Copyright (C) 1993-2004 Louis Collins" in path.read_bytes()[:1000]


def test_the_files_of_the_sample_are_installed():
    listed = (ROOT / "DiffSeg" / "CMakeLists.txt").read_text()
    for path in sample_data.sample_file().parent.iterdir():
        assert f"Resources/SampleData/{path.name}\n" in listed


def test_a_sample_that_was_not_installed_gets_a_sentence():
    with pytest.raises(InputError, match=r"other.nrrd: the sample is missing; install the extension again"):
        sample_data.sample_file("other.nrrd")


def test_it_is_loaded_once_where_the_left_hippocampus_is(scene):
    node = sample_data.load()
    assert node.GetName() == sample_data.NAME and slicer.util.arrayFromVolume(node).shape == (38, 52, 36)
    count = scene.scene.GetNumberOfNodes()
    assert sample_data.load() is node and scene.scene.GetNumberOfNodes() == count
    node.RemoveAttribute("DiffSeg.Sample")  # as when it came by way of the Sample Data module
    assert sample_data.load() is node
    bounds = np.zeros(6)
    node.GetRASBounds(bounds)
    center = (bounds[::2] + bounds[1::2]) / 2
    np.testing.assert_allclose(center, (-27, -23, -13), atol=1)


def test_the_shipped_model_finds_a_hippocampus_of_a_plausible_size_in_it(scene):
    client = WorkerClient()
    try:
        result = SegmentLogic(client).segment(sample_data.load(), model="hippocampus")
    finally:
        client.shutdown()
    assert set(result.volumesMl) == {"Anterior hippocampus", "Posterior hippocampus"}
    assert 1.0 < sum(result.volumesMl.values()) < 5.0 and min(result.volumesMl.values()) > 0.5
    assert result.warnings == []


def test_the_sample_is_what_its_script_makes(tmp_path):
    pytest.importorskip("nilearn", reason="needs the package nilearn")
    import SimpleITK as sitk

    sys.path.insert(0, str(ROOT / "Testing" / "tools"))
    try:
        import make_sample
    finally:
        sys.path.pop(0)
    make_sample.write_sample(tmp_path / "again.nrrd")
    again, shipped = (sitk.ReadImage(str(path)) for path in (tmp_path / "again.nrrd", sample_data.sample_file()))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(again), sitk.GetArrayFromImage(shipped))
    assert again.GetOrigin() == shipped.GetOrigin() and again.GetDirection() == shipped.GetDirection()


def test_the_precisions_agree_on_the_sample(monkeypatch):
    """bfloat16, on a processor without it as torch imitates it, against float32: Dice of each structure above 0.99."""
    volume, model = read(sample_data.sample_file()), load(find("hippocampus"))
    masks = []
    for dtype in (torch.float32, torch.bfloat16):
        monkeypatch.setattr(predict, "pick_precision", lambda _name, _device, dtype=dtype: dtype)
        masks.append(Predictor(model, "cpu")(volume, SegmentOptions(steps=1)).mask)
    for value in (1, 2):
        one, other = (mask == value for mask in masks)
        assert 2 * (one & other).sum() / (one.sum() + other.sum()) > 0.99
