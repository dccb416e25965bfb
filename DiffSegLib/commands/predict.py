"""`diffseg predict`: segment files or folders."""

import argparse
import sys
from pathlib import Path
from typing import Any

from DiffSegLib.errors import InputError
from DiffSegLib.jobs import SegmentOptions

FORMATS = ("seg.nrrd", "nii.gz", "nrrd", "png")


def add(verbs: Any) -> None:
    """Options of the verb."""
    verb = verbs.add_parser("predict", help="segment images", allow_abbrev=False)
    verb.add_argument("--model", required=True, help="a model's name, or a .safetensors file")
    images = "image files or folders of images; several channels: files CASE_0000, CASE_0001, ... in a folder"
    verb.add_argument("--input", type=Path, nargs="+", required=True, help=images)
    verb.add_argument("--output", type=Path, required=True, help="folder for the masks")
    verb.add_argument("--steps", type=int, default=5, help="diffusion steps (default 5)")
    verb.add_argument("--sampler", choices=("ddim", "ddpm"), default="ddim")
    verb.add_argument("--samples", type=int, default=1, help="segmentations to draw and average")
    verb.add_argument("--seed", type=int, default=0)
    verb.add_argument("--format", choices=FORMATS, default="seg.nrrd")
    verb.add_argument("--save-steps", action="store_true", help="write the mask of every step too")
    verb.add_argument("--uncertainty", action="store_true", help="write the voxels' entropy, 0 to 1")
    verb.add_argument("--roi", type=int, nargs=6, metavar="V", help="voxel box i0 i1 j0 j1 k0 k1 (end exclusive)")
    verb.add_argument("--shard", default="1/1", metavar="I/N", help="take every N-th case, from the I-th")
    verb.add_argument("--skip-existing", action="store_true", help="leave out cases that are done")
    verb.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    verb.set_defaults(call=call)


def call(options: argparse.Namespace) -> tuple[int, dict[str, Any]]:
    """Segment every case; those that fail are named and the rest go on."""
    settings = SegmentOptions(
        steps=options.steps,
        sampler=options.sampler,
        samples=options.samples,
        seed=options.seed,
        device=options.device,
        roi=_roi(options.roi),
        keep_steps=options.save_steps,
        uncertainty=options.uncertainty,
    )
    shard = _shard(options.shard)

    from DiffSegLib.commands import StopFlag
    from DiffSegLib.commands.show import Show
    from DiffSegLib.inference.batch import find_cases, predict_cases
    from DiffSegLib.inference.predict import Predictor
    from DiffSegLib.models.shipped import find
    from DiffSegLib.models.store import load

    model = load(find(options.model))
    cases = find_cases(options.input, len(model.card.channels))[shard[0] - 1 :: shard[1]]
    predictor = Predictor(model, options.device)
    show = Show()
    outcome = predict_cases(
        predictor,
        cases,
        options.output,
        settings,
        file_format=options.format,
        skip_existing=options.skip_existing,
        listener=show,
        cancelled=StopFlag(),
    )
    show.close()
    for name, problem in outcome.failed.items():
        print(f"diffseg predict: {name}: {problem}", file=sys.stderr)
    counts = f"{len(outcome.done)} done, {len(outcome.skipped)} skipped, {len(outcome.failed)} failed"
    print(f"{counts}; the masks are in {options.output}.", file=sys.stderr)
    answer = {"done": outcome.done, "skipped": outcome.skipped, "failed": outcome.failed}
    if outcome.failed and not outcome.done and not outcome.skipped:
        return 2, answer
    return (1 if outcome.failed else 0), answer


def _roi(values: list[int] | None) -> tuple[tuple[int, int], ...] | None:
    """i0 i1 j0 j1 k0 k1 -> ((k0, k1), (j0, j1), (i0, i1))."""
    if values is None:
        return None
    i0, i1, j0, j1, k0, k1 = values
    return (k0, k1), (j0, j1), (i0, i1)


def _shard(text: str) -> tuple[int, int]:
    number, slash, count = text.partition("/")
    if not slash or not number.isdecimal() or not count.isdecimal() or not 1 <= int(number) <= int(count):
        raise InputError(f"--shard is {text!r}; write I/N with 1 <= I <= N, e.g. 2/8.")
    return int(number), int(count)
