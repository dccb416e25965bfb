"""The command line: verbs end to end on small data, exit codes, one sentence for every mistake."""

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch

from conftest import ROOT, TINY, blob_case, write_image
from DiffSegLib.commands import make_parser, run
from DiffSegLib.data import files
from DiffSegLib.data.files import read, read_label
from DiffSegLib.inference.predict import Predictor
from DiffSegLib.jobs import SegmentOptions
from DiffSegLib.models.shipped import read_card, shipped
from DiffSegLib.models.store import load


def test_train_predict_evaluate_one_after_another(dataset, tmp_path, capsys):
    settings = tmp_path / "config.json"
    settings.write_text(json.dumps(TINY))
    trained = tmp_path / "run"
    assert run(["train", "--data", str(dataset), "--out", str(trained), "--config", str(settings), "--json"]) == 0
    told = capsys.readouterr()
    model = json.loads(told.out)["model"]
    assert "\nCases for training: 5, for validation: 1 (blob_0" in told.err and "--split FILE" in told.err
    card = read_card(trained / "model.safetensors")
    dice, iterations = card.training["best_validation_dice"], card.training["iterations"]
    use = f"diffseg predict --model {model} --input IMAGES --output MASKS"
    words = f"Its Dice on the validation cases: {dice:.4f} after {iterations} iterations. To use it: {use}\n"
    assert told.err.endswith(words) and json.loads(told.out)["validation_dice"] == dice
    masks = tmp_path / "masks"
    images = str(dataset / "imagesTr")
    assert run(["predict", "--model", str(trained), "--input", images, "--output", str(masks), "--json"]) == 0
    told = capsys.readouterr()
    assert len(json.loads(told.out)["done"]) == 6 and told.err.startswith(f"The model is {model}.\n")
    counts = f"6 done, 0 skipped, 0 failed; the masks are in {masks}."
    assert told.err.splitlines()[-2:] == ["100 %  6 of 6 cases", counts]
    report = tmp_path / "report"
    labels = str(dataset / "labelsTr")
    assert run(["evaluate", "--prediction", str(masks), "--reference", labels, "--out", str(report), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["ok"]
    assert {"metrics.csv", "summary.json", "report.html"} <= {path.name for path in report.iterdir()}


def test_predict_gives_the_mask_that_python_gives(tmp_path, tiny_model):
    scan = write_image(tmp_path / "scan.nii.gz", blob_case(3)[0])
    command = [
        "predict",
        "--model",
        str(tiny_model),
        "--input",
        str(scan),
        "--output",
        str(tmp_path / "o"),
        "--seed",
        "6",
    ]
    assert run([*command, "--save-steps", "--format", "nii.gz"]) == 0
    wanted = Predictor(load(tiny_model), "cpu")(read(scan), SegmentOptions(seed=6, keep_steps=True))
    np.testing.assert_array_equal(read_label(tmp_path / "o" / "scan.nii.gz")[0], wanted.mask)
    for n, mask in enumerate(wanted.steps, 1):
        np.testing.assert_array_equal(read_label(tmp_path / "o" / f"scan.step-{n}.nii.gz")[0], mask)


def test_shards_part_the_cases_without_changing_a_mask(dataset, tmp_path, tiny_model):
    command = ["predict", "--model", str(tiny_model), "--input", str(dataset / "imagesTr"), "--format", "nrrd"]
    assert run([*command, "--output", str(tmp_path / "all")]) == 0
    for part in ("1/2", "2/2"):
        assert run([*command, "--output", str(tmp_path / "parts"), "--shard", part]) == 0
    names = sorted(path.name for path in (tmp_path / "all").glob("*.nrrd"))
    assert names == sorted(path.name for path in (tmp_path / "parts").glob("*.nrrd")) and len(names) == 6
    for name in names:
        np.testing.assert_array_equal(*(read_label(tmp_path / folder / name)[0] for folder in ("all", "parts")))


def test_info_is_text_to_read_and_may_be_cut_short(tiny_model, capsys):
    assert run(["info", str(tiny_model)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "name: tiny" in lines and "    channels: 8, 16" in lines and "  - value: 1" in lines
    assert not any(line.endswith(": ") for line in lines) and lines[0] == f"file: {tiny_model}"
    assert run(["info", "hippocampus"]) == 0
    text = capsys.readouterr().out
    assert "{" not in text and text.index("not_for: ") < text.index("labels:") < text.index("network:")
    for options, reader, lines in (("", "head -1", 1), ("--json", "true", 0)):
        command = f"'{sys.executable}' -u -m DiffSegLib info '{tiny_model}' {options} | {reader}"
        ended = subprocess.run(["bash", "-c", command], capture_output=True, text=True, cwd=ROOT, check=False)
        assert ended.stdout.count("\n") == lines and ended.stderr == ""


@pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="as Unix has it")
@pytest.mark.parametrize("verb", ["models", "predict"])
def test_ctrl_c_before_anything_is_imported_is_exit_code_4_too(verb):
    def at_once():  # held back until the program takes it
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
        os.kill(os.getpid(), signal.SIGINT)

    command = [sys.executable, "-m", "DiffSegLib", verb]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False, preexec_fn=at_once)
    assert ended.returncode == 4 and ended.stderr == "diffseg: Cancelled.\n"


@pytest.mark.skipif(sys.platform != "linux", reason="needs a shell and /dev/full")
@pytest.mark.parametrize(
    ("reader", "code", "words"), [("| true", 0, ""), ("> /dev/full", 0, "The answer could not be printed")]
)
def test_an_answer_that_nobody_takes_is_no_traceback(reader, code, words):
    """The masks of a night are done by then."""
    command = f"'{sys.executable}' -m DiffSegLib models --json {reader}; exit ${{PIPESTATUS[0]}}"
    ended = subprocess.run(["bash", "-c", command], capture_output=True, text=True, cwd=ROOT, check=False)
    assert ended.returncode == code and "Traceback" not in ended.stderr and "Exception" not in ended.stderr
    assert words in ended.stderr


def test_info_and_models_answer_as_json(tiny_model, capsys):
    assert run(["info", str(tiny_model), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["card"]["name"] == "tiny"
    assert run(["models", "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)["models"]) == set(shipped())


def mistakes(tmp_path, dataset, tiny_model):
    text = tmp_path / "text.nii.gz"
    text.write_text("no image")
    (tmp_path / "empty").mkdir()
    (dataset / "imagesTr" / "blob_02.nii.gz").unlink()
    out = str(tmp_path / "out")
    predict = ["predict", "--model", str(tiny_model), "--output", out, "--input"]
    train = ["train", "--out", out, "--data"]
    return [
        (["frobnicate"], "invalid choice"),
        ([], "required"),
        ([*predict, str(tmp_path / "none.nii.gz")], "none.nii.gz: there is no such file"),
        ([*predict, str(text)], "text.nii.gz: is damaged or incomplete"),
        ([*predict, str(tmp_path / "empty")], "empty: holds no image"),
        ([*predict, str(text), "--steps", "0"], "steps is 0"),
        ([*predict, str(text), "--shard", "3/2"], "--shard is '3/2'"),
        ([*predict, str(text), "--frob"], "unrecognized arguments: --frob. See 'diffseg predict --help'"),
        ([*predict, str(text), "--steps", "2000"], "--steps is 2000; model tiny has 1001 noise levels"),
        ([*predict, str(text), "--format", "png"], "--format png is for 2D images"),
        ([*predict, str(text), "--roi", "10", "0", "0", "5", "0", "5"], "--roi has i from 10 to 0"),
        ([*train, str(dataset), "--minutes", "3", "--iterations", "10"], "not allowed with argument --minutes"),
        (["predict", "--model", str(text), "--input", str(text), "--output", out], "text.nii.gz: is no model file"),
        (["predict", "--model", "nowhere", "--input", str(text), "--output", out], "neither a model file"),
        ([*train, str(dataset)], "1 file is missing: image imagesTr/blob_02.nii.gz of case blob_02"),
        ([*train, str(tmp_path / "empty")], "dataset.json"),
        ([*train, str(dataset), "--preset", "huge"], "allowed: default, fast"),
        ([*train, str(dataset), "--set", "training.batch=none"], "training.batch"),
        (["info", str(text)], "is no model file"),
        (["evaluate", "--prediction", str(tmp_path / "no"), "--reference", str(dataset), "--out", out], "no"),
    ]


def impossible(tmp_path, kind):
    """A place where no folder can be, and the file that is in the way."""
    if kind == "in a file":
        (tmp_path / "note").write_text("no folder")
        return tmp_path / "note" / "out", tmp_path / "note"
    link = tmp_path / "link"
    link.symlink_to(link if kind == "a circle" else tmp_path / "nowhere")
    return (link / "out" if kind == "in a link to nowhere" else link), link


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
@pytest.mark.parametrize("kind", ["in a file", "a circle", "a link to nowhere", "in a link to nowhere"])
@pytest.mark.parametrize("verb", ["predict", "train", "evaluate", "demo"])
def test_a_place_where_no_folder_can_be_is_told_before_any_work(
    tmp_path, dataset, tiny_model, capsys, monkeypatch, verb, kind
):
    out, blame = impossible(tmp_path, kind)
    image, masks = dataset / "imagesTr" / "blob_00.nii.gz", str(dataset / "labelsTr")
    arguments = {
        "predict": ["--model", str(tiny_model), "--input", str(image), "--output", str(out)],
        "train": ["--data", str(dataset), "--out", str(out)],
        "evaluate": ["--prediction", masks, "--reference", masks, "--out", str(out)],
        "demo": ["--out", str(out)],
    }[verb]
    monkeypatch.setattr(files, "_read", lambda *_: pytest.fail("that is work"))
    assert run([verb, *arguments]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and f"{blame}: is a " in said, said


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
def test_a_mask_that_is_a_link_to_itself_is_somebody_else_s(tmp_path, dataset, tiny_model, capsys):
    mask = tmp_path / "blob_00.seg.nrrd"
    mask.symlink_to(mask)
    image = str(dataset / "imagesTr" / "blob_00.nii.gz")
    assert run(["predict", "--model", str(tiny_model), "--input", image, "--output", str(tmp_path)]) == 2
    assert "blob_00.seg.nrrd: was not written by DiffSeg" in capsys.readouterr().err and mask.is_symlink()


def test_options_of_a_training_are_not_named_twice(tmp_path, dataset, capsys):
    assert run(["train", "--data", str(dataset), "--out", str(tmp_path / "out"), "--iterations", "-3"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("diffseg train: the options: training."), said


@pytest.mark.parametrize("number", range(20))
def test_a_mistake_gets_one_sentence_exit_code_2_and_leaves_nothing(tmp_path, dataset, tiny_model, capsys, number):
    arguments, words = mistakes(tmp_path, dataset, tiny_model)[number]
    assert run(arguments) == 2
    said = capsys.readouterr().err
    assert words in said and "Traceback" not in said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["predict", "--imput", "x"], "diffseg predict: unrecognized arguments: --imput (is --input meant?)."),
        (["predict", "--imput=x", "--model", "m"], "unrecognized arguments: --imput (is --input meant?)."),
        (["predict", "--save_steps", "--frob"], "--save_steps (is --save-steps meant?), --frob."),
        (["evaluate", "-prediction", "a"], "-prediction (is --prediction meant?)."),
        (["--verison"], "diffseg: unrecognized arguments: --verison (is --version meant?)."),
        (["predict", "--model", "m"], "required: --input, --output."),
        (["train", "--iterations", "-3"], "required: --data."),
        (["predict", "--model", "m", "--output", "o", "--input", "x", "--", "--imput"], "arguments: -- --imput."),
    ],
)
def test_a_misspelt_option_is_named_with_the_one_that_is_meant(capsys, arguments, words):
    assert run(arguments) == 2
    said = capsys.readouterr().err
    assert words in said and said.count("\n") == 1


def test_every_option_has_a_help_text_that_names_its_default():
    verbs = next(action for action in make_parser()._actions if action.dest == "verb").choices
    assert {"predict", "train", "evaluate", "bench"} <= set(verbs)
    for verb in verbs.values():
        for option in (action for action in verb._actions if action.option_strings and action.dest != "help"):
            assert option.help, f"{verb.prog} {option.option_strings}"
            if option.default not in (None, False, []):
                default = f"{option.default:g}" if isinstance(option.default, float) else str(option.default)
                assert f"default {default}" in option.help or f"{default} (default" in option.help, option.help


def test_one_bad_file_among_good_ones_is_exit_code_1(tmp_path, tiny_model, capsys):
    scans = tmp_path / "in"
    scans.mkdir()
    write_image(scans / "good.nrrd", blob_case(0)[0])
    (scans / "bad.nrrd").write_text("no image")
    assert run(["predict", "--model", str(tiny_model), "--input", str(scans), "--output", str(tmp_path / "o")]) == 1
    assert "bad.nrrd" in capsys.readouterr().err and (tmp_path / "o" / "good.seg.nrrd").is_file()


def test_the_program_itself_runs_and_says_so_without_torch(tmp_path, tiny_model):
    """As a user starts it; with torch hidden the answer is exit code 3 and one sentence."""
    hidden, elsewhere = tmp_path / "hidden", tmp_path / "elsewhere"
    hidden.mkdir()
    elsewhere.mkdir()
    (hidden / "torch.py").write_text("raise ModuleNotFoundError(\"No module named 'torch'\", name='torch')")
    command = [
        sys.executable,
        "-m",
        "DiffSegLib",
        "predict",
        "--model",
        "x",
        "--input",
        str(tiny_model),
        "--output",
        "o",
    ]
    for path, code, words in ((str(ROOT), 2, "neither"), (os.pathsep.join([str(hidden), str(ROOT)]), 3, "'torch'")):
        environment = {**os.environ, "PYTHONPATH": path}
        ended = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=elsewhere, check=False)
        assert ended.returncode == code and words in ended.stderr and "Traceback" not in ended.stderr, ended.stderr


def test_bench_measures_each_contestant(monkeypatch, capsys):
    """On a tiny volume: every row is there and every number is a time."""
    from DiffSegLib.training import bench

    monkeypatch.setattr(bench, "SHAPE", (16, 16, 16))
    assert run(["bench", "--rounds", "1", "--device", "cpu", "--json"]) == 0
    told = capsys.readouterr()
    found = json.loads(told.out)
    assert told.err.endswith("100 %  1 of 1 rounds\n") and f"torch {torch.__version__}" in found["machine"]
    assert len(found["rows"]) == 6 and min(found["ceilings"].values()) > 0
    for row in found["rows"]:
        assert 0 < row["fastest"] <= row["seconds"] <= row["slowest"] and row["cpu_seconds"] > 0
        assert row["parameters"] > 1e6 and row["gflop"] > 0
    monkeypatch.setattr(bench, "run", lambda *_: found)
    assert run(["bench"]) == 0
    said = capsys.readouterr().out
    assert "ratio: seconds against the first row" in said and f"Machine: {found['machine']}." in said
    by_name = {row["what"]: row["gflop"] for row in found["rows"]}
    assert by_name["unet, five diffusion steps"] > 4.9 * by_name["unet, supervised twin, one pass"]


def test_a_verb_that_computes_starts_itself_tuned_and_only_once(monkeypatch):
    from DiffSegLib import __main__

    calls = []
    monkeypatch.setattr(__main__.os, "execve", lambda *arguments: calls.append(arguments))
    monkeypatch.setattr(__main__.sys, "platform", "linux")
    monkeypatch.setattr("DiffSegLib.commands.run", lambda arguments: len(arguments))
    monkeypatch.setattr(sys, "argv", ["diffseg", "predict", "--steps", "3"])
    for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PYTHONPATH", "mine")
    assert __main__.main() == 3
    (program, command, environment) = calls.pop()
    assert program == sys.executable and command[3:] == [__main__.__file__, "predict", "--steps", "3"]
    assert environment["PYTHONPATH"] == "mine"
    assert environment["GOMP_SPINCOUNT"] == "1000" and int(environment["MALLOC_MMAP_THRESHOLD_"]) > 1 << 30
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    __main__.main()
    monkeypatch.setattr(sys, "argv", ["diffseg", "evaluate"])
    monkeypatch.delenv("GOMP_SPINCOUNT")
    __main__.main()
    assert calls == []
