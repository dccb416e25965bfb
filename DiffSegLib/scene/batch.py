r"""The batch in Slicer: options, files and exit codes of `diffseg predict`, on nodes and through the window's logic.

    Slicer --no-splash --no-main-window --python-script DiffSegLib/scene/batch.py -- \
        --model hippocampus --input scans --output masks

It asks nothing, installs nothing, and always ends Slicer. Where slicer-core is installed it is a program as well:
`python DiffSegLib/scene/batch.py --model ...`. Images are read and masks are written as `diffseg predict` does it, so
that both refuse the same files and write the same ones.
"""

import argparse
import contextlib
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # run as a file: its folder is on the path, and the engine's is wanted there instead
    _here = Path(__file__).resolve().parent
    sys.path[:] = [str(_here.parents[1]), *(entry for entry in sys.path if Path(entry).resolve() != _here)]
    if _here.parent not in (Path(entry).resolve() for entry in getattr(sys.modules.get("DiffSegLib"), "__path__", ())):
        for _name in [name for name in sys.modules if name.partition(".")[0] == "DiffSegLib"]:
            del sys.modules[_name]  # of an extension that is installed: Slicer loads its module first

PROGRAM = "batch.py"
POLL = 0.1  # seconds between two looks at Ctrl-C while a case is segmented


def main(arguments: Sequence[str]) -> int:
    """Run the batch and return its exit code, whatever happens: Slicer stays open for ever after an exception."""
    try:
        from DiffSegLib.options import add_predict_arguments
        from DiffSegLib.terminal import Parser, finish

        parser = Parser(prog=PROGRAM, description="Segment images in Slicer, without its window.", allow_abbrev=False)
        add_predict_arguments(parser)
        parser.add_argument("--json", action="store_true", help="print one JSON object last on stdout")
        chosen = parser.parse_args(arguments)
        return finish(PROGRAM, lambda: segment_files(chosen), chosen.json)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0
    except BaseException:  # a defect of ours
        traceback.print_exc()
        return 1


def segment_files(chosen: argparse.Namespace) -> tuple[int, dict[str, Any]]:
    """Segment every case through SegmentLogic; those that fail are named and the rest go on."""
    from DiffSegLib import events
    from DiffSegLib.data.batch import find_cases, run_cases
    from DiffSegLib.data.outputs import Outputs, Prediction, Wish
    from DiffSegLib.data.volume import Volume
    from DiffSegLib.errors import Cancelled
    from DiffSegLib.models.shipped import find, read_card
    from DiffSegLib.options import check_model, segment_options, shard_of
    from DiffSegLib.terminal import Show, StopFlag
    from DiffSegLib.whole_files import checksum

    options, shard = segment_options(chosen), shard_of(chosen.shard)
    model = find(chosen.model)
    if Path(chosen.model).is_dir() and model.is_relative_to(chosen.model):
        print(f"The model is {model}.", file=sys.stderr)
    card = read_card(model)
    check_model(chosen, card)
    cases = find_cases(chosen.input, len(card.channels))[shard]

    from DiffSegLib.scene.host import SceneHost

    host = SceneHost()  # noqa: F841 - outside of Slicer the scene lives as long as its host
    from DiffSegLib.scene import nodes
    from DiffSegLib.scene.logic import SegmentLogic
    from DiffSegLib.scene.process import WorkerClient

    client, stop, show = WorkerClient(), StopFlag(), Show()
    launched = _launched()
    logic = SegmentLogic(client)

    def segment(volume: Volume, relay: events.Listener) -> Prediction:
        with _temporary_nodes():
            first, *others = [nodes.make_volume(volume.name, channel, volume.affine) for channel in volume.array]
            run = logic.segment(
                first,
                model=str(model),
                steps=options.steps,
                sampler=options.sampler,
                samples=options.samples,
                seed=options.seed,
                device=options.device,
                roi=options.roi,
                uncertainty=options.uncertainty,
                channels=others,
                keepSteps=False,
                surface=False,
                onEvent=relay,
                wait=False,
            )
            while not run.finished:  # no event loop runs inside a script
                client.pump(POLL)
                if stop() or not launched():
                    logic.cancel(run)
        if run.error is not None and (stop() or not launched()):  # Ctrl-C ends PythonSlicer, a launcher, as well
            raise Cancelled("Segmentation was cancelled.")
        if run.error is not None or run.mask is None:
            raise run.error or RuntimeError("the engine gave no mask")
        steps = run.masks if options.keep_steps else []
        sizes = {label.value: run.volumesMl[label.name] for label in run.labels}
        return Prediction(run.mask, steps, run.uncertainty, sizes, run.warnings, run.provenance)

    outputs = Outputs(chosen.output, card.labels, chosen.format, Wish(checksum(model), options))
    try:
        outcome = run_cases(cases, outputs, segment, len(card.channels), chosen.skip_existing, show, chosen.overwrite)
    finally:
        client.shutdown()
        show.close()
    return outcome.report(PROGRAM, chosen.output)


def _launched() -> Callable[[], bool]:
    """Whether Slicer's launcher is still there, where it started this process.

    It takes no signal on to Slicer: Ctrl-C, `kill` and `timeout` end the launcher alone, and the batch has to see that
    nobody waits for it any more.
    """
    import slicer

    path, launcher = getattr(getattr(slicer, "app", None), "launcherExecutableFilePath", ""), os.getppid()
    try:  # the program may have been started without it, by a shell that may end before
        is_parent = bool(path) and os.path.samefile(f"/proc/{launcher}/exe", path)
    except OSError:  # no Linux
        is_parent = False
    return lambda: not is_parent or os.getppid() == launcher


@contextlib.contextmanager
def _temporary_nodes() -> Iterator[None]:
    """Take every node that is added meanwhile out of the scene again: a long batch must not grow."""
    import slicer

    scene = slicer.mrmlScene
    before = {scene.GetNthNode(n).GetID() for n in range(scene.GetNumberOfNodes())}
    try:
        yield
    finally:
        for node in [scene.GetNthNode(n) for n in range(scene.GetNumberOfNodes())]:
            if node.GetID() not in before and scene.IsNodePresent(node):  # one removal may take others along
                scene.RemoveNode(node)


def leave(code: int) -> None:
    """End this process with `code`; to Slicer that is a wish, which it follows once the script has ended."""
    sys.stdout.flush()
    sys.stderr.flush()
    if getattr(sys.modules.get("slicer"), "app", None) is None:  # no application: a program of its own
        sys.exit(code)
    import slicer.util

    slicer.util.exit(code)


if __name__ == "__main__":
    leave(main(sys.argv[1:]))
