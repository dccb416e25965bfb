"""Writes an enhanced CT, one DICOM file of many frames, each of which says where it lies; and slices of a plain CT."""

import struct
from functools import partial

import numpy as np

CLASS = "1.2.840.10008.5.1.4.1.1.2.1"
PLAIN = "1.2.840.10008.5.1.4.1.1.2"
SYNTAX = {True: "1.2.840.10008.1.2.1", False: "1.2.840.10008.1.2"}  # little endian, explicit or implicit


def _element(explicit, group, number, kind, value, length=None):
    data = value if isinstance(value, bytes) else str(value).encode()
    data += b" " * (len(data) % 2) if kind not in ("UI", "OB", "OW") else b"\0" * (len(data) % 2)
    if not explicit and group != 2:
        return struct.pack("<HHI", group, number, len(data) if length is None else length) + data
    size = len(data) if length is None else length
    long = kind in ("OB", "OW", "SQ")
    return struct.pack("<HH2s" + "HI" * long + "H" * (not long), group, number, kind.encode(), *[0] * long, size) + data


def _numbers(values):
    return "\\".join(f"{x:.8g}" for x in values)


def _write(path, explicit, kind, shape, uid, more, rest, pixels):
    """more: further elements of group 28, by number; rest: what stands between them and the pixels."""
    element = partial(_element, explicit)
    short = {0x02: 1, 0x10: shape[0], 0x11: shape[1], 0x100: 16, 0x101: 16, 0x102: 15, 0x103: 1}
    group = {number: element(0x28, number, "US", struct.pack("<H", value)) for number, value in short.items()}
    group |= {4: element(0x28, 4, "CS", "MONOCHROME2")} | more
    head = element(2, 2, "UI", kind) + element(2, 3, "UI", uid) + element(2, 0x10, "UI", SYNTAX[explicit])
    body = element(8, 0x16, "UI", kind) + element(8, 0x18, "UI", uid) + element(8, 0x60, "CS", "CT")
    body += element(0x20, 0x0D, "UI", "1.2") + element(0x20, 0x0E, "UI", "1.2.3") + rest[0]
    body += b"".join(group[number] for number in sorted(group)) + rest[1]
    body += element(0x7FE0, 0x10, "OW", pixels.astype("<i2").tobytes())
    path.write_bytes(bytes(128) + b"DICM" + element(2, 0, "UL", struct.pack("<I", len(head))) + head + body)
    return path


def write_slice(path, plane, number, position, explicit=True):
    """plane: (rows, columns) int16, of 1 mm. Returns the path."""
    element = partial(_element, explicit)
    place = element(0x20, 0x13, "IS", number) + element(0x20, 0x32, "DS", _numbers(position))
    place += element(0x20, 0x37, "DS", "1\\0\\0\\0\\1\\0")
    more = {0x30: element(0x28, 0x30, "DS", "1\\1"), 0x1052: element(0x28, 0x1052, "DS", "-1024")}
    more |= {0x1053: element(0x28, 0x1053, "DS", "1")}
    return _write(path, explicit, PLAIN, plane.shape, f"1.2.9.{number}", more, (place, b""), plane)


def write_frames(path, array, positions, axes, spacing=(1.0, 1.0), slopes=("1",), explicit=True, delimited=False):
    """array: (frames, rows, columns) int16; axes: six numbers for all frames, or for each. Returns the path.

    delimited: sequences and items say where they end, not how long they are.
    """
    element = partial(_element, explicit)

    def sequence(group, number, *items):
        if delimited:
            inside = b"".join(b"\xfe\xff\0\xe0\xff\xff\xff\xff" + x + b"\xfe\xff\x0d\xe0\0\0\0\0" for x in items)
            return element(group, number, "SQ", inside + b"\xfe\xff\xdd\xe0\0\0\0\0", 0xFFFFFFFF)
        return element(group, number, "SQ", b"".join(struct.pack("<HHI", 0xFFFE, 0xE000, len(x)) + x for x in items))

    def scale(slope):
        return sequence(0x28, 0x9145, element(0x28, 0x1052, "DS", "0") + element(0x28, 0x1053, "DS", slope))

    axes = np.broadcast_to(axes, (len(array), 6))
    frames = [
        sequence(0x20, 0x9113, element(0x20, 0x32, "DS", _numbers(at)))
        + sequence(0x20, 0x9116, element(0x20, 0x37, "DS", _numbers(turn)))
        + (scale(slopes[n]) if len(slopes) > 1 else b"")
        for n, (at, turn) in enumerate(zip(positions, axes, strict=True))
    ]
    shared = sequence(0x28, 0x9110, element(0x28, 0x30, "DS", _numbers(spacing))) + (
        scale(slopes[0]) if len(slopes) == 1 else b""
    )
    groups = sequence(0x5200, 0x9229, shared) + sequence(0x5200, 0x9230, *frames)
    more = {8: element(0x28, 8, "IS", len(array))}
    return _write(path, explicit, CLASS, array.shape[1:], "1.2.9", more, (b"", groups), array)
