"""docs/performance.md from what run.py measured, with its plots."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import figures
import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

HERE = Path(__file__).resolve().parent
DOCS = HERE.parents[1] / "docs"
LEVERS = HERE / "levers.md"  # what a person says of them
STAGES = ("read", "prepare", "network", "diffusion and blending", "resample back", "write", "other")

WHY_NOT_STRAIGHT = """Time grows with the voxels, but by more where a volume passes three patches: from there on
windows overlap by half (here between 64^3 and 96^3). Memory grows with the voxels while the volume is one window; of
several it is that of one window's maps and of the sums of all, and where these would pass 1 GB the volume goes in
layers and memory stays. Steps cost the light denoiser alone, so ten cost less than twice one. Classes cost the
network little while the volume is one window, and the diffusion's formulas, which are bound by memory, in proportion;
where the state of all classes would pass 1 GB, one window becomes several that overlap (128^3 with 100 classes in the
table: four times the network's time of 10). Samples cost what they are, one after the other, in the same memory.
Several processes on the same cores share them without loss, since threads that wait go to sleep soon
(`GOMP_SPINCOUNT`, which the command line sets), and each has its own memory."""

HEAD = """# Performance

Written by `make bench` (`Testing/benchmarks/run.py`) on {machine}, where nothing else is said. Times of networks are
medians of interleaved rounds in one run, those of volumes are of as many rounds as stand there, the points of the plots
of three, with their range. Only ratios within a table carry over to another machine; run it on yours. `diffseg bench`
prints the first table for our own networks, and needs no further package."""


def write(found: dict[str, Any]) -> str:
    """Write the page; returns its text."""
    machines = {part: named(each) for part, each in found["machines"].items()}
    first = machines.get("networks") or next(iter(machines.values()))
    parts = [HEAD.format(machine=f"**{first}**"), figures.table(found)]
    sections: dict[str, Callable[[Any], str]] = {
        "networks": networks,
        "volumes": volumes,
        "growth": growth,
        "processes": processes,
        "loading": loading,
        "worker": worker,
    }
    for part in (part for part in sections if part in found):
        there = f"\n\nMeasured on another machine: {machines[part]}." * (machines[part] != first)
        parts.append(sections[part](found[part]) + there)
    if "growth" in found:
        picture(found["growth"], found.get("processes", []), DOCS / "images" / "performance.png")
    parts.append(LEVERS.read_text(encoding="utf-8").strip())
    text = "\n\n".join(parts) + "\n"
    (DOCS / "performance.md").write_text(text, encoding="utf-8")
    return text


def named(machine: dict[str, str]) -> str:
    """A machine in words."""
    return "{processor} ({kind}), {cores} cores, GPU: {gpu}, torch {torch}".format(**machine)


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
        share = row["gflop"] / row["seconds"] / figures.ceiling(row, most)
        line = (
            f"| {row['what']} | {row['parameters'] / 1e6:.1f} | {row['seconds']:.3f} ({row['fastest']:.3f}–"
            f"{row['slowest']:.3f}) | {row['cpu_seconds']:.2f} | {row['gflop']:.0f} | {share:.0%} | "
            f"{row['memory_mb']:.0f} |"
        )
        if profiled:
            inside = row["convolution_seconds"] / row["profiled_seconds"]
            line += f" {inside:.0%} | {figures.reached(row, most):.0%} |"
        lines.append(line)
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
        lines.append(
            f"| {shape} | {row['classes']} | {row['grid']:g} | {row['rounds']} | {row['seconds']:.2f} | {shares} "
            f"| {row['peak_mb']:.0f} | {figures.above_image(row):.0f} |"
        )
    return "\n".join(lines)


def growth(_found: dict[str, Any]) -> str:
    """The plots, and why they look as they do."""
    picture = "![time and memory against size, classes, steps, samples, processes](images/performance.png)"
    return "\n\n".join(("## As work grows", picture, WHY_NOT_STRAIGHT))


def processes(rows: list[dict[str, Any]]) -> str:
    """Several at once."""
    lines = ["| processes at once | volumes of 64 x 64 x 64 a second |", "| --- | --- |"]
    return "\n".join(lines + [f"| {row['processes']} | {row['volumes_a_second']:.2f} |" for row in rows])


def loading(found: dict[str, Any]) -> str:
    """What data costs a training."""
    share = figures.share_of_loading(found)
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


def worker(found: dict[str, Any]) -> str:
    """A worker's first step."""
    first, network, beyond, worst = (1e3 * found[key] for key in ("first_step", "network", "beyond", "worst"))
    return "\n".join(
        (
            "## A warm worker",
            "",
            "From the request through the pipe to the first step's mask, `hippocampus` on 36 x 50 x 36 voxels, medians",
            f"of {found['rounds']} rounds: {first:.0f} ms. The network alone takes {network:.0f} ms, measured",
            f"in between in another process; beyond it are {beyond:.0f} ms, in the worst round {worst:.0f} ms.",
        )
    )


def picture(found: dict[str, Any], processes: list[dict[str, Any]], path: Path) -> None:
    """Time and memory of each series, medians with their range."""
    series = {**found, "processes": processes} if processes else found
    figure, axes = plt.subplots(2, len(series), figsize=(3.1 * len(series), 5.6), layout="constrained")
    for column, (name, rows) in enumerate(series.items()):
        x = [row["shape"][0] ** 3 / 1e6 if name == "size" else row[name] for row in rows]
        seconds = [row["seconds"] for row in rows]
        spread = [
            [row["seconds"] - row["fastest"] for row in rows],
            [row["slowest"] - row["seconds"] for row in rows],
        ]
        axes[0][column].errorbar(x, seconds, spread, fmt="o-", capsize=3, label="all")
        axes[0][column].plot(x, [row["network"] for row in rows], "s--", label="network")
        axes[1][column].plot(x, [row["peak_mb"] - row["start_mb"] for row in rows], "o-", color="tab:green")
        axes[1][column].set_xlabel({"size": "million voxels", "processes": "processes at once"}.get(name, name))
        for row in (0, 1):
            axes[row][column].set_ylim(bottom=0)
            axes[row][column].set_xlim(left=0)
            axes[row][column].grid(alpha=0.3)
    axes[0][0].set_ylabel("seconds a volume")
    axes[1][0].set_ylabel("peak MB above the start")
    axes[0][0].legend()
    figure.savefig(path, dpi=80)
    plt.close(figure)
