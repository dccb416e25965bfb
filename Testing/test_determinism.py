"""The switch for kernels that give the same bits each time: on while a training steps, and at no other time."""

import os

import pytest
import torch

from DiffSegLib.errors import Cancelled
from DiffSegLib.training import loop
from DiffSegLib.training.determinism import WORKSPACE, deterministic
from small_training import assert_same, settings_of, small_training, state_of

SWITCH = "training.deterministic=true"


def now() -> tuple[bool, bool, bool, bool]:
    cudnn, warns = torch.backends.cudnn, torch.is_deterministic_algorithms_warn_only_enabled()
    return torch.are_deterministic_algorithms_enabled(), warns, cudnn.deterministic, cudnn.benchmark


@pytest.fixture
def seen(monkeypatch):
    """What holds at each pass of a training."""
    found, plain = [], loop.training_loss

    def watched(*args):
        found.append(now())
        return plain(*args)

    monkeypatch.setattr(loop, "training_loss", watched)
    monkeypatch.setenv(WORKSPACE, ":16:8")  # a user's own, which stays
    return found


def test_it_is_on_while_a_training_steps_and_changes_nothing_on_a_cpu(seen, tmp_path, recwarn):
    kept = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = True  # as a user may have it
    try:
        before = now()
        small_training(tmp_path / "switched", settings_of(SWITCH, "training.iterations=3"))
        assert seen == [(True, True, True, False)] * 3
        assert now() == before and os.environ[WORKSPACE] == ":16:8"
        seen.clear()
        small_training(tmp_path / "plain", settings_of("training.iterations=3"))
        assert seen == [before] * 3
    finally:
        torch.backends.cudnn.benchmark = kept
    states = [state_of(tmp_path / name) for name in ("switched", "plain")]
    assert [state.pop("config")["training"]["deterministic"] for state in states] == [True, False]
    assert_same(*states)
    assert not [each for each in recwarn if "deterministic" in str(each.message)]


def test_it_is_off_after_a_training_that_was_stopped(seen, tmp_path):
    before = now()
    with pytest.raises(Cancelled):
        small_training(tmp_path, settings_of(SWITCH), cancelled=lambda: len(seen) > 1)
    assert len(seen) == 2 and now() == before


def test_a_setting_that_somebody_made_stays_meanwhile_and_afterwards(seen, tmp_path):
    torch.use_deterministic_algorithms(True)
    try:
        small_training(tmp_path, settings_of(SWITCH, "training.iterations=1"))
        assert [each[:2] for each in (*seen, now())] == [(True, False)] * 2
    finally:
        torch.use_deterministic_algorithms(False)


def test_what_cublas_reads_is_set_meanwhile_and_removed_afterwards(monkeypatch):
    monkeypatch.delenv(WORKSPACE, raising=False)
    with deterministic(False):
        assert WORKSPACE not in os.environ
    with deterministic(True):
        assert os.environ[WORKSPACE] == ":4096:8"
    assert WORKSPACE not in os.environ
