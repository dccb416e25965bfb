"""Every network through the same doors: sizes, training with each strategy, precision, its file, and prediction."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from conftest import make_dataset
from DiffSegLib import config
from DiffSegLib.data.volume import Volume
from DiffSegLib.diffusion.process import make_process, mask_channels
from DiffSegLib.diffusion.strategies import STRATEGIES
from DiffSegLib.errors import InputError
from DiffSegLib.inference import sampling, windows
from DiffSegLib.inference.predict import Predictor
from DiffSegLib.jobs import SegmentOptions
from DiffSegLib.labels import labels_from_names
from DiffSegLib.models import store
from DiffSegLib.models.card import card_of
from DiffSegLib.network.build import build
from DiffSegLib.network.precision import autocast, ready
from DiffSegLib.training.step import training_loss
from DiffSegLib.training.time_sampling import TimeSampler

DIFFUSION = ("unet", "cached")
SUPERVISED = ("dynunet", "segresnet")
NAMES = (*DIFFUSION, *SUPERVISED)
ROWS = [
    *((name, {"strategy": strategy}) for name in DIFFUSION for strategy in STRATEGIES),
    *((name, {"strategy": "recycling", "variance": "learned_range", "parametrisation": "v"}) for name in DIFFUSION),
    *((name, {"strategy": "standard", "classes": "overlapping"}) for name in DIFFUSION),
    *((name, {"strategy": "supervised"}) for name in SUPERVISED),
]


def settings_of(name, dims=3, diffusion=None, **network):
    """A small network; strategy supervised for those that know no other."""
    diffusion = diffusion or {"strategy": "supervised" if name in SUPERVISED else "recycling"}
    learned = "learned" in diffusion.get("variance", "")
    size = {"channels": [8, 16, 32], "strides": [[2] * dims] * 2, "blocks": 1, "heads": 2}
    return config.from_json(
        {
            "data": {"patch": [8] * dims},
            "augment": {"flip": [False] * dims},
            "network": {"name": name, **size, **network},
            "diffusion": diffusion,
            "loss": {"vlb": 0.01 if learned else 0.0},
        }
    )


def made(name, in_channels=1, classes=3, seed=0, **changes):
    settings = settings_of(name, **changes)
    torch.manual_seed(seed)
    return build(settings.network, in_channels, classes, settings.diffusion), settings


def inputs_of(settings, shape, in_channels=1, classes=3, batch=2):
    source = torch.Generator().manual_seed(1)
    mask = torch.rand(batch, mask_channels(settings.diffusion, classes), *shape, generator=source)
    image = torch.randn(batch, in_channels, *shape, generator=source)
    return image, mask, torch.linspace(0.2, 1.0, batch)


def a_step(network, settings, iteration=0, precision=torch.float32):
    """The loss of one training step on two patches, with its gradients in the network."""
    source = torch.Generator().manual_seed(2)
    image, label = torch.randn(2, 1, 8, 8, 8, generator=source), torch.randint(3, (2, 8, 8, 8), generator=source)
    if settings.diffusion.classes == "overlapping":
        label = torch.stack([label == 0, label > 0, label > 1], dim=1).long()
    process = make_process(settings.diffusion)
    times = TimeSampler(settings.diffusion, len(process))
    loss = training_loss(
        network, image, label, 3, process, settings, times, range(2 * iteration, 2 * iteration + 2), precision
    )
    loss.mean.backward()
    return loss


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", [(9, 8, 6), (16, 8, 4), (4, 4, 4), (11, 10), (4, 4)], ids=str)
def test_logits_have_the_size_of_any_image(name, shape):
    network, settings = made(name, in_channels=3, dims=len(shape))
    found = network.train()(*inputs_of(settings, shape, in_channels=3))
    assert found.shape == (2, 3, *shape) and torch.isfinite(found).all()


@pytest.mark.parametrize("name", [name for name in NAMES if name != "segresnet"])
def test_strides_may_differ_along_the_axes(name):
    network, settings = made(name, strides=[[1, 2, 2], [2, 3, 1]])
    assert network(*inputs_of(settings, (5, 13, 7))).shape == (2, 3, 5, 13, 7)


@pytest.mark.parametrize(("name", "diffusion"), ROWS, ids=lambda x: x if isinstance(x, str) else "-".join(x.values()))
def test_one_training_step_gives_every_weight_its_gradient(name, diffusion):
    network, settings = made(name, diffusion=diffusion)
    image, mask, t = inputs_of(settings, (8, 8, 8))
    heeds_mask = not torch.equal(network(image, mask, t), network(image, 1.0 - mask, t))
    assert heeds_mask == (diffusion["strategy"] != "supervised")
    loss = a_step(network.train(), settings)
    assert torch.isfinite(loss.per_sample).all()
    for key, p in network.named_parameters():
        assert p.grad is not None and torch.isfinite(p.grad).all(), key
        # a shift in front of the softmax of attention scores, or of an instance norm, changes nothing
        idle = key.endswith("key.bias") or (name == "dynunet" and key.endswith("conv.bias"))
        assert idle or p.grad.abs().sum() > 0, key


@pytest.mark.parametrize("name", NAMES)
def test_half_precision_gives_nearly_the_same_logits(name):
    network, settings = made(name)
    inputs = inputs_of(settings, (8, 12, 8))
    with torch.no_grad():
        exact = network(*inputs)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = network(*inputs)
    assert found.dtype == torch.bfloat16
    assert (found - exact).abs().mean() < 0.05 * exact.abs().mean()
    assert torch.isfinite(a_step(network.train(), settings, precision=torch.bfloat16).per_sample).all()


@pytest.mark.parametrize("name", NAMES)
def test_a_model_s_file_gives_back_the_network_and_prediction_the_same_mask_by_any_grouping(
    name, tmp_path, monkeypatch
):
    network, settings = made(name)
    labels = labels_from_names({1: "first", 2: "second"})
    card = card_of(settings, name="tiny", labels=labels, channels=("MRI",))
    store.save(tmp_path / "tiny.safetensors", network.state_dict(), card, torch.float32)
    model = store.load(tmp_path / "tiny.safetensors")
    inputs = inputs_of(settings, (9, 8, 7))
    with torch.no_grad():
        assert torch.equal(model.network(*inputs), network.eval()(*inputs))
    predictor = Predictor(model, "cpu")
    predictor.warm_up()
    monkeypatch.setattr(windows, "WINDOW_GROWTH", 1.0)
    noise = np.random.default_rng(0).normal(size=(1, 10, 13, 11)).astype(np.float32)
    volume = Volume(noise, np.eye(4), "noise")
    whole = predictor(volume, SegmentOptions(steps=3)).mask
    assert set(np.unique(whole)) == {0, 1, 2}
    monkeypatch.setattr(sampling, "STATE_BUDGET", 1)
    np.testing.assert_array_equal(predictor(volume, SegmentOptions(steps=3)).mask, whole)


def test_every_weight_stands_in_a_file_once():
    """MONAI's DynUNet lists its weights twice."""
    for name in NAMES:
        network, _ = made(name)
        assert len(network.state_dict()) == len({value.data_ptr() for value in network.state_dict().values()})


