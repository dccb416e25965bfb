"""The batch in Slicer: the files and exit codes of `diffseg predict`, as a program and the way Slicer runs a script."""

import json
import os
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest

import batch_run
import without_torch
from batch_run import SCRIPT, arguments, as_program
from conftest import TINY, blob_case, write_image

pytest.importorskip("slicer", reason="needs the package slicer-core")


from DiffSegLib import events
from DiffSegLib.commands import run
from DiffSegLib.data.files import read_label
from DiffSegLib.scene import batch, process
from tally import tried

client, warm, scans = batch_run.client, batch_run.warm, batch_run.scans  # fixtures


def program(given, **options):
    environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "DISPLAY")}
    environment |= options.pop("env", {})
    command = [sys.executable, str(SCRIPT), *given]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, **options)


def record(path):
    """A case's JSON without what differs from run to run."""
    found = json.loads(path.read_text())
    del found["seconds"]
    return found


@as_program
def test_as_a_program_it_writes_the_very_files_of_predict(scans, tmp_path, tiny_model):
    """Run from another folder, without PYTHONPATH and without a display; a bad image is named, the rest are done."""
    (scans / "bad.nii.gz").write_text("no image")
    options = ("--save-steps", "--uncertainty", "--seed", 5, "--roi", 1, 19, 2, 20, 0, 17, "--json")
    ended = program(arguments(tiny_model, scans, "out", *options), cwd=tmp_path)
    assert ended.returncode == 1, ended.stderr
    answer = json.loads(ended.stdout)
    assert answer["done"] == ["case0", "case1", "case2"] and "bad.nii.gz: is damaged" in answer["failed"]["bad"]
    assert "bad.nii.gz: is damaged" in ended.stderr and "3 done, 0 skipped, 1 failed" in ended.stderr
    assert "%  case" in ended.stderr and "Traceback" not in ended.stderr
    assert run(["predict", *arguments(tiny_model, scans, tmp_path / "wanted", *options)]) == 1
    names = sorted(path.name for path in (tmp_path / "wanted").iterdir())
    assert names == sorted(path.name for path in (tmp_path / "out").iterdir()) and len(names) == 3 * 8 + 2
    for name in names:
        mine, wanted = tmp_path / "out" / name, tmp_path / "wanted" / name
        if name.endswith(".json"):
            assert record(mine) == record(wanted)
        else:
            assert mine.read_bytes() == wanted.read_bytes(), name
    assert b"Segment0_Name:=first" in (tmp_path / "out" / "case0.seg.nrrd").read_bytes()[:3000]


@pytest.mark.parametrize(("ending", "sampler"), [("nii.gz", "ddpm"), ("nrrd", "ddim")])
def test_every_format_and_setting_gives_the_masks_of_predict(warm, scans, tmp_path, tiny_model, ending, sampler):
    options = ("--format", ending, "--sampler", sampler, "--steps", 3, "--samples", 2, "--seed", 9)
    assert batch.main(arguments(tiny_model, scans, tmp_path / "out", *options)) == 0
    assert run(["predict", *arguments(tiny_model, scans, tmp_path / "wanted", *options)]) == 0
    for n in range(3):
        files = [tmp_path / folder / f"case{n}.{ending}" for folder in ("out", "wanted")]
        assert files[0].read_bytes() == files[1].read_bytes()
        assert record(tmp_path / "out" / f"case{n}.json") == record(tmp_path / "wanted" / f"case{n}.json")


