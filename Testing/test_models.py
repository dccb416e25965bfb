"""Model files: what is not one is refused by name, and nothing in one is executed."""

import json
import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from conftest import ROOT, blob_case
from DiffSegLib import commands
from DiffSegLib.data.volume import Volume
from DiffSegLib.errors import InputError
from DiffSegLib.inference import windows
from DiffSegLib.inference.predict import Predictor
from DiffSegLib.jobs import SegmentOptions
from DiffSegLib.labels import Label
from DiffSegLib.models import library, store
from DiffSegLib.models.card import parse_card
from DiffSegLib.models.shipped import available, find, home, own, read_card, read_header, shipped
from full_disk import no_more_than
from tally import tried


def rewrite(path, out, change):
    """Copy a model file with a changed card."""
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        card = json.loads(file.metadata()["diffseg"])
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    save_file(tensors, out, {"diffseg": json.dumps(change(card))})
    return out


def test_a_model_survives_its_file(tiny_model):
    model = store.load(tiny_model)
    assert model.card.num_classes == 3 and not model.network.training
    assert model.card.to_json() == parse_card(json.dumps(model.card.to_json()), "x").to_json()


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 a zip", b"\x80\x04 a pickle", b"\xff" * 64])
def test_other_files_are_no_models(tmp_path, content):
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    with pytest.raises(InputError, match="x.safetensors: is no model file"):
        store.load(path)


def test_safetensors_without_a_card_are_refused(tmp_path):
    save_file({"a": torch.zeros(1)}, tmp_path / "x.safetensors")
    with pytest.raises(InputError, match="no DiffSeg card"):
        store.load(tmp_path / "x.safetensors")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: {**c, "schema": 99}, "schema 99"),
        (lambda c: {**c, "schema": True}, "schema True"),
        (lambda c: {k: v for k, v in c.items() if k != "schema"}, "schema None"),
        (lambda c: {**c, "orientation": "RAS"}, "orientation 'RAS'; this DiffSeg reads LPS"),
        (lambda c: {**c, "name": "two\nlines"}, "name of its model card is .*one line"),
        (lambda c: {**c, "surprise": 1}, "surprise"),
        (lambda c: {k: v for k, v in c.items() if k != "labels"}, "labels"),
        (lambda c: {**c, "labels": [{"value": 300, "name": "x"}]}, "1 to 255"),
        (lambda c: {**c, "labels": c["labels"][:1] * 2}, "different values"),
        (lambda c: {**c, "network": {**c["network"], "channels": [4, 4]}}, "do not fit|multiple of"),
        (lambda c: {**c, "network": {**c["network"], "channels": [8, 1 << 40]}}, "do not fit|too large"),
        (lambda c: {**c, "labels": [*c["labels"], {"value": 3, "name": "third"}]}, "do not fit"),
        (lambda c: {**c, "description": 5}, "description"),
        (lambda c: [c], "one JSON object"),
    ],
)
def test_a_card_that_does_not_fit_is_refused_by_name(tiny_model, tmp_path, change, words):
    path = rewrite(tiny_model, tmp_path / "x.safetensors", change)
    with pytest.raises(InputError, match=f"x.safetensors: .*({words})"):
        store.load(path)


def test_a_card_that_says_a_thing_twice_is_refused(tiny_model):
    text = json.dumps(store.load(tiny_model).card.to_json())
    with pytest.raises(InputError, match="no valid JSON .'smoothing' occurs twice"):
        parse_card(text[:-1] + ', "smoothing": 2.0}', "here")


def with_one_bit_changed(path):
    data = bytearray(path.read_bytes())
    data[-20] ^= 0x10
    path.write_bytes(data)


def with_two_weights_exchanged(path):
    """Of one shape, by their names in the header."""
    data = path.read_bytes()
    one, other = b'"encoder.0.0.conv1.weight"', b'"encoder.0.0.conv2.weight"'
    assert one in data and other in data
    path.write_bytes(data.replace(one, b"<one>").replace(other, one).replace(b"<one>", other))


def as_another_kind_of_number(path):
    data = path.read_bytes()
    assert b'"F16"' in data
    path.write_bytes(data.replace(b'"F16"', b'"I16"'))


@pytest.mark.parametrize("spoil", [with_one_bit_changed, with_two_weights_exchanged, as_another_kind_of_number])
def test_weights_that_are_not_those_that_were_written_are_refused(tiny_model, tmp_path, spoil):
    path = shutil.copy(tiny_model, tmp_path / "x.safetensors")
    assert store.load(path).path == path
    spoil(path)
    with pytest.raises(InputError, match=r"x\.safetensors: its weights are not those that were written; copy it again"):
        store.load(path)


