"""Reading images and label maps, and writing masks, with every check that SimpleITK leaves out."""

import contextlib
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from DiffSegLib.data.dicom import read_series
from DiffSegLib.data.dicom_elements import is_dicom
from DiffSegLib.data.headers import Voxels, check_amount, voxels_of
from DiffSegLib.data.nifti import Holes, check_payload, is_nifti
from DiffSegLib.data.paths import itk_name, no_file
from DiffSegLib.data.volume import SHEARED, Volume, check_geometry, machine_memory
from DiffSegLib.errors import InputError
from DiffSegLib.labels import Label
from DiffSegLib.whole_files import whole_file

sitk.ProcessObject.SetGlobalWarningDisplay(False)  # ITK's own go to stderr, between the lines of progress
LEVELS = 1 << 16  # times the spread of an image's values: of larger values float32 tells few hundred apart
ROUND_OFF = 1e-13  # of the largest value: float64 values that are no further apart are meant to be the same
MANY = 32  # values of a label map that may be an image
MOST_PACKED = 1100  # values that a byte of a file can hold: zlib packs at most 1032 to 1
# ending -> what reads it in ITK, which would else go by what stands in the file
ENDINGS = {".nii.gz": "Nifti", ".nii": "Nifti", ".nrrd": "Nrrd", ".nhdr": "Nrrd", ".mha": "Meta", ".mhd": "Meta"}
ENDINGS |= {".png": "PNG"}


def case_name(path: Path) -> str:
    """The file's name without its ending: `x` of `x.nii.gz` and of `x.seg.nrrd`."""
    for ending in (".seg.nrrd", *ENDINGS):
        if path.name.lower().endswith(ending):
            return path.name[: -len(ending)]
    return path.stem


def is_image_file(path: Path) -> bool:
    """Whether the name ends like an image that can be read."""
    return path.name.lower().endswith(tuple(ENDINGS))


def read(path: Path, frames: int = 1) -> Volume:
    """An image of one or several channels as float32. Raises InputError naming the file and what is wrong.

    A 4D file is taken where `frames` says how many channels it must hold. A 2D image, PNG too, is one slice:
    (C, 1, J, I). A folder, or a DICOM file, is a DICOM series.
    """
    with _in_memory(path):
        image, odd, places = _read(path, frames)
        array = sitk.GetArrayViewFromImage(image)
        array = np.moveaxis(array, -1, 0) if image.GetNumberOfComponentsPerPixel() > 1 else array[None]
        array = array[: _colours(path, len(array))]
        check_digits(array, str(path))
        array = np.array(array, dtype=np.float32, order="C")
        for start, where in odd:
            array.reshape(-1)[start : start + len(where)][where] = np.nan
        return Volume(array, affine_of(image), str(path), (*mend(array, str(path)), *places))


def check_digits(array: np.ndarray, name: str) -> None:
    """Raise InputError where float32 cannot hold the values of a (C, K, J, I) image, or not what tells them apart.

    Of each channel by itself, and without zeros, as of a background: they say nothing of how near the others are.
    """
    if array.dtype.itemsize < 4 or array.dtype == np.float32:
        return
    for channel in array:
        kept = (part[np.isfinite(part) & (part != 0)] for part in channel)  # by slices, to save memory
        if not (ends := [(part.min(), part.max()) for part in kept if part.size]):
            continue
        low, high = float(min(low for low, _ in ends)), float(max(high for _, high in ends))
        largest, spread = max(abs(low), abs(high)), high - low
        is_near = (ROUND_OFF if array.dtype.kind == "f" else 0) * largest < spread < largest / LEVELS
        is_near = is_near and not np.array_equal(channel, channel.astype(np.float32), equal_nan=True)
        if is_near or float(np.finfo(np.float32).max) < largest:
            text = f"from {low:.17g} to {high:.17g}, are too large, or too near to each other for their size"
            raise InputError(f"{name}: its values, {text}; subtract an offset, or scale them, first.")


@contextlib.contextmanager
def _in_memory(path: Path) -> Iterator[None]:
    try:
        yield
    except MemoryError:
        raise InputError(f"{path}: is too large for this machine's memory.") from None


def mend(array: np.ndarray, name: str) -> tuple[str, ...]:
    """Give the background of a (C, K, J, I) image the lowest value where it holds no numbers; a sentence if it did.

    Background is what hangs together with the border. Raises InputError for any other voxel that is not finite.
    """
    odd = ~np.isfinite(array)
    if not odd.any():
        return ()
    from scipy.ndimage import label  # only here: most images need none

    for channel, where in zip(array, odd, strict=True):
        parts, count = label(where)
        border = np.zeros(count + 1, dtype=bool)
        for axis in range(parts.ndim):
            for end in (0, -1):
                border[np.unique(parts.take(end, axis))] = True
        inside = int((~border[parts] & where).sum())
        if inside or where.all():
            many = f"values that are not numbers (NaN or infinite) in {inside} voxel(s) inside; replace them first"
            raise InputError(f"{name}: holds {'no number at all' if where.all() else many}.")
        channel[where] = channel[~where].min()
    return (f"{name}: {int(odd.sum())} voxels of its border hold no number (NaN); they count as the lowest value.",)


