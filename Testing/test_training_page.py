"""docs/training.md holds every setting with its default, and every file of a run folder."""

import json
import re

from conftest import ROOT, TINY
from DiffSegLib import config
from DiffSegLib.training.run import train_folder

PAGE = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")


def test_the_table_of_settings_is_complete_and_its_defaults_are_true():
    table = PAGE.split("## All settings")[1]
    rows = dict(re.findall(r"^\| `(\w+\.\w+)` \| (.+?) \|", table, re.MULTILINE))
    sections = {name: body for name, body in config.Config().to_json().items() if isinstance(body, dict)}
    wanted = {f"{name}.{key}": json.dumps(value) for name, body in sections.items() for key, value in body.items()}
    assert rows == wanted
    marked = set(re.findall(r"^\| `(\w+\.\w+)` \| .+? \| \*", table, re.MULTILINE))
    assert marked == set(config.PROPOSED) and "The seven" in PAGE


def test_the_files_of_a_run_folder_are_those_of_the_page(dataset, tmp_path):
    run = tmp_path / "run"
    train_folder(dataset, run, config.override(config.from_json(TINY), ["training.iterations=2"]), device="cpu")
    found = {str(path.relative_to(run)) for path in run.rglob("*") if path.is_file()}
    section = PAGE.split("## The run folder")[1].split("##")[0]
    named = set(re.findall(r"`([\w.*/]+)`", section)) | {"checkpoint/previous.safetensors"}
    assert {re.sub(r"tfevents.*", "tfevents.*", name) for name in found} <= named
    assert found >= {"config.json", "split.json", "log.jsonl", "model.safetensors", "checkpoint/best.safetensors"}


def test_the_configurations_of_shipped_models_can_be_trained_again():
    for path in (ROOT / "docs" / "models").glob("*.json"):
        assert config.load(path).data.patch
