"""The elements of a DICOM file, one after another, without its pixels: GDCM allocates what their lengths claim."""

from collections.abc import Collection, Iterator
from functools import partial
from pathlib import Path
from typing import BinaryIO, NamedTuple

SHORT = b"\0\0 AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split(b" ")  # lengths of two bytes
LONG = {b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"}  # of four bytes
UNDEFINED = 0xFFFFFFFF
ITEM, ITEM_END, SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
SYNTAX, PIXELS = 0x00020010, 0x7FE00010
IMPLICIT, BIG, DEFLATED = b"1.2.840.10008.1.2", b"1.2.840.10008.1.2.2", b"1.2.840.10008.1.2.1.99"
UNPACKED, RUNS = (b"", IMPLICIT, IMPLICIT + b".1", BIG), b"1.2.840.10008.1.2.5"
STARTS = (b"\xff\xd8", b"\xff\x4f")  # of a frame of JPEG, JPEG-LS, JPEG 2000
DEEPEST = 100  # sequences and items in each other: GDCM calls itself for each, until the process ends
MOST_READ = 256  # bytes of a value
MOST_ELEMENTS = 1 << 19  # of 2,000 frames there are some 200,000


class Element(NamedTuple):
    """tag: group and number. at, length: of the value, in bytes. within: tags of the sequences and items around it, the
    outermost first. value: of the tags that were asked for, without padding.
    """

    tag: int
    at: int
    length: int
    within: tuple[int, ...]
    value: bytes = b""


def is_dicom(path: Path) -> bool:
    """Whether a file has DICOM's mark, whatever its name."""
    try:
        with open(path, "rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


def elements(file: Path, wanted: Collection[int] = ()) -> Iterator[Element]:
    """Every element and item of a file with DICOM's mark, also within sequences (PS3.5, 7). wanted: tags to read.

    Ends in sequences that are too deep, behind the head of a deflated file, after MOST_ELEMENTS, and in a file without
    the mark where tags do not ascend: it is none of DICOM's.
    """
    size, syntax, is_head = file.stat().st_size, b"", True
    around: list[tuple[int, int, bool]] = []  # (tag, end at the latest, whether implicit) of sequences and items
    with open(file, "rb") as stream:
        at = start = 132 if is_dicom(file) else 0  # GDCM reads files without the mark, too
        last = -1
        for _ in range(MOST_ELEMENTS):
            if at + 8 > size:
                return
            stream.seek(at)
            head = stream.read(16)
            is_head = is_head and head[:2] == b"\2\0"
            around = [each for each in around if each[1] > at]
            if (syntax == DEFLATED and not is_head) or len(around) > DEEPEST:
                return
            number = partial(int.from_bytes, byteorder="big" if syntax == BIG and not is_head else "little")
            tag, item = (number(head[n : n + 2]) << 16 | number(head[n + 2 : n + 4]) for n in (0, 8))
            if not around and start == 0 and tag <= last:
                return
            last = last if around else tag
            outer, end, are_implicit = around[-1] if around else (0, size, syntax == IMPLICIT and not is_head)
            is_named = is_head or syntax.startswith(IMPLICIT + b".")  # else zeros are of a length: 512 x 512 has them
            is_explicit = not are_implicit and tag >> 16 != 0xFFFE and (head[4:6] in LONG or head[4:6] in SHORT)
            kind = head[4:6] if is_explicit and (is_named or any(head[4:6])) else b""  # some files mix both
            at += 12 if kind in LONG else 8
            length = number(head[8:12] if kind in LONG else head[6:8] if kind else head[4:8])
            value = b""
            if tag in wanted or tag == SYNTAX:
                stream.seek(at)
                value = stream.read(min(length, MOST_READ)).rstrip(b"\0 ")
                syntax = value if tag == SYNTAX and is_head else syntax
            yield Element(tag, at, length, tuple(each[0] for each in around), value)
            # an item whose number is damaged, too: GDCM up to SimpleITK 2.5.3 ends the process over one
            is_item = item == ITEM or (item >> 16 == 0xFFFE and number(head[12:16]) <= length - 8)
            is_sequence = kind == b"SQ" or (not kind and length >= 8 and is_item and tag != PIXELS)
            if tag in (ITEM_END, SEQUENCE_END):
                while around and (around.pop()[0] == ITEM) != (tag == ITEM_END):
                    continue
            elif length == UNDEFINED or is_sequence or (tag == ITEM and outer != PIXELS):
                around.append((tag, min(end, at + length), are_implicit or (kind == b"UN" and not _named(stream, at))))
            else:
                at += length


def _named(stream: BinaryIO, at: int) -> bool:
    """Whether a sequence's first element says of which kind it is: within UN none should (CP-246), but some do."""
    stream.seek(at + 12)
    kind, length = stream.read(2), stream.read(2)
    return kind in LONG or (kind in SHORT and any(kind) and any(length))


def claims_too_much(file: Path) -> bool:
    """Whether an element, also within sequences, ends behind the file's end, sequences are nested without end, or what
    stands where no item or no head belongs, so that GDCM takes other bytes for lengths. Of a file without DICOM's mark
    only the second: it may be anything.
    """
    size, is_head = file.stat().st_size, True
    for each in elements(file):
        must_be_item, was_head = each.within[-1:] not in ((), (ITEM,)), is_head
        is_head = is_head and each.tag >> 16 == 2
        is_odd = (each.tag == ITEM) != must_be_item and each.tag not in (ITEM_END, SEQUENCE_END)
        is_odd = is_odd or (each.tag >> 16 == 2 and not was_head)
        if is_odd or len(each.within) >= DEEPEST or (each.length != UNDEFINED and each.at + each.length > size):
            return len(each.within) >= DEEPEST or is_dicom(file)
    return False


def pixels_of(file: Path) -> tuple[int | None, int | None]:
    """How many bytes of pixels there are; where they are packed how many frames. None: not to be told."""
    syntax, parts = b"", []
    for each in elements(file, {ITEM}):
        syntax = each.value if each.tag == SYNTAX else syntax
        if each.tag == PIXELS and not each.within and syntax in UNPACKED:
            return each.length, None
        if each.tag == ITEM and each.within == (PIXELS,):
            parts.append(each.value)
    if syntax in UNPACKED:
        return 0, None
    frames = len(parts) - 1 if syntax == RUNS else sum(part[:2] in STARTS for part in parts)  # the first is a table
    return None, frames if frames > 0 else None
