"""A training of a second or two, without files to read: what the tests of the loop share."""

from pathlib import Path

import torch

from conftest import TINY, blob_case
from DiffSegLib import config
from DiffSegLib.data.patches import Prepared, prepare
from DiffSegLib.network.build import build
from DiffSegLib.training import checkpoint, loop
from DiffSegLib.training.loop import Trained, train
from DiffSegLib.training.step import StepLoss

SMALL = ["data.patch=[8,10,8]", "network.channels=[4,8]", "training.ema=0.9"]
# everything that a resumed training could get wrong
ALL = [
    *("network.dropout=0.2", "diffusion.time_sampling=loss_aware", "diffusion.train_steps=2", "training.patience=50"),
    *("training.accumulate=2", "training.iterations=14", "training.validations=5", "training.learning_rate=0.01"),
]


def settings_of(*changes: str) -> config.Config:
    return config.override(config.from_json(TINY), [*SMALL, *changes])


def blobs(count: int) -> list[Prepared]:
    cases = []
    for n in range(count):
        image, label = blob_case(n, (10, 14, 10))
        image = torch.from_numpy(image)[None] / 200
        cases.append(prepare(f"blob {n}", image, torch.from_numpy(label), (1.0, 1.0, 1.0)))
    return cases


def small_training(run: Path, settings: config.Config, **options) -> Trained:
    cases = blobs(5)
    torch.manual_seed(0)
    network = build(settings.network, 1, 3, settings.diffusion)
    return train(network, 3, cases[:4], cases[4:], settings, run, device="cpu", **options)


def state_of(run: Path, name: str = checkpoint.LAST) -> dict:
    """All that a checkpoint holds, apart from clocks."""
    tensors, more = checkpoint.read(run / "checkpoint" / name)
    times = ("seconds", "validated_seconds")
    return {**tensors, **more, "progress": {key: x for key, x in more["progress"].items() if key not in times}}


def assert_same(found: dict, wanted: dict) -> None:
    """Bit for bit."""
    assert found.keys() == wanted.keys()
    for key, value in wanted.items():
        same = torch.equal(found[key], value) if isinstance(value, torch.Tensor) else found[key] == value
        assert same, key


def spoiled(monkeypatch, bad, factor=float("nan")):
    """The loss of these iterations times `factor`; the finite losses of their samples stay as they are."""
    plain, asked = loop.training_loss, iter(range(100_000))

    def training_loss(*args):
        loss = plain(*args)
        return StepLoss(loss.mean * factor, loss.index, loss.per_sample) if next(asked) in bad else loss

    monkeypatch.setattr(loop, "training_loss", training_loss)
