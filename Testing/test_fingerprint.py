"""The fingerprint of the data, what it proposes, and the cache: what a person wrote stays as it was."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from conftest import STILL, TINY, blob_case, make_dataset, write_image
from DiffSegLib import config
from DiffSegLib.commands import run
from DiffSegLib.config import PROPOSED
from DiffSegLib.data import cache
from DiffSegLib.data.cases import Dataset
from DiffSegLib.data.checks import Facts, examine
from DiffSegLib.data.datasets import load_dataset
from DiffSegLib.data.fingerprint import fingerprint
from DiffSegLib.data.patches import batch_of
from DiffSegLib.errors import Cancelled, InputError
from DiffSegLib.labels import labels_from_names
from DiffSegLib.network.build import build
from DiffSegLib.training.memory import WORKSPACE, training_memory
from DiffSegLib.training.proposal import plan_strides, propose, target_spacing
from DiffSegLib.training.run import train_folder

FAST = config.choose("fast", None, [])


def prints(shape, spacing, channels=("MRI",), intensities=(0.0, 1.0, 2.0), count=5):
    """The fingerprint of equal cases of a shape (voxels) and spacing (mm)."""
    dataset = Dataset(Path("data"), "data", (), labels_from_names({1: "one", 2: "two"}), channels)
    facts = Facts(shape, spacing, (intensities,) * len(channels), {1: 10, 2: 20})
    return fingerprint(dataset, {str(n): facts for n in range(count)})


def test_the_hippocampus_set_gets_what_its_paper_says():
    """Shapes of the Decathlon's hippocampi: median 36 x 50 x 35 voxels of 1 mm (z, y, x)."""
    for name, widths in (("fast", (16, 32, 64, 128)), ("default", (32, 64, 128, 256))):
        found, reasons = propose(prints((36, 50, 35), (1.0, 1.0, 1.0)), *config.choose(name, None, []))
        assert found.data == replace(found.data, spacing=(1, 1, 1), patch=(40, 56, 40), normalisation="zscore")
        assert found.network.strides == ((2, 2, 2),) * 3 and found.network.channels == widths
        assert found.training.batch == 4 and found.augment.flip == (False, False, False)
        assert set(reasons) == set(PROPOSED) and all(reasons.values())


def test_spacing_is_the_median_and_finer_along_thick_slices():
    spacings = np.array([[1.0, 0.5, 0.5], [1.2, 0.6, 0.6], [1.4, 0.7, 0.7]])
    assert target_spacing(spacings, np.full((3, 3), 100))[0] == (1.2, 0.6, 0.6)
    thick = np.array([[z, 0.5, 0.5] for z in (2.0, 3.0, 4.0, 5.0, 6.0)])
    few, many = np.tile([20, 300, 300], (5, 1)), np.tile([200, 300, 300], (5, 1))
    found, why = target_spacing(thick, few)
    assert found == (pytest.approx(np.percentile([2, 3, 4, 5, 6], 10)), 0.5, 0.5) and "along z" in why
    assert target_spacing(thick, many)[0] == (4.0, 0.5, 0.5)  # enough slices: nothing is lost
    nearly = np.array([[z, 0.5, 0.5] for z in (0.1, 0.1, 4.0, 5.0, 6.0)])
    assert target_spacing(nearly, few)[0] == (0.5, 0.5, 0.5)  # never finer than the other axes


def test_strides_wait_for_the_finer_axes_and_stop_at_four_voxels():
    assert plan_strides((16, 128, 128), (4.0, 1.0, 1.0), 4) == ((1, 2, 2), (1, 2, 2), (2, 2, 2), (2, 2, 2))
    assert plan_strides((128, 128, 128), (1.0, 1.0, 1.0), 2) == ((2, 2, 2), (2, 2, 2))
    assert plan_strides((7, 16, 9), (1.0, 1.0, 1.0), 4) == ((1, 2, 2), (1, 2, 1))
    assert plan_strides((4, 4), (1.0, 1.0), 4) == ((1, 1),)


@pytest.mark.parametrize("shape", [(300, 512, 512), (24, 320, 320), (155, 240, 240), (9, 9, 9)])
@pytest.mark.parametrize("memory", [1.0, 4.0])
def test_a_proposal_keeps_to_the_memory_and_fits_its_own_strides(shape, memory):
    found, _ = propose(prints(shape, (2.0, 1.0, 1.0)), *FAST, memory=memory)
    needed = training_memory(found.network, found.data.patch, found.training.batch, 1, 3)
    assert needed <= memory and found.training.batch >= 2
    factors = np.prod(found.network.strides, axis=0)
    assert all(n % f == 0 for n, f in zip(found.data.patch, factors, strict=True))
    assert all(n < m + f for n, m, f in zip(found.data.patch, shape, factors, strict=True))
    largest = int(np.argmax(np.array(shape) > np.array(found.data.patch)))
    if shape[largest] > found.data.patch[largest]:  # something was cut away, so the budget was in fact used
        assert needed > 0.4 * memory


