"""How a volume differs from what a model was trained on: noticed on real MRML, never a reason to refuse."""

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("slicer", reason="needs the package slicer-core")

import slicer
import slicer.util

from DiffSegLib.models.shipped import read_card
from DiffSegLib.scene import expectations
from DiffSegLib.scene.host import SceneHost

MRI = {"expects": {"modality": "MR"}, "channels": ("T1 MR",)}


@pytest.fixture(scope="module")
def host():
    return SceneHost()


@pytest.fixture
def scene(host, monkeypatch):
    monkeypatch.setattr(slicer, "mrmlScene", host.scene)
    monkeypatch.setattr(slicer, "modules", slicer.modules)
    host.scene.Clear(0)
    return host.scene


@pytest.fixture
def card(tiny_model):
    return replace(read_card(tiny_model), **MRI)


def add_volume(array):
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "scan")
    slicer.util.updateVolumeFromArray(node, array)
    return node


def head(air, tissue, shape=(30, 40, 40), dtype=np.int16):
    """A ball of tissue in air."""
    rng = np.random.default_rng(0)
    grid = np.stack(np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij"))
    inside = (grid**2).sum(0) < 0.6
    return np.where(inside, rng.normal(tissue, 30, shape), rng.normal(air, 5, shape)).astype(dtype)


def test_the_kind_of_image_is_known_from_the_series_or_the_study(scene, card):
    volume = add_volume(head(0, 300))
    assert expectations.otherModality(card, volume) is None  # nothing tells it
    hierarchy = slicer.mrmlScene.GetSubjectHierarchyNode()
    study = hierarchy.CreateStudyItem(hierarchy.GetSceneItemID(), "study")
    item = hierarchy.GetItemByDataNode(volume) or hierarchy.CreateItem(study, volume)
    hierarchy.SetItemParent(item, study)
    hierarchy.SetItemAttribute(study, expectations.MODALITY, "PT")
    assert expectations.otherModality(card, volume) == expectations.Modality("PT", True)
    hierarchy.SetItemAttribute(item, expectations.MODALITY, "MR")
    assert expectations.otherModality(card, volume) is None


def test_voxels_in_hounsfield_units_are_a_ct(scene, card):
    volume = add_volume(head(0, 300))
    units = slicer.vtkCodedEntry()
    units.SetValueSchemeMeaning("[hnsf'U]", "UCUM", "Hounsfield unit")
    volume.SetVoxelValueUnits(units)
    assert expectations.otherModality(card, volume) == expectations.Modality("CT", True)


@pytest.mark.parametrize(
    ("array", "guess"),
    [
        (head(-1000, 40), expectations.Modality("CT", False)),
        (head(-1000, 40, dtype=np.float32), expectations.Modality("CT", False)),
        (head(0, 300), None),
        (head(10, 300, dtype=np.uint16), None),
        (head(0, 300).astype(np.float32) / 100 - 1, None),  # normalised
        (head(-30000, 0), None),  # below what a scanner writes
    ],
)
def test_a_ct_may_be_told_by_its_air(scene, card, array, guess):
    assert expectations.otherModality(card, add_volume(array)) == guess


def test_a_ct_without_anything_below_zero_is_in_no_hounsfield_units(scene, card):
    ct = replace(card, expects={"modality": "CT"})
    assert expectations.otherModality(ct, add_volume(head(24, 1064))) == expectations.Modality("", False)
    assert expectations.otherModality(ct, add_volume(head(-1000, 40))) is None


@pytest.mark.parametrize(
    ("expects", "channels", "wanted"),
    [
        ({"modality": "CT"}, ("anything",), "CT"),
        ({"modality": "T1 MR"}, ("x",), "MR"),
        ({}, ("MRI",), "MR"),
        ({}, ("T1w", "FLAIR"), "MR"),
        ({}, ("CT",), "CT"),
        ({"modality": "OPT"}, ("x",), "OPT"),
        ({}, ("CTA_like",), ""),
    ],
)
def test_what_a_model_wants_is_in_its_card_or_its_channels_names(card, expects, channels, wanted):
    assert expectations.wantedModality(replace(card, expects=expects, channels=channels)) == wanted


def test_a_model_that_says_nothing_causes_no_hint(scene, card):
    quiet = replace(card, expects={}, channels=("image",))
    volume = add_volume(head(-1000, 40))
    assert expectations.otherModality(quiet, volume) is None and not expectations.farLarger(quiet, volume)


def test_a_frame_of_a_sequence_is_noticed(scene):
    volume = add_volume(head(0, 300))
    assert expectations.frameOf(volume) is None
    proxy = add_sequence(volume, 3)
    assert expectations.frameOf(proxy) == (2, 3)


def add_sequence(volume, count):
    """The proxy of a sequence of `count` copies of a volume, at the second."""
    sequence = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceNode", "time")
    for n in range(count):
        sequence.SetDataNodeAtValue(volume, str(n))
    browser = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode", "browser")
    browser.AddSynchronizedSequenceNode(sequence)
    browser.SetSelectedItemNumber(1)
    slicer.modules.sequences.logic().UpdateProxyNodesFromSequences(browser)
    return browser.GetProxyNode(sequence)
