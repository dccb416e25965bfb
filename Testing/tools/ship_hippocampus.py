"""From a finished training to the shipped model: measure it, fill in its card, write it.

    python Testing/tools/ship_hippocampus.py RUN DATA [--others RUN ...]

RUN is a run folder of `diffseg train` with docs/models/hippocampus.json; DATA is the data set, with its splits.json.
With --others, runs of another seed or of the supervised twin, the model is the ensemble of all. RUN may be the shipped
file itself: it is measured and described anew.
Writes DiffSegLib/models/hippocampus.safetensors and docs/models/hippocampus.md.
"""

import argparse
import json
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "study"))

from measure import calibration

from DiffSegLib import config
from DiffSegLib.data.cases import Case
from DiffSegLib.data.datasets import load_dataset
from DiffSegLib.data.files import read, read_label
from DiffSegLib.data.patches import Prepared
from DiffSegLib.data.preprocess import label_to_model_space, to_model_space
from DiffSegLib.data.splits import split
from DiffSegLib.inference.predict import Predictor
from DiffSegLib.inference.sampling import Sampling
from DiffSegLib.inference.uncertainty import tempered
from DiffSegLib.jobs import SegmentOptions
from DiffSegLib.labels import Label
from DiffSegLib.models import store
from DiffSegLib.models.card import Card
from DiffSegLib.models.join import join
from DiffSegLib.network.precision import pick_precision
from DiffSegLib.training.calibration import Answers, fit_smoothing, fit_temperature

ROOT = Path(__file__).resolve().parents[2]
ANATOMY, HIPPOCAMPUS = ("SCT", "123037004", "Anatomical Structure"), ("SCT", "5366008", "Hippocampus")
LABELS = (
    Label(1, "Anterior hippocampus", (0.94, 0.62, 0.26), ANATOMY, HIPPOCAMPUS, ("SCT", "255549009", "Anterior")),
    Label(2, "Posterior hippocampus", (0.40, 0.42, 0.94), ANATOMY, HIPPOCAMPUS, ("SCT", "255551008", "Posterior")),
)
NOT_FOR = (
    "Not for diagnosis. Not for whole heads (choose a region around one hippocampus), children, lesions, or other "
    "contrasts than T1. Left and right look alike to it."
)

ENSEMBLE = "It is an ensemble of {count} trainings with different seeds: at each step the mean of their probabilities. "


def measure(model: store.Model, cases: list, **options) -> tuple[np.ndarray, list[float]]:
    """Dice (cases, steps, labels) on each image's own grid, and the seconds of each case."""
    predictor = Predictor(model, "cpu")
    predictor.warm_up()
    scores, seconds = [], []
    for case in cases:
        volume, (truth, _) = read(case.images[0]), read_label(case.label)
        began = time.perf_counter()
        prediction = predictor(volume, SegmentOptions(keep_steps=True, **options))
        seconds.append(time.perf_counter() - began)
        scores.append([[dice(mask == v, truth == v) for v in (1, 2)] for mask in prediction.steps])
    return np.array(scores), seconds


def dice(a: np.ndarray, b: np.ndarray) -> float:
    """2 |a and b| / (|a| + |b|)."""
    return 2.0 * float((a & b).sum()) / float(a.sum() + b.sum())


