"""Make the sample that Slicer's Sample Data module offers: the MNI152 T1 template around the left hippocampus.

Writes DiffSeg/Resources/SampleData/: the volume, and a thumbnail with the shipped model's outlines. The volume's SHA256
is printed; it stands in DiffSegLib/scene/sample_data.py. Needs nilearn, which carries the template, and matplotlib.
"""

import hashlib
import sys
import tempfile
from pathlib import Path

import numpy as np
import SimpleITK as sitk

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from DiffSegLib.data.files import image_of, read  # noqa: E402 - found by the line above
from DiffSegLib.data.volume import orientation_of  # noqa: E402
from DiffSegLib.demo.pictures import BACKGROUND, PLANES, cut, overlay  # noqa: E402
from DiffSegLib.demo.template import CENTERS_RAS, SIZE_MM, box_around, load_template  # noqa: E402
from DiffSegLib.inference.predict import Predictor  # noqa: E402
from DiffSegLib.jobs import SegmentOptions  # noqa: E402
from DiffSegLib.models.shipped import find  # noqa: E402
from DiffSegLib.models.store import load  # noqa: E402
from DiffSegLib.scene.sample_data import FILE, THUMBNAIL  # noqa: E402

SIDE = "left"
NOTICE = (
    "Copyright (C) 1993-2004 Louis Collins, McConnell Brain Imaging Centre, Montreal Neurological Institute, McGill "
    "University; see MNI152-license.txt"
)
INCHES, DPI = (2.6, 2.8), 100


def write_sample(path: Path) -> None:
    """Cut the template to the box that the demo segments, as whole numbers from 0 to 255 like the template itself."""
    with tempfile.TemporaryDirectory() as folder:
        volume = load_template(Path(folder) / "template.nii.gz")
    box = box_around(volume, CENTERS_RAS[SIDE], SIZE_MM)
    affine = volume.affine.copy()
    affine[:3, 3] = (volume.affine @ [*(low for low, _ in reversed(box)), 1.0])[:3]
    part = volume.array[0][tuple(slice(low, high) for low, high in box)]
    image = image_of(np.rint(255 * part).astype(np.uint8), affine)
    image.SetMetaData("Copyright", NOTICE)
    sitk.WriteImage(image, str(path), useCompression=True, compressionLevel=9)


def write_thumbnail(path: Path, sample: Path) -> None:
    """The sagittal slice with the largest mask, outlined by the shipped model."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    volume = read(sample)
    predictor = Predictor(load(find("hippocampus")), "cpu")
    turn = orientation_of(volume.affine)
    image, mask = turn.apply(volume.array[0]), turn.apply(predictor(volume, SegmentOptions()).mask)
    axis, upside, _ = PLANES["sagittal"]
    place = int(np.count_nonzero(mask, axis=(0, 1)).argmax())
    window = [slice(None), slice(None), slice(place, place + 1)]
    figure = plt.figure(figsize=INCHES, facecolor=BACKGROUND)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.imshow(cut(image, window, axis, upside), cmap="gray", interpolation="bicubic", vmin=0, vmax=255)
    overlay(axes, cut(mask, window, axis, upside), predictor.model.card.labels, 1.0)
    figure.savefig(path, dpi=DPI, facecolor=BACKGROUND, metadata={"Software": None})


if __name__ == "__main__":
    folder = ROOT / "DiffSeg" / "Resources" / "SampleData"
    write_sample(folder / FILE)
    write_thumbnail(folder / THUMBNAIL, folder / FILE)
    print(hashlib.sha256((folder / FILE).read_bytes()).hexdigest())
