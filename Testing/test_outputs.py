"""What a batch writes, and what it may leave or replace: nothing of anybody else's, and no record of another mask."""

import json
import os
import subprocess
import sys
import threading

import numpy as np
import pytest

from conftest import ROOT, blob_case, write_image
from DiffSegLib.commands import run
from DiffSegLib.data import outputs
from DiffSegLib.data.batch import find_cases
from DiffSegLib.data.files import read_label
from DiffSegLib.errors import InputError
from DiffSegLib.evaluation.table import evaluate_folders
from DiffSegLib.labels import labels_from_names
from DiffSegLib.whole_files import checksum
from tally import tried

LABELS = labels_from_names({1: "first", 2: "second"})


@pytest.fixture
def predict(tmp_path, tiny_model, capsys):
    """Segment `in` into `out`; the answer of --json, and what is said."""
    scans = tmp_path / "in"
    scans.mkdir()
    for name in ("a", "b"):
        write_image(scans / f"{name}.nii.gz", blob_case(ord(name))[0])

    def call(*more, code=0, model=tiny_model):
        command = ["predict", "--model", str(model), "--input", str(scans), "--output", str(tmp_path / "out"), "--json"]
        assert run([*command, *map(str, more)]) == code
        said = capsys.readouterr()
        return json.loads(said.out), said.err

    return call


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def prediction(seed=0, steps=0, uncertainty=False):
    rng = np.random.default_rng(seed)
    mask = rng.integers(0, 3, (6, 7, 8)).astype(np.uint8)
    doubt = rng.random((6, 7, 8), dtype=np.float32) if uncertainty else None
    return outputs.Prediction(mask, [mask] * steps, doubt, {1: 0.0, 2: 0.0}, [], {"seed": seed})


# -- what is not DiffSeg's own


@pytest.mark.parametrize("lies_there", ["a.nii.gz", "a.step-2.nii.gz", "a.uncertainty.nrrd", "a.json"])
def test_what_somebody_else_made_is_not_replaced_and_the_other_cases_go_on(predict, tmp_path, lies_there):
    """Label maps of a data set, drawn for years; the .json of an image in BIDS."""
    out = tmp_path / "out"
    out.mkdir()
    (out / lies_there).write_bytes(b'{"Manufacturer": "of somebody else"}')
    before = contents(out)
    options = ("--format", "nii.gz", "--save-steps", "--uncertainty")
    answer, said = predict(*options, code=1)
    assert f"{lies_there}: was not written by DiffSeg" in said and "--overwrite" in said
    assert answer["done"] == ["b"] and list(answer["failed"]) == ["a"]
    assert {name: body for name, body in contents(out).items() if name.startswith("a.")} == before
    predict(*options, "--overwrite")
    assert contents(out)[lies_there] != before[lies_there]
    predict(*options)


@pytest.mark.skipif(sys.platform == "win32", reason="has no pipes among files")
@pytest.mark.parametrize("name", ["a.seg.nrrd", "a.json"])
def test_a_link_to_a_disk_that_is_not_there_and_a_pipe_are_somebody_elses(tmp_path, name):
    folder = outputs.Outputs(tmp_path, LABELS)
    for make in (lambda path: os.symlink(tmp_path / "gone", path), os.mkfifo):
        make(tmp_path / name)
        with pytest.raises(InputError, match=f"{name}: was not written by DiffSeg"):
            folder.check("a")
        (tmp_path / name).unlink()


def test_a_folder_where_the_record_belongs_is_told_and_left(predict, tmp_path):
    (tmp_path / "out" / "a.json" / "inside").mkdir(parents=True)
    said = predict("--overwrite", code=1)[1]
    assert "a.json: is a folder where the case's record belongs; rename it." in said and "unexpectedly" not in said
    assert (tmp_path / "out" / "a.json" / "inside").is_dir() and (tmp_path / "out" / "b.json").is_file()
    assert not (tmp_path / "out" / ".a.unfinished").exists()


