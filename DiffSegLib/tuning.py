"""How the C libraries below torch are told to treat threads and memory."""

import contextlib
import ctypes
from collections.abc import Mapping


def tuned(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment with settings for glibc and libgomp, where the user has not chosen otherwise.

    glibc keeps large blocks: otherwise every tensor above 32 MB is mapped and page-faulted anew, and work on it takes
    up to seven times as long. See `give_back`.

    A thread of libgomp that waits for others sleeps soon: by default it turns 300,000 rounds first, and with a window
    or a second process on one of the cores a run takes ten times as long.
    """
    found = dict(environment)
    found.setdefault("MALLOC_MMAP_THRESHOLD_", str(4 << 30))
    found.setdefault("MALLOC_TRIM_THRESHOLD_", str(8 << 30))
    if "OMP_WAIT_POLICY" not in found:
        found.setdefault("GOMP_SPINCOUNT", "1000")
    return found


def give_back() -> None:
    """Return to the system what glibc keeps of freed memory; nothing where another library allocates.

    What is kept lies in pieces: large arrays that follow upon others of different sizes would not fit into it.
    """
    with contextlib.suppress(OSError, TypeError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
