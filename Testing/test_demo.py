"""The demo on the real template: the hippocampi are where they belong, and every promised file is there."""

import contextlib
import io
import json
import re
import shutil

import numpy as np
import pytest
import SimpleITK as sitk

from conftest import ROOT
from DiffSegLib.commands import run
from DiffSegLib.data.files import read_label
from DiffSegLib.models.shipped import read_card, shipped

pytest.importorskip("nilearn", reason="needs the package nilearn")
pytest.importorskip("slicer", reason="needs the package slicer-core")

# Centres of the whole hippocampi in MNI space, mm to the right, anterior, superior, and how far a centre may be off.
# Harvard-Oxford and other atlases agree on about (+-27, -22, -14).
CENTERS = {"left": (-27.0, -22.0, -14.0), "right": (27.0, -22.0, -14.0)}
TOLERANCE_MM = 5.0


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    out = tmp_path_factory.mktemp("demo") / "out"
    with contextlib.redirect_stderr(io.StringIO()) as said:
        assert run(["demo", "--out", str(out)]) == 0
    assert re.search(r"\n100 %  \d+ files\nWrote:\n", said.getvalue())
    return out


def center_ras(mask, affine, side):
    """Mean position in RAS of the masked voxels of one hemisphere."""
    kji = np.argwhere(mask)
    lps = kji[:, ::-1] @ affine[:3, :3].T + affine[:3, 3]
    ras = lps * (-1, -1, 1)
    return ras[ras[:, 0] < 0 if side == "left" else ras[:, 0] > 0].mean(0)


@pytest.mark.parametrize("step", ["", ".step-1", ".step-3", ".step-5"])
@pytest.mark.parametrize("side", ["left", "right"])
def test_the_hippocampi_are_where_they_belong_at_every_step(demo, side, step):
    mask, affine = read_label(demo / f"mni152{step}.seg.nrrd")
    whole = center_ras(mask > 0, affine, side)
    assert np.abs(whole - CENTERS[side]).max() < TOLERANCE_MM
    anterior, posterior = (center_ras(mask == value, affine, side) for value in (1, 2))
    assert anterior[1] > posterior[1] + 10 and anterior[2] < posterior[2]


def test_both_sides_have_a_plausible_and_similar_size(demo):
    record = json.loads((demo / "mni152.json").read_text())
    sizes = {side: sum(record[side]["volumes_ml"].values()) for side in CENTERS}
    assert all(3.0 < size < 6.0 for size in sizes.values())
    assert abs(sizes["left"] - sizes["right"]) < 0.15 * sizes["left"]


def test_every_promised_file_is_there_and_the_mask_lies_on_the_templates_grid(demo):
    steps = [f"mni152.step-{n}.seg.nrrd" for n in range(1, 6)]
    pictures = ["steps-left.png", "steps-right.png", "surface.png"]
    names = {"mni152.nii.gz", "mni152.seg.nrrd", "mni152.mrb", "mni152.json", *steps, *pictures}
    assert {path.name for path in demo.iterdir()} == names
    image, mask = (sitk.ReadImage(str(demo / name)) for name in ("mni152.nii.gz", "mni152.seg.nrrd"))
    assert image.GetSize() == mask.GetSize() and image.GetDirection() == mask.GetDirection()
    np.testing.assert_allclose(image.GetOrigin(), mask.GetOrigin(), atol=1e-4)


def test_the_shipped_model_is_small_and_its_card_complete():
    path = shipped()["hippocampus"]
    card = read_card(path)
    assert path.stat().st_size <= 20_000_000
    assert card.licence == "CC BY-SA 4.0" and card.not_for and card.training["train_cases"] == 181
    assert card.scores["dice"] >= 0.86 and card.scores["dice_by_step"][-1] >= card.scores["dice_by_step"][0]
    assert [label.type[1] for label in card.labels] == ["5366008", "5366008"]


def test_the_python_example_of_the_readme_names_what_it_found_and_saves_it(demo, tmp_path, monkeypatch, capsys):
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (tmp_path / "demo").mkdir()
    shutil.copy(demo / "mni152.nii.gz", tmp_path / "demo")
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(re.search(r"From Python:\n\n```python\n(.*?)```", text, re.DOTALL)[1], names)
    said = capsys.readouterr().out
    assert re.fullmatch(r"Anterior hippocampus: \d\.\d\d ml\nPosterior hippocampus: \d\.\d\d ml\n", said)
    mask, affine = read_label(tmp_path / "masks" / "right.seg.nrrd")
    np.testing.assert_array_equal(mask, names["prediction"].mask)
    np.testing.assert_allclose(affine, names["volume"].affine, atol=1e-4)
    assert set(np.unique(mask)) == {0, 1, 2} and len(names["prediction"].steps) == 5
