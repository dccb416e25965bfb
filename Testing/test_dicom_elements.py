"""Lengths that a DICOM file claims and does not have: refused before GDCM allocates them."""

import struct

import numpy as np
import pytest

from DiffSegLib.data.batch import find_cases
from DiffSegLib.data.dicom_elements import ITEM, ITEM_END, PIXELS, SEQUENCE_END, claims_too_much, elements, pixels_of
from DiffSegLib.data.files import read
from DiffSegLib.errors import InputError
from multiframe import write_frames, write_slice
from tally import tried

ENDS, ENDED = (ITEM_END, SEQUENCE_END), b"\xfe\xff\x0d\xe0\0\0\0\0"
ARRAY = np.arange(4 * 6 * 8, dtype=np.int16).reshape(4, 6, 8)


def frames(path, explicit=True, **how):
    path.parent.mkdir(exist_ok=True)
    at = [(0, 0, 2.0 * n) for n in range(4)]
    return write_frames(path, ARRAY, at, (1, 0, 0, 0, 1, 0), explicit=explicit, **how)


def spoil(path, tag, explicit=True):
    """Let the element of a tag be longer than the file."""
    data = bytearray(path.read_bytes())
    at = data.index(tag)
    if explicit:
        data[at + 6 : at + 8] = b"\xf0\xff"
    else:
        data[at + 4 : at + 8] = b"\xf0\xff\xff\x5f"  # 1.6 GB
    path.write_bytes(data)


@pytest.mark.parametrize("explicit", [True, False])
def test_an_element_longer_than_its_file_is_refused(tmp_path, explicit):
    path = frames(tmp_path / "study" / "a.dcm", explicit)
    assert not claims_too_much(path) and read(path).array.shape == (1, *ARRAY.shape)
    tried("malformed and odd inputs")
    whole = path.read_bytes()
    spoil(path, b"\x20\0\x0e\0", explicit)
    with pytest.raises(InputError, match=r"a\.dcm: is damaged or incomplete"):
        read(path.parent)
    path.write_bytes(whole[:-2])
    assert claims_too_much(path)


@pytest.mark.parametrize("explicit", [True, False])
@pytest.mark.parametrize("delimited", [True, False])
def test_an_element_within_a_sequence_is_looked_at_as_well(tmp_path, explicit, delimited):
    path = frames(tmp_path / "a.dcm", explicit, delimited=delimited)
    assert not claims_too_much(path)
    spoil(path, b"\x20\0\x32\0", explicit)
    assert claims_too_much(path)


@pytest.mark.parametrize("explicit", [True, False])
def test_elements_say_what_they_are_in_however_it_is_written(tmp_path, explicit):
    found = [
        [(each.tag, each.within, each.value) for each in elements(path, {0x00200032}) if each.tag not in ENDS]
        for path in (frames(tmp_path / f"{n}.dcm", explicit, delimited=bool(n)) for n in range(2))
    ]
    assert found[0] == found[1]
    places = [(within, value) for tag, within, value in found[0] if tag == 0x00200032]
    held = (0x52009230, ITEM, 0x00209113, ITEM)
    assert places == [(held, value) for value in (b"0\\0\\0", b"0\\0\\2", b"0\\0\\4", b"0\\0\\6")]
    assert found[0][-1][:2] == (PIXELS, ())


def unknown(explicit):
    """A sequence as who did not know its tag hands it on: of no representation, and implicit within (PS3.5, 6.2.2)."""
    value = b"ABCD" + bytes(0x5344 - 4)  # whose length looks like a representation, DS
    inside = b"\xfe\xff\0\xe0\xff\xff\xff\xff" + b"\x20\0\x32\0DS\0\0" + value + b"\xfe\xff\x0d\xe0\0\0\0\0"
    return b"\x09\0\1\x10" + b"UN\0\0" * explicit + b"\xff\xff\xff\xff" + inside + b"\xfe\xff\xdd\xe0\0\0\0\0"


@pytest.mark.parametrize("explicit", [True, False])
def test_a_sequence_of_unknown_representation_is_implicit_within(tmp_path, explicit):
    path = frames(tmp_path / "a.dcm", explicit)
    data = path.read_bytes()
    at = data.index(b"\x20\0\x0d\0")
    path.write_bytes(data[:at] + unknown(explicit) + data[at:])
    assert [each.within for each in elements(path, {0x00200032}) if each.value == b"ABCD"] == [(0x00091001, ITEM)]
    assert [each.tag for each in elements(path)][-1] == PIXELS and read(path).array.shape == (1, *ARRAY.shape)
    path.write_bytes(data[:at] + unknown(explicit).replace(b"DS\0\0A", b"DS\0\x7fA") + data[at:])
    assert claims_too_much(path)


