"""From nodes to a job for the worker: voxels as files in a folder of their own, matrices, options. And masks back."""

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import slicer
import slicer.util
import vtk

from DiffSegLib import events
from DiffSegLib.errors import InputError
from DiffSegLib.jobs import TEMPORARY, Channel, SegmentJob, SegmentOptions
from DiffSegLib.models.card import Card
from DiffSegLib.scene import nodes
from DiffSegLib.scene.words import tr as _

Matrix = tuple[tuple[float, ...], ...]


def check_inputs(card: Card, volumeNode: Any, channels: Sequence[Any]) -> None:
    """Raise InputError with one sentence for volumes that the model cannot take."""
    for node in (volumeNode, *(node for node in channels if node is not None)):
        nodes.check_volume(node)
    wanted = card.channels[1:]
    if len(channels) > len(wanted):
        text = _("Model {model} takes {count} channel(s), {given} were given.")
        raise InputError(text.format(model=card.name, count=len(card.channels), given=len(channels) + 1))
    missing = wanted[len(channels) :] or [name for name, node in zip(wanted, channels, strict=True) if node is None]
    if missing:
        text = _("Model {model} needs another volume: choose one for {channel}.")
        raise InputError(text.format(model=card.name, channel=missing[0]))
    for node in channels:
        _matrix(node, volumeNode)


def write_job(
    number: str, model: Path, volumeNode: Any, channels: Sequence[Any], options: SegmentOptions
) -> tuple[SegmentJob, Path]:
    """The job and the folder that its files are in; raises InputError where they cannot be written.

    The job's world is the space of the first volume's node: transforms above it are left out, and those between it and
    its channels are taken into account.
    """
    folder = temporary_folder()
    try:
        paths = [folder / f"channel-{n}.npy" for n in range(1 + len(channels))]
        for path, node in zip(paths, (volumeNode, *channels), strict=True):
            np.save(path, nodes.volume_array(node))
    except OSError as problem:
        shutil.rmtree(folder, ignore_errors=True)
        raise _not_written(folder, problem) from None
    first, *others = zip(paths, (volumeNode, *channels), strict=True)
    job = SegmentJob(
        id=number,
        model=str(model),
        image=str(first[0]),
        ijk_to_lps=_matrix(volumeNode, volumeNode),
        output=str(folder),
        options=options,
        name=volumeNode.GetName(),
        channels=tuple(Channel(str(path), _matrix(node, volumeNode), node.GetName()) for path, node in others),
    )
    return job, folder


def read_mask(event: events.Event) -> np.ndarray:
    """The mask that a `step` event names. Where it is empty no memory is touched: of a head that is most."""
    stored = np.load(event["mask"], mmap_mode="r", allow_pickle=False)
    part, mask = slice(*event["filled"]), np.zeros(stored.shape, stored.dtype)
    mask[part] = stored[part]
    return mask


def _matrix(node: Any, first: Any) -> Matrix:
    """Ijk -> LPS mm of a volume, in the space of the first volume's node."""
    own, other = node.GetParentTransformNode(), first.GetParentTransformNode()
    between = vtk.vtkMatrix4x4()
    transforms = slicer.vtkMRMLTransformNode
    bent = [t for t in (own, other) if t is not None and not t.IsTransformToWorldLinear()]
    if own is not other and bent:
        text = _(
            "{name} and {first} are not under the same transform, and {transform} is not linear: harden it first "
            "(module Transforms)."
        )
        names = {"name": node.GetName(), "first": first.GetName(), "transform": bent[0].GetName()}
        raise InputError(text.format(**names))
    transforms.GetMatrixTransformBetweenNodes(own, other, between)
    flip = nodes.RAS_TO_LPS
    matrix = flip @ slicer.util.arrayFromVTKMatrix(between) @ flip @ nodes.ijk_to_lps(node)
    return tuple(tuple(float(x) for x in row) for row in matrix)


def temporary_folder() -> Path:
    """A new folder for what goes to the engine and comes back; raises InputError where none can be made."""
    application = getattr(slicer, "app", None)
    parent = getattr(application, "temporaryPath", None) or None  # Slicer's own, as the user has set it
    try:
        return Path(tempfile.mkdtemp(prefix=TEMPORARY, dir=parent))
    except OSError as problem:
        raise _not_written(Path(parent or tempfile.gettempdir()), problem) from None


def _not_written(folder: Path, problem: OSError) -> InputError:
    reason = problem.strerror or problem
    text = _(
        "The volume cannot be handed to the engine ({folder}: {reason}); free some space, or choose another temporary "
        "folder in the application's settings."
    )
    return InputError(text.format(folder=folder, reason=reason))
