"""Several models as one: the mean of their answers, in one file, for every way of segmenting."""

import json

import numpy as np
import pytest
import torch

from conftest import TINY, blob_case
from DiffSegLib import config
from DiffSegLib.commands import run
from DiffSegLib.data.preprocess import to_model_space
from DiffSegLib.data.volume import Volume
from DiffSegLib.diffusion.gaussian import mask_to_x
from DiffSegLib.errors import InputError
from DiffSegLib.inference.predict import Predictor
from DiffSegLib.inference.sampling import Sampling
from DiffSegLib.jobs import SegmentOptions
from DiffSegLib.labels import labels_from_names
from DiffSegLib.models import store
from DiffSegLib.models.card import card_of, parse_card
from DiffSegLib.models.join import join
from DiffSegLib.models.shipped import home, read_card
from DiffSegLib.network.build import build
from tools.edit_card import edit_card


def model(path, seed=0, classes="exclusive", **changes):
    """A model file with random weights; changes: of the diffusion or, for `name`, of the network."""
    name = changes.pop("name", "unet")
    network = {**TINY["network"], "name": name, **changes.pop("network", {})}
    made = config.from_json(
        {**TINY, "network": network, "diffusion": {"classes": classes, **changes}}
        | {"loss": {"vlb": float("variance" in changes), "mse": float("parametrisation" in changes)}}
    )
    torch.manual_seed(seed)
    built = build(made.network, 1, 3, made.diffusion)
    labels = labels_from_names({1: "first", 2: "second"})
    store.save(path, built.state_dict(), card_of(made, name=path.stem, labels=labels, channels=("MRI",)))
    return path


@pytest.fixture
def pair(tmp_path):
    return [
        model(tmp_path / "diffusion.safetensors", 1, name="cached"),
        model(tmp_path / "twin.safetensors", 2, strategy="supervised"),
    ]


@pytest.mark.parametrize(
    "change",
    [
        {"network": {"strides": [[2, 2], [2, 2, 2]]}},
        {"network": {"strides": [[4, 4, 4]], "channels": [4, 8]}},
        {"network": {"name": "dynunet"}},
        {"diffusion": {"strategy": "standard"}},
    ],
)
def test_the_network_of_an_ensemble_s_card_is_its_first_member(pair, tmp_path, change):
    card = json.loads(json.dumps(join(pair, "both", tmp_path / "both.safetensors").to_json()))
    assert parse_card(json.dumps(card), "here").members[0].network.name == "cached"
    for section, values in change.items():
        card[section] |= values
    with pytest.raises(InputError, match="here: the first of members of its model card must be its network"):
        parse_card(json.dumps(card), "here")


def scan():
    return Volume(blob_case(0)[0][None], np.eye(4), "scan")


def test_with_one_step_the_answer_is_the_mean_of_the_members(pair, tmp_path):
    join(pair, "both", tmp_path / "both.safetensors")
    models = [store.load(path) for path in (*pair, tmp_path / "both.safetensors")]
    image, _ = to_model_space(scan(), models[0].card.data)

    def answer(each):
        how = Sampling(each.network, 3, (16,) * 3, (2,) * 3, each.card.diffusion, steps=1)
        return list(how.volumes(image))[-1]

    first, second, both = map(answer, models)
    torch.testing.assert_close(both, (first + second) / 2, atol=1e-4, rtol=0)
    assert (first - second).abs().max() > 0.01


def test_the_chain_goes_on_from_the_mean_and_a_twin_is_asked_once(pair, tmp_path):
    join(pair, "both", tmp_path / "both.safetensors")
    network = store.load(tmp_path / "both.safetensors").network
    shown, asked = [], []
    diffusion, twin = network.members
    true = diffusion.denoise
    diffusion.denoise = lambda features, mask, t: (shown.append(mask), true(features, mask, t))[1]
    twin.register_forward_hook(lambda *_: asked.append(1))
    image = torch.randn(1, 16, 16, 16)
    config_of = store.load(pair[0]).card.diffusion
    answers = list(Sampling(network, 3, (16,) * 3, (2,) * 3, config_of, steps=3).volumes(image))
    assert len(asked) == 1 and len(shown) == 3
    nearly_clean = (mask_to_x(shown[-1][0]) - mask_to_x(answers[1])).abs().mean()
    assert nearly_clean < 0.1, "the last step sees the mean of the second one's answers"


