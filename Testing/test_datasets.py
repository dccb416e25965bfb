"""Data sets in every layout, several channels, and bad input told all at once before training."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from conftest import TINY, blob_case, make_dataset, write_image
from DiffSegLib import config
from DiffSegLib.data.batch import find_cases
from DiffSegLib.data.channels import read_case, same_grid
from DiffSegLib.data.checks import examine
from DiffSegLib.data.datasets import load_dataset
from DiffSegLib.data.files import channel_count, read
from DiffSegLib.errors import InputError
from DiffSegLib.labels import Region
from DiffSegLib.models import store
from DiffSegLib.training.plan import make_plan
from DiffSegLib.training.run import train_folder

SPACED = np.diag([1.5, 1.0, 2.0, 1.0])


def labels_of(dataset):
    return {label.value: label.name for label in dataset.labels}


def make_nnunet(folder, version=2, channels=2, cases=("a", "b"), **extra):
    """A folder in nnU-Net's raw layout."""
    for part in ("imagesTr", "labelsTr"):
        (folder / part).mkdir(parents=True)
    for n, name in enumerate(cases):
        image, label = blob_case(n)
        for channel in range(channels):
            write_image(folder / "imagesTr" / f"{name}_{channel:04d}.nii.gz", image + 1000 * channel)
        write_image(folder / "labelsTr" / f"{name}.nii.gz", label)
    names = {str(n): name for n, name in enumerate(("T1", "T2", "FLAIR")[:channels])}
    if version == 2:
        text = {"channel_names": names, "labels": {"background": 0, "first": 1, "second": 2}, "file_ending": ".nii.gz"}
    else:
        entries = [{"image": f"./imagesTr/{x}.nii.gz", "label": f"./labelsTr/{x}.nii.gz"} for x in cases]
        text = {"modality": names, "labels": {"0": "background", "1": "first", "2": "second"}, "training": entries}
    (folder / "dataset.json").write_text(json.dumps({**text, **extra}))
    return folder


@pytest.mark.parametrize("version", [1, 2])
def test_nnunet_folders_of_both_versions_say_the_same(tmp_path, version):
    found = load_dataset(make_nnunet(tmp_path / "Dataset001", version))
    assert labels_of(found) == {1: "first", 2: "second"} and found.channels == ("T1", "T2") and not found.regions
    assert [case.name for case in found.cases] == ["a", "b"]
    assert [path.name for path in found.cases[1].images] == ["b_0000.nii.gz", "b_0001.nii.gz"]
    assert found.cases[1].label.name == "b.nii.gz"


def test_nnunet_files_that_are_missing_or_alone_are_all_listed(tmp_path):
    folder = make_nnunet(tmp_path / "set")
    (folder / "imagesTr" / "a_0001.nii.gz").unlink()
    (folder / "labelsTr" / "b.nii.gz").unlink()
    with pytest.raises(InputError, match=r"a_0001.nii.gz of case a.*label for image b"):
        load_dataset(folder)


def test_nnunet_lists_of_files_are_followed(tmp_path):
    folder = make_nnunet(tmp_path / "set")
    entry = {"images": ["imagesTr/a_0000.nii.gz", "imagesTr/a_0001.nii.gz"], "label": "labelsTr/a.nii.gz"}
    text = json.loads((folder / "dataset.json").read_text())
    (folder / "dataset.json").write_text(json.dumps({**text, "dataset": {"only": entry}}))
    assert [(case.name, len(case.images)) for case in load_dataset(folder).cases] == [("only", 2)]


def test_regions_are_read_in_their_order(tmp_path):
    labels = {"background": 0, "whole": [1, 2], "core": [2]}
    folder = make_nnunet(tmp_path / "set", labels=labels, regions_class_order=[1, 2])
    found = load_dataset(folder)
    assert found.regions == (Region("whole", (1, 2), 1), Region("core", (2,), 2)) and found.num_classes == 3
    assert labels_of(found) == {1: "whole only", 2: "core"}
    plan = make_plan(folder, config.from_json(TINY))
    assert plan.settings.diffusion.classes == "overlapping" and "regions" in plan.reasons["diffusion.classes"]
    text = json.loads((folder / "dataset.json").read_text())
    del text["regions_class_order"]
    (folder / "dataset.json").write_text(json.dumps(text))
    with pytest.raises(InputError, match="'regions_class_order' must list one value for each of its 2 labels"):
        load_dataset(folder)


