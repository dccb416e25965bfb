"""Run the module's tests inside a real Slicer and leave with a code that says how it went.

    Slicer --testing --no-main-window --additional-module-paths DiffSeg --python-script Testing/run_in_slicer.py

The same files as outside of Slicer, on the application's own Qt, MRML and Python layer. Slicer's own Python needs torch
(the section Environment installs it): tests that make a model are skipped without it.
Without pytest (PythonSlicer -m pip install pytest) only the module's self-test runs. Arguments behind "--" go to
pytest; --capture=sys is the one to try where output is lost.

Without --testing nothing runs: the tests change what the module remembers, and only with it Slicer's settings are not
the user's own. With it Slicer leaves with 1 if any slot raised, although every test passed: the log has the traceback.
--no-main-window is what the tests were made for; they run with the window, too.
"""

import os
import sys
import traceback
from pathlib import Path

import slicer.util

HERE = Path(os.path.abspath(__file__)).parent
OUTSIDE = ("test_demo", "test_run_in_slicer", "test_steps_pictures")  # need views or programs without the application


def suite() -> list[str]:
    """Every test file that needs Slicer's scene or window."""
    found = [path for path in sorted(HERE.glob("test_*.py")) if path.stem not in OUTSIDE]
    return [str(path) for path in found if 'importorskip("slicer"' in path.read_text(encoding="utf-8")]


def run() -> int:
    """0 when every test passed, 2 where they may not run."""
    if not slicer.app.testingEnabled():
        print("run_in_slicer.py: start Slicer with --testing; the tests change its settings.", file=sys.stderr)
        return 2
    for folder in (HERE, HERE.parent):
        sys.path.insert(0, str(folder))
    for name in ("DiffSeg", "DiffSegLib"):
        file = getattr(sys.modules.get(name), "__file__", None)
        if file is not None and not Path(file).resolve().is_relative_to(HERE.parent.resolve()):
            text = f"run_in_slicer.py: Slicer has loaded {name} from {file}, not from the folder of these tests; "
            print(text + "uninstall that extension or take its folder out of the module paths.", file=sys.stderr)
            return 2
    try:
        import pytest
    except ImportError:
        print("pytest is missing: only the self-test runs (PythonSlicer -m pip install pytest).", flush=True)
        import DiffSeg

        DiffSeg.DiffSegTest().runTest()
        return 0
    options = [
        "--import-mode=importlib",
        "--continue-on-collection-errors",
        "-p",
        "no:cacheprovider",
        "-ra",
        f"--rootdir={HERE.parent}",
    ]
    return int(pytest.main([*options, *suite(), *sys.argv[1:]]))


code = 1
try:
    code = run()
except SystemExit as ended:
    code = ended.code if isinstance(ended.code, int) else 1
except BaseException:
    traceback.print_exc()
slicer.util.exit(code)
