"""Segmenting nodes: what the window's button, the console and a batch script all call."""

import itertools
import shutil
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from DiffSegLib import events
from DiffSegLib.errors import Cancelled, DiffSegError, EnvironmentProblem, InputError
from DiffSegLib.jobs import PrepareJob, SegmentOptions
from DiffSegLib.labels import Label
from DiffSegLib.models.shipped import find, read_card
from DiffSegLib.scene import edits, expectations, nodes
from DiffSegLib.scene import roi as regions
from DiffSegLib.scene import steps as step_nodes
from DiffSegLib.scene.answer import Answer
from DiffSegLib.scene.changes import Change
from DiffSegLib.scene.nodes import Box
from DiffSegLib.scene.process import WorkerClient, call, shared_client
from DiffSegLib.scene.request import check_inputs, read_mask, write_job
from DiffSegLib.scene.result_key import result_key
from DiffSegLib.scene.uncertainty import show as show_uncertainty
from DiffSegLib.scene.words import tr as _

OnFinished = Callable[["Segmentation"], None]
ERRORS = {2: InputError, 3: EnvironmentProblem, 4: Cancelled}  # exit code -> what it is raised as
_numbers = itertools.count(1)


@dataclass
class Segmentation:
    """A run and its results. masks[n] is the one of step n + 1, (K, J, I) uint8 label values on the volume's grid.

    `node` is the answer's segmentation node, there from the first step on; `steps` those of the steps (with keepSteps).
    noise[n]: of the mask that the network was shown at step n + 1, 1 to 0; changes[n]: worked out when first asked for;
    checksums[n]: of masks[n], from which an edit is known later.
    uncertainty: (K, J, I) float32, 0 certain to 1 undecided, where it was asked for; then it has a volume node too.
    `error` tells of a failure; the scene is then as it was before the run.
    """

    number: str
    volume: Any
    node: Any = None
    steps: list[Any] = field(default_factory=list)
    masks: list[np.ndarray] = field(default_factory=list)
    checksums: list[str] = field(default_factory=list)
    labels: tuple[Label, ...] = ()
    stepCount: int = 0
    noise: list[float] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    mask: np.ndarray | None = None
    uncertainty: np.ndarray | None = None
    uncertaintyNode: Any = None
    volumesMl: dict[str, float] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    provenance: dict[str, Any] = field(default_factory=dict)
    error: DiffSegError | None = None
    finished: bool = False


