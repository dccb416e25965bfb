"""DICOM series: found in folders by GDCM, read as volumes, with the checks that ITK leaves out.

ITK stacks whatever slices it is given and takes their distance for the same everywhere.
"""

import math
import os
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from DiffSegLib.data.dicom_elements import ITEM, claims_too_much, elements, is_dicom, pixels_of
from DiffSegLib.data.paths import itk_name, listed, no_file
from DiffSegLib.data.volume import SHEARED, machine_memory
from DiffSegLib.errors import InputError

UNEVEN = 0.02  # of the distance of two slices: by so much it may differ before a slice is thought to be missing
POSITION, ORIENTATION, SPACING = "0020|0032", "0020|0037", "0028|0030"
SCALE = ("0028|1052", "0028|1053")  # rescale intercept and slope
COLOURS, VOXELS = "0028|0004", ("0010", "0011", "0100", "0101", "0102", "0103")  # the last: whether signed
TYPE = (*SCALE, "0028|0100", "0028|0101", "0028|0103")  # ITK chooses a type by them
CLASSES = {0x00020002, 0x00080016}  # of the file, and of what it holds
FRAMES = (0x52009229,), (0x52009230,)  # the functional groups, shared and of each frame
# of these: where a frame lies, how it is turned, the scale of its values, each with the sequence that holds it
FRAME = {0x00200032: 0x00209113, 0x00200037: 0x00209116, 0x00281052: 0x00289145, 0x00281053: 0x00289145}


def find_series(folder: Path) -> dict[str, Path]:
    """Name -> a file of each series in a folder and in the folders in it.

    A series is called after its folder; where one holds several, with a number in the order of their identifiers.
    Raises InputError for two of one name.
    """
    found: dict[str, Path] = {}
    subfolders = [p for p in listed(folder) if p.is_dir() and not p.name.startswith(".")]
    for place in (folder, *subfolders):
        try:
            held = [path for path in listed(place) if not path.is_dir()]
            if not any(is_dicom(path) if path.is_file() else path.suffix.lower() == ".dcm" for path in held):
                continue
            damaged = _damaged(place)
        except (InputError, OSError):
            damaged = place  # told when it is read; the other series go on
        groups = [(str(damaged),)] if damaged else _groups(place)
        for n, files in enumerate(groups, start=1):
            # links are called by their own names: several may lead to folders of one name
            name = Path(os.path.abspath(place)).name + (f"_{n}" if len(groups) > 1 else "")
            if (file := found.setdefault(name, Path(files[0]))) != Path(files[0]):
                raise InputError(f"{files[0]}: has the same case name as {file}; their outputs would collide.")
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
    known, first = {Path(name) for group in (*groups, names) for name in group}, Path(names[0])
    for file in listed(folder):  # GDCM leaves out what it cannot read, the first or last slice say
        is_alike = file.suffix == first.suffix != "" and not file.name.startswith(".")
        is_left = file not in known and file.is_file() and (is_alike or is_dicom(file))
        if is_left and _kind(file) in (None, _kind(first)):
            raise InputError(f"{file}: is damaged, in the folder of a series; copy it again, or remove it.")
    headers = [_header(Path(name)) for name in names]
    if 3 * sum(_promised(header)[0] for header in headers) > machine_memory():  # as they are read, and in float32
        raise MemoryError
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames([itk_name(name) for name in names])
    if len(names) > 1 or _tag(headers[0], POSITION):  # a picture lies nowhere
        try:
            at, axes = (np.array([_numbers(_tag(each, key)) for each in headers]) for key in (POSITION, ORIENTATION))
            sizes = np.array([_numbers(_tag(each, SPACING, "1")) for each in headers])
            at, axes = at.reshape(-1, 3), axes.reshape(-1, 6)
        except ValueError:
            raise InputError(f"{path}: its slices do not say where they lie; export it again.") from None
    if len(names) > 1:
        _check(path, names, at, axes)
        if np.abs(sizes - sizes[0]).max() > 1e-3:
            raise InputError(f"{path}: its slices have different pixel spacings; export one series.")
        if len({_tag(each, COLOURS) for each in headers}) > 1:  # of which ITK inverts some
            raise InputError(f"{path}: its slices have different photometric interpretations; export one series.")
        if len({tuple(_tag(each, key) for key in TYPE) for each in headers}) > 1:
            reader.SetOutputPixelType(sitk.sitkFloat32)  # else the first slice's type, which may not hold the others
    image = reader.Execute()
    if len(names) == 1 and image.GetDimension() > 2 and image.GetSize()[2] > 1:
        _check_frames(Path(names[0]), image[..., 0] if image.GetDimension() == 4 else image)
    return image


def _check(path: Path, names: Sequence[str], at: np.ndarray, axes: np.ndarray) -> None:
    """names: of the files. at: (slices, 3) positions in mm; axes: (slices, 6) directions of rows and columns."""
    if np.abs(axes - axes[0]).max() > 1e-3:
        raise InputError(f"{path}: its slices have different orientations; export one series.")
    normal = np.cross(axes[0, :3], axes[0, 3:])
    distances = np.diff(at @ normal)
    usual = float(np.median(distances))
    if abs(usual) < 1e-3 or np.abs(distances - usual).max() > UNEVEN * abs(usual):
        low, high, n = np.abs(distances).min(), np.abs(distances).max(), int(np.abs(distances - usual).argmax())
        where = f"{Path(names[n]).name} and {Path(names[n + 1]).name} (distances from {low:.3g} to {high:.3g} mm)"
        raise InputError(f"{path}: slices are missing or double between {where}; copy or export the series again.")
    across = (at[-1] - at[0]) - normal * float((at[-1] - at[0]) @ normal)
    if np.linalg.norm(across) > 1e-3 * abs(float((at[-1] - at[0]) @ normal)):
        raise InputError(f"{path}: {SHEARED}")


