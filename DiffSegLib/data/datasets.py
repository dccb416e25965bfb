"""Labelled data sets without code: the folder's layout is recognised and read."""

from pathlib import Path

from DiffSegLib.data.cases import Dataset, missing_sentence
from DiffSegLib.data.layouts import msd, nnunet, pairs
from DiffSegLib.data.paths import listed
from DiffSegLib.errors import InputError

LAYOUTS = (nnunet.read, msd.read, pairs.read)  # the first that fits
LOOKED_FOR = (
    "dataset.json of MSD or nnU-Net (imagesTr/, labelsTr/)",
    "images/ and labels/ (or image/ and label/, imagesTr/ and labelsTr/) with files of the same names",
    "x_image.* beside x_label.*",
    "a subfolder for each case with image.* and label.*",
)


def load_dataset(folder: Path, skip_missing: bool = False) -> Dataset:
    """The data set in a folder of any layout; with `skip_missing` without the cases that lack a file.

    Raises InputError that lists every missing file at once, or everything that was looked for.
    """
    if not folder.is_dir():
        what = "is a file; name the folder in which it lies" if folder.is_file() else "there is no such folder"
        raise InputError(f"{folder}: {what}.")
    listed(folder)  # or says that it may not be read
    for read in LAYOUTS:
        dataset = read(folder)
        if dataset is not None:
            if dataset.missing and not skip_missing:
                raise InputError(missing_sentence(folder, dataset.missing))
            return dataset
    raise InputError(f"{folder}: holds no data set in a known layout; looked for: {'; '.join(LOOKED_FOR)}.")
