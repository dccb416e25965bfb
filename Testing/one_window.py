"""The application that the tests of the window run in, and the engine's process that a file of them shares."""

import pytest

from DiffSegLib.scene.process import WorkerClient
from host.application import Host, need_window

need_window()


@pytest.fixture(scope="module")
def host():
    return Host()


@pytest.fixture(scope="module")
def client(host):
    made = WorkerClient()
    yield made
    made.shutdown()
