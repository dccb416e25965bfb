"""The segmentation node that a run writes its masks into, and the way back if the run comes to nothing."""

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import slicer
import slicer.util

from DiffSegLib.errors import InputError
from DiffSegLib.labels import Label
from DiffSegLib.scene import edits, nodes
from DiffSegLib.scene.surface import SURFACE
from DiffSegLib.scene.words import tr as _

SURFACE_VOXELS = 1_000_000  # up to here a closed surface follows every step; from there on it is made at the end


class Answer:
    """Shows the masks of one run, each as soon as it is there.

    The node is that of an earlier run on the same volume with the same key (`name` unless given), or `target`, or else
    a new one that is made with the first mask and called `name`. One that the user edited since is left to the user;
    `left` says so in sentences.
    """

    def __init__(self, volumeNode: Any, name: str, labels: Sequence[Label], target: Any = None, key: str = "") -> None:
        self.node: Any = None
        self._volume, self._name, self._labels, self._target = volumeNode, name, labels, target
        self._key = key or name
        self._grid = nodes.grid_of(volumeNode)
        self._before: Before | None = None
        self._take_back: Callable[[], None] = lambda: None
        self._surface = False
        self.left: list[str] = []

    def show(self, mask: np.ndarray) -> None:
        """Write a (K, J, I) mask of label values; raises InputError where the volume or the node is gone."""
        if self.node is None:
            self._begin(mask.shape)
        self.check()
        follows = self._surface and mask.size <= SURFACE_VOXELS
        nodes.write_labels(self.node, mask, self._volume, self._labels, surface=follows)

    def finish(self, mask: np.ndarray, provenance: dict[str, Any], surface: bool | None) -> None:
        """Write the answer itself and what made it, with a closed surface if wanted or there was one.

        surface: None leaves an earlier answer without where 3D was switched off, and gives any other one.
        """
        if self.node is None:
            self._begin(mask.shape)
        self.check()
        if surface is None:
            surface = self._before is None or self._target is not None
        with _quiet_views():
            nodes.write_labels(self.node, mask, self._volume, self._labels, surface=surface or self._surface)
        nodes.set_provenance(self.node, provenance)

    def leave(self) -> None:
        """Leave the node to the user, who edited it while the run went on; the next mask begins a new one."""
        self._leave(self.node)
        self.node = self._target = self._before = None
        self._take_back = lambda: None

    def undo(self) -> None:
        """Leave the scene as it was before the first mask."""
        self._take_back()
        node, self.node = self.node, None
        if node is None or node.GetScene() is None:
            return
        if self._before is None:
            nodes.remove(node)
        else:
            self._before.restore()

    def _begin(self, shape: tuple[int, ...]) -> None:
        self.check()
        node = self._target or nodes.find_segmentation(self._volume, self._key)
        if node is not None and node is not self._target and edits.holds_work(node, self._volume, self._labels):
            self._leave(node)
            node = None
        if node is not None:
            self._before = Before(node, shape, self._volume, self._labels)
            self._surface = node.GetSegmentation().ContainsRepresentation(SURFACE)
        if self._target is None:
            self.node = nodes.make_segmentation(self._volume, self._name, self._key, self._labels)
        else:
            self.node = node
            nodes.prepare_segmentation(node, self._volume, self._labels)

    def _leave(self, node: Any) -> None:
        self._take_back = edits.release(node, hide=True)
        self.left.append(_("The segmentation that you edited is kept as {name}, hidden.").format(name=node.GetName()))

    def check(self) -> None:
        """Raise InputError where the volume or the answer's node is no longer there as it was at the beginning."""
        if self._volume.GetScene() is None:
            raise InputError(_("The volume was removed from the scene meanwhile."))
        if nodes.grid_of(self._volume) != self._grid:
            text = _("{name} got another grid meanwhile; segment it again.")
            raise InputError(text.format(name=self._volume.GetName()))
        for node in (self.node, self._target):
            if node is not None and node.GetScene() is None:
                raise InputError(_("The segmentation was removed from the scene meanwhile."))


class Before:
    """What a segmentation node was before a run wrote into it.

    Where the run changes nothing but the voxels of one shared label map, these are kept (3 ms at 256^3) and written
    back in place; else a copy of the whole node is, with its surfaces.
    """

    def __init__(self, node: Any, shape: tuple[int, ...], volumeNode: Any, labels: Sequence[Label]) -> None:
        self.node, self._volume, self._labels = node, volumeNode, labels
        self._attributes = {name: node.GetAttribute(name) for name in node.GetAttributeNames()}
        self._transform, self._role = node.GetTransformNodeID(), node.GetReferenceImageGeometryReferenceRole()
        self._reference = node.GetNodeReferenceID(self._role)
        self._surface = node.GetSegmentation().ContainsRepresentation(SURFACE)
        found = nodes.layer(node, shape, labels) if nodes.keeps_segments(node, labels) else None
        found = found if found is not None and nodes.lies_on(found[0], volumeNode) else None
        self._mask = found[1].copy() if found is not None else None
        self._copies = [_copy(part) for part in (node, node.GetDisplayNode())] if found is None else []

    def restore(self) -> None:
        """Make it so again."""
        if self._mask is not None:
            nodes.write_labels(self.node, self._mask, self._volume, self._labels, surface=self._surface)
        for part, copy in zip((self.node, self.node.GetDisplayNode()), self._copies, strict=False):
            if part is not None and copy is not None:
                part.CopyContent(copy)
        for name in set(self.node.GetAttributeNames()) - set(self._attributes):
            self.node.RemoveAttribute(name)
        for name, value in self._attributes.items():
            self.node.SetAttribute(name, value)
        self.node.SetNodeReferenceID(self._role, self._reference)
        if self.node.GetTransformNodeID() != self._transform:
            self.node.SetAndObserveTransformNodeID(self._transform)


def _copy(node: Any) -> Any:
    if node is None:
        return None
    copy = node.CreateNodeInstance()
    copy.UnRegister(None)  # Python holds it now; without this nothing would ever free it
    copy.CopyContent(node)
    return copy


def _quiet_views() -> Any:
    """No redraw between two updates that belong together (inside Slicer)."""
    blocker = getattr(slicer.util, "RenderBlocker", None)
    return blocker() if blocker is not None and getattr(slicer, "app", None) is not None else contextlib.nullcontext()
