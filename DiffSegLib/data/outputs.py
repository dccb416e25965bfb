"""The files that are written for a case, and what may be left as it is or replaced: only what DiffSeg wrote itself.

For case x: `x.seg.nrrd` (or another format), `x.step-1.seg.nrrd` ..., `x.uncertainty.nrrd`, and last the record
`x.json`, which has their checksums. While they are written `.x.unfinished`, which names them and those before, lies
there in place of the record, which waits in `.x.before`. For all cases: `volumes.csv`; the checksums of all that it
ever was lie in `.volumes.csv.sha256`.
"""

import contextlib
import csv
import glob
import io
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from DiffSegLib.data.files import case_name, read, write_mask, write_volume
from DiffSegLib.data.paths import from_record, no_file, recorded
from DiffSegLib.data.sources import is_other, of_same
from DiffSegLib.errors import InputError
from DiffSegLib.jobs import SegmentOptions
from DiffSegLib.labels import Label
from DiffSegLib.whole_files import checksum, whole_file, write_text

BESIDE = re.compile(r"\.(step-\d+|uncertainty)$", re.IGNORECASE)  # how names end that lie beside a mask
TABLE = "volumes.csv"
OTHERS = "files_of_other_runs"  # in a record: masks in another format that were made otherwise, and what is theirs
OTHER_IMAGE = "of another image"
LONGEST = 255  # bytes of a file's name that common file systems take


@dataclass(frozen=True, eq=False)
class Prediction:
    """mask and steps: (K, J, I) uint8 label values on the volume's grid. uncertainty: float32, 0..1, or None.

    volumes_ml: label value -> ml. provenance: what made this, JSON-ready.
    """

    mask: np.ndarray
    steps: list[np.ndarray]
    uncertainty: np.ndarray | None
    volumes_ml: dict[int, float]
    warnings: list[str]
    provenance: dict[str, Any]


@dataclass(frozen=True)
class Wish:
    """What a case that is done already must have been made with: the model's checksum, and the options."""

    model_sha256: str
    options: SegmentOptions

    def settings(self) -> dict[str, Any]:
        """As a record has them."""
        options = self.options
        roi = [list(pair) for pair in options.roi] if options.roi else None
        found = {"steps": options.steps, "sampler": options.sampler, "samples": options.samples, "seed": options.seed}
        return {"model_sha256": self.model_sha256, **found, "roi": roi}


