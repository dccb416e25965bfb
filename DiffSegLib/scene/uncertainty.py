"""How undecided the samples of a run are, as a scalar volume that can be laid over the slice views."""

import zlib
from typing import TYPE_CHECKING, Any

import numpy as np
import slicer
import slicer.util
import vtk

from DiffSegLib.scene import edits, hierarchy, nodes, steps
from DiffSegLib.scene.dataset import drawn_on
from DiffSegLib.scene.words import tr as _

if TYPE_CHECKING:
    from DiffSegLib.scene.logic import Segmentation

NAMED = nodes.ATTRIBUTE + "Named"  # how it was called when it was made
BEFORE = nodes.ATTRIBUTE + "Foreground"  # what a slice view's foreground was
# dark to bright with even steps for the eye; Slicer has the first, slicer-core only the second
COLORS = ("vtkMRMLColorTableNodeFileInferno.txt", "vtkMRMLPETProceduralColorNodePET-Heat", "vtkMRMLColorTableNodeGrey")
CERTAIN = 0.05  # below it the overlay is transparent
OPACITY = 0.6


def show(run: "Segmentation") -> Any:
    """The scalar volume node of a run's uncertainty (K, J, I), 0 certain to 1 undecided, on the volume's grid.

    The node of an earlier run on the same volume and answer is updated. Where the run has none, None is returned and
    that node goes, since it would tell of another answer than the one beside it. One whose voxels the user changed, or
    that was to go and has a name of the user's, or gives a segmentation its grid, is left to the user; the run's
    warnings tell what became of it.
    """
    node = find(run)
    if node is not None and (run.uncertainty is None or _is_edited(node)):
        _part_with(node, run)
        node = None
    if run.uncertainty is None:
        return None
    isNew = node is None
    if isNew:
        name = slicer.mrmlScene.GenerateUniqueName(f"{run.node.GetName()} uncertainty")
        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
        steps.mark_result(node, run.volume, _key(run))
        node.SetAttribute(NAMED, node.GetName())
    slicer.util.updateVolumeFromArray(node, np.ascontiguousarray(run.uncertainty, dtype=np.float32))
    matrix = vtk.vtkMatrix4x4()
    run.volume.GetIJKToRASMatrix(matrix)
    node.SetIJKToRASMatrix(matrix)
    if node.GetTransformNodeID() != run.volume.GetTransformNodeID():
        node.SetAndObserveTransformNodeID(run.volume.GetTransformNodeID())
    if isNew:  # later on it stays as the user has it
        _style(node)
    node.SetAttribute(edits.WRITTEN, _checksum(node))
    nodes.set_provenance(node, run.provenance)
    hierarchy.place_beside(node, run.volume)
    return node


def find(run: "Segmentation") -> Any:
    """The uncertainty's node of a run's answer, or None."""
    if run.node is None or run.node.GetScene() is None:
        return None
    return steps.find_result("vtkMRMLScalarVolumeNode", run.volume, _key(run))


def read(run: "Segmentation") -> tuple[Any, np.ndarray | None]:
    """The uncertainty's node of an answer that a scene brought, and its values; neither where it was changed."""
    node = find(run)
    if node is None or node.GetAttribute(edits.WRITTEN) != _checksum(node):
        return None, None
    return node, nodes.volume_array(node).copy()


def overlay(node: Any) -> None:
    """Lay `node` over every slice view, half transparent; None gives back the foreground that was there before.

    A view whose foreground the user has changed meanwhile is left as it is.
    """
    for view in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode"):
        ours, opacity, former = (view.GetAttribute(BEFORE) or "||").split("|")
        now = view.GetForegroundVolumeID() or ""
        if node is not None:
            if now != node.GetID():
                if not ours or now not in ("", ours):
                    opacity, former = str(view.GetForegroundOpacity()), now
                view.SetForegroundVolumeID(node.GetID())
                view.SetForegroundOpacity(OPACITY)
                view.SetAttribute(BEFORE, f"{node.GetID()}|{opacity}|{former}")
        elif ours:
            if now in ("", ours):  # none: the overlay's node was removed
                view.SetForegroundVolumeID(former if slicer.mrmlScene.GetNodeByID(former) is not None else None)
                view.SetForegroundOpacity(float(opacity))
            view.RemoveAttribute(BEFORE)


def _key(run: "Segmentation") -> str:
    return f"{steps.key_of(run)}|uncertainty"


def _is_edited(node: Any) -> bool:
    """Whether its voxels are not those that were written; without a note of them it is not known to be so."""
    return node.GetAttribute(edits.WRITTEN) not in (None, _checksum(node))


def _part_with(node: Any, run: "Segmentation") -> None:
    """Remove the uncertainty of an earlier answer, or leave it to the user who made it their own."""
    segmentations = slicer.util.getNodesByClass("vtkMRMLSegmentationNode")
    if node.GetName() != node.GetAttribute(NAMED) or any(drawn_on(each) is node for each in segmentations):
        node.RemoveAttribute(edits.KEY)
    elif _is_edited(node):
        edits.release(node)
    else:
        run.warnings.append(_("{name}, of the answer before, was removed.").format(name=node.GetName()))
        nodes.remove(node)
        return
    run.warnings.append(_("{name}, of the answer before, is kept.").format(name=node.GetName()))


def _checksum(node: Any) -> str:
    if node.GetImageData() is None:
        return ""
    return f"{zlib.crc32(np.ascontiguousarray(nodes.volume_array(node)).data):08x}"


def _style(node: Any) -> None:
    """A fixed window of 0 to 1, so that two cases can be compared, and nothing drawn where the samples agree."""
    node.CreateDefaultDisplayNodes()
    display = node.GetDisplayNode()
    display.AutoWindowLevelOff()
    display.SetWindowLevelMinMax(0.0, 1.0)
    display.AutoThresholdOff()
    display.SetThreshold(CERTAIN, 2.0)  # above 1: rounding may not cut the most undecided voxels out
    display.ApplyThresholdOn()
    display.InterpolateOn()
    display.SetAndObserveColorNodeID(next(name for name in COLORS if slicer.mrmlScene.GetNodeByID(name) is not None))