def test_an_ignore_label_is_refused(tmp_path):
    with pytest.raises(InputError, match="'ignore' label"):
        load_dataset(make_nnunet(tmp_path / "set", labels={"background": 0, "first": 1, "ignore": 2}))


def test_a_description_of_no_layout_is_refused(tmp_path):
    (tmp_path / "dataset.json").write_text('{"labels": {}}')
    with pytest.raises(InputError, match=r"dataset.json: lacks 'training'"):
        load_dataset(tmp_path)


def make_pairs(folder, layout):
    """The same two cases in each layout of pairs."""
    for n, name in enumerate(("a", "b")):
        image, label = blob_case(n)
        where = {
            "two folders": (f"images/{name}.nii.gz", f"labels/{name}.nii.gz"),
            "singular": (f"image/{name}.nrrd", f"label/{name}.nii.gz"),
            "side by side": (f"{name}_image.nii.gz", f"{name}_label.nii.gz"),
            "subfolders": (f"{name}/image.nii.gz", f"{name}/label.mha"),
        }[layout]
        for path, array in zip(where, (image, label), strict=True):
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            write_image(folder / path, array)
    return folder


LAYOUTS = ["two folders", "singular", "side by side", "subfolders"]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_pairs_are_found_in_each_layout(tmp_path, layout):
    found = load_dataset(make_pairs(tmp_path / "set", layout))
    assert [case.name for case in found.cases] == ["a", "b"] and found.channels == ("image",)
    assert labels_of(found) == {1: "label 1", 2: "label 2"}
    for n, case in enumerate(found.cases):
        np.testing.assert_allclose(read(case.images[0]).array[0], blob_case(n)[0], rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("labels.csv", "value,name\n0,background\n1,kidney\n2,tumour\n"),
        ("labels.csv", "1,kidney\n2,tumour\n"),
        ("labels.json", '{"1": "kidney", "2": "tumour"}'),
        ("labels.json", '{"background": 0, "kidney": 1, "tumour": 2}'),
    ],
)
def test_label_names_come_from_a_table(tmp_path, name, text):
    folder = make_pairs(tmp_path / "set", "two folders")
    (folder / name).write_text(text)
    assert labels_of(load_dataset(folder)) == {1: "kidney", 2: "tumour"}


@pytest.mark.parametrize("text", ["1,kidney\nx,tumour\n", "1\n", "value,name\n", "300,kidney\n"])
def test_a_wrong_table_of_labels_is_refused_by_name(tmp_path, text):
    folder = make_pairs(tmp_path / "set", "two folders")
    (folder / "labels.csv").write_text(text)
    with pytest.raises(InputError, match="labels.csv: "):
        load_dataset(folder)


def test_channels_of_pairs_are_numbered_files_and_slices_are_not_channels(tmp_path):
    folder = make_pairs(tmp_path / "set", "two folders")
    for name in ("a", "b"):
        path = folder / "images" / f"{name}.nii.gz"
        shutil.copy(path, folder / "images" / f"{name}_0000.nii.gz")
        path.rename(folder / "images" / f"{name}_0001.nii.gz")
    found = load_dataset(folder)
    assert found.channels == ("channel 1", "channel 2") and [len(case.images) for case in found.cases] == [2, 2]
    for part in ("images", "labels"):  # the same endings, but each with its own label: four cases of one channel
        shutil.rmtree(folder / part)
        (folder / part).mkdir()
        for n in range(3):
            write_image(folder / part / f"slice_{n:04d}.nii.gz", blob_case(n)[part == "labels"])
    assert [case.name for case in load_dataset(folder).cases] == ["slice_0000", "slice_0001", "slice_0002"]


def test_pairs_without_their_other_half_are_all_listed(tmp_path):
    folder = make_pairs(tmp_path / "set", "two folders")
    (folder / "labels" / "a.nii.gz").rename(folder / "labels" / "c.nii.gz")
    with pytest.raises(InputError, match="missing: label for image a; image for label c"):
        load_dataset(folder)


def test_a_folder_without_a_layout_says_what_was_looked_for(tmp_path):
    with pytest.raises(InputError, match=r"looked for: dataset.json.*images/ and labels/.*x_image.*subfolder"):
        load_dataset(tmp_path)
    with pytest.raises(InputError, match="no such folder"):
        load_dataset(tmp_path / "none")


