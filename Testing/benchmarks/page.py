"""docs/performance.md from what run.py measured, with its plots."""

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

HERE = Path(__file__).resolve().parent
DOCS = HERE.parents[1] / "docs"
LEVERS = HERE / "levers.md"  # what a person says of them
STAGES = ("read", "prepare", "network", "diffusion and blending", "resample back", "write", "other")
# a row, what it is divided by, and at most how much that should be
GOALS = (
    ("unet, five diffusion steps", "unet, supervised twin, one pass", 5.2),
    ("cached, five diffusion steps", "cached, supervised twin, one pass", 1.6),
    ("unet, five diffusion steps", "nnU-Net's network, fp32, mirrored", 0.7),
    ("cached, five diffusion steps", "nnU-Net's network, mirrored", 0.5),
    ("unet, training step with recycling", "MONAI DiffusionModelUNet, training step with recycling", 0.6),
)

WHY_NOT_STRAIGHT = """Time grows with the voxels, but by more where a volume passes three patches: from there on
windows overlap by half (here between 64^3 and 96^3). Steps cost the light denoiser alone, so ten cost less than twice
one. Classes cost the network little and the diffusion's formulas, which are bound by memory, in proportion. Samples
cost what they are. Several processes on the same cores share them without loss, since threads that wait go to sleep
soon (`GOMP_SPINCOUNT`, which the command line sets)."""

HEAD = """# Performance

Written by `make bench` (`Testing/benchmarks/run.py`). Times of networks are medians of interleaved rounds in one run,
those of volumes are of as many rounds as stand there, the points of the plots of one; all on one machine:
**{processor}, {cores} cores, GPU: {gpu}, torch {torch}**. Only ratios within a table carry over to another machine; run
it on yours. `diffseg bench` prints the first table for our own networks, and needs no further package."""


def write(found: dict[str, Any]) -> str:
    """Write the page; returns its text."""
    parts = [HEAD.format(**found["machine"])]
    if "networks" in found:
        parts += [networks(found["networks"]), goals(found["networks"])]
    if "volumes" in found:
        parts.append(volumes(found["volumes"]))
    if "growth" in found:
        picture(found["growth"], DOCS / "images" / "performance.png")
        parts.append(growth())
    if "processes" in found:
        parts.append(processes(found["processes"]))
    if "loading" in found:
        parts.append(loading(found["loading"]))
    parts.append(LEVERS.read_text(encoding="utf-8").strip())
    text = "\n\n".join(parts) + "\n"
    (DOCS / "performance.md").write_text(text, encoding="utf-8")
    return text


def networks(found: dict[str, Any]) -> str:
    """The first table."""
    most, profiled = found["ceilings"], "profiled_seconds" in found["rows"][0]
    more = " in convolutions | their ceiling |" if profiled else ""
    lines = [
        "## Networks",
        "",
        f"One volume of 64 x 64 x 64 voxels, 3 classes, default networks, {found['precision']} unless said. "
        f"Ceilings measured in the same run: the fastest large convolution {most['tflops']:.2f} TFLOP/s, in float32 "
        f"{most['tflops_fp32']:.2f}; copying memory {most['gigabytes_per_second']:.1f} GB/s."
        + " The last columns: the part of the time that torch's profiler finds in the convolutions, and how near "
        "to the ceiling these are." * profiled,
        "",
        f"| | M parameters | s (range) | CPU-s | GFLOP | of the ceiling | peak MB |{more}",
        "| --- | --- | --- | --- | --- | --- | --- |" + " --- | --- |" * profiled,
    ]
    for row in found["rows"]:
        ceiling = 1e3 * (most["tflops_fp32"] if "fp32" in row["what"] else most["tflops"])
        share = row["gflop"] / row["seconds"] / ceiling
        line = (
            f"| {row['what']} | {row['parameters'] / 1e6:.1f} | {row['seconds']:.3f} ({row['fastest']:.3f}–"
            f"{row['slowest']:.3f}) | {row['cpu_seconds']:.2f} | {row['gflop']:.0f} | {share:.0%} | "
            f"{row['memory_mb']:.0f} |"
        )
        if profiled:
            inside = row["convolution_seconds"] / row["profiled_seconds"]
            reached = row["convolution_gflop"] / row["convolution_seconds"] / ceiling
            line += f" {inside:.0%} | {reached:.0%} |"
        lines.append(line)
    return "\n".join(lines)


