"""Many cases one after another: found in folders, each written whole or not at all; one that fails stops no other.

How a case is segmented is given from outside: `diffseg predict` does it in its own process, the batch in Slicer on
nodes and in a worker. Meanwhile the next case is read and the last one written. Nothing here needs torch.
"""

import contextlib
import itertools
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from DiffSegLib import events
from DiffSegLib.data.cases import CHANNEL, image_files
from DiffSegLib.data.channels import read_case
from DiffSegLib.data.dicom import find_series
from DiffSegLib.data.files import case_name
from DiffSegLib.data.outputs import BESIDE, OTHER_IMAGE, Outputs, Prediction, is_output
from DiffSegLib.data.sources import sources_of
from DiffSegLib.data.volume import Volume
from DiffSegLib.errors import Cancelled, DiffSegError, EnvironmentProblem, InputError, printable
from DiffSegLib.whole_files import check_folder

MASK = re.compile(r"\.(seg|uncertainty)\.nrrd$", re.IGNORECASE)  # what lies in a folder of images and is none
Case = tuple[str, tuple[Path, ...]]  # name and image files, one per channel or one with all channels


# segments the (C, K, J, I) volume of one case, telling the listener how far it is
Segment = Callable[[Volume, events.Listener], Prediction]


@dataclass
class Outcome:
    """Names of the cases done and skipped, and the sentence for each that failed; of those that a cancel left.

    again: of those done, the ones that were there already, made with another model or other settings.
    """

    done: list[str] = field(default_factory=list)
    again: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    left: list[str] = field(default_factory=list)

    def report(self, program: str, output: Path) -> tuple[int, dict[str, Any]]:
        """Say on stderr what became of the cases; returns the exit code and the answer for `--json`.

        Of several cases the listener was told why each failed, so that here it is only named.
        """
        names = list(map(printable, self.failed))
        is_one = len({*self.done, *self.skipped, *self.failed, *self.left}) == 1
        for name, problem in zip(names, map(printable, self.failed.values()), strict=True) if is_one else ():
            named = name in problem.partition(": ")[0]  # by its file
            print(f"{program}: {problem if named else f'{name}: {problem}'}", file=sys.stderr)
        counts = f"{len(self.done)} done, {len(self.skipped)} skipped, {len(self.failed)} failed"
        counts += f" ({', '.join(names[:9] + ['...'] * (len(names) > 9))})" if names and not is_one else ""
        counts += f", {len(self.again)} of the done for the second time (made otherwise before)" if self.again else ""
        where = printable(f"; the masks are in {output}") if self.done or self.skipped else ""
        if self.left:
            text = f"Segmentation was cancelled: {counts}, {len(self.left)} left{where}"
            print(f"{program}: {text}; the same command with --skip-existing goes on.", file=sys.stderr)
        else:
            print(f"{counts}{where}.", file=sys.stderr)
        answer = {"done": self.done, "again": self.again, "skipped": self.skipped, "failed": self.failed}
        if self.left:
            return 4, {"error": "Segmentation was cancelled.", **answer, "left": self.left}
        if self.failed and not self.done and not self.skipped:
            return 2, answer
        return (1 if self.failed else 0), answer


def find_cases(inputs: list[Path], channels: int = 1) -> list[Case]:
    """(case name, image files) pairs, folders searched one level deep, in the order of names.

    A folder without images may hold DICOM series, itself or in the folders in it; each is a case. Its `.seg.nrrd` and
    `.uncertainty.nrrd` are no images, nor is what a record beside it names, so that masks may lie beside their images.

    channels: of the model; with several, the files CASE_0000, CASE_0001, ... of a folder are the channels of one case,
    and any other file must hold all channels itself. With one channel `_0000` is cut off where every file has it.
    Raises InputError for a missing path, a folder without images, two cases of one name, a channel without file,
    or a name that ends in .step-1 or .uncertainty, as the files beside a mask do.
    """
    files: list[Path] = []
    series: dict[str, Path] = {}
    for path in inputs:
        if path.is_dir():
            found = [file for file in image_files(path) if not MASK.search(file.name) and not is_output(file)]
            dicom = {} if any(not file.is_dir() for file in found) else find_series(path)
            found = [file for file in found if file not in {slices.parent for slices in dicom.values()}]
            if not found and not dicom:
                if image_files(path):
                    text = "holds only masks, as DiffSeg writes them; name the folder of their images"
                    raise InputError(f"{path}: {text}.")
                kinds = ".nii.gz, .nii, .nrrd, .nhdr, .mha, .mhd, .png, DICOM series"
                text = "name the folder that does, as the folders in it are not searched"
                raise InputError(f"{path}: holds no image ({kinds}); {text}.")
            files += found
            for name, file in dicom.items():
                if series.setdefault(name, file) != file:
                    raise InputError(f"{file}: has the same case name as {series[name]}; their outputs would collide.")
        elif os.path.lexists(path):  # a link to nowhere costs one case
            files.append(path)
        else:
            raise InputError(f"{path}: there is no such file or folder.")
    files = list(dict.fromkeys(files))
    first_channels = all(case_name(path).endswith("_0000") for path in files)
    cases: dict[str, list[Path]] = {name: [path] for name, path in series.items()}
    for path in files:
        name = case_name(path)
        stem = CHANNEL.sub("", name)
        if channels > 1 and stem != name and all(p.parent == path.parent for p in cases.get(stem, [])):
            if (number := int(name[-4:])) != len(cases.setdefault(stem, [])):
                if not number:
                    raise InputError(f"{path}: is of the same case as {cases[stem][0]}; their outputs would collide.")
                raise InputError(f"{path}: is channel {number} of case {stem}, whose channel {number - 1} is missing.")
            cases[stem].append(path)
            continue
        name = stem if first_channels else name
        if name in cases:
            raise InputError(f"{path}: has the same case name as {cases[name][0]}; their outputs would collide.")
        cases[name] = [path]
    for name, paths in cases.items():
        if BESIDE.search(name):
            raise InputError(f"{paths[0]}: is called like a file that is written beside a mask; rename it.")
        if len(paths) not in (1, channels):
            raise InputError(f"case {name}: has {len(paths)} channel files; the model needs {channels}.")
    return [(name, tuple(paths)) for name, paths in cases.items()]