def test_the_shipped_models_carry_a_checksum():
    assert all(store.SEAL in read_header(path) for path in shipped().values())


def test_a_model_from_before_there_was_a_checksum_is_read(tiny_model, tmp_path):
    path = tmp_path / "x.safetensors"
    data = tiny_model.read_bytes().replace(store.SEAL.encode(), b"x" * len(store.SEAL))
    path.write_bytes(data)
    assert store.load(path).card == store.load(tiny_model).card


def test_weights_that_are_not_numbers_are_refused(tiny_model, tmp_path):
    model = store.load(tiny_model)
    weights = model.network.state_dict()
    weights["head.bias"][0] = float("nan")
    store.save(tmp_path / "x.safetensors", weights, model.card)
    with pytest.raises(InputError, match="head.bias"):
        store.load(tmp_path / "x.safetensors")


@pytest.mark.parametrize("growth", [1.0, 3.0])
def test_weights_whose_answer_is_no_number_give_no_empty_mask(tiny_model, monkeypatch, growth):
    monkeypatch.setattr(windows, "WINDOW_GROWTH", growth)
    model = store.load(tiny_model)
    with torch.no_grad():
        model.network.get_parameter("stem.weight").view(-1)[0] = 1e38
    with pytest.raises(InputError, match=r"tiny\.safetensors: its answer holds no numbers"):
        Predictor(model, "cpu")(Volume(blob_case(0)[0][None], np.eye(4)), SegmentOptions(steps=2))


def test_an_unknown_name_lists_what_is_there(tmp_path):
    with pytest.raises(InputError, match="is a folder without a model.safetensors, with which a training ends"):
        find(str(tmp_path))
    with pytest.raises(InputError, match="neither a model file nor the name of a model"):
        find("no-such-model")


def test_a_card_from_before_the_newer_keys_means_what_it_meant():
    old = {
        "schema": 1,
        "name": "old",
        "labels": [{"value": 1, "name": "one"}],
        "channels": ["MRI"],
        "network": {
            "name": "unet",
            "channels": [16, 32],
            "strides": [[2, 2, 2]],
            "blocks": 1,
            "heads": 8,
            "activation": "gelu",
            "dropout": 0.0,
        },
        "diffusion": {
            "schedule": "linear",
            "timesteps": 1001,
            "train_steps": 5,
            "beta_start": 0.0001,
            "beta_end": 0.02,
            "strategy": "recycling",
            "time": "original",
        },
        "data": {"spacing": None, "patch": [40, 56, 40], "normalisation": "zscore", "foreground": 0.33},
    }
    card = parse_card(json.dumps(old), "old")
    network, diffusion = card.network, card.diffusion
    assert network.attention and network.time == "after_norm"
    assert (diffusion.parametrisation, diffusion.classes, diffusion.variance) == ("x_start", "exclusive", "fixed_small")
    assert diffusion.eta == 0.0 and diffusion.time_sampling == "uniform" and diffusion.recycling_last


def test_a_card_of_a_giant_network_is_refused_before_anything_is_allocated(tiny_model, tmp_path):
    from dataclasses import replace

    from DiffSegLib.models.shipped import read_card

    card = read_card(tiny_model)
    giant = replace(card, network=replace(card.network, channels=(4096, 4096), blocks=16))
    store.save(tmp_path / "giant.safetensors", store.load(tiny_model).network.state_dict(), giant)
    with pytest.raises(InputError, match=r"describes \d+ parameters"):
        store.load(tmp_path / "giant.safetensors")


def test_a_header_nested_without_end_is_no_model(tmp_path):
    text = b"[" * 200_000
    (tmp_path / "deep.safetensors").write_bytes(len(text).to_bytes(8, "little") + text)
    with pytest.raises(InputError, match="is no model file"):
        store.load(tmp_path / "deep.safetensors")


def test_a_home_that_may_not_be_entered_hides_no_shipped_model(monkeypatch):
    def closed(_folder, _pattern):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(library.Path, "glob", closed)
    assert own() == {}
    monkeypatch.undo()
    assert "hippocampus" in available()


def test_an_own_model_is_called_as_its_owner_wishes_and_no_other_is_overwritten(tiny_model, tmp_path, monkeypatch):
    monkeypatch.setenv("DIFFSEG_HOME", str(tmp_path))
    path = library.add(tiny_model, "my model", run="a")
    assert path == tmp_path / "models" / "my model.safetensors" == find("my model") and "my model" in available()
    assert read_card(path).name == "my model" and read_card(tiny_model).name == "tiny"
    weights = [store.load(each).network.state_dict() for each in (path, tiny_model)]
    assert all(torch.equal(value, weights[1][key]) for key, value in weights[0].items())
    for name, run in (("my model", ""), ("MY Model", "b"), ("hippocampus", "a")):
        with pytest.raises(InputError, match=f"A model called {name} is there already"):
            library.add(tiny_model, name, run)
    assert library.add(tiny_model, "my model", run="a") == path  # the same training, gone on with


