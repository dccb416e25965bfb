"""DICOM series: found in folders by GDCM, read as volumes, with the checks that ITK leaves out.

ITK stacks whatever slices it is given and takes their distance for the same everywhere.
"""

import math
import re
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from DiffSegLib.data.dicom_elements import claims_too_much
from DiffSegLib.data.headers import itk_name
from DiffSegLib.data.volume import SHEARED, machine_memory
from DiffSegLib.errors import InputError

UNEVEN = 0.02  # of the distance of two slices: by so much it may differ before a slice is thought to be missing
POSITION, ORIENTATION, SPACING = "0020|0032", "0020|0037", "0028|0030"
SCALE = ("0028|1052", "0028|1053")  # rescale intercept and slope
# where a frame lies, how it is turned, the scale of its values: the tag, and the length of the numbers behind it
FRAME = re.compile(
    rb"(?:\x20\0[\x13\x16]\x91(?:SQ\0\0)?.{4}\xfe\xff\0\xe0.{4}(?=\x20)|(?=\x28))"
    rb"(\x20\0[\x32\x37]\0|\x28\0[\x52\x53]\x10)(?:DS(..)|(..)\0\0)",
    re.DOTALL,
)
UNPACKED = re.compile(rb"\x02\0\x10\0UI..1\.2\.840\.10008\.1\.2(\.1)?\0", re.DOTALL)  # transfer syntaxes, little endian
PIXELS = re.compile(rb"\xe0\x7f\x10\0(?:(?:O[BW]|UN)\0\0)?(.{4})", re.DOTALL)  # and their length
KIND = re.compile(rb"\x02\0\x02\0UI..([\d.]+)", re.DOTALL)  # the SOP class, within the head of a file


