"""What ITK must not be left to find out: names that end it, headers that lead elsewhere, voxels that are damaged.

The text header of a MetaImage or a NRRD file may name any file of the machine, a pipe or a device too. ITK takes the
voxels of a packed MetaImage whose stream is damaged for zeros, without an error, and of a packed NRRD it seldom reaches
the checksum.
"""

import re
import zlib
from dataclasses import dataclass
from pathlib import Path

from DiffSegLib.errors import InputError

MOST_TEXT = 1 << 20  # bytes; of a Slicer segmentation of 500 segments it is half
PIECE = 1 << 13  # bytes that are inflated at once, to 9 MB at most
# MetaIO's rules: `=` or `:` between key and value; it looks for a value that is missing in the next line
META_LINE = re.compile(r"\s*([^=:\r\0]*[^=:\s\0])[ \t]*[=:][=: \t]*([^\r\0]*[^\s\0])\s*")
BLANK = re.compile(r"\s*([^=:\r\0]*[^=:\s\0])[ \t]*[=:]\s*")
# Fields that MetaIO knows: where one has no value it takes the next line for it. Others, DICOM tags say, may be blank.
KNOWN = re.compile(
    "ObjectType|ObjectSubType|NDims|Name|ID|ParentID|CompressedData|CompressedDataSize|BinaryData|"
    "BinaryDataByteOrderMSB|ElementByteOrderMSB|Color|Position|Origin|Offset|Orientation|Rotation|TransformMatrix|"
    "CenterOfRotation|DistanceUnits|AnatomicalOrientation|ElementSpacing|DimSize|HeaderSize|Modality|SequenceID|"
    "ElementMin|ElementMax|ElementNumberOfChannels|ElementSize|ElementNBits|ElementToIntensityFunctionSlope|"
    "ElementToIntensityFunctionOffset|ElementType|ElementDataFile|ImagePosition",
    re.IGNORECASE,
)
ANATOMICAL = ("left-posterior-superior", "lps", "right-anterior-superior", "ras", "left-anterior-superior", "las")
LOCAL = ("LOCAL", "Local", "local")
# units of length but mm; what else stands there, "pixel" or "none" say, is nothing to go by
LENGTHS = re.compile(
    r"(\d+ )?([µμ]m|um|microns?|nm|cm|m|km|in|inch|inches|foot|feet|(micro|nano|centi|deci|kilo)?met(er|re)s?)"
)


@dataclass(frozen=True)
class Voxels:
    """The file that holds an image's voxels. packed: from which byte on and how many (-1: all), where ITK must not be
    left to judge. start: of voxels that are not packed, None where that does not say how many there are. last: they are
    the file's last bytes, and where they begin is not said. notes: sentences on what is read in several ways.
    """

    file: Path
    packed: tuple[int, int] | None = None
    start: int | None = None
    last: bool = False
    notes: tuple[str, ...] = ()


def voxels_of(path: Path) -> Voxels:
    """Where the voxels of an image lie: in the file itself, or in a plain file beside an .mhd or .nhdr.

    Raises InputError for a header that names anything else, or that ITK could understand in another way.
    """
    ending = path.suffix.lower()
    if ending not in (".mha", ".mhd", ".nrrd", ".nhdr"):
        return Voxels(path)
    try:
        with open(path, "rb") as file:
            text = file.read(MOST_TEXT).decode("latin-1")
        return _metaimage(path, text) if ending.startswith(".m") else _nrrd(path, text)
    except OSError as problem:
        raise InputError(f"{path}: cannot be read ({problem.strerror or problem}).") from None


