"""Comparing two segmentations: what the window's section and the console call; the worker does the measuring."""

import itertools
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import slicer

from DiffSegLib import events
from DiffSegLib.errors import Cancelled, DiffSegError, EnvironmentProblem, InputError
from DiffSegLib.jobs import EvaluateJob
from DiffSegLib.scene import comparison
from DiffSegLib.scene.masks import Grid, MaskWriter, grid_of_segmentation, grid_of_volume
from DiffSegLib.scene.process import WorkerClient, call
from DiffSegLib.scene.request import temporary_folder
from DiffSegLib.scene.words import tr as _

OnEvaluated = Callable[["Evaluation"], None]
_numbers = itertools.count(1)


@dataclass
class Evaluation:
    """A comparison and its results.

    `segments` holds for each name (the reference's) what was measured: `outcome` (found, missed, spurious, absent),
    `dice`, `iou`, `hd95_mm`, `nsd`, `asd_mm`, `centroid_mm`, `volume_ml`, `reference_volume_ml`,
    `volume_difference_ml`. A distance is infinite where one side is empty, a measure NaN where both are. `table` is the
    table node, `warnings` are sentences on what was left out or resampled, `error` tells of a failure.
    """

    number: str
    prediction: Any
    reference: Any
    tolerance: float
    segments: dict[str, dict[str, Any]] = field(default_factory=dict)
    colors: dict[str, tuple[float, ...]] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    table: Any = None
    error: DiffSegError | None = None
    finished: bool = False


class EvaluateLogic:
    """Compares segmentation nodes through the worker; stands beside SegmentLogic, whose worker it uses."""

    client: WorkerClient

    def evaluate(
        self,
        prediction: Any,
        reference: Any,
        volume: Any = None,
        tolerance: float = 1.0,
        onEvent: events.Listener = events.silent,
        onFinished: OnEvaluated | None = None,
        wait: bool = True,
    ) -> Evaluation:
        """Compare the segments of two segmentation nodes that have the same name, in any case of letters.

        `volume` gives the grid, by default the one that the reference was drawn on; what lies on another grid or under
        another transform is resampled to it. tolerance: mm, of the normalised surface Dice. `wait`, `onEvent` and
        `onFinished` are those of SegmentLogic.segment. Raises DiffSegError with one sentence for nodes that cannot be
        compared.
        """
        for node, text in (
            (prediction, _("Choose a segmentation as the prediction first.")),
            (reference, _("Choose a segmentation as the reference first.")),
        ):
            if node is None or not node.IsA("vtkMRMLSegmentationNode"):
                raise InputError(text)
        if prediction is reference:
            text = _("{name} is both prediction and reference; choose two segmentations.")
            raise InputError(text.format(name=prediction.GetName()))
        grid = grid_of_segmentation(reference) if volume is None else grid_of_volume(volume)
        result = Evaluation(f"evaluate-{next(_numbers)}", prediction, reference, tolerance)
        pairs = _match(result)
        folder = temporary_folder()

        def listen(event: events.Event) -> None:
            try:
                _take(event, result, list(pairs))
            except Exception as problem:  # a slot must not raise into Slicer's event loop
                result.error = DiffSegError(_("The result could not be shown: {reason}").format(reason=problem))
            call(onEvent, event)
            if event["event"] in ("result", "error"):
                result.finished = True
                shutil.rmtree(folder, ignore_errors=True)
                if onFinished is not None:
                    call(onFinished, result)

        try:
            self.client.submit(_job(result, pairs, grid, folder), listen)
        except BaseException as problem:
            shutil.rmtree(folder, ignore_errors=True)
            if isinstance(problem, OSError):
                reason = problem.strerror or problem
                text = _("The masks cannot be handed to the engine ({folder}: {reason}).")
                raise InputError(text.format(folder=folder, reason=reason)) from None
            raise
        if wait:
            self.client.wait(result.number)
            if result.error is not None:
                raise result.error
        return result

    def showEvaluation(self, result: Evaluation) -> Any:
        """Show bars of Dice, IoU and surface Dice of each segment, in its colour; returns the chart node."""
        if result.table is None or result.table.GetScene() is None:
            raise InputError(_("There is no result to show; evaluate first."))
        chart = comparison.make_chart(result)
        slicer.modules.plots.logic().ShowChartInLayout(chart)
        return chart


