"""Segmenting nodes: what the window's button, the console and a batch script all call."""

import itertools
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import slicer

from DiffSegLib import events
from DiffSegLib.errors import Cancelled, DiffSegError, EnvironmentProblem, InputError
from DiffSegLib.jobs import SegmentJob, SegmentOptions
from DiffSegLib.labels import Label
from DiffSegLib.models.shipped import find, read_card
from DiffSegLib.scene import nodes
from DiffSegLib.scene.process import WorkerClient, shared_client

Box = tuple[tuple[int, int], ...]
OnFinished = Callable[["Segmentation"], None]
_numbers = itertools.count(1)


@dataclass
class Segmentation:
    """A run and its results. masks[n] is the one of step n + 1, (K, J, I) uint8 label values on the volume's grid.

    `node` is the answer's segmentation node, `steps` those of the steps (with keepSteps). `uncertainty` is (K, J, I)
    float32, 0 to 1, where it was asked for. `error` tells of a failure.
    """

    number: str
    volume: Any
    node: Any = None
    steps: list[Any] = field(default_factory=list)
    masks: list[np.ndarray] = field(default_factory=list)
    labels: tuple[Label, ...] = ()
    mask: np.ndarray | None = None
    uncertainty: np.ndarray | None = None
    volumesMl: dict[str, float] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    provenance: dict[str, Any] = field(default_factory=dict)
    error: DiffSegError | None = None
    finished: bool = False