def test_a_mask_that_was_corrected_since_is_not_replaced(predict, tmp_path):
    predict()
    mask = tmp_path / "out" / "b.seg.nrrd"
    outputs.write_mask(mask, np.ones(blob_case(0)[0].shape, np.uint8), np.eye(4), LABELS)
    before = contents(tmp_path / "out")
    answer, said = predict("--skip-existing")
    after, tables = contents(tmp_path / "out"), {"volumes.csv", ".volumes.csv.sha256"}
    assert answer["skipped"] == ["a", "b"] and {name for name in before if after[name] != before[name]} == tables
    assert b"\na,0." in after["volumes.csv"] and after["volumes.csv"].endswith(b"\nb,,\n"), "those were of the old mask"
    assert "b: its mask was changed since, so volumes.csv has no volumes of it." in said
    for options in ((), ("--skip-existing", "--seed", 5)):  # a nightly batch after the model was changed, say
        answer, said = predict(*options, code=1)
        assert "b.seg.nrrd: was not written by DiffSeg, or was changed since" in said
        assert answer["done"] == ["a"] and mask.read_bytes() == before["b.seg.nrrd"]
        assert said.count("b.seg.nrrd") == 1 and "b: is there" not in said and "1 failed (b)" in said, said
        assert ("as this case was made otherwise (seed 0 instead of 5)" in said) == bool(options)
    predict("--overwrite")
    assert not (read_label(mask)[0] == 1).all()


def test_what_it_wrote_itself_is_replaced_in_any_format_and_by_any_older_record(predict, tmp_path):
    out = tmp_path / "out"
    for ending in ("seg.nrrd", "nii.gz", "seg.nrrd", "nii.gz"):
        predict("--format", ending)
    record = json.loads((out / "a.json").read_text())
    assert record["files"] == {name: checksum(out / name) for name in ("a.seg.nrrd", "a.nii.gz")}
    del record["files"]  # as written by versions before
    (out / "a.json").write_text(json.dumps(record))
    predict("--format", "nii.gz", "--save-steps")


# -- a record and its mask


def test_a_run_killed_between_a_mask_and_its_record_leaves_no_record_of_another_mask(predict, tmp_path, tiny_model):
    out = tmp_path / "out"
    predict("--steps", 1, "--save-steps")
    old = contents(out)
    code = (
        "import os, sys\nfrom DiffSegLib.commands import run\nfrom DiffSegLib.data import outputs\n"
        "outputs.write_text = lambda *_: os.kill(os.getpid(), 9)\n"
        "run(['predict', *sys.argv[1:]])"
    )
    command = [sys.executable, "-c", code, "--model", str(tiny_model), "--input", str(tmp_path / "in")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([os.environ["PYTHONPATH"], str(ROOT)])}
    options = ["--output", str(out), "--steps", "4", "--save-steps", "--seed", "7"]
    assert subprocess.run([*command, *options], env=environment, check=False, capture_output=True).returncode == -9
    tried("processes killed")
    killed = contents(out)
    assert killed["a.seg.nrrd"] != old["a.seg.nrrd"] and "a.json" not in killed and "a.step-4.seg.nrrd" in killed
    answer, _ = predict("--skip-existing", "--steps", 1, "--save-steps")
    assert answer["done"] == ["a"] and answer["skipped"] == ["b"]
    new = contents(out)
    assert new.keys() == old.keys() and all(new[name] == old[name] for name in old if name != "a.json")


def test_a_case_that_cannot_be_written_at_all_keeps_its_mask_and_its_record(tmp_path, monkeypatch):
    folder = outputs.Outputs(tmp_path / "out", LABELS)
    folder.write("a", prediction(0), np.eye(4))
    before = contents(tmp_path / "out")

    def full(path, *_):
        tried("faults injected: memory, disk, loss")
        raise InputError(f"{path}: did not arrive whole.")

    monkeypatch.setattr(outputs, "write_mask", full)
    for name in ("a", "fresh"):
        with pytest.raises(InputError, match="did not arrive"):
            folder.write(name, prediction(1), np.eye(4))
        assert contents(tmp_path / "out") == before
    monkeypatch.undo()
    monkeypatch.setattr(outputs, "write_text", full)
    with pytest.raises(InputError, match="did not arrive"):
        folder.write("a", prediction(1), np.eye(4))
    assert not folder.is_there("a"), "the mask is another one: its old record must not stand beside it"
    monkeypatch.undo()
    folder.check("a")
    folder.write("a", prediction(0), np.eye(4))
    assert contents(tmp_path / "out") == before