def test_the_twins_are_monai_s_own_networks():
    from monai.networks.nets import DynUNet, SegResNet

    image = torch.randn(1, 1, 16, 8, 8)
    kernels = {"kernel_size": [3] * 3, "strides": [1, 2, 2], "upsample_kernel_size": [2, 2], "filters": [8, 16, 32]}
    own = {
        "dynunet": lambda: DynUNet(3, 1, 3, **kernels),
        "segresnet": lambda: SegResNet(3, 8, 1, 3, blocks_down=(1, 1, 1), blocks_up=(1, 1)),
    }
    for name, theirs in own.items():
        network, _ = made(name)
        torch.manual_seed(0)
        assert torch.equal(network(image), theirs()(image))


def test_blocks_and_dropout_reach_the_twins():
    one, two = (sum(p.numel() for p in made("segresnet", blocks=n)[0].parameters()) for n in (1, 2))
    assert two > 1.5 * one
    for name in SUPERVISED:
        network, settings = made(name, dropout=0.5)
        image = inputs_of(settings, (8, 8, 8))[0]
        assert not torch.equal(network.train()(image), network(image))
        assert torch.equal(network.eval()(image), network(image))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"name": "dynunet", "diffusion": {"strategy": "recycling"}}, "dynunet segments without diffusion"),
        ({"name": "segresnet", "diffusion": {"strategy": "standard"}}, "set diffusion.strategy supervised"),
        ({"name": "dynunet", "checkpointing": True}, "dynunet has no checkpointing"),
        ({"name": "dynunet", "channels": [8, 16], "strides": [[2, 2, 2]]}, "at least 3 network.channels"),
        ({"name": "dynunet", "strides": [[2, 2, 2], [1, 5, 1]]}, "strides of at most 4"),
        ({"name": "segresnet", "strides": [[1, 2, 2], [2, 2, 2]]}, "segresnet needs network.strides of 2 only"),
        ({"name": "segresnet", "channels": [8, 16, 24]}, "doubled each level"),
        ({"name": "segresnet", "channels": [12, 24, 48]}, "a multiple of 8"),
        ({"name": "cached", "time": "before_norm"}, "cached needs network.time after_norm"),
        ({"name": "vnet"}, "allowed: unet, cached, dynunet, segresnet"),
    ],
    ids=lambda x: x if isinstance(x, str) else "-".join(x),
)
def test_what_a_network_cannot_do_is_refused_by_the_configuration(change, words):
    with pytest.raises(InputError, match=words):
        settings_of(**change)


