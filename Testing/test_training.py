"""Training: losses against closed forms, patches, exact resume, and that a network does learn."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

import conftest
from conftest import TINY, blob_case, write_image
from DiffSegLib import commands, config
from DiffSegLib.config import AugmentConfig, DataConfig
from DiffSegLib.data.patches import batch_of, cut, generator, prepare
from DiffSegLib.errors import Cancelled, InputError
from DiffSegLib.models import store
from DiffSegLib.training import losses
from DiffSegLib.training.rate import learning_rate
from DiffSegLib.training.run import train_folder

STILL = AugmentConfig(**conftest.STILL)


def test_dice_loss_of_known_overlap():
    label = torch.tensor([[[0, 1], [1, 2]]])
    logits = 50.0 * losses.as_mask(torch.tensor([[[0, 1], [2, 2]]]), torch.empty(1, 3, 2, 2))
    # class 1: one of two found, 2*1/(1+2); class 2: one true of two, 2*1/(2+1)
    assert float(losses.dice_loss(logits, label)) == pytest.approx(1 - 2 / 3, abs=1e-6)


def test_dice_loss_leaves_absent_classes_out_and_is_zero_without_foreground():
    label = torch.tensor([[[0, 1], [1, 0]], [[0, 0], [0, 0]]])
    logits = torch.randn(2, 3, 2, 2, requires_grad=True)
    loss = losses.dice_loss(logits, label)
    loss.sum().backward()
    assert loss[1] == 0 and torch.isfinite(logits.grad).all() and (logits.grad[1] == 0).all()
    p, m = torch.softmax(logits, 1)[0, 1], (label[0] == 1).float()
    torch.testing.assert_close(loss[0], 1 - 2 * (p * m).sum() / (p.sum() + m.sum()))


def test_soft_borders_move_the_truth_at_a_border_and_nowhere_else():
    label = torch.zeros(1, 24, 4, 4, dtype=torch.long)
    label[:, 12:] = 1
    like = torch.zeros(1, 2, 24, 4, 4, dtype=torch.float64)
    share = losses.soft_borders(label, like, 1.0)
    assert torch.allclose(share.sum(1), torch.ones_like(share[:, 0]))
    of_one = share[0, 1, :, 2, 2]
    beyond = np.exp(-0.5 * np.arange(-3, 4) ** 2.0)
    expected = [beyond[4:].sum() / beyond.sum(), 1 - beyond[4:].sum() / beyond.sum()]  # the voxels beside the border
    assert of_one[11:13].tolist() == pytest.approx(expected)
    assert not of_one[:9].any() and (of_one[15:] == pytest.approx(1.0))
    logits = torch.log(share.clamp_min(1e-9))
    weights = {at: config.LossConfig(dice=0.0, soft_borders=at) for at in (0.0, 1.0)}
    entropy = -(share * logits).sum(1).mean()  # no answer has less than the shares themselves
    for truth in (label, losses.as_mask(label, like)):
        found = float(losses.total_loss(logits, truth, weights[1.0]))
        assert found == pytest.approx(float(entropy), rel=1e-5)
    assert float(losses.total_loss(logits, label, weights[0.0])) < float(entropy)
    sharp = 20.0 * losses.as_mask(label, like)
    assert float(losses.total_loss(sharp, label, weights[1.0])) > float(entropy) + 0.1
    regions = torch.stack([label, 1 - label], 1).double()
    logit = torch.logit(losses.soft_borders(regions, like, 1.0).clamp(1e-9, 1 - 1e-9))
    smallest = float(losses.total_loss(logit, regions, weights[1.0], exclusive=False))
    assert smallest < float(losses.total_loss(0.9 * logit, regions, weights[1.0], exclusive=False))


def test_cross_entropy_and_focal_of_known_probability():
    logits = torch.log(torch.tensor([0.2, 0.8])).reshape(1, 2, 1, 1).expand(1, 2, 3, 3)
    label = torch.ones(1, 3, 3, dtype=torch.long)
    assert float(losses.cross_entropy(logits, label)) == pytest.approx(-np.log(0.8), rel=1e-5)
    assert float(losses.focal_loss(logits, label)) == pytest.approx(-(0.2**2) * np.log(0.8), rel=1e-5)


def prepared(shape=(12, 14, 10), spacing=(1.0, 1.0, 1.0)):
    image, label = blob_case(0, shape)
    return prepare("x", torch.from_numpy(image)[None], torch.from_numpy(label), spacing)


def test_a_still_patch_is_a_plain_cut_and_each_start_occurs():
    case = prepared()
    seen = set()
    for n in range(300):
        image, label = cut(case, DataConfig(patch=(8, 14, 10), foreground=0.0), STILL, generator(0, n))
        starts = [s for s in range(5) if torch.allclose(image[0], case.image[0, s : s + 8], atol=1e-3)]
        assert len(starts) == 1 and torch.equal(label, case.label[starts[0] : starts[0] + 8].long())
        seen.add(starts[0])
    assert seen == {0, 1, 2, 3, 4}


def test_a_small_volume_is_padded_with_zeros_and_kept_whole():
    case = prepared((6, 7, 5))
    image, label = cut(case, DataConfig(patch=(8, 8, 8)), STILL, generator(0, 1))
    assert label.flatten().bincount()[1:].tolist() == case.label.flatten().bincount()[1:].tolist()
    assert float(image.abs().sum()) == pytest.approx(float(case.image.abs().sum()), rel=1e-4)


def test_foreground_patches_hold_foreground():
    label = torch.zeros(40, 8, 8, dtype=torch.uint8)
    label[37, 4, 4] = 1
    case = prepare("x", torch.zeros(1, 40, 8, 8), label, (1.0, 1.0, 1.0))
    data = DataConfig(patch=(8, 8, 8), foreground=1.0)
    assert all((cut(case, data, STILL, generator(1, n))[1] == 1).any() for n in range(50))


def test_a_small_class_is_drawn_as_often_as_a_large_one_beside_it():
    label = torch.zeros(40, 40, 40, dtype=torch.uint8)
    label[:20] = 1
    label[38, 38, 38] = 2
    case = prepare("x", torch.zeros(1, 40, 40, 40), label, (1.0, 1.0, 1.0), keep=100)
    assert [len(places) for places in case.foreground] == [100, 1]
    data = DataConfig(patch=(4, 4, 4), foreground=1.0)
    hits = sum(bool((cut(case, data, STILL, generator(1, n))[1] == 2).any()) for n in range(60))
    assert 18 < hits < 42


def test_flips_happen_on_the_chosen_axis_only():
    case = prepared((8, 8, 8))
    augment = replace(STILL, flip=(False, False, True))
    found = {True: 0, False: 0}
    for n in range(40):
        image, _ = cut(case, DataConfig(patch=(8, 8, 8)), augment, generator(2, n))
        same = torch.allclose(image, case.image, atol=1e-3)
        assert same or torch.allclose(image, case.image.flip(-1), atol=1e-3)
        found[same] += 1
    assert min(found.values()) > 5


def test_batches_are_the_same_whenever_they_are_asked_for_and_cover_every_case():
    cases = [
        prepare(str(n), torch.full((1, 8, 8, 8), float(n)), torch.zeros(8, 8, 8).byte(), (1, 1, 1)) for n in range(5)
    ]
    data = DataConfig(patch=(8, 8, 8))
    first = [batch_of(cases, data, STILL, 7, [n])[0] for n in range(10)]
    assert torch.equal(first[6], batch_of(cases, data, STILL, 7, [6])[0])
    order = [float(image.max()) for image in first]
    assert sorted(order[:5]) == sorted(order[5:]) == [0, 1, 2, 3, 4] and order[:5] != order[5:]
    assert torch.equal(batch_of(cases, data, STILL, 7, range(2, 6))[0], torch.cat(first[2:6]))


def test_learning_rate_warms_up_and_ends_low():
    settings = config.from_json(
        {"training": {"warmup": 0.1, "learning_rate": 1.0, "learning_rate_start": 0.0, "learning_rate_end": 0.1}}
    )
    rates = [learning_rate(f, settings) for f in (0.05, 0.1, 0.55, 1.0)]
    assert rates == pytest.approx([0.5, 1.0, 0.55, 0.1])


def test_a_training_ends_with_a_model_that_carries_its_card(dataset, tmp_path):
    run = tmp_path / "blobs"
    heard = []
    path = train_folder(dataset, run, config.from_json(TINY), device="cpu", listener=heard.append)
    model = store.load(path)
    assert model.card.name == "blobs" and [label.name for label in model.card.labels] == ["first", "second"]
    assert model.card.training["dataset"] == "Blobs" and model.card.licence == "CC0"
    assert config.load(run / "config.json") == config.from_json(TINY)
    scores = [event["dice"] for event in heard if "dice" in event]
    assert len(scores) == 2 and model.card.training["best_validation_dice"] == pytest.approx(max(scores), abs=1e-4)
    logged = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert [event["dice"] for event in logged if "dice" in event] == scores


def test_a_resumed_training_is_bit_equal_to_one_that_was_not_interrupted(dataset, tmp_path):
    settings = config.from_json(TINY)
    whole = train_folder(dataset, tmp_path / "a" / "run", settings, device="cpu")
    calls = iter(range(100))
    stop = 6 + 6 + 4  # asked once for each case that is checked, for each that is prepared, and each iteration
    with pytest.raises(Cancelled, match="--resume"):
        train_folder(dataset, tmp_path / "b" / "run", settings, device="cpu", cancelled=lambda: next(calls) == stop)
    assert not (tmp_path / "b" / "run" / "model.safetensors").exists()
    resumed = train_folder(dataset, tmp_path / "b" / "run", settings, device="cpu", resume=True)
    weights, wanted = (store.load(path).network.state_dict() for path in (resumed, whole))
    assert all(torch.equal(weights[key], wanted[key]) for key in wanted)


def test_a_small_network_learns_the_blobs(dataset, tmp_path):
    settings = config.override(
        config.from_json(TINY),
        ["training.iterations=60", "training.learning_rate=0.01", "training.ema=0.9", "training.validations=1"],
    )
    heard = []
    train_folder(dataset, tmp_path / "run", settings, device="cpu", listener=heard.append)
    assert next(event["dice"] for event in heard if "dice" in event) > 0.8


def test_bad_cases_are_all_named_before_training(dataset, tmp_path):
    _image, label = blob_case(0)
    write_image(dataset / "labelsTr" / "blob_00.nii.gz", np.where(label == 2, 9, label).astype(np.uint8))
    write_image(dataset / "labelsTr" / "blob_02.nii.gz", label[:-1])
    with pytest.raises(InputError, match=r"2 of 6 cases.*") as caught:
        train_folder(dataset, tmp_path / "run", config.from_json(TINY), device="cpu")
    assert "blob_00" in str(caught.value) and "label 9" in str(caught.value) and "blob_02" in str(caught.value)


def test_a_run_folder_is_never_overwritten_and_goes_on_with_its_own_settings_and_split(dataset, tmp_path, capsys):
    names = [f"blob_{n:02d}" for n in range(6)]
    (tmp_path / "split.json").write_text(json.dumps({"train": names[:2], "val": names[2:3]}))
    (tmp_path / "tiny.json").write_text(json.dumps(TINY))
    again = ["train", "--data", str(dataset), "--out", str(tmp_path / "run"), "--device", "cpu"]
    first = [*again, "--config", str(tmp_path / "tiny.json"), "--split", str(tmp_path / "split.json")]
    assert commands.run([*first, "--iterations", "2", "--set", "training.validations=1"]) == 0
    assert commands.run(first) == 2 and "already holds a training; go on with --resume" in capsys.readouterr().err
    assert commands.run([*again, "--resume", "--set", "training.batch=3"]) == 2
    assert "only iterations, minutes and training.patience can change" in capsys.readouterr().err
    assert commands.run([*again, "--resume", "--iterations", "4", "--set", "training.patience=7"]) == 0
    kept = store.load(tmp_path / "run" / "model.safetensors").card
    assert (kept.training["train_cases"], kept.training["validation_cases"]) == (2, 1)
    logged = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [event["iteration"] for event in logged if "dice" in event] == [2, 4]


def test_a_mistake_in_the_configuration_names_key_and_choices():
    with pytest.raises(InputError, match=r"network.name is 'vnet'; allowed: unet"):
        config.from_json({"network": {"name": "vnet"}})
    with pytest.raises(InputError, match=r"unknown key 'training.bach'.*batch"):
        config.from_json({"training": {"bach": 2}})
    with pytest.raises(InputError, match="whole number"):
        config.from_json({"training": {"batch": 2.5}})
    with pytest.raises(InputError, match="strides must have one entry fewer"):
        config.from_json({"network": {"channels": [8, 16]}})
    with pytest.raises(InputError, match="section.key=value"):
        config.override(config.Config(), ["batch=2"])
    assert config.from_json(config.Config().to_json()) == config.Config()


def test_overlapping_labels_train_with_a_mask_as_their_truth():
    """Two regions that share voxels: no loss is left when both are found, which no softmax could reach."""
    truth = torch.zeros(1, 3, 4, 4)
    truth[:, 1:, 1:3] = 1.0
    found = 40.0 * truth - 20.0
    weights = config.LossConfig(focal=1.0)
    assert float(losses.total_loss(found, truth, weights, exclusive=False)) < 1e-6
    assert float(losses.total_loss(found, truth[:, 1].long(), weights)) > 0.3


def test_the_reference_s_versions_are_named_presets():
    first, second, head = (config.preset(f"imgx-{name}") for name in ("v0.1", "v0.2", "head"))
    assert (first.diffusion.strategy, second.diffusion.strategy) == ("recycling_next", "recycling")
    assert not first.network.attention and second.network.attention and head.network.dropout == 0.1
    assert (first.diffusion.train_steps, second.diffusion.train_steps, head.diffusion.train_steps) == (5, 5, 1001)
    assert (first.loss.mse, second.loss.focal, head.loss.focal) == (0.0, 20.0, 1.0)
    assert (first.diffusion.variance, head.diffusion.variance) == ("fixed_large", "fixed_small")
    for one in (first, second, head):
        assert one.diffusion.time == "index" and one.network.time == "before_norm"
        assert one.diffusion.importance_weight == "reference" and (one.training.batch, one.training.accumulate) == (
            1,
            8,
        )
    assert (first.diffusion.time_sampling, second.diffusion.time_sampling) == ("uniform", "loss_aware")
    assert first.diffusion.recycling_last and not second.diffusion.recycling_last and head.training.patience == 10
    with pytest.raises(InputError, match="imgx-head"):
        config.preset("imgx")


def test_a_patch_may_lie_at_both_ends_of_every_axis():
    case = prepared((11, 12, 10))
    data = DataConfig(patch=(8, 8, 8), foreground=0.0)
    seen = set()
    for n in range(400):
        image, _ = cut(case, data, STILL, generator(4, n))
        found = [
            (a, b, c)
            for a in range(4)
            for b in range(5)
            for c in range(3)
            if torch.allclose(image[0], case.image[0, a : a + 8, b : b + 8, c : c + 8], atol=1e-3)
        ]
        seen.update(found)
    for axis, last in enumerate((3, 4, 2)):
        assert {start[axis] for start in seen} == set(range(last + 1))
