"""Writes an enhanced CT: one DICOM file of many frames, each of which says where it lies."""

import struct

import numpy as np

CLASS = "1.2.840.10008.5.1.4.1.1.2.1"
SYNTAX = {True: "1.2.840.10008.1.2.1", False: "1.2.840.10008.1.2"}  # little endian, explicit or implicit


def write_frames(path, array, positions, axes, spacing=(1.0, 1.0), slopes=("1",), explicit=True, delimited=False):
    """array: (frames, rows, columns) int16; axes: six numbers for all frames, or for each. Returns the path.

    delimited: sequences and items say where they end, not how long they are.
    """

    def element(group, number, kind, value, length=None):
        data = value if isinstance(value, bytes) else str(value).encode()
        data += b" " * (len(data) % 2) if kind not in ("UI", "OB", "OW") else b"\0" * (len(data) % 2)
        if not explicit and group != 2:
            return struct.pack("<HHI", group, number, len(data) if length is None else length) + data
        size = len(data) if length is None else length
        long = kind in ("OB", "OW", "SQ")
        return (
            struct.pack("<HH2s" + "HI" * long + "H" * (not long), group, number, kind.encode(), *[0] * long, size)
            + data
        )

    def sequence(group, number, *items):
        if delimited:
            inside = b"".join(b"\xfe\xff\0\xe0\xff\xff\xff\xff" + x + b"\xfe\xff\x0d\xe0\0\0\0\0" for x in items)
            return element(group, number, "SQ", inside + b"\xfe\xff\xdd\xe0\0\0\0\0", 0xFFFFFFFF)
        return element(group, number, "SQ", b"".join(struct.pack("<HHI", 0xFFFE, 0xE000, len(x)) + x for x in items))

    def numbers(values):
        return "\\".join(f"{x:.8g}" for x in values)

    def scale(slope):
        return sequence(0x28, 0x9145, element(0x28, 0x1052, "DS", "0") + element(0x28, 0x1053, "DS", slope))

    axes = np.broadcast_to(axes, (len(array), 6))
    frames = [
        sequence(0x20, 0x9113, element(0x20, 0x32, "DS", numbers(at)))
        + sequence(0x20, 0x9116, element(0x20, 0x37, "DS", numbers(turn)))
        + (scale(slopes[n]) if len(slopes) > 1 else b"")
        for n, (at, turn) in enumerate(zip(positions, axes, strict=True))
    ]
    shared = sequence(0x28, 0x9110, element(0x28, 0x30, "DS", numbers(spacing))) + (
        scale(slopes[0]) if len(slopes) == 1 else b""
    )
    short = {0x02: 1, 0x10: array.shape[1], 0x11: array.shape[2], 0x100: 16, 0x101: 16, 0x102: 15, 0x103: 1}
    pixel = {number: element(0x28, number, "US", struct.pack("<H", value)) for number, value in short.items()}
    pixel |= {4: element(0x28, 4, "CS", "MONOCHROME2"), 8: element(0x28, 8, "IS", len(array))}
    head = element(2, 2, "UI", CLASS) + element(2, 3, "UI", "1.2.9") + element(2, 0x10, "UI", SYNTAX[explicit])
    body = element(8, 0x16, "UI", CLASS) + element(8, 0x18, "UI", "1.2.9") + element(8, 0x60, "CS", "CT")
    body += element(0x20, 0x0D, "UI", "1.2") + element(0x20, 0x0E, "UI", "1.2.3")
    body += b"".join(pixel[number] for number in sorted(pixel))
    body += sequence(0x5200, 0x9229, shared) + sequence(0x5200, 0x9230, *frames)
    body += element(0x7FE0, 0x10, "OW", array.astype("<i2").tobytes())
    path.write_bytes(bytes(128) + b"DICM" + element(2, 0, "UL", struct.pack("<I", len(head))) + head + body)
    return path
