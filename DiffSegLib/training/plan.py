"""What stands before a training: the data checked, the cases split, the settings that nobody decided proposed."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from DiffSegLib import events
from DiffSegLib.config import Config
from DiffSegLib.data.cases import Case, Dataset, missing_sentence
from DiffSegLib.data.checks import Facts, examine
from DiffSegLib.data.datasets import load_dataset
from DiffSegLib.data.fingerprint import Fingerprint, fingerprint
from DiffSegLib.data.splits import split
from DiffSegLib.errors import InputError
from DiffSegLib.training.proposal import MEMORY, propose


@dataclass(frozen=True, eq=False)
class Plan:
    """What is decided before a training. reasons: proposed key -> why. left_out: sentences on what is wrong.

    division: a sentence on which cases train and validate.
    """

    dataset: Dataset
    training: list[Case]
    validation: list[Case]
    facts: dict[str, Facts]
    fingerprint: Fingerprint
    settings: Config
    reasons: dict[str, str]
    left_out: list[str]
    division: str

    def to_json(self) -> dict[str, Any]:
        """The `fingerprint.json` of a run folder."""
        cases = {"training_cases": len(self.training), "validation_cases": len(self.validation)}
        return {**self.fingerprint.to_json(), **cases, "proposed": self.reasons, "left_out": self.left_out}


def make_plan(
    data: Path,
    settings: Config,
    open_keys: Collection[str] = (),
    *,
    split_file: Path | None = None,
    skip_bad: bool = False,
    frozen: bool = False,
    memory: float = MEMORY,
    listener: events.Listener = events.silent,
) -> Plan:
    """Read and check the labelled folder `data` and decide the keys of `settings` that are open.

    skip_bad: go on without bad cases, each told as a warning. frozen: `split_file` is that of a training that goes on,
    so what it does not name does not matter. memory: GiB that the proposal may plan with.
    Where the data set has regions, classes overlap. Raises one InputError that lists everything wrong with the data.
    """
    dataset = load_dataset(data, skip_missing=True)
    cases = list(dataset.cases)
    missing = () if skip_bad or frozen else dataset.missing
    if len(cases) > 1 and not missing:
        chosen = {case.name for part in split(dataset, split_file) for case in part}
        cases = [case for case in cases if case.name in chosen]
    found = examine(dataset, cases, listener)
    if missing:  # told with everything else that is wrong
        found.problems.setdefault("", []).append(missing_sentence(dataset.folder, missing))
    if found.problems and not skip_bad:
        raise InputError(found.message(dataset, missing))
    lacking = () if frozen else dataset.missing
    bad = [text for texts in found.problems.values() for text in texts]
    told = [missing_sentence(dataset.folder, lacking)] if lacking else []
    for text in [f"Left out: {text}" for text in told + bad] + found.warnings:
        listener(events.make("warning", text=text))
    training, validation = split(dataset, split_file, skip=found.problems)
    division = _division(training, validation, split_file or data / "splits.json")
    left_out = [f"{text} is missing" for _, text in lacking] + bad
    prints = fingerprint(dataset, found.facts)
    settings, reasons = propose(prints, settings, open_keys, memory)
    return Plan(dataset, training, validation, found.facts, prints, settings, reasons, left_out, division)


def _division(training: list[Case], validation: list[Case], source: Path) -> str:
    names = ", ".join([case.name for case in validation[:3]] + ["..."] * (len(validation) > 3))
    how = f"drawn at random. Where a person has several cases, keep them together with {source} or --split FILE"
    how = f"as {source} names them" if source.is_file() else f"{how} (docs/datasets.md)"
    return f"Cases for training: {len(training)}, for validation: {len(validation)} ({names}), {how}."
