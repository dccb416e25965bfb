"""What an iteration of each arm of the study costs is measured in one sitting, and again when an arm is another."""

import json
from dataclasses import replace

import pytest

from conftest import ROOT
from DiffSegLib.config import Config, NetworkConfig


@pytest.fixture
def measured(monkeypatch, tmp_path):
    """Measure; returns a function that says the costs and which arms were timed for them, and the arms' settings."""
    monkeypatch.syspath_prepend(str(ROOT / "Testing" / "study"))
    import cost

    import study

    settings = {"one": Config(), "two": replace(Config(), training=replace(Config().training, batch=1))}
    timed = []
    monkeypatch.setattr(study, "arms", lambda: sorted(settings))
    monkeypatch.setattr(study, "settings", lambda arm, seed: settings[arm])
    monkeypatch.setattr(cost, "_step", lambda each: lambda: timed.append(each))

    def measure():
        timed.clear()
        found = cost.costs(tmp_path / "runs" / "costs.json")
        return found, {arm for arm, each in settings.items() if timed.count(each) == cost.ROUNDS + 1}

    return measure, settings, tmp_path / "runs" / "costs.json"


def test_costs_are_measured_once(measured):
    measure, _, file = measured
    first, timed = measure()
    assert timed == set(first) == {"one", "two"}
    kept = json.loads(file.read_text())
    file.write_text(json.dumps({arm: {**each, "seconds": 7.5} for arm, each in kept.items()}))
    assert measure() == ({"one": 7.5, "two": 7.5}, set())


def test_an_arm_that_is_new_or_changed_is_measured_together_with_the_rest(measured):
    measure, settings, _ = measured
    measure()
    settings["three"] = replace(Config(), training=replace(Config().training, batch=3))
    found, timed = measure()
    assert timed == set(found) == {"one", "two", "three"}
    settings["two"] = replace(Config(), training=replace(Config().training, batch=5))
    assert measure()[1] == {"one", "two", "three"}
    del settings["three"]
    found, timed = measure()
    assert set(found) == {"one", "two"} and not timed, "an arm that is gone changes nothing for the others"


def test_costs_without_settings_as_older_versions_kept_them_are_measured_again(measured):
    measure, _, file = measured
    file.parent.mkdir()
    file.write_text('{"one": 1.5, "two": 2.5}')
    assert measure()[1] == {"one", "two"}


def test_an_iteration_costs_as_many_batches_as_are_added_up(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "Testing" / "study"))
    import cost

    passes, plain = [], cost.training_loss
    monkeypatch.setattr(cost, "training_loss", lambda *given: passes.append(given) or plain(*given))
    training = replace(Config().training, batch=1, accumulate=3)
    network = NetworkConfig(channels=(4, 4), strides=((2, 2, 2),), blocks=1, heads=1)
    data = replace(Config().data, patch=(8, 8, 8))
    cost._step(replace(Config(), training=training, network=network, data=data))()
    assert len(passes) == 3
