"""The benchmarks run: what they watch is still called so. Their figures are no test's business."""

import json
import subprocess
import sys

from conftest import ROOT


def test_a_volume_from_file_to_file_tells_where_its_time_went():
    command = [sys.executable, str(ROOT / "Testing" / "benchmarks" / "end_to_end.py"), "--shape", "12", "10", "8"]
    command += ["--patch", "8", "--classes", "2", "--steps", "2", "--channels", "8", "16", "--rounds", "0"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout)
    stages = ("read", "prepare", "network", "diffusion and blending", "resample back", "write")
    assert all(found[stage] > 0 for stage in stages) and found["rounds"] == 0
    assert found["seconds"] >= sum(found[stage] for stage in stages) > 0