def test_overlapping_regions_are_averaged_too(tmp_path):
    paths = [model(tmp_path / f"{n}.safetensors", n, classes="overlapping") for n in (1, 2)]
    networks = [store.load(path).network for path in paths]
    join(paths, "both", tmp_path / "both.safetensors")
    both = store.load(tmp_path / "both.safetensors").network
    image, mask, t = torch.randn(1, 1, 16, 16, 16), torch.rand(1, 3, 16, 16, 16), torch.ones(1)
    wanted = torch.stack([torch.sigmoid(each(image, mask, t)) for each in networks]).mean(0)
    torch.testing.assert_close(torch.sigmoid(both(image, mask, t)), wanted, atol=2e-5, rtol=0)


def test_an_ensemble_segments_like_any_model_and_its_card_tells_its_members(pair, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("DIFFSEG_HOME", str(tmp_path / "home"))
    assert run(["models", "--join", *map(str, pair), "--name", "together", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    path = home() / "models" / "together.safetensors"
    assert answer["path"] == str(path) and answer["members"] == 2
    card = read_card(path)
    assert [member.strategy for member in card.members] == ["recycling", "supervised"]
    assert [member.network.name for member in card.members] == ["cached", "unet"]
    found = Predictor(store.load(path), "cpu")(scan(), SegmentOptions(keep_steps=True))
    assert len(found.steps) == 5 and found.provenance["model"] == "together"


def test_an_ensemble_is_mirrored_only_as_all_its_members_were_in_training(pair, tmp_path):
    for path, flip in zip(pair, ([True, False, True], [False, False, True]), strict=True):
        edit_card(path, {"flip": flip})
    assert join(pair, "together", tmp_path / "together.safetensors").flip == (False, False, True)


@pytest.mark.parametrize(
    ("second", "words"),
    [
        ({"classes": "overlapping"}, r"differs from .*one.safetensors in diffusion.classes"),
        ({"parametrisation": "epsilon"}, "only models that predict x_start"),
        ({"variance": "learned"}, "only models that predict x_start"),
        ({"strategy": "self_conditioning"}, "without self-conditioning"),
        ({"network": {"strides": [[1, 2, 2]]}}, r"differs from .*one.safetensors in network.strides"),
    ],
)
def test_models_that_do_not_go_together_are_refused(tmp_path, second, words):
    paths = [model(tmp_path / "one.safetensors"), model(tmp_path / "two.safetensors", **second)]
    with pytest.raises(InputError, match=words):
        join(paths, "both", tmp_path / "both.safetensors")
    assert not (tmp_path / "both.safetensors").exists()


def test_what_is_no_ensemble_is_told(pair, tmp_path, capsys):
    for too_few in (pair[:1], [pair[0], pair[0]], [*pair, pair[0]]):
        with pytest.raises(InputError, match="at least two models, each of them once"):
            join(too_few, "x", tmp_path / "x.safetensors")
    with pytest.raises(InputError, match="name a diffusion model first"):
        join(pair[::-1], "x", tmp_path / "x.safetensors")
    join(pair, "both", tmp_path / "both.safetensors")
    with pytest.raises(InputError, match="is an ensemble already"):
        join([tmp_path / "both.safetensors", pair[0]], "x", tmp_path / "x.safetensors")
    assert run(["models", "--join", "a"]) == 2 and "--join and --name go together" in capsys.readouterr().err


def test_a_card_with_a_member_that_is_none_is_refused(pair, tmp_path):
    from DiffSegLib.models.card import parse_card

    join(pair, "both", tmp_path / "both.safetensors")
    card = read_card(tmp_path / "both.safetensors").to_json()
    for members in ([{"network": {}}], ["unet"], [{"network": {"name": "foo"}, "strategy": "recycling"}]):
        with pytest.raises(InputError, match="here"):
            parse_card(json.dumps({**card, "members": members}), "here")