def check_amount(path: Path, voxels: Voxels, promised: int, longest: int) -> tuple[str, ...]:
    """Raise InputError where packed voxels are damaged, or where there are fewer bytes than `promised` or a plane more.

    Packed ones are inflated without keeping them. longest: the largest of the image's sizes. Returns the sentences on
    what is read in several ways, or could be incomplete without anybody's noticing.
    """
    most = promised + max(2, promised // max(1, longest))
    if voxels.last:  # behind a header of their own, which may be of any size; behind that of the image it is known
        most = promised + 1 if voxels.file == path else 1 << 63
    try:
        size = promised if voxels.start is None else voxels.file.stat().st_size - voxels.start
        if voxels.packed is not None:
            size = _inflated(path, voxels.file, *voxels.packed, most)
    except zlib.error as problem:
        raise InputError(f"{path}: is damaged or incomplete ({problem}); copy or export it again.") from None
    except OSError as problem:
        raise InputError(f"{voxels.file}: cannot be read ({problem.strerror or problem}).") from None
    if size < promised:
        raise InputError(f"{path}: is damaged or incomplete ({size} of {promised} bytes); copy or export it again.")
    if size >= most:
        raise InputError(f"{path}: {too_much(promised)}")
    if voxels.last and size > promised:
        text = f"the last {promised} of {size} bytes of {voxels.file.name} are taken for its voxels"
        return (*voxels.notes, f"{path}: {text}, wrongly if any are missing; let its header say where they begin.")
    return voxels.notes


def too_much(promised: int) -> str:
    """What is said of a file whose header leaves out a part of its voxels."""
    return f"holds more than the {promised} bytes that its header promises; correct the header, or export it again."


def _inflated(path: Path, file: Path, start: int, left: int, most: int) -> int:
    """Bytes that the stream inflates to, at least `most` if there are more. Raises zlib.error."""
    if start + left > file.stat().st_size:
        raise zlib.error("shorter than it says")  # MetaIO allocates as much as is told
    is_nrrd = path.suffix.lower() in (".nrrd", ".nhdr")
    kind = 31 if is_nrrd else 47  # MetaIO takes zlib's head, too; NrrdIO takes such a stream for the voxels themselves
    stream, size = zlib.decompressobj(kind), 0
    with open(file, "rb") as data:
        data.seek(start)
        while size < most:
            piece = data.read(PIECE if left < 0 else min(left, PIECE))
            left -= len(piece) if left > 0 else 0
            if stream.eof:  # NrrdIO reads one stream after another, as gzip does
                if not is_nrrd or not (piece := stream.unused_data + piece).startswith(b"\x1f\x8b"):
                    break
                stream = zlib.decompressobj(kind)
            elif not piece:
                raise zlib.error(f"{size} bytes, then its stream ends")
            size += len(stream.decompress(piece))
    return size


def _metaimage(path: Path, text: str) -> Voxels:
    """Read the fields up to the last one, ElementDataFile; in any line before it MetaIO must see what is seen here."""
    fields: dict[str, str] = {}
    end = 0
    while "ElementDataFile" not in fields:
        begin, end = end, text.find("\n", end) + 1 or len(text)
        if begin == end:
            raise InputError(f"{path}: is no image that can be read (its MetaImage header names no ElementDataFile).")
        line = text[begin:end]
        if found := META_LINE.fullmatch(line):
            fields[found[1]] = found[2]
        elif line.strip() and not _may_be_blank(line, text[end:]):
            held = line.strip()[:40]
            raise InputError(
                f"{path}: is no image that can be read (its MetaImage header holds {held!r}); export it again."
            )
    name = fields["ElementDataFile"]
    is_local = name in LOCAL
    if not is_local and path.suffix.lower() == ".mha":
        raise InputError(f"{path}: names its voxels' file {name!r}; an .mha is read only if it holds them itself.")
    file = path if is_local else _beside(path, name)
    slope, shift = (fields.get(f"ElementToIntensityFunction{key}", "") for key in ("Slope", "Offset"))
    if not re.fullmatch(r"(1(\.0*)?)?/(-?0(\.0*)?)?", f"{slope}/{shift}"):  # which ITK, and so Slicer, leaves out
        scale = f"slope {slope or 1}, intercept {shift or 0}"
        raise InputError(f"{path}: the scale of its values ({scale}) is read in different ways; correct the header.")
    _check_units(path, [fields.get("DistanceUnits", "")])
    is_packed = fields.get("CompressedData", "")[:1] in ("T", "t", "Y", "y", "1")
    skipped, size = (fields.get(key, "0") for key in ("HeaderSize", "CompressedDataSize"))
    known = r"(0|-1)/.*" if is_local else r"(-1|\d{1,18})/.*"
    if is_packed:  # voxels behind their header, of unknown size, MetaIO looks for in the header
        known = r"0/[1-9]\d{0,17}" if is_local else r"0/\d{1,18}"
    if not re.fullmatch(known, f"{skipped}/{size}"):
        said = f"HeaderSize {skipped}, CompressedDataSize {size}"
        raise InputError(f"{path}: does not say where its voxels lie ({said}); export it again.")
    start = end if is_local else 0
    if is_packed:
        return Voxels(file, (start, int(size) or -1))
    is_text = fields.get("BinaryData", "True")[:1] not in ("T", "t", "Y", "y", "1")
    return Voxels(file, None, None if is_text else start + max(0, int(skipped)), skipped == "-1")


def _may_be_blank(line: str, following: str) -> bool:
    blank = BLANK.fullmatch(line)
    return blank is not None and not KNOWN.fullmatch(blank[1]) and not following.lstrip().startswith("ElementDataFile")


def _nrrd(path: Path, text: str) -> Voxels:
    blank = re.search(r"\n\r?\n", text)
    header = text[: blank.start()] if blank else text
    if not text.startswith("NRRD") or len(header) == MOST_TEXT or re.search(r"\r(?!\n|\Z)", header):
        raise InputError(f"{path}: is no image that can be read (its NRRD header is missing or damaged).")
    lines = [line.partition(":") for line in header.split("\n") if line[:1] != "#"]
    pairs = [(re.sub(r"\s", "", key).lower(), value.strip()) for key, _, value in lines if value[:1] != "="]
    names = [value for key, value in pairs if key == "datafile"]
    if names and path.suffix.lower() == ".nrrd":
        raise InputError(f"{path}: names its voxels' file {names[0]!r}; a .nrrd is read only if it holds them itself.")
    if len(names) > 1:
        raise InputError(f"{path}: names several files of voxels; only a file beside it is read.")
    fields = dict(pairs)
    placed = "spaceunits" if "spacedirections" in fields else "units"  # those of its axes
    _check_units(path, re.findall(r'"([^"]*)"', fields.get(placed, ""))[:3])
    encoding, skipped = fields.get("encoding", "").lower(), fields.get("byteskip", "0")
    is_packed, lines_skipped = encoding in ("gzip", "gz"), fields.get("lineskip", "0")
    known = r"0/(-1|\d{1,18})" if is_packed else r"0/-1|\d{1,18}/\d{1,18}"
    if not re.fullmatch(known, f"{lines_skipped}/{skipped}"):
        said = f"{encoding}, line skip {lines_skipped}, byte skip {skipped}"
        raise InputError(f"{path}: does not say where its voxels lie ({said}); export it again.")
    text = (
        "lacks an anatomical space (LPS, RAS), directions or an origin; read as LPS from 0, Slicer places it elsewhere"
    )
    is_placed = fields.get("space", "").lower() in ANATOMICAL and {"spaceorigin", "spacedirections"} <= fields.keys()
    notes = () if is_placed or fields.get("dimension") == "2" else (f"{path}: {text}.",)
    start = blank.end() if blank and not names else 0
    file = _beside(path, names[0]) if names else path
    if encoding != "raw" or lines_skipped != "0":
        return Voxels(file, (start, -1) if is_packed else None, notes=notes)
    return Voxels(file, None, start + max(0, int(skipped)), skipped == "-1", notes)


def _check_units(path: Path, units: list[str]) -> None:
    """ITK, and so Slicer, takes every number for mm."""
    if odd := [unit for unit in units if LENGTHS.fullmatch(unit.strip().lower())]:
        raise InputError(f"{path}: its distances are in {odd[0]!r}, and Slicer takes them for mm; convert them to mm.")


def _beside(path: Path, name: str) -> Path:
    """The file of that name beside `path`; lists and patterns of names are none."""
    is_list = name.startswith("LIST") or name.split(maxsplit=1)[:1] == ["list"] or "%" in name
    if is_list or Path(name).name != name or "\\" in name or name == "..":
        raise InputError(f"{path}: names its voxels' file {name!r}; only a file beside it is read.")
    file = path.parent / name
    if not file.is_file():
        problem = "no plain file" if file.exists() else "missing"
        raise InputError(f"{path}: its voxels' file {name} is {problem}.")
    return file