def main() -> None:
    """Measure both fusions, ship the better one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--others", type=Path, nargs="+", default=[], metavar="RUN")
    arguments = parser.parse_args()
    is_shipped = arguments.run.is_file()
    trained = store.load(arguments.run if is_shipped else arguments.run / "model.safetensors")
    kept = tempfile.TemporaryDirectory()  # until all is measured: a model reads its file's checksum late
    if arguments.others:
        both = Path(kept.name) / "both.safetensors"
        join([run / "model.safetensors" for run in (arguments.run, *arguments.others)], "hippocampus", both)
        trained = store.load(both)
    dataset = load_dataset(arguments.data)
    training, validation = split(dataset)
    settings = config.load(ROOT / "docs" / "models" / "hippocampus.json")
    prepared = [prepared_case(case, settings) for case in validation]
    smoothing = fit_smoothing(Answers(trained.network, prepared, 3, settings, torch.device("cpu")))
    rows, found = [], {}
    for fusion in ("last", "mean"):
        diffusion = replace(trained.card.diffusion, fusion=fusion)
        card = replace(trained.card, diffusion=diffusion, smoothing=smoothing)
        for sampler, seed in (("ddim", 0), ("ddim", 1), ("ddpm", 0)):
            scores, seconds = measure(replace(trained, card=card), validation, sampler=sampler, seed=seed)
            curve = scores.mean((0, 2))
            rows.append((fusion, sampler, seed, curve))
            found[fusion, sampler, seed] = scores, seconds
            print(fusion, sampler, seed, np.round(curve, 4), f"{np.median(seconds):.2f} s", flush=True)
    fusion = max(("last", "mean"), key=lambda name: found[name, "ddim", 0][0][:, -1].mean())
    scores, seconds = found[fusion, "ddim", 0]
    by_label = scores[:, -1].mean(0)
    diffusion = replace(trained.card.diffusion, fusion=fusion)
    settings = replace(settings, diffusion=diffusion)
    temperature = fit_temperature(Answers(trained.network, prepared, 3, settings, torch.device("cpu")), smoothing)
    errors = [calibration_error(trained, settings, prepared, smoothing, t) for t in (1.0, temperature)]
    if is_shipped:
        spent = {key: trained.card.training[key] for key in ("iterations", "seconds")}
    else:
        last = [last_validation(run) for run in (arguments.run, *arguments.others)]
        spent = {"iterations": [each["iteration"] for each in last], "seconds": [each["seconds"] for each in last]}
    card = Card(
        name="hippocampus",
        labels=LABELS,
        channels=("T1 MR",),
        network=trained.card.network,
        diffusion=diffusion,
        smoothing=smoothing,
        temperature=temperature,
        data=trained.card.data,
        flip=trained.card.flip,
        members=trained.card.members,
        description="Anterior and posterior hippocampus in a T1 MR crop around one hippocampus, left or right.",
        licence="CC BY-SA 4.0",
        not_for=NOT_FOR,
        seed=trained.card.seed,
        expects={
            "modality": "MR",
            "contrast": "T1",
            "anatomy": "a crop around one hippocampus, left or right",
            "field_of_view_mm": [36.0, 50.0, 35.0],  # z, y, x
        },
        training={
            "dataset": "Medical Segmentation Decathlon, Task04 Hippocampus",
            "licence": "CC BY-SA 4.0, Vanderbilt University Medical Center",
            "reference": dataset.reference,
            "train_cases": len(training),
            "validation_cases": len(validation),
            "split": "by person; splits.json of the data set",
            "how": "diffseg train --config docs/models/hippocampus.json; one CPU thread, bfloat16",
            **spent,
        },
        scores={
            "what": f"Dice, mean over {len(validation)} validation cases, native grid, 5 DDIM steps, seed 0",
            "dice": round(float(by_label.mean()), 4),
            "dice_by_label": {label.name: round(float(x), 4) for label, x in zip(LABELS, by_label, strict=True)},
            "dice_by_step": [round(float(x), 4) for x in scores.mean((0, 2))],
            "calibration_error": {"uncalibrated": errors[0], "calibrated": errors[1]},
            "worst_case": round(float(scores[:, -1].mean(1).min()), 4),
            "command": "python Testing/tools/ship_hippocampus.py RUN DATA"
            + " --others RUN" * bool(trained.card.members),
        },
        versions=trained.card.versions,
    )
    store.save(ROOT / "DiffSegLib" / "models" / "hippocampus.safetensors", trained.network.state_dict(), card)
    (ROOT / "docs" / "models" / "hippocampus.md").write_text(page(card, rows, scores, seconds), encoding="utf-8")
    draw_worst(trained, card, validation, scores[:, -1].mean(1), ROOT / "docs" / "images" / "hippocampus-worst.png")


def last_validation(run: Path) -> dict:
    """The last event of a run's log with a validation's Dice."""
    logged = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [event for event in logged if "dice" in event][-1]


def prepared_case(case: Case, settings: config.Config) -> Prepared:
    """On the network's grid."""
    volume, (label, affine) = read(case.images[0]), read_label(case.label)
    image, _ = to_model_space(volume, settings.data)
    return Prepared(case.name, image, label_to_model_space(label, affine, settings.data), (1.0,) * 3, ())


def calibration_error(
    model: store.Model, settings: config.Config, cases: list[Prepared], smoothing: float, temperature: float
) -> float:
    """Mean over cases of the expected calibration error near the structures, as in the study."""
    found = []
    for case in cases:
        arguments = (model.network, 3, settings.data.patch, settings.network.factors, settings.diffusion)
        options = {"precision": pick_precision("auto", torch.device("cpu")), "smoothing": smoothing}
        *_, probability = Sampling(*arguments, **options).volumes(case.image)
        found.append(calibration(tempered(probability, temperature, True).numpy(), case.label.numpy())[0])
    return round(float(np.mean(found)), 4)


