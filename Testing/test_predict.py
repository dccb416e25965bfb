"""Prediction: the same mask by every way and every batching, steps, samples, regions, and its record."""

import json
import os
import subprocess
import sys
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
import torch

from conftest import blob_case
from DiffSegLib import config
from DiffSegLib.config import DiffusionConfig
from DiffSegLib.data.preprocess import to_model_space
from DiffSegLib.data.volume import Volume
from DiffSegLib.errors import Cancelled, InputError
from DiffSegLib.inference import sampling, windows
from DiffSegLib.inference.predict import Predictor, mirrored_views, nothing_left, volumes_ml
from DiffSegLib.inference.sampling import Sampling
from DiffSegLib.jobs import SegmentOptions
from DiffSegLib.models.store import load
from DiffSegLib.network.precision import pick_precision, ready
from DiffSegLib.tuning import tuned
from single_samples import drawn
from whole_map import to_native


@pytest.fixture
def predictor(tiny_model):
    return Predictor(load(tiny_model), "cpu")


def volume(shape=(18, 22, 20)):
    return Volume(blob_case(0, shape)[0][None], np.diag([1.0, 1.0, 2.0, 1.0]), "scan")


def test_one_seed_is_one_mask_and_another_seed_is_not(predictor):
    first, again = (predictor(volume(), SegmentOptions(seed=4)) for _ in range(2))
    np.testing.assert_array_equal(first.mask, again.mask)
    assert (predictor(volume(), SegmentOptions(seed=5)).mask != first.mask).any()
    assert first.mask.dtype == np.uint8 and set(np.unique(first.mask)) <= {0, 1, 2}


@pytest.mark.parametrize("sampler", ["ddim", "ddpm"])
@pytest.mark.parametrize("steps", [1, 2, 5])
def test_every_step_is_shown_and_the_last_is_the_answer(predictor, sampler, steps):
    shown = []
    options = SegmentOptions(steps=steps, sampler=sampler, keep_steps=True)
    answer = predictor(volume(), options, on_step=lambda k, n, mask: shown.append((k, n, mask)))
    assert [(k, n) for k, n, _ in shown] == [(k + 1, steps) for k in range(steps)]
    for (_, _, mask), kept in zip(shown, answer.steps, strict=True):
        np.testing.assert_array_equal(mask, kept)
    np.testing.assert_array_equal(answer.mask, answer.steps[-1])
    alone = predictor(volume(), replace(options, keep_steps=False))
    np.testing.assert_array_equal(alone.mask, answer.mask)
    assert alone.steps == []


def test_grouping_of_windows_changes_no_mask(predictor, monkeypatch):
    monkeypatch.setattr(windows, "WINDOW_GROWTH", 1.0)
    big = volume((30, 34, 28))
    whole = predictor(big, SegmentOptions(keep_steps=True))
    monkeypatch.setattr(sampling, "STATE_BUDGET", 1)
    grouped = predictor(big, SegmentOptions(keep_steps=True))
    for a, b in zip(whole.steps, grouped.steps, strict=True):
        np.testing.assert_array_equal(a, b)


def test_windows_of_a_perfect_network_blend_to_the_truth_without_seams(monkeypatch):
    """A network that reads the class off the image must give that class everywhere, whatever the windows."""
    monkeypatch.setattr(windows, "WINDOW_GROWTH", 1.0)
    image = torch.randint(0, 3, (1, 40, 37, 25), generator=torch.Generator().manual_seed(0)).float()

    def network(image, mask, t):
        return torch.cat([-((image - n) ** 2) * 40 for n in range(3)], 1)

    steps = list(Sampling(network, 3, (16, 16, 16), (8, 8, 8), DiffusionConfig(), steps=3).volumes(image))
    assert len(steps) == 3
    for probability in steps:
        assert torch.equal(probability.argmax(0), image[0].long())
        torch.testing.assert_close(probability.sum(0), torch.ones(image.shape[1:]), atol=1e-5, rtol=0)


def test_samples_are_averaged_and_uncertainty_lies_between_0_and_1(predictor):
    answer = predictor(volume(), SegmentOptions(samples=3, uncertainty=True))
    assert answer.uncertainty.shape == answer.mask.shape and answer.uncertainty.dtype == np.float32
    assert 0 <= answer.uncertainty.min() < answer.uncertainty.max() <= 1 + 1e-6
    assert (predictor(volume(), SegmentOptions()).mask != answer.mask).any()


