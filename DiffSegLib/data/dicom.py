"""DICOM series: found in folders by GDCM, read as volumes, with the checks that ITK leaves out.

ITK stacks whatever slices it is given and takes their distance for the same everywhere.
"""

import re
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from DiffSegLib.data.headers import itk_name
from DiffSegLib.data.volume import SHEARED
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
        groups = _groups(place)
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
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames([itk_name(name) for name in names])
    reader.MetaDataDictionaryArrayUpdateOn()
    image = reader.Execute()
    if len(names) == 1 and image.GetDimension() > 2 and image.GetSize()[2] > 1:
        _check_frames(Path(names[0]), image[..., 0] if image.GetDimension() == 4 else image)
    if len(names) > 1:
        try:
            at = np.array([_numbers(reader.GetMetaData(n, POSITION)) for n in range(len(names))])
            axes = np.array([_numbers(reader.GetMetaData(n, ORIENTATION)) for n in range(len(names))])
            sizes = np.array([_numbers(_tag(reader, n, SPACING) or "1") for n in range(len(names))])
        except (RuntimeError, ValueError):
            raise InputError(f"{path}: its slices do not say where they lie; export it again.") from None
        _check(path, at, axes)
        if np.abs(sizes - sizes[0]).max() > 1e-3:
            raise InputError(f"{path}: its slices have different pixel spacings; export one series.")
        if len({tuple(_tag(reader, n, key) for key in SCALE) for n in range(len(names))}) > 1:
            reader.SetOutputPixelType(sitk.sitkFloat32)  # else the first slice's type, which may be of whole numbers
            image = reader.Execute()
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
    """The files of each series in a folder."""
    reader, name = sitk.ImageSeriesReader, itk_name(folder)
    found = (reader.GetGDCMSeriesFileNames(name, series) for series in reader.GetGDCMSeriesIDs(name))
    return [files for files in found if files]


def _kind(path: Path) -> bytes | None:
    with open(path, "rb") as file:
        found = KIND.search(file.read(1024))
    return found[1] if found else None


def _tag(reader: sitk.ImageSeriesReader, number: int, key: str) -> str:
    return reader.GetMetaData(number, key).strip() if reader.HasMetaDataKey(number, key) else ""


def _numbers(text: str) -> list[float]:
    return [float(part) for part in text.split("\\")]
