"""Every Python example of docs/console.md, one after another in one console, as a reader would type them."""

import ast
import re

import numpy as np
import pytest

from conftest import ROOT, make_dataset

pytest.importorskip("slicer", reason="needs the package slicer-core")

import slicer
import slicer.util

import one_window
from DiffSegLib.commands import make_parser
from DiffSegLib.data.files import write_volume
from DiffSegLib.scene import nodes, sample_data
from DiffSegLib.scene.host import inside_slicer
from DiffSegLib.scene.process import WorkerClient
from host.application import need_window

need_window()

host = one_window.host  # fixtures

PAGE = ROOT / "docs" / "console.md"


def examples():
    """(line, code) of each Python block of the page."""
    text = PAGE.read_text(encoding="utf-8")
    blocks = re.finditer(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return [(text[: block.start(1)].count("\n") + 1, block[1]) for block in blocks]


@pytest.fixture(scope="module")
def console(host, tmp_path_factory):
    """What a reader has: Slicer, the module, a folder of scans, a labelled folder, a segmentation drawn by hand."""
    client = WorkerClient()
    slicer.mrmlScene.Clear(0)
    window = host.open()
    window.logic._client = client
    volume = sample_data.load()
    prediction = window.logic.segment(volume, keepSteps=False, name="By hand")
    nodes.write_labels(prediction.node, np.roll(prediction.mask, 1, axis=1), volume, prediction.labels)
    folder = tmp_path_factory.mktemp("console")
    (folder / "scans").mkdir()
    for n in range(2):
        array = np.roll(nodes.volume_array(volume), n, axis=2).astype(np.float32)
        write_volume(folder / "scans" / f"scan{n}.nii.gz", array, nodes.ijk_to_lps(volume))
    make_dataset(folder / "dataset")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        if not inside_slicer():
            patch.setattr(slicer.util, "getModuleLogic", lambda name: {"DiffSeg": window.logic}[name])
            patch.setattr(slicer.util, "loadVolume", lambda path: host.scene_host.load_volume(path, "scan"))
            patch.setattr(slicer.util, "saveNode", save_node)
        yield {"__name__": "__console__", "slicer": slicer}, client
    client.shutdown()
    host.close()


def save_node(node, path):
    """What slicer.util.saveNode does, without the application."""
    node.AddDefaultStorageNode()
    node.GetStorageNode().SetFileName(path)
    return bool(node.GetStorageNode().WriteData(node))


@pytest.mark.parametrize(("line", "code"), examples(), ids=lambda value: str(value) if isinstance(value, int) else "")
def test_the_example_runs(host, console, line, code):
    names, client = console
    exec(compile("\n" * line + code, str(PAGE), "exec"), names)
    host.wait_for(lambda: not client.busy)


def test_the_examples_did_what_the_page_says(console):
    names, _ = console
    if "found" not in names:
        pytest.skip("needs the examples before it")
    result, another, evaluation = (names[name] for name in ("result", "another", "evaluation"))
    text = PAGE.read_text(encoding="utf-8")
    written = ast.literal_eval(re.search(r"print\(result.volumesMl\)  # (\{.*\})", text)[1])
    assert result.volumesMl == pytest.approx(written, rel=0.02)  # processors round differently
    assert another.node.GetName() == "With options" and len(another.masks) == len(another.steps) == 5
    assert len(result.steps) == 5 and "cancelled" in str(names["running"].error)
    assert {found["outcome"] for found in evaluation.segments.values()} == {"found"}
    for key in next(iter(evaluation.segments.values())):
        assert f"`{key}`" in text
    assert evaluation.table.GetNumberOfRows() == 2 and names["chart"].GetNumberOfPlotSeriesNodes() == 2
    assert sorted(path.name for path in names["Path"]("masks").iterdir()) == ["scan0.seg.nrrd", "scan1.seg.nrrd"]


def test_the_example_of_the_readme_runs(console):
    names, _ = console
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    exec(re.search(r"### From the console\n\n```python\n(.*?)```", text, re.DOTALL)[1], names)
    assert names["evaluation"].segments and "docs/console.md" in text


@pytest.mark.parametrize("page", [PAGE, ROOT / "README.md"], ids=lambda page: page.name)
def test_the_batch_is_called_by_a_file_and_options_that_there_are(page):
    call = re.search(r"--python-script (?:PATH/)?(\S+) -- \\\n\s+(.*)", page.read_text(encoding="utf-8"))
    assert (ROOT / call[1]).is_file()
    assert make_parser().parse_args(["predict", *call[2].split()]).skip_existing
