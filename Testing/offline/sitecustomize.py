"""Blocks sockets to other machines, in this process and, through PYTHONPATH, in every Python that a test starts."""

import socket


class NoNetworkError(OSError):
    """A test, or what it runs, wanted to reach another machine."""


def block() -> None:
    """From now on only this machine can be reached."""
    plain = socket.socket.connect
    if getattr(plain, "blocks", False):
        return

    def connect(self, address):
        host = address[0] if isinstance(address, tuple) else ""
        if self.family in (socket.AF_INET, socket.AF_INET6) and not str(host).startswith(("127.", "::1", "localhost")):
            raise NoNetworkError(f"{host}: the tests reach no other machine.")
        return plain(self, address)

    connect.blocks = True
    socket.socket.connect = socket.socket.connect_ex = connect


block()