@pytest.mark.parametrize(
    "inside",
    [b"\x08\0\x60\0CS\2\0MR", b"\x09\0\2\x10OB\0\0\2\0\0\0ab", b"\x08\0\x60\0\2\0\0\0MR"],
    ids=["explicit", "explicit, long", "implicit"],
)
@pytest.mark.parametrize("delimited", [True, False])
def test_a_sequence_of_unknown_representation_may_be_explicit_within(tmp_path, inside, delimited):
    """As files from before CP-246 are, which GDCM reads."""
    path = frames(tmp_path / "a.dcm")
    data = path.read_bytes()
    length, end = (b"\xff\xff\xff\xff", ENDED) if delimited else (struct.pack("<I", len(inside)), b"")
    item = b"\xfe\xff\0\xe0" + length + inside + end
    at = data.index(b"\x20\0\x0d\0")
    unknown = b"\x09\0\1\x10UN\0\0\xff\xff\xff\xff" + item + b"\xfe\xff\xdd\xe0\0\0\0\0"
    path.write_bytes(data[:at] + unknown + data[at:])
    np.testing.assert_array_equal(read(path).array[0], ARRAY)
    assert next(each.length for each in elements(path) if each.within == (0x00091001, ITEM)) == 2


@pytest.mark.parametrize(
    ("explicit", "syntax"),
    [(True, None), (False, None), (False, b"1.2.840.113619.5.2")],
    ids=["explicit, no head", "implicit, no head", "GE's own"],
)
def test_slices_whose_bytes_are_a_multiple_of_65536_are_read_without_a_head(tmp_path, explicit, syntax):
    """The length of 256 x 256 or 512 x 512 pixels begins with zeros, which is no representation there."""
    planes = np.arange(3 * 256 * 128, dtype=np.int16).reshape(3, 256, 128)
    for n, plane in enumerate(planes):
        path = write_slice(tmp_path / f"{n}.dcm", plane, n, (0, 0, n), explicit)
        data = path.read_bytes()
        if syntax is None:
            path.write_bytes(data[data.index(b"\x08\0\x16\0") :])
        else:
            path.write_bytes(data.replace(b"UI\x12\x001.2.840.10008.1.2\0", b"UI\x12\0" + syntax))
            assert syntax in path.read_bytes()
        assert not claims_too_much(path) and pixels_of(path)[0] in (plane.nbytes, None)
        assert [each.length for each in elements(path)][-1] == plane.nbytes
    if syntax is None:
        np.testing.assert_array_equal(read(tmp_path).array[0], planes - 1024.0)


def test_big_endian_is_walked_as_well(tmp_path):
    path = tmp_path / "a.dcm"
    syntax = b"1.2.840.10008.1.2.2\0"
    head = b"\2\0\x10\0UI" + struct.pack("<H", len(syntax)) + syntax
    body = b"\0\x28\0\x10US\0\2\0\3" + b"\x7f\xe0\0\x10OW\0\0\0\0\0\4abcd"
    path.write_bytes(bytes(128) + b"DICM" + head + body)
    assert [(each.tag, each.length) for each in elements(path)][1:] == [(0x00280010, 2), (PIXELS, 4)]
    assert not claims_too_much(path)
    path.write_bytes(path.read_bytes()[:-1])
    assert claims_too_much(path)


@pytest.mark.parametrize("explicit", [True, False])
@pytest.mark.parametrize("many", ["sequences", "items"])
def test_sequences_without_end_do_not_end_the_process(tmp_path, explicit, many):
    path = frames(tmp_path / "study" / "a.dcm", explicit)
    data = path.read_bytes()
    item = b"\xfe\xff\0\xe0\xff\xff\xff\xff"
    one = b"\x40\0\x75\xa0" + b"SQ\0\0" * explicit + b"\xff\xff\xff\xff" + item
    nested = one * 50_000 if many == "sequences" else one + item * 100_000
    path.write_bytes(data[: data.index(b"\xe0\x7f\x10\0")] + nested)
    with pytest.raises(InputError, match=r"a\.dcm: is damaged"):
        read(path.parent)


def test_a_damaged_file_costs_its_own_series_only(tmp_path):
    frames(tmp_path / "whole" / "a.dcm")
    spoil(frames(tmp_path / "broken" / "b.dcm"), b"\x20\0\x0e\0")
    cases = dict(find_cases([tmp_path]))
    assert sorted(cases) == ["broken", "whole"]
    with pytest.raises(InputError, match=r"b\.dcm: is damaged"):
        read(cases["broken"][0])
    assert read(cases["whole"][0]).array.shape == (1, *ARRAY.shape)


@pytest.mark.parametrize("number", [b"\xf9", b"\x0d", b"\x00"])
def test_an_item_of_a_damaged_number_is_refused_where_no_type_is_said(tmp_path, number):
    """GDCM knows by its dictionary what is a sequence, and ended the process over what stands in it (SimpleITK 2.4)."""
    path = frames(tmp_path / "series" / "0.dcm", explicit=False)
    data = path.read_bytes()
    at = data.index(b"\x20\0\x13\x91") + 8  # Plane Position Sequence, then its item
    assert data[at : at + 4] == b"\xfe\xff\0\xe0"
    path.write_bytes(data[: at + 3] + number + data[at + 4 :])
    assert claims_too_much(path)
    with pytest.raises(InputError, match="damaged or incomplete"):
        read(path.parent)