class SegmentLogic:
    """Segments volume nodes through the worker; usable in Slicer and on slicer-core.

    result = SegmentLogic().segment(volumeNode, model="hippocampus")
    result.node, result.masks, result.volumesMl
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
        model: str | Path = "hippocampus",
        *,
        channels: Sequence[Any] = (),
        roi: Any | Box | None = None,
        steps: int = 5,
        sampler: str = "ddim",
        samples: int = 1,
        seed: int = 0,
        device: str = "auto",
        uncertainty: bool = False,
        keepSteps: bool = False,
        surface: bool | None = None,
        segmentation: Any = None,
        name: str | None = None,
        onEvent: events.Listener = events.silent,
        onFinished: OnFinished | None = None,
        wait: bool = True,
    ) -> Segmentation:
        """Segment a scalar volume node into a segmentation node on its grid and under its transform.

        model: a shipped model's name or a model file. channels: the further volumes of a model with several channels,
        in the order of its card; they are resampled to the volume's grid. roi: what the model sees of the volume, a
        markups ROI node or ((k0, k1), (j0, j1), (i0, i1)) voxels, end exclusive. samples: segmentations to draw and
        average; with `uncertainty` the result says how much they disagree. With `keepSteps` every step gets a
        segmentation node of its own. `surface`: whether the answer gets its closed surface; by default it does, but not
        again in a node where 3D was switched off since.

        The answer's node is named `name` (by default "<volume> DiffSeg"); run again, the same node is updated. Without
        a `name` another model, or a region elsewhere, gets a node of its own ("<volume> DiffSeg 2").
        `segmentation` takes the answer instead. It shows each step as soon as it is done; a run that fails or is
        cancelled leaves the scene as it was.

        With `wait` the call returns when all is done and raises DiffSegError when it fails. Without, it raises for what
        can be seen beforehand and returns at once; events (DiffSegLib.events) arrive through `onEvent`, and
        `onFinished` gets the result.
        """
        path = find(str(model)).absolute()
        card = read_card(path)
        check_inputs(card, volumeNode, channels)
        box = regions.box_of(roi, volumeNode)
        nodes.check_extent(volumeNode, card.dims, box)
        options = SegmentOptions(steps, sampler, samples, seed, device, box, True, uncertainty)
        job, folder = write_job(f"segment-{next(_numbers)}", path, volumeNode, channels, options)
        run = Segmentation(job.id, volumeNode, labels=card.labels, stepCount=steps, warnings=_warnings(volumeNode))
        key = name or result_key(volumeNode, card.name, box)
        answer = Answer(volumeNode, name or f"{volumeNode.GetName()} {key}", card.labels, segmentation, key)

        def listen(event: events.Event) -> None:
            kind = event["event"]
            try:
                self._take(event, run, answer, keepSteps, surface)
            except Exception as problem:  # a slot must not raise into Slicer's event loop
                run.error = run.error or _as_error(problem)
                self.client.cancel(run.number)
            if kind in ("result", "error"):
                if run.error is not None:
                    answer.undo()
                run.node = answer.node
                run.finished = True
                shutil.rmtree(folder, ignore_errors=True)
            call(onEvent, event)
            if run.finished and onFinished is not None:
                call(onFinished, run)

        self.client.submit(job, listen)
        if wait:
            try:
                self.client.wait(run.number)
            except BaseException:  # Ctrl-C in a script
                self.cancel(run)
                raise
            if run.error is not None:
                raise run.error
        return run

    def cancel(self, result: Segmentation) -> None:
        """Ask a run to stop; its `onFinished` hears of it within about a second."""
        self.client.cancel(result.number)

    def prepare(self, model: str | Path, device: str = "auto", onFinished: Callable[[str], None] | None = None) -> None:
        """Let the worker load a model in advance, and return at once; `onFinished` gets what is wrong, or nothing.

        It hears nothing of a worker that was ended meanwhile, as for an installation.
        """
        job = PrepareJob(f"prepare-{next(_numbers)}", str(find(str(model)).absolute()), device)

        def listen(event: events.Event) -> None:
            isEnd = event["event"] in ("result", "error") and event.get("exit_code") != Cancelled.exit_code
            if isEnd and onFinished is not None:
                call(onFinished, event.get("message", ""))

        self.client.submit(job, listen, isBackground=True)

    def showStep(self, result: Segmentation, step: int, live: bool = False) -> None:
        """Write the mask of a step (from 1) into the answer's node, in place; see scene.steps.show."""
        step_nodes.show(result, step, live)

    def steps(self, result: Segmentation, asSequence: bool = False) -> list[Any]:
        """A segmentation node for each step, in a folder beside the volume; or one sequence node that holds them all.

        Called again, the same nodes are updated.
        """
        return [step_nodes.keep_as_sequence(result)] if asSequence else step_nodes.keep(result)

    def keepEdit(self, result: Segmentation) -> Any:
        """Leave an answer that was edited to the user and show the steps in a new node; returns the edited one."""
        return step_nodes.keep_edit(result)

    def _take(
        self, event: events.Event, run: Segmentation, answer: Answer, keepSteps: bool, surface: bool | None
    ) -> None:
        """Bring one event of a run into the scene."""
        if event["event"] == "progress" and run.error is None:
            answer.check()  # no need to compute to the end what cannot be shown
        if event["event"] in ("step", "result", "error") and step_nodes.is_edited(run):
            answer.leave()
        if event["event"] == "step" and run.error is None:
            number = event["step"] - 1  # with several samples the steps come twice: of the first, and of the mean
            run.masks[number : number + 1] = [read_mask(event)]
            run.checksums[number : number + 1] = [edits.text_of(event["crc32"])]
            run.noise[number : number + 1] = [event["noise"]]
            del run.changes[number:]
            answer.show(run.masks[number])
            run.node = answer.node
        elif event["event"] == "result" and run.error is None:
            isLast = event["steps"][-1:] == [event["mask"]]
            run.mask = run.masks[-1] if isLast else np.load(event["mask"], allow_pickle=False)
            if event.get("uncertainty"):
                run.uncertainty = np.load(event["uncertainty"], allow_pickle=False)
            run.warnings += event["warnings"]
            run.provenance = event["provenance"]
            names = {str(label.value): label.name for label in run.labels}
            run.volumesMl = {names[value]: ml for value, ml in event["volumes_ml"].items()}
            answer.finish(run.mask, run.provenance, surface)
            run.node = answer.node
            run.warnings += answer.left
            step_nodes.finish(run)
            run.uncertaintyNode = show_uncertainty(run)
            if keepSteps:
                step_nodes.keep(run)
            run.warnings += step_nodes.tell_of_earlier(run)
        elif event["event"] == "error":
            run.error = run.error or ERRORS.get(event["exit_code"], DiffSegError)(event["message"])


def _warnings(volumeNode: Any) -> list[str]:
    frame = expectations.frameOf(volumeNode)
    if frame is None:
        return []
    text = _("{name} shows frame {frame} of {frames} of a sequence; that frame was segmented.")
    return [text.format(name=volumeNode.GetName(), frame=frame[0], frames=frame[1])]


def _as_error(problem: Exception) -> DiffSegError:
    if isinstance(problem, DiffSegError):
        return problem
    traceback.print_exception(problem)
    text = _("The result could not be shown ({kind}: {reason}).")
    return DiffSegError(text.format(kind=type(problem).__name__, reason=problem))
