"""Two ways to run the worker process: QProcess inside Slicer, pipes and a reader thread where there is no Qt.

Slicer's main thread keeps the interpreter's lock while it idles, so Python threads stand still there; QProcess signals
need none. Both ways give the same calls: `start`, `write`, `wait`, `kill`, and report through two callbacks.
"""

import contextlib
import math
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from DiffSegLib.scene.words import tr as _

OnOutput = Callable[[bytes], None]
OnExit = Callable[[str], None]
TURN = 0.01  # seconds that one turn of the event loop may spend on what the worker says
STDERR_TAIL = 4000  # characters of the worker's stderr kept for an error message


class Transport(Protocol):
    """A child process with a line to it and a line from it."""

    def start(self, command: Sequence[str], environment: Mapping[str, str], output: OnOutput, ended: OnExit) -> None:
        """Start `command`; `output` gets bytes of stdout, `ended` gets how it ended, once."""

    def write(self, data: bytes) -> None:
        """Send bytes to stdin."""

    def wait(self, seconds: float) -> None:
        """Let callbacks happen for at most that long; returns earlier when something came."""

    def remind(self, seconds: float, function: Callable[[], None]) -> None:
        """Call `function` after so many seconds where an event loop runs; where none does, nobody calls."""

    def kill(self, leader: int | None) -> None:
        """End the process and, where the worker told its process group, all its children."""

    def stderr(self) -> str:
        """The last part of what the process wrote to stderr."""


