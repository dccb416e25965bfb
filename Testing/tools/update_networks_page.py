"""Rewrite the table of docs/networks.md: parameters, FLOPs and memory of every network at two sizes.

FLOPs are those of torch.utils.flop_counter, two a multiplication; no tensor has data, so it takes seconds.
"""

import sys
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "networks.md"
BEGIN, END = "<!-- table: Testing/tools/update_networks_page.py -->\n", "<!-- end of table -->"
sys.path.insert(0, str(ROOT))

from DiffSegLib import config  # noqa: E402 - found by the line above
from DiffSegLib.diffusion.process import mask_channels  # noqa: E402
from DiffSegLib.network.build import build  # noqa: E402
from DiffSegLib.network.features import denoise, encode  # noqa: E402
from DiffSegLib.training.memory import training_memory  # noqa: E402

PATCH, CLASSES, BATCH = (64, 64, 64), 3, 2
SIZES = {"default": {}, "fast": config.PRESETS["fast"]["network"]}
ROWS = [("unet", "supervised"), ("unet", "recycling"), ("cached", "recycling")]
ROWS += [("dynunet", "supervised"), ("segresnet", "supervised")]
HEAD = ["size", "network", "M parameters", "image once", "a step", "five steps", "GiB", "GiB, checkpointing"]


def table() -> list[list[str]]:
    """The rows below HEAD: GFLOPs of one 64^3 patch with one channel and three classes; GiB of a training step."""
    return [row(size, name, strategy) for size in SIZES for name, strategy in ROWS]


def row(size: str, name: str, strategy: str) -> list[str]:
    """One network at one size."""
    settings = config.from_json({"network": {**SIZES[size], "name": name}, "diffusion": {"strategy": strategy}})
    with torch.device("meta"):
        network = build(settings.network, 1, CLASSES, settings.diffusion)
        channels = mask_channels(settings.diffusion, CLASSES)
        image, mask, t = torch.empty(1, 1, *PATCH), torch.empty(1, channels, *PATCH), torch.empty(1)
        with FlopCounterMode(display=False) as once:
            features = encode(network, image)
        with FlopCounterMode(display=False) as step:
            denoise(network, features, mask, t)
    a, b = once.get_total_flops() / 1e9, step.get_total_flops() / 1e9
    numbers = [f"{a:.0f}" if a else "", f"{b:.1f}", f"{a + 5 * b:.0f}"]
    if strategy == "supervised":
        numbers = [f"{a + b:.0f}", "", ""]
    memory = []
    for checkpointing in (False, True):
        changed = (
            config.override(settings, ["network.checkpointing=true"]) if checkpointing and name in OWN else settings
        )
        gib = training_memory(changed.network, PATCH, BATCH, 1, CLASSES, settings.diffusion)
        memory.append("" if checkpointing and name not in OWN else f"{gib:.1f}")
    parameters = sum(p.numel() for p in network.parameters()) / 1e6
    label = f"`{name}`, supervised" if strategy == "supervised" and name in OWN else f"`{name}`"
    return [size, label, f"{parameters:.1f}", *numbers, *memory]


OWN = ("unet", "cached")


def cells(text: str) -> list[list[str]]:
    """The cells of the page's table, without its head."""
    lines = text.partition(BEGIN)[2].partition(END)[0].strip().splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


if __name__ == "__main__":
    text = PAGE.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    lines = [HEAD, ["---", "---"] + ["---:"] * 6, *table()]
    body = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    PAGE.write_text(before + BEGIN + body + END + rest.partition(END)[2], encoding="utf-8")
