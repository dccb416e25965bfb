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
TWIN = {"cached": "cached-supervised", "unet": "supervised"}  # by network
MAIN = {"cached": "cached-unrolled", "unet": "recycling"}  # what the other arms change one thing of
STRUCTURES = ("anterior", "posterior")
MEASURES = (("dice", "Dice", 3), ("hd95_mm", "HD95 mm", 2), ("nsd", "NSD", 3))
LEARNT = study.HERE / "learnt.md"  # what a person concludes from the tables
SHIPPED = study.RESULTS / "shipped.json"

Arms = dict[str, list[dict]]


def main() -> int:
    """Tables and a picture of every budget."""
    found = finished()
    if not found:
        raise SystemExit(f"{study.RESULTS}: holds no result yet; run Testing/study/run.py first.")
    parts = [HEAD, LEARNT.read_text(encoding="utf-8").strip() if LEARNT.is_file() else "", shipped()]
    for budget, arms in found.items():
        parts += [f"## {budget:g} core-minutes", scores(arms), structures(arms), curves(arms)]
        parts.append(comparisons(arms, TWIN, "the supervised twin"))
        parts.append(comparisons(arms, MAIN, "the main arm of its network"))
        name = f"results-{budget:g}.png"
        picture(arms, DOCS / "images" / name)
        parts.append(f"![Dice of each arm, and over the steps](images/{name})")
    (DOCS / "results.md").write_text("\n\n".join(filter(None, parts)) + "\n", encoding="utf-8")
    return 0


def finished() -> dict[float, Arms]:
    """Results of each budget by arm, the best arm first."""
    found: dict[float, Arms] = defaultdict(lambda: defaultdict(list))
    for file in sorted(study.RESULTS.glob("*/*.json")):
        result = json.loads(file.read_text(encoding="utf-8"))
        found[float(file.parent.name.split("-")[0])][result["arm"]].append(result)
    return {b: dict(sorted(found[b].items(), key=lambda each: -by_case(each[1], "dice").mean())) for b in sorted(found)}


HEAD = """# Results

Written by `Testing/study/report.py` from the runs of [the study](../Testing/study/README.md): 28 validation cases of
MSD Task04 Hippocampus, no person in both parts, native grid. `core-min` is the processor time of a row's training on
one thread, that of an ensemble all its members' together; arms of equal time have other numbers of iterations. Dice,
NSD at 1 mm and HD95 are means over the two structures and the cases, with five DDIM steps; intervals are 95 %, by
bootstrap over cases. ECE and AUROC (whether the entropy finds the wrong voxels) are measured within 5 voxels of the
structures.
Settings: [Testing/study/base.json](../Testing/study/base.json) and [arms](../Testing/study/arms)."""


MODEL = """## The shipped model

By `python Testing/study/shipped.py --data DATA`. Processors round differently: on the one that
[its page](models/hippocampus.md) was measured on the first row is 0.8906."""


def scores(arms: Arms) -> str:
    """A row for each arm."""
    lines = [
        "| arm | seeds | core-min | Dice (95 % interval) | between seeds | DDPM | step 1 → 5 | HD95 mm | NSD | "
        "ECE | AUROC | iterations | core-s a case |",
        "| --- " * 13 + "|",
    ]
    for arm, results in arms.items():
        dice = by_case(results, "dice")
        low, high = interval(dice)
        seeds = [r["dice_mean"] for r in results]
        spread = f"±{np.std(seeds, ddof=1):.4f}" if len(seeds) > 1 else ""
        steps = [r["dice_by_step"] for r in results if r.get("dice_by_step")]
        curve = f"{np.mean(steps, axis=0)[0]:.4f} → {np.mean(steps, axis=0)[-1]:.4f}" if steps else ""
        ddpm = f"{np.mean([r['dice_ddpm'] for r in results]):.4f}" if "dice_ddpm" in results[0] else ""
        hd95, nsd, ece, auroc = (by_case(results, key).mean() for key in ("hd95_mm", "nsd", "ece", "auroc"))
        minutes = "/".join(dict.fromkeys(f"{r['budget_core_minutes']:g}" for r in results))
        count = "/".join(str(r["iterations"]) for r in results if "iterations" in r)
        cost = f"{np.mean([r['cpu_seconds_per_case'] for r in results]):.2f}" if _timed(results) else ""
        lines.append(
            f"| {arm} | {len(results)} | {minutes} | {dice.mean():.4f} ({low:.4f}–{high:.4f}) | {spread} | {ddpm} | "
            f"{curve} | {hd95:.2f} | {nsd:.4f} | {ece:.4f} | {auroc:.3f} | {count} | {cost} |"
        )
    return "\n".join(lines)


