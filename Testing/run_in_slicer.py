"""Run the module's tests inside a real Slicer and leave with a code that says how it went.

    Slicer --testing --no-main-window --additional-module-paths DiffSeg --python-script Testing/run_in_slicer.py

The same files as outside of Slicer, on the application's own Qt, MRML and Python layer. The engine's process needs a
Python with torch: Slicer's own after the section Environment has installed it, or the one that DIFFSEG_PYTHON names.
Without pytest (PythonSlicer -m pip install pytest) only the module's self-test runs. Arguments behind "--" go to
pytest.
"""

import os
import sys
import traceback
from pathlib import Path

import slicer.util

HERE = Path(os.path.abspath(__file__)).parent
SUITE = ("test_module", "test_scene", "test_environment", "test_segment_panel", "test_steps_panel", "test_train_panel")
SUITE += ("test_steps", "test_evaluation_panel", "test_batch", "test_sample_data", "test_console")


def run() -> int:
    """0 when every test passed."""
    for folder in (HERE, HERE.parent):
        sys.path.insert(0, str(folder))
    try:
        import pytest
    except ImportError:
        print("pytest is missing: only the self-test runs (PythonSlicer -m pip install pytest).", flush=True)
        import DiffSeg

        DiffSeg.DiffSegTest().runTest()
        return 0
    files = [str(HERE / f"{name}.py") for name in SUITE if (HERE / f"{name}.py").is_file()]
    options = ["--import-mode=importlib", "-p", "no:cacheprovider", "-ra", f"--rootdir={HERE.parent}"]
    return int(pytest.main([*options, *files, *sys.argv[1:]]))


code = 1
try:
    code = run()
except SystemExit as ended:
    code = ended.code if isinstance(ended.code, int) else 1
except BaseException:
    traceback.print_exc()
slicer.util.exit(code)
