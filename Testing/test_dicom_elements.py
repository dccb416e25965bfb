"""Lengths that a DICOM file claims and does not have: refused before GDCM allocates them."""

import numpy as np
import pytest

from DiffSegLib.data.batch import find_cases
from DiffSegLib.data.dicom_elements import claims_too_much
from DiffSegLib.data.files import read
from DiffSegLib.errors import InputError
from multiframe import write_frames
from tally import tried

ARRAY = np.arange(4 * 6 * 8, dtype=np.int16).reshape(4, 6, 8)


def frames(path, explicit=True):
    path.parent.mkdir(exist_ok=True)
    return write_frames(path, ARRAY, [(0, 0, 2.0 * n) for n in range(4)], (1, 0, 0, 0, 1, 0), explicit=explicit)


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


def test_an_element_within_a_sequence_is_looked_at_as_well(tmp_path):
    path = frames(tmp_path / "a.dcm")
    spoil(path, b"\x20\0\x32\0DS")
    assert claims_too_much(path)


def test_a_damaged_file_costs_its_own_series_only(tmp_path):
    frames(tmp_path / "whole" / "a.dcm")
    spoil(frames(tmp_path / "broken" / "b.dcm"), b"\x20\0\x0e\0")
    cases = dict(find_cases([tmp_path]))
    assert sorted(cases) == ["broken", "whole"]
    with pytest.raises(InputError, match=r"b\.dcm: is damaged"):
        read(cases["broken"][0])
    assert read(cases["whole"][0]).array.shape == (1, *ARRAY.shape)
