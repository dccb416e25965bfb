"""What ITK does not say of a NIfTI file: that it is cut short or damaged, and which of its voxels hold no number.

ITK fills what is missing, and everything that is not finite, with 0.
"""

import gzip
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from DiffSegLib.data.headers import too_much
from DiffSegLib.errors import InputError

# of nifti1.h: where a field begins, its type and shape; turned: quatern_b, _c, _d, then qoffset_x, _y, _z
FIELDS: dict[str, Any] = {"dim": (40, "i2", 8), "kind": (70, "i2", ()), "bits": (72, "i2", ())}
FIELDS |= {"pixdim": (76, "f4", 8), "offset": (108, "f4", ()), "slope": (112, "f4", ()), "intercept": (116, "f4", ())}
FIELDS |= {"qform": (252, "i2", ()), "sform": (254, "i2", ()), "turned": (256, "f4", 6), "rows": (280, "f4", (3, 4))}
FLOATS = {16: "f4", 64: "f8"}  # NIfTI's datatype codes
# bytes of a voxel; ITK goes by the datatype, whatever the header says of its bits
SIZES = {2: 1, 256: 1, 4: 2, 512: 2, 8: 4, 768: 4, 1024: 8, 1280: 8, 16: 4, 64: 8, 1536: 16}
SIZES |= {32: 8, 1792: 16, 2048: 32, 128: 3, 2304: 4}  # complex numbers, colours
NEAR = 0.01  # of a voxel's size: by so much two of them may differ, as headers round
Holes = list[tuple[int, np.ndarray]]  # (first voxel, (n,) bool) of each piece with any: a byte a voxel


def is_nifti(path: Path) -> bool:
    """By its name."""
    return path.name.lower().endswith((".nii", ".nii.gz"))