@pytest.mark.parametrize("name", ["", "../up", ".hidden", "a/b", "a\\b", "end.", "x" * 61, "new\nline"])
def test_a_name_that_is_no_file_name_is_refused(name):
    with pytest.raises(InputError, match="cannot be a model's name"):
        library.check_name(name)


def test_labels_get_other_names_and_colours_and_keep_their_values(tiny_model, tmp_path):
    path = tmp_path / "x.safetensors"
    path.write_bytes(tiny_model.read_bytes())
    library.relabel(path, [Label(2, "two", (1.0, 0.0, 0.0)), Label(1, "one")])
    found = store.load(path).card.labels
    assert [(label.value, label.name) for label in found] == [(1, "one"), (2, "two")] and found[1].color[0] == 1.0
    with pytest.raises(InputError, match="nothing is said of its label 2"):
        library.relabel(path, [Label(1, "one")])


def test_where_a_persons_models_are(monkeypatch, tmp_path):
    monkeypatch.setenv("DIFFSEG_HOME", str(tmp_path))
    assert home() == tmp_path
    monkeypatch.delenv("DIFFSEG_HOME")
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    assert home() == tmp_path / "data" / "DiffSeg"
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "local"))
    assert home() == tmp_path / "local" / "DiffSeg"
    monkeypatch.setattr(sys, "platform", "darwin")
    assert home().parts[-3:] == ("Library", "Application Support", "DiffSeg")


@pytest.mark.skipif(sys.platform == "win32", reason="no limit to the size of a file")
def test_a_model_for_which_there_is_no_space_is_told_and_the_old_one_stays(tiny_model, tmp_path):
    model, path = store.load(tiny_model), tmp_path / "m.safetensors"
    store.save(path, model.network.state_dict(), model.card)
    good = path.read_bytes()
    for size in (0, len(good) // 2, len(good) - 1):
        with no_more_than(size), pytest.raises(InputError, match=r"m\.safetensors: cannot be written"):
            store.save(path, model.network.state_dict(), model.card)
        tried("faults injected: memory, disk, loss")
        assert path.read_bytes() == good and list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(sys.platform == "win32", reason="no such pipes")
def test_a_pipe_among_ones_own_models_is_none(tmp_path, monkeypatch):
    monkeypatch.setenv("DIFFSEG_HOME", str(tmp_path))
    (tmp_path / "models").mkdir()
    os.mkfifo(tmp_path / "models" / "endless.safetensors")
    assert "endless" not in available() and "hippocampus" in available()


def test_the_list_says_where_ones_own_models_are_and_how_one_gets_there(tiny_model, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("DIFFSEG_HOME", str(tmp_path))
    for words in (r"none yet \(train --name NAME", "delete one to remove it"):
        assert commands.run(["models"]) == 0
        told = capsys.readouterr()
        assert re.search(f"{re.escape(str(tmp_path / 'models'))}; .*{words}", told.err) and "hippocampus" in told.out
        (tmp_path / "models").mkdir(exist_ok=True)
        shutil.copy(tiny_model, tmp_path / "models" / "mine.safetensors")


@pytest.mark.parametrize("home_of", ["diffseg-home-agw1", "diffseg-home-a/gw1"])
def test_tests_that_run_at_the_same_time_have_homes_of_their_own(tmp_path, home_of):
    """Whatever letters the folder's random name has; a test's child has its parent's."""
    code = "import conftest, os; print(os.environ['DIFFSEG_HOME'])"
    environment = {**os.environ, "PYTEST_XDIST_WORKER": "gw1", "DIFFSEG_HOME": str(tmp_path / home_of)}
    command = [sys.executable, "-c", code]
    found = subprocess.run(command, env=environment, cwd=ROOT / "Testing", capture_output=True, check=True, text=True)
    assert found.stdout.strip() == str(tmp_path / home_of.removesuffix("/gw1") / "gw1")


def test_a_card_asks_nothing_of_a_terminal(tiny_model, tmp_path, monkeypatch, capsys):
    evil = "a\x1b]0;title\x07\x9b2J"
    monkeypatch.setenv("DIFFSEG_HOME", str(tmp_path))
    (tmp_path / "models").mkdir()
    file = rewrite(tiny_model, tmp_path / "models" / "evil.safetensors", lambda card: {**card, "description": evil})
    for command in (["models"], ["info", str(file)]):
        assert commands.run(command) == 0
        assert r"a\x1b]0;title\x07\x9b2J" in (out := capsys.readouterr().out) and "\x1b" not in out