class PipeTransport:
    """subprocess with a reader thread; callbacks happen inside `wait`, on the caller's thread."""

    def __init__(self) -> None:
        self._events: queue.Queue[tuple[str, bytes]] = queue.Queue()
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, command: Sequence[str], environment: Mapping[str, str], output: OnOutput, ended: OnExit) -> None:
        """See Transport."""
        self._output, self._ended = output, ended
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        try:
            self._process = subprocess.Popen(
                list(command),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                env=dict(environment),
            )
        except OSError as problem:
            self._events.put(("end", f"it could not be started ({problem.strerror or problem})".encode()))
            return
        threading.Thread(target=self._read, args=(self._process,), daemon=True).start()

    def _read(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        while data := os.read(process.stdout.fileno(), 1 << 16):
            self._events.put(("data", data))
        self._events.put(("end", f"exit code {process.wait()}".encode()))

    def write(self, data: bytes) -> None:
        """See Transport."""
        if self._process is not None and self._process.stdin is not None:
            with contextlib.suppress(OSError):  # the end of the process is reported by `ended`
                self._process.stdin.write(data)
                self._process.stdin.flush()

    def wait(self, seconds: float) -> None:
        """See Transport."""
        try:
            self._take(*self._events.get(timeout=seconds))
            while True:
                self._take(*self._events.get_nowait())
        except queue.Empty:
            # a child that the worker left behind may hold the pipe open: its end would never be read
            if self._process is not None and self._process.poll() is not None:
                self._take("end", f"exit code {self._process.returncode}".encode())

    def remind(self, seconds: float, function: Callable[[], None]) -> None:
        """See Transport; there is no event loop."""

    def _take(self, kind: str, data: bytes) -> None:
        if kind == "data":
            self._output(data)
        else:
            self._process = None
            self._ended(data.decode())

    def kill(self, leader: int | None) -> None:
        """See Transport."""
        kill_tree(self._process.pid if self._process else 0, leader)
        if self._process is not None:
            with contextlib.suppress(OSError, subprocess.TimeoutExpired):
                self._process.kill()
                self._process.wait(5)

    def stderr(self) -> str:
        """See Transport."""
        try:
            self._errors.seek(0, os.SEEK_END)
            self._errors.seek(max(0, self._errors.tell() - STDERR_TAIL))
            return self._errors.read().decode(errors="replace")
        except (AttributeError, OSError, ValueError):
            return ""


class QtTransport:
    """QProcess; callbacks happen in Slicer's event loop, or inside `wait` where none runs."""

    def __init__(self) -> None:
        self._process: Any = None
        self._tail = ""
        self._lines: deque[bytes] = deque()

    def start(self, command: Sequence[str], environment: Mapping[str, str], output: OnOutput, ended: OnExit) -> None:
        """See Transport."""
        import qt

        self._output, self._ended, self._done = output, ended, False
        # timers of its own: Slicer keeps each timer of QTimer.singleShot until it ends
        self._turn, self._alarm = qt.QTimer(), qt.QTimer()
        for timer, slot in ((self._turn, self._deliver), (self._alarm, self._onAlarm)):
            timer.setSingleShot(True)
            timer.setInterval(0)
            timer.connect("timeout()", slot)
        process = qt.QProcess()
        settings = qt.QProcessEnvironment()
        for key, value in environment.items():
            settings.insert(key, value)
        process.setProcessEnvironment(settings)
        process.connect("readyReadStandardOutput()", self._onOutput)
        process.connect("readyReadStandardError()", self._onError)
        process.connect("finished(int,QProcess::ExitStatus)", self._onFinished)
        process.connect("errorOccurred(QProcess::ProcessError)", self._onProblem)
        self._process = process  # the child is killed with the last reference
        process.start(command[0], list(command[1:]))

    def write(self, data: bytes) -> None:
        """See Transport."""
        if self._process is not None:
            self._process.write(data)

    def wait(self, seconds: float) -> None:
        """See Transport."""
        if self._process is None:
            return
        if self._lines:
            self._deliver(seconds)
            return
        if not _runs(self._process):
            self._end(_("it is not running"))
            return
        process = self._process
        # what is heard while waiting may end the process and let go of it
        if not process.waitForReadyRead(int(1000 * seconds)) and process is self._process:
            process.waitForFinished(1)

    def remind(self, seconds: float, function: Callable[[], None]) -> None:
        """See Transport."""
        self._remembered = function
        self._alarm.setInterval(int(1000 * seconds))
        self._alarm.start()

    def kill(self, leader: int | None) -> None:
        """See Transport."""
        running = _runs(self._process)
        process, self._process = self._process, None  # what it says from now on is of no interest
        self._done = True  # nor is its end, which may come when another has taken its place
        kill_tree(int(process.processId()) if running else 0, leader)
        if running:
            process.kill()
            process.waitForFinished(3000)
        if process is None:
            return
        # this may be a signal of the process itself, which goes on inside it: PythonQt deletes it with the last
        # reference, so one is kept, and Qt deletes it once the event loop is back
        self._killed = process
        for timer in (self._turn, self._alarm):
            timer.stop()
            timer.deleteLater()
        if not _runs(process):  # to delete one that does not heed would wait for its end
            process.deleteLater()

    def stderr(self) -> str:
        """See Transport."""
        return self._tail

    def _onOutput(self) -> None:
        if self._process is not None:
            self._lines += self._process.readAllStandardOutput().data().splitlines(keepends=True)
            if not self._turn.isActive():
                self._deliver()

    def _deliver(self, seconds: float = TURN) -> None:
        """Hand over what was read, for about `seconds`; the rest follows in another turn of the event loop.

        A worker that is faster than the window would have several masks shown in one go, and the window stand still.
        """
        end = time.monotonic() + seconds
        while self._lines and self._process is not None:
            self._output(self._lines.popleft())
            if self._lines and time.monotonic() > end:
                if self._process is not None:
                    self._turn.start()
                return

    def _onAlarm(self) -> None:
        self._remembered()

    def _onError(self) -> None:
        if self._process is None:
            return
        text = self._process.readAllStandardError().data().decode(errors="replace")
        self._tail = (self._tail + text)[-STDERR_TAIL:]

    def _onFinished(self, code: int, _status: Any = None) -> None:
        self._onOutput()
        self._deliver(math.inf)
        self._end(_("exit code {code}").format(code=code))

    def _onProblem(self, number: Any) -> None:
        # FailedToStart is 0; only then `finished` never comes
        if int(getattr(number, "value", number)) == 0:
            self._end(_("it could not be started"))

    def _end(self, how: str) -> None:
        if not self._done:
            self._done = True
            self._ended(how)


def _runs(process: Any) -> bool:
    if process is None:
        return False
    state = process.state()
    return int(getattr(state, "value", state)) != 0  # QProcess::NotRunning is 0


def kill_tree(pid: int, leader: int | None) -> None:
    """Kill a process and its children: PythonSlicer is a launcher, and killing it alone orphans the real Python."""
    if sys.platform == "win32":
        if not (leader or pid):
            return
        command = ["taskkill", "/T", "/F", "/PID", str(leader or pid)]
        subprocess.run(command, capture_output=True, check=False, creationflags=subprocess.CREATE_NO_WINDOW)
        return
    # group 1 is every process of the user, and a worker in a container calls itself 1; 0 is the group of this one
    if isinstance(leader, int) and 1 < leader < 1 << 31:
        with contextlib.suppress(OSError):
            if leader != os.getpgid(0):
                os.killpg(leader, signal.SIGKILL)
