"""Processes that outlive Slicer: started apart from it, told from a later one of the same number, ended as a whole."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from DiffSegLib.errors import EnvironmentProblem
from DiffSegLib.scene.transport import kill_tree
from DiffSegLib.scene.words import tr as _

STILL_ACTIVE = 259  # of Windows' GetExitCodeProcess
_children: list[subprocess.Popen[bytes]] = []  # of this application; asked now and then, so that none stays a zombie


def launch(command: Sequence[str], environment: Mapping[str, str], stdout: Path, stderr: Path) -> int:
    """Start a process whose output goes to files and that no end of this one touches; returns its number."""
    flags = 0
    if sys.platform == "win32":  # no console window, for the launcher's child neither, and no Ctrl-C of others
        flags = subprocess.CREATE_NO_WINDOW | subprocess.CREATE_NEW_PROCESS_GROUP
    try:
        with open(stdout, "wb") as out, open(stderr, "wb") as errors:
            process = subprocess.Popen(
                list(command),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=errors,
                env=dict(environment),
                start_new_session=True,
                creationflags=flags,
            )
    except OSError as problem:
        reason = problem.strerror or problem
        text = _("The training could not be started ({program}: {reason}).")
        raise EnvironmentProblem(text.format(program=command[0], reason=reason)) from None
    _children.append(process)
    return process.pid


def identity(pid: int) -> str | None:
    """A text that tells a running process from every other that has or had its number; None if there is none."""
    _children[:] = [child for child in _children if child.poll() is None]
    with contextlib.suppress(OSError, ValueError, IndexError):
        if sys.platform == "win32":
            return _windows_identity(pid)
        if sys.platform == "linux":
            state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
            return None if state in "ZX" else f"{boot} {fields[18]}"  # ticks since the boot
        found = subprocess.run(
            ["ps", "-o", "stat=,lstart=", "-p", str(pid)],
            capture_output=True,
            text=True,
            env={"LC_ALL": "C", "PATH": os.defpath},
            check=False,
        )
        state, _space, began = found.stdout.strip().partition(" ")
        return began.strip() if began and not state.startswith("Z") else None
    return None


def end(pid: int) -> None:
    """End a process that `launch` started, with its children; what it was doing is lost."""
    kill_tree(pid, pid)


def _windows_identity(pid: int) -> str | None:
    """When it was created, in 100 ns since 1601."""
    if sys.platform != "win32":
        return None
    import ctypes

    kernel = ctypes.WinDLL("kernel32", use_last_error=True)
    kernel.OpenProcess.restype = ctypes.c_void_p
    handle = ctypes.c_void_p(kernel.OpenProcess(0x1000, False, pid))  # PROCESS_QUERY_LIMITED_INFORMATION
    if not handle:
        return None
    try:
        code, times = ctypes.c_ulong(), [ctypes.c_ulonglong() for _time in range(4)]
        known = kernel.GetExitCodeProcess(handle, ctypes.byref(code)) and kernel.GetProcessTimes(
            handle, *(ctypes.byref(each) for each in times)
        )
        return str(times[0].value) if known and code.value == STILL_ACTIVE else None
    finally:
        kernel.CloseHandle(handle)
