"""2D images go the same way as volumes: PNG in, a 2D network, a mask of one slice out."""

import json

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from conftest import STILL, write_image
from DiffSegLib import config
from DiffSegLib.commands import run
from DiffSegLib.config import DataConfig
from DiffSegLib.data.checks import examine
from DiffSegLib.data.datasets import load_dataset
from DiffSegLib.data.files import channel_count, read, read_label, write_mask
from DiffSegLib.data.native import only_channel
from DiffSegLib.data.preprocess import label_to_model_space, to_model_space
from DiffSegLib.data.volume import Volume
from DiffSegLib.errors import InputError
from DiffSegLib.inference.predict import Predictor
from DiffSegLib.jobs import SegmentOptions
from DiffSegLib.models import store
from DiffSegLib.training.plan import make_plan
from whole_map import to_native


def disc(seed, colours=None, shape=(28, 36)):
    """A grey (J, I) or colour (J, I, colours) uint8 image of a bright disc, and its label."""
    rng = np.random.default_rng(seed)
    j, i = np.indices(shape)
    label = ((j - rng.uniform(10, 18)) ** 2 + (i - rng.uniform(12, 24)) ** 2 < 49).astype(np.uint8)
    image = 60 + 120 * label + rng.normal(0, 10, shape)
    if colours:
        image = np.stack([image, *[60 + rng.normal(0, 10, shape) for _ in range(colours - 1)]], -1)
    return image.clip(0, 255).astype(np.uint8), label


def make_pngs(folder, colours=None, count=5):
    for part in ("images", "labels"):
        (folder / part).mkdir(parents=True)
    for n in range(count):
        image, label = disc(n, colours)
        sitk.WriteImage(sitk.GetImageFromArray(image, isVector=colours is not None), str(folder / f"images/{n}.png"))
        sitk.WriteImage(sitk.GetImageFromArray(label), str(folder / f"labels/{n}.png"))
    (folder / "labels.csv").write_text("value,name\n1,disc\n")
    return folder


@pytest.mark.parametrize(("colours", "channels"), [(None, 1), (3, 3), (4, 3)])
def test_a_png_is_one_slice_of_its_colours_without_transparency(tmp_path, colours, channels):
    image, _ = disc(0, colours)
    path = tmp_path / "x.png"
    sitk.WriteImage(sitk.GetImageFromArray(image, isVector=colours is not None), str(path))
    volume = read(path)
    wanted = image[None] if colours is None else np.moveaxis(image, -1, 0)[:channels]
    np.testing.assert_array_equal(volume.array, wanted[:, None])
    np.testing.assert_array_equal(volume.affine, np.eye(4))
    assert channel_count(path) == channels


def test_the_scale_of_a_png_is_no_spacing(tmp_path):
    image = sitk.GetImageFromArray(disc(0)[0])
    image.SetSpacing((0.5, 2.0))
    sitk.WriteImage(image, str(tmp_path / "x.png"))
    assert sitk.ReadImage(str(tmp_path / "x.png")).GetSpacing() == (0.5, 2.0)
    np.testing.assert_array_equal(read(tmp_path / "x.png").affine, np.eye(4))


def test_a_mask_of_one_slice_is_written_as_png_and_a_volume_is_not(tmp_path):
    label = disc(0)[1]
    write_mask(tmp_path / "x.png", label[None], np.eye(4))
    np.testing.assert_array_equal(read_label(tmp_path / "x.png")[0], label[None])
    assert [p.name for p in tmp_path.iterdir()] == ["x.png"]
    with pytest.raises(InputError, match=r"y.png: a PNG holds one slice, and this mask has 2"):
        write_mask(tmp_path / "y.png", np.stack([label, label]), np.eye(4))


def test_a_coloured_label_is_refused(tmp_path):
    folder = make_pngs(tmp_path / "set")
    sitk.WriteImage(sitk.GetImageFromArray(disc(0, 3)[0], isVector=True), str(folder / "labels" / "0.png"))
    with pytest.raises(InputError, match=r"labels/0.png: a label map must have one value per voxel"):
        make_plan(folder, *config.choose("fast", None, []))


@pytest.mark.parametrize("axes", [(0, 1, 2), (1, 0, 2), (2, 1, 0)])
def test_a_slice_of_any_direction_loses_its_thin_axis_and_gets_it_back(axes):
    """Axial, coronal and sagittal slices, the latter two with the thin axis as the first of the array."""
    affine = np.eye(4)
    affine[:3, :3] = np.diag([0.5, 1.5, 4.0])[:, [2 - axis for axis in axes[::-1]]]
    array = np.random.default_rng(0).standard_normal((1, 1, 10, 12)).astype(np.float32)
    data = DataConfig(spacing=None, patch=(8, 8))
    image, grid = to_model_space(Volume(array, affine), data)
    assert image.ndim == 3 and sorted(image.shape[1:]) == [10, 12]
    label = (array[0] > 0).astype(np.uint8)
    flat = label_to_model_space(label, affine, data)
    assert flat.shape == image.shape[1:] and ((image[0] > image[0][flat == 0].max()) == (flat == 1)).all()
    native = to_native(torch.nn.functional.one_hot(flat.long(), 2).movedim(-1, 0).float(), grid)
    np.testing.assert_array_equal(native, label)
    assert to_native(flat.float()[None], grid, only_channel, torch.float32).shape == label.shape
    coarse, grid = to_model_space(Volume(array, affine), DataConfig(spacing=(3.0, 3.0), patch=(8, 8)))
    assert coarse.ndim == 3 and to_native(coarse.expand(2, -1, -1), grid).shape == label.shape


