"""`volumes.csv`: one line for every case of a folder, whoever wrote it, and never in place of another's table."""

import contextlib
import csv
import json
import os
import threading

import numpy as np
import pytest

from conftest import blob_case, write_image
from DiffSegLib import whole_files
from DiffSegLib.commands import run
from DiffSegLib.data import outputs
from DiffSegLib.errors import InputError
from DiffSegLib.labels import labels_from_names


@pytest.fixture
def predict(tmp_path, tiny_model, capsys):
    """Segment the three images of `in` into `out`; returns what is said."""
    (tmp_path / "in").mkdir()
    for name in ("a", "b.1", "c"):
        write_image(tmp_path / "in" / f"{name}.nii.gz", blob_case(ord(name[0]))[0])

    def call(*more, code=0):
        command = ["predict", "--model", tiny_model, "--input", tmp_path / "in", "--output", tmp_path / "out", *more]
        assert run([str(each) for each in command]) == code
        return capsys.readouterr().err

    return call


def rows(folder):
    with open(folder / "volumes.csv", encoding="utf-8", newline="") as file:
        return {row.pop("case"): row for row in csv.DictReader(file)}


def write(folder, name, sizes):
    """A case with these structures and their volumes."""
    labels = labels_from_names(dict(enumerate(sizes, 1)))
    found = outputs.Prediction(np.zeros((3, 4, 5), np.uint8), [], None, dict(enumerate(sizes.values(), 1)), [], {})
    outputs.Outputs(folder, labels).write(name, found, np.eye(4))
    return outputs.Outputs(folder, labels)


def test_a_batch_leaves_the_volumes_of_its_records_in_one_table(predict, tmp_path):
    (tmp_path / "in" / "bad.nii.gz").write_bytes(b"no image")
    predict(code=1)
    out = tmp_path / "out"
    records = [json.loads(path.read_text()) for path in sorted(out.glob("*.json"))]
    wanted = {each["case"]: {f"{name} (ml)": str(ml) for name, ml in each["volumes_ml"].items()} for each in records}
    assert rows(out) == wanted and list(wanted) == ["a", "b.1", "c"]
    assert (out / "volumes.csv").read_text().startswith("case,first (ml),second (ml)\na,")


def test_shards_and_what_was_skipped_stand_in_it_too(predict, tmp_path):
    predict("--shard", "2/2")
    assert list(rows(tmp_path / "out")) == ["b.1"]
    predict("--shard", "1/2")
    whole = rows(tmp_path / "out")
    assert list(whole) == ["a", "b.1", "c"]
    (tmp_path / "out" / "volumes.csv").unlink()
    predict("--skip-existing")
    assert rows(tmp_path / "out") == whole


def test_cases_of_models_with_other_structures_have_empty_fields(tmp_path):
    write(tmp_path, "x", {"liver": 1.5, "a, b": 0.0})
    write(tmp_path, "y", {"case": 2.25, "liver": 3.0}).write_table()
    (tmp_path / "z.json").write_text('{"case": "z", "volumes_ml": 3}')  # of another program
    assert rows(tmp_path) == {
        "x": {"liver (ml)": "1.5", "a, b (ml)": "0.0", "case (ml)": ""},
        "y": {"liver (ml)": "3.0", "a, b (ml)": "", "case (ml)": "2.25"},
    }


def test_a_table_of_somebody_else_or_with_remarks_is_left_and_that_is_told(predict, tmp_path):
    out, table = tmp_path / "out", tmp_path / "out" / "volumes.csv"
    out.mkdir()
    table.write_text("my own table")
    assert f"{table}: was not written by DiffSeg" in predict() and table.read_text() == "my own table"
    assert "volumes.csv:" not in predict("--overwrite")
    assert list(rows(out)) == ["a", "b.1", "c"]
    written = table.read_bytes()
    assert "volumes.csv:" not in predict("--seed", "1")
    with open(table, "a") as file:
        file.write("looked at by MJ\n")
    assert "or was changed since" in predict("--skip-existing", "--seed", "1")
    assert table.read_text().endswith("MJ\n")
    table.write_bytes(written)  # that of a run before the last
    (out / "a.json").unlink()
    (out / ".volumes.csv.sha256").unlink()
    assert "was not written by DiffSeg" in predict("--skip-existing", "--seed", "1", "--shard", "2/2")