def test_a_region_is_segmented_as_if_cut_out_and_the_rest_stays_empty(predictor):
    scan = volume((24, 26, 28))
    roi = ((2, 20), (3, 25), (5, 25))
    answer = predictor(scan, SegmentOptions(roi=roi))
    box = tuple(slice(a, b) for a, b in roi)
    alone = predictor(Volume(scan.array[(slice(None), *box)], scan.affine), SegmentOptions())
    np.testing.assert_array_equal(answer.mask[box], alone.mask)
    answer.mask[box] = 0
    assert not answer.mask.any()


def test_volumes_are_in_millilitres(predictor):
    answer = predictor(volume(), SegmentOptions())
    for value in (1, 2):
        assert answer.volumes_ml[value] == pytest.approx((answer.mask == value).sum() * 2.0 / 1000)


def test_a_large_mask_is_counted_in_little_memory():
    mask = np.zeros((64, 256, 256), np.uint8)
    mask[3, 4, :9], mask[60] = 2, 255
    tracemalloc.start()
    found = volumes_ml(mask, Volume(mask[None], np.diag([1.0, 1.0, 2.0, 1.0])), [1, 2, 255])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found == {1: 0.0, 2: 0.018, 255: 131.072}
    assert peak < mask.nbytes / 2


def test_the_tiny_volumes_of_a_microscope_are_not_rounded_to_none():
    mask = np.ones((10, 10, 10), np.uint8)
    for mm in (0.001, 0.005, 0.1, 1.0, 20.0):
        found = volumes_ml(mask, Volume(mask[None], np.diag([mm, mm, mm, 1.0])), [1, 2])
        assert found == {1: pytest.approx(mm**3, rel=1e-5), 2: 0.0}


def test_provenance_names_what_made_the_mask(predictor, tiny_model):
    record = predictor(volume(), SegmentOptions(seed=9)).provenance
    assert record["model"] == "tiny" and record["seed"] == 9 and len(record["model_sha256"]) == 64
    assert json.loads(json.dumps(record)) == record or record["roi"] is None


def test_cancel_stops_between_steps(predictor):
    calls = iter([False, False, True])
    with pytest.raises(Cancelled):
        predictor(volume(), SegmentOptions(), cancelled=lambda: next(calls))


@pytest.mark.parametrize(
    ("scan", "options", "words"),
    [
        (Volume(np.zeros((2, 8, 8, 8), np.float32), np.eye(4), "two"), SegmentOptions(), r"two: has 2 channel\(s\)"),
        (Volume(np.zeros((1, 0, 8, 8), np.float32), np.eye(4), "none"), SegmentOptions(), "none: has no voxels"),
        (volume(), SegmentOptions(roi=((0, 99), (0, 5), (0, 5))), "does not lie inside"),
        (volume(), SegmentOptions(steps=1000), None),
    ],
)
def test_volumes_that_cannot_be_segmented_are_refused(predictor, scan, options, words):
    if words is None:
        options = replace(options, steps=3)
        assert predictor(scan, options).mask.shape == scan.array.shape[1:]
        return
    with pytest.raises(InputError, match=words):
        predictor(scan, options)


def test_samples_are_told_apart_by_the_mirrorings_that_training_has_seen(tiny_model):
    assert mirrored_views(()) == mirrored_views((False, False, False)) == [()]
    assert mirrored_views((True, False, True)) == [(), (1,), (3,), (1, 3)]
    model = load(tiny_model)
    turned = replace(model, card=replace(model.card, flip=(False, False, True)))
    scan, options = volume(), SegmentOptions(samples=2, keep_steps=True, uncertainty=True)
    found, plain = (Predictor(each, "cpu")(scan, options) for each in (turned, model))
    assert (found.mask != plain.mask).any()
    image, grid = to_model_space(scan, model.card.data)
    precision, diffusion = pick_precision("auto", torch.device("cpu")), model.card.diffusion
    network = ready(model.network, torch.device("cpu"), precision)
    how = Sampling(network, 3, (16,) * 3, (2,) * 3, diffusion, precision=precision)
    runs = [drawn(n, how, image.flip(axes)) for n, axes in enumerate([(), (3,)])]
    for mask, one, other in zip(found.steps, *runs, strict=True):
        np.testing.assert_array_equal(mask, to_native((one + other.flip(3)) / 2, grid))
    one_sample = [Predictor(each, "cpu")(scan, SegmentOptions()).mask for each in (turned, model)]
    np.testing.assert_array_equal(*one_sample)


