"""Reading and writing model files."""

import json
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from DiffSegLib.errors import InputError
from DiffSegLib.models.card import MAX_PARAMETERS, Card, Member
from DiffSegLib.models.shipped import read_card, read_header
from DiffSegLib.network.build import build
from DiffSegLib.network.ensemble import Ensemble
from DiffSegLib.network.weights import digest, write_safetensors
from DiffSegLib.whole_files import checksum

SEAL = "weights_sha256"  # in the header beside the card, which may change


@dataclass(frozen=True, eq=False)
class Model:
    """A loaded model: its network (eval mode, float32, CPU), its card, and the file's SHA-256 when it was read."""

    network: nn.Module
    card: Card
    path: Path
    sha256: str


def load(path: Path) -> Model:
    """Read a model; shapes are compared before anything of the network's size is allocated."""
    card, sha256 = read_card(path), checksum(path)
    with torch.device("meta"):
        plan = _network(card).state_dict()
    count = sum(value.numel() for value in plan.values())
    if count > MAX_PARAMETERS:
        raise InputError(f"{path}: its card describes {count} parameters; at most {MAX_PARAMETERS} are read.")
    try:
        with safe_open(path, framework="pt") as file:
            shapes = {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118
            wanted = {key: tuple(value.shape) for key, value in plan.items()}
            if shapes != wanted:
                different = sorted(set(shapes.items()) ^ set(wanted.items()))
                raise InputError(f"{path}: its weights do not fit its card (first at {different[0][0]!r}).")
            stored: dict[str, Tensor] = {key: file.get_tensor(key) for key in shapes}
    except (SafetensorError, OSError) as problem:
        raise InputError(f"{path}: cannot be read ({_short(problem)}); copy it again.") from None
    known = read_header(path).get(SEAL)  # of a model that was written before there was one: None
    if known is not None and known != _seal(stored):
        raise InputError(f"{path}: its weights are not those that were written; copy it again.")
    weights = {key: value.float() for key, value in stored.items()}
    broken = [key for key, value in weights.items() if not torch.isfinite(value).all()]
    if broken:
        raise InputError(f"{path}: weight {broken[0]!r} holds values that are not numbers.")
    network = _network(card)
    network.load_state_dict(weights)
    return Model(network.eval(), card, path, sha256)


def _network(card: Card) -> nn.Module:
    """What a card describes, with random weights."""
    members = card.members or (Member(card.network, card.diffusion.strategy),)
    built = [
        build(member.network, len(card.channels), card.num_classes, replace(card.diffusion, strategy=member.strategy))
        for member in members
    ]
    if not card.members:
        return built[0]
    return Ensemble(built, [m.strategy == "supervised" for m in members], card.diffusion.classes == "exclusive")


def save(path: Path, weights: dict[str, Tensor], card: Card, dtype: torch.dtype = torch.float16) -> None:
    """Write a model file; half precision halves its size and costs no Dice."""
    halved = {key: value.to(dtype) if value.is_floating_point() else value for key, value in weights.items()}
    write_safetensors(path, halved, {"diffseg": json.dumps(card.to_json()), SEAL: _seal(halved), "format": "pt"})


def _seal(weights: dict[str, Tensor]) -> str:
    return digest(weights, "".join(f"{key}: {weights[key].dtype}\n" for key in sorted(weights)))


def _short(problem: BaseException) -> str:
    return str(problem).splitlines()[0][:160] if str(problem) else type(problem).__name__
