"""Volumes that do not fit the memory: windows in layers, finished rows handed out and resampled block by block."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from conftest import blob_case
from DiffSegLib.data import native
from DiffSegLib.data.native import NativeMap, best_class, only_channel
from DiffSegLib.data.preprocess import Grid
from DiffSegLib.data.volume import Orientation, Volume, resample
from DiffSegLib.inference import blend, sampling, windows
from DiffSegLib.inference.predict import Predictor
from DiffSegLib.inference.sampling import Sampling
from DiffSegLib.jobs import SegmentOptions
from DiffSegLib.models.store import load
from single_samples import drawn
from whole_map import to_native

AS_STORED = Orientation((0, 1, 2), (False, False, False))


def noise(*shape):
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def many_windows(monkeypatch):
    monkeypatch.setattr(windows, "WINDOW_GROWTH", 1.0)


@pytest.fixture
def model(tiny_model):
    return load(tiny_model)


def how(model, **options):
    card = model.card
    return Sampling(model.network, 3, (16, 16, 16), (2, 2, 2), card.diffusion, steps=3, **options)


def whole_and_layered(model, image, **options):
    return (list(how(model, state=state, **options).volumes(image)) for state in (1 << 40, 0))


@pytest.mark.parametrize("shape", [(50, 18, 20), (18, 50, 20), (20, 18, 50), (40, 40, 17), (50, 9, 20)], ids=str)
@pytest.mark.parametrize("fusion", ["last", "mean"])
def test_layers_give_the_probabilities_of_the_whole(model, many_windows, shape, fusion):
    diffusion = replace(model.card.diffusion, fusion=fusion)
    model = replace(model, card=replace(model.card, diffusion=diffusion))
    image = noise(1, *shape)
    whole, layered = whole_and_layered(model, image)
    assert len(whole) == len(layered) == 3
    for one, other in zip(whole, layered, strict=True):
        assert one.shape == other.shape == (3, *shape)
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-5)


def test_layers_hand_out_rows_in_order_and_only_once(model, many_windows, monkeypatch):
    monkeypatch.setattr(blend, "BLOCK", 4 * 3 * 18 * 20 * 3)  # three rows at a time
    pieces = list(how(model, state=0).pieces(noise(1, 50, 18, 20)))
    for step in (1, 2, 3):
        mine = [piece for piece in pieces if piece.step == step]
        rows = [row for piece in mine for row in range(piece.start, piece.start + piece.probability.shape[1])]
        assert rows == list(range(50)) and [piece.last for piece in mine] == [False] * (len(mine) - 1) + [True]
        assert max(piece.probability.shape[1] for piece in mine) == 3


def test_samples_and_mirrored_views_are_averaged_in_layers_as_in_the_whole(model, many_windows):
    image, views = noise(1, 50, 18, 20), [(), (3,), (1, 3)]
    whole, layered = whole_and_layered(model, image, views=views)
    single = [drawn(n, how(model, views=[view]), image) for n, view in enumerate(views)]
    for one, other, *alone in zip(whole, layered, *single, strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-5)
        torch.testing.assert_close(one, torch.stack(alone).mean(0), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(("state", "batch", "last"), [(1 << 40, 5, 2), (0, 3, 1)], ids=["whole", "layers"])
@pytest.mark.parametrize("sampler", ["ddim", "ddpm"])
def test_windows_that_go_through_the_network_together_give_what_each_gives_alone(
    model, many_windows, state, batch, last, sampler
):
    image, views, sizes, told = noise(1, 30, 18, 20), [(), (1, 3)], [], []
    model = replace(model, card=replace(model.card, diffusion=replace(model.card.diffusion, fusion="mean")))
    options = {"state": state, "sampler": sampler, "views": views}
    alone = list(how(model, **options).volumes(image))
    model.network.register_forward_pre_hook(lambda _, given: sizes.append(len(given[0])))
    together = list(how(model, batch=batch, tick=told.append, **options).volumes(image))
    for one, other in zip(alone, together, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)
    count = told[0].windows
    assert count == 12 and set(sizes) == {batch, last}, "the last ones are fewer"
    assert told[-1].window == max(at.window for at in told) == count
    fractions = [at.fraction for at in told]
    assert fractions == sorted(fractions) and fractions[0] == 0.0 and fractions[-1] < 1.0


@pytest.mark.parametrize("shape", [(18, 30, 20), (18, 20, 50), (16, 16, 40)], ids=str)
def test_windows_together_are_those_of_their_layer_along_any_axis(model, many_windows, shape):
    image = noise(1, *shape)
    for one, other in zip(*(how(model, state=0, batch=n).volumes(image) for n in (1, 4)), strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


def test_half_precision_sums_move_a_probability_by_little(model, many_windows, monkeypatch):
    image = noise(1, 50, 34, 20)
    exact = list(how(model, state=0).volumes(image))
    monkeypatch.setattr(sampling, "BLEND_BUDGET", 0)
    halved = list(how(model, state=0).volumes(image))
    apart = max(float((one - other).abs().max()) for one, other in zip(exact, halved, strict=True))
    assert 0 < apart < 3e-3


@pytest.mark.parametrize("wanted", [(12, 9, 11), (24, 9, 11), (7, 20, 5), (5, 3, 30), (12, 20, 11), (1, 2, 1)], ids=str)
@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("rows", [1, 3, 100])
def test_rows_resampled_block_by_block_are_those_of_the_whole(wanted, axis, rows, monkeypatch):
    monkeypatch.setattr(native, "CHUNK", 4 * wanted[1] * wanted[2] * 2)
    volume = noise(2, 12, 9, 11)
    grid = Grid(AS_STORED, wanted)
    found = NativeMap(grid, (12, 9, 11), axis, only_channel, torch.float32)
    for start in range(0, volume.shape[axis + 1], rows):
        found.add(volume.narrow(axis + 1, start, min(rows, volume.shape[axis + 1] - start)), start)
    expected = resample(volume, wanted)[0].numpy()
    np.testing.assert_allclose(found.result(), expected, atol=1e-6)


def test_the_best_class_is_that_of_the_resampled_probabilities():
    volume = noise(4, 10, 12, 9)
    found = to_native(volume, Grid(AS_STORED, (15, 7, 20)), best_class)
    expected = resample(volume, (15, 7, 20)).argmax(0).numpy()
    assert (found == expected).mean() > 0.999, "but for ties in the last digit"


def test_a_large_volume_is_segmented_with_its_uncertainty_as_a_small_one_is(tiny_model, many_windows, monkeypatch):
    scan = Volume(blob_case(0, (44, 26, 20))[0][None], np.diag([1.4, 0.8, 1.0, 1.0]), "scan")
    options = SegmentOptions(samples=2, uncertainty=True, keep_steps=True)
    whole = Predictor(load(tiny_model), "cpu")(scan, options)
    monkeypatch.setattr(sampling, "STATE_BUDGET", 1)
    shown = []
    layered = Predictor(load(tiny_model), "cpu")(scan, options, on_step=lambda *step: shown.append(step))
    assert [(step, steps) for step, steps, _ in shown] == [(k, 5) for k in range(1, 6)]
    for one, other in zip(whole.steps, layered.steps, strict=True):
        assert (one == other).mean() > 0.9999
    np.testing.assert_allclose(whole.uncertainty, layered.uncertainty, atol=1e-4)


def test_the_progress_of_a_large_volume_never_goes_back(model, many_windows):
    told = []
    for state in (0, 1 << 40):
        told.clear()
        list(how(model, state=state, views=[(), ()], tick=told.append).pieces(noise(1, 30, 18, 50)))
        fractions, windows = [at.fraction for at in told], [at.window for at in told]
        assert windows[-1] == told[-1].windows == max(windows) and set(windows) == set(range(1, windows[-1] + 1))
        assert state or windows == sorted(windows)  # however its layers lie, a window is counted as it begins
        assert fractions == sorted(fractions) and fractions[0] == 0 and len(set(fractions)) == len(fractions)
        assert fractions[-1] < 1


def test_a_volume_of_many_classes_is_not_taken_in_one_window(model, monkeypatch):
    image, counted = noise(1, 24, 18, 20), []
    for largest in (4 * 3 * 24 * 18 * 20, 4 * 3 * 24 * 18 * 20 - 1):
        monkeypatch.setattr(sampling, "ONE_WINDOW", largest)
        list(how(model, tick=lambda at: counted.append(at.windows)).volumes(image))
    assert counted[0] == 1 and counted[-1] > 1
