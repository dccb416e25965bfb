"""The versions in pyproject.toml, in the lock and among the oldest agree with each other and with the Makefile."""

import os
import re
import shutil
import subprocess
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from conftest import ROOT

TEXT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
PROJECT = tomllib.loads(TEXT)["project"]
LISTS = {"": PROJECT["dependencies"], **PROJECT["optional-dependencies"]}
LOCKED = ("", "scene", "demo", "test", "dev")  # "" is what runs; the others are extras
PINNED = ("", "demo", "test")  # what `make oldest` runs with, but for the scene's package, which has one version only
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")


def pins(name: str) -> dict[str, Version]:
    lines = (ROOT / "Testing" / name).read_text(encoding="utf-8").splitlines()
    pairs = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(package): Version(version) for package, version in pairs}


def torch_of(target: str) -> Version:
    return Version(re.search(rf"{target}.*?([0-9]+\.[0-9]+\.[0-9]+)", MAKEFILE, re.DOTALL)[1])


@pytest.mark.parametrize("text", [text for texts in LISTS.values() for text in texts])
def test_every_package_has_both_bounds_and_a_reason_in_its_line(text):
    operators = {part.operator for part in Requirement(text).specifier}
    assert operators == {"=="} or operators >= {">=", "<"}
    lines = [line for line in TEXT.splitlines() if f'"{text}"' in line]
    assert len(lines) == sum(texts.count(text) for texts in LISTS.values()), "a line for each package"
    assert all(re.search(r'", # \w.{5,}', line) for line in lines), lines


@pytest.mark.parametrize("needed", [Requirement(text) for name in PINNED for text in LISTS[name]], ids=str)
def test_the_oldest_version_is_the_lowest_that_is_allowed(needed):
    lowest = min(Version(part.version) for part in needed.specifier if part.operator == ">=")
    oldest = {**pins("oldest.txt"), "torch": torch_of(r"\noldest:")}[canonicalize_name(needed.name)]
    assert needed.specifier.contains(oldest) and oldest.release[: len(lowest.release)] == lowest.release


@pytest.mark.parametrize("extra", LOCKED)
def test_the_lock_has_a_version_of_everything_and_all_are_allowed(extra):
    locked = {**pins("lock.txt"), "torch": torch_of(r"\nTORCH \?=")}
    for needed in map(Requirement, LISTS[extra]):
        version = locked[canonicalize_name(needed.name)]
        assert needed.specifier.contains(version), f"{needed} does not take {version}"


def test_the_lock_leaves_torch_to_the_machine():
    assert not {"torch", "torchvision", "diffseg"} & set(pins("lock.txt"))
    assert not [name for name in pins("lock.txt") if name.startswith("nvidia")]


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
@pytest.mark.parametrize(
    ("says", "ends", "passes", "told"),
    [
        ("", 0, True, ""),
        ("scipy 1.17.1 CVE-1", 1, False, "found a vulnerability or could not work"),
        ("numpy Dependency not found on PyPI and could not be audited: numpy", 0, False, "Not done: 1 of"),
    ],
)
def test_packages_that_could_not_be_looked_up_do_not_pass_the_audit(tmp_path, says, ends, passes, told):
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "pip-audit"
    program.write_text(f"#!/bin/sh\necho '{says}'\nexit {ends}\n")
    program.chmod(0o755)
    (tmp_path / "torch.txt").write_text("torch==2.13.0+cpu\n")
    for done in (".torch-1", ".with-dev"):
        (tmp_path / done).touch()
    outside = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}  # of `make test`
    command = ["make", "TORCH=1", f"VENV={tmp_path}", "audit"]
    made = subprocess.run(command, cwd=ROOT, env=outside, capture_output=True, text=True, check=False)
    assert (made.returncode == 0) == passes and told in made.stdout and says in made.stdout
    assert "torch==2.13.0\n" in (tmp_path / "audit.txt").read_text()
