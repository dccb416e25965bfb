"""How often the tests tried something that must not lose or falsify anything; the page of reliability shows it."""

import os
from collections import Counter

KINDS = (
    "malformed and odd inputs",
    "files and requests with bytes changed by chance",
    "orientations and formats",
    "faults injected: memory, disk, loss",
    "processes killed",
)
counted: Counter[tuple[str, str]] = Counter()  # (kind, test) -> how often


def tried(kind: str) -> None:
    """Count once more for the test that runs."""
    assert kind in KINDS
    counted[kind, os.environ["PYTEST_CURRENT_TEST"].rpartition(" ")[0]] += 1


def result(failed: set[str]) -> dict[str, dict[str, int]]:
    """For each kind: in how many tests, how often tried, and in how many tests something was lost or wrong."""
    found = {}
    for kind in KINDS:
        tests = {test: times for (what, test), times in counted.items() if what == kind}
        found[kind] = {"tests": len(tests), "tried": sum(tests.values()), "wrong": len(failed & set(tests))}
    return found


def total(found: list[dict[str, dict[str, int]]]) -> dict[str, dict[str, int]]:
    """What several processes counted, each with tests of its own, in one."""
    counts = ("tests", "tried", "wrong")
    return {kind: {count: sum(each[kind][count] for each in found) for count in counts} for kind in KINDS}