@dataclass(frozen=True)
class Outputs:
    """A folder of masks. wish: None where any mask of a case counts as done."""

    folder: Path
    labels: Sequence[Label]
    file_format: str = "seg.nrrd"
    wish: Wish | None = None

    def mask(self, name: str) -> Path:
        """The mask of a case."""
        return self.folder / f"{name}.{self.file_format}"

    def is_there(self, name: str) -> bool:
        """Whether a case has the record that is written last, and a mask that is as it was written or can be read."""
        is_there = self.mask(name).is_file() and self._record(name) is not None
        return is_there and (_is_own(self.mask(name), self._former(name)) or self._is_readable(name))

    def _is_readable(self, name: str) -> bool:
        try:
            return bool(read(self.mask(name)))
        except InputError:
            return False

    def difference(self, name: str, images: Sequence[Path] = ()) -> str:
        """In what a case that is there is not as wished, in words; empty where it is. images: its files now."""
        record = self._record(name) or {}
        if is_other(record.get("images"), images):
            return OTHER_IMAGE
        wished = (self.mask(name), *self._beside(name))
        found = [f"without {path.name}" for path in wished if not path.is_file()]
        if (own := _listed(record)) is not None:  # older records do not say
            found += [f"{path.name} of another run" for path in wished if path.name not in own]
        return self._unlike(record) or "".join(found[:1])

    def _unlike(self, record: Mapping[str, Any]) -> str:
        for key, value in self.wish.settings().items() if self.wish else ():
            if record.get(key) != value:
                return "another model" if key == "model_sha256" else f"{key} {record.get(key)} instead of {value}"
        return ""

    def check(self, name: str) -> None:
        """Raise InputError where a case would replace what DiffSeg did not write, or what was changed since."""
        names = [f".{p.name}.diffseg-01234567.part{p.suffix}.gz" for p in (self.mask(name), *self._beside(name))]
        if max(len(os.fsencode(each)) for each in names) > LONGEST:
            raise InputError(f"{self.mask(name)}: this name is too long for the files that are written; shorten it.")
        with _alone(self.folder):
            former = self._former(name)
        record = self.folder / f"{name}.json"
        foreign = [record] if os.path.lexists(record) and self._record(name) is None else []  # links, too, to nowhere
        beside = (self.mask(name), *self._beside(name))
        foreign += [p for p in beside if os.path.lexists(p) and not _is_own(p, former)]
        if record.is_file() and self.mask(name) in foreign and not self._is_readable(name):
            text = "is there with its record, but cannot be read (any more)"
            raise InputError(f"{self.mask(name)}: {text}; remove it, or say --overwrite.")
        if foreign and foreign[0].is_file() and (reason := no_file(foreign[0])):
            raise InputError(f"{foreign[0]}: {reason}")
        if foreign:
            other = self.difference(name) if self.is_there(name) else ""
            why = f" as this case was made otherwise ({other})" if other else ""
            text = f"was not written by DiffSeg, or was changed since, and would be replaced{why}"
            raise InputError(f"{foreign[0]}: {text}; choose another folder, or say --overwrite.")

    def write(self, name: str, found: Prediction, affine: np.ndarray, images: Sequence[Mapping[str, Any]] = ()) -> None:
        """Write a case, its record last. Raises InputError; what was there is as before if nothing was written.

        images: what it was made of, see `sources`.
        """
        with contextlib.suppress(OSError):  # told below
            self.folder.mkdir(parents=True, exist_ok=True)
        with _alone(self.folder):
            if (record := self.folder / f"{name}.json").is_dir():
                raise InputError(f"{record}: is a folder where the case's record belongs; rename it.")
            self._write(name, found, affine, images)

    def _write(self, name: str, found: Prediction, affine: np.ndarray, images: Sequence[Mapping[str, Any]]) -> None:
        record, unfinished = self.folder / f"{name}.json", self.folder / f".{name}.unfinished"
        files: list[tuple[Path, Callable[..., None], tuple[Any, ...]]] = [
            (self._step(name, n), write_mask, (step, affine, self.labels))
            for n, step in enumerate(found.steps, start=1)
        ]
        if found.uncertainty is not None:
            files.append((self._uncertainty(name), write_volume, (found.uncertainty, affine)))
        files.append((self.mask(name), write_mask, (found.mask, affine, self.labels)))
        former, before = self._former(name), self._record(name)
        # read as a record meanwhile, and after a kill: what stands there or will is no image
        planned = {"case": name, "volumes_ml": {}, "files": {path.name: "" for path, *_ in files}, OTHERS: former}
        with _put_aside(record, unfinished, _record_text(planned)) as written:
            for path, write, arguments in files:
                write(path, *arguments)
                written[path.name] = ""
                written[path.name] = checksum(path)
            if self.mask(name).name in former:
                self._tidy(name, former, written)
            kept = {file: known for file, known in former.items() if file not in written}
            # a run that was killed could not say the checksum
            kept = {f: known or checksum(self.folder / f) for f, known in kept.items() if (self.folder / f).is_file()}
            is_same = before is not None and not self._unlike(before) and of_same(before.get("images"), images)
            same = _listed(before or {}) or {} if is_same else {}
            body = {
                "case": name,
                "volumes_ml": {label.name: found.volumes_ml[label.value] for label in self.labels},
                "labels": [label.to_json() for label in self.labels],
                "files": {file: known for file, known in kept.items() if file in same} | written,
                OTHERS: {file: known for file, known in kept.items() if file not in {**same, **written}},
                **found.provenance,
                "images": list(images),
            }
            write_text(record, _record_text(body))
        unfinished.unlink(missing_ok=True)
        unfinished.with_suffix(".before").unlink(missing_ok=True)

    def write_table(self, overwrite: bool = False) -> list[str]:
        """Write the volumes of all cases whose records lie here, also of other shards and of runs before.

        Empty where the case's model does not have a structure, and where the mask was changed since, which is told in
        the sentences that are returned. Raises InputError where it cannot be written, and for
        a table that DiffSeg did not write or that was changed since, unless `overwrite` says to replace it.
        """
        table, seal, text = self.folder / TABLE, self.folder / f".{TABLE}.sha256", io.StringIO()
        with _alone(self.folder), whole_file(table) as aside:
            records = [self._record(path.stem) for path in sorted(self.folder.glob("*.json"))]
            changed = [name for each in records if each for name in self._changed(each)]
            sizes = [(each["case"], each["volumes_ml"]) for each in records if each]
            rows = [{"case": case} | {f"{name} (ml)": ml for name, ml in found.items()} for case, found in sizes]
            columns = list(dict.fromkeys(key for row in rows for key in row))
            rows = [{"case": row["case"]} if row["case"] in changed else row for row in rows]
            if seal.exists() and not seal.is_file():  # a pipe would block
                raise InputError(f"{seal}: is no plain file; remove it.")
            known = seal.read_text("latin-1") if seal.exists() else ""
            if table.exists() and not overwrite and not (table.is_file() and checksum(table) in known):
                raise InputError(f"{table}: was not written by DiffSeg, or was changed since, and is left; rename it.")
            writer = csv.DictWriter(text, columns, lineterminator="\n")
            writer.writeheader()
            writer.writerows({**row, "case": recorded(row["case"])} for row in rows)
            lines = text.getvalue().replace("\r", "\\r")  # which csv does not quote
            aside.write_text(lines, "utf-8", "backslashreplace", "\n")  # names that JSON holds and UTF-8 does not
            if (new := checksum(aside)) not in known:
                with open(seal, "ab", buffering=0) as file:  # a kill, or a shard without locks, may leave another table
                    file.write(f"{new}\n".encode())
                    os.fsync(file.fileno())
        return [f"{name}: its mask was changed since, so {TABLE} has no volumes of it." for name in changed]

    def _changed(self, record: Mapping[str, Any]) -> list[str]:
        """The name of a record's case where somebody changed its mask since."""
        own, name = _listed(record) or {}, record["case"]
        masks = [self.folder / file for file in own if case_name(Path(file)) == name == file[: len(name)]]
        return [name] * any(path.exists() and not _is_own(path, own) for path in masks)

    def _step(self, name: str, number: int) -> Path:
        return self.folder / f"{name}.step-{number}.{self.file_format}"

    def _uncertainty(self, name: str) -> Path:
        return self.folder / f"{name}.uncertainty.nrrd"

    def _tidy(self, name: str, former: Mapping[str, str], written: Mapping[str, str]) -> None:
        """Remove what a former run wrote beside the mask that is replaced, and this one did not."""
        for path in (self.folder / file for file in former if file not in written):
            is_step = BESIDE.search(case_name(path)) and path.name.endswith(f".{self.file_format}")
            if (is_step or path == self._uncertainty(name)) and _is_own(path, former):
                path.unlink(missing_ok=True)

    def _beside(self, name: str) -> list[Path]:
        """What is wished for beside a mask."""
        options = self.wish.options if self.wish else SegmentOptions()
        steps = [self._step(name, n) for n in range(1, options.steps + 1)] if options.keep_steps else []
        return steps + ([self._uncertainty(name)] if options.uncertainty else [])

    def _record(self, name: str) -> dict[str, Any] | None:
        return _read_record(self.folder / f"{name}.json", name)

    def _former(self, name: str) -> dict[str, str]:
        """File -> checksum of what was written for a case; "" by a run that did not say: interrupted, or older."""
        record, unfinished = self._record(name), self.folder / f".{name}.unfinished"
        is_unfinished = record is None and unfinished.exists()
        record = _read_record(unfinished, name) if is_unfinished else record
        files = _listed(record or {"files": {}})
        listed = {**(_listed(record or {}, OTHERS) or {}), **(files or {})}
        found = {file: sha for file, sha in listed.items() if Path(file).name == file and file.startswith(f"{name}.")}
        if is_unfinished or files is None:
            steps = self.folder.glob(f"{glob.escape(name)}.step-*.{self.file_format}")
            for path in (self.mask(name), self._uncertainty(name), *steps):
                other = case_name(path)
                if other == name or not (self.folder / f"{other}.json").exists():  # else it is that case's mask
                    found[path.name] = ""
        return found


