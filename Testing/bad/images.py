"""Images."""

import gzip
import struct
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from bad import MENDED, READ, kind

NAN = float("nan")
IMAGE = np.random.default_rng(0).normal(100, 20, (7, 8, 9)).astype(np.float32)


def nifti(array: np.ndarray = IMAGE, affine: np.ndarray | None = None) -> bytearray:
    """A NIfTI-1 file, not packed."""
    import nibabel

    image = nibabel.Nifti1Image(array.T, np.eye(4) if affine is None else affine, dtype=array.dtype)
    return bytearray(image.to_bytes())


def put(data: bytearray, place: int, layout: str, *values: float) -> bytearray:
    """Overwrite a field of a header."""
    struct.pack_into("<" + layout, data, place, *values)
    return data


def write(folder: Path, data: bytes, name: str = "scan.nii") -> Path:
    path = folder / name
    path.write_bytes(gzip.compress(bytes(data)) if name.endswith(".gz") else bytes(data))
    return path


def field(name: str, place: int, layout: str, *values: float, outcome: str = "refused", words: str = "") -> None:
    """A kind that differs from a good NIfTI file in one field."""
    kind("image", name, outcome, words)(lambda folder: write(folder, put(nifti(), place, layout, *values)))


field("NIfTI: dimensions of 32767", 40, "8h", 3, 32767, 32767, 32767, 1, 1, 1, 1, words="incomplete")
field("NIfTI: a negative dimension", 42, "h", -8)
field("NIfTI: a dimension of 0", 42, "h", 0)
field("NIfTI: 0 dimensions", 40, "h", 0)
field("NIfTI: 99 dimensions", 40, "h", 99)
for code in (9999, -1, 55, 2560, 0, 1):
    field(f"NIfTI: datatype {code}", 70, "h", code)
for code, bits in ((16, 0), (16, 1), (16, 8), (16, 64), (16, -32), (4, 8), (0, 0), (9999, 0)):
    field(f"NIfTI: {bits} bits for datatype {code}", 70, "2h", code, bits, words=f"datatype {code} has {bits} bits")
field("NIfTI: wrong magic", 344, "4s", b"nope", words="no NIfTI-1 image")
field("NIfTI: voxels in another file", 344, "4s", b"ni1\0", words="no NIfTI-1 image")
field("NIfTI: wrong size of the header", 0, "i", 1234, words="no NIfTI image")
field("NIfTI: voxels begin past the end", 108, "f", 1e9, words="incomplete")
field("NIfTI: voxels begin at NaN", 108, "f", NAN)
for start in (0, 348, -10):
    field(f"NIfTI: voxels begin at {start}, in the header", 108, "f", start, words="within its header")
field("NIfTI: spacing 0", 80, "f", 0.0, words="spacing")
field("NIfTI: spacing NaN", 80, "3f", *[NAN] * 3, words="spacing")
for slope, shift in ((0.0, 5.0), (NAN, 5.0), (np.inf, 5.0), (2.0, NAN), (1.0, np.inf), (1e-20, 0.0)):
    field(f"NIfTI: slope {slope}, intercept {shift}", 112, "2f", slope, shift, words="scale of its values")
field("NIfTI: slope 1e+38, so that no value is finite", 112, "2f", 1e38, 0.0, words="no number at all")
field("NIfTI: a qform of NaN", 252, "2h3f", 1, 0, *[NAN] * 3, words="qform holds")
field("NIfTI: position NaN", 292, "f", NAN, words="not numbers")


