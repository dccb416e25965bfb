"""Draw the icon: a hippocampus-like shape that goes from noise on the left to a two-coloured mask on the right."""

from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
SIZE, FINE = 128, 8


def shape(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Inside of the curved body, and the place along it (0 head .. 1 tail); x and y in -1 .. 1."""
    along = np.linspace(0, 1, 160)
    angle = np.pi * (1.08 - 0.98 * along)
    spine = np.stack([0.62 * np.cos(angle), 0.42 - 0.78 * np.sin(angle)], 1)
    radius = 0.31 - 0.17 * along
    inside, place = np.zeros(x.shape, bool), np.zeros(x.shape)
    best = np.full(x.shape, np.inf)
    for (px, py), r, s in zip(spine, radius, along, strict=True):
        distance = np.hypot(x - px, y - py) / r
        inside |= distance < 1
        place = np.where(distance < best, s, place)
        best = np.minimum(best, distance)
    return inside, place


def draw() -> Image.Image:
    """The icon at 128 pixels, drawn eight times finer and averaged."""
    n = SIZE * FINE
    axis = (np.arange(n) + 0.5) / n * 2 - 1
    x, y = np.meshgrid(axis, axis)
    inside, place = shape(x, y)
    picture = np.zeros((n, n, 4))
    corner = np.maximum(np.abs(x), np.abs(y)) - 0.74
    dx, dy = np.maximum(np.abs(x) - 0.74, 0), np.maximum(np.abs(y) - 0.74, 0)
    tile = np.where(corner > 0, np.hypot(dx, dy) < 0.24, True)
    picture[tile] = (0.075, 0.09, 0.12, 1.0)
    front, back = np.array([0.98, 0.66, 0.30]), np.array([0.42, 0.42, 0.98])
    color = np.where((place < 0.52)[..., None], front, back)
    cell = SIZE // 32 * FINE
    noise = np.kron(np.random.default_rng(7).random((n // cell, n // cell)), np.ones((cell, cell)))
    tint = np.kron(np.random.default_rng(3).random((n // cell, n // cell)), np.ones((cell, cell)))
    clean = np.clip((x + 0.86) / 0.55, 0, 1)
    crisp = inside & (noise <= clean)
    picture[crisp, :3] = color[crisp]
    speck = tile & (noise > clean) & (tint > 0.45 + 0.42 * ~inside)
    gray = (0.35 + 0.6 * noise)[..., None] * np.where((tint > 0.75)[..., None], color, np.array([0.8, 0.84, 0.9]))
    picture[speck, :3] = gray[speck]
    small = picture.reshape(SIZE, FINE, SIZE, FINE, 4).mean((1, 3))
    return Image.fromarray((255 * np.clip(small, 0, 1)).round().astype(np.uint8), "RGBA")


if __name__ == "__main__":
    icon = draw()
    for path in (ROOT / "DiffSeg.png", ROOT / "DiffSeg" / "Resources" / "Icons" / "DiffSeg.png"):
        path.parent.mkdir(parents=True, exist_ok=True)
        icon.save(path, optimize=True)
