"""A key that acts only beside certain values: it acts there, does nothing elsewhere, and elsewhere is refused."""

import json
import re

import pytest
import torch

from conftest import ROOT, TINY
from DiffSegLib import commands, config
from DiffSegLib.config_idle import ACTS
from DiffSegLib.data.patches import batch_of
from DiffSegLib.diffusion.process import make_process
from DiffSegLib.errors import InputError
from DiffSegLib.models.card import parse_card
from DiffSegLib.models.shipped import read_card
from DiffSegLib.network.build import build
from DiffSegLib.presets import PRESETS
from DiffSegLib.training.rate import learning_rate
from DiffSegLib.training.step import training_loss
from DiffSegLib.training.time_sampling import TimeSampler
from DiffSegLib.training.validation import sampled
from small_training import blobs, settings_of, small_training, state_of

PLAIN = "diffusion.strategy=supervised"
TWIN = ("network.name=dynunet", PLAIN, "network.channels=[4,8,16]", "network.strides=[[2,2,2],[1,1,1]]")
OFF = {
    each: f"augment.{each}_probability" for each in ("affine", "contrast", "gamma", "blur", "low_resolution", "noise")
}
NOISY = [[PLAIN]]
# key -> a value that nobody has by default, choices beside which it acts, and sets of choices beside which it does not
ROWS = {
    "network.blocks": ("3", [], [TWIN]),
    "network.heads": ("4", [], [["network.attention=false"], TWIN]),
    "network.attention": ("false", [], [TWIN]),
    "network.activation": ("silu", [], [TWIN]),
    "network.time": ("before_norm", ["network.name=unet"], [["network.name=unet", PLAIN]]),
    "diffusion.schedule": ("cosine", [], NOISY),
    "diffusion.timesteps": ("501", [], NOISY),
    "diffusion.train_steps": ("4", [], NOISY),
    "diffusion.beta_start": ("0.0005", [], [[PLAIN], ["diffusion.schedule=cosine"]]),
    "diffusion.beta_end": ("0.03", [], [[PLAIN], ["diffusion.schedule=cosine"]]),
    "diffusion.time": ("index", [], NOISY),
    "diffusion.variance": ("fixed_large", [], NOISY),
    "diffusion.eta": ("0.5", [], NOISY),
    "diffusion.time_sampling": ("loss_aware", [], NOISY),
    "diffusion.fusion": ("mean", [], NOISY),
    "diffusion.clip_x_start": ("false", ["diffusion.parametrisation=v"], [[]]),
    "diffusion.reverse_step": ("true", ["diffusion.strategy=recycling_next"], [["diffusion.strategy=recycling"]]),
    "diffusion.recycling_last": ("false", ["diffusion.strategy=recycling"], [["diffusion.strategy=standard"]]),
    "diffusion.self_conditioning_probability": (
        *("0.9", ["diffusion.strategy=self_conditioning"]),
        [["diffusion.strategy=recycling"]],
    ),
    "diffusion.self_conditioning_input": (
        *("reference", ["diffusion.strategy=self_conditioning_next"]),
        [["diffusion.strategy=self_conditioning"]],
    ),
    "diffusion.importance_weight": (
        *("reference", ["diffusion.time_sampling=loss_aware"]),
        [[], ["diffusion.time_sampling=loss_aware", PLAIN]],
    ),
    "loss.soft_borders": ("1.0", [], [["loss.cross_entropy=0"]]),
    "loss.focal_gamma": ("3.0", ["loss.focal=1"], [[]]),
    "training.iterations": ("9", [], [["training.minutes=0.01"]]),
    "training.learning_rate_start": ("0.0001", [], [["training.warmup=0"]]),
    "training.decay": ("0.5", [], [["training.learning_rate_end=0.001"]]),
    "training.deterministic": ("true", [], [["training.minutes=0.01"]]),
    "training.patience": ("3", ["training.validations=4"], [["training.validations=3"]]),
}
for change, chance in OFF.items():
    others = [f"{each}=0" for each in OFF.values() if each != chance]
    ranges = {"affine": ["rotation", "scale", "shift"], "contrast": ["contrast", "brightness"]}.get(change, [change])
    still = [f"augment.{each}={int(each == 'low_resolution')}" for each in ranges]
    ROWS[chance] = ("0.3" if change == "affine" else "0.9", others, [[*others, *still]])
    ROWS |= {f"augment.{each}": ("3.0", [*others, f"{chance}=1"], [[*others, f"{chance}=0"]]) for each in ranges}
ROWS |= {f"augment.{each}": ("0.5", *ROWS[f"augment.{each}"][1:]) for each in ("scale", "contrast")}
LOOP = (
    "training.iterations",
    "training.patience",
    "training.deterministic",
)  # only a whole training shows what these do
IDLE = [(key, value, choices) for key, (value, _, every) in ROWS.items() for choices in every]