def test_a_record_claims_no_file_of_another_folder_or_case(tmp_path):
    folder = outputs.Outputs(tmp_path / "out", LABELS)
    folder.write("a", prediction(0), np.eye(4))
    record = json.loads((tmp_path / "out" / "a.json").read_text())
    others = [tmp_path / "a.step-1.seg.nrrd", tmp_path / "out" / "b.step-1.seg.nrrd"]
    for other in others:
        outputs.write_mask(other, prediction(0).mask, np.eye(4), LABELS)
    record["files"] |= {os.path.relpath(other, tmp_path / "out"): "" for other in others} | {str(others[0]): ""}
    (tmp_path / "out" / "a.json").write_text(json.dumps(record))
    folder.write("a", prediction(1), np.eye(4))
    assert all(other.is_file() for other in others)


# -- names


@pytest.mark.parametrize("name", ["p.step-1", "p.STEP-12", "p.uncertainty"])
def test_a_case_called_like_a_file_beside_a_mask_is_refused(tmp_path, name):
    for each in (name, "p.steps", "p"):
        write_image(tmp_path / f"{each}.nii.gz", blob_case(0)[0])
    with pytest.raises(InputError, match=rf"{name}\.nii\.gz: is called like a file that is written beside a mask"):
        find_cases([tmp_path])
    (tmp_path / f"{name}.nii.gz").unlink()
    assert [case for case, _ in find_cases([tmp_path])] == ["p", "p.steps"]


def test_the_files_of_another_case_are_never_removed(tmp_path):
    folder = outputs.Outputs(tmp_path / "out", LABELS)
    folder.write("p", prediction(0, steps=3, uncertainty=True), np.eye(4))
    for name in ("p.step-1", "p.step-2", "p.step-02"):  # a label map of somebody's, and a case of an older version
        outputs.write_mask(tmp_path / "out" / f"{name}.seg.nrrd", prediction(9).mask, np.eye(4), LABELS)
    kept = contents(tmp_path / "out")
    folder.write("p", prediction(1), np.eye(4))
    new = contents(tmp_path / "out")
    assert kept.keys() - new.keys() == {"p.step-3.seg.nrrd", "p.uncertainty.nrrd"}, "what the record says it wrote"
    assert all(new[f"{name}.seg.nrrd"] == kept[f"{name}.seg.nrrd"] for name in ("p.step-1", "p.step-2", "p.step-02"))


def test_an_older_record_does_not_claim_the_mask_of_a_case_called_like_a_step(tmp_path):
    folder = outputs.Outputs(tmp_path, LABELS)
    for name in ("p", "p.step-1"):
        folder.write(name, prediction(0), np.eye(4))
        record = json.loads((tmp_path / f"{name}.json").read_text())
        del record["files"]
        (tmp_path / f"{name}.json").write_text(json.dumps(record))
    outputs.write_mask(tmp_path / "p.step-2.seg.nrrd", prediction(0).mask, np.eye(4), LABELS)
    folder.write("p", prediction(1), np.eye(4))
    assert {path.name for path in tmp_path.glob("*.seg.nrrd")} == {"p.seg.nrrd", "p.step-1.seg.nrrd"}


def test_a_mask_whose_name_only_holds_such_a_word_is_measured(tmp_path):
    for folder in ("one", "two"):
        for name in ("a.step-1.late", "a.step-1"):
            outputs.write_mask(tmp_path / folder / f"{name}.seg.nrrd", prediction(0).mask, np.eye(4), LABELS)
    assert evaluate_folders(tmp_path / "one", tmp_path / "two").cases == ["a.step-1.late"]


def test_a_name_too_long_for_what_is_written_is_told_before_any_work_on_it(predict, tmp_path):
    os.rename(tmp_path / "in" / "b.nii.gz", tmp_path / "in" / f"{'b' * 236}.nii.gz")
    answer, said = predict(code=1)
    assert "too long" in said and answer["done"] == ["a"]
    os.rename(tmp_path / "in" / f"{'b' * 236}.nii.gz", tmp_path / "in" / f"{'b' * 213}.nii.gz")
    assert predict()[0]["done"] == ["a", "b" * 213]


