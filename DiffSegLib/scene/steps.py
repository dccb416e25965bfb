"""The masks of a run's steps in the scene: one at a time in the answer's node, or all of them in nodes of their own."""

from typing import TYPE_CHECKING, Any

import slicer
import slicer.util

from DiffSegLib.errors import InputError
from DiffSegLib.scene import edits, hierarchy, nodes
from DiffSegLib.scene.surface import SURFACE, make_surface
from DiffSegLib.scene.words import tr as _

if TYPE_CHECKING:
    from DiffSegLib.scene.logic import Segmentation

STEP, KEY = edits.STEP, edits.KEY
SURFACE_DUE = nodes.ATTRIBUTE + "SurfaceDue"
LIVE_VOXELS = 10_000_000  # from here on a surface may take a second: none while the slider moves


class Edited(InputError):
    """The answer was edited by the user and must not be written over."""


def show(run: "Segmentation", step: int, live: bool = False) -> None:
    """Write the mask of a step (from 1) into the answer's node; the last one is the answer itself.

    Everything but the voxels stays as the user has it, and 3D follows where it is shown. With `live`, while the slider
    moves, a large volume's 3D is left out until the next call without. Raises Edited where the user edited the node.
    """
    node = _answer(run, withVolume=False)
    if not 1 <= step <= len(run.masks):
        text = _("step is {step}; this run has steps 1 to {count}.")
        raise InputError(text.format(step=step, count=len(run.masks)))
    held = held_step(run)
    if held is None:
        text = _("{name} was edited; the steps are not shown in it, so that the edit is not lost.")
        raise Edited(text.format(name=node.GetName()))
    mask, segmentation = run.masks[step - 1], node.GetSegmentation()
    isDue = node.GetAttribute(SURFACE_DUE) is not None
    isSolid = isDue or segmentation.ContainsRepresentation(SURFACE)
    waits = isSolid and live and mask.size > LIVE_VOXELS
    if held != step:
        nodes.write_labels(node, mask, run.volume, run.labels, surface=isSolid and not waits)
        if waits:
            node.SetAttribute(SURFACE_DUE, "1")
    elif isDue and not waits:
        make_surface(segmentation)
    if isDue and not waits:
        node.RemoveAttribute(SURFACE_DUE)
    if node.GetAttribute(STEP) != str(step):
        node.SetAttribute(STEP, str(step))
        if run.finished:  # a file that is saved now says what it holds
            nodes.set_provenance(node, run.provenance if step == len(run.masks) else {**run.provenance, "step": step})


def held_step(run: "Segmentation") -> int | None:
    """The step whose mask the answer's node holds, by its voxels; None if it is none's: then the user edited it."""
    noted = int(run.node.GetAttribute(STEP) or 0)
    order = sorted(range(1, len(run.masks) + 1), key=lambda step: step != noted)  # mostly the first is it
    return edits.which(run.node, run.volume, run.labels, {step: run.masks[step - 1] for step in order})


def finish(run: "Segmentation") -> None:
    """Note in the answer's node what was written; the run has ended."""
    node = _answer(run)
    node.SetAttribute(STEP, str(len(run.masks)))
    edits.remember(node, run.labels, run.checksums)


def is_edited(run: "Segmentation") -> bool:
    """Whether the user edited the answer's node since the run wrote into it."""
    return run.node is not None and run.node.GetScene() is not None and bool(run.masks) and held_step(run) is None


def keep_edit(run: "Segmentation") -> Any:
    """Leave the edited node to the user, hidden and renamed, and go on in a new one; returns the former.

    The edited node stays selected wherever it is, in the Segment Editor for instance. While the run goes on it keeps
    the edit by itself, see answer.Answer.leave.
    """
    edited, name, key = _answer(run), _answer(run).GetName(), key_of(run)
    if not run.finished:
        raise InputError(_("The run still goes on; your edit is kept by itself when the next step is there."))
    edits.release(edited, hide=True)
    run.node = nodes.make_segmentation(run.volume, name, key, run.labels)
    _look_alike(run.node, edited)
    nodes.write_labels(run.node, run.masks[-1], run.volume, run.labels)
    nodes.set_provenance(run.node, run.provenance)
    finish(run)
    if edited.GetSegmentation().ContainsRepresentation(SURFACE) or edited.GetAttribute(SURFACE_DUE):
        make_surface(run.node.GetSegmentation())
    if run.node.GetDisplayNode() is not None:
        run.node.GetDisplayNode().SetVisibility(True)
    return edited


