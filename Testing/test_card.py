"""What a model expects of its input stands in its card, checked; a card can be changed without its weights."""

import hashlib
import json
import re
from dataclasses import replace

import pytest

from conftest import ROOT
from DiffSegLib.errors import InputError
from DiffSegLib.labels import labels_from_names
from DiffSegLib.models.card import parse_card
from DiffSegLib.models.shipped import find, read_card
from tiny_models import write_model
from tools.edit_card import edit_card


def test_the_shipped_model_says_what_it_expects():
    card = read_card(find("hippocampus"))
    assert card.expects["modality"] == "MR" and card.expects["contrast"] == "T1" and card.dims == 3
    assert card.field_of_view == (36.0, 50.0, 35.0) and "one hippocampus" in card.expects["anatomy"]


def test_every_page_says_of_the_shipped_model_what_its_own_page_and_its_card_say():
    card = read_card(find("hippocampus"))
    own = (ROOT / "docs" / "models" / "hippocampus.md").read_text(encoding="utf-8")
    dice = re.search(r"mean Dice \*\*(0\.\d{4})\*\*", own)[1]
    seconds = re.search(r"One case takes (\S+ s)", own)[1]
    error = re.search(r"temperature of (\S+) (0\.\d{4})\.", own)
    assert float(dice) == card.scores["dice"] and float(error[1]) == card.temperature
    assert f"smoothed by {card.smoothing:g} voxels" in own
    readme, decisions = ((ROOT / page).read_text(encoding="utf-8") for page in ("README.md", "docs/decisions.md"))
    table = readme.split("## The hippocampus model")[1].split("It is a research model")[0]
    assert f"**{dice}**" in table and f"smoothed by {card.smoothing:g} voxels {dice}" in table
    assert f"**{seconds}**" in table and f"| {error[2]} with smoothing and temperature" in table
    assert table.count("round differently") == 1
    for words in (f"to {error[2]};", f"to {dice} ([models/hippocampus.md]", f"A Gaussian of {card.smoothing:g} voxels"):
        assert words in decisions, words


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


def test_far_smaller_means_less_than_a_third_along_some_axis(tiny_model):
    card = replace(read_card(tiny_model), expects={"field_of_view_mm": [36.0, 51.0, 33.0]})
    assert not card.is_far_larger_than((17.1, 12.1, 11.1)) and card.is_far_larger_than((99.0, 99.0, 10.9))
    assert not replace(card, expects={}).is_far_larger_than((1e-5, 1e-5, 1e-5))
    flat = replace(card, expects={"field_of_view_mm": [9.0, 9.0]})
    assert not flat.is_far_larger_than((0.1, 3.1, 3.1)) and flat.is_far_larger_than((2.9, 0.1, 9.0))


@pytest.mark.parametrize("name", ["", "  ", "a\0b", "a\nb", "a\u2028b", "\ud800", "x" * 201])
def test_a_label_that_no_segment_could_be_called_is_refused(tiny_model, name):
    card = read_card(tiny_model).to_json()
    card["labels"][0]["name"] = name
    with pytest.raises(InputError, match=r"here: a label is called .*; it needs 1 to 200 letters on one line"):
        parse_card(json.dumps(card), "here")
    with pytest.raises(InputError, match="data: a label is called"):
        labels_from_names({1: name}, "data")


def test_labels_of_one_name_are_refused_and_of_any_script_taken(tiny_model):
    card = read_card(tiny_model).to_json()
    card["labels"][0]["name"] = "海馬 (vorn, 'größer')"
    assert parse_card(json.dumps(card), "here").labels[0].name == "海馬 (vorn, 'größer')"
    card["labels"][1]["name"] = card["labels"][0]["name"]
    with pytest.raises(InputError, match="labels with different values and names"):
        parse_card(json.dumps(card), "here")


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


def test_a_card_keeps_the_axes_it_was_trained_on_mirrored_and_an_older_card_has_none(tiny_model):
    card = read_card(tiny_model).to_json()
    assert parse_card(json.dumps({**card, "flip": [True, False, True]}), "here").flip == (True, False, True)
    del card["flip"]
    assert parse_card(json.dumps(card), "here").flip == ()
    with pytest.raises(InputError, match="here: augment.flip"):
        parse_card(json.dumps({**card, "flip": [True]}), "here")
