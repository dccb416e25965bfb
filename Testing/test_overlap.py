"""A batch reads the next case and writes the last one while it segments; what goes wrong meanwhile is not lost."""

import threading

import numpy as np
import pytest

from conftest import blob_case, write_image
from DiffSegLib.data import batch, outputs
from DiffSegLib.errors import Cancelled, EnvironmentProblem, InputError
from DiffSegLib.labels import labels_from_names
from tally import tried

LABELS = labels_from_names({1: "first", 2: "second"})


@pytest.fixture
def cases(tmp_path):
    scans = tmp_path / "scans"
    scans.mkdir()
    for n in range(4):
        write_image(scans / f"case{n}.nii.gz", blob_case(n)[0])
    return batch.find_cases([scans])


class Seen:
    """Which cases were read and written, to be waited for."""

    def __init__(self, monkeypatch):
        self.told = {f"{what} case{n}": threading.Event() for what in ("read", "write") for n in range(4)}
        self.watch(monkeypatch, batch, "read_case", lambda paths, _: "read " + paths[0].name.split(".")[0])
        self.watch(monkeypatch, outputs, "write_text", lambda path, _: "write " + path.stem)

    def watch(self, monkeypatch, module, name, what):
        action = getattr(module, name)

        def call(*arguments):
            answer = action(*arguments)
            self.told.get(what(*arguments), threading.Event()).set()  # the table of volumes is no case
            return answer

        monkeypatch.setattr(module, name, call)

    def wait(self, what):
        assert self.told[what].wait(120), f"no {what!r} while another case was segmented"


def prediction(volume):
    mask = np.zeros(volume.array.shape[1:], np.uint8)
    return outputs.Prediction(mask, [], None, {1: 0.0, 2: 0.0}, [], {})


def test_the_next_case_is_read_and_the_last_one_written_meanwhile(cases, tmp_path, monkeypatch):
    seen = Seen(monkeypatch)

    def segment(volume, _listener):
        n = int(volume.name[-len("0.nii.gz")])
        if n < 3:
            seen.wait(f"read case{n + 1}")
        if n > 0:
            seen.wait(f"write case{n - 1}")
        if n < 2:
            assert not seen.told[f"read case{n + 2}"].is_set(), "no more than one is read ahead"
        return prediction(volume)

    outcome = batch.run_cases(cases, outputs.Outputs(tmp_path / "out", LABELS), segment)
    assert outcome.done == ["case0", "case1", "case2", "case3"] and not outcome.failed


def test_what_is_there_is_not_read_again(cases, tmp_path, monkeypatch):
    out = tmp_path / "out"
    batch.run_cases(cases[:3], outputs.Outputs(out, LABELS), lambda volume, _: prediction(volume))
    for path in out.glob("case1.*"):
        path.unlink()
    seen = Seen(monkeypatch)
    outcome = batch.run_cases(
        cases, outputs.Outputs(out, LABELS), lambda volume, _: prediction(volume), skip_existing=True
    )
    assert outcome.skipped == ["case0", "case2"] and outcome.done == ["case1", "case3"]
    assert {what for what, event in seen.told.items() if event.is_set() and "read" in what} == {
        "read case1",
        "read case3",
    }


def test_a_file_that_cannot_be_read_or_written_is_named_and_the_rest_goes_on(cases, tmp_path, monkeypatch):
    cases[1][1][0].write_bytes(b"no image")
    write = outputs.write_mask

    def fail_once(path, *rest):
        if path.name.startswith("case2"):
            raise RuntimeError("a defect")
        write(path, *rest)

    monkeypatch.setattr(outputs, "write_mask", fail_once)
    outcome = batch.run_cases(cases, outputs.Outputs(tmp_path / "out", LABELS), lambda volume, _: prediction(volume))
    assert outcome.done == ["case0", "case3"] and set(outcome.failed) == {"case1", "case2"}
    assert "case1.nii.gz" in outcome.failed["case1"] and "a defect" in outcome.failed["case2"]


def test_a_case_that_is_too_large_is_named_without_a_traceback(cases, tmp_path, capsys):
    sizes = iter((False, True, False, False))

    def segment(volume, _):
        if next(sizes):
            raise MemoryError
        return prediction(volume)

    outcome = batch.run_cases(cases, outputs.Outputs(tmp_path / "out", LABELS), segment)
    assert list(outcome.failed) == ["case1"] and len(outcome.done) == 3
    assert outcome.failed["case1"].endswith("case1.nii.gz: is too large for this machine's memory.")
    assert "Traceback" not in capsys.readouterr().err


def test_a_full_disk_ends_the_batch(cases, tmp_path, monkeypatch):
    def full(*_):
        tried("faults injected: memory, disk, loss")
        raise EnvironmentProblem("no space is left")

    monkeypatch.setattr(outputs, "write_mask", full)
    segmented = []

    def segment(volume, _listener):
        segmented.append(volume.name)
        return prediction(volume)

    with pytest.raises(EnvironmentProblem, match="no space"):
        batch.run_cases(cases, outputs.Outputs(tmp_path / "out", LABELS), segment)
    assert len(segmented) == 2


def test_a_cancelled_batch_has_written_what_was_done_and_says_how_to_go_on(cases, tmp_path, capsys):
    cases[0][1][0].write_bytes(b"no image")
    told = []

    def segment(volume, _listener):
        if volume.name.endswith("case2.nii.gz"):
            raise Cancelled("Cancelled.")
        return prediction(volume)

    outcome = batch.run_cases(cases, outputs.Outputs(tmp_path / "out", LABELS), segment, listener=told.append)
    assert [path.name for path in (tmp_path / "out").glob("*.json")] == ["case1.json"]
    assert [event["text"].partition(":")[0] for event in told] == ["case0 failed"]  # as soon as it did
    code, answer = outcome.report("diffseg predict", tmp_path / "out")
    assert code == 4 and answer["left"] == ["case2", "case3"]
    assert answer["done"] == ["case1"] and set(answer["failed"]) == {"case0"}
    said = capsys.readouterr().err
    assert "cancelled: 1 done, 0 skipped, 1 failed (case0), 2 left" in said and "--skip-existing goes on" in said


def test_a_folder_that_nothing_can_be_written_into_is_told_before_the_work(cases, tmp_path, monkeypatch):
    def full(*_arguments, **_options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tempfile.mkdtemp", full)
    with pytest.raises(InputError, match="out: cannot be written"):
        batch.run_cases(cases, outputs.Outputs(tmp_path / "out", LABELS), lambda *_: pytest.fail("it was segmented"))
