"""The client of the worker process: started when needed, kept warm, ended with its parent."""

import atexit
import os
import shutil
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import DiffSegLib
from DiffSegLib import events
from DiffSegLib.jobs import Job
from DiffSegLib.scene import settings
from DiffSegLib.scene.transport import PipeTransport, QtTransport, Transport
from DiffSegLib.scene.words import tr as _
from DiffSegLib.tuning import tuned

CANCEL_GRACE = 0.8  # seconds that a running job has to stop by itself before the worker is killed
LATE = 0.1  # seconds after which that is looked at: Qt's timers may come five per cent early
PYTHON_VARIABLE = "DIFFSEG_PYTHON"  # names another Python to run the engine with
SET_SINCE = ("DIFFSEG_", "CUDA_")  # variables that a script in Slicer may set, and that every Python is to see
OF_SLICER = ("PYTHONHOME", "PYTHONPATH", "PYTHONNOUSERSITE", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")


def chosen_python() -> str:
    """The Python that the user chose for the engine: $DIFFSEG_PYTHON, else the module's setting, else empty."""
    return os.environ.get(PYTHON_VARIABLE) or settings.get("Python")


def interpreter() -> str:
    """The Python that runs the engine: the chosen one, PythonSlicer inside Slicer, else this one."""
    return chosen_python() or shutil.which("PythonSlicer") or sys.executable


def engine_command(python: str, *arguments: str) -> list[str]:
    """The command line of this very engine, with nothing from the current folder (-P).

    By its name (-m) another one may be found: PythonSlicer is a launcher that puts the folders of installed extensions
    before those that PYTHONPATH names.
    """
    package = Path(DiffSegLib.__file__).resolve()  # ends in .pyc where Slicer was built to keep nothing else
    return [python, "-P", "-u", str(package.with_name(f"__main__{package.suffix}")), *arguments]


def worker_command(python: str | None = None) -> list[str]:
    """The worker's command line."""
    return engine_command(python or interpreter(), "worker")


def worker_environment(python: str) -> dict[str, str]:
    """The environment of the worker: the engine's folder first, glibc told to keep large blocks, no long spinning."""
    environment = users_environment() if python == chosen_python() else dict(os.environ)
    engine = str(Path(DiffSegLib.__file__).resolve().parent.parent)
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [engine, environment.get("PYTHONPATH")]))
    environment["PYTHONUNBUFFERED"] = "1"
    environment["PYTHONIOENCODING"] = "utf-8"  # what it last said is read as that; a pipe of Windows has a code page
    return tuned(environment)


def users_environment() -> dict[str, str]:
    """The environment for a Python of the user's: that of before Slicer's launcher, so that it runs as in a terminal.

    What Slicer adds is for its own Python alone: libraries, paths, and that packages of the user's folder are not seen.
    """
    import slicer
    import slicer.util

    if hasattr(getattr(slicer, "app", None), "startupEnvironment"):
        meant = {key: value for key, value in os.environ.items() if key.startswith(SET_SINCE)}
        return {**slicer.util.startupEnvironment(), **meant}
    return {key: value for key, value in os.environ.items() if key not in OF_SLICER}


def make_transport() -> Transport:
    """QProcess inside the Slicer application, pipes elsewhere."""
    import slicer

    return QtTransport() if getattr(slicer, "app", None) is not None and "qt" in sys.modules else PipeTransport()


