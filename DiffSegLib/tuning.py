"""What C libraries read when a process starts: settings with which tensors are computed faster."""

from collections.abc import Mapping


def tuned(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment with settings for glibc and libgomp, where the user has not chosen otherwise.

    glibc keeps blocks up to 128 MB: otherwise every tensor above 32 MB is mapped and page-faulted anew, and work on it
    takes up to seven times as long. Larger blocks, and what is free above 512 MB, go back to the system: kept, they lie
    between others where the next of their size does not fit, and a large volume's peak is up to a GB higher.

    A thread of libgomp that waits for others sleeps soon: by default it turns 300,000 rounds first, and with a window
    or a second process on one of the cores a run takes ten times as long.
    """
    found = dict(environment)
    found.setdefault("MALLOC_MMAP_THRESHOLD_", str(128 << 20))
    found.setdefault("MALLOC_TRIM_THRESHOLD_", str(512 << 20))
    if "OMP_WAIT_POLICY" not in found:
        found.setdefault("GOMP_SPINCOUNT", "1000")
    return found
