"""The masks of a run's steps in the scene: one at a time in the answer's node, or all of them in nodes of their own."""

from typing import TYPE_CHECKING, Any

from DiffSegLib.errors import InputError
from DiffSegLib.scene import nodes

if TYPE_CHECKING:
    from DiffSegLib.scene.logic import Segmentation


def show(run: "Segmentation", step: int) -> None:
    """Write the mask of a step (from 1) into the answer's node, in place; the last one is the answer itself."""
    if not 1 <= step <= len(run.masks):
        raise InputError(f"step is {step}; this run has steps 1 to {len(run.masks)}.")
    if run.node is not None and run.node.GetScene() is not None:
        nodes.write_labels(run.node, run.masks[step - 1], run.volume, run.labels)


def keep(run: "Segmentation") -> list[Any]:
    """A segmentation node for the mask of each step, hidden; called again, the same nodes are updated."""
    base, key = run.node.GetName(), run.node.GetAttribute(nodes.ATTRIBUTE + "Key") or run.node.GetID()
    run.steps = []
    for number, mask in enumerate(run.masks, start=1):
        node = nodes.make_segmentation(run.volume, f"{base} step {number}", f"{key}|{number}", run.labels)
        nodes.write_labels(node, mask, run.volume, run.labels)
        nodes.set_provenance(node, {**run.provenance, "step": number})
        node.SetAttribute(nodes.ATTRIBUTE + "Step", str(number))
        if node.GetDisplayNode() is not None:
            node.GetDisplayNode().SetVisibility(False)
        run.steps.append(node)
    return run.steps