class WorkerClient:
    """Sends jobs to one worker process and hands its events to whoever asked.

    Every job ends with exactly one `result` or `error` event, whatever happens to the process.
    """

    def __init__(
        self,
        command: Sequence[str] | None = None,
        transport: Callable[[], Transport] = make_transport,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._command = list(command) if command else None
        self._environment = environment
        self._make_transport = transport
        self._transport: Transport | None = None
        self._buffer = b""
        self._leader: int | None = None
        self._listeners: dict[str, events.Listener] = {}
        self._lines: dict[str, bytes] = {}
        self._background: set[str] = set()
        self._cancelled_at: dict[str, float] = {}
        self.description: events.Event = {}

    @property
    def busy(self) -> bool:
        """Whether a job is under way that somebody waits for."""
        return bool(set(self._listeners) - self._background)

    @property
    def pid(self) -> int | None:
        """The worker's process id once it is ready, else None."""
        return self._leader

    def start(self) -> None:
        """Start the worker unless it runs; it imports torch meanwhile."""
        if self._transport is not None:
            return
        command = self._command or worker_command()
        self._buffer, self._leader, self.description = b"", None, {}
        self._transport = self._make_transport()
        environment = self._environment or worker_environment(command[0])
        self._transport.start(command, environment, self._on_output, self._on_exit)

    def submit(self, job: Job, listener: events.Listener, isBackground: bool = False) -> None:
        """Start a job; `listener` gets its events. With `isBackground` it does not make the client busy."""
        self.check()  # what was cancelled and does not end must not hold up this one, nor end it
        self._listeners[job.id] = listener  # before the start, whose failure it hears of
        self._lines = {number: line for number, line in self._lines.items() if number in self._listeners}
        self._lines[job.id] = job.to_line().encode() + b"\n"
        self._background = (self._background & set(self._listeners)) | ({job.id} if isBackground else set())
        self.start()
        if self._transport is not None:
            self._transport.write(self._lines[job.id])

    def cancel(self, number: str) -> None:
        """Ask a job to stop; `check` kills the worker if it does not within CANCEL_GRACE.

        It is called by the event loop, or by `pump` where none runs. A job that waits behind another ends at once, and
        the other goes on.
        """
        if number in self._listeners and self._transport is not None and number not in self._cancelled_at:
            self._transport.write(b'{"do": "cancel", "id": "%s"}\n' % number.encode())
            if number == next(iter(self._listeners)):  # they are served in order
                self._cancelled_at[number] = time.monotonic()
                self._transport.remind(CANCEL_GRACE + LATE, self.check)
            else:
                self._end_as_cancelled(number)

    def check(self) -> None:
        """Enforce cancels whose grace is over.

        The jobs that wait behind one which did not heed begin anew with another worker.
        """
        late = [n for n, at in self._cancelled_at.items() if time.monotonic() - at > CANCEL_GRACE]
        if not late:
            return
        self._kill()
        waiting = [number for number in self._listeners if number not in late]
        for number in late:
            self._end_as_cancelled(number)
        for number in waiting:
            self.start()  # a listener may have done so
            if number in self._listeners and self._transport is not None:
                self._transport.write(self._lines[number])

    def wait(self, number: str, seconds: float = 0.2) -> None:
        """Block until the job has ended."""
        while number in self._listeners:
            self.pump(seconds)

    def pump(self, seconds: float = 0.0) -> None:
        """Let events arrive for at most `seconds` where no event loop runs."""
        if self._transport is not None:
            self._transport.wait(seconds)
        self.check()

    def shutdown(self) -> None:
        """End the worker with everything it started."""
        self._kill()
        self._fail_all(_("The worker was shut down."), 4)

    def _end_as_cancelled(self, number: str) -> None:
        self._dispatch(events.make("error", job=number, message=_("The job was cancelled."), exit_code=4, detail=""))

    def _kill(self) -> None:
        transport, self._transport = self._transport, None
        if transport is not None:
            transport.kill(self._leader)
        self._leader = None

    def _on_output(self, data: bytes) -> None:
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        for line in lines:
            event = events.from_line(line)
            if event is not None:
                self._dispatch(event)

    def _dispatch(self, event: events.Event) -> None:
        if event.get("state") == "ready":
            self._leader = event.get("pid")
            self.description = event
        number = str(event.get("job", ""))
        if number in self._cancelled_at and event["event"] != "error":
            if event["event"] == "result":  # it was ready before the cancel came; its last steps have not been heard
                self._end_as_cancelled(number)
            return  # its end is waited for, and nothing else
        if event["event"] in ("result", "error"):
            if number in self._listeners:
                self._cancelled_at.pop(number, None)
                call(self._listeners.pop(number), event)
            elif event["event"] == "error" and not number:
                code = event.get("exit_code")
                code = code if isinstance(code, int) else 1
                self._fail_all(str(event.get("message", "")), code, str(event.get("detail", "")))
        elif number in self._listeners:
            call(self._listeners[number], event)

    def _on_exit(self, how: str) -> None:
        if self._transport is None:
            return
        detail = self._transport.stderr()
        began = self._leader is not None
        self._kill()  # what the worker may have left behind
        last = next((line.strip() for line in reversed(detail.splitlines()) if line.strip()), "")
        text = _("The engine's process ended unexpectedly ({how}). The next job starts a new one.").format(how=how)
        if not began:  # no other job would fare better
            python = (self._command or worker_command())[0]
            text = _(
                "The engine did not get ready ({how}). Its Python is {python}; the section Environment or {variable} "
                "can name another."
            ).format(how=how, python=python, variable=f"${PYTHON_VARIABLE}")
        if last:
            text += " " + _("It last said: {line}").format(line=last)
        self._fail_all(text, 1 if began else 3, detail)

    def _fail_all(self, message: str, exit_code: int, detail: str = "") -> None:
        listeners, self._listeners = self._listeners, {}
        self._cancelled_at.clear()
        for number, listener in listeners.items():
            call(listener, events.make("error", job=number, message=message, exit_code=exit_code, detail=detail))


def call(function: Callable[[Any], None], value: Any) -> None:
    """A function of a caller: what it raises is printed, and everything else goes on."""
    try:
        function(value)
    except Exception:
        traceback.print_exc()


_shared: WorkerClient | None = None


def shared_client() -> WorkerClient:
    """The one worker of this application; it outlives widgets and module reloads."""
    global _shared
    if _shared is None:
        import slicer

        _shared = WorkerClient()
        atexit.register(_shared.shutdown)
        if getattr(slicer, "app", None) is not None:
            slicer.app.moduleManager().connect("moduleAboutToBeUnloaded(QString)", _on_unloading)
    return _shared


def _on_unloading(module: str) -> None:
    """Slicer quits. A run under way takes its nodes back while the modules that it needs, and the scene, are there.

    They go when the application is about to quit, long before Python ends; this module goes before those it depends on.
    """
    if module == "DiffSeg" and _shared is not None:
        _shared.shutdown()
