"""From the fingerprint of the data to the settings that nobody has decided, each with its reason.

The rules for spacing and strides are those of nnU-Net (Isensee et al. 2021, doi:10.1038/s41592-020-01008-z).
"""

from collections.abc import Collection
from dataclasses import replace

import numpy as np

from DiffSegLib.config import Config, NetworkConfig, from_json
from DiffSegLib.config_rules import implied
from DiffSegLib.data.fingerprint import Fingerprint
from DiffSegLib.data.volume import ANISOTROPIC
from DiffSegLib.errors import InputError
from DiffSegLib.training.memory import training_memory

MEMORY = 8.0  # GiB that a training may take unless said otherwise
SMALLEST = 4  # voxels along an axis at the bottom of the network (nnU-Net: featuremap_min_edge_length)
LARGEST = 4096  # voxels along an axis of a patch: in other units than mm there could be more than can be counted
MOST_STRIDES = 4  # the attention at the bottom sees the whole patch, so fewer levels than nnU-Net's do
BATCH = {2: 16, 3: 4}  # the largest proposed
LEAST_BATCH = {2: 4, 3: 2}


def propose(
    fingerprint: Fingerprint, base: Config, open_keys: Collection[str], memory: float = MEMORY
) -> tuple[Config, dict[str, str]]:
    """The configuration with the keys in `open_keys` decided, and why, by key. Everything else stays as in `base`.

    memory: GiB that a training step in float32 may take. Raises InputError where the data have other dimensions than
    what was written, or where values do not fit together.
    """
    if not memory > 0:
        raise InputError(f"memory is {memory:g}; it must be a number of GiB above zero.")
    dims, reasons = fingerprint.dims, {}
    for key, (value, why) in implied(base).items():
        if key in open_keys:
            section, _, name = key.partition(".")
            base = replace(base, **{section: replace(getattr(base, section), **{name: value})})
            reasons[key] = why
    if fingerprint.dataset.regions and base.diffusion.classes != "overlapping":
        base = replace(base, diffusion=replace(base.diffusion, classes="overlapping"))
        reasons["diffusion.classes"] = "the data set has regions, which overlap"
    data, network, training, augment = base.data, base.network, base.training, base.augment
    if "data.patch" in open_keys and "network.strides" not in open_keys:
        dims = len(network.strides[0])
    elif "data.patch" not in open_keys:
        dims = len(data.patch)
    if dims != fingerprint.dims:
        raise InputError(
            f"{fingerprint.dataset.folder}: holds {fingerprint.dims}D images, but data.patch or network.strides are "
            f"for {dims}D."
        )
    if "data.spacing" in open_keys:
        spacing, why = target_spacing(fingerprint.spacings, fingerprint.shapes)
        data = replace(data, spacing=spacing)
        reasons["data.spacing"] = why
    if "data.normalisation" in open_keys:
        ct = all(fingerprint.is_ct)
        data = replace(data, normalisation="ct" if ct else "zscore")
        reasons["data.normalisation"] = "every channel is CT, in HU" if ct else "no CT: each volume by its own mean"
    if "augment.flip" in open_keys:
        augment = replace(augment, flip=(False,) * dims)
        reasons["augment.flip"] = "off: left and right, front and back are not alike in a body unless you say so"
    if data.spacing is not None and len(data.spacing) != dims:
        raise InputError(f"data.spacing has {len(data.spacing)} numbers; the images have {dims} axes.")
    mm = data.spacing or tuple(np.median(fingerprint.spacings, axis=0).tolist())
    shapes = np.round(fingerprint.shapes * fingerprint.spacings / np.array(mm)) if data.spacing else fingerprint.shapes
    shape = tuple(max(1, int(n)) for n in np.median(shapes, axis=0))
    sizes = (len(fingerprint.dataset.channels), fingerprint.dataset.num_classes, base.diffusion)
    batch = LEAST_BATCH[dims] if "training.batch" in open_keys else training.batch
    patch = tuple(min(n, LARGEST) for n in shape) if "data.patch" in open_keys else data.patch
    while True:
        network = fit_network(network, patch, mm, open_keys)
        factors = np.array(network.factors)
        if "data.patch" not in open_keys:
            break
        whole = tuple(int(max(-(-n // f) * f, SMALLEST)) for n, f in zip(patch, factors, strict=True))
        needed = training_memory(network, whole, batch, *sizes)
        shorter = shorten(patch, mm, factors)
        if needed <= memory or shorter is None:
            patch = whole
            break
        # far above the budget there is no need to count after each step: memory goes with the voxels
        enough = 1.3 * float(np.prod(whole)) * memory / needed
        while shorter is not None and np.prod(shorter) > enough:
            patch, shorter = shorter, shorten(shorter, mm, factors)
        patch = shorter or patch
    if "data.patch" in open_keys:
        reasons["data.patch"] = (
            f"from the median image of {' x '.join(map(str, shape))} voxels at this spacing, "
            f"as much as fits in {memory:g} GiB, rounded up to whole strides"
            if needed <= memory
            else f"as small as can be, and yet a step needs about {needed:.2g} GiB, not {memory:g}"
        )
    if "network.strides" in open_keys:
        reasons["network.strides"] = (
            f"halved while {SMALLEST} voxels remain; an axis twice as coarse as the finest waits for it"
            if network.name != "segresnet"
            else f"all axes halved while {SMALLEST} voxels remain: network.name segresnet can do nothing else"
        )
    if "network.channels" in open_keys:
        reasons["network.channels"] = "from the preset's first width, doubled at each level up to its last"
    if "training.batch" in open_keys:
        batch = LEAST_BATCH[dims]
        while batch < BATCH[dims] and training_memory(network, patch, batch + 1, *sizes) <= memory:
            batch += 1
        reasons["training.batch"] = f"as many as fit in {memory:g} GiB, from {LEAST_BATCH[dims]} to {BATCH[dims]}"
    full = replace(
        base, data=replace(data, patch=patch), network=network, training=replace(training, batch=batch), augment=augment
    )
    return from_json(full.to_json(), "the proposal"), reasons


def target_spacing(spacings: np.ndarray, shapes: np.ndarray) -> tuple[tuple[float, ...], str]:
    """The median spacing in mm; finer along an axis with few, thick slices, where the median would lose those that
    are thinner: there the 10th percentile, but not below the coarsest of the other axes.
    """
    target, size = np.median(spacings, axis=0), np.median(shapes, axis=0)
    worst = int(target.argmax())
    others = [axis for axis in range(len(target)) if axis != worst]
    why = "the median"
    if target[worst] > ANISOTROPIC * target[others].max() and size[worst] * ANISOTROPIC < size[others].min():
        target[worst] = max(float(np.percentile(spacings[:, worst], 10)), float(target[others].max()))
        why = f"the median; the 10th percentile along {'zyx'[-len(target) :][worst]}, whose slices are thick"
    return tuple(round(float(x), 4) for x in target), why


def fit_network(
    network: NetworkConfig, patch: tuple[int, ...], spacing: tuple[float, ...], open_keys: Collection[str]
) -> NetworkConfig:
    """The network with levels for a patch: strides by `plan_strides`, a width for each level."""
    strides_open, channels_open = "network.strides" in open_keys, "network.channels" in open_keys
    if strides_open:
        levels = MOST_STRIDES if channels_open else len(network.channels) - 1
        strides = plan_strides(patch, spacing, levels, alike=network.name == "segresnet")
        # as many levels as it has widths, or as MONAI's network needs: the last ones keep the size
        least = levels if not channels_open else 2 if network.name == "dynunet" else 1
        strides += ((1,) * len(patch),) * (least - len(strides))
        network = replace(network, strides=strides)
    if channels_open:
        first, last = network.channels[0], max(network.channels)
        last = 4096 if network.name == "segresnet" else last  # which doubles at every level
        widths = tuple(min(first * 2**level, last) for level in range(len(network.strides) + 1))
        network = replace(network, channels=widths)
    return network


def plan_strides(
    patch: tuple[int, ...], spacing: tuple[float, ...], levels: int, alike: bool = False
) -> tuple[tuple[int, ...], ...]:
    """At most `levels` strides of 1 or 2 per axis, at least one.

    An axis is halved while it keeps SMALLEST voxels, and not before the finer ones have come within a factor of 2 of
    its voxel size in mm. alike: all axes are halved together instead, and once at least.
    """
    size, mm = np.array(patch, dtype=float), np.array(spacing, dtype=float)
    strides: list[tuple[int, ...]] = []
    while len(strides) < levels:
        possible = size >= 2 * SMALLEST
        if not (possible.all() if alike else possible.any()):
            break
        halved = possible if alike else possible & (mm < 2.0 * mm[possible].min())
        strides.append(tuple(2 if half else 1 for half in halved))
        size, mm = np.where(halved, np.ceil(size / 2), size), np.where(halved, 2 * mm, mm)
    return tuple(strides) or ((2 if alike else 1,) * len(patch),)


def shorten(patch: tuple[int, ...], spacing: tuple[float, ...], factors: np.ndarray) -> tuple[int, ...] | None:
    """The patch with its longest axis in mm one step of the network shorter; None where nothing can be taken away."""
    extent = np.where(np.array(patch) > np.maximum(factors, SMALLEST), np.array(patch) * np.array(spacing), 0.0)
    axis = int(extent.argmax())
    if extent[axis] == 0:
        return None
    step = int(factors[axis])
    shorter = max((patch[axis] - 1) // step * step, SMALLEST)
    return (*patch[:axis], shorter, *patch[axis + 1 :])