def outcome(assignments) -> list[torch.Tensor]:
    """What a configuration makes: patches, learning rates, losses with their gradient, and sampled probabilities."""
    settings = settings_of("data.patch=[8,8,8]", *assignments)
    cases, process = blobs(2), make_process(settings.diffusion)
    image, label = batch_of(cases, settings.data, settings.augment, 0, range(6))
    rates = torch.tensor([learning_rate(n / 50, settings) for n in range(50)])
    torch.manual_seed(0)
    network = build(settings.network, 1, 3, settings.diffusion)
    with torch.no_grad():
        for weight in network.parameters():  # none as small as a fresh one may be
            weight.add_(0.1 * torch.randn(weight.shape))
    times = TimeSampler(settings.diffusion, len(process))
    times.counts[:], times.squares[:] = 20, [1 + n % 5 for n in range(len(process))]
    loss = training_loss(network, image, label, 3, process, settings, times, range(6), torch.float32)
    loss.mean.backward()
    slopes = [weight.grad.flatten() for weight in network.parameters() if weight.grad is not None]
    found = [image, label.float(), rates, loss.mean.detach(), loss.per_sample, torch.cat(slopes)]
    network.eval()
    with torch.no_grad():
        for sampler in ("ddim", "ddpm"):
            found += sampled(network, cases[0].image, 3, settings, sampler=sampler)
    return found


def same(first: list[torch.Tensor], second: list[torch.Tensor]) -> bool:
    # the gamma of an exponent of 1 goes to [0, 1] and back, with its rounding
    pairs = zip(first, second, strict=True)
    return all(a.shape == b.shape and torch.allclose(a, b, rtol=1e-4, atol=1e-5) for a, b in pairs)


def nested(assignments) -> dict:
    whole: dict = {}
    for each in assignments:
        key, _, text = each.partition("=")
        section, _, name = key.partition(".")
        try:
            value = json.loads(text)
        except ValueError:
            value = text
        whole.setdefault(section, {})[name] = value
    return whole


def test_the_page_says_with_what_each_key_acts():
    assert set(ROWS) == set(ACTS)
    table = (ROOT / "docs" / "training.md").read_text(encoding="utf-8").split("## All settings")[1]
    rows = re.findall(r"^\| `(\w+\.\w+)` \| .+? \|.*\| (.*)\|$", table, re.MULTILINE)
    assert {key: words.replace("`", "").strip() for key, words in rows if words} == ACTS


@pytest.mark.parametrize("key", [key for key in ROWS if key not in LOOP])
def test_a_key_acts_beside_what_it_needs(key):
    value, choices, _ = ROWS[key]
    assert not same(outcome(choices), outcome([*choices, f"{key}={value}"]))


@pytest.mark.parametrize(("key", "value", "choices"), [row for row in IDLE if row[0] not in LOOP])
def test_a_key_that_is_refused_would_have_done_nothing(key, value, choices):
    assert same(outcome(choices), outcome([*choices, f"{key}={value}"]))


@pytest.mark.parametrize("key", ROWS)
def test_a_key_that_acts_is_taken(key, tmp_path):
    value, choices, _ = ROWS[key]
    written = [f"{key}={value}", *choices]
    section, _, name = key.partition(".")
    (tmp_path / "part.json").write_text(json.dumps(nested(written)))
    for settings, _ in (config.choose("default", None, written), config.choose("", tmp_path / "part.json", [])):
        assert str(getattr(getattr(settings, section), name)).lower() == value


@pytest.mark.parametrize(("key", "value", "choices"), IDLE)
def test_a_key_that_would_do_nothing_is_refused_with_the_reason_and_the_way_out(key, value, choices, tmp_path):
    written = [f"{key}={value}", *choices]
    (tmp_path / "part.json").write_text(json.dumps(nested(written)))
    words = rf"{re.escape(key)} is {value}, which does nothing: it acts with (?P<with>.+) only; here .+\.$"
    for where, source, assigned in (("--set", None, written), ("part.json", tmp_path / "part.json", [])):
        with pytest.raises(InputError, match=f"{where}: {words}") as told:
            config.choose("default", source, assigned)
        found = re.search(words, str(told.value))
        assert found and found["with"] in ACTS[key].split(" and ") and len(str(told.value)) < 320


def test_a_default_and_nothing_ask_for_nothing():
    config.choose("default", None, ["diffusion.reverse_step=false", "augment.noise=0", "augment.noise_probability=0"])
    config.choose("default", None, ["diffusion.strategy=supervised", "diffusion.self_conditioning_probability=0"])


