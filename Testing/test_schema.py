"""Plain data from JSON: what people and editors write is taken or told, with the place in the file."""

import json

import pytest

from DiffSegLib import config, schema
from DiffSegLib.commands.train import _labels
from DiffSegLib.errors import InputError
from DiffSegLib.jobs import EvaluateJob
from DiffSegLib.labels import Label
from DiffSegLib.models.card import parse_card
from DiffSegLib.models.shipped import read_card

HUGE = 10**400


def test_a_key_that_occurs_twice_is_refused_wherever_it_stands(tmp_path):
    path = tmp_path / "config.json"
    path.write_text('{"training": {"batch": 2}, "training": {"seed": 3}}')
    with pytest.raises(InputError, match=r"config\.json: .*'training' occurs twice"):
        config.load(path)
    path.write_text('{"training": {"batch": 2, "seed": 3, "batch": 4}}')
    with pytest.raises(InputError, match="'batch' occurs twice"):
        config.load(path)
    path.write_text('{"training": {"batch": 2}, "data": {}}')
    assert config.load(path).training.batch == 2


def test_a_file_may_begin_with_the_mark_that_editors_on_windows_write(tmp_path):
    path = tmp_path / "labels.json"
    path.write_text('{"a": 1}', encoding="utf-8-sig")
    assert schema.read_json(path) == {"a": 1}
    path.write_text('[{"value": 1, "name": "a"}]', encoding="utf-8-sig")
    assert _labels(path) == (Label(1, "a"),)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"temperature": HUGE}, "temperature is 1000.*; it must be a finite number"),
        ({"temperature": -HUGE}, "temperature is -1000.*; it must be a finite number"),
        ({"labels": [{"value": 1, "name": "a", "color": [0, 0, HUGE]}]}, r"color\[2\] is 10.*; it must be a finite"),
        ({"expects": {"field_of_view_mm": [HUGE, 1, 1]}}, "two or three numbers of mm above zero"),
    ],
)
def test_a_whole_number_beyond_all_floats_is_told_in_one_short_sentence(tiny_model, change, words):
    text = json.dumps({**read_card(tiny_model).to_json(), **change})
    with pytest.raises(InputError, match=words) as told:
        parse_card(text, "here")
    assert len(str(told.value)) < 150


def test_the_greatest_float_is_a_number():
    assert schema.build(Label, {"value": 1, "name": "a", "color": [1.7976931348623157e308, 0, 1]}, "x").color[0] > 1e308


def test_a_wrong_item_is_named_by_its_place(tiny_model, tmp_path):
    card = read_card(tiny_model).to_json()
    card["labels"][1]["color"] = [0.5, True, 0.5]
    with pytest.raises(InputError, match=r"here: model card: labels\[1\]\.color\[1\] is True; it must be a number\."):
        parse_card(json.dumps(card), "here")
    path = tmp_path / "labels.json"
    path.write_text(json.dumps([{"value": n + 1, "name": f"s{n}"} for n in range(50)] + [{"value": 1.0, "name": "a"}]))
    with pytest.raises(InputError, match=r"labels\.json: label\[50\]\.value is 1\.0; it must be a whole number\."):
        _labels(path)
    path.write_text('[{"value": 1, "name": "a", "color": [1, 0]}]')
    with pytest.raises(
        InputError, match=r"label\[0\]\.color is \[1, 0\]; .* list of 3: a number, a number, a number\."
    ):
        _labels(path)
    with pytest.raises(InputError, match="^evaluate job: lacks 'id'"):
        EvaluateJob.from_json({"do": "evaluate"})


def test_a_long_wrong_value_is_shortened():
    wrong = {"value": 1, "name": {f"key {n}": "x" * 1000 for n in range(100)}}
    with pytest.raises(InputError, match=r"label\.name is \{'key 0': 'xx.*; it must be text\.") as told:
        Label.from_json(wrong, "labels.json")
    assert len(str(told.value)) < 300


def test_numbers_are_taken_for_codes_names_and_channels(tiny_model):
    card = read_card(tiny_model).to_json()
    card["labels"][0] |= {"name": 5, "type": ["SCT", 5366008, "Hippocampus"], "category": ["SCT", 85756007, "Tissue"]}
    read = parse_card(json.dumps({**card, "channels": [1]}), "here")
    assert read.channels == ("1",) and read.labels[0].name == "5"
    assert read.labels[0].type == ("SCT", "5366008", "Hippocampus")
    with pytest.raises(InputError, match="name is True; it must be text"):
        Label.from_json({"value": 1, "name": True}, "x")
    with pytest.raises(InputError, match="description is 5; it must be text"):
        parse_card(json.dumps({**card, "description": 5}), "here")
    with pytest.raises(InputError, match=r"type is \['SCT'\]; it must be a list of 3: text, text, text\."):
        Label.from_json({"value": 1, "name": "a", "type": ["SCT"]}, "x")