def _check_frames(file: Path, image: sitk.Image) -> None:
    """Raise InputError where frames are not as ITK, which looks at few of them, takes them: even, of one scale."""
    wanted = [image.TransformIndexToPhysicalPoint((0, 0, n)) for n in range(image.GetSize()[2])]
    turned = image.GetDirection()[::3] + image.GetDirection()[1::3]
    found: dict[int, list[list[float]]] = {tag: [] for tag in FRAME}
    try:
        for each in elements(file, FRAME):
            groups, holder = each.within[:1], each.within[2:]
            is_frame = groups in FRAMES and holder == (FRAME.get(each.tag), ITEM)
            if is_frame or (each.tag in FRAME and each.tag >> 16 == 0x28 and not groups):
                found[each.tag].append(_numbers(each.value.decode("latin-1")))
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
        what = "is damaged or incomplete (shorter than it says); copy it again, or remove it."
        raise InputError(f"{damaged}: {no_file(damaged) or what}")
    reader, name = sitk.ImageSeriesReader, itk_name(folder)
    found = (reader.GetGDCMSeriesFileNames(name, series) for series in reader.GetGDCMSeriesIDs(name))
    return [files for files in found if files]


def _damaged(folder: Path) -> Path | None:
    """The first file that is, or that is none: a link to nowhere, at which GDCM ends its search without a word."""
    held = (path for path in listed(folder) if not path.is_dir())
    return next((path for path in held if no_file(path) or claims_too_much(path)), None)


def _kind(path: Path) -> bytes | None:
    """None where it is told in two ways, or in no sensible one."""
    found = {each.value for each in elements(path, CLASSES) if each.tag in CLASSES and not each.within}
    return found.pop() if len(found) == 1 and all(value.replace(b".", b"").isdigit() for value in found) else None


def _tag(header: sitk.ImageFileReader, key: str, otherwise: str = "") -> str:
    return header.GetMetaData(key).strip() if header.HasMetaDataKey(key) else otherwise


def _header(file: Path) -> sitk.ImageFileReader:
    """Raises InputError for fewer voxels than are promised, which ITK fills with what its memory holds, and for more:
    of these it takes the first.
    """
    header = sitk.ImageFileReader()
    header.SetImageIO("GDCMImageIO")
    header.SetFileName(itk_name(file))
    header.ReadImageInformation()
    promised, shape = _promised(header)
    if "MOSAIC" in _tag(header, "0008|0008"):
        raise InputError(f"{file}: is a mosaic, a volume's slices as tiles of one picture; convert it with dcm2niix.")
    if not re.fullmatch(r"(MONOCHROME[12]|RGB|PALETTE COLOR|YBR_\w+)?", colours := _tag(header, COLOURS)):
        raise InputError(f"{file}: has the photometric interpretation {colours!r}, which is none; export it again.")
    scale = [_tag(header, key) or "1" for key in SCALE]
    try:
        is_clear = all(map(_numbers, scale)) and float(scale[1]) != 0
    except ValueError:
        is_clear = False
    if not is_clear:
        raise InputError(f"{file}: the scale of its values ({', '.join(scale)}) is none; export it again.")
    padding = max(2, promised // max(1, *shape))  # less than a row, column or frame; older files have some
    for found, wanted, spare in zip(pixels_of(file), (promised, shape[0]), (padding, 1), strict=True):
        if found is not None and not wanted <= found < wanted + spare:
            what = "incomplete" if found < wanted else "damaged, or its header promises too little"
            raise InputError(f"{file}: is {what} (not the {promised} bytes of its voxels); copy or export it again.")
    return header


def _promised(header: sitk.ImageFileReader) -> tuple[int, list[int]]:
    """Bytes of voxels, and the numbers of frames, rows and columns."""
    try:
        frames, samples = (int(_tag(header, key) or "1") or 1 for key in ("0028|0008", "0028|0002"))
        rows, columns, bits, stored, high, _ = (int(_tag(header, f"0028|{key}")) for key in VOXELS)
        if not 0 < stored == high + 1 <= bits or math.prod(header.GetSize()) != frames * rows * columns:
            raise ValueError
    except ValueError:
        text = "does not say how many voxels it has and of what type, or in two ways"
        raise InputError(f"{header.GetFileName()}: {text}; export it again.") from None
    found = frames * rows * columns * samples * bits // 8  # in YBR_*_422 two pixels share their colour
    return found * 2 // 3 if "422" in _tag(header, COLOURS) else found, [frames, rows, columns]


def _numbers(text: str) -> list[float]:
    """Raises ValueError for what are no finite numbers."""
    found = [float(part.rstrip("\0 ")) for part in text.split("\\")]
    if not np.isfinite(found).all():
        raise ValueError
    return found
