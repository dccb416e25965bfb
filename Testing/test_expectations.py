"""What a model expects of its input: in its card, checked; and how a volume that differs is noticed."""

import hashlib
import json
from dataclasses import replace

import numpy as np
import pytest

from conftest import ROOT
from DiffSegLib.errors import InputError
from DiffSegLib.models.card import parse_card
from DiffSegLib.models.shipped import find, read_card
from tiny_models import write_model
from tools.edit_card import edit_card


def test_the_shipped_model_says_what_it_expects():
    card = read_card(find("hippocampus"))
    assert card.expects["modality"] == "MR" and card.expects["contrast"] == "T1" and card.dims == 3
    assert card.field_of_view == (36.0, 50.0, 35.0) and "one hippocampus" in card.expects["anatomy"]


@pytest.mark.parametrize(
    ("expects", "words"),
    [
        ({"modality": 5}, "modality that its model card expects must be str"),
        ({"colour": "red"}, "expects 'colour'; known: modality, contrast"),
        ({"field_of_view_mm": [10, 10, -1]}, "two or three numbers of mm above zero"),
        ({"field_of_view_mm": [10]}, "two or three numbers"),
        ({"field_of_view_mm": [10, 10, True]}, "two or three numbers"),
        ({"field_of_view_mm": "10x10x10"}, "must be list"),
    ],
)
def test_a_card_that_expects_nonsense_is_refused(tiny_model, expects, words):
    text = json.dumps({**read_card(tiny_model).to_json(), "expects": expects})
    with pytest.raises(InputError, match=f"here: .*{words}"):
        parse_card(text, "here")


def test_far_larger_means_more_than_twice_along_some_axis(tiny_model):
    card = replace(read_card(tiny_model), expects={"field_of_view_mm": [36.0, 50.0, 35.0]})
    assert not card.is_far_smaller_than((70.0, 72.0, 100.0)) and card.is_far_smaller_than((50.0, 36.0, 101.0))
    assert not replace(card, expects={}).is_far_smaller_than((999.0, 999.0, 999.0))
    flat = replace(card, expects={"field_of_view_mm": [10.0, 10.0]})
    assert not flat.is_far_smaller_than((5.0, 20.0, 20.0)) and flat.is_far_smaller_than((5.0, 5.0, 21.0))


def weights_of(path):
    data = path.read_bytes()
    return hashlib.sha256(data[8 + int.from_bytes(data[:8], "little") :]).hexdigest()


def test_a_card_is_changed_and_the_weights_are_not(tmp_path):
    from DiffSegLib.models.store import load

    path = write_model(tmp_path / "m.safetensors")
    before, weights = weights_of(path), load(path).network.state_dict()
    edit_card(path, {"expects": {"modality": "CT"}, "description": "ä longer text than there was"})
    card = read_card(path)
    assert card.expects == {"modality": "CT"} and card.description.startswith("ä") and card.name == "m"
    assert weights_of(path) == before
    after = load(path).network.state_dict()
    assert all((after[key] == weights[key]).all() for key in weights)


def test_a_change_that_does_not_fit_leaves_the_file(tmp_path):
    path = write_model(tmp_path / "m.safetensors")
    before = path.read_bytes()
    with pytest.raises(InputError, match="must be str"):
        edit_card(path, {"expects": {"modality": 1}})
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["m.safetensors"]


def test_the_tool_that_ships_the_model_writes_the_keys_that_it_has():
    text = (ROOT / "Testing" / "tools" / "ship_hippocampus.py").read_text(encoding="utf-8")
    for key, value in read_card(find("hippocampus")).expects.items():
        assert f'"{key}": {json.dumps(value)}' in text


pytest.importorskip("slicer", reason="needs the package slicer-core")

import slicer
import slicer.util

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
