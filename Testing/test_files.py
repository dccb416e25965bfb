"""Reading and writing: what is damaged is refused by name, what is written is read back as it was."""

import gzip
import os
import struct
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
import SimpleITK as sitk
from scipy.spatial.transform import Rotation

from conftest import ROOT, make_dataset, write_image
from DiffSegLib.data import files
from DiffSegLib.data.datasets import load_dataset
from DiffSegLib.data.files import case_name, check_digits, read, read_label, write_mask, write_volume
from DiffSegLib.data.nifti import check_payload
from DiffSegLib.data.splits import split
from DiffSegLib.errors import InputError
from DiffSegLib.labels import Label
from full_disk import no_more_than
from tally import tried

AFFINE = np.array([[0.0, -1.2, 0, 5], [0.9, 0, 0, -3], [0, 0, 2.0, 8], [0, 0, 0, 1]])


@pytest.mark.parametrize("ending", ["nii.gz", "nii", "nrrd", "mha"])
def test_an_image_keeps_voxels_and_place(tmp_path, ending):
    array = np.random.default_rng(0).standard_normal((4, 5, 6)).astype(np.float32)
    volume = read(write_image(tmp_path / f"x.{ending}", array, AFFINE))
    np.testing.assert_array_equal(volume.array[0], array)
    np.testing.assert_allclose(volume.affine, AFFINE, atol=1e-5)
    assert volume.spacing == pytest.approx((2.0, 1.2, 0.9))


@pytest.mark.skipif(sys.platform != "linux", reason="other systems' names are Unicode")
def test_a_name_in_utf_8_is_read_in_a_locale_without_it(tmp_path):
    write_image(tmp_path / "ä.nrrd", np.zeros((2, 3, 4), np.float32))
    code = (
        "import sys, pathlib; from DiffSegLib.data.files import read; print(read(pathlib.Path(sys.argv[1])).array.size)"
    )
    environment = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code, str(tmp_path / "ä.nrrd")]
    assert subprocess.run(command, env=environment, capture_output=True, check=True).stdout.strip() == b"24"


@pytest.mark.parametrize("ending", ["nii.gz", "nrrd", "mha"])
def test_values_that_float32_cannot_tell_apart_are_refused(tmp_path, ending):
    values = np.random.default_rng(0).integers(0, 100, (4, 5, 6))
    for offset, kind in ((1e9, np.float64), (1 << 30, np.int32), (1 << 30, np.uint32)):
        sitk.WriteImage(sitk.GetImageFromArray((values + offset).astype(kind)), str(tmp_path / f"far.{ending}"))
        with pytest.raises(InputError, match=r"far\..*: its values, from \d+ to \d+, are too large, or too near"):
            read(tmp_path / f"far.{ending}")
    sitk.WriteImage(sitk.GetImageFromArray(values * 1e300), str(tmp_path / f"large.{ending}"))
    with pytest.raises(InputError, match="its values, from 1.*e.300 to .*, are too large"):
        read(tmp_path / f"large.{ending}")
    whole = (values + (1 << 23)).astype(np.int32)  # float32 has them all
    sitk.WriteImage(sitk.GetImageFromArray(whole), str(tmp_path / f"whole.{ending}"))
    np.testing.assert_array_equal(read(tmp_path / f"whole.{ending}").array[0], whole)


@pytest.mark.parametrize("ending", ["nii.gz", "nrrd"])
@pytest.mark.parametrize("beside", [0.0, np.nan, "another channel"])
def test_no_background_and_no_other_channel_hides_values_that_float32_cannot_tell_apart(tmp_path, ending, beside):
    far = np.random.default_rng(0).integers(0, 100, (4, 5, 6)) + 1e9
    if beside == "another channel":
        image = sitk.GetImageFromArray(np.stack([np.arange(120.0).reshape(far.shape), far], axis=-1), isVector=True)
    else:
        far[0] = beside
        image = sitk.GetImageFromArray(far)
    sitk.WriteImage(image, str(tmp_path / f"far.{ending}"))
    with pytest.raises(InputError, match=r"far\..*: its values, from 1\d+ to 1\d+, are too large, or too near"):
        read(tmp_path / f"far.{ending}")