def test_shards_part_the_cases_and_done_ones_are_skipped(warm, scans, tmp_path, tiny_model, capsys):
    given = arguments(tiny_model, scans, tmp_path / "out", "--json")
    assert batch.main([*given, "--shard", "2/2"]) == 0
    assert json.loads(capsys.readouterr().out)["done"] == ["case1"]
    before = (tmp_path / "out" / "case1.seg.nrrd").stat().st_mtime_ns
    assert batch.main([*given, "--skip-existing"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["done"] == ["case0", "case2"] and answer["skipped"] == ["case1"]
    assert (tmp_path / "out" / "case1.seg.nrrd").stat().st_mtime_ns == before


def make_model(path, settings, channels):
    """A tiny untrained model of some channels; 2D or 3D as the settings say."""
    import torch

    from DiffSegLib import config
    from DiffSegLib.labels import labels_from_names
    from DiffSegLib.models import store
    from DiffSegLib.models.card import card_of
    from DiffSegLib.network.build import build

    settings = config.from_json(settings)
    card = card_of(settings, name=path.stem, labels=labels_from_names({1: "one"}), channels=channels)
    torch.manual_seed(1)
    store.save(path, build(settings.network, len(channels), 2).state_dict(), card)
    return path


def test_a_model_of_two_channels_gets_both(warm, tmp_path):
    scans = tmp_path / "scans"
    scans.mkdir()
    write_image(scans / "a_0000.nrrd", blob_case(0)[0])
    write_image(scans / "a_0001.nrrd", blob_case(1, (10, 22, 20))[0], np.diag([1, 1, 1.8, 1.0]))  # another grid
    model = make_model(tmp_path / "two.safetensors", TINY, ("T1", "T2"))
    assert batch.main(arguments(model, scans, tmp_path / "out")) == 0
    assert run(["predict", *arguments(model, scans, tmp_path / "wanted")]) == 0
    masks = [read_label(tmp_path / folder / "a.seg.nrrd")[0] for folder in ("out", "wanted")]
    np.testing.assert_array_equal(*masks)
    assert masks[0].any()


def test_the_folder_of_a_training_stands_for_its_model(warm, scans, tmp_path, tiny_model, capsys):
    (tmp_path / "run").mkdir()
    file = shutil.copy(tiny_model, tmp_path / "run" / "model.safetensors")
    given = arguments(tmp_path / "run", scans / "case0.nii.gz", tmp_path / "out")
    assert batch.main(given) == 0
    assert capsys.readouterr().err.startswith(f"The model is {file}.\n")


def test_pictures_are_segmented_by_a_2d_model(warm, tmp_path, capsys):
    flat = {
        "data": {"patch": [16, 16]},
        "network": {**TINY["network"], "strides": [[2, 2]]},
        "augment": {"flip": [False, False]},
    }
    model = make_model(tmp_path / "flat.safetensors", flat, ("US",))
    scans = tmp_path / "scans"
    scans.mkdir()
    write_image(scans / "a.png", (blob_case(0)[0][9] / 4 + 60).clip(0, 255).astype(np.uint8))
    options = ("--format", "png", "--save-steps")
    assert batch.main(arguments(model, scans, tmp_path / "out", *options)) == 0
    assert run(["predict", *arguments(model, scans, tmp_path / "wanted", *options)]) == 0
    for name in ("a.png", "a.step-1.png"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "wanted" / name).read_bytes()
    write_image(scans / "b.nrrd", blob_case(0)[0])
    assert batch.main(arguments(model, scans, tmp_path / "out")) == 1
    assert "b.nrrd has 18 slices; this model takes a single one" in capsys.readouterr().err


# -- mistakes


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("--steps", "0"), "steps is 0"),
        (("--shard", "3/2"), "--shard is '3/2'"),
        (("--frob",), "unrecognized arguments: --frob"),
        (("--model", "nowhere"), "neither a model file"),
        (("--input", "none.nii.gz"), "none.nii.gz: there is no such file"),
        (("--format", "gif"), "invalid choice"),
        (("--output", str(SCRIPT)), "batch.py: is a file"),
    ],
)
def test_a_mistake_gets_one_sentence_and_exit_code_2(warm, scans, tmp_path, tiny_model, capsys, more, words):
    assert batch.main(arguments(tiny_model, scans, tmp_path / "out", *more)) == 2
    said = capsys.readouterr().err
    assert words in said and said.startswith("batch.py: ") and "Traceback" not in said
    assert not (tmp_path / "out").exists()