def test_more_memory_gives_a_larger_patch():
    small, large = (propose(prints((300, 300, 300), (1.0,) * 3), *FAST, memory=m)[0].data.patch for m in (1.0, 4.0))
    assert np.prod(large) > 2 * np.prod(small)


def test_memory_is_what_autograd_keeps():
    """Against the tensors that a real forward pass keeps, with data."""
    network = config.from_json(TINY).network
    model = build(network, 1, 3)
    kept = {}

    def keep(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model(torch.rand(1, 1, 16, 16, 16), torch.rand(1, 3, 16, 16, 16), torch.rand(1))
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}
    activations = sum(t.untyped_storage().nbytes() for key, t in kept.items() if key not in own)
    one, three = (training_memory(network, (16, 16, 16), batch, 1, 3) * 2**30 for batch in (1, 3))
    assert (three - one) / 2 == pytest.approx(WORKSPACE * (activations + 4 * 3 * 16**3 * 4), rel=0.02)


def test_ct_is_told_by_its_name_and_its_values():
    hounsfield, grey = (-1000.0, 30.0, 900.0), (0.0, 90.0, 255.0)
    rules = {}
    for channels, values in (
        (("CT",), hounsfield),
        (("CT",), grey),
        (("CT", "PET"), hounsfield),
        (("MRI",), hounsfield),
    ):
        rules[channels, values] = propose(prints((40, 40, 40), (1.0,) * 3, channels, values), *FAST)[0]
    assert [found.data.normalisation for found in rules.values()] == ["ct", "zscore", "zscore", "zscore"]


def test_what_a_person_wrote_wins(tmp_path):
    written = ["data.spacing=[2,2,2]", "data.patch=[24,24,24]", "training.batch=7", "augment.flip=[true,false,false]"]
    base, open_keys = config.choose("default", None, written)
    assert open_keys == {"data.normalisation", "network.channels", "network.strides"}
    found, reasons = propose(prints((300, 300, 300), (1.0,) * 3), base, open_keys)
    assert found.data.spacing == (2, 2, 2) and found.data.patch == (24, 24, 24) and found.training.batch == 7
    assert found.augment.flip == (True, False, False) and set(reasons) == open_keys
    assert found.network.strides == ((2, 2, 2), (2, 2, 2)) and found.network.channels == (32, 64, 128)
    fixed = config.choose("default", None, ["network.channels=[8,16,32,64,64]"])
    network = propose(prints((16, 16, 16), (1.0,) * 3), *fixed)[0].network
    assert network.channels == (8, 16, 32, 64, 64) and network.strides == ((2, 2, 2),) * 2 + ((1, 1, 1),) * 2
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config.Config().to_json()))
    whole, nothing = config.choose("fast", path, [])
    assert whole == config.Config() and not nothing
    path.write_text('{"data": {"patch": [32, 32, 32]}}')
    assert "data.patch" not in config.choose("fast", path, [])[1]
    path.write_text('{"data": {"pach": [32, 32, 32]}}')
    with pytest.raises(InputError, match=r"config.json: unknown key 'data.pach'"):
        config.choose("fast", path, [])


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ("network.channels=[8]", "at least two entries"),
        ("network.strides=[[2,2,2],[2,2]]", "as many numbers as the others"),
        ("network.blocks=0", "levels of 1 to 16 blocks"),
        ("network.heads=0", "network.heads must be from 1 to 4096"),
        ("network.channels=[0,8]", "from 1 to 4096"),
        ("diffusion.train_steps=1", "train_steps must be from 2"),
        ("data.spacing=[1e-9,1e-9,1e-9]", "from 0.00001 to 10000 mm"),
        ("data.patch=[2,2,2]", "at least 4 voxels"),
        ("training.batch=0", "training.batch must be from 1 to 4096"),
        ("training.batch=4097", "training.batch must be from 1 to 4096"),
        ("training.iterations=1000000001", "training.iterations must be from 1 to 1000000000"),
        ("training.validations=1000001", "training.validations must be from 1 to 1000000"),
        ("network.strides=[[0,2]]", "network.strides must be from 1 to 16"),
        ("network.strides=[]", "a list with an entry at least"),
        ("training.learning_rate=1e-6", "learning_rate_start must be from 0 to training.learning_rate, 1e-06"),
    ],
)
def test_a_wrong_value_is_told_before_anything_is_proposed(written, words):
    with pytest.raises(InputError, match=words):
        config.choose("fast", None, [written])