def test_a_run_killed_before_the_table_has_its_name_does_not_make_it_anothers(tmp_path, monkeypatch):
    write(tmp_path, "x", {"liver": 1.5}).write_table()
    folder = write(tmp_path, "y", {"liver": 2.5})
    replace = os.replace

    def killed(source, target):
        if target.name == "volumes.csv":
            raise KeyboardInterrupt
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(whole_files.os, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            folder.write_table()
    assert list(rows(tmp_path)) == ["x"]
    folder.write_table()
    assert list(rows(tmp_path)) == ["x", "y"]


def test_a_table_of_a_shard_that_has_no_locks_and_is_late_is_completed_by_the_next_run(tmp_path, monkeypatch):
    monkeypatch.setattr(outputs, "_alone", lambda folder: contextlib.nullcontext())
    write(tmp_path, "x", {"liver": 1.5}).write_table()
    folder = write(tmp_path, "y", {"liver": 2.5})
    replace, held = os.replace, []

    def late(source, target):
        if target.name == "volumes.csv" and not held:
            held.append(source.read_bytes())
            write(tmp_path, "z", {"liver": 3.5}).write_table()  # all of another shard's, in the same process
            source.write_bytes(held[0])
        replace(source, target)

    monkeypatch.setattr(whole_files.os, "replace", late)
    folder.write_table()
    assert list(rows(tmp_path)) == ["x", "y"]
    folder.write_table()
    assert list(rows(tmp_path)) == ["x", "y", "z"]


@pytest.mark.parametrize(("more", "why"), [((), "is left; rename it."), (("--overwrite",), "cannot be written (")])
def test_a_table_that_cannot_be_written_costs_no_case_and_one_sentence(predict, tmp_path, more, why):
    table = tmp_path / "out" / "volumes.csv"
    table.mkdir(parents=True)
    said = predict(*more)
    assert "3 done, 0 skipped, 0 failed" in said and "Traceback" not in said
    assert [f"{table}: " in line and why in line for line in said.splitlines() if "volumes.csv" in line] == [True]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such file names")
def test_names_that_utf8_or_a_line_cannot_hold_are_written_with_their_codes(predict, tmp_path):
    out, odd = tmp_path / "out", "caf\udce9"
    out.mkdir()
    (out / "r.json").write_text('{"case": "r", "volumes_ml": {"\\ud800": 1}}')  # of another program
    (out / f"{odd}.json").write_text(json.dumps({"case": odd, "volumes_ml": {}}))
    write(out, "c\rr", {"liver": 1.5})
    assert "3 done, 0 skipped, 0 failed" in predict()
    found = rows(out)
    assert set(found) == {"a", "b.1", "c", r"c\rr", r"caf\udce9", "r"}
    assert found["r"][r"\ud800 (ml)"] == "1" and found[r"c\rr"]["liver (ml)"] == "1.5"


def test_records_are_read_when_no_other_process_writes(tmp_path):
    """Else the table of one shard, written last but begun first, would lack the last case of another."""
    pytest.importorskip("fcntl", reason="without it no process can wait for another")
    folder = write(tmp_path, "x", {"liver": 1.5})
    writer = threading.Thread(target=folder.write_table)
    with outputs._alone(tmp_path):
        writer.start()
        writer.join(1.0)
        (tmp_path / "y.json").write_text('{"case": "y", "volumes_ml": {"liver": 2.5}}')
    writer.join()
    assert list(rows(tmp_path)) == ["x", "y"]


def test_a_table_of_another_is_an_error_that_names_it(tmp_path):
    folder = write(tmp_path, "x", {"liver": 1.5})
    (tmp_path / "volumes.csv").write_text("")
    with pytest.raises(InputError, match=r"volumes\.csv: was not written by DiffSeg"):
        folder.write_table()
    folder.write_table(overwrite=True)
    assert list(rows(tmp_path)) == ["x"]


def test_no_plain_file_where_the_seal_belongs_is_told_and_not_waited_for(tmp_path):
    write(tmp_path, "a", {"first": 1.0})
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / ".volumes.csv.sha256")  # to read it would wait for ever
    else:
        (tmp_path / ".volumes.csv.sha256").mkdir()
    with pytest.raises(InputError, match=r"volumes\.csv\.sha256: is no plain file; remove it\."):
        outputs.Outputs(tmp_path, []).write_table()
