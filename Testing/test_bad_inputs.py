"""Every kind of malformed input: one sentence that names the file, or the right answer; never a crash."""

import json
import re
import sys

import numpy as np
import pytest

import bad.files_of_json
import bad.headers
import bad.images
import bad.labels
import bad.places
from bad import KINDS, MENDED, READ
from conftest import ROOT
from DiffSegLib import config
from DiffSegLib.data.files import read, read_label
from DiffSegLib.errors import InputError, printable
from DiffSegLib.models.store import load
from DiffSegLib.scene.process import worker_environment
from DiffSegLib.scene.transport import PipeTransport
from DiffSegLib.training.plan import make_plan
from tally import tried

assert bad.images and bad.files_of_json and bad.headers and bad.labels and bad.places


def plan(folder):
    return make_plan(folder, *config.choose("default", None, []))


READERS = {"image": read, "label": read_label, "configuration": config.load, "data set": plan, "model": load}
FILES = [each for each in KINDS if each.group != "request"]


@pytest.mark.parametrize("each", FILES, ids=lambda each: f"{each.group}-{each.name}")
def test_what_becomes_of_it(each, tmp_path, capfd):
    folder = tmp_path / "given"
    folder.mkdir()
    path = each.make(folder)
    tried("malformed and odd inputs")
    if each.outcome in (READ, MENDED):
        found = READERS[each.group](path)
        if each.group == "label":
            np.testing.assert_array_equal(found[0], bad.labels.LABELS)
        if each.group == "image":
            assert np.isfinite(found.array).all() and found.array.shape == (1, 7, 8, 9)
            assert bool(found.notes) == (each.outcome == MENDED)
            assert each.outcome == READ or re.search(each.words, found.notes[0])
        return
    with pytest.raises(InputError) as told:
        READERS[each.group](path)
    text = str(told.value)
    assert printable(path.name) in text and len(text) < 600 and re.search(each.words, text), text
    assert "object at 0x" not in text and "IO(0x" not in text and (each.group == "data set" or "\n" not in text), text
    assert "Traceback" not in capfd.readouterr().err


def test_a_worker_answers_every_malformed_request_and_lives_on(tmp_path):
    answers, transport = [], PipeTransport()
    command = [sys.executable, "-P", "-u", "-m", "DiffSegLib", "worker"]
    transport.start(command, worker_environment(sys.executable), answers.append, lambda how: answers.append(b"ended"))
    kinds = [each for each in KINDS if each.group == "request"]
    try:
        for each in kinds:
            transport.write(each.make(tmp_path).read_bytes() + b"\n")
        transport.write(b'{"do": "describe", "id": "last"}\n')

        def heard():
            events = [json.loads(line) for line in b"".join(answers).splitlines() if line.endswith(b"}")]
            return [event for event in events if event["event"] in ("error", "result")]

        while not (heard() and heard()[-1].get("job") == "last"):
            assert b"ended" not in answers, transport.stderr()
            transport.wait(1.0)
    finally:
        transport.kill(None)
    errors = [event for event in heard() if event["event"] == "error"]
    assert len(errors) == len(kinds) - 1, "an empty line is none"
    assert all(error["detail"].count("Traceback") == 0 and error["exit_code"] == 2 for error in errors), errors
    assert heard()[-1]["event"] == "result"


def test_there_are_many_kinds():
    assert len(KINDS) >= 150 and len({each.group for each in KINDS}) == 6


def test_the_page_lists_every_kind_and_no_other():
    """If not: python Testing/bad/table.py."""
    table = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8").partition("<!-- kinds -->")[2]
    rows = [tuple(line.split(" | ")[:3]) for line in table.splitlines() if line.startswith("| ")]
    assert rows[2:] == [(f"| {each.group}", each.name, each.outcome) for each in KINDS]
