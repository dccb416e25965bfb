"""What is wrong with a data set, told all at once before training, and training without it."""

import json

import numpy as np
import pytest
import SimpleITK as sitk

from conftest import TINY, blob_case, make_dataset, write_image
from DiffSegLib import config
from DiffSegLib.errors import InputError
from DiffSegLib.training.plan import make_plan

SPACED = np.diag([1.5, 1.0, 2.0, 1.0])


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
    heard = []
    words = r"split.json: none of its val cases can be used \(blob_00\): .* mend them, or name others .* --split"
    with pytest.raises(InputError, match=words):
        make_plan(dataset, config.from_json(TINY), split_file=path, skip_bad=True, listener=heard.append)
    assert any("blob_00.nii.gz: is empty" in event["text"] for event in heard), "what is wrong with it"
    path.write_text('{"train": ["blob_01"], "val": ["blob_02"]}')  # the bad one is in neither: nobody asks
    plan = make_plan(dataset, config.from_json(TINY), split_file=path)
    assert len(plan.facts) == 2
    assert plan.division == f"Cases for training: 1, for validation: 1 (blob_02), as {path} names them."


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


def test_a_description_that_was_copied_without_most_of_its_files_is_one_line(dataset):
    text = json.loads((dataset / "dataset.json").read_text())
    text["training"] += [{"image": f"imagesTr/c{n}.nii.gz", "label": f"labelsTr/c{n}.nii.gz"} for n in range(50)]
    (dataset / "dataset.json").write_text(json.dumps(text))
    with pytest.raises(InputError, match="50 of 56 cases cannot be used") as told:
        make_plan(dataset, config.from_json(TINY))
    said = str(told.value)
    assert "100 files are missing: image imagesTr/c0.nii.gz of case c0; " in said and "; and 95 more." in said
    assert said.count("\n") == 2 and said.endswith("--skip-bad.")
    heard = []
    plan = make_plan(dataset, config.from_json(TINY), skip_bad=True, listener=heard.append)
    assert sum(event["event"] == "warning" for event in heard) == 1 and len(plan.left_out) == 100


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
    small = np.zeros((40, 40, 40), np.float32)
    small[2:6, 2:6, 2:6] = np.random.default_rng(0).random((4, 4, 4))
    write_image(dataset / "imagesTr" / "blob_03.nii.gz", small)
    write_image(dataset / "labelsTr" / "blob_03.nii.gz", (small > 0).astype(np.uint8))
    with pytest.raises(InputError) as told:
        planned(dataset)
    text = str(told.value)
    assert "blob_01.nii.gz: has 1 x 22 x 20 voxels, and most cases of the data set are volumes" in text
    assert "blob_02.nii.gz: holds one value only" in text and "3 of 6 cases" in text
    assert "blob_03.nii.gz: almost all of it has one value; there is nothing to learn from." in text
    plan = planned(dataset, skip_bad=True)
    assert {case.name for case in plan.training + plan.validation} == {f"blob_0{n}" for n in (0, 4, 5)}


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


def test_a_border_without_numbers_is_told_before_training(dataset):
    image = blob_case(1)[0]
    image[0] = np.nan
    write_image(dataset / "imagesTr" / "blob_01.nii.gz", image)
    heard = []
    planned(dataset, listener=heard.append)
    assert any("blob_01.nii.gz: 440 voxels of its border" in event.get("text", "") for event in heard)
