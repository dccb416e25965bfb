"""Images whose text header leads elsewhere, or whose voxels are damaged without ITK's noticing."""

import contextlib
import gzip
import os
import re
import sys
import zlib
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from bad import MENDED, READ, kind
from bad.images import IMAGE, itk, nifti, put, write

META = "ObjectType = Image\nNDims = 3\nDimSize = 9 8 7\nElementType = MET_FLOAT\nElementSpacing = 1 1 1\n"
UNPLACED = "NRRD0004\ntype: float\ndimension: 3\nsizes: 9 8 7\nendian: little\nencoding: raw\n"
NRRD = f"{UNPLACED}space: LPS\nspace directions: (1,0,0) (0,1,0) (0,0,1)\nspace origin: (0,0,0)\n"
OUTSIDE = "../scan.raw"
LINES = "\n".join([OUTSIDE] * 7) + "\n"
PADDING = 400 * ("Comment = " + 240 * "x" + "\n")
ALONE, HERE = "only a file beside it", "only if it holds them itself"


def text(folder: Path, name: str, header: str, voxels: bytes = b"") -> Path:
    """A header, and beside and above it a file of voxels that are good."""
    for place in (folder, folder.parent):
        (place / "scan.raw").write_bytes(IMAGE.tobytes())
    return write(folder, header.encode() + voxels, name)


for title, name, header, words in (
    ("mha: voxels above its folder", "scan.mha", f"{META}ElementDataFile = {OUTSIDE}\n", HERE),
    ("mha: voxels in a file beside it", "scan.mha", f"{META}ElementDataFile = scan.raw\n", HERE),
    ("mhd: a colon for the equal sign", "scan.mhd", f"{META}ElementDataFile : {OUTSIDE}\n", ALONE),
    ("mhd: far behind comments", "scan.mhd", f"{META}{PADDING}ElementDataFile = {OUTSIDE}\n", ALONE),
    ("mhd: a list of slices", "scan.mhd", f"{META}ElementDataFile = LIST\n{LINES}", ALONE),
    ("mhd: a list of slices in 2D", "scan.mhd", f"{META}ElementDataFile = LIST 2D\n{LINES}", ALONE),
    ("mhd: a pattern of names", "scan.mhd", f"{META}ElementDataFile = ../scan%d.raw 1 7 1\n", ALONE),
    ("mhd: a pattern beside it", "scan.mhd", f"{META}ElementDataFile = scan%d.raw 1 7 1\n", ALONE),
    ("mhd: the name in the next line", "scan.mhd", f"{META}ElementDataFile =\n{OUTSIDE}\n", "ElementDataFile ="),
    (
        "mha: one name hidden behind a comment without text",
        "scan.mha",
        f"{META}Comment =\nElementDataFile = LOCAL\nElementDataFile = {OUTSIDE}\n",
        "holds 'Comment ='",
    ),
    ("mha: one name cut by a zero byte", "scan.mha", f"{META}ElementDataFile\0x = {OUTSIDE}\n", "ElementDataFile"),
    ("mha: no name of a file", "scan.mha", META, "ElementDataFile"),
    ("mhd: lines ending as on an old Mac", "scan.mhd", f"{META}ElementDataFile = x\n".replace("\n", "\r"), "holds"),
    ("nrrd: voxels above its folder", "scan.nrrd", f"{NRRD}data file: {OUTSIDE}\n\n", HERE),
    ("nrrd: voxels in a file beside it", "scan.nrrd", f"{NRRD}datafile: scan.raw\n\n", HERE),
    ("nrrd: named in capitals", "scan.nrrd", f"{NRRD}DATA FILE: {OUTSIDE}\n\n", HERE),
    ("nhdr: far behind comments", "scan.nhdr", f"{NRRD}{PADDING.replace('C', '# C')}data file: {OUTSIDE}\n\n", ALONE),
    ("nhdr: a list of slices", "scan.nhdr", f"{NRRD}data file: LIST 2\n{LINES}", ALONE),
    ("nhdr: a list of volumes", "scan.nhdr", f"{NRRD}data file: LIST\n{OUTSIDE}\n", ALONE),
    ("nhdr: a pattern of names", "scan.nhdr", f"{NRRD}data file: ../scan%d.raw 0 6 1 2\n\n", ALONE),
    ("nhdr: two files", "scan.nhdr", f"{NRRD}data file: scan.raw\ndata file: {OUTSIDE}\n\n", "several files"),
    ("nhdr: a folder for its voxels", "scan.nhdr", f"{NRRD}data file: ..\n\n", ALONE),
    ("nrrd: packed, with lines to skip", "scan.nrrd", f"{NRRD}line skip: 1\n".replace("raw", "gzip"), "line skip 1"),
    ("nrrd: a header without end", "scan.nrrd", f"{NRRD}{'# ' * 600_000}", "header is missing or damaged"),
):

    @kind("image", title, words=words)
    def _(folder, name=name, header=header):
        return text(folder, name, header)


