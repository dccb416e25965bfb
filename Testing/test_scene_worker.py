"""The worker's life and death as the scene sees it: cancelled, killed, hanging, and what its jobs hear."""

import os
import signal
import subprocess
import sys
import time
import types

import pytest

from conftest import ROOT

pytest.importorskip("slicer", reason="needs the package slicer-core")

import patient
import scene_run
from DiffSegLib import events
from DiffSegLib.errors import Cancelled, DiffSegError
from DiffSegLib.jobs import DescribeJob
from DiffSegLib.scene import transport
from DiffSegLib.scene.logic import SegmentLogic
from DiffSegLib.scene.process import CANCEL_GRACE, WorkerClient
from DiffSegLib.scene.transport import PipeTransport
from tally import tried

host, scene, client, volume = scene_run.host, scene_run.scene, scene_run.client, scene_run.volume  # fixtures


def test_cancel_ends_a_run_and_the_next_one_works(volume, client, tiny_model):
    logic = SegmentLogic(client)
    result = logic.segment(volume, model=str(tiny_model), steps=1000, wait=False)
    while client.busy and not client.pid:
        client.pump(0.1)
    logic.cancel(result)
    client.wait(result.number)
    assert isinstance(result.error, Cancelled) and result.node is None
    assert logic.segment(volume, model=str(tiny_model)).node is not None


def test_a_killed_worker_is_one_sentence_and_the_next_job_works(volume, client, tiny_model):
    logic = SegmentLogic(client)
    result = logic.segment(volume, model=str(tiny_model), steps=1000, wait=False)
    while not client.pid:
        client.pump(0.1)
    os.kill(client.pid, signal.SIGKILL)
    tried("processes killed")
    client.wait(result.number)
    assert "ended unexpectedly" in str(result.error)
    assert logic.segment(volume, model=str(tiny_model)).error is None


FAKE = """
import json, os, subprocess, sys, time
os.setsid()
child = subprocess.Popen(["sleep", "300"])
print(json.dumps({"event": "log", "v": 1, "state": "ready", "pid": os.getpid(), "child": child.pid}), flush=True)
for line in sys.stdin:
    if "MODE" in sys.argv: sys.exit("the engine broke here")
    time.sleep(300)
"""


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().split()[2] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_a_hanging_worker_is_killed_with_its_children(volume):
    stuck = WorkerClient([sys.executable, "-u", "-c", FAKE], PipeTransport, dict(os.environ))
    result = SegmentLogic(stuck).segment(volume, wait=False)
    while not stuck.pid:
        stuck.pump(0.1)
    pid, child = stuck.pid, stuck.description["child"]
    stuck.cancel(result.number)
    stuck.wait(result.number)
    assert isinstance(result.error, Cancelled)
    for _ in range(50):
        if not alive(pid) and not alive(child):
            break
        time.sleep(0.1)
    assert not alive(pid) and not alive(child)


def test_on_windows_no_black_window_opens_when_a_worker_is_ended(monkeypatch):
    """Windows ends it by a program of the console, and Slicer has no console."""
    asked = []
    monkeypatch.setattr(transport, "sys", types.SimpleNamespace(platform="win32"))
    monkeypatch.setattr(subprocess, "CREATE_NO_WINDOW", 0x08000000, raising=False)
    monkeypatch.setattr(subprocess, "run", lambda command, **options: asked.append((command, options)))
    transport.kill_tree(7, 8)
    ((command, options),) = asked
    assert command[0] == "taskkill" and command[-1] == "8" and options["creationflags"] == 0x08000000


@pytest.mark.parametrize("when", ["waiting behind it", "pressed later"])
def test_a_cancelled_job_that_does_not_heed_takes_no_other_with_it(when):
    client = WorkerClient(patient.COMMAND, PipeTransport, dict(os.environ))
    heard = {}
    client.submit(patient.Sleep("long", 60), lambda event: heard.setdefault("long", event))
    while not client.pid:
        client.pump(0.1)
    if when == "waiting behind it":
        client.submit(patient.Sleep("other", 0), lambda event: heard.setdefault("other", event))
    client.cancel("long")
    if when == "pressed later":
        time.sleep(CANCEL_GRACE + 0.1)  # and nobody looked meanwhile
        client.submit(patient.Sleep("other", 0), lambda event: heard.setdefault("other", event))
    client.wait("other")
    client.shutdown()
    assert heard["long"]["message"] == "The job was cancelled." and heard["other"]["event"] == "result"


def test_of_a_job_that_was_cancelled_only_its_end_is_heard():
    """Else a window that shows masks more slowly than they come would take its time before it hears of the end."""
    heard = []
    lone = WorkerClient(transport=PipeTransport)
    lone._listeners["a"], lone._cancelled_at["a"] = heard.append, time.monotonic()
    lone._dispatch(events.make("step", job="a", step=3))
    assert heard == []
    lone._dispatch(events.make("error", job="a", message="Cancelled.", exit_code=4))
    assert [event["event"] for event in heard] == ["error"]
    lone._listeners["b"], lone._cancelled_at["b"] = heard.append, time.monotonic()
    lone._dispatch(events.make("result", job="b"))  # was on its way
    assert heard[-1]["event"] == "error" and heard[-1]["exit_code"] == 4 and not lone._cancelled_at


def test_a_listener_that_raises_takes_nothing_from_others(volume, client, tiny_model, capsys):
    def broken(_):
        raise ValueError("a slip of a caller")

    logic, ended = SegmentLogic(client), []
    options = {"model": str(tiny_model), "wait": False}
    first = logic.segment(volume, onEvent=broken, onFinished=ended.append, **options)
    client.submit(DescribeJob("of-a-careless-caller"), broken)
    last = logic.segment(volume, onFinished=ended.append, **options)
    client.wait(last.number)
    assert ended == [first, last] and first.error is None and last.error is None
    assert "a slip of a caller" in capsys.readouterr().err


def test_a_worker_that_dies_tells_what_it_last_said(volume):
    broken = WorkerClient([sys.executable, "-u", "-c", FAKE, "MODE"], PipeTransport, dict(os.environ))
    with pytest.raises(DiffSegError, match="the engine broke here"):
        SegmentLogic(broken).segment(volume)
    missing = WorkerClient([str(ROOT / "no-such-python")], PipeTransport, dict(os.environ))
    with pytest.raises(DiffSegError, match="could not be started"):
        SegmentLogic(missing).segment(volume)