def keep(run: "Segmentation") -> list[Any]:
    """A segmentation node for the mask of each step, hidden, in a folder beside the volume; returns them in order.

    Called again, the same nodes are updated; one that the user edited is left alone and a new one made.
    """
    answer, key = _answer(run), key_of(run)
    base, made = answer.GetName(), []
    for number, mask in enumerate(run.masks, start=1):
        found = nodes.find_segmentation(run.volume, f"{key}|{number}")
        if found is not None and edits.holds_work(found, run.volume, run.labels):
            edits.release(found)
            found = None
        node = nodes.make_segmentation(run.volume, f"{base} step {number}", f"{key}|{number}", run.labels)
        _fill(node, run, number)
        edits.remember(node, run.labels, [edits.checksum(mask)])
        if found is None:
            _look_alike(node, answer)
            _hide(node)
            hierarchy.place_in_folder(node, run.volume, f"{base} steps", f"{run.volume.GetID()}|{key}")
        made.append(node)
    _remove_steps_from(len(made) + 1, run)
    run.steps = made
    return made


def keep_as_sequence(run: "Segmentation") -> Any:
    """The masks of the steps as the items of a sequence node with a browser, for Slicer's sequence tools.

    The node that the browser drives is hidden at first. Called again, the same nodes are updated.
    """
    base, key = _answer(run).GetName(), key_of(run)
    sequence = _find_sequence(run.volume, f"{key}|sequence", f"{base} steps")
    work = nodes.make_segmentation(run.volume, f"{base} steps", f"{key}|work", run.labels)
    try:
        work.RemoveAttribute(KEY)  # the items' attributes come back in the browser's node, which is not ours to find
        _look_alike(work, run.node)
        with slicer.util.NodeModify(sequence):  # or a browser follows every single change
            sequence.RemoveAllDataNodes()  # quicker than updating the items
            for number in range(1, len(run.masks) + 1):
                _fill(work, run, number)
                sequence.SetDataNodeAtValue(work, str(number))
    finally:
        nodes.remove(work)
    edits.remember(sequence, run.labels, run.checksums)
    logic = slicer.modules.sequences.logic()
    browser = logic.GetFirstBrowserNodeForSequenceNode(sequence)
    former = browser.GetProxyNode(sequence) if browser is not None else None
    if browser is None:
        name = slicer.mrmlScene.GenerateUniqueName(f"{base} steps browser")
        browser = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode", name)
        browser.AddSynchronizedSequenceNode(sequence)
    if browser.GetSelectedItemNumber() == 0:
        logic.UpdateProxyNodesFromSequences(browser)
    browser.SetSelectedItemNumber(0)  # it is -1 after a sequence was added
    proxy = browser.GetProxyNode(sequence)
    # the copy of an item has no reference to a volume of this scene
    proxy.SetNodeReferenceID(proxy.GetReferenceImageGeometryReferenceRole(), run.volume.GetID())
    if proxy is not former:
        _hide(proxy)
        proxy.RemoveAttribute(hierarchy.PLACED)
        hierarchy.place_beside(proxy, run.volume)
    return sequence


def driven_by(sequence: Any) -> Any:
    """The segmentation node that shows the items of a sequence, one at a time."""
    return slicer.modules.sequences.logic().GetFirstBrowserNodeForSequenceNode(sequence).GetProxyNode(sequence)


def tell_of_earlier(run: "Segmentation") -> list[str]:
    """Sentences about the kept steps of an answer that this run has replaced, as far as they are others than its own.

    They are left as they are: the user may have kept them to compare.
    """
    key, told = key_of(run), []
    kept = [nodes.find_segmentation(run.volume, f"{key}|{n + 1}") for n in range(len(run.checksums) + 1)]
    now = [node.GetAttribute(edits.WRITTEN) for node in kept if node is not None]
    if now and now != [edits.note_of(run.labels, [checksum]) for checksum in run.checksums]:
        text = _("{name} and the steps beside it are of the answer before; keep the steps again to replace them.")
        told.append(text.format(name=next(node.GetName() for node in kept if node is not None)))
    sequence = find_result("vtkMRMLSequenceNode", run.volume, f"{key}|sequence")
    noted = sequence.GetAttribute(edits.WRITTEN) if sequence is not None else None
    if noted not in (None, edits.note_of(run.labels, run.checksums)):
        text = _("The sequence {name} is of the answer before; make it again to replace it.")
        told.append(text.format(name=sequence.GetName()))
    return told