def test_a_volume_is_refused_by_a_2d_network():
    with pytest.raises(InputError, match="image: is a volume of 3 x 4 x 5 voxels; a 2D network takes one slice"):
        to_model_space(Volume(np.zeros((1, 3, 4, 5), np.float32), np.eye(4)), DataConfig(patch=(8, 8)))


def test_a_proposal_for_slices_is_2d(tmp_path):
    plan = make_plan(make_pngs(tmp_path / "set", 3), *config.choose("fast", None, []))
    found = plan.settings
    assert found.data.patch == (28, 40) and found.data.spacing == (1.0, 1.0) and found.augment.flip == (False, False)
    assert found.network.strides == ((2, 2), (2, 2), (1, 2)) and found.training.batch == 16
    assert plan.fingerprint.to_json()["axes"] == "y x" and plan.dataset.channels == (
        "channel 1",
        "channel 2",
        "channel 3",
    )
    with pytest.raises(InputError, match="holds 2D images, but .* for 3D"):
        make_plan(tmp_path / "set", *config.choose("fast", None, ["data.patch=[16,16,16]"]))


def test_mixed_colours_are_named(tmp_path):
    folder = make_pngs(tmp_path / "set")
    sitk.WriteImage(sitk.GetImageFromArray(disc(3, 3)[0], isVector=True), str(folder / "images" / "3.png"))
    dataset = load_dataset(folder)
    assert list(examine(dataset, dataset.cases).problems) == ["3"]
    with pytest.raises(InputError, match=r"images/3.png: has 3 channel\(s\); the data set has 1"):
        make_plan(folder, *config.choose("fast", None, []))


@pytest.mark.parametrize("colours", [None, 3])
def test_pngs_are_learnt_and_segmented_from_the_command_line(tmp_path, colours, capsys):
    folder = make_pngs(tmp_path / "set", colours)
    small = ["network.channels=[8,16]", "network.heads=2", "training.learning_rate=0.01", "training.ema=0.9"]
    small += ["training.validations=1", "training.batch=4"]
    small += [f"augment.{key}=0" for key in STILL if key != "affine_probability"]
    arguments = ["--preset", "fast", "--iterations", "60", "--device", "cpu", "--set", *small]
    assert run(["train", "--data", str(folder), "--out", str(tmp_path / "run"), *arguments]) == 0
    model = tmp_path / "run" / "model.safetensors"
    out = tmp_path / "out"
    arguments = ["--output", str(out), "--format", "png", "--save-steps", "--uncertainty", "--device", "cpu"]
    assert run(["predict", "--model", str(model), "--input", str(folder / "images"), *arguments]) == 0
    for n in range(5):
        mask, wanted = (read_label(path)[0] for path in (out / f"{n}.png", folder / "labels" / f"{n}.png"))
        assert mask.shape == wanted.shape == (1, 28, 36)
        assert 2 * (mask & wanted).sum() / (mask.sum() + wanted.sum()) > 0.8
    assert (out / "0.step-5.png").is_file() and read(out / "0.uncertainty.nrrd").array.shape == (1, 1, 28, 36)
    record = json.loads((out / "0.json").read_text())
    assert record["warnings"] == []


def test_one_slice_of_a_volume_can_be_given_to_a_2d_model(tmp_path):
    settings = config.from_json(
        {
            "data": {"patch": [16, 16]},
            "augment": {"flip": [False, False]},
            "network": {"channels": [4, 8], "strides": [[2, 2]], "blocks": 1, "heads": 2},
        }
    )
    from DiffSegLib.labels import labels_from_names
    from DiffSegLib.models.card import card_of
    from DiffSegLib.network.build import build

    expects = {"field_of_view_mm": [10.0, 10.0]}
    card = card_of(settings, name="flat", labels=labels_from_names({1: "disc"}), channels=("MRI",), expects=expects)
    store.save(tmp_path / "flat.safetensors", build(settings.network, 1, 2).state_dict(), card)
    predictor = Predictor(store.load(tmp_path / "flat.safetensors"), "cpu")
    predictor.warm_up()
    array = np.random.default_rng(0).standard_normal((6, 20, 24)).astype(np.float32)
    volume = read(write_image(tmp_path / "x.nrrd", array))
    with pytest.raises(InputError, match="a 2D network takes one slice"):
        predictor(volume, SegmentOptions())
    inside = predictor(volume, SegmentOptions(roi=((2, 3), (0, 20), (0, 24))))
    alone = predictor(Volume(volume.array[:, 2:3], volume.affine), SegmentOptions())
    np.testing.assert_array_equal(inside.mask[2:3], alone.mask)
    assert not inside.mask[[0, 1, 3, 4, 5]].any()
    assert len(alone.warnings) == 1 and "20 x 24 mm is far larger than the 10 x 10 mm" in alone.warnings[0]