def draw_worst(model: store.Model, card: Card, cases: list, scores: np.ndarray, path: Path, count: int = 3) -> None:
    """Outlines of truth and answer in the slices of the worst cases where they differ most; no image is shown."""
    import matplotlib.pyplot as plt

    predictor = Predictor(replace(model, card=card), "cpu")
    figure, axes = plt.subplots(1, count, figsize=(4 * count, 4.2), layout="constrained")
    for axis, n in zip(axes, np.argsort(scores)[:count], strict=True):
        truth = read_label(cases[n].label)[0]
        mask = predictor(read(cases[n].images[0]), SegmentOptions()).mask
        place = int((truth != mask).sum((1, 2)).argmax())
        for value, color in ((1, "tab:orange"), (2, "tab:blue")):
            axis.contourf(truth[place] == value, levels=[0.5, 1.5], colors=[color], alpha=0.3)
            axis.contour(mask[place] == value, levels=[0.5], colors=[color], linewidths=2)
        axis.set_title(f"Dice {scores[n]:.3f}, slice {place}", fontsize=10)
        axis.set_aspect("equal")
        axis.set_xticks([])
        axis.set_yticks([])
    figure.suptitle("The worst validation cases: filled is the truth, lines are the answer", fontsize=11)
    figure.savefig(path, dpi=80)
    plt.close(figure)


def page(card: Card, rows: list, scores: np.ndarray, seconds: list[float]) -> str:
    """The model's page."""
    each = scores[:, -1].mean(1)
    minutes = "/".join(f"{seconds / 60:.0f}" for seconds in card.training["seconds"])
    iterations = "/".join(map(str, card.training["iterations"]))
    errors = card.scores["calibration_error"]
    spread = 1.96 * each.std(ddof=1) / np.sqrt(len(each))
    lines = [
        "# The model `hippocampus`",
        "",
        f"{card.description}",
        "Written by `Testing/tools/ship_hippocampus.py`; the weights and the card are one file,",
        "`DiffSegLib/models/hippocampus.safetensors` (see it with `diffseg info hippocampus`).",
        "",
        f"Trained for {iterations} iterations of batch 2 ({minutes} minutes on one CPU thread",
        f"of a machine that did other work too) on {card.training['train_cases']} cases with the configuration",
        "[hippocampus.json](hippocampus.json); the weights are the moving average at the best validation.",
        ENSEMBLE.format(count=len(card.members)) * bool(card.members)
        + f"Answer of a step: `fusion = {card.diffusion.fusion}`, chosen on the validation cases from the table below.",
        "",
        f"Validation, {len(each)} cases of persons that training never saw, native grid, 5 DDIM steps, seed 0:",
        f"mean Dice **{each.mean():.4f}** (95 % interval ± {spread:.4f} over cases; worst case {each.min():.4f}); "
        + ", ".join(f"{name} {x:.4f}" for name, x in card.scores["dice_by_label"].items())
        + ".",
        f"One case takes {np.median(seconds):.2f} s (median, warm, five steps with a mask of each).",
        f"Probabilities are smoothed by {card.smoothing:g} voxels, fitted on the same cases.",
        f"Calibration error near the structures {errors['uncalibrated']:.4f}, with the card's temperature of "
        f"{card.temperature:g} {errors['calibrated']:.4f}.",
        "",
        "| fusion | sampler | seed | step 1 | step 2 | step 3 | step 4 | step 5 |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for fusion, sampler, seed, curve in rows:
        lines.append(f"| {fusion} | {sampler} | {seed} | " + " | ".join(f"{x:.4f}" for x in curve) + " |")
    lines += [
        "",
        "The best checkpoint, the fusion and the smoothing were chosen on these same cases, so expect slightly less on",
        "others.",
        "",
        "Where it fails: the end of the structure along its axis, and the border between anterior and posterior.",
        "",
        "![Outlines of the worst cases](../images/hippocampus-worst.png)",
        "",
        f"**Not for.** {card.not_for}",
        "",
        "**Data and licence.** Medical Segmentation Decathlon, Task04 Hippocampus, Vanderbilt University Medical",
        "Center, CC BY-SA 4.0; the weights are shared under the same licence. Cite Antonelli et al., Nat Commun",
        "13:4128 (2022), doi:10.1038/s41467-022-30695-9, and Simpson et al., arXiv:1902.09063.",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