def is_kept(node: Any) -> bool:
    """Whether a segmentation node is the mask of one step; the answer's holds one, too, but its key is no step's.

    Without a key it is a sequence's node, or an answer in a node that the caller gave: that has a note of its masks.
    """
    key = node.GetAttribute(KEY)
    isStep = "|" in key if key else node.GetAttribute(edits.WRITTEN) is None
    return node.GetAttribute(STEP) is not None and isStep


def key_of(run: "Segmentation") -> str:
    """What tells the results of a run's answer from others on the same volume."""
    return run.node.GetAttribute(KEY) or run.node.GetID()


def mark_result(node: Any, volumeNode: Any, key: str) -> None:
    """Note in a node that it is the result for `key` on this volume, so that it is found and updated later."""
    node.SetAttribute(KEY, key)
    node.SetNodeReferenceID(nodes.VOLUME_ROLE, volumeNode.GetID())


def find_result(kind: str, volumeNode: Any, key: str) -> Any:
    """The node of this class that was marked as the result for `key` on this volume, or None."""
    for node in slicer.util.getNodesByClass(kind):
        if node.GetAttribute(KEY) == key and node.GetNodeReference(nodes.VOLUME_ROLE) is volumeNode:
            return node
    return None


def _answer(run: "Segmentation", withVolume: bool = True) -> Any:
    """The answer's node; raises InputError for what is missing."""
    if run.node is None or not run.masks:
        raise InputError(_("This run has no result yet."))
    if run.node.GetScene() is None:
        raise InputError(_("The segmentation of this run was removed from the scene; segment the volume again."))
    if withVolume and run.volume.GetScene() is None:
        raise InputError(_("The volume of this run was removed from the scene."))
    return run.node


def _fill(node: Any, run: "Segmentation", number: int) -> None:
    """Mask, provenance and, where the answer is shown in 3D, the surface of a step."""
    mask = run.masks[number - 1]
    nodes.write_labels(node, mask, run.volume, run.labels)
    nodes.set_provenance(node, {**run.provenance, "step": number})
    node.SetAttribute(STEP, str(number))
    if mask.size <= LIVE_VOXELS and run.node.GetSegmentation().ContainsRepresentation(SURFACE):
        make_surface(node.GetSegmentation())


def _look_alike(node: Any, other: Any) -> None:
    """Give a new node the names, colours, terminology and display that the user has in another one."""
    for identifier in node.GetSegmentation().GetSegmentIDs():
        own, model = (each.GetSegmentation().GetSegment(identifier) for each in (node, other))
        if model is not None:
            own.SetName(model.GetName())
            own.SetColor(model.GetColor())
            own.SetTerminology(model.GetTerminology())
    if node.GetDisplayNode() is not None and other.GetDisplayNode() is not None:
        node.GetDisplayNode().CopyContent(other.GetDisplayNode())


def _hide(node: Any) -> None:
    if node.GetDisplayNode() is not None:
        node.GetDisplayNode().SetVisibility(False)


def _remove_steps_from(number: int, run: "Segmentation") -> None:
    """Nodes of an earlier run that had more steps."""
    while (node := nodes.find_segmentation(run.volume, f"{key_of(run)}|{number}")) is not None:
        if edits.holds_work(node, run.volume, ()):  # no segment is kept
            edits.release(node)
        else:
            nodes.remove(node)
        number += 1


def _find_sequence(volumeNode: Any, key: str, name: str) -> Any:
    node = find_result("vtkMRMLSequenceNode", volumeNode, key)
    if node is not None:
        return node
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceNode", slicer.mrmlScene.GenerateUniqueName(name))
    node.SetIndexName("step")
    node.SetIndexUnit("")
    mark_result(node, volumeNode, key)
    return node
