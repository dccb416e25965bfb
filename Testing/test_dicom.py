"""DICOM series: the same voxels in the same place as every other format and as Slicer's MRML, or a sentence."""

import re
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from dicom_series import IMAGE, OBLIQUE, write_series
from DiffSegLib.commands import run
from DiffSegLib.data import dicom, dicom_elements
from DiffSegLib.data.batch import find_cases
from DiffSegLib.data.files import read, read_label, write_volume
from DiffSegLib.errors import InputError
from multiframe import write_slice
from tally import tried


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


def a_tenth(n, at):
    return at + (n == 7) * 0.1 * OBLIQUE[:3, 2]


def one_degree(n, at):
    return at + 0.03 * n * OBLIQUE[:3, 1]


def rounded(n, at):
    return at + (n % 2) * 0.005 * OBLIQUE[:3, 2]


def test_places_that_were_rounded_are_those_of_a_volume(tmp_path):
    assert read(write_series(tmp_path / "series", move=rounded)).array[0].shape == IMAGE.shape


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (far, "slices are missing or double"),
        (a_tenth, r"slices are missing or double between 1\.2\.3-00[67]\.dcm and 1\.2\.3-00[78]\.dcm"),
        (tilted, "right angles"),
        (one_degree, "right angles"),
        ("gone", "slices are missing"),
    ],
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


def test_no_series_takes_another_one_s_name(tmp_path):
    for study, uid in (("anna", "1.2.3"), ("bert", "1.2.4")):
        write_series(tmp_path / study / "dicom", uid=uid)
        (tmp_path / "links").mkdir(exist_ok=True)
        (tmp_path / "links" / study).symlink_to(tmp_path / study / "dicom")  # both lead to folders called dicom
    for inputs in ([tmp_path / "links"], [tmp_path / "links" / "anna", tmp_path / "links" / "bert"]):
        assert [name for name, _ in find_cases(inputs)] == ["anna", "bert"]
    for uid in ("1.2.5", "1.2.6"):
        write_series(tmp_path / "anna" / "scan", uid=uid)  # scan_1 and scan_2
    write_series(tmp_path / "anna" / "scan_1", uid="1.2.7")
    with pytest.raises(InputError, match=r"scan_1/1\.2\.7-000\.dcm: has the same case name as .*/scan/"):
        find_cases([tmp_path / "anna"])


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
