"""A scene to load, segment and save in: Slicer's own inside Slicer, else real MRML from the package slicer-core."""

import os
import tempfile
import types
from pathlib import Path
from typing import Any

from DiffSegLib.errors import EnvironmentProblem
from DiffSegLib.scene.words import tr as _

# name in slicer.modules, class, folder below the share directory; "Colors" comes first: volumes need it when loaded
LOGICS = (
    ("Colors", "vtkSlicerColorLogic", ""),
    ("SubjectHierarchy", "vtkSlicerSubjectHierarchyModuleLogic", ""),
    ("Volumes", "vtkSlicerVolumesLogic", ""),
    ("Segmentations", "vtkSlicerSegmentationsModuleLogic", ""),
    ("Markups", "vtkSlicerMarkupsLogic", ""),
    ("Tables", "vtkSlicerTablesLogic", ""),
    ("Plots", "vtkSlicerPlotsLogic", ""),
    ("Sequences", "vtkSlicerSequencesLogic", ""),
    ("Transforms", "vtkSlicerTransformLogic", ""),
)


def inside_slicer() -> bool:
    """Whether this is the Slicer application, with or without its window."""
    import slicer

    return hasattr(getattr(slicer, "app", None), "applicationLogic")


class SceneHost:
    """An MRML scene with the module logics that segmentations and files need.

    Inside Slicer these are the application's own. Elsewhere they are made, and slicer.mrmlScene and slicer.modules are
    set; keep the host then, since the application logic holds the module logics weakly.
    """

    def __init__(self) -> None:
        try:
            import slicer
            import slicer.util
        except ImportError as problem:
            text = _("A scene needs the package slicer-core ({reason}); install it with: pip install slicer-core")
            raise EnvironmentProblem(text.format(reason=problem)) from None
        if inside_slicer():
            self.scene = slicer.mrmlScene
            self.logics: dict[str, Any] = {row[0]: getattr(slicer.modules, row[0].lower()).logic() for row in LOGICS}
        else:
            self._make(slicer)

    def _make(self, slicer: Any) -> None:
        import vtk

        # VTK prints and never raises; what can fail here is checked, and its lines would only clutter the console
        vtk.vtkLogger.SetStderrVerbosity(vtk.vtkLogger.VERBOSITY_OFF)
        self._folder = tempfile.TemporaryDirectory(prefix="DiffSeg-scene-")
        self.scene = slicer.vtkMRMLScene()
        self.application = slicer.vtkSlicerApplicationLogic()
        self.application.SetHomeDirectory(self._folder.name)
        self.application.SetShareDirectory("share")
        os.makedirs(os.path.join(self._folder.name, "share", "ColorFiles"))
        self.application.SetMRMLScene(self.scene)
        self.logics = {}
        for name, kind, folder in LOGICS:
            logic = getattr(slicer, kind)()
            share = os.path.join(self._folder.name, "share", folder)
            os.makedirs(share, exist_ok=True)
            if hasattr(logic, "SetModuleShareDirectory"):
                logic.SetModuleShareDirectory(share)
            logic.SetMRMLApplicationLogic(self.application)  # before the scene, or colour files are not found
            logic.SetMRMLScene(self.scene)
            self.application.SetModuleLogic(name, logic)
            self.logics[name] = logic
        self._add_file_access(slicer)
        slicer.mrmlScene = self.scene
        slicer.modules = types.SimpleNamespace(
            **{
                name.lower(): types.SimpleNamespace(logic=lambda found=found: found)
                for name, found in self.logics.items()
            }
        )

    def _add_file_access(self, slicer: Any) -> None:
        """Reading a scene bundle needs remote IO with a cache folder."""
        self._remote, self._data_io = slicer.vtkMRMLRemoteIOLogic(), slicer.vtkDataIOManagerLogic()
        for logic in (self._remote, self._data_io):
            logic.SetMRMLApplicationLogic(self.application)
            logic.SetMRMLScene(self.scene)
        cache = os.path.join(self._folder.name, "cache")
        os.makedirs(cache)
        self._remote.GetCacheManager().SetRemoteCacheDirectory(cache)
        self._data_io.SetAndObserveDataIOManager(self._remote.GetDataIOManager())
        self._remote.AddDataIOToScene()

    def load_volume(self, path: Path, name: str) -> Any:
        """A scalar volume node from an image file."""
        node = self.logics["Volumes"].AddArchetypeVolume(str(path), name)
        if node is None:
            raise EnvironmentProblem(_("{path}: could not be loaded into the scene.").format(path=path))
        return node

    def save_bundle(self, path: Path) -> None:
        """Write the scene as `.mrb`, aside first and then renamed."""
        aside = path.with_name(f"{path.stem}.part-{os.getpid()}.mrb")  # a name with a leading dot is refused
        if not self.scene.WriteToMRB(str(aside)):
            aside.unlink(missing_ok=True)
            raise EnvironmentProblem(_("{path}: the scene could not be written.").format(path=path))
        os.replace(aside, path)

    def read_bundle(self, path: Path) -> None:
        """Replace the scene by a `.mrb`."""
        if not self.scene.ReadFromMRB(str(path), True):
            raise EnvironmentProblem(_("{path}: the scene could not be read.").format(path=path))