def test_a_label_map_instead_of_an_image_is_warned_of(tiny_model):
    predictor = Predictor(load(tiny_model), "cpu")
    scan = volume()
    labels = replace(scan, array=(scan.array > scan.array.mean()).astype(np.float32) * 3)
    (told,) = predictor(labels, SegmentOptions()).warnings
    assert told == "scan: has few values, all whole, like a label map; is it an image?"
    for image in (scan, replace(scan, array=labels.array / 2), replace(scan, array=np.round(scan.array))):
        assert predictor(image, SegmentOptions()).warnings == []


def test_a_far_larger_volume_than_the_model_knows_is_warned_of(tiny_model):
    model = load(tiny_model)
    card = replace(model.card, expects={"field_of_view_mm": [10, 10, 10]})
    answer = Predictor(replace(model, card=card), "cpu")(volume(), SegmentOptions())
    assert "region of interest" in answer.warnings[0] and answer.provenance["warnings"] == answer.warnings


def test_a_far_smaller_volume_than_the_model_knows_is_warned_of(tiny_model):
    """Metres read as mm, or a region that cuts off what is sought."""
    model = load(tiny_model)
    card = replace(model.card, expects={"field_of_view_mm": [100, 100, 100]})
    answer = Predictor(replace(model, card=card), "cpu")(volume(), SegmentOptions())
    assert "scan: 20 x 22 x 36 mm is far smaller than the 100 x 100 x 100 mm" in answer.warnings[0]
    assert "is its spacing in mm" in answer.warnings[0] and answer.provenance["warnings"] == answer.warnings


def test_reference_time_is_a_switch():
    settings = config.from_json({"diffusion": {"time": "index"}})
    seen = []

    def network(image, mask, t):
        seen.append(float(t))
        return torch.zeros(1, 2, 8, 8, 8)

    for diffusion in (settings.diffusion, DiffusionConfig()):
        list(Sampling(network, 2, (8,) * 3, (2,) * 3, diffusion).volumes(torch.zeros(1, 8, 8, 8)))
    assert seen == pytest.approx([1.0, 0.8, 0.6, 0.4, 0.2, 1.0, 751 / 1001, 501 / 1001, 251 / 1001, 1 / 1001])


@pytest.mark.parametrize("growth", [1.0, 100.0])
def test_fused_steps_are_the_means_of_the_predictions_so_far(tiny_model, monkeypatch, growth):
    monkeypatch.setattr(windows, "WINDOW_GROWTH", growth)
    model = load(tiny_model)
    image = torch.randn(1, 30, 18, 20, generator=torch.Generator().manual_seed(0))

    def run(fusion, **options):
        diffusion = replace(model.card.diffusion, fusion=fusion)
        how = Sampling(model.network, 3, (16, 16, 16), (2, 2, 2), diffusion, steps=4, **options)
        return list(how.volumes(image))

    own, fused = run("last"), run("mean")
    for k, probability in enumerate(fused):
        torch.testing.assert_close(probability, torch.stack(own[: k + 1]).mean(0), atol=1e-5, rtol=1e-4)
    assert torch.equal(run("mean", every_step=False)[0], fused[-1])


@pytest.mark.parametrize("shape", [(2, 2, 2), (3, 2, 4), (2, 30, 2)], ids=str)
def test_a_volume_of_a_few_voxels_is_segmented(tiny_model, shape):
    array = np.random.default_rng(0).normal(size=(1, *shape)).astype(np.float32)
    found = Predictor(load(tiny_model), "cpu")(Volume(array, np.eye(4), "small"), SegmentOptions())
    assert found.mask.shape == shape