@pytest.mark.parametrize(
    ("choice", "key", "value"),
    [
        ("diffusion.parametrisation=epsilon", "loss.mse", 0.1),
        ("diffusion.variance=learned", "loss.vlb", 0.005),
        ("diffusion.variance=learned_range", "loss.vlb", 0.005),
        ("network.name=dynunet", "diffusion.strategy", "supervised"),
        ("network.name=segresnet", "diffusion.strategy", "supervised"),
    ],
)
def test_one_choice_is_enough_and_what_it_implies_is_proposed_unless_written(choice, key, value):
    facts, (section, name) = prints((40, 40, 40), (1.0,) * 3), key.split(".")
    found, reasons = propose(facts, *config.choose("default", None, [choice]))
    assert getattr(getattr(found, section), name) == value and reasons[key]
    plain = propose(facts, *config.choose("default", None, []))[0]
    kept = getattr(getattr(plain, section), name)
    with pytest.raises(InputError, match=r"e\.g\. 0\.|diffusion.strategy supervised"):
        config.choose("default", None, [choice, f"{key}={kept}"])


def test_monai_s_networks_get_strides_that_they_can_take():
    thick = prints((13, 22, 27), (4.0, 1.0, 1.0))
    for name in ("segresnet", "dynunet"):
        network = propose(thick, *config.choose("fast", None, [f"network.name={name}"]))[0].network
        assert name == "dynunet" or network.strides == ((2, 2, 2),) * len(network.strides)
    small = propose(prints((6, 6, 6), (1.0,) * 3), *config.choose("fast", None, ["network.name=dynunet"]))[0]
    assert len(small.network.strides) == 2


@pytest.mark.parametrize("memory", [0.0, -1.0, float("nan")])
def test_memory_that_is_none_is_refused(memory):
    with pytest.raises(InputError, match="memory is .*; it must be a number of GiB above zero"):
        propose(prints((40, 40, 40), (1.0,) * 3), *FAST, memory=memory)


def test_a_memory_that_nothing_fits_in_is_told():
    reasons = propose(prints((40, 40, 40), (1.0,) * 3), *FAST, memory=1e-5)[1]
    assert "as small as can be, and yet a step needs about" in reasons["data.patch"]


def test_settings_for_other_dimensions_than_the_data_are_refused():
    for written in ("data.patch=[32,32]", "network.strides=[[2,2],[2,2],[2,2]]"):
        with pytest.raises(InputError, match=r"data: holds 3D images, but .* for 2D"):
            propose(prints((40, 40, 40), (1.0,) * 3), *config.choose("fast", None, [written]))
    with pytest.raises(InputError, match="data.spacing has 2 numbers"):
        propose(prints((40, 40, 40), (1.0,) * 3), *config.choose("fast", None, ["data.spacing=[1,1]"]))


def test_a_fingerprint_measures_the_cases(tmp_path):
    folder = make_dataset(tmp_path / "set", 3)
    image, label = blob_case(0)
    affine = np.array([[0, 0, 2.0, 0], [3.0, 0, 0, 0], [0, 1.5, 0, 0], [0, 0, 0, 1]])  # i is posterior, k is left
    write_image(folder / "imagesTr" / "blob_00.nii.gz", image, affine)
    write_image(folder / "labelsTr" / "blob_00.nii.gz", label, affine)
    dataset = load_dataset(folder)
    facts = examine(dataset, dataset.cases).facts
    assert facts["blob_00"].shape == (22, 20, 18) and facts["blob_00"].spacing == pytest.approx((1.5, 3.0, 2.0))
    assert facts["blob_00"].voxels == {n: int((label == n).sum()) for n in (1, 2)}
    np.testing.assert_allclose(facts["blob_00"].intensities[0], np.percentile(image, (0.5, 50, 99.5)), rtol=1e-5)
    found = fingerprint(dataset, facts).to_json()
    assert found["spacing_mm"]["median"] == [1.0, 1.0, 1.0] and found["spacing_mm"]["max"] == [1.5, 3.0, 2.0]
    assert found["axes"] == "z y x" and found["labels"][1]["cases"] == 3 and found["channels"][0]["name"] == "MRI"


def test_the_proposal_is_frozen_with_its_grounds(dataset, tmp_path):
    settings = ["training.iterations=2", "training.validations=1", "network.blocks=1", "network.heads=2"]
    small = ["data.patch=[16,16,16]", "network.channels=[4,8]"]
    base, open_keys = config.choose("fast", None, settings + small)
    train_folder(dataset, tmp_path / "run", base, open_keys=open_keys, device="cpu")
    frozen = config.load(tmp_path / "run" / "config.json")
    assert frozen.data.spacing == (1.0, 1.0, 1.0) and frozen.network.strides == ((2, 2, 2),)
    grounds = json.loads((tmp_path / "run" / "fingerprint.json").read_text())
    assert set(grounds["proposed"]) == open_keys and grounds["cases"] == 6 and grounds["validation_cases"] == 1
    assert not (tmp_path / "run" / "cache").exists()