def run_cases(
    cases: Sequence[Case],
    outputs: Outputs,
    segment: Segment,
    channels: int = 1,
    skip_existing: bool = False,
    listener: events.Listener = events.silent,
    overwrite: bool = False,
) -> Outcome:
    """Segment each case; `x.json` is written last, so a case with it is complete, and after all the table of volumes.

    Meanwhile the next case is read and the one before is written, so three are in memory. channels: of the model.
    skip_existing: but what was made otherwise than wished is done again. overwrite: replace files, too, that DiffSeg
    did not write, or that were changed since; without it such a case fails, without any work.
    A case that fails is named in the outcome, and told to the listener at once; so are those that a cancel left. What
    else ends all cases alike is raised: EnvironmentProblem.
    """

    def is_left(case: Case) -> bool:
        return not (skip_existing and outputs.is_there(case[0]) and not outputs.difference(*case))

    def read_with_sources(paths: Sequence[Path]) -> tuple[Volume, list[dict[str, Any]]]:
        sources = sources_of(paths)  # before: what is changed meanwhile counts as another image
        return read_case(paths, channels), sources

    todo = list(filter(is_left, cases))
    there = {name for name, _ in cases} - {name for name, _ in todo}  # so a mask's checksum is made once
    _check(outputs, todo)
    outcome = Outcome()
    read: dict[str, Future[tuple[Volume, list[dict[str, Any]]]]] = {}
    written: list[tuple[Case, Future[None]]] = []

    @contextlib.contextmanager
    def working_on(case: Case) -> Iterator[None]:  # what ends all cases alike is raised
        name, paths = case
        try:
            yield
            return
        except (Cancelled, EnvironmentProblem):
            raise
        except DiffSegError as problem:
            outcome.failed[name] = str(problem)
        except MemoryError:
            outcome.failed[name] = f"{paths[0]}: is too large for this machine's memory."
        except Exception as problem:  # a defect of ours: its traceback is kept, and the other cases go on
            traceback.print_exc()
            outcome.failed[name] = f"{paths[0]}: failed unexpectedly ({type(problem).__name__}: {problem})"
        if len(cases) > 1:  # of one alone it is said at the end
            listener(events.make("warning", text=f"{name} failed: {outcome.failed[name]}"))

    def finish_writing() -> None:
        while written:
            case, future = written.pop()
            with working_on(case):
                future.result()
                outcome.done.append(case[0])

    with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(1) as writer, contextlib.suppress(Cancelled):
        for number, case in enumerate(cases):
            name, paths = case
            here = read.pop(name, None)
            if name in there or not is_left(case):  # another process may have done it meanwhile
                outcome.skipped.append(name)
                continue
            if not overwrite:
                with working_on(case):
                    outputs.check(name)
                if name in outcome.failed:
                    continue
            other = outputs.difference(name, paths) if outputs.is_there(name) else ""
            if skip_existing and other:
                outcome.again.append(name)
            if other and (skip_existing or other == OTHER_IMAGE):
                text = f"{name}: is there, but made otherwise ({other}); it is done again."
                listener(events.make("warning", text=text))
            here = here or reader.submit(read_with_sources, paths)
            after_it = (each for each in cases[number + 1 :] if each[0] not in there and is_left(each))
            for after in itertools.islice(after_it, 1):
                read[after[0]] = reader.submit(read_with_sources, after[1])

            def relay(event: events.Event, number: int = number, name: str = name) -> None:
                if event["event"] == "progress":
                    fraction = (number + event["fraction"]) / len(cases)
                    event = {**event, "fraction": fraction, "text": f"{name}: {event['text']}"}
                listener(event)

            with working_on(case):
                volume, sources = here.result()
                found = segment(volume, relay)
                finish_writing()
                written.append((case, writer.submit(outputs.write, name, found, volume.affine, sources)))
    finish_writing()
    over = {*outcome.done, *outcome.skipped, *outcome.failed}
    outcome.again = [name for name in outcome.again if name in outcome.done]
    outcome.left = [name for name, _ in cases if name not in over]  # by a cancel
    if outcome.done and not outcome.left:
        listener(events.make("progress", fraction=1.0, text=f"{len(cases)} of {len(cases)} cases"))
    if outcome.done or outcome.skipped:
        try:
            for text in outputs.write_table(overwrite):
                listener(events.make("warning", text=text))
        except InputError as problem:
            listener(events.make("warning", text=str(problem)))
    return outcome


def _check(outputs: Outputs, cases: Sequence[Case]) -> None:
    """Raise InputError, before any work, for a folder that cannot be written or where a mask would replace an image."""
    check_folder(outputs.folder)
    images = {os.path.realpath(path) for _, paths in cases for path in paths}
    for name, _ in cases:
        if os.path.realpath(mask := outputs.mask(name)) in images:
            raise InputError(f"{mask}: is an input image, which its mask would replace; choose another folder.")