def test_an_image_of_one_value_and_a_single_slice_are_refused(tiny_model):
    predictor = Predictor(load(tiny_model), "cpu")
    with pytest.raises(InputError, match="flat: holds one value only"):
        predictor(Volume(np.full((1, 9, 9, 9), 7.0, np.float32), np.eye(4), "flat"), SegmentOptions())
    small = np.zeros((1, 50, 50, 50), np.float32)
    small[0, 20:28, 20:28, 20:28] = blob_case(0)[0][:8, :8, :8]  # 0.4 % of it
    with pytest.raises(InputError, match=r"padded: almost all of it has one value, .*; crop it to what it shows\."):
        predictor(Volume(small, np.eye(4), "padded"), SegmentOptions())
    assert predictor(Volume(small, np.eye(4), "padded"), SegmentOptions(roi=((18, 30),) * 3)).mask.shape == (50, 50, 50)
    said = nothing_left(torch.stack([torch.zeros(2, 2, 2), torch.rand(2, 2, 2)]), "two")
    assert said == "two: almost all of it has one value, and nothing is left when that is normalised, in channel 1."
    noise = np.random.default_rng(0).normal(size=(1, 1, 9, 9)).astype(np.float32)
    with pytest.raises(InputError, match="thin: is a single slice"):
        predictor(Volume(noise, np.eye(4), "thin"), SegmentOptions())


def test_a_region_outside_is_told_in_the_order_in_which_it_was_given(tiny_model):
    array = np.random.default_rng(0).normal(size=(1, 8, 9, 10)).astype(np.float32)
    options = SegmentOptions(roi=((0, 8), (0, 9), (2, 11)))
    with pytest.raises(InputError, match=r"i 2 to 11, j 0 to 9, k 0 to 8 does not lie inside its 10 x 9 x 8 voxels"):
        Predictor(load(tiny_model), "cpu")(Volume(array, np.eye(4), "x"), options)


def test_a_warning_comes_before_the_work(tiny_model):
    model = load(tiny_model)
    model = replace(model, card=replace(model.card, expects={"field_of_view_mm": [4.0, 4.0, 4.0]}))
    heard = []
    array = np.random.default_rng(0).normal(size=(1, 20, 20, 20)).astype(np.float32)
    Predictor(model, "cpu")(
        Volume(array, np.eye(4), "head"), SegmentOptions(), lambda event: heard.append(event["event"])
    )
    assert heard[0] == "warning" and "progress" in heard


@pytest.mark.parametrize("parametrisation", ["epsilon", "v"])
def test_probabilities_of_an_unbounded_answer_sum_to_one_and_uncertainty_stays_below_it(tiny_model, parametrisation):
    model = load(tiny_model)
    card = replace(model.card, diffusion=replace(model.card.diffusion, parametrisation=parametrisation))
    found = Predictor(replace(model, card=card), "cpu")(volume(), SegmentOptions(uncertainty=True))
    assert found.uncertainty.min() >= 0.0 and found.uncertainty.max() <= 1.0 + 1e-6
    image, _ = to_model_space(volume(), card.data)
    for step in Sampling(model.network, 3, (16,) * 3, (2,) * 3, card.diffusion).volumes(image):
        torch.testing.assert_close(step.sum(0), torch.ones(step.shape[1:]), atol=1e-4, rtol=0)


def test_a_region_is_normalised_as_a_part_of_what_training_saw_whole(tiny_model):
    """A bright corner outside of the region counts where the model was trained on whole images, and only there."""
    model, box = load(tiny_model), ((2, 18), (2, 18), (2, 18))
    plain = volume((36, 36, 36))
    bright = Volume(plain.array.copy(), plain.affine, "scan")
    bright.array[:, 30:, 30:, 30:] = 1e5

    def masks(field_of_view):
        card = replace(model.card, expects={"field_of_view_mm": field_of_view})
        predictor = Predictor(replace(model, card=card), "cpu")
        return [predictor(each, SegmentOptions(roi=box)).mask for each in (plain, bright)]

    np.testing.assert_array_equal(*masks([16.0, 16.0, 32.0]))  # crops
    first, second = masks([36.0, 36.0, 72.0])  # whole images
    assert (first != second).any()


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator")
def test_a_large_volume_gives_its_memory_back(predictor, monkeypatch):
    held = []
    monkeypatch.setattr("DiffSegLib.inference.predict.give_back", lambda: held.append(1))
    predictor(volume(), SegmentOptions(steps=1))
    assert not held  # a small one would pay for it
    monkeypatch.setattr("DiffSegLib.inference.predict.LARGE", 1000)
    predictor(volume(), SegmentOptions(steps=1))
    assert len(held) == 2
    script = """
import os, numpy
from DiffSegLib.tuning import give_back
def held():
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
parts = [numpy.ones(1 << 18) for _ in range(100)]  # 2 MB each
last = parts.pop()
del parts
before = held()
give_back()
print(before - held())
"""
    environment = tuned({**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})
    found = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert float(found.stdout) > 150