def test_channels_in_one_file_of_four_dimensions(tmp_path):
    folder = make_dataset(tmp_path / "set", 2)
    text = json.loads((folder / "dataset.json").read_text())
    (folder / "dataset.json").write_text(json.dumps({**text, "modality": {"0": "T1", "1": "T2"}}))
    for n in range(2):
        image = sitk.GetImageFromArray(blob_case(n)[0])
        path = folder / "imagesTr" / f"blob_{n:02d}.nii.gz"
        sitk.WriteImage(sitk.JoinSeries([image, image * 2]), str(path))
        assert channel_count(path) == 2
    found = load_dataset(folder)
    volume = read_case(found.cases[1].images, 2)
    np.testing.assert_allclose(volume.array, np.stack([blob_case(1)[0], 2 * blob_case(1)[0]]), rtol=1e-6)
    assert not examine(found, found.cases).problems


def test_a_channel_on_another_grid_is_resampled_to_the_first(tmp_path):
    """A linear ramp in mm stays that ramp, whatever grid it is sampled on."""

    def ramp(shape, affine):
        k, j, i = np.meshgrid(*(np.arange(n) for n in shape), indexing="ij")
        return (np.stack([i, j, k, np.ones_like(i)], -1) @ affine.T)[..., :3].astype(np.float32) @ np.array([3, 5, 7.0])

    fine, coarse = np.diag([1.0, 1.0, 2.0, 1.0]), np.diag([2.0, 3.0, 1.5, 1.0])
    coarse[:3, 3] = -4.0
    first = write_image(tmp_path / "x_0000.nii.gz", np.zeros((6, 8, 10), np.float32), fine)
    second = write_image(tmp_path / "x_0001.nii.gz", ramp((30, 20, 20), coarse).astype(np.float32), coarse)
    volume = read_case((first, second))
    assert volume.array.shape == (2, 6, 8, 10)
    np.testing.assert_allclose(volume.array[1], ramp((6, 8, 10), fine), atol=1e-3)


def test_a_channel_that_lies_elsewhere_is_refused(tmp_path):
    away = np.eye(4)
    away[:3, 3] = 500.0
    first = write_image(tmp_path / "x_0000.nii.gz", np.ones((4, 4, 4), np.float32))
    second = write_image(tmp_path / "x_0001.nii.gz", np.ones((4, 4, 4), np.float32), away)
    with pytest.raises(InputError, match=r"x_0001.nii.gz: lies nowhere on the grid of .*x_0000"):
        read_case((first, second))


def test_rounded_headers_are_one_grid_and_shifted_ones_are_not():
    shape, affine = (100, 200, 300), np.diag([0.7, 0.7, 2.0, 1.0])
    rounded, shifted = affine + 1e-6, affine.copy()
    shifted[0, 3] = 0.1
    assert same_grid(shape, affine, shape, rounded)
    assert not same_grid(shape, affine, shape, shifted) and not same_grid(shape, affine, (100, 200, 301), affine)


def spoil(folder, kind):
    """One bad case among good ones, and the sentence that must name it."""
    image, label = blob_case(0)
    image_path, label_path = (folder / part / "blob_00.nii.gz" for part in ("imagesTr", "labelsTr"))
    if kind == "shape":
        write_image(label_path, label[:-1])
        return r"labelsTr/blob_00.nii.gz: does not lie on the grid of its image blob_00.nii.gz \(20 x 22 x 17 voxels"
    if kind == "spacing":
        write_image(label_path, label, SPACED)
        return r"does not lie on the grid of its image blob_00.nii.gz \(.* of 1.5 x 1 x 2 mm .*against.* 1 x 1 x 1 mm"
    if kind == "unknown label":
        write_image(label_path, np.where(label == 2, 9, label).astype(np.uint8))
        return r"labelsTr/blob_00.nii.gz: holds label 9, which the data set does not name \(it has 1 first, 2 second\)"
    if kind == "empty":
        write_image(label_path, 0 * label)
        return r"labelsTr/blob_00.nii.gz: is empty"
    if kind == "channels":
        sitk.WriteImage(sitk.GetImageFromArray(np.stack([image] * 2, -1), isVector=True), str(image_path))
        return r"imagesTr/blob_00.nii.gz: has 2 channel\(s\); the data set has 1 \(MRI\)"
    if kind == "4D":
        sitk.WriteImage(sitk.JoinSeries([sitk.GetImageFromArray(image)] * 3), str(image_path))
        return r"imagesTr/blob_00.nii.gz: has 4 dimensions"
    if kind == "spacing 0":
        path = write_image(folder / "zero.nii", image)
        raw = bytearray(path.read_bytes())
        raw[84:88] = bytes(4)  # pixdim[2]
        path.write_bytes(raw)
        sitk_reads_it_as_one = sitk.ReadImage(str(path)).GetSpacing()
        assert min(sitk_reads_it_as_one) > 0
        text = (folder / "dataset.json").read_text().replace("imagesTr/blob_00.nii.gz", "zero.nii")
        (folder / "dataset.json").write_text(text)
        image_path.unlink()
        return r"zero.nii: its voxel spacing \(1, 0, 1 mm\) is not above zero"
    assert kind == "damaged"
    image_path.write_bytes(image_path.read_bytes()[:500])
    return r"imagesTr/blob_00.nii.gz: is damaged or incomplete"


