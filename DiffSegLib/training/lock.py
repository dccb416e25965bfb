"""One training at a time in a run folder: by a lock of the operating system, which ends with its process anyhow."""

import contextlib
import errno
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from DiffSegLib.errors import InputError

NAME = ".lock"
FAR = 1 << 20  # on Windows a locked byte cannot be read, so one far behind the number that the file holds
TAKEN = (errno.EACCES, errno.EAGAIN, errno.EDEADLK)  # any other answer: a file system without locks


@contextlib.contextmanager
def locked(run: Path) -> Iterator[None]:
    """Hold the run folder, which is made; the file `.lock` in it says which process does.

    Raises InputError with the number of the process that holds it already.
    """
    path = run / NAME
    try:
        run.mkdir(parents=True, exist_ok=True)
        file = open(path, "a+", encoding="ascii")  # noqa: SIM115 - open as long as the lock
    except OSError as problem:
        raise InputError(f"{run}: cannot be written ({problem.strerror or problem}).") from None
    with file:
        try:
            _lock(file)
        except OSError as problem:
            if problem.errno in TAKEN:
                file.seek(0)
                holder = f"process {file.read().strip()}"
                raise InputError(f"{run}: {holder} is training here; wait for it, or choose another folder.") from None
        file.seek(0)
        file.truncate()
        file.write(str(os.getpid()))
        file.flush()
        try:
            yield
        finally:
            if os.listdir(run) == [NAME]:  # nothing came of it; otherwise the file stays, for the next one to lock
                with contextlib.suppress(OSError):
                    path.unlink()
                    run.rmdir()


def _lock(file: IO[str]) -> None:
    if sys.platform == "win32":
        import msvcrt

        file.seek(FAR)
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
