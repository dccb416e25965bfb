"""The arms of the study and where their results stand."""

import json
from pathlib import Path
from typing import Any

from DiffSegLib import config
from DiffSegLib.presets import PRESETS

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"


def arms() -> list[str]:
    """The names of all arms."""
    return sorted(path.stem for path in (HERE / "arms").glob("*.json"))


def why(arm: str) -> str:
    """What an arm is for."""
    text: str = _read(HERE / "arms" / f"{arm}.json")["why"]
    return text


def settings(arm: str, seed: int) -> config.Config:
    """The base with what the arm changes.

    An arm with a preset keeps the preset's own choices; data, patch and the network's size stay those of the base, so
    that all arms spend their time on networks of one size.
    """
    data, change = _read(HERE / "base.json"), _read(HERE / "arms" / f"{arm}.json")
    if "preset" in change:
        chosen = PRESETS[change["preset"]]
        base = {
            "data": data["data"],
            "network": data["network"],
            "training": {"batch": data["training"]["batch"], "validations": data["training"]["validations"]},
        }
        for section in {**chosen, **base}:
            data[section] = {**chosen.get(section, {}), **base.get(section, {})}
    for section, values in change.items():
        if section not in ("why", "preset"):
            data[section] = {**data.get(section, {}), **values}
    data["training"] = {**data["training"], "seed": seed}
    return config.from_json(data, f"arm {arm}")


def result_file(arm: str, seed: int, budget: float) -> Path:
    """Where the result of a finished run stands."""
    return RESULTS / f"{budget:g}-core-minutes" / f"{arm}.seed-{seed}.json"


def _read(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found