def is_output(path: Path) -> bool:
    """Whether a file is one that DiffSeg wrote for a case, or writes just now: the record beside it names it."""
    name = BESIDE.sub("", case_name(path))
    places = (f"{name}.json", f".{name}.unfinished", f"{name}.json")  # once more: it may have come back meanwhile
    record = next(filter(None, (_read_record(path.with_name(place), name) for place in places)), {})
    return any(path.name in (_listed(record, key) or {}) for key in ("files", OTHERS))


def _record_text(body: Mapping[str, Any]) -> str:
    """The names of its case and its files are the same in every locale."""
    files = {key: {recorded(file): known for file, known in body[key].items()} for key in ("files", OTHERS)}
    return json.dumps({**body, "case": recorded(body["case"]), **files}, indent=2) + "\n"


def _read_record(path: Path, name: str) -> dict[str, Any] | None:
    """A record of DiffSeg, names as this process has them; None for no file, and for anything else of that name."""
    try:
        found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None  # no pipe, which may block
        if not isinstance(found, dict) or not isinstance(found.get("volumes_ml"), dict):
            return None
        if not isinstance(case := found.get("case"), str) or from_record(case) != name:
            return None
        files = {key: _listed(found, key) for key in ("files", OTHERS)}
        files = {key: {from_record(file): sha for file, sha in names.items()} for key, names in files.items() if names}
        return {**found, "case": name, **files}
    except (OSError, ValueError, RecursionError):
        return None


