"""Images that say in two ways, or in none, where their voxels lie: in the patient, and in their file."""

import re
from pathlib import Path

import numpy as np

from bad import MENDED, READ, kind
from bad.headers import META, NRRD, text
from bad.images import IMAGE, field, nifti, put, write

CODES = 252  # qform, then sform


def alone(change: dict[int, float]) -> bytearray:
    """A NIfTI whose sform counts alone: voxels of 2, 3 and 4 mm, but for the numbers of pixdim that are changed."""
    data = put(nifti(affine=np.diag([2.0, 3.0, 4.0, 1.0])), CODES, "2h", 0, 1)
    for axis, mm in change.items():
        put(data, 80 + 4 * axis, "f", mm)
    return data


for title, change, outcome, words in (
    ("an sform alone", {}, READ, ""),
    ("an sform alone, a pixdim of half a percent more", {1: 3.015}, READ, ""),
    (
        "an sform alone, a pixdim of two percent more",
        {0: 2.04},
        MENDED,
        r"voxels of 2, 3, 4 mm, .* 2\.04, 3, 4 mm, by which it is read",
    ),
    ("an sform alone, another pixdim", {0: 1.0, 1: 1.5, 2: 2.0}, MENDED, "its pixdim of 1, 1.5, 2 mm, by which"),
    ("an sform alone, pixdim below zero", {0: -2.0}, "refused", r"spacing \(-2, 3, 4 mm\) is not above zero"),
):
    kind("image", f"NIfTI: {title}", outcome, words)(lambda folder, change=change: write(folder, alone(change)))

field("NIfTI: spacing below zero", 84, "f", -1.0, words=r"spacing \(1, -1, 1 mm\) is not above zero")
for title, codes in (("neither qform nor sform", (0, 0)), ("codes of qform and sform below zero", (-1, -3))):
    field(f"NIfTI: {title}", CODES, "2h", *codes, outcome=MENDED, words="as LPS from 0, .* may be mirrored")


VOXELS = IMAGE.tobytes()
LAST = {"mha": f"{META}HeaderSize = -1\nElementDataFile = LOCAL\n", "nrrd": f"{NRRD}byte skip: -1\n\n"}
LAST |= {"mhd": LAST["mha"].replace("LOCAL", "scan.raw"), "nhdr": f"{NRRD}byte skip: -1\ndata file: scan.raw\n\n"}


def last(folder: Path, ending: str, voxels: bytes) -> Path:
    """An image whose voxels are the last bytes of its file, or of the one beside it."""
    is_beside = ending in ("mhd", "nhdr")
    path = text(folder, f"scan.{ending}", LAST[ending], b"" if is_beside else voxels)
    if is_beside:
        (folder / "scan.raw").write_bytes(voxels)
    return path


for ending in LAST:
    kind("image", f"{ending}: the last bytes are its voxels", READ)(
        lambda folder, ending=ending: last(folder, ending, VOXELS)
    )
    kind("image", f"{ending}: the last bytes are its voxels, 40 are missing", words="1976 of 2016 bytes|fseek")(
        lambda folder, ending=ending: last(folder, ending, VOXELS[:-40])
    )
    is_beside = ending in ("mhd", "nhdr")
    more = (
        ("mended and told", r"the last 2016 of 2056 bytes of scan\.raw")
        if is_beside
        else ("refused", "holds more than")
    )
    kind("image", f"{ending}: the last bytes are its voxels, 40 before them", *more)(
        lambda folder, ending=ending: last(folder, ending, bytes(40) + VOXELS)
    )

for title, fields in (
    ("bytes to skip from the end", "byte skip: -2\n"),
    ("lines to skip, and bytes from the end", "line skip: 1\nbyte skip: -1\n"),
    ("bytes to skip that are no number", "byte skip: 1e1\n"),
):

    @kind("image", f"nrrd: {title}", words="does not say where its voxels lie")
    def _(folder, fields=fields):
        return text(folder, "scan.nrrd", f"{NRRD}{fields}\n", VOXELS)


def spaced(folder: Path, name: str, units: str) -> Path:
    header = f"{META}{units}ElementDataFile = LOCAL\n" if name.endswith("mha") else f"{NRRD}{units}\n"
    return text(folder, name, header, VOXELS)


for unit in ("um", "cm"):
    kind("image", f"mha: in {unit}", words=f"distances are in '{unit}'")(
        lambda folder, unit=unit: spaced(folder, "scan.mha", f"DistanceUnits = {unit}\n")
    )
for unit in ("mm", "?"):
    kind("image", f"mha: in {unit}", READ)(
        lambda folder, unit=unit: spaced(folder, "scan.mha", f"DistanceUnits = {unit}\n")
    )
for units, outcome in (
    ('"um" "um" "um"', "refused"),
    ('"mm" "mm" "cm"', "refused"),
    ('"mm" "" "mm"', READ),
    ('"pixel" "none" "???"', READ),
):
    kind("image", f"nrrd: space units {units}", outcome, "" if outcome == READ else "distances are in '[uc]m'")(
        lambda folder, units=units: spaced(folder, "scan.nrrd", f"space units: {units}\n")
    )


@kind("image", "nrrd: without a space, of axes in cm", words="distances are in 'cm'")
def _(folder):
    header = re.sub("space.*\n", "", NRRD) + 'spacings: 1 1 1\nunits: "mm" "mm" "cm"\n\n'
    return text(folder, "scan.nrrd", header, VOXELS)