def test_the_help_names_every_option_of_predict(capsys):
    with pytest.raises(SystemExit):
        from DiffSegLib.commands import make_parser

        make_parser().parse_args(["predict", "--help"])
    wanted = {word for word in capsys.readouterr().out.split() if word.startswith("--")}
    assert batch.main(["--help"]) == 0
    assert wanted <= set(capsys.readouterr().out.split()) and len(wanted) > 14


@pytest.mark.parametrize("how", ["missing", "without torch"])
def test_an_engine_that_cannot_start_is_exit_code_3_at_once(scans, tmp_path, tiny_model, monkeypatch, capsys, how):
    if how == "missing":
        monkeypatch.setenv("DIFFSEG_PYTHON", str(tmp_path / "no-python"))
    else:
        monkeypatch.setattr(process, "worker_command", without_torch.worker_command)
    assert batch.main(arguments(tiny_model, scans, tmp_path / "out", "--json")) == 3
    answer = json.loads(capsys.readouterr().out)
    assert answer["exit_code"] == 3 and ("no-python" in answer["error"] or "No module named 'torch'" in answer["error"])
    assert not (tmp_path / "out").exists()


def test_an_engine_that_dies_costs_one_case_only(warm, client, scans, tmp_path, tiny_model, monkeypatch, capsys):
    plain = client.submit

    def submit(job, listener):
        plain(job, listener)
        if job.name.endswith("case1.nii.gz"):
            os.kill(client.pid, signal.SIGKILL)
            tried("processes killed")

    monkeypatch.setattr(client, "submit", submit)
    assert batch.main(arguments(tiny_model, scans, tmp_path / "out", "--json")) == 1
    answer = json.loads(capsys.readouterr().out)
    assert answer["done"] == ["case0", "case2"] and "ended unexpectedly" in answer["failed"]["case1"]


@pytest.mark.skipif(sys.platform == "win32", reason="sends a signal")
def test_ctrl_c_that_ends_the_engines_launcher_as_well_is_a_cancel(
    warm, client, scans, tmp_path, tiny_model, monkeypatch, capsys
):
    """A terminal sends it to PythonSlicer, too, which is a launcher and dies of it: no case has failed."""
    plain = client.submit

    def submit(job, listener):
        plain(job, listener)
        if job.name.endswith("case1.nii.gz"):
            os.kill(os.getpid(), signal.SIGINT)
            client._dispatch(events.make("error", job=job.id, message="It ended.", exit_code=1, detail=""))

    monkeypatch.setattr(client, "submit", submit)
    assert batch.main(arguments(tiny_model, scans, tmp_path / "out", "--json")) == 4
    answer = json.loads(capsys.readouterr().out)
    assert (answer["done"], answer["failed"], answer["left"]) == (["case0"], {}, ["case1", "case2"])


def test_an_unforeseen_error_is_a_traceback_and_exit_code_1(scans, tmp_path, tiny_model, monkeypatch, capsys):
    monkeypatch.setattr(batch, "segment_files", lambda chosen: 1 / 0)
    assert batch.main(arguments(tiny_model, scans, tmp_path / "out")) == 1
    assert "ZeroDivisionError" in capsys.readouterr().err


@as_program
@pytest.mark.skipif(sys.platform == "win32", reason="sends a signal")
def test_ctrl_c_ends_it_in_good_order_with_exit_code_4(scans, tmp_path, tiny_model):
    given = arguments(tiny_model, scans, tmp_path / "out", "--steps", 1000, "--json")
    command = [sys.executable, str(SCRIPT), *given]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        assert "case0: step" in running.stderr.readline()
        running.send_signal(signal.SIGINT)
        out, said = running.communicate()
    assert running.returncode == 4 and json.loads(out)["exit_code"] == 4 and "Traceback" not in said
    assert not (tmp_path / "out").exists()