def _match(result: Evaluation) -> dict[str, tuple[str, str]]:
    """Name (the reference's) -> ids of the segments in prediction and reference; what has no partner is said."""
    found = []
    for node in (result.prediction, result.reference):
        segmentation = node.GetSegmentation()
        known: dict[str, str] = {}
        for identifier in segmentation.GetSegmentIDs():
            name = segmentation.GetSegment(identifier).GetName().strip()
            if name.casefold() in known:
                text = _("{name} has two segments called {segment}; rename one.")
                raise InputError(text.format(name=node.GetName(), segment=name))
            known[name.casefold()] = identifier
        if not known:
            raise InputError(_("{name} has no segments.").format(name=node.GetName()))
        found.append(known)
    predicted, present = found
    names = [_names(result.prediction, predicted.values()), _names(result.reference, present.values())]
    shared = [key for key in present if key in predicted]
    if not shared:
        text = _("No segment of {prediction} ({own}) is called like one of {reference} ({others}); rename them alike.")
        both = {"prediction": result.prediction.GetName(), "reference": result.reference.GetName()}
        lists = {key: ", ".join(each.values()) for key, each in zip(("own", "others"), names, strict=True)}
        raise InputError(text.format(**both, **lists))
    for node, own, other, called in (
        (result.prediction, predicted, present, names[0]),
        (result.reference, present, predicted, names[1]),
    ):
        alone = [called[identifier] for key, identifier in own.items() if key not in other]
        if alone:
            text = _("Only in {name} and not compared: {segments}.")
            result.warnings.append(text.format(name=node.GetName(), segments=", ".join(alone)))
    for key in shared:
        segment = result.reference.GetSegmentation().GetSegment(present[key])
        result.colors[names[1][present[key]]] = tuple(segment.GetColor())
    return {names[1][present[key]]: (predicted[key], present[key]) for key in shared}


def _names(node: Any, identifiers: Any) -> dict[str, str]:
    return {identifier: node.GetSegmentation().GetSegment(identifier).GetName().strip() for identifier in identifiers}


def _job(result: Evaluation, pairs: dict[str, tuple[str, str]], grid: Grid, folder: Path) -> EvaluateJob:
    """Write the masks; what was resampled or cut on the way is said."""
    writers = (
        MaskWriter(result.prediction, grid, folder, "prediction"),
        MaskWriter(result.reference, grid, folder, "reference"),
    )
    masks = tuple((writers[0](first), writers[1](second)) for first, second in pairs.values())
    for writer in writers:
        name = writer.node.GetName()
        if writer.resampled:
            text = _("{name} was resampled to the grid of {grid} (nearest neighbour).")
            result.warnings.append(text.format(name=name, grid=grid.name))
        if writer.cut:
            text = _("Parts of {name} lie outside of the grid of {grid} and are left out.")
            result.warnings.append(text.format(name=name, grid=grid.name))
    return EvaluateJob(result.number, masks, grid.spacing, result.tolerance)


def _take(event: events.Event, result: Evaluation, names: list[str]) -> None:
    """Bring one event of an evaluation into the scene."""
    if event["event"] == "result":
        for name, scores in zip(names, event["scores"], strict=True):
            measures = {key: value if key == "outcome" else float(value) for key, value in scores.items()}
            measures["volume_difference_ml"] = measures["volume_ml"] - measures["reference_volume_ml"]
            result.segments[name] = measures
        if result.prediction.GetScene() is None or result.reference.GetScene() is None:
            raise InputError(_("a segmentation was removed from the scene meanwhile."))
        result.table = comparison.make_table(result)
        comparison.update_chart(result)
    elif event["event"] == "error":
        kinds = {3: EnvironmentProblem, 4: Cancelled}
        result.error = kinds.get(event["exit_code"], DiffSegError)(event["message"])
