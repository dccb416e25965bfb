"""The options of `predict` as arguments of a command line: one definition, for `diffseg` and for the batch in Slicer.

Standard library alone, so that a help text or a mistake costs no import.
"""

import argparse
from dataclasses import fields
from pathlib import Path
from typing import Any

from DiffSegLib.errors import InputError
from DiffSegLib.jobs import DEVICES, SAMPLERS, SegmentOptions

DEVICE_HELP = "auto (default), which takes a GPU where there is one, cpu or cuda"
FORMATS = ("seg.nrrd", "nii.gz", "nrrd", "png")


def add_predict_arguments(parser: argparse.ArgumentParser) -> None:
    """Give a parser the options of `predict`."""
    model = "a model's name, a .safetensors file, or the folder of a training"
    parser.add_argument("--model", required=True, help=model)
    images = "image files or folders of images; several channels: files CASE_0000, CASE_0001, ... in a folder"
    parser.add_argument("--input", type=Path, nargs="+", action="extend", required=True, help=images)
    parser.add_argument("--output", type=Path, required=True, help="folder for masks, records and volumes.csv")
    parser.add_argument("--steps", type=int, default=5, help="diffusion steps (default 5)")
    parser.add_argument("--sampler", choices=SAMPLERS, default="ddim", help="ddim or ddpm (default ddim)")
    parser.add_argument("--samples", type=int, default=1, help="segmentations to draw and average (default 1)")
    parser.add_argument("--seed", type=int, default=0, help="of the noise: one seed, one mask (default 0)")
    formats = f"of the masks: {', '.join(FORMATS)} (default seg.nrrd); png for 2D models"
    parser.add_argument("--format", choices=FORMATS, default="seg.nrrd", help=formats)
    steps = "write the mask of every step too"
    parser.add_argument("--save-steps", dest="keep_steps", action="store_true", help=steps)
    parser.add_argument("--uncertainty", action="store_true", help="write the voxels' entropy, 0 to 1")
    parser.add_argument("--roi", type=int, nargs=6, metavar="V", help="voxel box i0 i1 j0 j1 k0 k1 (end exclusive)")
    parser.add_argument("--shard", default="1/1", metavar="I/N", help="every N-th case, from the I-th (default 1/1)")
    done = "leave out cases that are done with this model and these settings"
    parser.add_argument("--skip-existing", action="store_true", help=done)
    others = "replace masks, too, that DiffSeg did not write or that were changed since"
    parser.add_argument("--overwrite", action="store_true", help=others)
    parser.add_argument("--device", choices=DEVICES, default="auto", help=DEVICE_HELP)


def segment_options(chosen: argparse.Namespace) -> SegmentOptions:
    """What was chosen as the options of a segmentation; raises InputError for a value that cannot be."""
    values = {field.name: getattr(chosen, field.name) for field in fields(SegmentOptions)}
    return SegmentOptions(**values | {"roi": _roi(chosen.roi)})


def check_model(chosen: argparse.Namespace, card: Any) -> None:
    """Raise InputError for what a model with this card cannot do, before the first image is read."""
    if chosen.steps > card.diffusion.timesteps:
        raise InputError(f"--steps is {chosen.steps}; model {card.name} has {card.diffusion.timesteps} noise levels.")
    if chosen.format == "png" and card.dims == 3:
        raise InputError(f"--format png is for 2D images; model {card.name} segments 3D ones.")


def shard_of(text: str) -> slice:
    """`I/N` -> the slice of the cases that this process takes: every N-th from the I-th, counted from 1."""
    number, slash, count = text.partition("/")
    if not slash or not number.isdecimal() or not count.isdecimal() or not 1 <= int(number) <= int(count):
        raise InputError(f"--shard is {text!r}; write I/N with 1 <= I <= N, e.g. 2/8.")
    return slice(int(number) - 1, None, int(count))


def _roi(values: list[int] | None) -> tuple[tuple[int, int], ...] | None:
    """i0 i1 j0 j1 k0 k1 -> ((k0, k1), (j0, j1), (i0, i1))."""
    if values is None:
        return None
    i0, i1, j0, j1, k0, k1 = values
    for axis, low, high in (("i", i0, i1), ("j", j0, j1), ("k", k0, k1)):
        if not 0 <= low < high:
            raise InputError(f"--roi has {axis} from {low} to {high}; it needs 0 <= {axis}0 < {axis}1.")
    return (k0, k1), (j0, j1), (i0, i1)
