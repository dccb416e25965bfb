"""`diffseg demo`: the shipped model on a real brain image that a dependency ships."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from DiffSegLib import events
from DiffSegLib.errors import DiffSegError

if TYPE_CHECKING:
    from DiffSegLib.demo.run import Demo
    from DiffSegLib.terminal import Show


def add(verbs: Any) -> None:
    """Options of the verb."""
    verb = verbs.add_parser("demo", help="segment both hippocampi of the MNI152 template", allow_abbrev=False)
    verb.add_argument("--out", type=Path, default=Path("demo"), help="folder for what it makes (default demo)")
    verb.set_defaults(call=call)


def call(options: argparse.Namespace) -> tuple[int, dict[str, Any]]:
    """Run the demo and list what it wrote."""
    from DiffSegLib.demo.run import run_demo
    from DiffSegLib.terminal import Show

    show = Show()
    demo = run_demo(options.out, show)
    files = [*demo.files, *_scene(options.out, demo, show)]
    show(events.make("progress", fraction=1.0, text=f"{len(files)} files"))
    show.close()
    print("Wrote:", *(f"  {path}" for path in files), sep="\n", file=sys.stderr)
    return 0, {"files": [str(path) for path in files]}


def _scene(out: Path, demo: "Demo", show: "Show") -> list[Path]:
    """The 3D picture and the scene, made on real MRML; left out with a warning where slicer-core is missing."""
    import importlib.util

    import numpy as np

    if importlib.util.find_spec("slicer") is None:
        show(events.make("warning", text="No scene and no 3D picture: install slicer-core (pip install slicer-core)."))
        return []
    from DiffSegLib.scene.bundle import segment_to_bundle
    from DiffSegLib.scene.surface_view import surface_picture

    picture, scene = out / "surface.png", out / "mni152.mrb"
    surface_picture(picture, demo.mask, demo.labels, demo.spacing, "MNI152 template: both hippocampi after five steps")
    results = segment_to_bundle(demo.image, demo.regions, scene, show)
    for side, result in results.items():
        if result.mask is None or not np.array_equal(result.mask, demo.sides[side].mask):
            raise DiffSegError(
                f"The {side} mask made through the scene differs from the one made directly; please report it."
            )
    return [picture, scene]
