"""Segment a volume with a model: the one way that window, console, batch and command line all take."""

import gc
import time
from collections.abc import Callable
from dataclasses import asdict
from itertools import combinations

import numpy as np
import torch
from torch import nn

from DiffSegLib import __version__, events
from DiffSegLib.data.native import NativeMap, best_class, only_channel, regions_as
from DiffSegLib.data.outputs import Prediction
from DiffSegLib.data.preprocess import Grid, to_model_space
from DiffSegLib.data.volume import Volume, check_geometry
from DiffSegLib.diffusion.process import mask_channels
from DiffSegLib.errors import Cancelled, InputError
from DiffSegLib.inference.ladder import rungs
from DiffSegLib.inference.sampling import Pass, Sampling
from DiffSegLib.inference.uncertainty import uncertainty
from DiffSegLib.jobs import SegmentOptions
from DiffSegLib.models.store import Model
from DiffSegLib.network.memory import enough_for, is_out_of_memory
from DiffSegLib.network.precision import autocast, pick_device, pick_precision, ready
from DiffSegLib.tuning import give_back

FEW = 10  # values of an image that may be a label map
LARGE = 1 << 24  # voxels of a volume whose arrays are worth giving back before other work begins

# called with (step, steps, mask); the mask is (K, J, I) uint8 label values on the volume's grid. With several samples
# it is called for the first, so that there is something to see early, and at the last for the mean of all
OnStep = Callable[[int, int, np.ndarray], None]


