"""A disk that is full, without one: the system itself refuses to write on, so every library meets it as it is."""

import contextlib


@contextlib.contextmanager
def no_more_than(size):
    """The system writes no byte of a file beyond that: what a full disk does to the libraries that write images."""
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