def check_payload(path: Path) -> tuple[Holes, tuple[str, ...]]:
    """Read a NIfTI-1 file to its end; returns where, in the order of its voxels, its numbers are not finite, and a
    sentence where the file does not say how its voxels lie, or says it in two ways.

    Raises InputError if it holds fewer bytes than its header promises, or a plane more, its gzip stream is damaged, or
    the size of its voxels or the scale of its values is 0 or can be understood in two ways.
    """
    odd: Holes = []
    passed, rest = 0, b""
    try:
        with gzip.open(path, "rb") if path.name.lower().endswith(".gz") else open(path, "rb") as stream:
            order, header = _header(path, stream.read(348))
            kind, bits = header["kind"], header["bits"]
            if not 0 < bits == 8 * SIZES.get(kind, 0):
                raise InputError(f"{path}: says that a voxel of datatype {kind} has {bits} bits; export it again.")
            if header["qform"] > 0 and not np.isfinite(header["turned"]).all():  # ITK: not turned
                raise InputError(f"{path}: its qform holds values that are not numbers (NaN); correct the header.")
            if (offset := int(header["offset"])) < 352:  # ITK reads on from 348, others from 352
                raise InputError(f"{path}: says that its voxels begin within its header (at {offset}); correct it.")
            used, *dims = header["dim"]
            shape = [max(n, 1) for n in dims[: max(used, 0)]]
            voxels = int(np.prod(shape, dtype=object))
            promised = offset + voxels * SIZES[kind]
            size = 348
            while size < offset and (chunk := stream.read(min(1 << 20, offset - size))):
                size += len(chunk)
            while chunk := stream.read(1 << 20):  # to the end: the gzip checksum is compared only there
                size += len(chunk)
                if size >= promised + max(2, voxels * SIZES[kind] // max(shape, default=1)):
                    raise InputError(f"{path}: {too_much(promised)}")
                if kind in FLOATS:
                    whole = rest + chunk
                    numbers = np.frombuffer(whole, order + FLOATS[kind], len(whole) // SIZES[kind])
                    where = ~np.isfinite(numbers[: max(0, voxels - passed)])
                    if where.any():
                        odd.append((passed, where))
                    passed, rest = passed + len(numbers), whole[numbers.nbytes :]
    except (EOFError, gzip.BadGzipFile, zlib.error, ValueError, OverflowError) as problem:
        raise InputError(f"{path}: is damaged or incomplete ({problem}); copy or export it again.") from None
    except OSError as problem:
        raise InputError(f"{path}: cannot be read ({problem.strerror or problem}).") from None
    spacing = header["pixdim"][1:4]
    if not all(mm > 1e-6 or (mm == 0 and n <= 1) for mm, n in list(zip(spacing, dims, strict=False))[:used]):
        found = ", ".join(f"{mm:g}" for mm in spacing)  # ITK reads 0 as 1, and mirrors an axis of less
        raise InputError(f"{path}: its voxel spacing ({found} mm) is not above zero; correct the header.")
    if size < promised:
        raise InputError(f"{path}: is incomplete ({size} of {promised} bytes); copy or export it again.")
    slope, shift = header["slope"], header["intercept"]
    if np.isfinite(slope) and slope != 0:  # else the values are as they stand, says NIfTI; ITK adds the intercept
        is_clear = np.isfinite(shift) and abs(slope) > 1e-15  # ITK takes such a slope for 1, such an intercept for 0
    else:
        is_clear = shift == 0 or not np.isfinite(shift)
    if not is_clear:
        found = f"slope {slope:g}, intercept {shift:g}"
        raise InputError(f"{path}: the scale of its values ({found}) is read in different ways; correct the header.")
    return odd, tuple(f"{path}: {text}." for text in _place_notes(header))


def _header(path: Path, data: bytes) -> tuple[str, dict[str, Any]]:
    """The order of bytes, and FIELDS as numbers and lists. Raises InputError for what does not begin as NIfTI-1."""
    order = "<" if data[:4] == struct.pack("<i", 348) else ">"
    if data[:4] in (struct.pack("<i", 540), struct.pack(">i", 540)):
        raise InputError(f"{path}: is a NIfTI-2 image; save it as NIfTI-1.")
    if len(data) < 348 or data[:4] != struct.pack(order + "i", 348):
        raise InputError(f"{path}: is no NIfTI image (its header is missing or damaged).")
    if data[344:] != b"n+1\0":  # ITK would take it for another format, whose voxels begin elsewhere
        raise InputError(f"{path}: is no NIfTI-1 image in one file (its magic is {data[344:]!r}).")
    found = {key: np.ndarray(shape, order + kind, data, at) for key, (at, kind, shape) in FIELDS.items()}
    return order, {key: value.tolist() for key, value in found.items()}


def _place_notes(header: dict[str, Any]) -> list[str]:
    """What is to be told where a file does not say how its voxels lie, or its qform and sform say it differently."""
    if max(header["qform"], header["sform"]) <= 0:  # above zero: it counts
        return ["has neither qform nor sform; it is read as LPS from 0, as Slicer reads it, and may be mirrored"]
    handed, *spacing = header["pixdim"][:4]
    rows = np.array(header["rows"])
    if header["qform"] <= 0:  # of an sform alone ITK takes the directions, and the sizes of voxels from pixdim
        sizes = np.linalg.norm(rows[:, :3], axis=0)
        pairs = list(zip(spacing, sizes, strict=True))[: header["dim"][0]]
        if all(abs((mm or 1.0) - size) <= NEAR * size for mm, size in pairs):
            return []
        one, other = (", ".join(f"{mm:g}" for mm in values) for values in (sizes, spacing))
        text = f"its sform has voxels of {one} mm, its pixdim of {other} mm, by which it is read, as Slicer reads it"
        return [f"{text}; if they are wrong, so are volumes in ml"]
    if header["sform"] <= 0:
        return []
    b, c, d, *offset = header["turned"]
    a = max(0.0, 1.0 - b * b - c * c - d * d) ** 0.5
    turned = np.array(  # nifti1.h, method 2
        [
            [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
            [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
            [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
        ]
    )
    axes = turned * spacing * (1.0, 1.0, -1.0 if handed < 0 else 1.0)
    near = NEAR * np.array(spacing)  # of each column
    if (abs(axes - rows[:, :3]) <= near).all() and np.allclose(offset, rows[:, 3], 0.0, 10 * near.min()):
        return []
    return ["its qform and sform place it differently; it is read as SimpleITK and Slicer read it"]
