"""Keys of a configuration that do nothing beside certain other values: what each of them acts with.

docs/training.md says the same in the same words; a test holds the two together and proves each row.
"""

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from DiffSegLib.errors import InputError

FROM_ABOVE = ("recycling", "recycling_next", "self_conditioning_next")  # whose first pass is at a noisier level than t
SELF_CONDITIONED = ("self_conditioning", "self_conditioning_next")
NOISE, OURS = "diffusion.strategy not supervised", "network.name unet, cached"
# each part is "key value, value", "key not value" or "key above number"; "or" binds more closely than "and"
ACTS = {
    "network.blocks": "network.name not dynunet",
    "network.heads": f"network.attention true and {OURS}",
    **dict.fromkeys(("network.attention", "network.activation"), OURS),
    **dict.fromkeys(("network.time", "diffusion.schedule", "diffusion.timesteps", "diffusion.train_steps"), NOISE),
    **{f"diffusion.{key}": NOISE for key in ("time", "variance", "eta", "time_sampling", "fusion")},
    **dict.fromkeys(("diffusion.beta_start", "diffusion.beta_end"), f"diffusion.schedule not cosine and {NOISE}"),
    "diffusion.clip_x_start": "diffusion.parametrisation epsilon, v",
    "diffusion.reverse_step": "diffusion.strategy recycling_next",
    "diffusion.recycling_last": f"diffusion.strategy {', '.join(FROM_ABOVE)}",
    "diffusion.self_conditioning_probability": f"diffusion.strategy {', '.join(SELF_CONDITIONED)}",
    "diffusion.self_conditioning_input": "diffusion.strategy self_conditioning_next",
    "diffusion.importance_weight": f"diffusion.time_sampling loss_aware and {NOISE}",
    "loss.soft_borders": "loss.cross_entropy above 0",
    "loss.focal_gamma": "loss.focal above 0",
    "training.iterations": "training.minutes null",
    "training.learning_rate_start": "training.warmup above 0",
    "training.decay": "training.learning_rate above training.learning_rate_end",
    "training.deterministic": "training.minutes null",
    "training.patience": "training.validations above training.patience",
}
for _change, *_ranges in (
    ("affine", "rotation", "scale", "shift"),
    ("contrast", "contrast", "brightness"),
    *((each, each) for each in ("gamma", "blur", "low_resolution", "noise")),
):
    ACTS |= {f"augment.{each}": f"augment.{_change}_probability above 0" for each in _ranges}
    _moved = (f"augment.{each} above {int(each == 'low_resolution')}" for each in _ranges)
    ACTS[f"augment.{_change}_probability"] = " or ".join(_moved)


def refuse_idle(values: Mapping[str, Any], written: Iterable[str], where: str) -> None:
    """Raise InputError for the first key in `written` that does nothing beside the other values (section.key -> value).

    A number of 0 passes: it asks for nothing.
    """
    for key in written:
        for part in ACTS[key].split(" and ") if key in ACTS and (values[key] or values[key] is False) else ():
            if not any(_holds(each, values) for each in part.split(" or ")):
                now = (f"{name} is {_shown(values[name])}" for name in re.findall(r"[a-z]+\.\w+", part) if name != key)
                text = f"{key} is {_shown(values[key])}, which does nothing: it acts with {part} only"
                raise InputError(f"{where}: {text}; here {', '.join(now)}.")


def _holds(part: str, values: Mapping[str, Any]) -> bool:
    key, *wanted = part.replace(",", "").split()
    if wanted[0] == "above":
        return bool(values[key] > (values[wanted[1]] if wanted[1] in values else float(wanted[1])))
    return (_shown(values[key]) in wanted) != (wanted[0] == "not")


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
