"""Tiny untrained models of other shapes than the fixture tiny_model, and what one answers in this very process."""

from pathlib import Path

from conftest import TINY, need_torch
from DiffSegLib import config
from DiffSegLib.labels import labels_from_names
from DiffSegLib.models.card import card_of

FLAT = {
    "data": {"patch": [16, 16]},
    "network": {**TINY["network"], "strides": [[2, 2]]},
    "augment": {"flip": [False, False]},
}


def write_model(path: Path, channels=("MRI",), labels=("first", "second"), settings=None, **card) -> Path:
    """A model file with random weights; card: further keys of its card."""
    torch = need_torch()
    from DiffSegLib.models import store
    from DiffSegLib.network.build import build

    made = config.from_json(settings or TINY)
    torch.manual_seed(0)
    network = build(made.network, len(channels), len(labels) + 1)
    names = labels_from_names(dict(enumerate(labels, start=1)))
    store.save(path, network.state_dict(), card_of(made, name=path.stem, labels=names, channels=channels, **card))
    return path


def answer_of(model: Path, case, options):
    """What the engine answers on the CPU, in this process."""
    need_torch()
    from DiffSegLib.inference.predict import Predictor
    from DiffSegLib.models.store import load

    return Predictor(load(model), "cpu")(case, options)