def is_dicom(path: Path) -> bool:
    """Whether a file has DICOM's mark, whatever its name."""
    try:
        with open(path, "rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


def find_series(folder: Path) -> dict[str, Path]:
    """Name -> a file of each series in a folder and in the folders in it.

    A series is called after its folder; where one holds several, with a number in the order of their identifiers.
    """
    found: dict[str, Path] = {}
    subfolders = sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    for place in (folder, *subfolders):
        if not any(is_dicom(path) for path in sorted(place.iterdir()) if path.is_file()):
            continue
        damaged = _damaged(place)  # told when it is read; the other series go on
        groups = [(str(damaged),)] if damaged else _groups(place)
        for n, files in enumerate(groups, start=1):
            found[place.resolve().name if len(groups) == 1 else f"{place.resolve().name}_{n}"] = Path(files[0])
    return found


def read_series(path: Path) -> sitk.Image:
    """The series in a folder, or the one that a file belongs to. Raises InputError for none, or several in a folder.

    Slices are sorted by position. Uneven distances (a slice is missing) and a tilted gantry are refused.
    """
    folder = path if path.is_dir() else path.parent
    groups = _groups(folder)
    if path.is_dir() and len(groups) != 1:
        if not groups:
            raise InputError(f"{path}: is a folder and holds no DICOM series.")
        raise InputError(f"{path}: holds {len(groups)} DICOM series; name a file of the one that is meant.")
    names = groups[0] if path.is_dir() else next((g for g in groups if path in map(Path, g)), (str(path),))
    known = {Path(name) for group in (*groups, names) for name in group}
    for file in sorted(folder.iterdir()):  # GDCM leaves out what it cannot read, the first or last slice say
        if file not in known and file.is_file() and is_dicom(file) and _kind(file) == _kind(Path(names[0])):
            raise InputError(f"{file}: is damaged, in the folder of a series; copy it again, or remove it.")
    headers = [_header(Path(name)) for name in names]
    if 3 * sum(_promised(header) for header in headers) > machine_memory():  # as they are read, and in float32
        raise MemoryError
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames([itk_name(name) for name in names])
    if len(names) > 1:
        try:
            at, axes = (np.array([_numbers(_tag(each, key)) for each in headers]) for key in (POSITION, ORIENTATION))
            sizes = np.array([_numbers(_tag(each, SPACING, "1")) for each in headers])
        except ValueError:
            raise InputError(f"{path}: its slices do not say where they lie; export it again.") from None
        _check(path, at, axes)
        if np.abs(sizes - sizes[0]).max() > 1e-3:
            raise InputError(f"{path}: its slices have different pixel spacings; export one series.")
        if len({tuple(_tag(each, key) for key in SCALE) for each in headers}) > 1:
            reader.SetOutputPixelType(sitk.sitkFloat32)  # else the first slice's type, which may be of whole numbers
    image = reader.Execute()
    if len(names) == 1 and image.GetDimension() > 2 and image.GetSize()[2] > 1:
        _check_frames(Path(names[0]), image[..., 0] if image.GetDimension() == 4 else image)
    return image


def _check(path: Path, at: np.ndarray, axes: np.ndarray) -> None:
    """at: (slices, 3) positions in mm; axes: (slices, 6) directions of rows and columns."""
    if np.abs(axes - axes[0]).max() > 1e-3:
        raise InputError(f"{path}: its slices have different orientations; export one series.")
    normal = np.cross(axes[0, :3], axes[0, 3:])
    distances = np.diff(at @ normal)
    usual = float(np.median(distances))
    if abs(usual) < 1e-3 or np.abs(distances - usual).max() > UNEVEN * abs(usual):
        low, high = np.abs(distances).min(), np.abs(distances).max()
        raise InputError(f"{path}: slices are missing or double (distances from {low:.3g} to {high:.3g} mm).")
    across = (at[-1] - at[0]) - normal * float((at[-1] - at[0]) @ normal)
    if np.linalg.norm(across) > 1e-3 * abs(float((at[-1] - at[0]) @ normal)):
        raise InputError(f"{path}: {SHEARED}")


def _check_frames(file: Path, image: sitk.Image) -> None:
    """Raise InputError where frames are not as ITK, which looks at few of them, takes them: even, of one scale."""
    wanted = [image.TransformIndexToPhysicalPoint((0, 0, n)) for n in range(image.GetSize()[2])]
    turned, data = image.GetDirection()[::3] + image.GetDirection()[1::3], file.read_bytes()
    found: dict[bytes, list[list[float]]] = {b" \0\x32\0": [], b" \0\x37\0": [], b"(\0\x52\x10": [], b"(\0\x53\x10": []}
    try:
        for each in FRAME.finditer(data, 0, max(0, data.find(b"\xe0\x7f\x10\0"))):  # before the pixels
            end = each.end() + int.from_bytes(each[2] or each[3], "little")
            found[each[1]].append(_numbers(data[each.end() : end].decode("latin-1")))
        at, axes, *scales = found.values()
        is_even = np.shape(at) == np.shape(wanted) and np.allclose(at, wanted, 0, 0.1 * image.GetSpacing()[2])
        is_even = is_even and np.allclose(axes or np.nan, turned, 0, 1e-3) and not any(np.ptp(x) for x in scales if x)
    except ValueError:
        is_even = False
    if not is_even:
        many = f"{len(wanted)} frames are no even stack of one scale, or do not say where each lies"
        raise InputError(f"{file}: its {many}; convert it to NIfTI.")


def _groups(folder: Path) -> list[tuple[str, ...]]:
    """The files of each series in a folder. Raises InputError for a file that GDCM would allocate too much for."""
    if (damaged := _damaged(folder)) is not None:
        raise InputError(f"{damaged}: is damaged or incomplete (shorter than it says); copy it again, or remove it.")
    reader, name = sitk.ImageSeriesReader, itk_name(folder)
    found = (reader.GetGDCMSeriesFileNames(name, series) for series in reader.GetGDCMSeriesIDs(name))
    return [files for files in found if files]


def _damaged(folder: Path) -> Path | None:
    files = (file for file in sorted(folder.iterdir()) if file.is_file() and is_dicom(file))
    return next((file for file in files if claims_too_much(file)), None)


def _kind(path: Path) -> bytes | None:
    with open(path, "rb") as file:
        found = KIND.search(file.read(1024))
    return found[1] if found else None


def _tag(header: sitk.ImageFileReader, key: str, otherwise: str = "") -> str:
    return header.GetMetaData(key).strip() if header.HasMetaDataKey(key) else otherwise


def _header(file: Path) -> sitk.ImageFileReader:
    """Raises InputError for fewer bytes of voxels than are promised, which ITK fills with what its memory holds."""
    header = sitk.ImageFileReader()
    header.SetImageIO("GDCMImageIO")
    header.SetFileName(itk_name(file))
    header.ReadImageInformation()
    data, promised = file.read_bytes(), _promised(header)
    if UNPACKED.search(data, 0, 1024):
        there = ((int.from_bytes(each[1], "little"), len(data) - each.end()) for each in PIXELS.finditer(data))
        if not any(promised <= size <= left for size, left in there):
            raise InputError(
                f"{file}: is incomplete (not the {promised} bytes of its voxels); copy or export it again."
            )
    return header


def _promised(header: sitk.ImageFileReader) -> int:
    """Bytes: rows, columns, samples of a pixel, frames, bits of a sample."""
    keys = ("0028|0010", "0028|0011", "0028|0002", "0028|0008", "0028|0100")
    try:
        found = math.prod(int(_tag(header, key, "1")) for key in keys) // 8
    except ValueError:
        raise InputError(f"{header.GetFileName()}: does not say how many voxels it has; export it again.") from None
    return found * 2 // 3 if "422" in _tag(header, "0028|0004") else found  # two of its pixels share their colour


def _numbers(text: str) -> list[float]:
    return [float(part) for part in text.split("\\")]
