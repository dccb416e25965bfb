"""The sample that comes with the module: the MNI152 template around the left hippocampus, for the shipped model.

Made by Testing/tools/make_sample.py; its licence stands beside it.
"""

from pathlib import Path
from typing import Any

import slicer
import slicer.util

from DiffSegLib.errors import InputError
from DiffSegLib.scene.host import inside_slicer
from DiffSegLib.scene.nodes import ATTRIBUTE
from DiffSegLib.scene.words import tr as _

CATEGORY = "DiffSeg"
NAME = "MNI152 left hippocampus"
FILE, THUMBNAIL = "mni152-left-hippocampus.nrrd", "mni152-left-hippocampus.png"
SHA256 = "a67583d801da3a7088393ff3526269d03c228970c4ae6d2ac07686bb9bb11226"


def sample_file(name: str = FILE) -> Path:
    """The path of a file of the sample; raises InputError where it was not installed.

    Resources/ lies beside DiffSegLib/ where the extension is installed, and in DiffSeg/ in the source tree.
    """
    root = Path(__file__).resolve().parents[2]
    places = [root / part / "SampleData" / name for part in ("Resources", "DiffSeg/Resources")]
    found = next((path for path in places if path.is_file()), None)
    if found is None:
        raise InputError(_("{path}: the sample is missing; install the extension again.").format(path=places[0]))
    return found


def load() -> Any:
    """The sample as a volume node of the scene, shown in the slice views; loaded once, then found again."""
    node = next(filter(_isSample, slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")), None)
    if node is None:
        path = sample_file()
        node = slicer.modules.volumes.logic().AddArchetypeVolume(str(path), NAME)
        if node is None:
            raise InputError(_("{path}: the sample cannot be read; install the extension again.").format(path=path))
        node.SetAttribute(ATTRIBUTE + "Sample", FILE)
    if inside_slicer():
        slicer.util.setSliceViewerLayers(background=node, fit=True)
    return node


def _isSample(node: Any) -> bool:
    """Whether a volume is the sample, loaded by the function above or by the Sample Data module."""
    storage = node.GetStorageNode()
    file = Path(storage.GetFileName() or "").name if storage is not None else ""
    return FILE in (node.GetAttribute(ATTRIBUTE + "Sample"), file)


def register() -> None:
    """Offer the sample in Slicer's Sample Data module; to be called when the application has started."""
    try:
        import SampleData
    except ImportError:  # a Slicer that was built without it
        return
    logic, path = SampleData.SampleDataLogic, sample_file()
    if hasattr(logic, "registerCustomSampleDataCategory"):  # new in 2026
        logic.registerCustomSampleDataCategory(CATEGORY, title=CATEGORY)
    logic.registerCustomSampleDataSource(
        category=CATEGORY,
        sampleName=NAME,
        thumbnailFileName=str(sample_file(THUMBNAIL)),
        uris=path.as_uri(),
        fileNames=path.name,
        checksums=f"SHA256:{SHA256}",
        nodeNames=NAME,
    )
