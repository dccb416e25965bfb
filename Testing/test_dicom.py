"""DICOM series: the same voxels in the same place as every other format and as Slicer's MRML, or a sentence."""

import locale
import re
import shutil
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from conftest import blob_case, turned
from DiffSegLib.commands import run
from DiffSegLib.data import dicom, dicom_elements
from DiffSegLib.data.batch import find_cases
from DiffSegLib.data.dicom_elements import claims_too_much
from DiffSegLib.data.files import read, read_label, write_volume
from DiffSegLib.errors import InputError
from multiframe import write_frames, write_slice
from tally import tried

OBLIQUE = np.eye(4)
OBLIQUE[:3, :3] = turned(20, -10, 35) @ np.diag([0.9, 1.1, 2.0])
OBLIQUE[:3, 3] = (12.0, -30.0, 55.0)
IMAGE = (blob_case(0)[0] * 100).astype(np.int16)


def write_series(folder, array=IMAGE, affine=OBLIQUE, uid="1.2.3", order=None, move=lambda n, at: at):
    """One file a slice, named in any order; move: changes where a slice says it lies."""
    folder.mkdir(parents=True, exist_ok=True)
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    axes = affine[:3, :3] / spacing
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    kept = locale.setlocale(locale.LC_ALL)
    for n, plane in enumerate(array):
        image = sitk.GetImageFromArray(plane)
        image.SetSpacing(spacing[:2].tolist())
        at = move(n, affine[:3, 3] + n * affine[:3, 2])
        tags = {"0008|0060": "MR", "0020|000e": uid, "0020|000d": "1.2", "0008|0018": f"{uid}.{n + 1}"}
        tags |= {"0020|0032": "\\".join(f"{x:.6f}" for x in at), "0020|0013": str(n)}
        tags |= {"0020|0037": "\\".join(f"{x:.8f}" for x in axes[:, :2].T.ravel()), "0018|0050": f"{spacing[2]:.6f}"}
        for key, value in tags.items():
            image.SetMetaData(key, value)
        number = n if order is None else order[n]
        writer.SetFileName(str(folder / f"{uid}-{number:03d}.dcm"))
        writer.Execute(image)
    locale.setlocale(locale.LC_ALL, kept)  # writing DICOM leaves another one behind
    return folder


@pytest.mark.parametrize("affine", [OBLIQUE, np.diag([1.0, 1.0, 3.0, 1.0]), np.diag([-1.0, -1.0, 2.0, 1.0])], ids=str)
def test_a_series_is_the_volume_that_every_format_holds(tmp_path, affine):
    shuffled = np.random.default_rng(0).permutation(len(IMAGE))
    series = read(write_series(tmp_path / "series", affine=affine, order=shuffled))
    for ending in ("nii.gz", "nrrd", "mha"):
        write_volume(tmp_path / f"scan.{ending}", IMAGE, affine)
        other = read(tmp_path / f"scan.{ending}")
        np.testing.assert_array_equal(series.array, other.array)
        np.testing.assert_allclose(series.affine, other.affine, atol=2e-4)
        tried("orientations and formats")
    file = next((tmp_path / "series").iterdir())
    np.testing.assert_array_equal(read(file).array, series.array)


def test_slicer_s_mrml_reads_the_same_place(tmp_path):
    slicer = pytest.importorskip("slicer", reason="needs the package slicer-core")
    from DiffSegLib.scene import nodes
    from DiffSegLib.scene.host import SceneHost

    SceneHost()
    folder = write_series(tmp_path / "series")
    ours = read(folder)
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode")
    storage = slicer.vtkMRMLVolumeArchetypeStorageNode()
    storage.SetFileName(str(sorted(folder.iterdir())[0]))
    for file in sorted(folder.iterdir()):
        storage.AddFileName(str(file))
    storage.SetSingleFile(False)
    assert storage.ReadData(node)
    np.testing.assert_allclose(nodes.ijk_to_lps(node), ours.affine, atol=2e-4)
    np.testing.assert_array_equal(nodes.volume_array(node), ours.array[0])


def far(n, at):
    return at + (n == 7) * 1.0 * OBLIQUE[:3, 2]


def tilted(n, at):
    return at + 0.2 * n * OBLIQUE[:3, 1]


