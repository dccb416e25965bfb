"""Write docs/results.md and its pictures from the results of finished runs.

python Testing/study/report.py
"""

import json
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
from compare import by_case, interval, paired
from matplotlib.axes import Axes

import study

matplotlib.use("Agg")
import matplotlib.pyplot as plt

DOCS = study.HERE.parents[1] / "docs"
TWIN = {"cached": "cached-supervised", "unet": "supervised"}
LEARNT = study.HERE / "learnt.md"  # what a person concludes from the tables

Arms = dict[str, list[dict]]


def main() -> int:
    """Tables of every budget, pictures of the largest."""
    found: dict[float, Arms] = defaultdict(lambda: defaultdict(list))
    for file in sorted(study.RESULTS.glob("*/*.json")):
        result = json.loads(file.read_text(encoding="utf-8"))
        found[float(file.parent.name.split("-")[0])][result["arm"]].append(result)
    if not found:
        raise SystemExit(f"{study.RESULTS}: holds no result yet; run Testing/study/run.py first.")
    parts = [HEAD, LEARNT.read_text(encoding="utf-8").strip() if LEARNT.is_file() else ""]
    for budget in sorted(found):
        arms = dict(sorted(found[budget].items(), key=lambda item: -by_case(item[1], "dice").mean()))
        parts += [f"## {budget:g} core-minutes", scores(arms), comparisons(arms)]
        name = f"results-{budget:g}.png"
        picture(arms, DOCS / "images" / name)
        parts.append(f"![Dice of each arm, and over the steps](images/{name})")
    (DOCS / "results.md").write_text("\n\n".join(filter(None, parts)) + "\n", encoding="utf-8")
    return 0


HEAD = """# Results

Written by `Testing/study/report.py` from the runs of [the study](../Testing/study/README.md): 28 validation cases of
MSD Task04 Hippocampus, no person in both parts, native grid. Every run of a table has the same processor time on one
thread. Dice, NSD at 1 mm and HD95 are means over the two structures and the cases; the interval is a 95 % bootstrap
over cases. ECE and AUROC (whether the entropy finds the wrong voxels) are measured within 5 voxels of the structures.
Settings: [Testing/study/base.json](../Testing/study/base.json) and [arms](../Testing/study/arms)."""


def scores(arms: Arms) -> str:
    """A row for each arm, the best first."""
    lines = [
        "| arm | seeds | Dice (95 % interval) | anterior | posterior | between seeds | HD95 mm | NSD | step 1 → 5 | "
        "ECE | AUROC | iterations | core-s a case |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for arm, results in arms.items():
        dice = by_case(results, "dice")
        low, high = interval(dice)
        sides = np.mean([r["dice"] for r in results], axis=(0, 1))
        seeds = [r["dice_mean"] for r in results]
        spread = f"±{np.std(seeds, ddof=1):.4f}" if len(seeds) > 1 else ""
        steps = [r["dice_by_step"] for r in results if r.get("dice_by_step")]
        curve = f"{np.mean(steps, axis=0)[0]:.4f} → {np.mean(steps, axis=0)[-1]:.4f}" if steps else ""
        hd95, nsd, ece, auroc = (by_case(results, key).mean() for key in ("hd95_mm", "nsd", "ece", "auroc"))
        count = "/".join(str(r["iterations"]) for r in results if "iterations" in r)
        cost = np.mean([r["cpu_seconds_per_case"] for r in results]) if "cpu_seconds_per_case" in results[0] else None
        lines.append(
            f"| {arm} | {len(results)} | {dice.mean():.4f} ({low:.4f}–{high:.4f}) | {sides[0]:.4f} | {sides[1]:.4f} | "
            f"{spread} | {hd95:.2f} | {nsd:.4f} | {curve} | {ece:.4f} | {auroc:.3f} | {count} | "
            f"{'' if cost is None else f'{cost:.2f}'} |"
        )
    return "\n".join(lines)


def comparisons(arms: Arms) -> str:
    """Each arm against the supervised twin of its network, case by case."""
    lines = []
    for arm, results in arms.items():
        twin = next(name for kind, name in TWIN.items() if kind == "unet" or arm.startswith(kind))
        if arm == twin or twin not in arms:
            continue
        dice, (low, high), p = paired(results, arms[twin], "dice")
        ece = by_case(results, "ece").mean() / by_case(arms[twin], "ece").mean()
        lines.append(f"| {arm} | {twin} | {dice:+.4f} ({low:+.4f} to {high:+.4f}) | {p:.2g} | {ece:.2f} |")
    if not lines:
        return ""
    head = ["| arm | twin | Dice, difference (95 % interval) | p (Wilcoxon) | ECE / twin's |", "| --- " * 5 + "|"]
    return "Paired with the supervised twin:\n\n" + "\n".join(head + lines)


def picture(arms: Arms, file: Path) -> None:
    """Dice with intervals beside Dice over the number of steps; without that, beside the best half."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 0.32 * len(arms) + 2.2), layout="constrained")
    curves = {arm: curve for arm, results in arms.items() if (curve := _curve(results))}
    _scores(arms, left)
    if curves:
        for arm, curve in curves.items():
            right.plot(list(curve), list(curve.values()), marker="o", markersize=3, label=arm)
        right.set_xlabel("number of sampling steps (DDIM)")
        right.set_ylabel("Dice")
        right.grid(alpha=0.3)
        right.legend(fontsize=7, ncols=2)
    elif len(arms) > 5:
        _scores(dict(list(arms.items())[: 1 + len(arms) // 2]), right)
    else:
        right.remove()
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=110)
    plt.close(figure)


def _scores(arms: Arms, axes: Axes) -> None:
    """A row for each arm."""
    for row, (_, results) in enumerate(arms.items()):
        dice = by_case(results, "dice")
        low, high = interval(dice)
        axes.plot([low, high], [row, row], color="tab:blue", linewidth=1.2)
        axes.plot(
            [r["dice_mean"] for r in results], [row] * len(results), "o", color="tab:blue", markersize=3, alpha=0.5
        )
        axes.plot(dice.mean(), row, "D", color="black", markersize=4)
    axes.set_yticks(range(len(arms)), list(arms))
    axes.invert_yaxis()
    axes.set_xlabel("Dice; dots: seeds, line: 95 % interval over cases")
    axes.grid(axis="x", alpha=0.3)


def _curve(results: Sequence[dict]) -> dict[int, float]:
    curves = [r["dice_by_steps"] for r in results if r.get("dice_by_steps")]
    return {int(k): float(np.mean([c[k] for c in curves])) for k in curves[0]} if curves else {}


if __name__ == "__main__":
    sys.exit(main())
