"""The MNI152 T1 template that nilearn carries (no download), and where its hippocampi lie.

Fonov et al. 2011, doi:10.1016/j.neuroimage.2010.07.033; an average of 152 adult brains, skull removed.
"""

from pathlib import Path

import numpy as np

from DiffSegLib.data.files import read, write_volume
from DiffSegLib.data.volume import Volume
from DiffSegLib.errors import EnvironmentProblem

Box = tuple[tuple[int, int], ...]

# Centre of each box in MNI space (mm to the right, anterior, superior) and its size (right-left, anterior-posterior,
# inferior-superior); about the field of view of the images that the model was trained on.
CENTERS_RAS = {"left": (-27.0, -23.0, -13.0), "right": (27.0, -23.0, -13.0)}
SIZE_MM = (36.0, 52.0, 38.0)


def load_template(path: Path) -> Volume:
    """Write the template as an image file to `path` and read it back, as any image of a user would be."""
    try:
        from nilearn.datasets import load_mni152_template
    except ModuleNotFoundError:
        raise EnvironmentProblem("The demo needs the package nilearn; install it with: pip install nilearn") from None
    image = load_mni152_template(resolution=1)
    to_lps = np.diag([-1.0, -1.0, 1.0, 1.0])
    array = np.asarray(image.get_fdata(dtype=np.float32)).transpose(2, 1, 0)
    write_volume(path, array, to_lps @ image.affine)
    return read(path)


def box_around(volume: Volume, center_ras: tuple[float, ...], size_mm: tuple[float, ...]) -> Box:
    """((k0, k1), (j0, j1), (i0, i1)) of a box along the voxel axes of a volume whose axes are near the world's."""
    x, y, z = center_ras
    center = (np.linalg.inv(volume.affine) @ np.array([-x, -y, z, 1.0]))[:3]
    lengths = np.linalg.norm(volume.affine[:3, :3], axis=0)
    size = np.array(size_mm) / lengths
    low = np.maximum(np.round(center - size / 2).astype(int), 0)
    high = np.minimum(low + np.round(size).astype(int), volume.array.shape[:0:-1])
    return tuple((int(low[axis]), int(high[axis])) for axis in (2, 1, 0))
