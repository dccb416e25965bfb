"""A scene file made headless: load an image, segment regions of it through SegmentLogic, save it all as `.mrb`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from DiffSegLib import events
from DiffSegLib.scene.host import SceneHost
from DiffSegLib.scene.logic import Segmentation, SegmentLogic
from DiffSegLib.scene.nodes import Box
from DiffSegLib.scene.process import WorkerClient


def segment_to_bundle(
    image: Path, regions: Mapping[str, Box], path: Path, listener: events.Listener = events.silent, **options: Any
) -> dict[str, Segmentation]:
    """Segment each named region of an image file on real MRML and write the scene, with each step, to `path`.

    options: of SegmentLogic.segment. Returns the results by region; the masks are those that any other way gives.
    """
    options = {"keepSteps": True, **options}
    host = SceneHost()
    client = WorkerClient()
    try:
        volume = host.load_volume(image, image.name.split(".")[0])
        logic = SegmentLogic(client)
        results = {
            side: logic.segment(volume, roi=box, name=f"{volume.GetName()} {side}", onEvent=listener, **options)
            for side, box in regions.items()
        }
    finally:
        client.shutdown()
    host.save_bundle(path)
    return results
