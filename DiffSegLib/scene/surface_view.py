"""A 3D picture of label surfaces without a graphics card or display: VTK makes the mesh, matplotlib shades it.

VTK's own rendering needs EGL or OSMesa and ends the process where there is none.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import vtk
from vtk.util.numpy_support import numpy_to_vtk, vtk_to_numpy

from DiffSegLib.errors import EnvironmentProblem
from DiffSegLib.labels import Label
from DiffSegLib.scene.words import tr as _

LIGHT = np.array([0.45, -0.55, 0.7]) / np.linalg.norm([0.45, -0.55, 0.7])


def label_mesh(
    mask: np.ndarray, value: int, spacing: tuple[float, ...], smooth: int = 20
) -> tuple[np.ndarray, np.ndarray]:
    """Points (n, 3) in mm as (x, y, z) and triangles (m, 3) of one label of a (z, y, x) mask; empty if absent."""
    inside = np.pad((mask == value).astype(np.uint8), 1)
    if not inside.any():
        return np.zeros((0, 3)), np.zeros((0, 3), dtype=int)
    image = vtk.vtkImageData()
    image.SetDimensions(*inside.shape[::-1])
    image.SetSpacing(*spacing[::-1])
    image.GetPointData().SetScalars(numpy_to_vtk(inside.ravel(), deep=True))
    surface = vtk.vtkFlyingEdges3D()
    surface.SetInputData(image)
    surface.SetValue(0, 0.5)
    soft = vtk.vtkWindowedSincPolyDataFilter()
    soft.SetInputConnection(surface.GetOutputPort())
    soft.SetNumberOfIterations(smooth)
    soft.SetPassBand(0.05)
    soft.NonManifoldSmoothingOn()
    soft.NormalizeCoordinatesOn()
    soft.Update()
    mesh = soft.GetOutput()
    points = vtk_to_numpy(mesh.GetPoints().GetData()) - np.array(spacing[::-1])
    triangles = vtk_to_numpy(mesh.GetPolys().GetConnectivityArray()).reshape(-1, 3)
    return points, triangles


def surface_picture(
    path: Path, mask: np.ndarray, labels: Sequence[Label], spacing: tuple[float, ...], title: str
) -> None:
    """Draw the surfaces of a (z, y, x) mask on canonical axes, seen from the front, above and the left; as PNG."""
    try:
        import matplotlib

        matplotlib.use("Agg")
        import matplotlib.pyplot as plt
        from mpl_toolkits.mplot3d.art3d import Poly3DCollection
    except ModuleNotFoundError:
        raise EnvironmentProblem(_("Pictures need the package matplotlib: pip install matplotlib")) from None
    figure = plt.figure(figsize=(10, 6.4), facecolor="#101214")
    axes = figure.add_subplot(projection="3d", facecolor="#101214", computed_zorder=False)
    triangles, colors, everything = [], [], []
    for label in labels:
        points, faces = label_mesh(mask, label.value, spacing)
        if not len(faces):
            continue
        corners = points[faces]
        normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        normals /= np.linalg.norm(normals, axis=1, keepdims=True) + 1e-12
        glow = 0.35 + 0.65 * np.abs(normals @ LIGHT)
        triangles.append(corners)
        colors.append(np.clip(np.array(label.color)[None] * glow[:, None], 0, 1))
        everything.append(points)
    if everything:
        # one collection: matplotlib sorts triangles by depth within a collection only
        axes.add_collection3d(
            Poly3DCollection(
                np.concatenate(triangles),
                facecolors=np.concatenate(colors),
                linewidths=0.3,
                edgecolors=np.concatenate(colors),
            )
        )
        cloud = np.concatenate(everything)
        low, high = cloud.min(0), cloud.max(0)
        axes.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), zlim=(low[2], high[2]))
        axes.set_box_aspect(high - low, zoom=0.98)
        for place, letter in (((low[0], None, None), "R"), ((high[0], None, None), "L"), ((None, low[1], None), "A")):
            middle = [(a + b) / 2 if p is None else p for p, a, b in zip(place, low, high, strict=True)]
            axes.text(*middle, letter, color="#ffd84d", fontsize=11)
    axes.view_init(elev=22, azim=-65)
    axes.set_axis_off()
    figure.suptitle(title, color="#e6e6e6", fontsize=13, y=0.95)
    handles = [matplotlib.patches.Patch(color=label.color, label=label.name) for label in labels]
    figure.legend(handles=handles, loc="lower center", ncols=len(labels), frameon=False, labelcolor="#e6e6e6")
    axes.set_position((-0.2, -0.2, 1.4, 1.4))
    figure.savefig(path, dpi=110, facecolor=figure.get_facecolor())
    plt.close(figure)