class SegmentLogic:
    """Segments volume nodes through the worker; usable in Slicer and on slicer-core.

    result = SegmentLogic().segment(volumeNode, model="hippocampus")
    result.node, result.steps, result.volumesMl
    """

    def __init__(self, client: WorkerClient | None = None) -> None:
        self._client = client

    @property
    def client(self) -> WorkerClient:
        """The worker's client, shared by all logics unless one was given."""
        return self._client or shared_client()

    def segment(
        self,
        volumeNode: Any,
        model: str = "hippocampus",
        steps: int = 5,
        sampler: str = "ddim",
        samples: int = 1,
        seed: int = 0,
        device: str = "auto",
        roi: Box | None = None,
        uncertainty: bool = False,
        otherChannels: Sequence[Any] = (),
        keepSteps: bool = True,
        surface: bool = True,
        segmentation: Any = None,
        name: str | None = None,
        onEvent: events.Listener = events.silent,
        onFinished: OnFinished | None = None,
        wait: bool = True,
    ) -> Segmentation:
        """Segment a scalar volume node into a segmentation node, and each step into one of its own.

        The nodes are named `name` (by default "<volume> DiffSeg"); run again, the same nodes are updated.
        `segmentation` takes the answer instead. roi: ((k0, k1), (j0, j1), (i0, i1)) voxels, end exclusive.
        `otherChannels` are the further volumes of a model with several channels, on the first one's grid. With
        `surface` the answer gets its closed surface. With `wait` the call returns when all is done and raises
        DiffSegError when it fails; without, it returns at once, events arrive through `onEvent`, and `onFinished` gets
        the result, whose `error` tells of a failure.
        """
        flat = len(read_card(find(model)).data.patch) == 2
        for node in (volumeNode, *otherChannels):
            nodes.check_volume(node, flat)
        array = nodes.channel_array((volumeNode, *otherChannels))
        options = SegmentOptions(steps, sampler, samples, seed, device, roi, True, uncertainty)
        number = f"segment-{next(_numbers)}"
        folder = Path(tempfile.mkdtemp(prefix="DiffSeg-"))
        result = Segmentation(number, volumeNode)
        base = name or f"{volumeNode.GetName()} DiffSeg"

        def listen(event: events.Event) -> None:
            try:
                self._take(event, result, base, segmentation, keepSteps, surface)
            except Exception as problem:  # a slot must not raise into Slicer's event loop
                result.error = DiffSegError(f"The result could not be shown: {problem}")
                result.finished = True
            onEvent(event)
            if event["event"] in ("result", "error"):
                result.finished = True
                shutil.rmtree(folder, ignore_errors=True)
                if onFinished is not None:
                    onFinished(result)

        try:
            image = folder / "image.npy"
            np.save(image, array)
            matrix = tuple(tuple(float(x) for x in row) for row in nodes.ijk_to_lps(volumeNode))
            job = SegmentJob(number, model, str(image), matrix, str(folder), options, volumeNode.GetName())
            self.client.submit(job, listen)
        except OSError as problem:
            shutil.rmtree(folder, ignore_errors=True)
            reason = problem.strerror or problem
            raise InputError(f"The volume cannot be handed to the engine ({folder}: {reason}).") from None
        if wait:
            self.client.wait(number)
            if result.error is not None:
                raise result.error
        return result

    def cancel(self, result: Any) -> None:
        """Ask a run (Segmentation, Evaluation) to stop; its `onFinished` hears of it within about a second."""
        self.client.cancel(result.number)

    def showStep(self, result: Segmentation, step: int) -> None:
        """Write the mask of a step (from 1) into the answer's node, in place; the last one is the answer itself."""
        if not 1 <= step <= len(result.masks):
            raise InputError(f"step is {step}; this run has steps 1 to {len(result.masks)}.")
        if result.node is not None and result.node.GetScene() is not None:
            nodes.write_labels(result.node, result.masks[step - 1], result.volume, result.labels)

    def _take(
        self, event: events.Event, result: Segmentation, base: str, target: Any, keepSteps: bool, surface: bool
    ) -> None:
        """Bring one event of a run into the scene."""
        if event["event"] == "step":
            result.masks.append(np.load(event["mask"], allow_pickle=False))
        elif event["event"] == "result":
            result.labels = tuple(Label.from_json(item, "the model's labels") for item in event["labels"])
            result.mask = np.load(event["mask"], allow_pickle=False)
            if "uncertainty" in event:
                result.uncertainty = np.load(event["uncertainty"], allow_pickle=False)
            result.warnings, result.provenance = event["warnings"], event["provenance"]
            names = {str(label.value): label.name for label in result.labels}
            result.volumesMl = {names[value]: ml for value, ml in event["volumes_ml"].items()}
            self._show(result, base, target, keepSteps, surface)
        elif event["event"] == "error":
            kinds = {3: EnvironmentProblem, 4: Cancelled}
            result.error = kinds.get(event["exit_code"], DiffSegError)(event["message"])

    def _show(self, result: Segmentation, base: str, target: Any, keepSteps: bool, surface: bool) -> None:
        """Write answer and steps into their nodes."""
        volume, labels = result.volume, result.labels
        if volume.GetScene() is None:
            raise InputError("the volume was removed from the scene meanwhile.")
        key = base
        if target is None:
            result.node = nodes.make_segmentation(volume, base, key, labels)
        else:
            result.node = target
            nodes.prepare_segmentation(target, volume, labels)
        assert result.mask is not None  # set by the event that led here
        nodes.write_labels(result.node, result.mask, volume, labels)
        nodes.set_provenance(result.node, result.provenance)
        for number, mask in enumerate(result.masks if keepSteps else [], start=1):
            node = nodes.make_segmentation(volume, f"{base} step {number}", f"{key}|{number}", labels)
            nodes.write_labels(node, mask, volume, labels)
            nodes.set_provenance(node, {**result.provenance, "step": number})
            node.SetAttribute(nodes.ATTRIBUTE + "Step", str(number))
            if node.GetDisplayNode() is not None:
                node.GetDisplayNode().SetVisibility(False)
            result.steps.append(node)
        if surface and not result.node.GetSegmentation().ContainsRepresentation("Closed surface"):
            with _quiet_views():
                result.node.CreateClosedSurfaceRepresentation()


def _quiet_views() -> Any:
    """No redraw between two updates that belong together (inside Slicer)."""
    import contextlib

    blocker = getattr(slicer.util, "RenderBlocker", None)
    return blocker() if blocker is not None and getattr(slicer, "app", None) is not None else contextlib.nullcontext()