KINDS = ["shape", "spacing", "unknown label", "empty", "channels", "4D", "spacing 0", "damaged"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_bad_case_is_named_and_left_out_only_if_asked(dataset, kind):
    sentence = spoil(dataset, kind)
    heard = []
    with pytest.raises(InputError, match=sentence) as caught:
        make_plan(dataset, config.from_json(TINY))
    assert "1 of 6 cases" in str(caught.value) and "--skip-bad" in str(caught.value)
    plan = make_plan(dataset, config.from_json(TINY), skip_bad=True, listener=heard.append)
    assert len(plan.training + plan.validation) == 5
    assert all("blob_00" not in str(case.label) for case in plan.training + plan.validation)
    warnings = [event["text"] for event in heard if event["event"] == "warning"]
    assert len(warnings) == 1 and warnings[0].startswith("Left out: ") and plan.left_out[0] in warnings[0]


def test_all_problems_of_all_cases_are_listed_at_once(dataset):
    label = blob_case(1)[1]
    wanted = [spoil(dataset, "unknown label")]
    write_image(dataset / "labelsTr" / "blob_01.nii.gz", 0 * label[1:])  # two things wrong in one file
    (dataset / "imagesTr" / "blob_02.nii.gz").write_bytes(b"")
    (dataset / "labelsTr" / "blob_02.nii.gz").write_bytes(b"")
    with pytest.raises(InputError, match="3 of 6 cases") as caught:
        make_plan(dataset, config.from_json(TINY))
    for text in (
        *wanted,
        r"labelsTr/blob_01.*empty",
        r"labelsTr/blob_01.*grid",
        "imagesTr/blob_02",
        "labelsTr/blob_02",
    ):
        assert caught.match(text)


def test_one_case_only_is_told_together_with_what_else_is_wrong(tmp_path):
    folder = make_dataset(tmp_path / "one", 1)
    sentence = spoil(folder, "empty")
    for skip_bad in (False, True):
        with pytest.raises(InputError, match="no usable case|one case only") as caught:
            make_plan(folder, config.from_json(TINY), skip_bad=skip_bad)
        assert skip_bad or caught.match(sentence)


def test_a_class_in_one_case_is_a_warning_and_in_none_a_problem(dataset):
    for n in range(6):
        label = blob_case(n)[1]
        keep = label if n == 3 else np.where(label == 2, 0, label).astype(np.uint8)
        write_image(dataset / "labelsTr" / f"blob_{n:02d}.nii.gz", keep)
    heard = []
    make_plan(dataset, config.from_json(TINY), listener=heard.append)
    warnings = [event["text"] for event in heard if event["event"] == "warning"]
    assert len(warnings) == 1 and "Label 2 (second) occurs in case blob_03 only" in warnings[0]
    label = blob_case(3)[1]
    write_image(dataset / "labelsTr" / "blob_03.nii.gz", np.where(label == 2, 0, label).astype(np.uint8))
    with pytest.raises(InputError, match=r"no usable case holds label 2 \(second\)"):
        make_plan(dataset, config.from_json(TINY))
    assert len(make_plan(dataset, config.from_json(TINY), skip_bad=True).training) == 5


def test_a_split_file_without_its_bad_cases(dataset, tmp_path):
    spoil(dataset, "empty")
    path = tmp_path / "split.json"
    path.write_text('{"train": ["blob_00", "blob_01"], "val": ["blob_02"]}')
    plan = make_plan(dataset, config.from_json(TINY), split_file=path, skip_bad=True)
    assert [case.name for case in plan.training] == ["blob_01"] and [c.name for c in plan.validation] == ["blob_02"]
    path.write_text('{"train": ["blob_01"], "val": ["blob_00"]}')
    with pytest.raises(InputError, match="split.json: none of its val cases can be used"):
        make_plan(dataset, config.from_json(TINY), split_file=path, skip_bad=True)
    path.write_text('{"train": ["blob_01"], "val": ["blob_02"]}')  # the bad one is in neither: nobody asks
    assert len(make_plan(dataset, config.from_json(TINY), split_file=path).facts) == 2


def test_cases_of_several_channels_to_predict(tmp_path):
    for name in ("a_0000.nrrd", "a_0001.nrrd", "b.nrrd"):
        write_image(tmp_path / name, np.zeros((2, 2, 2), np.float32))
    names = {name: [p.name for p in paths] for name, paths in find_cases([tmp_path], 2)}
    assert names == {"a": ["a_0000.nrrd", "a_0001.nrrd"], "b": ["b.nrrd"]}
    assert [name for name, _ in find_cases([tmp_path], 1)] == ["a_0000", "a_0001", "b"]
    assert [name for name, _ in find_cases([tmp_path / "a_0000.nrrd"], 1)] == ["a"]  # nnU-Net's name of one channel
    with pytest.raises(InputError, match="case a: has 2 channel files; the model needs 3"):
        find_cases([tmp_path], 3)
    (tmp_path / "a_0000.nrrd").unlink()
    with pytest.raises(InputError, match="a_0001.nrrd: is channel 1 of case a, whose channel 0 is missing"):
        find_cases([tmp_path], 2)


def test_a_model_of_two_channels_is_trained_and_used_from_the_command_line(tmp_path):
    from DiffSegLib.commands import run

    folder = make_nnunet(tmp_path / "set", cases=("a", "b", "c"))
    model = train_folder(folder, tmp_path / "run", config.from_json(TINY), device="cpu")
    assert store.load(model).card.channels == ("T1", "T2")
    arguments = ["--input", str(folder / "imagesTr"), "--output", str(tmp_path / "out"), "--device", "cpu"]
    assert run(["predict", "--model", str(model), *arguments]) == 0
    assert {p.name for p in (tmp_path / "out").glob("*.seg.nrrd")} == {"a.seg.nrrd", "b.seg.nrrd", "c.seg.nrrd"}


def test_a_part_of_a_data_set_trains_without_the_cases_that_are_not_there(dataset):
    (dataset / "imagesTr" / "blob_01.nii.gz").unlink()
    (dataset / "labelsTr" / "blob_03.nii.gz").unlink()
    with pytest.raises(InputError, match=r"image blob_01.*; label blob_03"):
        load_dataset(dataset)
    found = load_dataset(dataset, skip_missing=True)
    assert [case.name for case in found.cases] == ["blob_00", "blob_02", "blob_04", "blob_05"]
    assert len(found.missing) == 2


def test_an_odd_case_does_not_speak_for_the_others(tmp_path):
    for part in ("images", "labels"):
        (tmp_path / part).mkdir()
    for n in range(3):
        image, label = blob_case(n)
        write_image(tmp_path / "images" / f"case{n}.nii.gz", image)
        write_image(tmp_path / "labels" / f"case{n}.nii.gz", label)
    write_image(tmp_path / "images" / "a.nii.gz", np.stack([blob_case(3)[0]] * 2))  # a file of two channels, first
    write_image(tmp_path / "labels" / "a.nii.gz", blob_case(3)[1])
    assert load_dataset(tmp_path).channels == ("image",)


def test_missing_files_are_told_with_everything_else_that_is_wrong(dataset):
    (dataset / "imagesTr" / "blob_01.nii.gz").unlink()
    write_image(dataset / "labelsTr" / "blob_02.nii.gz", np.zeros((18, 22, 20), np.uint8))
    settings, keys = config.choose("default", None, [])
    with pytest.raises(InputError) as told:
        make_plan(dataset, settings, keys)
    assert "blob_01" in str(told.value) and "missing" in str(told.value) and "blob_02" in str(told.value)
    assert "is empty" in str(told.value)
    plan = make_plan(dataset, settings, keys, skip_bad=True)
    assert {case.name for case in plan.training + plan.validation} == {f"blob_0{n}" for n in (0, 3, 4, 5)}


def planned(folder, **options):
    return make_plan(folder, *config.choose("default", None, []), **options)


def test_a_case_without_its_label_counts_among_those_that_cannot_be_used(dataset):
    (dataset / "imagesTr" / "blob_01.nii.gz").write_bytes(b"no image")
    (dataset / "labelsTr" / "blob_02.nii.gz").unlink()
    with pytest.raises(InputError, match="2 of 6 cases"):
        make_plan(dataset, config.from_json(TINY))


def test_what_concerns_one_case_only_is_told_with_the_problems(dataset):
    label = blob_case(1)[1]
    label[label == 2] = 1
    for n in (0, 1, 2, 3, 4):
        write_image(dataset / "labelsTr" / f"blob_0{n}.nii.gz", label)
    write_image(dataset / "labelsTr" / "blob_00.nii.gz", np.zeros_like(label))
    with pytest.raises(InputError, match=r"(?s)is empty.*Label 2 \(second\) occurs in case blob_05 only"):
        planned(dataset)


def test_slices_among_volumes_and_images_of_one_value_are_problems(dataset):
    write_image(dataset / "imagesTr" / "blob_01.nii.gz", blob_case(1)[0][:1])
    write_image(dataset / "labelsTr" / "blob_01.nii.gz", np.ones_like(blob_case(1)[1][:1]))
    write_image(dataset / "imagesTr" / "blob_02.nii.gz", np.full((18, 22, 20), 7, np.float32))
    with pytest.raises(InputError) as told:
        planned(dataset)
    text = str(told.value)
    assert "blob_01.nii.gz: has 1 x 22 x 20 voxels, and most cases of the data set are volumes" in text
    assert "blob_02.nii.gz: holds one value only" in text and "2 of 6 cases" in text
    plan = planned(dataset, skip_bad=True)
    assert {case.name for case in plan.training + plan.validation} == {f"blob_0{n}" for n in (0, 3, 4, 5)}


def test_problems_are_told_in_the_order_of_the_cases(dataset):
    for n in range(6):
        write_image(dataset / "labelsTr" / f"blob_0{n}.nii.gz", np.zeros((18, 22, 20), np.uint8))
    with pytest.raises(InputError) as told:
        planned(dataset)
    names = [line.split(".nii.gz")[0][-7:] for line in str(told.value).splitlines() if "is empty" in line]
    assert names == [f"blob_0{n}" for n in range(6)]
    assert "--skip-bad" not in str(told.value), "nothing would be left"


def test_a_split_may_name_a_case_that_is_left_out_for_a_missing_file(dataset):
    (dataset / "imagesTr" / "blob_01.nii.gz").unlink()
    names = [f"blob_0{n}" for n in range(6)]
    (dataset / "splits.json").write_text(json.dumps({"train": names[:4], "val": names[4:]}))
    plan = planned(dataset, skip_bad=True)
    assert [case.name for case in plan.training] == ["blob_00", "blob_02", "blob_03"]


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ({"0": "background", "1": "a", "300": "b"}, "label 'b' has value 300; it must be a whole number from 1 to 255"),
        ({"0": "background", "-1": "b"}, "label 'b' has value -1"),
        ({"0": "background"}, "names no label beside the background"),
        ({"1": "a", "2": "a"}, "two labels are called 'a'"),
        ({"1": ""}, "a label is called ''; it needs 1 to 200 letters"),
        ({"1": ["b"]}, "its name must be a text"),
    ],
)
def test_labels_that_no_model_could_have_are_refused_before_anything_is_read(dataset, labels, words):
    text = json.loads((dataset / "dataset.json").read_text())
    (dataset / "dataset.json").write_text(json.dumps({**text, "labels": labels}))
    with pytest.raises(InputError, match="dataset.json: ") as told:
        planned(dataset, skip_bad=True)
    assert words in str(told.value)


def test_labels_may_be_written_the_other_way_round(dataset):
    text = json.loads((dataset / "dataset.json").read_text())
    (dataset / "dataset.json").write_text(json.dumps({**text, "labels": {"background": 0, "one": 1, "two": 2}}))
    assert labels_of(load_dataset(dataset)) == {1: "one", 2: "two"}


def test_a_description_stays_in_its_folder_also_where_that_is_the_current_one(dataset, monkeypatch):
    monkeypatch.chdir(dataset)
    assert len(load_dataset(Path(".")).cases) == 6
    text = json.loads((dataset / "dataset.json").read_text())
    text["training"][0]["image"] = f"../{dataset.name}/../x.nii.gz"
    (dataset / "dataset.json").write_text(json.dumps(text))
    with pytest.raises(InputError, match="does not lie in its folder"):
        load_dataset(Path("."))


def test_a_border_without_numbers_is_told_before_training(dataset):
    image = blob_case(1)[0]
    image[0] = np.nan
    write_image(dataset / "imagesTr" / "blob_01.nii.gz", image)
    heard = []
    planned(dataset, listener=heard.append)
    assert any("blob_01.nii.gz: 440 voxels of its border" in event.get("text", "") for event in heard)
