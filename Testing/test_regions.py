"""Overlapping classes: nnU-Net's regions from a folder to trained, predicted and measured label maps."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from conftest import ROOT, write_image
from DiffSegLib.commands import run
from DiffSegLib.config import DataConfig
from DiffSegLib.data.cases import Dataset
from DiffSegLib.data.files import read_label
from DiffSegLib.data.native import regions_as
from DiffSegLib.data.preprocess import to_model_space
from DiffSegLib.data.regions import as_regions, membership
from DiffSegLib.data.volume import Volume
from DiffSegLib.errors import InputError
from DiffSegLib.inference.uncertainty import binary_entropy
from DiffSegLib.labels import Label, Region
from DiffSegLib.models.card import parse_card
from DiffSegLib.models.shipped import read_card
from DiffSegLib.training.validation import class_dice
from whole_map import to_native

# as in BraTS: a whole made of three values, its core of two, and one of them alone
WHOLE, CORE, ACTIVE = Region("whole", (1, 2, 3), 1), Region("core", (2, 3), 2), Region("active", (3,), 3)
BRATS = Dataset(ROOT, "x", (), tuple(Label(n, str(n)) for n in (1, 2, 3)), ("T1",), regions=(WHOLE, CORE, ACTIVE))


def test_a_label_map_becomes_overlapping_masks():
    masks = as_regions(torch.tensor([[[0, 1], [2, 3]]]), membership(BRATS))
    assert masks[0].flatten(1).tolist() == [[1, 0, 0, 0], [0, 1, 1, 1], [0, 0, 1, 1], [0, 0, 0, 1]]
    assert membership(replace(BRATS, regions=())) is None and BRATS.num_classes == 4
    partial = replace(BRATS, regions=(CORE,))  # a value that belongs to no region is background
    assert membership(partial).tolist() == [[1, 1, 0, 0], [0, 0, 1, 1]]


def test_later_regions_write_over_earlier_ones():
    probability = torch.zeros(4, 1, 1, 6)
    probability[1, ..., :3] = 0.9
    probability[2, ..., 1:4] = 0.6
    probability[3, ..., 2] = 0.51
    probability[3, ..., 5] = 0.5  # not above a half
    array = np.arange(6, dtype=np.float32).reshape(1, 1, 1, 6)
    volume = Volume(array, np.diag([-1.0, 1, 1, 1]))  # stored from right to left
    grid = to_model_space(volume, DataConfig())[1]
    assert to_native(probability, grid, regions_as([1, 2, 3]))[0, 0].tolist() == [0, 0, 2, 3, 2, 1]
    assert to_native(probability, grid, regions_as([3, 1, 2]))[0, 0].tolist() == [0, 0, 1, 2, 1, 3]


def test_a_region_s_dice_counts_all_its_values():
    label = torch.tensor([[1, 2, 3, 0]])
    found = as_regions(label[None], membership(BRATS))[0]
    assert class_dice(found, label, membership(BRATS)) == [1.0, 1.0, 1.0]
    found[2, 0, 1] = 0.2  # of the core's two voxels one is missed
    assert class_dice(found, label, membership(BRATS)) == pytest.approx([1.0, 2 / 3, 1.0])


def test_the_least_certain_region_is_a_voxel_s_uncertainty():
    spread = binary_entropy(torch.tensor([[1.0, 0.5, 0.1], [0.0, 0.9, 0.3]]))
    h = -(0.3 * np.log2(0.3) + 0.7 * np.log2(0.7))
    assert spread.tolist() == pytest.approx([0.0, 1.0, h], abs=1e-5)


def ball(radius, shape=(12, 16, 14), middle=(6, 8, 7)):
    grid = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij")) - np.array(middle)[:, None, None, None]
    return (grid**2).sum(0) < radius**2


def make_nested(folder):
    """Six cases in nnU-Net's layout: a shell of value 4 around a core of value 2, on voxels of 1 x 1 x 1.5 mm."""
    for part in ("imagesTr", "labelsTr"):
        (folder / part).mkdir(parents=True)
    rng = np.random.default_rng(0)
    for n in range(6):
        middle = np.array([6, 8, 7]) + rng.integers(-1, 2, 3)
        label = np.where(ball(2.6, middle=middle), 2, np.where(ball(5, middle=middle), 4, 0)).astype(np.uint8)
        image = 100 * np.select([label == 4, label == 2], [1.0, 2.0]) + 10 * rng.standard_normal(label.shape)
        spaced = np.diag([1.0, 1.0, 1.5, 1.0])
        write_image(folder / "imagesTr" / f"c{n}_0000.nii.gz", image.astype(np.float32), spaced)
        write_image(folder / "labelsTr" / f"c{n}.nii.gz", label, spaced)
    labels = {"background": 0, "whole": [4, 2], "core": [2]}
    text = {"channel_names": {"0": "T1"}, "labels": labels, "regions_class_order": [4, 2], "file_ending": ".nii.gz"}
    (folder / "dataset.json").write_text(json.dumps(text))
    return folder


