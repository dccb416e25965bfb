"""Data sets in every layout: nnU-Net's, the Decathlon's, pairs of files."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from conftest import TINY, blob_case, write_image
from DiffSegLib import config
from DiffSegLib.data.datasets import load_dataset
from DiffSegLib.data.files import read
from DiffSegLib.errors import InputError
from DiffSegLib.labels import Region
from DiffSegLib.models import store
from DiffSegLib.training.plan import make_plan
from DiffSegLib.training.run import train_folder


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


def test_a_label_with_another_ending_than_the_description_s_is_told(tmp_path):
    folder = make_nnunet(tmp_path / "set", 2)
    (folder / "labelsTr" / "more.nrrd").write_bytes(b"")
    with pytest.raises(InputError, match=r"missing: label more\.nii\.gz \(there is more\.nrrd\)"):
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


@pytest.mark.parametrize("version", [1, 2])
def test_channels_in_a_list_of_numbers_are_no_description(tmp_path, version):
    folder = make_nnunet(tmp_path / "set", version, channels=1)
    text = json.loads((folder / "dataset.json").read_text())
    key = "channel_names" if version == 2 else "modality"
    (folder / "dataset.json").write_text(json.dumps({**text, key: [1]}))
    with pytest.raises(InputError, match=r"dataset\.json: is not in .*nnU-Net layout \(IndexError"):
        load_dataset(folder)


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
            "of nnU-Net": (f"imagesTr/{name}_0000.nii.gz", f"labelsTr/{name}.nii.gz"),
            "singular": (f"image/{name}.nrrd", f"label/{name}.nii.gz"),
            "side by side": (f"{name}_image.nii.gz", f"{name}_label.nii.gz"),
            "subfolders": (f"{name}/image.nii.gz", f"{name}/label.mha"),
        }[layout]
        for path, array in zip(where, (image, label), strict=True):
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            write_image(folder / path, array)
    return folder


LAYOUTS = ["two folders", "of nnU-Net", "singular", "side by side", "subfolders"]


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


@pytest.mark.parametrize(
    ("layout", "file"),
    [
        ("two folders", "labels/a.seg.nrrd"),  # somebody's correction, say
        ("two folders", "images/a.mha"),
        ("of nnU-Net", "imagesTr/a_0000.mha"),  # else the case's second channel
        ("side by side", "a_label.mha"),
        ("side by side", "a_image.mha"),
        ("subfolders", "a/image.mha"),
        ("subfolders", "a/label.nrrd"),
        ("two folders", "images/a_0000.nii.gz"),
        ("of nnU-Net", "imagesTr/a.nii.gz"),
        ("side by side", "a_image_0000.nii.gz"),
        ("subfolders", "a/image_0000.nii.gz"),
        ("subfolders", "a/label_0000.nii.gz"),
    ],
)
def test_of_two_files_of_one_name_none_is_chosen(tmp_path, layout, file):
    folder = make_pairs(tmp_path / "set", layout)
    write_image(folder / file, blob_case(1)[1])
    with pytest.raises(InputError, match=r"/a[^:]*: \S+ beside it is of the same case; remove one of them"):
        load_dataset(folder)


def test_a_channel_that_is_missing_moves_no_other_into_its_place(tmp_path):
    folder = make_pairs(tmp_path / "set", "of nnU-Net")
    for name in ("a_0001", "b_0002"):
        write_image(folder / "imagesTr" / f"{name}.nii.gz", blob_case(0)[0])
    with pytest.raises(InputError, match=r"1 file is missing: channel 0001 \(they count from 0000\) of image b"):
        load_dataset(folder)
    assert [case.name for case in load_dataset(folder, skip_missing=True).cases] == ["a"]


def test_two_label_maps_of_one_case_that_are_numbered_are_not_chosen_from(tmp_path):
    folder = make_pairs(tmp_path / "set", "subfolders")
    for n in range(2):
        shutil.copy(folder / "a" / "label.mha", folder / "a" / f"label_{n:04d}.mha")
    (folder / "a" / "label.mha").unlink()
    with pytest.raises(InputError, match="label_0001.mha: label_0000.mha beside it is of the same case"):
        load_dataset(folder)


def test_pairs_without_their_other_half_are_all_listed(tmp_path):
    folder = make_pairs(tmp_path / "set", "two folders")
    (folder / "labels" / "a.nii.gz").rename(folder / "labels" / "c.nii.gz")
    with pytest.raises(InputError, match="missing: label for image a; image for label c"):
        load_dataset(folder)


def test_a_folder_without_a_layout_says_what_was_looked_for(tmp_path):
    places = r"looked for: dataset.json.*images/ and labels/.*, imagesTr/ and labelsTr/.*x_image.*subfolder"
    with pytest.raises(InputError, match=places):
        load_dataset(tmp_path)
    with pytest.raises(InputError, match="no such folder"):
        load_dataset(tmp_path / "none")


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
    with pytest.raises(InputError, match=r"image imagesTr/blob_01.*; label labelsTr/blob_03"):
        load_dataset(dataset)
    found = load_dataset(dataset, skip_missing=True)
    assert [case.name for case in found.cases] == ["blob_00", "blob_02", "blob_04", "blob_05"]
    assert len(found.missing) == 2


def test_of_hundreds_of_missing_files_the_first_are_named_and_where_they_were_looked_for(tmp_path):
    entries = [{"image": f"./imagesTr/c{n}.nii.gz", "label": f"./labelsTr/c{n}.nii.gz"} for n in range(200)]
    text = {"modality": {"0": "MRI"}, "labels": {"0": "background", "1": "a"}, "training": entries}
    (tmp_path / "dataset.json").write_text(json.dumps(text))
    with pytest.raises(InputError) as told:
        make_plan(tmp_path, config.from_json(TINY), skip_bad=True)
    said = str(told.value)
    assert said.startswith(f"{tmp_path}: 400 files are missing: image imagesTr/c0.nii.gz of case c0; ")
    assert said.endswith("; and 395 more; copy them there, or name the folder that has them.") and "\n" not in said


def test_images_in_place_of_labels_are_called_so(tmp_path):
    folder = make_pairs(tmp_path / "set", "two folders")
    shutil.rmtree(folder / "labels")
    shutil.copytree(folder / "images", folder / "labels")
    with pytest.raises(InputError, match=r"labels/b\.nii\.gz: labels must be whole numbers .* is it an image\?"):
        load_dataset(folder)


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


def test_a_description_in_place_of_its_folder_is_told(dataset):
    with pytest.raises(InputError, match=r"dataset\.json: is a file; name the folder in which it lies\."):
        load_dataset(dataset / "dataset.json")