def test_what_differs_by_round_off_alone_is_one_value():
    """Which an image may be: a mask, or one channel of several."""
    array = np.full((1, 4, 5, 6), 0.3)
    array[0, 1] = 0.3 + 5.6e-17
    check_digits(array, "even")
    check_digits(np.full_like(array, np.nan), "nothing")


@pytest.mark.parametrize("name", ["x.seg.nrrd", "x.nrrd", "x.nii.gz"])
def test_a_mask_is_read_back_equal_and_leaves_nothing_beside(tmp_path, name):
    mask = np.random.default_rng(0).integers(0, 3, (4, 5, 6)).astype(np.uint8)
    write_mask(tmp_path / name, mask, AFFINE, [Label(1, "one"), Label(2, "two")])
    found, affine = read_label(tmp_path / name)
    np.testing.assert_array_equal(found, mask)
    np.testing.assert_allclose(affine, AFFINE, atol=1e-5)
    assert [p.name for p in tmp_path.iterdir()] == [name]


def test_a_segmentation_file_carries_names_colors_and_terminology(tmp_path):
    codes = {"category": ("SCT", "123037004", "Anatomical Structure"), "type": ("SCT", "5366008", "Hippocampus")}
    label = Label(7, "Hippocampus", (0.25, 0.5, 1.0), **codes)
    write_mask(tmp_path / "x.seg.nrrd", np.full((2, 2, 2), 7, np.uint8), np.eye(4), [label])
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(tmp_path / "x.seg.nrrd"))
    reader.ReadImageInformation()
    assert reader.GetMetaData("Segment0_Name") == "Hippocampus"
    assert reader.GetMetaData("Segment0_LabelValue") == "7"
    assert reader.GetMetaData("Segment0_Color") == "0.25 0.5 1"
    assert "SCT^5366008^Hippocampus" in reader.GetMetaData("Segment0_Tags")


def test_float_labels_with_whole_values_are_taken(tmp_path):
    label, _ = read_label(write_image(tmp_path / "l.nii.gz", np.ones((3, 3, 3), np.float32)))
    assert label.dtype == np.uint8 and (label == 1).all()


@pytest.mark.parametrize("bad", [np.full((3, 3, 3), 0.5, np.float32), np.full((3, 3, 3), -1, np.int16)])
def test_labels_that_are_no_labels_are_refused(tmp_path, bad):
    with pytest.raises(InputError, match="l.nii.gz: labels must be whole numbers"):
        read_label(write_image(tmp_path / "l.nii.gz", bad))