# -- what is done already


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        (("--seed", 7), "seed 0 instead of 7"),
        (("--steps", 2), "steps 5 instead of 2"),
        (("--samples", 2), "samples 1 instead of 2"),
        (("--sampler", "ddpm"), "sampler ddim instead of ddpm"),
        (("--roi", 0, 18, 0, 18, 0, 16), "roi None instead of"),
        (("--save-steps",), "without a.step-1.seg.nrrd"),
        (("--uncertainty",), "without a.uncertainty.nrrd"),
    ],
)
def test_what_was_made_otherwise_is_told_and_done_again(predict, tmp_path, changed, words):
    predict()
    answer, said = predict("--skip-existing", *changed)
    assert answer["done"] == answer["again"] == ["a", "b"] and not answer["skipped"]
    assert f"a: is there, but made otherwise ({words}" in said and "2 of the done for the second time" in said
    answer, said = predict("--skip-existing", *changed)
    assert answer["skipped"] == ["a", "b"] and not answer["again"] and "done again" not in said


def test_a_mask_of_another_model_is_told_and_done_again(predict, tmp_path, tiny_model):
    predict()
    other = tmp_path / "tiny.safetensors"  # of the same name
    text = tiny_model.read_bytes()
    assert b'\\"seed\\": 0' in text
    other.write_bytes(text.replace(b'\\"seed\\": 0', b'\\"seed\\": 3', 1))
    answer, said = predict("--skip-existing", model=other)
    assert answer["again"] == ["a", "b"] and "made otherwise (another model)" in said
    assert json.loads((tmp_path / "out" / "a.json").read_text())["model_sha256"] == checksum(other)


def test_a_mask_in_another_format_is_done_only_if_it_was_made_alike(predict, tmp_path):
    nifti, record = ("--format", "nii.gz"), tmp_path / "out" / "a.json"
    predict(*nifti, "--uncertainty", "--seed", 7)
    predict("--skip-existing")  # seed 0: the record is now of a.seg.nrrd, and what lies beside it is not
    assert set(json.loads(record.read_text())["files"]) == {"a.seg.nrrd"}
    answer, said = predict("--skip-existing", "--uncertainty")
    assert answer["again"] == ["a", "b"] and "made otherwise (a.uncertainty.nrrd of another run)" in said
    answer, said = predict("--skip-existing", *nifti)
    assert answer["again"] == ["a", "b"] and "made otherwise (a.nii.gz of another run)" in said
    for options in (nifti, ()):
        answer, _ = predict("--skip-existing", *options)
        assert answer["skipped"] == ["a", "b"]


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere no such file can be made")
def test_a_name_that_is_no_utf8_costs_that_case_only(predict, tmp_path):
    """SimpleITK ends the whole process at one."""
    scans = tmp_path / "in"
    (scans / os.fsdecode(b"M\xfcller.nii.gz")).write_bytes((scans / "a.nii.gz").read_bytes())
    answer, said = predict(code=1)
    assert answer["done"] == ["a", "b"] and len(answer["failed"]) == 1 and "is no UTF-8" in said


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere names are the same in every locale")
def test_a_record_is_the_same_in_a_locale_without_utf8(tmp_path):
    code = (
        "import sys; sys.path[:0] = sys.argv[1:3]; import test_outputs as t; from pathlib import Path\n"
        "t.write(Path(sys.argv[3]), t.prediction(1), 'nrrd', sys.argv[4])\n"
        "t.outputs.Outputs(Path(sys.argv[3]), t.LABELS).write_table()\n"
        "assert t.outputs.is_output(Path(sys.argv[3], sys.argv[4] + '.seg.nrrd'))"
    )
    write(tmp_path, prediction(0, steps=1), name="ä_0")
    record, table = json.loads((tmp_path / "ä_0.json").read_text()), tmp_path / "volumes.csv"
    environment = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0"}
    command = [sys.executable, "-c", code, str(ROOT), str(ROOT / "Testing"), str(tmp_path), "ä_0"]
    subprocess.run(command, env=environment, check=True)
    again = json.loads((tmp_path / "ä_0.json").read_text())
    assert again["case"] == "ä_0" and set(again["files"]) == {"ä_0.nrrd", *record["files"]}
    folder = outputs.Outputs(tmp_path, LABELS, "nrrd")
    assert folder.is_there("ä_0") and table.read_text(encoding="utf-8").splitlines()[1].startswith("ä_0,")
    folder.check("ä_0")
    folder.write_table()