@kind("image", "NIfTI: cut in the middle", words="incomplete")
def _(folder):
    data = nifti()
    return write(folder, data[: len(data) // 2])


@kind("image", "NIfTI: one byte short", words="incomplete")
def _(folder):
    return write(folder, nifti()[:-1])


@kind("image", "NIfTI: packed, cut in the middle", words="damaged or incomplete")
def _(folder):
    packed = gzip.compress(bytes(nifti()))
    path = folder / "scan.nii.gz"
    path.write_bytes(packed[: len(packed) // 2])
    return path


@kind("image", "NIfTI: packed, few voxels", words="incomplete")
def _(folder):
    return write(folder, nifti()[:600], "scan.nii.gz")


@kind("image", "NIfTI: packed, wrong checksum", words="damaged or incomplete")
def _(folder):
    path = write(folder, nifti(), "scan.nii.gz")
    path.write_bytes(path.read_bytes()[:-8] + bytes(8))
    return path


@kind("image", "NIfTI: not packed, but named .nii.gz", words="damaged or incomplete")
def _(folder):
    path = folder / "scan.nii.gz"
    path.write_bytes(bytes(nifti()))
    return path


@kind("image", "NIfTI: sheared grid", words="right angles")
def _(folder):
    affine = np.eye(4)
    affine[0, 1] = 0.37
    return write(folder, nifti(affine=affine))


@kind("image", "NIfTI: singular grid")
def _(folder):
    data = nifti()
    put(data, 254, "h", 1)
    put(data, 252, "h", 0)
    return write(folder, put(data, 280, "12f", 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1, 0))


@kind("image", "NIfTI: complex numbers", words="complex")
def _(folder):
    return write(folder, nifti(IMAGE.astype(np.complex64)))


@kind("image", "NIfTI: a series of volumes", words="4 dimensions")
def _(folder):
    return write(folder, nifti(np.stack([IMAGE] * 3)))


@kind("image", "NIfTI: NaN inside", words="not numbers .* in 3 voxel")
def _(folder):
    array = IMAGE.copy()
    array[3, 4, 3:6] = np.nan
    return write(folder, nifti(array))


@kind("image", "NIfTI: infinite values inside", words="not numbers")
def _(folder):
    array = IMAGE.copy()
    array[3, 4, 4] = np.inf
    return write(folder, nifti(array))


@kind("image", "NIfTI: nothing but NaN", words="no number at all")
def _(folder):
    return write(folder, nifti(np.full_like(IMAGE, np.nan)))


@kind("image", "NIfTI: NaN around the body", MENDED, "no number")
def _(folder):
    array = IMAGE.copy()
    array[:2] = np.nan
    return write(folder, nifti(array))


@kind("image", "NIfTI-2")
def _(folder):
    import nibabel

    path = folder / "scan.nii"
    nibabel.save(nibabel.Nifti2Image(IMAGE.T, np.eye(4)), path)
    return path


for text, content in (("empty file", b""), ("a text", b"no image\n" * 50), ("zeros", bytes(4000)), ("noise", None)):
    for ending in ("nii", "nii.gz", "nrrd", "mha", "png"):

        @kind("image", f"{ending}: {text}")
        def _(folder, ending=ending, content=content):
            path = folder / f"scan.{ending}"
            path.write_bytes(np.random.default_rng(0).bytes(4000) if content is None else content)
            return path


@kind("image", "a folder named like an image", words="holds no DICOM series")
def _(folder):
    (folder / "scan.nii.gz").mkdir()
    return folder / "scan.nii.gz"


@kind("image", "no file", words="no such file")
def _(folder):
    return folder / "scan.nii.gz"


def itk(folder: Path, name: str, packed: bool = False) -> Path:
    path = folder / name
    sitk.WriteImage(sitk.GetImageFromArray(IMAGE), str(path), useCompression=packed)
    return path


for ending in ("nrrd", "mha"):
    for packed in (False, True):

        @kind("image", f"{ending}: cut in the middle{', packed' if packed else ''}")
        def _(folder, ending=ending, packed=packed):
            path = itk(folder, f"scan.{ending}", packed)
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
            return path


def text_changed(folder: Path, name: str, old: str, new: str) -> Path:
    path = itk(folder, name)
    data = path.read_bytes()
    assert old.encode() in data
    path.write_bytes(data.replace(old.encode(), new.encode(), 1))
    return path


for title, name, old, new in (
    ("nrrd: 2^60 voxels", "scan.nrrd", "sizes: 9 8 7", "sizes: 1048576 1048576 1048576"),
    ("nrrd: far too many voxels", "scan.nrrd", "sizes: 9 8 7", "sizes: 4000 4000 4000"),
    ("nrrd: one dimension", "scan.nrrd", "dimension: 3", "dimension: 1"),
    ("nrrd: unknown type", "scan.nrrd", "type: float", "type: nonsense"),
    ("nrrd: unknown encoding", "scan.nrrd", "encoding: raw", "encoding: zebra"),
    ("nrrd: no sizes", "scan.nrrd", "sizes: 9 8 7\n", ""),
    ("nrrd: directions of 0", "scan.nrrd", "(1,0,0)", "(0,0,0)"),
    ("mha: 2^60 voxels", "scan.mha", "DimSize = 9 8 7", "DimSize = 1048576 1048576 1048576"),
    ("mha: far too many voxels", "scan.mha", "DimSize = 9 8 7", "DimSize = 4000 4000 4000"),
    ("mha: unknown type", "scan.mha", "MET_FLOAT", "MET_NOTHING"),
    ("mha: no sizes", "scan.mha", "DimSize = 9 8 7\n", ""),
    ("mha: spacing 0", "scan.mha", "ElementSpacing = 1 1 1", "ElementSpacing = 0 1 1"),
    ("mha: singular directions", "scan.mha", "1 0 0 0 1 0 0 0 1", "1 0 0 1 0 0 0 0 1"),
):

    @kind("image", title)
    def _(folder, name=name, old=old, new=new):
        return text_changed(folder, name, old, new)


for ending in ("mhd", "nhdr"):

    @kind("image", f"{ending}: its voxels are missing", words="is missing")
    def _(folder, ending=ending):
        path = itk(folder, f"scan.{ending}")
        (folder / "scan.raw").unlink()
        return path


for ending, key in (("mhd", "ElementDataFile = "), ("nhdr", "data file: ")):
    for title, target in (("above its folder", "../scan.raw"), ("anywhere", "/etc/passwd")):

        @kind("image", f"{ending}: voxels {title}", words="only a file beside it")
        def _(folder, ending=ending, key=key, target=target):
            path = itk(folder, f"scan.{ending}")
            (folder / "scan.raw").rename(folder.parent / "scan.raw")
            path.write_bytes(path.read_bytes().replace(f"{key}scan.raw".encode(), f"{key}{target}".encode()))
            return path


@kind("image", "png: cut in the middle")
def _(folder):
    path = folder / "scan.png"
    sitk.WriteImage(sitk.GetImageFromArray(IMAGE[0].astype(np.uint8)), str(path))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


# odd, but right


def odd(name: str, outcome: str = READ):
    return kind("image", name, outcome)


for number in ("u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8"):

    @odd(f"NIfTI: numbers of type {number}")
    def _(folder, number=number):
        array = np.clip(IMAGE, 0, 127).round()
        return write(folder, nifti(array.astype(number)))


@odd("NIfTI: the other byte order")
def _(folder):
    import nibabel

    image = nibabel.Nifti1Image(IMAGE.T, np.eye(4))
    header = image.header.as_byteswapped(">")
    path = folder / "scan.nii"
    nibabel.save(nibabel.Nifti1Image(IMAGE.T, np.eye(4), header), path)
    return path


@odd("NIfTI: with an extension of the header")
def _(folder):
    import nibabel

    image = nibabel.Nifti1Image(IMAGE.T, np.eye(4))
    image.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", b"a note"))
    path = folder / "scan.nii.gz"
    nibabel.save(image, path)
    return path


for slope, shift in ((0.0, NAN), (0.0, 0.0), (NAN, NAN), (np.inf, 0.0), (-np.inf, np.inf)):

    @odd(f"NIfTI: slope {slope}, intercept {shift}")
    def _(folder, slope=slope, shift=shift):
        return write(folder, put(nifti(), 112, "2f", slope, shift))


@odd("NIfTI: a last dimension of 1")
def _(folder):
    return write(folder, nifti(IMAGE[None]))


@odd("NIfTI: left-handed grid")
def _(folder):
    return write(folder, nifti(affine=np.diag([-1.0, 1, 1, 1])))


@odd("nrrd: packed")
def _(folder):
    return itk(folder, "scan.nrrd", True)


@odd("mhd: voxels beside it")
def _(folder):
    return itk(folder, "scan.mhd")


@odd("nhdr: voxels beside it")
def _(folder):
    return itk(folder, "scan.nhdr")


@odd("mha: packed")
def _(folder):
    return itk(folder, "scan.mha", True)


@odd("NIfTI: a name of two scripts and spaces")
def _(folder):
    return write(folder, nifti(), "größe 頭部 (1).nii")