class Predictor:
    """A model on a device, kept warm between volumes.

    predictor = Predictor(load(find("hippocampus")))
    prediction = predictor(read(Path("t1.nii.gz")), SegmentOptions(seed=0))
    """

    def __init__(self, model: Model, device: str = "auto") -> None:
        self.model = model
        self.device = pick_device(device)
        self._ready: dict[torch.device, nn.Module] = {}

    def __call__(
        self,
        volume: Volume,
        options: SegmentOptions,
        listener: events.Listener = events.silent,
        on_step: OnStep | None = None,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> Prediction:
        """Segment; raises InputError for a volume that the model cannot take, Cancelled when asked to stop.

        With `options.roi` the model sees that box only, and the rest of the mask is 0.
        """
        began = time.perf_counter()
        card = self.model.card
        box = self._check(volume, options)
        inside = Volume(volume.array[(slice(None), *box)], volume.affine, volume.name)
        warnings = [*volume.notes, *self._warnings(volume, box)]
        for text in warnings:  # before the work: a whole head may take many minutes
            listener(events.make("warning", text=text))
        # a region of an image such as training saw whole is normalised as a part of it; else it is the image itself
        extents = [np.multiply(each.array.shape[1:], each.spacing) for each in (volume, inside)]
        whole = volume.array if options.roi and card.looks_like(*extents) else None
        with enough_for(volume.name):
            image, grid = to_model_space(inside, card.data, whole)
        if text := nothing_left(image, volume.name):
            warnings.append(text)
            listener(events.make("warning", text=text))
        if volume.array.size >= LARGE:
            give_back()
        prepared = time.perf_counter()

        def tick(at: Pass) -> None:
            if cancelled():
                raise Cancelled("Segmentation was cancelled.")
            text = f"step {at.step} of {options.steps}, window {at.window} of {at.windows}"
            text += f", sample {at.sample} of {options.samples}" if options.samples > 1 else ""
            listener(events.make("progress", text=text, steps=options.steps, samples=options.samples, **asdict(at)))

        fallbacks: list[str] = []
        factors = card.network.factors
        for rung in rungs(self.device, card.data.patch, factors):
            if fallbacks:
                fallbacks[-1] += f"; went on with {rung.name}."
                listener(events.make("warning", text=fallbacks[-1]))
            try:
                views = mirrored_views(card.flip)
                sampling = Sampling(
                    self._network(rung.device),
                    card.num_classes,
                    rung.patch,
                    factors,
                    card.diffusion,
                    steps=options.steps,
                    sampler=options.sampler,
                    seed=options.seed,
                    views=[views[sample % len(views)] for sample in range(options.samples)],
                    device=rung.device,
                    precision=pick_precision("auto", rung.device),
                    every_step=options.keep_steps or on_step is not None,
                    growth=rung.growth,
                    batch=rung.batch,
                    state=rung.state,
                    smoothing=card.smoothing,
                    tick=tick,
                )
                masks, doubt = self._draw(sampling, image, grid, options, on_step, volume.array.shape[1:], box)
                break
            except Exception as problem:
                if not is_out_of_memory(problem):
                    raise
            gc.collect()  # here the exception is gone, and with it what its frames held
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
            fallbacks.append(f"{volume.name}: memory ran out with {rung.name}")
        else:
            raise InputError(f"{fallbacks[-1]}; choose a region of interest, or close other programs.")
        if volume.array.size >= LARGE:
            give_back()
        warnings += fallbacks
        volumes = volumes_ml(masks[-1], volume, [label.value for label in card.labels])
        finished = time.perf_counter()
        provenance = {
            "engine": f"DiffSeg {__version__}",
            "model": card.name,
            "model_sha256": self.model.sha256,
            "image": volume.name,
            "seed": options.seed,
            "steps": options.steps,
            "sampler": options.sampler,
            "samples": options.samples,
            "roi": options.roi,
            "roi_ijk": [n for pair in reversed(options.roi) for n in pair] if options.roi else None,
            "device": _device_name(rung.device),
            "precision": str(pick_precision("auto", rung.device)).removeprefix("torch."),
            "windows": rung.name,
            "versions": {"torch": torch.__version__, "numpy": np.__version__},
            "seconds": {"prepare": round(prepared - began, 3), "total": round(finished - began, 3)},
            "warnings": warnings,
        }
        steps = masks if options.keep_steps else []
        return Prediction(masks[-1], steps, doubt, volumes, warnings, provenance)

    def _draw(
        self,
        sampling: Sampling,
        image: torch.Tensor,
        grid: Grid,
        options: SegmentOptions,
        on_step: OnStep | None,
        shape: tuple[int, ...],
        box: tuple[slice, ...],
    ) -> tuple[list[np.ndarray], np.ndarray | None]:
        """The masks of the steps that were asked for, on the volume's own grid, and the last step's uncertainty."""
        card, size = self.model.card, image.shape[1:]
        reduce = regions_as([region.value for region in card.regions]) if card.regions else best_class
        values = np.array([0, *(label.value for label in card.labels)], dtype=np.uint8)
        maps: dict[tuple[int, int], NativeMap] = {}
        spread: NativeMap | None = None
        masks: list[np.ndarray] = []
        for piece in sampling.pieces(image):
            is_final = piece.samples == options.samples
            if not is_final and on_step is None:
                continue
            if not np.isfinite(float(piece.probability.sum())):  # each comparison with NaN would say background
                raise InputError(f"{self.model.path}: its answer holds no numbers (NaN); are its weights damaged?")
            key = (piece.step, piece.samples)
            if key not in maps:
                maps[key] = NativeMap(grid, size, piece.axis, reduce, torch.uint8)
            maps[key].add(piece.probability, piece.start)
            if options.uncertainty and is_final and piece.step == options.steps:
                spread = spread or NativeMap(grid, size, piece.axis, only_channel, torch.float32)
                found = uncertainty(piece.probability, card.temperature, card.diffusion.classes == "exclusive")
                spread.add(found[None], piece.start)
            if piece.last:
                native = maps.pop(key).result()
                mask = np.zeros(shape, dtype=np.uint8)
                mask[box] = native if card.regions else values[native]
                if on_step is not None:
                    on_step(piece.step, options.steps, mask)
                if is_final:
                    masks.append(mask)
        if spread is None:
            return masks, None
        doubt = np.zeros(shape, dtype=np.float32)
        doubt[box] = spread.result()
        return masks, doubt

    def _network(self, device: torch.device) -> nn.Module:
        """The model's network as it runs there, made once; another device's is let go of."""
        if device not in self._ready:
            self._ready.clear()
            self._ready[device] = ready(self.model.network, device, pick_precision("auto", device))
        return self._ready[device]

    def warm_up(self) -> None:
        """Run the network once on a small input, so that the first volume does not pay for its set-up."""
        card = self.model.card
        shape = tuple(2 * f for f in card.network.factors)
        try:
            network = self._network(self.device)
            image = torch.zeros(1, len(card.channels), *shape, device=self.device)
            mask = torch.zeros(1, mask_channels(card.diffusion, card.num_classes), *shape, device=self.device)
            with torch.inference_mode(), autocast(self.device, pick_precision("auto", self.device)):
                network(image, mask, torch.ones(1, device=self.device))
        except Exception as problem:
            if not is_out_of_memory(problem):  # the volume will find a way to run
                raise

    def _check(self, volume: Volume, options: SegmentOptions) -> tuple[slice, ...]:
        check_geometry(volume.affine, volume.name)
        channels = self.model.card.channels
        if len(volume.array) != len(channels):
            raise InputError(
                f"{volume.name}: has {len(volume.array)} channel(s); model {self.model.card.name} needs "
                f"{len(channels)} ({', '.join(channels)})."
            )
        shape = volume.array.shape[1:]
        if min(shape) < 1:
            raise InputError(f"{volume.name}: has no voxels.")
        roi = options.roi or tuple((0, n) for n in shape)
        if len(roi) != len(shape) or any(high > n for (_, high), n in zip(roi, shape, strict=True)):
            found = ", ".join(
                f"{axis} {low} to {high}" for axis, (low, high) in zip("ijk", reversed(roi), strict=False)
            )
            size = " x ".join(map(str, reversed(shape)))
            raise InputError(f"{volume.name}: the region {found} does not lie inside its {size} voxels (i, j, k).")
        box = tuple(slice(low, high) for low, high in roi)
        if self.model.card.dims == 3 and min(high - low for low, high in roi) < 2:
            raise InputError(f"{volume.name}: is a single slice; model {self.model.card.name} needs a 3D volume.")
        for n, channel in enumerate(volume.array):
            if channel[box].min() == channel[box].max():
                where = f" in channel {n}" if len(channels) > 1 else ""
                raise InputError(f"{volume.name}: holds one value only{where}; there is nothing to segment.")
        return box

    def _warnings(self, volume: Volume, box: tuple[slice, ...]) -> list[str]:
        """Sentences about an input that is unlike what the model was trained on."""
        found = [f"{volume.name}: has few values, all whole, like a label map; is it an image?"] * _few(volume, box)
        extent = sorted((s.stop - s.start) * mm for s, mm in zip(box, volume.spacing, strict=True))
        field = sorted(self.model.card.field_of_view)
        if self.model.card.is_far_smaller_than(extent):
            than, advice = "larger", "choose a region of interest around the structure."
        elif self.model.card.is_far_larger_than(extent):
            than, advice = "smaller", "is its spacing in mm, and the region large enough?"
        else:
            return found
        size = " x ".join(f"{x:.4g}" for x in extent[-len(field) :])
        wanted = " x ".join(f"{x:.4g}" for x in field)
        return [
            *found,
            f"{volume.name}: {size} mm is far {than} than the {wanted} mm that model {self.model.card.name} was "
            f"trained on; {advice}",
        ]


def _few(volume: Volume, box: tuple[slice, ...]) -> bool:
    """Whether a channel has no more than FEW values there, all whole, as far as a sample of its voxels tells."""
    thin = tuple(slice(s.start, s.stop, -(-(s.stop - s.start) // 64)) for s in box)
    values = [np.unique(channel[thin]) for channel in volume.array]
    return any(len(each) <= FEW and bool((each == np.round(each)).all()) for each in values)


def mirrored_views(flip: tuple[bool, ...]) -> list[tuple[int, ...]]:
    """The axes of a (C, *spatial) image to mirror, for one sample after the other: none, then what training has seen.

    Test-time mirroring as in nnU-Net, but as what tells the samples apart: noise alone hardly does.
    """
    axes = [axis for axis, is_flipped in enumerate(flip, start=1) if is_flipped]
    return [chosen for count in range(len(axes) + 1) for chosen in combinations(axes, count)]


def nothing_left(image: torch.Tensor, name: str) -> str:
    """A sentence where a channel became one value when it was normalised; InputError where all did."""
    gone = [n for n, channel in enumerate(image, start=1) if channel.min() == channel.max()]
    text = f"{name}: almost all of it has one value, and nothing is left when that is normalised"
    if len(gone) == len(image):
        raise InputError(f"{text}; crop it to what it shows.")
    return f"{text}, in channel {', '.join(map(str, gone))}." if gone else ""


def volumes_ml(mask: np.ndarray, volume: Volume, values: list[int]) -> dict[int, float]:
    """Label value -> volume in ml, from the grid's voxel size."""
    voxel = abs(float(np.linalg.det(volume.affine[:3, :3]))) / 1000.0
    # numpy counts in copies of eight bytes a voxel: slice by slice it is far faster, too
    counts = np.sum([np.bincount(plane.ravel(), minlength=256) for plane in mask], axis=0)
    found = {value: float(counts[value]) * voxel for value in values}
    # six digits behind the point, or of a microscope's tiny volumes the first six
    return {value: round(ml, 6) if ml >= 1.0 else float(f"{ml:.6g}") for value, ml in found.items()}


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