@pytest.mark.skipif(sys.platform == "win32", reason="needs locks of folders")
def test_one_case_is_written_after_the_other_so_that_masks_and_record_are_of_one(tmp_path, monkeypatch):
    """Two files of the folder that are open by themselves exclude each other as those of two processes do."""
    plain, first, second, go_on = outputs.write_mask, threading.Event(), threading.Event(), threading.Event()

    def slow(path, mask, *more):
        (second if first.is_set() else first).set()
        assert go_on.wait(120)
        plain(path, mask, *more)

    monkeypatch.setattr(outputs, "write_mask", slow)
    writers = [threading.Thread(target=write, args=(tmp_path, prediction(seed))) for seed in (1, 2)]
    writers[0].start()
    assert first.wait(120)
    writers[1].start()
    assert not second.wait(1.0), "the other has begun before the first was done"
    go_on.set()
    for writer in writers:
        writer.join()
    record = json.loads((tmp_path / "x.json").read_text())
    assert record["files"] == {name: checksum(tmp_path / name) for name in record["files"]} and record["seed"] == 2
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_what_lies_beside_a_mask_that_is_not_replaced_stays(tmp_path):
    write(tmp_path, prediction(1, uncertainty=True))
    write(tmp_path, prediction(2), "nii.gz")
    assert (tmp_path / "x.uncertainty.nrrd").is_file(), "it is of x.seg.nrrd"
    write(tmp_path, prediction(3))
    assert not (tmp_path / "x.uncertainty.nrrd").exists()


def write(folder, found, ending="seg.nrrd", name="x"):
    outputs.Outputs(folder, LABELS, ending).write(name, found, np.eye(4))


# -- a mask beside its image is no image


def test_masks_of_several_runs_beside_their_images_are_no_images(tmp_path):
    image = write_image(tmp_path / "x.mha", blob_case(0)[0])
    for seed, ending in enumerate(("nii.gz", "nrrd")):
        folder = outputs.Outputs(tmp_path, LABELS, ending, outputs.Wish("", outputs.SegmentOptions(seed=seed)))
        folder.write("x", prediction(seed, steps=1), np.eye(4))
    assert "x.nii.gz" in json.loads((tmp_path / "x.json").read_text())[outputs.OTHERS]
    assert find_cases([tmp_path]) == [("x", (image,))]
    image.unlink()
    with pytest.raises(InputError, match="holds only masks, as DiffSeg writes them; name the folder of their images"):
        find_cases([tmp_path])


@pytest.mark.parametrize("before", [None, "nrrd", "nii.gz"])
def test_masks_are_no_images_while_they_are_written_and_after_a_kill(tmp_path, monkeypatch, before):
    image = write_image(tmp_path / "x.mha", blob_case(0)[0])
    if before:
        write(tmp_path, prediction(0, steps=2), before)
    plain, seen = outputs.checksum, []

    def look(path):
        seen.append(find_cases([tmp_path]))
        if path.name == "x.nii.gz":
            raise KeyboardInterrupt  # leaves what a kill does, for the mask is there
        return plain(path)

    monkeypatch.setattr(outputs, "checksum", look)
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path, prediction(1, steps=1), "nii.gz")
    monkeypatch.undo()
    assert seen == [[("x", (image,))]] * 2 and (tmp_path / "x.nii.gz").is_file()
    write(tmp_path, prediction(2), "nrrd")
    assert find_cases([tmp_path]) == [("x", (image,))] and not list(tmp_path.glob(".*"))
    record = json.loads((tmp_path / "x.json").read_text())
    assert record[outputs.OTHERS]["x.nii.gz"] == checksum(tmp_path / "x.nii.gz")