def structures(arms: Arms) -> str:
    """Dice, HD95 and NSD of each structure with intervals."""
    names = [f"{what} {structure}" for _, what, _ in MEASURES for structure in STRUCTURES]
    lines = ["Each structure:", "", f"| arm | {' | '.join(names)} |", "| --- " * (1 + len(names)) + "|"]
    for arm, results in arms.items():
        cells = []
        for key, _, digits in MEASURES:
            for structure in range(len(STRUCTURES)):
                values = by_case(results, key, structure)
                low, high = interval(values)
                cells.append(f"{values.mean():.{digits}f} ({low:.{digits}f}–{high:.{digits}f})")
        lines.append(f"| {arm} | {' | '.join(cells)} |")
    return "\n".join(lines)


def curves(arms: Arms) -> str:
    """Dice with 1 to 10 steps, of the arms that were measured so."""
    found = {arm: curve for arm, results in arms.items() if (curve := _curve(results))}
    if not found:
        return ""
    counts = list(next(iter(found.values())))
    lines = ["Dice by the number of DDIM steps (first seed):", "", f"| arm | {' | '.join(map(str, counts))} |"]
    lines.append("| --- " * (1 + len(counts)) + "|")
    lines += [f"| {arm} | {' | '.join(f'{curve[k]:.4f}' for k in counts)} |" for arm, curve in found.items()]
    return "\n".join(lines)


def shipped() -> str:
    """The shipped model, measured by shipped.py."""
    if not SHIPPED.is_file():
        return ""
    result = json.loads(SHIPPED.read_text(encoding="utf-8"))
    first, *others = ({"cases": result["cases"], "dice": dice} for dice in result["dice"].values())
    lines = ["| | Dice (95 % interval) | less 5 steps | p (Wilcoxon) | better / worse in cases |", "| --- " * 5 + "|"]
    for name, each in zip(result["dice"], (first, *others), strict=True):
        values = by_case([each], "dice")
        row = f"| {name} | {values.mean():.4f} ({{:.4f}}–{{:.4f}}) |".format(*interval(values))
        if each is not first:
            difference, _, p = paired([each], [first], "dice")
            change = values - by_case([first], "dice")
            row += f" {difference:+.4f} | {p:.2g} | {(change > 0).sum()} / {(change < 0).sum()} |"
        else:
            row += " | | |"
        lines.append(row)
    return MODEL + "\n\n" + "\n".join(lines)


def comparisons(arms: Arms, others: dict[str, str], what: str) -> str:
    """Each arm against the one of `others` that has its network, case by case; K seeds against K seeds if there are."""
    lines = []
    for arm, results in arms.items():
        name = others[network(results)]
        together = f"{name} {arm.rpartition(' ')[2]}"
        other = together if together in arms and together != arm else name
        if arm in (name, together, *TWIN.values()) or other not in arms:
            continue
        dice, (low, high), p = paired(results, arms[other], "dice")
        ece = by_case(results, "ece").mean() / by_case(arms[other], "ece").mean()
        lines.append(f"| {arm} | {other} | {dice:+.4f} ({low:+.4f} to {high:+.4f}) | {p:.2g} | {ece:.2f} |")
    if not lines:
        return ""
    head = ["| arm | other | Dice, difference (95 % interval) | p (Wilcoxon) | ECE / other's |", "| --- " * 5 + "|"]
    return f"Paired with {what}:\n\n" + "\n".join(head + lines)


def network(results: Sequence[dict]) -> str:
    """The network of an arm; ensembles and nnU-Net, which keep no settings, stand beside the finalists' network."""
    name: str = results[0].get("config", {}).get("network", {}).get("name", "cached")
    return name


def picture(arms: Arms, file: Path) -> None:
    """Dice with intervals beside Dice over the number of steps; without that, beside the best half."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 0.32 * len(arms) + 2.2), layout="constrained")
    lines = {arm: curve for arm, results in arms.items() if (curve := _curve(results))}
    _scores(arms, left)
    if lines:
        for arm, curve in lines.items():
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


def _timed(results: Sequence[dict]) -> bool:
    return all("cpu_seconds_per_case" in r for r in results)


def _curve(results: Sequence[dict]) -> dict[int, float]:
    curves = [r["dice_by_steps"] for r in results if r.get("dice_by_steps")]
    return {int(k): float(np.mean([c[k] for c in curves])) for k in curves[0]} if curves else {}


if __name__ == "__main__":
    sys.exit(main())
