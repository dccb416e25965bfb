"""What was measured beside what it should be: a line each, reached or missed."""

from collections.abc import Iterator
from typing import Any

# a row of the networks, what its time is divided by, and at most how much that should be
RATIOS = (
    ("unet, five diffusion steps", "unet, supervised twin, one pass", 5.2),
    ("cached, five diffusion steps", "cached, supervised twin, one pass", 1.6),
    ("unet, five diffusion steps", "nnU-Net's network, fp32, mirrored", 0.7),
    ("cached, five diffusion steps", "nnU-Net's network, mirrored", 0.5),
    ("unet, training step with recycling", "MONAI DiffusionModelUNet, training step with recycling", 0.6),
)
OWN = ("unet", "cached")
CONVOLUTIONS = 0.75  # of the ceiling, at least
# a volume (k, j, i) with its classes, and the share of its time that may not be the network's
BESIDE = (((36, 50, 36), 3, 0.15), ((256, 256, 256), 20, 0.25))
LARGE, LARGE_CLASSES, LARGE_MB = (400, 512, 512), 25, 2500.0
LOADING = 0.05  # of the processor time of a training
WARM = 0.150  # seconds of a worker's first step that are not the network's

PARTS = ("networks", "volumes", "loading", "worker")
Line = tuple[str, str, str, bool]  # what, measured, goal, whether it is reached


def table(found: dict[str, Any]) -> str:
    """Of everything that was measured."""
    lines = ["## Figures", "", "| figure | measured | goal | |", "| --- | --- | --- | --- |"]
    for what, measured, goal, reached in _lines(found):
        lines.append(f"| {what} | {measured} | {goal} | {'reached' if reached else 'MISSED'} |")
    return "\n".join(lines)


def _lines(found: dict[str, Any]) -> Iterator[Line]:
    for part in (part for part in PARTS if part not in found):
        yield f"part {part}", "not measured", "", False
    if "networks" in found:
        yield from _networks(found["networks"])
    for row in found.get("volumes", ()):
        yield from _volume(row)
    if "loading" in found:
        share = share_of_loading(found["loading"])
        yield (
            "cutting and changing patches, of a training's processor time",
            f"{share:.1%}",
            "at most 5%",
            share <= LOADING,
        )
    if "worker" in found:
        beyond = found["worker"]["beyond"]
        what = "a warm worker's first step, beyond the network's time"
        yield what, f"{1e3 * beyond:.0f} ms", f"at most {1e3 * WARM:.0f} ms", beyond <= WARM


def _networks(found: dict[str, Any]) -> Iterator[Line]:
    seconds = {row["what"]: row["seconds"] for row in found["rows"]}
    for one, other, most in RATIOS:
        ratio = seconds[one] / seconds[other]
        yield f"time of {one} / {other}", f"{ratio:.3f}", f"at most {most}", ratio <= most
    rows = [row for row in found["rows"] if row["what"].startswith(OWN) and "convolution_seconds" in row]
    if rows:
        least = min(reached(row, found["ceilings"]) for row in rows)
        what = "own convolutions, the slowest row's, of the ceiling"
        yield what, f"{least:.0%}", f"at least {CONVOLUTIONS:.0%}", least >= CONVOLUTIONS


def _volume(row: dict[str, Any]) -> Iterator[Line]:
    shape, name = tuple(row["shape"]), f"{' x '.join(map(str, row['shape'][::-1]))} with {row['classes']} classes"
    for size, classes, most in BESIDE:
        if (shape, row["classes"]) == (size, classes):
            share = 1.0 - row["network"] / row["seconds"]
            yield f"not the network, of the time of {name}", f"{share:.0%}", f"at most {most:.0%}", share <= most
    if (shape, row["classes"]) == (LARGE, LARGE_CLASSES):
        above = above_image(row)
        what = f"memory above the image of {name}, grid {row['grid']:g} mm"
        yield what, f"{above / 1e3:.1f} GB", f"at most {LARGE_MB / 1e3:g} GB", above <= LARGE_MB


def ceiling(row: dict[str, Any], most: dict[str, float]) -> float:
    """GFLOP a second that the machine can do at a row's precision."""
    return 1e3 * (most["tflops_fp32"] if "fp32" in row["what"] else most["tflops"])


def reached(row: dict[str, Any], most: dict[str, float]) -> float:
    """What a row's convolutions reach of the ceiling."""
    return float(row["convolution_gflop"] / row["convolution_seconds"] / ceiling(row, most))


def above_image(row: dict[str, Any]) -> float:
    """MB at the peak, without what was held before and without the image as float32."""
    return float(row["peak_mb"] - row["start_mb"] - row["image_mb"])


def share_of_loading(found: dict[str, Any]) -> float:
    """Of an iteration's processor time."""
    return float(found["cpu_seconds_a_batch"] / found["seconds"] / found["threads"])
