"""Named starting points of a training, as data; what a preset leaves out keeps its default.

`imgx-*` are the three published versions of ImgX-DiffSeg with its own choices, mistakes included (docs/method.md): what
someone needs who wants to compare. Spacing, patch and strides are the data's.
"""

from typing import Any

# what all three versions of the reference share
_IMGX: dict[str, Any] = {
    "data": {"normalisation": "percentile", "foreground": 0.0},
    "augment": {
        "rotation": 5.0,
        "scale": 0.15,
        "affine_probability": 1.0,
        **{f"{change}_probability": 0.0 for change in ("contrast", "gamma", "blur", "low_resolution", "noise")},
    },
    "network": {"activation": "gelu_tanh", "time": "before_norm"},
    "diffusion": {
        "time": "index",
        "recycling_last": False,
        "self_conditioning_input": "reference",
        "time_sampling": "loss_aware",
        "importance_weight": "reference",
        "clip_x_start": False,
    },
    "loss": {"dice": 1.0, "cross_entropy": 0.0, "focal": 20.0},
    "training": {
        "iterations": 12500,
        "batch": 1,
        "accumulate": 8,
        "learning_rate": 8e-4,
        "learning_rate_start": 1e-5,
        "learning_rate_end": 5e-5,
        "warmup": 100 / 12500,
        "decay": 10000 / 12500,
        "smoothing": False,
        "weight_decay": 1e-8,
        "ema": 0.0,
        "precision": "fp32",
        "validations": 25,
    },
}


def _changed(base: dict[str, Any], **sections: dict[str, Any]) -> dict[str, Any]:
    return base | {name: base[name] | values for name, values in sections.items()}


PRESETS: dict[str, dict[str, Any]] = {
    # the network that learnt most in the same time, and steps that do not lose Dice (docs/decisions.md)
    "default": {"network": {"name": "cached"}, "diffusion": {"strategy": "unrolled", "fusion": "mean"}},
    "fast": {
        "network": {"name": "cached", "channels": [16, 32, 64, 128], "blocks": 1},
        "diffusion": {"strategy": "unrolled", "fusion": "mean"},
    },
    "imgx-v0.1": _changed(
        _IMGX,
        network={"attention": False},
        diffusion={
            "strategy": "recycling_next",
            "variance": "fixed_large",
            "time_sampling": "uniform",
            "recycling_last": True,
        },
        loss={"cross_entropy": 1.0, "focal": 0.0},  # its mse of 0.1 is for a predicted noise only (docs/method.md)
        training={"learning_rate": 1e-4, "learning_rate_end": 1e-6},
    ),
    "imgx-v0.2": _IMGX,
    "imgx-head": _changed(
        _IMGX,
        augment={"rotation": 30.0, "scale": 0.2, "shift": 0.3, "affine_probability": 0.5, "gamma_probability": 0.5},
        network={"dropout": 0.1},
        diffusion={"train_steps": 1001},
        loss={"focal": 1.0},
        training={"patience": 10},
    ),
}