@pytest.mark.parametrize(
    "change", [[], [PLAIN], ["diffusion.strategy=standard", "training.ema=0.5", "training.batch=3"]]
)
@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_and_what_a_run_keeps_of_it_are_taken_but_not_what_is_changed_there(name, change, tmp_path):
    kept = config.choose(name, None, change)[0].to_json()
    path = tmp_path / "config.json"
    path.write_text(json.dumps(kept))
    assert config.choose("default", path, [])[0].to_json() == kept
    timed = {
        **kept,
        "training": {**kept["training"], "minutes": 2.0, "iterations": 7},
    }  # --minutes beside another's file
    assert config.choose("default", timed, [])[0].to_json() == timed
    for section, key, value in (("diffusion", "reverse_step", True), ("loss", "focal_gamma", 2.5)):
        edited = {**kept, section: {**kept[section], key: value}}
        acts = {"reverse_step": kept["diffusion"]["strategy"] == "recycling_next", "focal_gamma": kept["loss"]["focal"]}
        path.write_text(json.dumps(edited))
        if acts[key]:
            assert config.choose("default", path, [])[0].to_json() == edited
        else:
            with pytest.raises(InputError, match=rf"config\.json: {section}\.{key} is .*does nothing"):
                config.choose("default", path, [])
            with pytest.raises(InputError, match=rf"configuration: {section}\.{key} is .*does nothing"):
                config.choose("default", edited, [])


def test_what_only_a_preset_leaves_idle_is_nobody_s_unless_it_is_written():
    config.choose("imgx-v0.1", None, ["diffusion.time_sampling=uniform"])
    with pytest.raises(InputError, match="importance_weight is reference, which does nothing"):
        config.choose("imgx-v0.1", None, ["diffusion.importance_weight=reference"])
    mixed = config.choose("default", None, [])[0].to_json()
    mixed["diffusion"]["self_conditioning_input"] = "reference"  # as imgx-v0.2 has it, to which this is not near
    with pytest.raises(InputError, match="self_conditioning_input is reference, which does nothing"):
        config.choose("default", mixed, [])


def test_what_one_choice_implies_counts():
    with pytest.raises(InputError, match=r"eta is 0\.5, .*; here diffusion\.strategy is supervised"):
        config.choose("default", None, ["network.name=dynunet", "diffusion.eta=0.5"])


def test_a_card_with_keys_that_do_nothing_still_loads(tiny_model):
    data = read_card(tiny_model).to_json()
    data["diffusion"] |= {"reverse_step": True, "clip_x_start": False, "importance_weight": "reference"}
    assert parse_card(json.dumps(data), "here").diffusion.reverse_step


def test_a_run_with_keys_that_do_nothing_still_resumes(tmp_path):
    from DiffSegLib.training.run import kept_config

    settings = config.from_json({**TINY, "diffusion": {"reverse_step": True}})
    (tmp_path / "config.json").write_text(json.dumps(settings.to_json()))
    assert kept_config(tmp_path) == settings


def test_one_budget_of_the_command_line_takes_the_place_of_the_other(dataset, tmp_path, capsys):
    (tmp_path / "mine.json").write_text(json.dumps({"training": {"iterations": 9}}))
    command = ["train", "--data", str(dataset), "--plan-only", "--config", str(tmp_path / "mine.json"), "--json"]
    for more, wanted in ((["--minutes", "2"], (5000, 2.0)), (["--iterations", "3"], (3, None)), ([], (9, None))):
        assert commands.run([*command, *more]) == 0
        found = json.loads(capsys.readouterr().out.splitlines()[-1])["config"]["training"]
        assert (found["iterations"], found["minutes"]) == wanted
    (tmp_path / "mine.json").write_text(json.dumps({"training": {"minutes": 9}}))
    assert commands.run([*command, "--iterations", "3"]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])["config"]["training"]
    assert (found["iterations"], found["minutes"]) == (3, None)
    assert commands.run([*command, "--minutes", "2", "--set", "training.iterations=7"]) == 2
    assert "training.iterations is 7, which does nothing" in capsys.readouterr().err
    assert commands.run([*command, "--set", "training.iterations=7"]) == 2


def test_the_iterations_and_the_patience_of_a_training(tmp_path):
    def ended(name: str, *changes: str) -> int:
        small_training(tmp_path / name, settings_of("training.learning_rate_start=0", *changes))
        return state_of(tmp_path / name)["progress"]["iteration"]

    assert [ended(f"n{n}", f"training.iterations={n}") for n in (1, 3)] == [1, 3]
    assert ended("minutes", "training.iterations=1", "training.minutes=0.02") > 1
    still = ["training.iterations=6", "training.validations=6", "training.learning_rate=1e-12"]
    still += ["training.learning_rate_end=0", "training.ema=0"]
    assert ended("patient", *still, "training.patience=6") == ended("always", *still) == 6
    assert ended("hasty", *still, "training.patience=2") < 6
