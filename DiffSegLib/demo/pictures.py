"""The masks of every step beside each other over the image, in the three planes, as one PNG."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from DiffSegLib.errors import EnvironmentProblem
from DiffSegLib.labels import Label

# plane -> (axis of the slice in (z, y, x), whether rows are flipped so that superior is up, letters left/right/up/down)
PLANES = {
    "sagittal": (2, True, ("A", "P", "S", "I")),
    "coronal": (1, True, ("R", "L", "S", "I")),
    "axial": (0, False, ("R", "L", "A", "P")),
}
BACKGROUND = "#101214"
TEXT = "#e6e6e6"


def steps_picture(
    path: Path,
    image: np.ndarray,
    masks: Sequence[np.ndarray],
    labels: Sequence[Label],
    spacing: tuple[float, ...],
    center: tuple[int, ...],
    title: str,
    half_mm: float = 38.0,
) -> None:
    """Draw image and masks through the voxel `center`.

    image and masks: (z, y, x) on canonical axes (towards superior, posterior, left), spacing in mm in that order.
    Patient left is on the right of the picture (radiological view).
    """
    try:
        import matplotlib

        matplotlib.use("Agg")
        import matplotlib.pyplot as plt
    except ModuleNotFoundError:
        raise EnvironmentProblem("Pictures need the package matplotlib: pip install matplotlib") from None
    columns = ["image", *(f"step {n + 1}" for n in range(len(masks)))]
    figure, axes = plt.subplots(
        len(PLANES), len(columns), figsize=(2.35 * len(columns), 2.35 * len(PLANES) + 0.8), facecolor=BACKGROUND
    )
    low, high = np.percentile(image[image > image.min()], (1, 99.7)) if (image > image.min()).any() else (0.0, 1.0)
    for row, (plane, (axis, upside, letters)) in enumerate(PLANES.items()):
        window = [slice(None)] * 3
        for n in range(3):
            half = max(1, round(half_mm / spacing[n]))
            window[n] = slice(max(0, center[n] - half), min(image.shape[n], center[n] + half + 1))
        window[axis] = slice(center[axis], center[axis] + 1)
        rest = [n for n in range(3) if n != axis]
        aspect = spacing[rest[0]] / spacing[rest[1]]
        for column, name in enumerate(columns):
            panel = axes[row, column]
            panel.set_axis_off()
            shown = cut(image, window, axis, upside)
            panel.imshow(shown, cmap="gray", vmin=low, vmax=high, aspect=aspect, interpolation="bicubic")
            if column > 0:
                overlay(panel, cut(masks[column - 1], window, axis, upside), labels, aspect)
            else:
                _letters(panel, letters)
                how = {"transform": panel.transAxes, "color": TEXT, "rotation": 90, "va": "center", "ha": "right"}
                panel.text(-0.06, 0.5, plane, **how)
            if row == 0:
                panel.set_title(name, color=TEXT, fontsize=11)
    figure.suptitle(title, color=TEXT, fontsize=13, x=0.5, y=0.985)
    handles = [matplotlib.patches.Patch(color=label.color, label=label.name) for label in labels]
    figure.legend(handles=handles, loc="lower center", ncols=len(labels), frameon=False, labelcolor=TEXT, fontsize=11)
    figure.subplots_adjust(left=0.03, right=0.995, top=0.9, bottom=0.06, wspace=0.03, hspace=0.03)
    figure.savefig(path, dpi=110, facecolor=BACKGROUND)
    plt.close(figure)


def cut(array: np.ndarray, window: list[slice], axis: int, upside: bool) -> np.ndarray:
    """The slice of a volume that is one voxel thick in `window` along `axis`, superior up."""
    found = array[tuple(window)].squeeze(axis)
    return found[::-1] if upside else found


def overlay(panel: Any, mask: np.ndarray, labels: Sequence[Label], aspect: float) -> None:
    """Each label filled lightly, with a full outline."""
    for label in labels:
        inside = mask == label.value
        fill = np.zeros((*mask.shape, 4))
        fill[inside] = (*label.color, 0.45)
        panel.imshow(fill, aspect=aspect, interpolation="nearest")
        if inside.any() and not inside.all():
            panel.contour(inside, levels=[0.5], colors=[label.color], linewidths=1.3)


def _letters(panel: Any, letters: tuple[str, ...]) -> None:
    from matplotlib.patheffects import withStroke

    places = ((0.03, 0.5, "left"), (0.97, 0.5, "right"), (0.5, 0.95, "center"), (0.5, 0.05, "center"))
    for letter, (x, y, side) in zip(letters, places, strict=True):
        text = panel.text(x, y, letter, transform=panel.transAxes, color="#ffd84d", ha=side, va="center", fontsize=10)
        text.set_path_effects([withStroke(linewidth=2.5, foreground="black")])  # on white matter
