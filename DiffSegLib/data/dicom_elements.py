"""The lengths that a DICOM file claims, compared with its size before GDCM allocates what they say."""

from pathlib import Path

LONG = {b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"}  # of four bytes
UNDEFINED = 0xFFFFFFFF
IMPLICIT, OTHER = b"1.2.840.10008.1.2", (b"1.2.840.10008.1.2.2", b"1.2.840.10008.1.2.1.99")  # big endian, deflated


def claims_too_much(file: Path) -> bool:
    """Whether an element, also within sequences, ends behind the file's end (PS3.5, 7.1).

    What is not understood is left to GDCM; so is what follows upon it.
    """
    size, at, syntax = file.stat().st_size, 132, b""
    with open(file, "rb") as stream:
        while at + 8 <= size:
            stream.seek(at)
            head = stream.read(12)
            group, tag, kind = int.from_bytes(head[:2], "little"), head[:4], head[4:6]
            if group > 2 and syntax in OTHER:
                return False
            is_implicit = group == 0xFFFE or (group > 2 and syntax == IMPLICIT)
            if not is_implicit and not (kind.isalpha() and kind.isupper()):
                return False
            at += 12 if not is_implicit and kind in LONG else 8
            length = int.from_bytes(head[4:8] if is_implicit else head[8:12] if kind in LONG else head[6:8], "little")
            if length == UNDEFINED:
                if tag == b"\xe0\x7f\x10\0" or (kind == b"UN" and not is_implicit):
                    return False
                continue  # into the sequence, or the item
            if at + length > size:
                return True
            if tag == b"\x02\0\x10\0":
                stream.seek(at)
                syntax = stream.read(length).rstrip(b"\0 ")
            is_open = group == 0xFFFE or (kind == b"SQ" and not is_implicit)  # what it holds is looked at as well
            at += 0 if is_open else length
    return False