def _listed(record: Mapping[str, Any], key: str = "files") -> Mapping[str, str] | None:
    return found if isinstance(found := record.get(key), Mapping) else None


def _is_own(path: Path, former: Mapping[str, str]) -> bool:
    if path.name not in former:
        return False
    try:
        if not former[path.name]:
            return True
        if path.is_file():  # a pipe would block
            return checksum(path) == former[path.name]
    except OSError:  # another process replaces it just now
        pass
    return not path.exists()


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One process at a time writes a case, so that masks and record are of one; another waits for it.

    Not on Windows, nor where the file system has no locks.
    """
    with contextlib.ExitStack() as held:
        with contextlib.suppress(ImportError, OSError):
            import fcntl

            handle = os.open(folder, os.O_RDONLY)
            held.callback(os.close, handle)
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def _put_aside(record: Path, unfinished: Path, planned: str) -> Iterator[dict[str, str]]:
    """Put a record aside while the files of its case are written, so that none ever speaks of another mask.

    It comes back if the block ends with an error before it has put any file into the dictionary that it gets.
    planned: what stands in `unfinished` meanwhile.
    """
    written: dict[str, str] = {}
    before, is_there, is_new = unfinished.with_suffix(".before"), False, not unfinished.exists()
    try:
        with whole_file(unfinished) as aside:
            aside.write_text(planned, encoding="utf-8")
        with contextlib.suppress(FileNotFoundError):
            os.replace(record, before)
            is_there = True
        yield written
    except BaseException as problem:
        with contextlib.suppress(OSError):
            if is_there and not written:
                os.replace(before, record)
            if is_new and not written:
                unfinished.unlink()
        if isinstance(problem, OSError):
            raise InputError(f"{record}: cannot be written ({problem.strerror or problem}).") from None
        raise