@pytest.mark.parametrize(
    ("change", "words"),
    [(far, "slices are missing or double"), (tilted, "right angles"), ("gone", "slices are missing")],
)
def test_series_that_are_no_volume_are_refused(tmp_path, change, words):
    folder = write_series(tmp_path / "series", move=change if callable(change) else lambda n, at: at)
    if change == "gone":
        (folder / "1.2.3-007.dcm").unlink()
    with pytest.raises(InputError, match=f"series: .*{words}"):
        read(folder)


def test_a_folder_of_two_series_asks_which(tmp_path):
    write_series(tmp_path / "two")
    write_series(tmp_path / "two", IMAGE[::-1], uid="1.2.4")
    with pytest.raises(InputError, match="holds 2 DICOM series"):
        read(tmp_path / "two")
    assert read(tmp_path / "two" / "1.2.4-000.dcm").array[0, 0, 5, 5] == IMAGE[-1, 5, 5]
    (tmp_path / "none").mkdir()
    with pytest.raises(InputError, match="holds no DICOM series"):
        read(tmp_path / "none")


def test_studies_are_segmented_from_their_folders(tmp_path, tiny_model, capsys):
    studies = tmp_path / "studies"
    write_series(studies / "anna")
    write_series(studies / "bert", uid="1.2.4")
    write_series(studies / "cleo", uid="1.2.5")
    write_series(studies / "cleo", uid="1.2.6")
    (studies / "note.txt").write_text("no image")
    assert [name for name, _ in find_cases([studies])] == ["anna", "bert", "cleo_1", "cleo_2"]
    shutil.rmtree(studies / "cleo")
    (studies / "bert" / "1.2.4-003.dcm").write_bytes(b"DICM" * 100)
    command = ["predict", "--model", str(tiny_model), "--input", str(studies), "--output", str(tmp_path / "out")]
    assert run(command) == 1
    assert "1 done, 0 skipped, 1 failed" in capsys.readouterr().err
    mask, affine = read_label(tmp_path / "out" / "anna.seg.nrrd")
    assert mask.shape == IMAGE.shape
    np.testing.assert_allclose(affine, read(studies / "anna").affine, atol=2e-4)


def test_a_damaged_slice_is_told(tmp_path):
    folder = write_series(tmp_path / "series")
    for file in folder.iterdir():
        file.write_bytes(file.read_bytes()[:300])
    with pytest.raises(InputError, match="series"):
        read(folder)


def test_a_file_that_is_named_from_within_its_folder_stands_for_its_series(tmp_path, monkeypatch):
    monkeypatch.chdir(write_series(tmp_path / "series"))
    np.testing.assert_array_equal(read(Path("1.2.3-004.dcm")).array[0], IMAGE)


@pytest.mark.parametrize("number", [0, 7, 17])
def test_a_slice_that_is_cut_short_is_not_just_left_out(tmp_path, number):
    """GDCM leaves it out; at an end of the series no distance between slices tells."""
    folder = write_series(tmp_path / "series")
    file, other = folder / f"1.2.3-{number:03d}.dcm", folder / "structures.dcm"
    whole = file.read_bytes()
    other.write_bytes(whole[:158] + b"\2\0\2\0UI\x1c\x001.2.840.10008.5.1.4.1.1.481.3")  # of another kind: no slice
    read(folder)
    file.write_bytes(whole[:-300])
    for path in (folder, folder / "1.2.3-010.dcm"):
        with pytest.raises(InputError, match=f"{file.name}: is damaged"):
            read(path)


def test_slices_of_different_pixel_spacings_are_no_volume(tmp_path):
    folder = write_series(tmp_path / "series")
    file = folder / "1.2.3-005.dcm"
    assert b"1.1\\.9" in file.read_bytes()
    file.write_bytes(file.read_bytes().replace(b"1.1\\.9", b"1.2\\.9"))
    with pytest.raises(InputError, match="series: its slices have different pixel spacings"):
        read(folder)