def read_label(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """A label map: ((K, J, I) uint8, affine). Float files whose values are whole are accepted (they occur)."""
    with _in_memory(path):
        image, odd, _ = _read(path)
        if odd:
            raise InputError(f"{path}: holds values that are not numbers (NaN or infinite); labels are whole numbers.")
        if image.GetNumberOfComponentsPerPixel() > 1:
            raise InputError(f"{path}: a label map must have one value per voxel.")
        array = sitk.GetArrayFromImage(image)
        whole = np.rint(array)
        if not np.array_equal(whole, array) or whole.min() < 0 or whole.max() > 255:
            raise InputError(f"{path}: labels must be whole numbers from 0 to 255; is it an image?")
        if _is_restless(whole):
            text = f"holds more than {MANY} values that change from voxel to voxel, as those of an image do"
            raise InputError(f"{path}: {text}; a label map is needed.")
        return whole.astype(np.uint8), affine_of(image)


def _is_restless(array: np.ndarray) -> bool:
    """Whether there are many values, and most voxels behind another one have another value: in a label map few do."""
    flat = array.reshape(-1)
    step = max(1, flat.size // 1_000_000)
    one, next_one = flat[:-1:step], flat[1::step]
    inside = (one > 0) & (next_one > 0)  # not single voxels, as landmarks are
    if len(np.unique(next_one)) <= MANY or 10 * inside.sum() < len(inside):
        return False
    return bool((one != next_one)[inside].mean() > 0.6)


def channel_count(path: Path) -> int:
    """Channels of an image file, from its header alone (frames of a 4D file, colours of an RGB image)."""
    try:
        reader, _ = header_reader(path)
    except RuntimeError as problem:
        raise InputError(f"{path}: is no image that can be read ({_reason(problem)}).") from None
    frames = reader.GetSize()[3] if reader.GetDimension() == 4 else 1
    return frames if frames > 1 else _colours(path, reader.GetNumberOfComponents())


def _colours(path: Path, components: int) -> int:
    """A PNG's transparency is no channel."""
    return components - 1 if path.suffix.lower() == ".png" and components == 4 else components


def affine_of(image: sitk.Image) -> np.ndarray:
    """(4, 4) ijk -> LPS mm."""
    affine = np.eye(4)
    direction = np.array(image.GetDirection()).reshape(3, 3)
    affine[:3, :3] = direction * np.array(image.GetSpacing())
    affine[:3, 3] = image.GetOrigin()
    return affine


def image_of(array: np.ndarray, affine: np.ndarray) -> sitk.Image:
    """A (K, J, I) array as an image of SimpleITK on its grid."""
    image = sitk.GetImageFromArray(np.ascontiguousarray(array))
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((affine[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin(affine[:3, 3].tolist())
    return image


def write_mask(path: Path, mask: np.ndarray, affine: np.ndarray, labels: Iterable[Label] = ()) -> None:
    """Write a (K, J, I) uint8 mask on its grid, aside first and then renamed.

    A name ending in `.seg.nrrd` gets Slicer's segment names, colours and terminology.
    """
    if path.suffix == ".png":
        if len(mask) != 1:
            raise InputError(f"{path}: a PNG holds one slice, and this mask has {len(mask)}; choose another format.")
        _write(path, sitk.GetImageFromArray(mask[0]))
        return
    image = image_of(mask, affine)
    if path.name.endswith(".seg.nrrd"):
        for key, value in _segment_keys(mask, labels):
            image.SetMetaData(key, value)
    _write(path, image)


def write_volume(path: Path, array: np.ndarray, affine: np.ndarray) -> None:
    """Write a (K, J, I) array as an image, aside first and then renamed."""
    _write(path, image_of(array, affine))


def _write(path: Path, image: sitk.Image) -> None:
    """Raises InputError where what lies on the disk is not the image: ITK does not notice a disk that is full."""
    ending = ".nii.gz" if path.name.endswith(".nii.gz") else path.suffix
    with _in_memory(path), whole_file(path, ending) as aside:
        try:
            sitk.WriteImage(image, itk_name(aside), useCompression=True)
        except RuntimeError as problem:
            raise InputError(f"{path}: cannot be written ({_reason(problem)}).") from None
        if not _is_whole(aside, image):
            raise InputError(f"{path}: did not arrive whole; is the disk full? What was there before is untouched.")


def _is_whole(aside: Path, image: sitk.Image) -> bool:
    """Whether a file that was just written holds the image: all voxels, and the grid as exactly as NIfTI can tell."""
    try:
        found, odd, _ = _read(aside)
    except InputError:
        return False
    wanted = sitk.JoinSeries(image) if image.GetDimension() == 2 else image
    voxels, others = sitk.GetArrayViewFromImage(found), sitk.GetArrayViewFromImage(wanted)
    grid = np.allclose(affine_of(found), affine_of(wanted), rtol=1e-3, atol=1e-3 * max(wanted.GetSpacing()))
    if not grid or voxels.dtype != others.dtype or voxels.shape != others.shape:
        return False
    # slice by slice: comparing the whole would take five times its memory
    return bool(odd) or all(np.array_equal(*pair, equal_nan=True) for pair in zip(voxels, others, strict=True))


def _segment_keys(mask: np.ndarray, labels: Iterable[Label]) -> list[tuple[str, str]]:
    """Slicer's `.seg.nrrd` fields (vtkMRMLSegmentationStorageNode); every segment in layer 0."""
    extent = " ".join(f"0 {n - 1}" for n in reversed(mask.shape))
    keys = [
        ("Segmentation_MasterRepresentation", "Binary labelmap"),
        ("Segmentation_ContainedRepresentationNames", "Binary labelmap|"),
        ("Segmentation_ReferenceImageExtentOffset", "0 0 0"),
    ]
    for n, label in enumerate(labels):
        entry = label.terminology_entry()
        values = {
            "ID": f"Segment_{label.value}",
            "Name": label.name,
            "Color": " ".join(f"{x:g}" for x in label.color),
            "NameAutoGenerated": "0",
            "ColorAutoGenerated": "0",
            "LabelValue": str(label.value),
            "Layer": "0",
            "Extent": extent,
            "Tags": f"TerminologyEntry:{entry}|" if entry else "|",
        }
        keys += [(f"Segment{n}_{key}", value) for key, value in values.items()]
    return keys


def _read(path: Path, frames: int = 1) -> tuple[sitk.Image, Holes, tuple[str, ...]]:
    """The image, where its values are not finite if ITK has hidden them (NIfTI), and what is to be told of it."""
    if not (path.is_file() or path.is_dir()):
        raise InputError(f"{path}: {no_file(path)}")
    odd, notes = check_payload(path) if is_nifti(path) and path.is_file() else ([], ())
    try:
        if path.is_dir() or is_dicom(path):
            image = read_series(path)
        else:
            image, more = _read_file(path)
            notes += more
    except RuntimeError as problem:
        if "orthonormal" in str(problem):
            raise InputError(f"{path}: {SHEARED}") from None
        raise InputError(f"{path}: is no image that can be read ({_reason(problem)}).") from None
    if path.suffix.lower() == ".png":
        image.SetSpacing((1.0, 1.0))  # the scale that few PNGs carry is seldom in mm
    if image.GetDimension() == 2:
        image = sitk.JoinSeries(image)
    if image.GetDimension() == 4 and image.GetSize()[3] == 1:
        image = image[..., 0]
    elif image.GetDimension() == 4 and image.GetSize()[3] == frames:
        image = sitk.Compose([image[..., n] for n in range(frames)])
    if image.GetDimension() != 3:
        raise InputError(f"{path}: has {image.GetDimension()} dimensions; a 3D volume is needed.")
    if "complex" in image.GetPixelIDTypeAsString():
        raise InputError(f"{path}: holds complex numbers; export its magnitude.")
    check_geometry(affine_of(image), str(path))
    return image, odd, notes


def _read_file(path: Path) -> tuple[sitk.Image, tuple[str, ...]]:
    """The image, and what is to be told of it.

    Raises InputError for a header that promises more than the file can hold, before anything is allocated.
    """
    reader, voxels = header_reader(path)
    values = reader.GetNumberOfComponents() * int(np.prod([max(n, 1) for n in reader.GetSize()], dtype=object))
    if values > MOST_PACKED * sum(part.stat().st_size for part in {path, voxels.file}) + (1 << 20):
        raise InputError(f"{path}: its header promises {values} values, more than the file can hold.")
    size = values * sitk.Image([1, 1], reader.GetPixelID()).GetSizeOfPixelComponent()
    if size + 4 * values > machine_memory():  # as it is read, and in float32
        raise MemoryError
    notes = check_amount(path, voxels, size, max(reader.GetSize()))
    return reader.Execute(), notes


def header_reader(path: Path) -> tuple[sitk.ImageFileReader, Voxels]:
    """A reader that knows the header, and where the voxels lie; see voxels_of."""
    known = [kind for ending, kind in ENDINGS.items() if path.name.lower().endswith(ending)]
    if not known:
        raise InputError(f"{path}: is of no kind that is read ({', '.join(ENDINGS)}, DICOM); convert it.")
    voxels = voxels_of(path)
    reader = sitk.ImageFileReader()
    reader.SetImageIO(f"{known[0]}ImageIO")
    reader.SetFileName(itk_name(path))
    reader.ReadImageInformation()
    return reader, voxels


def _reason(problem: BaseException) -> str:
    """The last telling line of an ITK error, without its source location.

    The "Reason:" that MetaImage adds is whatever the system complained of last, not the reason.
    """
    lines = [text for line in str(problem).splitlines() if (text := line.strip()) and not text.startswith("Reason:")]
    text = lines[-1].rpartition("ERROR: ")[2] if lines else type(problem).__name__
    return re.sub(r"^\w+\(0x[0-9a-f]+\): ", "", text)[:200].rstrip(".")