def test_settings_add_up_however_often_set_is_given(dataset, capsys):
    command = ["train", "--data", str(dataset), "--plan-only", "--json"]
    assert run([*command, "--set", "training.batch=7", "--set", "network.name=unet", "training.ema=0.5"]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])["config"]
    assert (found["training"]["batch"], found["network"]["name"], found["training"]["ema"]) == (7, "unet", 0.5)


def test_plan_only_prints_a_config_that_can_be_given_back(dataset, tmp_path, capsys):
    assert run(["train", "--data", str(dataset), "--preset", "fast", "--plan-only"]) == 0
    printed = capsys.readouterr()
    path = tmp_path / "config.json"
    path.write_text(printed.out)
    assert config.choose("fast", path, []) == (config.load(path), frozenset())
    assert config.load(path).data.patch == (20, 24, 20)
    assert "data.patch=[20, 24, 20]: from the median image" in printed.err
    assert run(["train", "--data", str(dataset), "--plan-only", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["config"]["data"]["patch"] == [20, 24, 20] and answer["fingerprint"]["dimensions"] == 3
    assert not list(tmp_path.glob("**/model.safetensors"))
    assert run(["train", "--data", str(dataset)]) == 2 and "--out is needed" in capsys.readouterr().err


def prepared(dataset, folder, in_memory):
    found = load_dataset(dataset)
    facts = examine(found, found.cases).facts
    data = config.DataConfig(spacing=(1.25, 1.0, 0.8), patch=(12, 12, 12))
    return cache.prepare_cases(found, found.cases, facts, data, folder, in_memory=in_memory), data


def test_batches_from_disk_are_those_from_memory(dataset, tmp_path):
    memory, data = prepared(dataset, tmp_path / "a", 2 << 30)
    disk, _ = prepared(dataset, tmp_path / "b", 0)
    assert not (tmp_path / "a").exists() and len(list((tmp_path / "b").glob("*.npy"))) == 12
    assert not list((tmp_path / "b").glob(".*"))
    for a, b in zip(memory, disk, strict=True):
        assert a.name == b.name and a.spacing == b.spacing
        assert all(torch.equal(x, y) for x, y in zip(a.foreground, b.foreground, strict=True))
        assert a.spacing == pytest.approx((18 / 14, 1.0, 20 / 25))  # 18 mm in 14 voxels, 20 mm in 25
    for n in range(4):
        one, two = (batch_of(cases, data, config.AugmentConfig(), 0, [2 * n, 2 * n + 1]) for cases in (memory, disk))
        assert torch.equal(one[0], two[0]) and torch.equal(one[1], two[1])


def test_only_the_patch_is_read_from_disk(dataset, tmp_path, monkeypatch):
    """What grid_sample gets is no larger than a patch that was turned, not the whole volume."""
    cases, _ = prepared(dataset, tmp_path, 0)
    seen = []
    plain = torch.nn.functional.grid_sample
    monkeypatch.setattr(
        torch.nn.functional, "grid_sample", lambda x, *a, **k: seen.append(x.shape) or plain(x, *a, **k)
    )
    still = config.AugmentConfig(**STILL)
    batch_of(cases, config.DataConfig(patch=(6, 6, 6), foreground=0.0), still, 0, range(4))
    assert seen and all(max(shape[2:]) <= 8 for shape in seen)


def test_files_of_the_cache_are_used_again_unless_their_case_is_newer(dataset, tmp_path, monkeypatch):
    import os

    prepared(dataset, tmp_path, 0)
    asked = []
    plain = cache.prepare_case
    monkeypatch.setattr(cache, "prepare_case", lambda d, case, x: asked.append(case.name) or plain(d, case, x))
    prepared(dataset, tmp_path, 0)
    assert asked == []
    later = (dataset / "imagesTr" / "blob_03.nii.gz").stat().st_mtime + 1000
    os.utime(dataset / "labelsTr" / "blob_03.nii.gz", (later, later))
    prepared(dataset, tmp_path, 0)
    assert asked == ["blob_03"]


def test_a_training_can_be_stopped_while_it_reads(dataset, tmp_path):
    with pytest.raises(Cancelled, match="before it began"):
        train_folder(dataset, tmp_path / "run", config.from_json(TINY), device="cpu", cancelled=lambda: True)
    assert not (tmp_path / "run").exists()