@pytest.mark.parametrize("number", [0, 5])
def test_slices_with_scales_of_their_own_as_in_pet_keep_their_fractions(tmp_path, number):
    folder = write_series(tmp_path / "series")
    file = folder / f"1.2.3-{number:03d}.dcm"
    head, pixels, rest = file.read_bytes().partition(b"\xe0\x7f\x10\0")
    head = re.sub(rb"\x28\0[\x52\x53]\x10\x02\0{3}..", b"", head)  # an intercept of 0 and a slope of 1
    scale = b"".join(struct.pack("<2HI", 0x28, tag, 4) + text for tag, text in ((0x1052, b"-2.5"), (0x1053, b"0.25")))
    file.write_bytes(head + scale + pixels + rest)
    wanted = IMAGE.astype(np.float32)
    wanted[number] = wanted[number] * 0.25 - 2.5
    np.testing.assert_array_equal(read(folder).array[0], wanted)


AXES = (OBLIQUE[:3, :2] / np.linalg.norm(OBLIQUE[:3, :2], axis=0)).T.ravel()
STACK = OBLIQUE[:3, 3] + np.arange(len(IMAGE))[:, None] * OBLIQUE[:3, 2]
ENHANCED = {"spacing": (1.1, 0.9)}  # rows, columns


@pytest.mark.parametrize("explicit", [True, False])
@pytest.mark.parametrize("way", [1, -1])
def test_many_frames_in_one_file_are_the_volume_that_they_say(tmp_path, explicit, way):
    how = {"explicit": explicit, "delimited": way < 0, **ENHANCED}
    volume = read(write_frames(tmp_path / "a.dcm", IMAGE[::way], STACK[::way], AXES, **how))
    np.testing.assert_array_equal(volume.array[0], IMAGE[::way])
    np.testing.assert_allclose((volume.affine @ [0, 0, 1, 1])[:3], STACK[::way][1], atol=1e-4)
    np.testing.assert_allclose(volume.affine[:3, :2], OBLIQUE[:3, :2], atol=1e-4)