for ending, header in (("mhd", f"{META}ElementDataFile = pipe.raw\n"), ("nhdr", f"{NRRD}data file: pipe.raw\n\n")):

    @kind("image", f"{ending}: a pipe for its voxels", words="no plain file")
    def _(folder, ending=ending, header=header):
        (os.mkfifo if hasattr(os, "mkfifo") else os.mkdir)(folder / "pipe.raw")
        return text(folder, f"scan.{ending}", header)


@kind("image", "NIfTI: cut short, but of fewer bits a voxel", words="datatype 16 has 8 bits")
def _(folder):
    return write(folder, put(nifti(), 72, "h", 8)[:900])


@kind("image", "NIfTI: packed, far more than its voxels", words="holds more than")
def _(folder):
    return write(folder, nifti() + bytes(3_000_000), "scan.nii.gz")


def damaged(folder: Path, name: str, label: bool) -> Path:
    """A packed MetaImage with one byte of its stream changed; of a label map ITK then takes half for background."""
    path = folder / name
    array = (np.indices((24, 24, 24)).sum(0) // 9 % 3).astype(np.uint8) if label else IMAGE
    sitk.WriteImage(sitk.GetImageFromArray(array), str(path), useCompression=True)
    packed = next((file for file in folder.iterdir() if file.suffix == ".zraw"), path)
    data = bytearray(packed.read_bytes())
    data[len(data) * 4 // 5] ^= 0x55
    packed.write_bytes(data)
    return path


for name in ("scan.mha", "scan.mhd"):
    for label in (False, True):

        @kind("image", f"{name[-3:]}: packed, one byte changed, {'labels' if label else 'floats'}", words="damaged or")
        def _(folder, name=name, label=label):
            return damaged(folder, name, label)


def check_not_reached(folder: Path, array: np.ndarray) -> Path:
    """A packed NRRD with one byte changed, which inflates to more than its voxels: NrrdIO is content with them."""
    data = bytearray(gzip.compress(array.tobytes()))
    for place in range(20, len(data) - 8):
        data[place] ^= 0x55
        with contextlib.suppress(zlib.error):
            if len(zlib.decompressobj(-15).decompress(data[10:])) > array.nbytes:
                break
        data[place] ^= 0x55
    else:
        raise AssertionError("no such byte")
    kind = {"float32": "float", "uint8": "uchar"}[str(array.dtype)]
    sizes = " ".join(map(str, array.shape[::-1]))
    header = NRRD.replace("float", kind).replace("9 8 7", sizes).replace("raw", "gzip")
    return write(folder, f"{header}\n".encode() + bytes(data), "scan.nrrd")


@kind("image", "nrrd: packed, one byte changed", words="damaged or incomplete")
def _(folder):
    return check_not_reached(folder, IMAGE)


for title, fields, outcome in (
    ("a slope", "ElementToIntensityFunctionSlope = 2\n", "slope 2, intercept 0"),
    ("an intercept", "ElementToIntensityFunctionOffset = -1024\n", "slope 1, intercept -1024"),
):

    @kind("image", f"mha: {title}, which ITK and Slicer leave out", words=outcome)
    def _(folder, fields=fields):
        return text(folder, "scan.mha", f"{META}{fields}ElementDataFile = LOCAL\n", IMAGE.tobytes())


for title, name, size in (
    ("mha: packed, of a size that is not told", "scan.mha", ""),
    ("mha: packed, of size 0", "scan.mha", "CompressedDataSize = 0\n"),
    ("mhd: packed, of size -1", "scan.mhd", "CompressedDataSize = -1\n"),
    ("mha: a part of its header is skipped", "scan.mha", "CompressedData = False\nHeaderSize = 4\n"),
    ("mhd: less than nothing is skipped", "scan.mhd", "CompressedData = False\nHeaderSize = -5\n"),
):

    @kind("image", title, words="does not say where its voxels lie")
    def _(folder, name=name, size=size):
        packed = "" if "Header" in size else "CompressedData = True\n"
        data = zlib.compress(IMAGE.tobytes()) if packed else IMAGE.tobytes()
        (folder / "voxels").write_bytes(data)
        header = f"{META}{packed}{size}ElementDataFile = {'LOCAL' if name == 'scan.mha' else 'voxels'}\n"
        return write(folder, header.encode() + data, name)


@kind("image", "mhd: said to be packed, but is not", words="damaged or incomplete")
def _(folder):
    return text(folder, "scan.mhd", f"{META}CompressedData = True\nElementDataFile = scan.raw\n")


@kind("image", "mha: packed, of 8 GB that are not there", words="damaged or incomplete")
def _(folder):
    fields = f"CompressedData = True\nCompressedDataSize = {1 << 33}\n"
    return text(folder, "scan.mha", f"{META}{fields}ElementDataFile = LOCAL\n", zlib.compress(IMAGE.tobytes()))


for title, size in (("of fewer voxels", "9 8 70"), ("of fewer bytes than there are", "9 8 7")):

    @kind("image", f"mha: packed, {title}", words="damaged or incomplete")
    def _(folder, size=size):
        path = itk(folder, "scan.mha", True)
        data = re.sub(rb"(?m)^DimSize = .*$", b"DimSize = " + size.encode(), path.read_bytes(), count=1)
        if size == "9 8 7":
            data = re.sub(rb"(?m)^CompressedDataSize = .*$", b"CompressedDataSize = 90", data, count=1)
        path.write_bytes(data)
        return path


for ending in ("hdr", "img", "gipl", "vtk", "tif", "nia", "jpg", "dat"):

    @kind("image", f"{ending}: of a kind whose missing voxels ITK makes up", words="of no kind that is read")
    def _(folder, ending=ending):
        if ending in ("hdr", "img"):
            write(folder, put(nifti(), 344, "4s", b"ni1\0")[:348], "scan.hdr")
            write(folder, IMAGE.tobytes()[:500], "scan.img")
        elif ending in ("gipl", "vtk", "tif", "nia"):
            path = itk(folder, f"scan.{ending}")
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        else:
            write(folder, b"anything", f"scan.{ending}")
        return folder / f"scan.{ending}"


if sys.platform == "linux":  # elsewhere no such file can be made
    for ending in ("nii.gz", "nrrd", "mha", "dcm"):

        @kind("image", f"{ending}: a name that is no UTF-8", words="no UTF-8")
        def _(folder, ending=ending):
            data = bytes(128) + b"DICM" if ending == "dcm" else itk(folder, f"good.{ending}").read_bytes()
            path = folder / os.fsdecode(b"M\xfcller." + ending.encode())
            path.write_bytes(data)
            return path


for title, fields in (
    ("no anatomical space", ""),
    ("another space", "space: scanner-xyz\nspace directions: (1,0,0) (0,1,0) (0,0,1)\nspace origin: (0,0,0)\n"),
    ("no origin", "space: RAS\nspace directions: (1,0,0) (0,1,0) (0,0,1)\n"),
    ("no directions", "space: RAS\nspace origin: (0,0,0)\n"),
):

    @kind("image", f"nrrd: {title}", MENDED, "Slicer places it elsewhere")
    def _(folder, fields=fields):
        return text(folder, "scan.nrrd", f"{UNPLACED}{fields}\n", IMAGE.tobytes())


@kind("image", "nrrd: packed in two pieces, zeros between", words="damaged or incomplete")
def _(folder):
    half = len(IMAGE.tobytes()) // 2
    pieces = (gzip.compress(part) for part in (IMAGE.tobytes()[:half], IMAGE.tobytes()[half:]))
    return text(folder, "scan.nrrd", NRRD.replace("raw", "gzip") + "\n", bytes(8).join(pieces))


@kind("image", "nrrd: packed in two pieces, the second cut", words="damaged or incomplete")
def _(folder):
    half = len(IMAGE.tobytes()) // 2
    pieces = [gzip.compress(part) for part in (IMAGE.tobytes()[:half], IMAGE.tobytes()[half:])]
    return text(folder, "scan.nrrd", NRRD.replace("raw", "gzip") + "\n", pieces[0] + pieces[1][:-9])


@kind("image", "nrrd: packed as zlib does, which NrrdIO takes for voxels", words="damaged or incomplete")
def _(folder):
    return text(folder, "scan.nrrd", NRRD.replace("raw", "gzip") + "\n", zlib.compress(IMAGE.tobytes(), 0))


FEWER = {"NIfTI": "scan.nii", "NIfTI, packed": "scan.nii.gz", "mha": "scan.mha", "nrrd": "scan.nrrd"}
FEWER |= {"mhd": "scan.mhd", "nhdr": "scan.nhdr", "nrrd, packed": "scan.nrrd", "mha, packed": "scan.mha"}
for title, name in FEWER.items():

    @kind(
        "image", f"{title}: of one slice more than its header says", words="holds more than the 1728 bytes|the 2080 by"
    )
    def _(folder, title=title, name=name):
        if "nii" in name:
            return write(folder, put(nifti(), 46, "h", len(IMAGE) - 1), name)
        path = itk(folder, name, "packed" in title)
        data = path.read_bytes()
        path.write_bytes(data.replace(b"DimSize = 9 8 7", b"DimSize = 9 8 6").replace(b"sizes: 9 8 7", b"sizes: 9 8 6"))
        assert data != path.read_bytes()
        return path


# odd, but right


@kind("image", "mha: a slope of 1 and an intercept of 0", READ)
def _(folder):
    scale = "ElementToIntensityFunctionSlope = 1.0\nElementToIntensityFunctionOffset = 0\n"
    return text(folder, "scan.mha", f"{META}{scale}ElementDataFile = LOCAL\n", IMAGE.tobytes())


for title, name, header in (
    ("mhd: a colon for the equal sign", "scan.mhd", f"{META}ElementDataFile : scan.raw\n"),
    ("mhd: behind long comments", "scan.mhd", f"{META}{PADDING}ElementDataFile = scan.raw"),
    ("mhd: lines ending as in Windows", "scan.mhd", f"{META}ElementDataFile = scan.raw\n".replace("\n", "\r\n")),
    ("mhd: a header of the voxels is skipped", "scan.mhd", f"{META}HeaderSize = -1\nElementDataFile = scan.raw\n"),
    ("nhdr: named in capitals", "scan.nhdr", f"{NRRD}DATA FILE: scan.raw\n\n"),
    ("nhdr: lines ending as in Windows", "scan.nhdr", f"{NRRD}data file: scan.raw\n\n".replace("\n", "\r\n")),
):

    @kind("image", f"{title}, voxels beside it", READ)
    def _(folder, name=name, header=header):
        return text(folder, name, header)


PLANE = IMAGE.nbytes // max(IMAGE.shape)  # the least that one more along any axis takes
PACKED = NRRD.replace("raw", "gzip") + "\n"
VOXELS = IMAGE.tobytes()


@kind("image", "NIfTI: some bytes behind its voxels", READ)
def _(folder):
    return write(folder, nifti() + bytes(PLANE - 1))


@kind("image", "nrrd: packed in several pieces", READ)
def _(folder):
    pieces = b"".join(gzip.compress(VOXELS[n : n + 100]) for n in range(0, len(VOXELS), 100))
    return text(folder, "scan.nrrd", PACKED, pieces)


@kind("image", "nrrd: packed, some bytes behind", READ)
def _(folder):
    return text(folder, "scan.nrrd", PACKED, gzip.compress(VOXELS) + b"behind")


for name, header in (("scan.mha", f"{META}ElementDataFile = LOCAL\n"), ("scan.nrrd", f"{NRRD}\n")):

    @kind("image", f"{name[5:]}: some bytes behind its voxels", READ)
    def _(folder, name=name, header=header):
        return text(folder, name, header, VOXELS + bytes(PLANE - 1))


for name in ("scan.mha", "scan.nhdr"):

    @kind("image", f"{name[-4:].strip('.')}: voxels behind its header", READ)
    def _(folder, name=name):
        header = f"{META}ElementDataFile = LOCAL\n" if name == "scan.mha" else f"{NRRD}\n"
        return text(folder, name, header, IMAGE.tobytes())


for ending in ("mhd", "nhdr"):

    @kind("image", f"{ending}: packed voxels beside it", READ)
    def _(folder, ending=ending):
        path = itk(folder, f"scan.{ending}", True)
        assert len(list(folder.iterdir())) == 2
        return path
