"""Tiny untrained models of other shapes than the fixture tiny_model: several channels, single slices, other labels."""

from pathlib import Path

import torch

from conftest import TINY
from DiffSegLib import config
from DiffSegLib.labels import labels_from_names
from DiffSegLib.models import store
from DiffSegLib.models.card import card_of
from DiffSegLib.network.build import build

FLAT = {
    "data": {"patch": [16, 16]},
    "network": {**TINY["network"], "strides": [[2, 2]]},
    "augment": {"flip": [False, False]},
}


def write_model(path: Path, channels=("MRI",), labels=("first", "second"), settings=None, **card) -> Path:
    """A model file with random weights; card: further keys of its card."""
    made = config.from_json(settings or TINY)
    torch.manual_seed(0)
    network = build(made.network, len(channels), len(labels) + 1)
    names = labels_from_names(dict(enumerate(labels, start=1)))
    store.save(path, network.state_dict(), card_of(made, name=path.stem, labels=names, channels=channels, **card))
    return path
