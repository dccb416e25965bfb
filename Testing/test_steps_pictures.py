"""What Slicer's own displayable managers draw of the steps: fill and outline in the slices, surfaces, the overlay."""

import json
import os
import subprocess
import sys

import pytest

from conftest import ROOT

pytest.importorskip("slicer", reason="needs the package slicer-core")

from DiffSegLib.scene.host import inside_slicer

# In a process of its own: VTK ends the process where it finds no OpenGL.
SCRIPT = """
import json
import numpy as np
from DiffSegLib.scene.host import SceneHost
from host import views
host = SceneHost()
views.prepare(host)
import slicer
import slicer.util
from DiffSegLib.labels import Label
from DiffSegLib.scene import nodes, steps, uncertainty
from DiffSegLib.scene.logic import Segmentation

def block(first, last):
    mask = np.zeros((20, 20, 20), np.uint8)
    mask[5:15, 5:15, first:last] = 1
    return mask

volume = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "scan")
slicer.util.updateVolumeFromArray(volume, np.full((20, 20, 20), 100, np.int16))
volume.CreateDefaultDisplayNodes()
volume.GetDisplayNode().AutoWindowLevelOff()
volume.GetDisplayNode().SetWindowLevel(200, 100)  # half grey
run = Segmentation("1", volume, labels=(Label(1, "green", (0.0, 1.0, 0.0)),), masks=[block(4, 8), block(4, 16)])
run.node = nodes.make_segmentation(volume, "green", "green", run.labels)
nodes.write_labels(run.node, run.masks[-1], volume, run.labels)
run.node.CreateClosedSurfaceRepresentation()
steps.finish(run)
cut, space = views.SliceView(host), views.ThreeDView(host)
cut.show(volume, (10, 10, 10))
space.look_from((0, 1, 0))

def near(picture, color):
    return int((np.abs(picture.astype(int) - color).max(-1) < 30).sum())

def seen():
    flat, solid = cut.picture(), space.picture().astype(int)
    return {
        "outline": near(flat, (0, 255, 0)),
        "fill": near(flat, (64, 191, 64)),
        "solid": int(((solid[..., 1] > solid[..., 0] + 40) & (solid[..., 1] > solid[..., 2] + 40)).sum()),
    }

found = {"background": near(cut.picture(), (128, 128, 128))}
for step in (1, 2):
    steps.show(run, step)
    found[str(step)] = seen()
run.node.GetDisplayNode().SetVisibility(False)
run.uncertainty = np.where(block(0, 10) > 0, 0.9, 0.0).astype(np.float32)
node = uncertainty.show(run)
found["plain"] = near(cut.picture(), (128, 128, 128))
uncertainty.overlay(node)
found["overlaid"] = near(cut.picture(), (128, 128, 128))
uncertainty.overlay(None)
found["again"] = near(cut.picture(), (128, 128, 128))
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def found():
    if inside_slicer():
        pytest.skip("draws in a process of its own")
    paths = os.pathsep.join([str(ROOT), str(ROOT / "Testing")])
    environment = {"VTK_DEFAULT_OPENGL_WINDOW": "vtkEGLRenderWindow", **os.environ, "PYTHONPATH": paths}
    ended = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, env=environment, check=False)
    if ended.returncode < 0:
        pytest.skip("needs OpenGL: EGL or OSMesa")
    assert ended.returncode == 0, ended.stderr[-2000:]
    return json.loads(ended.stdout.splitlines()[-1])


def test_each_step_is_drawn_with_fill_and_outline_in_its_own_size(found):
    first, second = found["1"], found["2"]
    assert first["outline"] > 100 and first["fill"] > 1000
    assert second["fill"] == pytest.approx(3 * first["fill"], rel=0.1)


def test_the_surface_of_each_step_is_drawn(found):
    assert found["1"]["solid"] > 500 and found["2"]["solid"] == pytest.approx(3 * found["1"]["solid"], rel=0.2)


def test_the_uncertainty_hides_nothing_where_it_is_zero_and_goes_again(found):
    assert found["plain"] == found["again"] == pytest.approx(160_000, rel=0.02)
    changed = found["plain"] - found["overlaid"]
    assert changed == pytest.approx(160_000 * 10 * 10 / 400, rel=0.15)