def test_the_proposal_meets_the_same_rules(tmp_path):
    """Before the proposal is complete the networks are already built, to count their memory."""
    from DiffSegLib.training.plan import make_plan

    folder = make_dataset(tmp_path / "data", 4)
    supervised = ["diffusion.strategy=supervised", "training.batch=2"]
    for name, written in (("dynunet", ["network.channels=[8,16,32]"]), ("segresnet", [])):
        base, open_keys = config.choose("fast", None, [f"network.name={name}", *supervised, *written])
        plan = make_plan(folder, base, open_keys)
        widths = plan.settings.network.channels
        assert all(b == 2 * a for a, b in pairwise(widths)) and len(widths) >= 3
    for name, written, words in (
        ("dynunet", ["network.channels=[8,16]"], "at least 3"),
        ("dynunet", ["diffusion.strategy=recycling"], "without diffusion"),
        ("segresnet", ["network.strides=[[1,2,2],[2,2,2],[2,2,2]]"], "of 2 only"),
    ):
        with pytest.raises(InputError, match=words):  # before anything is proposed from the data
            config.choose("fast", None, [f"network.name={name}", *supervised, *written])


@pytest.mark.parametrize("name", NAMES)
def test_autocast_reaches_the_convolutions_in_training_and_in_prediction(name):
    network, settings = made(name)
    seen = []
    for each in network.modules():
        if isinstance(each, torch.nn.Conv3d):
            each.register_forward_hook(lambda _m, _i, output: seen.append(output.dtype))
    a_step(network.train(), settings, precision=torch.bfloat16)
    assert seen and set(seen) == {torch.bfloat16}
    seen.clear()
    image = torch.randn(1, 8, 12, 8)
    options = {"steps": 2, "precision": torch.bfloat16}
    list(sampling.Sampling(network.eval(), 3, (8, 12, 8), (2,) * 3, settings.diffusion, **options).volumes(image))
    assert seen and set(seen) == {torch.bfloat16}


@pytest.mark.parametrize("name", ["unet", "cached"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_a_network_that_is_made_ready_gives_the_same_numbers(name, dtype):
    network, settings = made(name)
    weights = {key: value.clone() for key, value in network.state_dict().items()}
    cpu = torch.device("cpu")
    fast = ready(network, cpu, dtype)
    image, mask, t = inputs_of(settings, (8, 8, 8))
    with torch.inference_mode(), autocast(cpu, dtype):
        assert torch.equal(fast(image, mask, t), network.eval()(image, mask, t))
    assert all(torch.equal(value, weights[key]) for key, value in network.state_dict().items()), "the model stays"
    casts = {module.weight.dtype for module in fast.modules() if isinstance(module, torch.nn.Conv3d)}
    assert casts == {dtype}