@pytest.mark.parametrize("delimited", [True, False])
@pytest.mark.parametrize(
    "change",
    [
        {"positions": STACK[[0, *range(2, len(IMAGE)), 1]]},
        {"positions": STACK + (np.arange(len(IMAGE)) > 8)[:, None] * OBLIQUE[:3, 2]},
        {"positions": np.concatenate([STACK[: len(IMAGE) // 2]] * 2)},
        {"positions": STACK + np.arange(len(IMAGE))[:, None] * OBLIQUE[:3, 1]},
        {"axes": [AXES] * (len(IMAGE) - 1) + [AXES[[3, 4, 5, 0, 1, 2]]]},
        {"slopes": ["1"] * (len(IMAGE) - 1) + ["2"]},
    ],
    ids=["another order", "a gap", "two times", "a tilted gantry", "two directions", "a scale for each"],
)
def test_frames_that_are_no_stack_are_refused(tmp_path, change, delimited):
    told = {"positions": STACK, "axes": AXES, "delimited": delimited, **ENHANCED, **change}
    with pytest.raises(InputError, match=r"a\.dcm: its 18 frames are no even stack of one scale, or do not say where"):
        read(write_frames(tmp_path / "a.dcm", IMAGE, **told))


def test_frames_of_a_film_are_no_volume(tmp_path):
    file = write_frames(tmp_path / "a.dcm", IMAGE, STACK, AXES, **ENHANCED)
    data = file.read_bytes()
    file.write_bytes(data.replace(b"\x20\0\x13\x91", b"\x21\0\x13\x91"))
    with pytest.raises(InputError, match="do not say where each lies"):
        read(file)


def shortened(data, count):
    """A file with so many bytes of its pixels taken away, and their length as it is now."""
    at = data.index(b"\xe0\x7f\x10\0") + 4
    at += 4 if data[at : at + 2] in (b"OW", b"OB") else 0
    return data[:at] + struct.pack("<I", len(data) - at - 4 - count) + data[at + 4 : len(data) - count]


@pytest.mark.parametrize("count", [2, 400])
def test_fewer_pixels_than_a_slice_promises_are_not_made_up(tmp_path, count):
    file = write_series(tmp_path / "series") / "1.2.3-007.dcm"
    file.write_bytes(shortened(file.read_bytes(), count))
    with pytest.raises(InputError, match=f"-007.dcm: is incomplete .not the {IMAGE[0].nbytes} bytes of its voxels"):
        read(tmp_path / "series")


@pytest.mark.parametrize("explicit", [True, False])
def test_a_dicom_header_that_promises_too_much_allocates_nothing(tmp_path, explicit):
    file = write_frames(tmp_path / "a.dcm", IMAGE, STACK, AXES, explicit=explicit, **ENHANCED)
    data = file.read_bytes()
    file.write_bytes(shortened(data, 2))
    with pytest.raises(InputError, match=f"is incomplete .not the {IMAGE.nbytes} bytes"):
        read(file)
    for number, value in ((0x10, IMAGE.shape[1]), (0x11, IMAGE.shape[2])):
        kind = b"US\2\0" if explicit else b"\2\0\0\0"
        tag = b"\x28\0" + bytes([number, 0]) + kind
        data = data.replace(tag + struct.pack("<H", value), tag + struct.pack("<H", 65534))
    file.write_bytes(data)
    with pytest.raises(InputError, match="is incomplete|too large"):
        read(file)


def said(data, number):
    """An explicit file's bytes with another number of frames, or without any."""
    at = data.index(b"\x28\0\x08\0IS")
    new = b"" if number is None else b"\x28\0\x08\0IS\2\0" + f"{number:<2}".encode()
    return data[:at] + new + data[at + 10 :]


@pytest.mark.parametrize("number", [None, 1, 9, 17])
def test_fewer_frames_than_the_file_holds_are_not_read_in_silence(tmp_path, number):
    file = write_frames(tmp_path / "a.dcm", IMAGE, STACK, AXES, **ENHANCED)
    file.write_bytes(said(file.read_bytes(), number))
    promised = IMAGE[0].nbytes * (number or 1)
    with pytest.raises(InputError, match=f"a.dcm: is damaged, or its header promises too little .not the {promised} b"):
        read(file)


@pytest.mark.parametrize(("spare", "is_read"), [(2, True), (38, True), (40, False), (IMAGE[0].nbytes, False)])
def test_padding_behind_the_pixels_is_less_than_a_row(tmp_path, spare, is_read):
    assert IMAGE[0].nbytes // max(IMAGE[0].shape) == 40
    file = write_series(tmp_path / "series") / "1.2.3-007.dcm"
    data = file.read_bytes()
    file.write_bytes(shortened(data + bytes(spare), 0))
    if is_read:
        np.testing.assert_array_equal(read(tmp_path / "series").array[0], IMAGE)
    else:
        with pytest.raises(InputError, match=r"-007\.dcm: is damaged, or its header promises too little"):
            read(tmp_path / "series")


@pytest.mark.parametrize("method", ["JPEG", "JPEG2000"])
def test_packed_frames_are_as_many_as_promised(tmp_path, method):
    array = np.abs(IMAGE).astype(np.uint16)
    writer, file, kept = sitk.ImageFileWriter(), tmp_path / "a.dcm", locale.setlocale(locale.LC_ALL)
    writer.SetFileName(str(file))
    writer.SetUseCompression(True)
    writer.SetCompressor(method)
    writer.Execute(sitk.GetImageFromArray(array))
    locale.setlocale(locale.LC_ALL, kept)
    data = file.read_bytes()
    np.testing.assert_array_equal(read(file).array[0], array)
    for number, what in ((None, "damaged, or"), (2, "damaged, or"), (17, "damaged, or"), (20, "incomplete")):
        file.write_bytes(said(data, number))
        with pytest.raises(InputError, match=f"a.dcm: is {what}"):
            read(file)
    *_, start = re.finditer(rb"\xfe\xff\0\xe0.{4}\xff[\xd8\x4f]", data, re.DOTALL)
    file.write_bytes(data[: start.start()])  # cut where a frame ends
    with pytest.raises(InputError, match=r"a\.dcm: is incomplete"):
        read(file)


def test_pixels_of_a_representation_that_their_writer_did_not_know(tmp_path):
    file = write_frames(tmp_path / "a.dcm", IMAGE, STACK, AXES, **ENHANCED)
    data = file.read_bytes().replace(b"\xe0\x7f\x10\0OW\0\0", b"\xe0\x7f\x10\0UN\0\0")
    file.write_bytes(data)
    np.testing.assert_array_equal(read(file).array[0], IMAGE)
    at = data.index(b"\xe0\x7f\x10\0UN") + 8
    file.write_bytes(data[:at] + struct.pack("<I", IMAGE.nbytes - 2) + data[at + 4 : -2])
    with pytest.raises(InputError, match=f"is incomplete .not the {IMAGE.nbytes} bytes"):
        read(file)


@pytest.mark.parametrize("explicit", [True, False])
def test_what_looks_like_frames_or_pixels_within_a_value_is_none(tmp_path, explicit):
    """The same bytes may stand in any element, and positions in other sequences of a frame."""
    file = write_frames(tmp_path / "a.dcm", IMAGE, STACK, AXES, explicit=explicit, **ENHANCED)
    data = file.read_bytes()
    whole = read(file)
    at = data.index(b"\0\x52\x29\x92")
    place = data[data.index(b"\x20\0\x13\x91", at) :][:60]
    held = b"\xe0\x7f\x10\0OW\0\0\2\0\0\0\1\1" + place
    private = b"\x09\0\x10\0" + (b"LO\4\0" if explicit else b"\4\0\0\0") + b"MINE"
    private += b"\x09\0\1\x10" + (b"OB\0\0" if explicit else b"") + struct.pack("<I", len(held)) + held
    at = data.index(b"\x20\0\x0d\0")
    file.write_bytes(data[:at] + private + data[at:])
    found = read(file)
    np.testing.assert_array_equal(found.array, whole.array)
    np.testing.assert_array_equal(found.affine, whole.affine)


def test_another_sequence_of_a_frame_says_nothing_of_its_place(tmp_path):
    file = write_frames(tmp_path / "a.dcm", IMAGE, STACK, AXES, delimited=True, **ENHANCED)
    data, item = file.read_bytes(), b"\xfe\xff\0\xe0\xff\xff\xff\xff"
    ends = b"\xfe\xff\x0d\xe0\0\0\0\0\xfe\xff\xdd\xe0\0\0\0\0"
    other = b"\x08\0\x40\x11SQ\0\0\xff\xff\xff\xff" + item + b"\x20\0\x32\0DS\6\x009\\9\\9 " + ends
    at = data.index(b"\0\x52\x30\x92") + 20
    file.write_bytes(data[:at] + other + data[at:])
    np.testing.assert_array_equal(read(file).array[0], IMAGE)


def test_a_large_file_beside_a_series_is_not_walked_through(tmp_path, monkeypatch):
    """Zeros are elements without length, eight bytes each."""
    other = tmp_path / "other.raw"
    other.write_bytes(bytes(8000))
    assert len(list(dicom_elements.elements(other))) == 1
    other.write_bytes(bytes(128) + b"DICM" + bytes(8000))
    monkeypatch.setattr(dicom_elements, "MOST_ELEMENTS", 100)
    assert len(list(dicom_elements.elements(other))) == 100


def test_empty_numbers_have_their_usual_values(tmp_path):
    """As some scanners write them: a number of frames, a scale, present without a value."""
    for number, plane in enumerate(IMAGE):
        path = write_slice(tmp_path / f"{number:02}.dcm", plane, number, (0, 0, 2.0 * number))
        data = path.read_bytes()
        for scale in (b"\x28\0\x52\x10DS", b"\x28\0\x53\x10DS"):
            at = data.index(scale) + 6
            data = data[:at] + b"\0\0" + data[at + 2 + int.from_bytes(data[at : at + 2], "little") :]
        at = data.index(b"\x28\0\x10\0US")
        frames = b"\2\0" + b"0 " if number % 2 else b"\0\0"  # none, or 0
        path.write_bytes(data[:at] + b"\x28\0\x08\0IS" + frames + data[at:])
    assert (sitk.GetArrayFromImage(dicom.read_series(tmp_path)) == IMAGE).all()


def test_a_mosaic_is_no_slice(tmp_path):
    path = write_slice(tmp_path / "a.dcm", IMAGE[0], 0, (0, 0, 0))
    data = path.read_bytes()
    kind = b"ORIGINAL\\PRIMARY\\M\\ND\\MOSAIC "
    at = data.index(b"\x08\0\x16\0UI")
    path.write_bytes(data[:at] + b"\x08\0\x08\0CS" + struct.pack("<H", len(kind)) + kind + data[at:])
    with pytest.raises(InputError, match="a.dcm: is a mosaic, .* convert it with dcm2niix"):
        read(path)


def test_looking_at_a_header_does_not_read_the_pixels(tmp_path):
    array = np.zeros((64, 256, 256), np.int16)
    at = [(0, 0, 2.0 * n) for n in range(len(array))]
    file = write_frames(tmp_path / "a.dcm", array, at, (1, 0, 0, 0, 1, 0))
    image = sitk.Image(256, 256, 64, sitk.sitkInt16)
    image.SetSpacing((1, 1, 2))
    tracemalloc.start()
    assert not claims_too_much(file)
    dicom._header(file)
    dicom._check_frames(file, image)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < array.nbytes / 8


@pytest.mark.parametrize("number", [0, 17])
@pytest.mark.parametrize("what", ["a kind that is none", "another kind in its head only", "its mark lost"])
def test_a_slice_that_is_not_known_for_one_is_not_just_left_out(tmp_path, number, what):
    folder = write_series(tmp_path / "series")
    file = folder / f"1.2.3-{number:03d}.dcm"
    data = file.read_bytes().replace(b"1.2.840.10008.1.2\0", b"1.2.840.10008.1.x\0")  # which GDCM cannot read
    (folder / "._1.2.3-000.dcm").write_bytes(b"of a Mac")
    (folder / "note.txt").write_bytes(b"by somebody")
    read(folder)
    kind = b"1.2.840.10008.5.1.4.1.1.4\0"
    assert data.count(kind) == 2
    if what == "its mark lost":
        file.write_bytes(b"not at all what it was")
    else:
        file.write_bytes(data.replace(kind, kind[:-2] + (b"x\0" if "none" in what else b"9\0"), 2 - ("only" in what)))
    with pytest.raises(InputError, match=f"{file.name}: is damaged"):
        read(folder)


def number(tag, value):
    """An element of group 28 of an explicit file, of two bytes."""
    return b"\x28\0" + struct.pack("<H", tag) + b"US\2\0" + struct.pack("<H", value)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (b"MONOCHROME2 ", b"MONOCHROM\x02 2", "has the photometric interpretation 'MONOCHROM.*export it again"),
        (b"-1024 ", b"-10x4 ", "the scale of its values .-10x4, 1. is none"),
        (b"-1024 ", b"nan   ", "the scale of its values .nan, 1. is none"),
        (b"\x53\x10DS\2\x001 ", b"\x53\x10DS\2\x000 ", "the scale of its values .-1024, 0. is none"),
        (number(0x103, 1), b"", "does not say how many voxels it has and of what type"),
        (number(0x101, 16), number(0x101, 17), "does not say how many voxels"),
        (number(0x101, 16), number(0x101, 12), "does not say how many voxels"),
        (b"0\\0\\0 ", b"0\\x\\0 ", "do not say where they lie"),
    ],
)
@pytest.mark.parametrize("many", [1, 3])
def test_what_gdcm_would_make_up_is_refused(tmp_path, old, new, words, many):
    files = [write_slice(tmp_path / f"{n}.dcm", IMAGE[n], n, (0, 0, n)) for n in range(many)]
    np.testing.assert_array_equal(read(tmp_path).array[0], IMAGE[:many] - 1024.0)
    data = files[0].read_bytes()
    assert data.count(old) == 1
    files[0].write_bytes(data.replace(old, new))
    with pytest.raises(InputError, match=words):
        read(tmp_path)


def test_slices_of_different_types_keep_their_values(tmp_path):
    planes = IMAGE[:3].astype(np.int64)
    planes[1] += 40_000 - planes[1].min()  # not within int16
    for n, plane in enumerate(planes):
        file = write_slice(tmp_path / f"{n}.dcm", plane.astype("<u2"), n, (0, 0, n))
        data = file.read_bytes().replace(number(0x103, 1), number(0x103, int(n != 1))).replace(b"-1024 ", b"0     ")
        file.write_bytes(data)
    assert planes.max() < 65536
    np.testing.assert_array_equal(read(tmp_path).array[0], planes)


def test_slices_of_different_photometric_interpretations_are_no_volume(tmp_path):
    files = [write_slice(tmp_path / f"{n}.dcm", IMAGE[n], n, (0, 0, n)) for n in range(3)]
    files[1].write_bytes(files[1].read_bytes().replace(b"MONOCHROME2", b"MONOCHROME1"))
    with pytest.raises(InputError, match="different photometric interpretations"):
        read(tmp_path)
