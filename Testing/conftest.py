"""Shared fixtures: small synthetic data that every clone can make, and a tiny trained-looking model."""

import json
import os
import runpy
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # tiny tensors: more threads only wait for each other
if "diffseg-home-" not in os.environ.get("DIFFSEG_HOME", ""):  # a test's child, which may be killed, has its parent's
    HOME = tempfile.TemporaryDirectory(prefix="diffseg-home-")  # no model of the user's
    os.environ["DIFFSEG_HOME"] = HOME.name
worker = os.environ.get("PYTEST_XDIST_WORKER")
if worker and Path(os.environ["DIFFSEG_HOME"]).name != worker:
    os.environ["DIFFSEG_HOME"] += f"/{worker}"  # tests at the same time change no model of each other's
ROOT = Path(__file__).resolve().parent.parent
OFFLINE = Path(__file__).resolve().parent / "offline"
for folder in (ROOT, OFFLINE.parent):
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(OFFLINE), os.environ.get("PYTHONPATH")]))
runpy.run_path(str(OFFLINE / "sitecustomize.py"))  # nothing here, nor in what it starts, reaches another machine


def blob_case(seed: int, shape: tuple[int, int, int] = (18, 22, 20)) -> tuple[np.ndarray, np.ndarray]:
    """An image (K, J, I) float32 of two touching bright blobs in noise, and its label map (1, 2)."""
    rng = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"))
    center = np.array(shape) / 2 + rng.uniform(-2, 2, 3)
    label = np.zeros(shape, dtype=np.uint8)
    for value, offset in ((1, -3.0), (2, 3.0)):
        middle = center + np.array([0.0, offset, 0.0])
        label[((grid - middle[:, None, None, None]) ** 2).sum(0) < 16.0] = value
    image = np.array([0.0, 2.0, 4.0])[label] + 0.3 * rng.standard_normal(shape)
    return (100 * image).astype(np.float32), label


def turned(x: float, y: float, z: float) -> np.ndarray:
    """(3, 3) rotation by angles in degrees about the fixed axes x, y and z, one after the other."""
    (a, b, c), (p, q, r) = np.cos(np.radians((x, y, z))), np.sin(np.radians((x, y, z)))
    about_x = np.array([[1, 0, 0], [0, a, -p], [0, p, a]])
    about_y = np.array([[b, 0, q], [0, 1, 0], [-q, 0, b]])
    return np.array([[c, -r, 0], [r, c, 0], [0, 0, 1]]) @ about_y @ about_x


def write_image(path: Path, array: np.ndarray, affine: np.ndarray | None = None) -> Path:
    """Write an array with SimpleITK, ijk -> LPS affine."""
    import SimpleITK as sitk

    image = sitk.GetImageFromArray(array)
    if affine is not None:
        spacing = np.linalg.norm(affine[:3, :3], axis=0)
        image.SetSpacing(spacing.tolist())
        image.SetDirection((affine[:3, :3] / spacing).ravel().tolist())
        image.SetOrigin(affine[:3, 3].tolist())
    sitk.WriteImage(image, str(path))
    return path


def make_dataset(folder: Path, count: int = 6) -> Path:
    """A folder in MSD layout with `count` blob cases."""
    for part in ("imagesTr", "labelsTr"):
        (folder / part).mkdir(parents=True)
    entries = []
    for n in range(count):
        image, label = blob_case(n)
        write_image(folder / "imagesTr" / f"blob_{n:02d}.nii.gz", image)
        write_image(folder / "labelsTr" / f"blob_{n:02d}.nii.gz", label)
        entries.append({"image": f"./imagesTr/blob_{n:02d}.nii.gz", "label": f"./labelsTr/blob_{n:02d}.nii.gz"})
    description = {
        "name": "Blobs",
        "licence": "CC0",
        "modality": {"0": "MRI"},
        "labels": {"0": "background", "1": "first", "2": "second"},
        "training": entries,
    }
    (folder / "dataset.json").write_text(json.dumps(description))
    return folder


# no random change at all
STILL = {f"{change}_probability": 0.0 for change in ("affine", "contrast", "gamma", "blur", "low_resolution", "noise")}
TINY = {
    "data": {"patch": [16, 16, 16]},
    "network": {"channels": [8, 16], "strides": [[2, 2, 2]], "blocks": 1, "heads": 2},
    "training": {"iterations": 6, "batch": 2, "validations": 2, "precision": "fp32"},
}


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """A small data set in MSD layout."""
    return make_dataset(tmp_path / "data")


def need_torch():
    """The package, or the test is skipped: Slicer's own Python may have none."""
    return pytest.importorskip("torch", reason="Slicer's Python has no torch; install it in the section Environment")


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model file with a tiny untrained network; enough for everything but accuracy."""
    torch = need_torch()

    from DiffSegLib import config
    from DiffSegLib.labels import labels_from_names
    from DiffSegLib.models import store
    from DiffSegLib.models.card import card_of
    from DiffSegLib.network.build import build

    settings = config.from_json(TINY)
    torch.manual_seed(0)
    network = build(settings.network, 1, 3)
    card = card_of(settings, name="tiny", labels=labels_from_names({1: "first", 2: "second"}), channels=("MRI",))
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    store.save(path, network.state_dict(), card)
    return path


FAILED: set[str] = set()
COUNTED: list[dict] = []  # of each process that ran tests


def pytest_runtest_logreport(report):
    if report.failed:
        FAILED.add(report.nodeid)


@pytest.hookimpl(optionalhook=True)  # known to pytest-xdist alone
def pytest_testnodedown(node):
    COUNTED.extend(filter(None, [getattr(node, "workeroutput", {}).get("tally")]))  # nothing of one that was killed


def pytest_sessionfinish(session):
    """DIFFSEG_TALLY: a file for how often something was tried, which Testing/bad/table.py puts on a page."""
    if not (path := os.environ.get("DIFFSEG_TALLY")):
        return
    import tally

    found = tally.result(FAILED)
    if hasattr(session.config, "workeroutput"):  # one process of several: the first adds them up
        session.config.workeroutput["tally"] = found
    else:
        Path(path).write_text(json.dumps(tally.total([found, *COUNTED]), indent=1) + "\n", encoding="utf-8")
