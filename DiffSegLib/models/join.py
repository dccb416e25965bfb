"""One model of several: an ensemble, in one file like any other."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from DiffSegLib.errors import InputError
from DiffSegLib.models import store
from DiffSegLib.models.card import Card, Member
from DiffSegLib.network.ensemble import Ensemble

ALIKE = ("channels", "regions", "data")  # of the cards; labels by value


def join(paths: Sequence[Path], name: str, path: Path) -> Card:
    """Write the ensemble of `paths` to `path` and return its card, that of the first model with its members.

    The first model leads: its diffusion's schedule and steps are those of the ensemble, so it must not be a supervised
    network. Raises InputError, naming the file, for models that do not take the same images and give the same classes.
    """
    if len(set(map(os.path.realpath, paths))) < max(2, len(paths)):
        raise InputError("an ensemble needs at least two models, each of them once.")
    models = [store.load(each) for each in paths]
    first = models[0].card
    if first.diffusion.strategy == "supervised":
        raise InputError(f"{paths[0]}: is a supervised network; name a diffusion model first.")
    for each, model in zip(paths, models, strict=True):
        card = model.card
        if card.members:
            raise InputError(f"{each}: is an ensemble already; name its members instead.")
        different = [key for key in ALIKE if getattr(card, key) != getattr(first, key)]
        different += ["labels"] * ([x.value for x in card.labels] != [x.value for x in first.labels])
        different += ["diffusion.classes"] * (card.diffusion.classes != first.diffusion.classes)
        different += ["network.strides"] * (card.network.factors != first.network.factors)
        if different:
            raise InputError(f"{each}: differs from {paths[0]} in {', '.join(different)}.")
        fits = card.diffusion.parametrisation == "x_start" and card.diffusion.variance.startswith("fixed")
        if not fits or card.diffusion.strategy.startswith("self_conditioning"):
            raise InputError(
                f"{each}: only models that predict x_start, with a fixed variance and without self-conditioning, can "
                "be joined."
            )
    members = tuple(Member(model.card.network, model.card.diffusion.strategy) for model in models)
    training = {**first.training, "members": [model.card.training for model in models]}
    smoothing, temperature = np.mean([(m.card.smoothing, m.card.temperature) for m in models], axis=0).round(3).tolist()
    flip = tuple(all(axis) for axis in zip(*(model.card.flip for model in models), strict=False))  # each has seen it
    fitted = replace(first, smoothing=smoothing, temperature=temperature, flip=flip)
    card = replace(fitted, name=name, members=members, training=training, scores={})
    plain = [member.strategy == "supervised" for member in members]
    ensemble = Ensemble([model.network for model in models], plain, first.diffusion.classes == "exclusive")
    store.save(path, ensemble.state_dict(), card)
    return card
