"""Which results replace each other: those of one model at one place of a volume; any other gets a node of its own."""

import itertools
import json
from typing import Any

import numpy as np

from DiffSegLib.scene import nodes
from DiffSegLib.scene.nodes import Box

SAME_PLACE = 0.25  # of what two regions cover together they must share, for one to be the other moved a little


def result_key(volumeNode: Any, model: str, box: Box | None) -> str:
    """The key of a run's answer among those on its volume: "DiffSeg", or the same with the first number free for it.

    It does not hold the volume's name, which may change. model: the name in its card. box: the region, None for the
    whole volume.
    """
    for number in itertools.count(1):
        key = "DiffSeg" if number == 1 else f"DiffSeg {number}"
        node = nodes.find_segmentation(volumeNode, key)
        if node is None or _is_of(node, model, box):
            return key
    raise AssertionError  # the numbers do not end


def _is_of(node: Any, model: str, box: Box | None) -> bool:
    """Whether a result was made by this model at this place; one that does not tell is taken for it."""
    try:
        made = json.loads(node.GetAttribute(nodes.ATTRIBUTE + "Json") or "{}")
        return made.get("model", model) == model and _is_same(made.get("roi"), box)
    except (ValueError, TypeError, AttributeError):
        return True


def _is_same(first: Any, second: Any) -> bool:
    if first is None or second is None:
        return first is None and second is None
    a, b = np.array(first), np.array(second)
    shared = np.clip(np.minimum(a[:, 1], b[:, 1]) - np.maximum(a[:, 0], b[:, 0]), 0, None).prod()
    return bool(shared > SAME_PLACE * (np.ptp(a, axis=1).prod() + np.ptp(b, axis=1).prod() - shared))
