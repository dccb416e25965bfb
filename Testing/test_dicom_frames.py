"""DICOM files of many frames, and headers that promise fewer or more pixels than there are."""

import locale
import re
import struct
import tracemalloc

import numpy as np
import pytest
import SimpleITK as sitk

from dicom_series import AXES, ENHANCED, IMAGE, OBLIQUE, STACK, write_series
from DiffSegLib.data import dicom
from DiffSegLib.data.dicom_elements import claims_too_much
from DiffSegLib.data.files import read
from DiffSegLib.errors import InputError
from multiframe import write_frames


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
