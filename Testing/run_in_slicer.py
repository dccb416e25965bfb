"""Run the module's self-test inside a real Slicer and leave with a code that says how it went.

Slicer --testing --no-main-window --additional-module-paths DiffSeg --python-script Testing/run_in_slicer.py
"""

import traceback

import slicer.util

code = 0
try:
    import DiffSeg

    DiffSeg.DiffSegTest().runTest()
except BaseException:
    traceback.print_exc()
    code = 1
slicer.util.exit(code)