def damage(path, kind):
    """Make one kind of broken file out of a good one."""
    data = path.read_bytes()
    raw = gzip.decompress(data)
    if kind == "truncated":
        path.write_bytes(data[: len(data) // 2])
    elif kind == "short payload":
        path.write_bytes(gzip.compress(raw[:1000]))
    elif kind == "bad checksum":
        path.write_bytes(data[:-8] + bytes(8))
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "text":
        path.write_text("not an image at all")
    elif kind == "offset past the end":
        path.write_bytes(gzip.compress(raw[:108] + np.float32(1e9).tobytes() + raw[112:]))
    elif kind == "huge dimensions":
        path.write_bytes(gzip.compress(raw[:40] + np.array([3, *[32767] * 3, 1, 1, 1, 1], "<i2").tobytes() + raw[56:]))


KINDS = ["truncated", "short payload", "bad checksum", "empty", "text", "offset past the end", "huge dimensions"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_file_is_refused_by_name(tmp_path, kind):
    path = write_image(tmp_path / "scan.nii.gz", np.random.default_rng(0).standard_normal((8, 9, 10)))
    damage(path, kind)
    with pytest.raises(InputError, match="scan.nii.gz: .*"):
        read(path)


def test_other_impossible_images(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        read(tmp_path / "none.nii.gz")
    series = sitk.JoinSeries([sitk.Image(3, 3, 3, sitk.sitkFloat32)] * 2)
    sitk.WriteImage(series, str(tmp_path / "four.nrrd"))
    with pytest.raises(InputError, match="4 dimensions"):
        read(tmp_path / "four.nrrd")


def with_nan(*places, shape=(8, 9, 10), kind=np.float32, value=np.nan):
    array = np.random.default_rng(0).standard_normal(shape).astype(kind)
    for place in places:
        array[place] = value
    return array


@pytest.mark.parametrize("ending", ["nii.gz", "nii", "nrrd", "mha"])
@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_border_without_numbers_becomes_background_and_is_told(tmp_path, ending, kind, value):
    """ITK's NIfTI reader hides such voxels: it makes each of them 0."""
    array = with_nan(np.s_[0], np.s_[1:3, 4, :5], kind=kind, value=value)
    found = read(write_image(tmp_path / f"scan.{ending}", array))
    odd = ~np.isfinite(array)
    np.testing.assert_array_equal(found.array[0][~odd], array[~odd].astype(np.float32))
    assert (found.array[0][odd] == np.float32(array[~odd].min())).all()
    assert len(found.notes) == 1 and f"scan.{ending}: {odd.sum()} voxels" in found.notes[0]


@pytest.mark.parametrize("ending", ["nii.gz", "nii"])
def test_such_voxels_are_found_anywhere_in_a_file_that_is_read_in_many_pieces(tmp_path, ending):
    array = with_nan(np.s_[0, 0, 3], np.s_[-1, 5:9], shape=(61, 97, 101))
    path = write_image(tmp_path / f"scan.{ending}", array)
    if ending == "nii":  # bytes behind the voxels are none of them
        path.write_bytes(path.read_bytes() + np.full(9, np.nan, "<f4").tobytes())
    expected = np.where(np.isfinite(array), array, array[np.isfinite(array)].min())
    np.testing.assert_array_equal(read(path).array[0], expected)


def test_where_a_masked_image_holds_no_numbers_costs_far_less_memory_than_the_image(tmp_path):
    array = np.full((128, 192, 192), np.nan, np.float32)
    array[:40] = 1.0
    path = write_image(tmp_path / "scan.nii", array)
    tracemalloc.start()
    try:
        check_payload(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < array.nbytes / 2


def test_a_gap_before_the_voxels_that_a_few_packed_bytes_pretend_takes_no_memory(tmp_path):
    write_image(tmp_path / "a.nii", np.zeros((2, 3, 4), np.float32))
    data = (tmp_path / "a.nii").read_bytes()
    data = data[:108] + np.float32(1 << 26).tobytes() + data[112:] + bytes((1 << 26) - 352)
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(data, 1))
    del data
    tracemalloc.start()
    check_payload(tmp_path / "a.nii.gz")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 23


@pytest.mark.parametrize("ending", ["nii.gz", "nrrd"])
def test_voxels_without_numbers_inside_an_image_or_a_label_map_are_refused(tmp_path, ending):
    with pytest.raises(InputError, match="not numbers .* in 2 voxel"):
        read(write_image(tmp_path / f"scan.{ending}", with_nan(np.s_[4, 4, 4], np.s_[4, 4, 6], np.s_[0])))
    with pytest.raises(InputError, match="no number at all"):
        read(write_image(tmp_path / f"none.{ending}", np.full((3, 3, 3), np.nan, np.float32)))
    label = np.zeros((8, 9, 10), np.float32)
    label[2:4] = 1
    label[0, 0, 0] = np.nan
    with pytest.raises(InputError, match="label.*whole numbers"):
        read_label(write_image(tmp_path / f"label.{ending}", label))


@pytest.mark.parametrize("vector", [False, True])
def test_each_channel_is_mended_by_itself(tmp_path, vector):
    array = np.stack([with_nan(), with_nan(np.s_[-1])])
    stored = np.moveaxis(array, 0, -1) if vector else array
    sitk.WriteImage(sitk.GetImageFromArray(stored, isVector=vector), str(tmp_path / "two.nii.gz"))
    found = read(tmp_path / "two.nii.gz", 2)
    np.testing.assert_array_equal(found.array[0], array[0])
    assert (found.array[1, -1] == array[1, :-1].min()).all()


def test_a_single_frame_of_four_dimensions_is_three(tmp_path):
    sitk.WriteImage(sitk.JoinSeries([sitk.Image(3, 4, 5, sitk.sitkFloat32)]), str(tmp_path / "one.nii.gz"))
    assert read(tmp_path / "one.nii.gz").array.shape == (1, 5, 4, 3)


def test_a_volume_that_cannot_be_written_says_where_and_leaves_nothing(tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(InputError, match=r"file/x\.nrrd: cannot be written"):
        write_volume(tmp_path / "file" / "x.nrrd", np.zeros((2, 3, 4), np.float32), np.eye(4))
    (tmp_path / "x.nrrd").mkdir()
    with pytest.raises(InputError, match=r"x\.nrrd: cannot be written"):
        write_volume(tmp_path / "x.nrrd", np.zeros((2, 3, 4), np.float32), np.eye(4))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "x.nrrd"]


def test_case_names():
    from pathlib import Path

    names = {"a.nii.gz": "a", "a.b.nrrd": "a.b", "x.seg.nrrd": "x", "p.mha": "p"}
    assert {name: case_name(Path(name)) for name in names} == names


def test_a_dataset_is_read_with_labels_and_channels(dataset):
    found = load_dataset(dataset)
    assert [label.name for label in found.labels] == ["first", "second"]
    assert found.channels == ("MRI",) and len(found.cases) == 6 and found.licence == "CC0"


def test_missing_files_of_a_dataset_are_listed_all_at_once(dataset):
    (dataset / "imagesTr" / "blob_01.nii.gz").unlink()
    (dataset / "labelsTr" / "blob_03.nii.gz").unlink()
    with pytest.raises(InputError, match=r"blob_01.nii.gz.*blob_03.nii.gz"):
        load_dataset(dataset)


def test_a_label_without_an_image_is_found_even_if_not_listed(dataset):
    (dataset / "labelsTr" / "extra.nii.gz").write_bytes(b"x")
    with pytest.raises(InputError, match="image for label extra.nii.gz"):
        load_dataset(dataset)


def test_a_split_file_rules_and_its_mistakes_are_named(dataset, tmp_path):
    found = load_dataset(dataset)
    train, validation = split(found)
    assert len(validation) == 1 and len(train) == 5 and split(found) == (train, validation)
    path = tmp_path / "split.json"
    path.write_text('{"train": ["blob_00"], "val": ["blob_09"]}')
    with pytest.raises(InputError, match="split.json.*blob_09"):
        split(found, path)
    path.write_text('{"train": ["blob_00"], "val": ["blob_00"]}')
    with pytest.raises(InputError, match="both train and val"):
        split(found, path)
    path.write_text('{"train": ["blob_00"], "val": ["blob_01", "blob_02"]}')
    assert [len(part) for part in split(found, path)] == [1, 2]


def test_one_case_alone_cannot_be_split(tmp_path):
    with pytest.raises(InputError, match="one case only"):
        split(load_dataset(make_dataset(tmp_path / "one", 1)))


def test_a_truncated_metaimage_is_told_without_a_false_reason(tmp_path):
    sitk.WriteImage(
        sitk.GetImageFromArray(np.random.default_rng(0).random((8, 8, 8), np.float32)), str(tmp_path / "x.mha")
    )
    whole = (tmp_path / "x.mha").read_bytes()
    (tmp_path / "x.mha").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"x\.mha: is damaged or incomplete") as found:
        read(tmp_path / "x.mha")
    assert "No such file" not in str(found.value)


@pytest.mark.skipif(sys.platform == "win32", reason="no limit to the size of a file")
@pytest.mark.parametrize("ending", ["seg.nrrd", "nii.gz", "nrrd", "png"])
def test_a_mask_that_does_not_arrive_whole_replaces_nothing_and_is_told(tmp_path, ending, capfd):
    """ITK ends without an error where the last bytes of a packed file found no place."""
    path, rng = tmp_path / f"x.{ending}", np.random.default_rng(0)
    old, new = (rng.integers(0, 3, (1 if ending == "png" else 12, 40, 50)).astype(np.uint8) for _ in range(2))
    write_mask(path, old, AFFINE)
    good = path.read_bytes()
    for size in range(0, len(good) - 60, max(1, len(good) // 25)):
        with no_more_than(size), pytest.raises(InputError, match=rf"x\.{ending}: (did not arrive whole|cannot be)"):
            write_mask(path, new, AFFINE)
        tried("faults injected: memory, disk, loss")
        assert path.read_bytes() == good and list(tmp_path.iterdir()) == [path]
    write_mask(path, new, AFFINE)
    np.testing.assert_array_equal(read_label(path)[0], new)


def test_an_image_that_this_machine_cannot_hold_is_told_before_it_is_read(tmp_path, monkeypatch):
    path = write_image(tmp_path / "scan.nrrd", np.zeros((8, 9, 10), np.float32))
    monkeypatch.setattr(files, "machine_memory", lambda: 8 * 9 * 10 * 8)
    read_label(path)
    monkeypatch.setattr(files, "machine_memory", lambda: 8 * 9 * 10 * 8 - 1)
    for reader in (read, read_label):
        with pytest.raises(InputError, match=r"scan\.nrrd: is too large for this machine's memory"):
            reader(path)


def test_memory_that_runs_out_after_an_image_was_read_is_told(tmp_path, monkeypatch):
    def spent(*_):
        tried("faults injected: memory, disk, loss")
        raise MemoryError

    monkeypatch.setattr(files, "mend", spent)
    with pytest.raises(InputError, match=r"scan\.nrrd: is too large for this machine's memory"):
        read(write_image(tmp_path / "scan.nrrd", np.zeros((8, 9, 10), np.float32)))


@pytest.mark.parametrize(
    "other",
    [
        lambda image: sitk.Cast(image, sitk.sitkInt16),
        lambda image: sitk.Image(image) + 1,
        lambda image: sitk.Flip(image, (True, False, False)),
    ],
)
def test_another_type_value_or_grid_on_the_disk_is_no_whole_file(tmp_path, monkeypatch, other):
    plain = sitk.WriteImage
    monkeypatch.setattr(sitk, "WriteImage", lambda image, *more, **how: plain(other(image), *more, **how))
    mask = np.random.default_rng(0).integers(0, 3, (4, 5, 6)).astype(np.uint8)
    with pytest.raises(InputError, match="did not arrive whole"):
        write_mask(tmp_path / "x.nrrd", mask, AFFINE)
    assert list(tmp_path.iterdir()) == []


def test_a_blank_field_of_a_metaimage_that_metaio_does_not_know_is_no_harm(tmp_path):
    image = sitk.GetImageFromArray(np.arange(24, dtype=np.int16).reshape(2, 3, 4))
    image.SetMetaData("0010|4000", "   ")  # a DICOM tag that is padded
    sitk.WriteImage(image, str(tmp_path / "x.mha"))
    assert b"0010|4000 =" in (tmp_path / "x.mha").read_bytes()
    np.testing.assert_array_equal(read(tmp_path / "x.mha").array[0].ravel(), np.arange(24))


def test_nifti_2_is_called_by_its_name(tmp_path):
    (tmp_path / "x.nii").write_bytes(struct.pack("<i", 540) + b"n+2\0\r\n\x1a\n" + bytes(700))
    with pytest.raises(InputError, match="is a NIfTI-2 image; save it as NIfTI-1"):
        read(tmp_path / "x.nii")


@pytest.mark.parametrize("seed", range(4))
def test_a_nifti_that_places_its_voxels_in_two_ways_is_told_and_any_other_is_not(tmp_path, seed):
    axes = Rotation.random(random_state=seed).as_matrix() * [1, 1, (-1) ** seed]  # left-handed ones, too
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = axes * [0.9, 1.1, 2.0], (5, -300, 70)
    path = write_image(tmp_path / "x.nii", np.ones((4, 5, 6), np.float32), affine)
    assert read(path).notes == ()
    body = bytearray(path.read_bytes())
    body[292:296] = struct.pack("<f", struct.unpack("<f", body[292:296])[0] + 3.0)  # the sform's first offset, mm
    path.write_bytes(body)
    assert "its qform and sform place it differently" in " ".join(read(path).notes)


def test_a_mask_that_is_written_is_read_back_without_copies_of_the_whole(tmp_path):
    mask = np.random.default_rng(0).integers(0, 4, (64, 64, 64), np.uint8).repeat(8, 1).repeat(8, 2)
    tracemalloc.start()  # numpy's arrays; ITK's are not counted
    write_mask(tmp_path / "x.nrrd", mask, np.eye(4))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < mask.nbytes
