"""Where the 3D views look from before anybody has turned them."""

import slicer
import slicer.util

POSITION, FOCUS = (0.0, 500.0, 0.0), (0.0, 0.0, 0.0)  # of a new vtkMRMLCameraNode


def look_at_what_is_there() -> None:
    """Bring what the 3D views show into their middle, as Slicer does for the first model that is loaded.

    They look at the origin at first, and a scanner's coordinates may lie far from it. Once one of them was turned or
    moved, all are left as the user has them.
    """
    manager = getattr(getattr(slicer, "app", None), "layoutManager", None)
    cameras = slicer.util.getNodesByClass("vtkMRMLCameraNode")
    if manager is None or manager() is None or not cameras:  # no window
        return
    if all((camera.GetPosition(), camera.GetFocalPoint()) == (POSITION, FOCUS) for camera in cameras):
        slicer.util.resetThreeDViews()