def test_regions_are_trained_predicted_and_measured_from_the_command_line(tmp_path, capsys):
    folder = make_nested(tmp_path / "set")
    small = ["data.patch=[12,16,12]", "data.spacing=[1.5,1.25,1.25]", "network.channels=[8,16]", "network.heads=2"]
    small += ["network.strides=[[2,2,2]]", "network.blocks=1", "training.learning_rate=0.01", "training.ema=0.9"]
    small += ["training.validations=1", "training.batch=2"]
    out = tmp_path / "run"
    arguments = ["--data", str(folder), "--out", str(out), "--iterations", "50", "--device", "cpu", "--seed", "1"]
    assert run(["train", *arguments, "--set", *small]) == 0
    score = json.loads((out / "log.jsonl").read_text().splitlines()[-1])
    assert len(score["dice_by_class"]) == 2 and min(score["dice_by_class"]) > 0.8
    card = read_card(out / "model.safetensors")
    assert card.regions == (Region("whole", (4, 2), 4), Region("core", (2,), 2)) and card.num_classes == 3
    assert [(label.value, label.name) for label in card.labels] == [(2, "core"), (4, "whole only")]
    assert card.diffusion.classes == "overlapping"

    masks = tmp_path / "masks"
    images = ["--model", str(out / "model.safetensors"), "--input", str(folder / "imagesTr"), "--output", str(masks)]
    assert run(["predict", *images, "--samples", "2", "--uncertainty", "--device", "cpu"]) == 0
    found, affine = read_label(masks / "c0.seg.nrrd")
    truth, wanted = read_label(folder / "labelsTr" / "c0.nii.gz")
    assert found.shape == truth.shape and np.allclose(affine, wanted) and set(np.unique(found)) == {0, 2, 4}
    record = json.loads((masks / "c0.json").read_text())
    assert record["volumes_ml"]["core"] == pytest.approx((found == 2).sum() * 0.0015)
    assert record["volumes_ml"]["whole only"] == pytest.approx((found == 4).sum() * 0.0015)

    report = tmp_path / "report"
    compared = ["--prediction", str(masks), "--reference", str(folder / "labelsTr"), "--out", str(report)]
    assert run(["evaluate", *compared]) == 0
    with open(report / "metrics.csv", newline="") as file:
        rows = {(row["case"], row["name"]): row for row in csv.DictReader(file)}
    assert len(rows) == 12
    whole = 2 * ((found > 0) & (truth > 0)).sum() / ((found > 0).sum() + (truth > 0).sum())
    assert float(rows["c0", "whole"]["dice"]) == pytest.approx(whole) and whole > 0.8
    assert float(rows["c0", "core"]["dice"]) > 0.6
    assert float(rows["c0", "whole"]["reference_volume_ml"]) == pytest.approx((truth > 0).sum() * 0.0015)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"regions": [{"name": "whole", "values": [1, 300], "value": 1}]}, "region 'whole' needs a name, values and a"),
        ({"regions": [{"name": "whole", "values": [1]}]}, r"lacks 'regions\[0\].value'"),
        ({"regions": [{"name": "whole", "values": [1], "value": 9}]}, "has no label 9 for a region"),
        ({"regions": [{"name": "whole", "values": [1], "value": 1}]}, "regions, but classes that do not overlap"),
    ],
)
def test_a_card_with_wrong_regions_is_refused(tiny_model, changes, sentence):
    body = {**read_card(tiny_model).to_json(), **changes}
    with pytest.raises(InputError, match=sentence):
        parse_card(json.dumps(body), "x.safetensors")


def test_what_lies_in_no_region_is_background_however_many_there_are():
    apart = replace(BRATS, regions=(Region("one", (1,), 1), Region("two", (2,), 2)))
    assert membership(apart).tolist() == [[1, 0, 0, 1], [0, 1, 0, 0], [0, 0, 1, 0]]