def goals(found: dict[str, Any]) -> str:
    """Ratios of rows."""
    seconds = {row["what"]: row["seconds"] for row in found["rows"]}
    lines = ["| ratio of times | measured | goal | |", "| --- | --- | --- | --- |"]
    for one, other, most in GOALS:
        ratio = seconds[one] / seconds[other]
        lines.append(f"| {one} / {other} | {ratio:.3f} | at most {most} | {'reached' if ratio <= most else 'MISSED'} |")
    return "\n".join(lines)


def volumes(rows: list[dict[str, Any]]) -> str:
    """The second table: from file to file."""
    lines = [
        "## From file to file",
        "",
        "`cached`, five steps, one volume read from `.nii.gz` and its mask written, in a process of its own. Peak "
        "memory is of the whole process; the last column leaves out the image as float32 and what was held before. "
        "Medians of so many rounds after a first one that warms up; 0 is that first one alone.",
        "",
        f"| voxels | classes | grid mm | rounds | s | {' | '.join(STAGES)} | peak MB | above image |",
        "| --- " * (7 + len(STAGES)) + "|",
    ]
    for row in rows:
        shape = " x ".join(map(str, row["shape"][::-1]))
        shares = " | ".join(f"{row[stage] / row['seconds']:.0%}" for stage in STAGES)
        above = row["peak_mb"] - row["start_mb"] - row["image_mb"]
        lines.append(
            f"| {shape} | {row['classes']} | {row['grid']:g} | {row['rounds']} | {row['seconds']:.2f} | {shares} "
            f"| {row['peak_mb']:.0f} | {above:.0f} |"
        )
    return "\n".join(lines)


def growth() -> str:
    """The plots, and why they look as they do."""
    picture = "![time and memory against size, classes, steps, samples](images/performance.png)"
    return "\n\n".join(("## As work grows", picture, WHY_NOT_STRAIGHT))


def processes(rows: list[dict[str, Any]]) -> str:
    """Several at once."""
    lines = ["| processes at once | volumes of 64 x 64 x 64 a second |", "| --- | --- |"]
    return "\n".join(lines + [f"| {row['processes']} | {row['volumes_a_second']:.2f} |" for row in rows])


def loading(found: dict[str, Any]) -> str:
    """What data costs a training."""
    share = found["cpu_seconds_a_batch"] / found["seconds"] / found["threads"]
    return "\n".join(
        (
            "## Data in training",
            "",
            f"Cases of the size of a hippocampus, batches of {found['batch']}, every augmentation, `cached` with 16 to",
            f"96 channels, trained unrolled: an iteration takes {found['seconds']:.2f} s. It waits for its batch for",
            f"{found['waited']:.2%} of that, since a thread cuts the next one meanwhile; cutting takes",
            f"{found['cpu_seconds_a_batch']:.3f} s of one core, {share:.1%} of the processor time.",
        )
    )


def picture(found: dict[str, Any], path: Path) -> None:
    """Time and memory of each series."""
    series = list(found)
    figure, axes = plt.subplots(2, len(series), figsize=(3.4 * len(series), 5.6), layout="constrained")
    for column, name in enumerate(series):
        rows = found[name]
        x = [row["shape"][0] ** 3 / 1e6 if name == "size" else row[name] for row in rows]
        network = [row["network"] for row in rows]
        axes[0][column].plot(x, [row["seconds"] for row in rows], "o-", label="all")
        axes[0][column].plot(x, network, "s--", label="network")
        axes[1][column].plot(x, [row["peak_mb"] - row["start_mb"] for row in rows], "o-", color="tab:green")
        axes[1][column].set_xlabel("million voxels" if name == "size" else name)
        for row in (0, 1):
            axes[row][column].set_ylim(bottom=0)
            axes[row][column].set_xlim(left=0)
            axes[row][column].grid(alpha=0.3)
    axes[0][0].set_ylabel("seconds")
    axes[1][0].set_ylabel("peak MB above the start")
    axes[0][0].legend()
    figure.savefig(path, dpi=90)
    plt.close(figure)
