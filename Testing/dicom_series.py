"""Writes DICOM series, a file a slice, for the tests; and where the frames of one file with the same voxels lie."""

import locale

import numpy as np
import SimpleITK as sitk

from conftest import blob_case, turned

OBLIQUE = np.eye(4)
OBLIQUE[:3, :3] = turned(20, -10, 35) @ np.diag([0.9, 1.1, 2.0])
OBLIQUE[:3, 3] = (12.0, -30.0, 55.0)
IMAGE = (blob_case(0)[0] * 100).astype(np.int16)
AXES = (OBLIQUE[:3, :2] / np.linalg.norm(OBLIQUE[:3, :2], axis=0)).T.ravel()
STACK = OBLIQUE[:3, 3] + np.arange(len(IMAGE))[:, None] * OBLIQUE[:3, 2]
ENHANCED = {"spacing": (1.1, 0.9)}  # rows, columns


def write_series(folder, array=IMAGE, affine=OBLIQUE, uid="1.2.3", order=None, move=lambda n, at: at):
    """One file a slice, named in any order; move: changes where a slice says it lies."""
    folder.mkdir(parents=True, exist_ok=True)
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    axes = affine[:3, :3] / spacing
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    kept = locale.setlocale(locale.LC_ALL)
    for n, plane in enumerate(array):
        image = sitk.GetImageFromArray(plane)
        image.SetSpacing(spacing[:2].tolist())
        at = move(n, affine[:3, 3] + n * affine[:3, 2])
        tags = {"0008|0060": "MR", "0020|000e": uid, "0020|000d": "1.2", "0008|0018": f"{uid}.{n + 1}"}
        tags |= {"0020|0032": "\\".join(f"{x:.6f}" for x in at), "0020|0013": str(n)}
        tags |= {"0020|0037": "\\".join(f"{x:.8f}" for x in axes[:, :2].T.ravel()), "0018|0050": f"{spacing[2]:.6f}"}
        for key, value in tags.items():
            image.SetMetaData(key, value)
        number = n if order is None else order[n]
        writer.SetFileName(str(folder / f"{uid}-{number:03d}.dcm"))
        writer.Execute(image)
    locale.setlocale(locale.LC_ALL, kept)  # writing DICOM leaves another one behind
    return folder
