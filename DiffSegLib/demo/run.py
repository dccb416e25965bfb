"""The demonstration from template to pictures."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from DiffSegLib import events
from DiffSegLib.data.files import write_mask
from DiffSegLib.data.outputs import Prediction
from DiffSegLib.data.volume import orientation_of
from DiffSegLib.demo.pictures import steps_picture
from DiffSegLib.demo.template import CENTERS_RAS, SIZE_MM, Box, box_around, load_template
from DiffSegLib.inference.predict import Predictor, volumes_ml
from DiffSegLib.jobs import SegmentOptions
from DiffSegLib.labels import Label
from DiffSegLib.models.shipped import find
from DiffSegLib.models.store import load
from DiffSegLib.whole_files import check_folder, write_text

STEPS = 5
NAME = "mni152"


@dataclass(frozen=True, eq=False)
class Demo:
    """What the demo made: files, regions and predictions by side, and both sides' mask on canonical axes (z, y, x)."""

    files: list[Path]
    image: Path
    regions: dict[str, Box]
    sides: dict[str, Prediction]
    mask: np.ndarray
    spacing: tuple[float, ...]
    labels: tuple[Label, ...]


def run_demo(out: Path, listener: events.Listener = events.silent) -> Demo:
    """Write the masks of all five steps as `.seg.nrrd`, and pictures of them over the image."""
    check_folder(out)
    out.mkdir(parents=True, exist_ok=True)
    image_path = out / f"{NAME}.nii.gz"
    volume = load_template(image_path)
    predictor = Predictor(load(find("hippocampus")))
    labels = predictor.model.card.labels
    boxes = {side: box_around(volume, center, SIZE_MM) for side, center in CENTERS_RAS.items()}
    sides: dict[str, Prediction] = {}
    for side, box in boxes.items():
        options = SegmentOptions(steps=STEPS, roi=box, keep_steps=True)
        sides[side] = predictor(volume, options, listener)
    steps = [np.maximum(*(found.steps[n] for found in sides.values())) for n in range(STEPS)]
    files = [image_path]
    for n, mask in enumerate(steps, start=1):
        files.append(out / f"{NAME}.step-{n}.seg.nrrd")
        write_mask(files[-1], mask, volume.affine, labels)
    files.append(out / f"{NAME}.seg.nrrd")
    write_mask(files[-1], steps[-1], volume.affine, labels)
    record = {
        side: {
            "box_kji": boxes[side],
            "volumes_ml": {label.name: found.volumes_ml[label.value] for label in labels},
            **found.provenance,
        }
        for side, found in sides.items()
    }
    files.append(out / f"{NAME}.json")
    write_text(files[-1], json.dumps(record, indent=2) + "\n")
    orientation = orientation_of(volume.affine)
    turned = [np.ascontiguousarray(orientation.apply(array)) for array in (volume.array[0], *steps)]
    spacing = tuple(volume.spacing[axis] for axis in orientation.axes)
    for side in CENTERS_RAS:
        own = np.ascontiguousarray(orientation.apply(sides[side].mask))
        center = tuple(round(float(x)) for x in np.argwhere(own > 0).mean(0)) if own.any() else own.shape
        files.append(out / f"steps-{side}.png")
        title = f"MNI152 template, {side} hippocampus: the mask of each step"
        steps_picture(files[-1], turned[0], turned[1:], labels, spacing, center, title)
    total = volumes_ml(steps[-1], volume, [label.value for label in labels])
    sizes = ", ".join(f"{label.name} {total[label.value]:.2f} ml" for label in labels)
    listener(events.make("log", text=f"Both sides together: {sizes}."))
    return Demo(files, image_path, boxes, sides, turned[-1], spacing, labels)
