"""Opens the module's window: in the Slicer application where the tests run inside it, else on real MRML off screen."""

import os
import sys
import tempfile
import types
from pathlib import Path

import pytest
import slicer
import slicer.util

from DiffSegLib.scene.host import SceneHost, inside_slicer

MODULE_FILE = Path(__file__).resolve().parent.parent.parent / "DiffSeg" / "DiffSeg.py"
STARTED_WITH = dict(os.environ)
SOURCE_VARIABLE = "DIFFSEG_SLICER_SOURCE"


class Application:
    """What `slicer.app` is asked for in these tests."""

    def __init__(self, qt_application):
        self._qt = qt_application
        self._settings = None
        self.temporaryPath = tempfile.gettempdir()

    def processEvents(self):
        self._qt.processEvents()

    def startupEnvironment(self):
        """Slicer's launcher keeps what the shell had."""
        import qt

        made = qt.QProcessEnvironment()
        for name, value in STARTED_WITH.items():
            made.insert(name, value)
        return made

    def testingEnabled(self):
        return True

    def translate(self, _context, text):
        return text

    def pauseRender(self):
        pass

    def resumeRender(self):
        pass

    def mrmlScene(self):
        return slicer.mrmlScene

    def connect(self, *_):
        return True

    def disconnect(self, *_):
        return True

    def moduleManager(self):
        return self

    def userSettings(self):
        """Of this test run alone."""
        if self._settings is None:
            import qt

            self._folder = tempfile.TemporaryDirectory(prefix="DiffSeg-settings-")
            file = os.path.join(self._folder.name, "settings.ini")
            self._settings = qt.QSettings(file, qt.QSettings.IniFormat)
        return self._settings


def put_temporary(monkeypatch, path):
    """From now on have temporary folders made below `path`: inside Slicer the application says where."""
    monkeypatch.setattr(tempfile, "tempdir", str(path))
    if hasattr(getattr(slicer, "app", None), "temporaryPath"):
        monkeypatch.setattr(slicer.app, "temporaryPath", str(path))


def note_opened(monkeypatch, section):
    """From now on note the addresses that a section's file would open in the system's file manager; returns the list.

    No class of Qt is patched: PythonQt's method would come back without its class, and its next call end Slicer.
    """
    import qt

    opened = []

    class Noting:
        QDesktopServices = types.SimpleNamespace(openUrl=opened.append)

        def __getattr__(self, name):
            return getattr(qt, name)

    monkeypatch.setattr(section, "qt", Noting())
    return opened


def need_window():
    """Skip the test file where no window can be made: neither inside Slicer nor with PySide6."""
    if not inside_slicer():
        reason = "needs the package PySide6_Essentials"
        pytest.importorskip("PySide6.QtUiTools", reason=reason, exc_type=ImportError)


class Host:
    """One per test run; `open()` gives a fresh window of the module."""

    def __init__(self):
        self._windows = []
        if inside_slicer():
            import DiffSeg

            self.qt, self.module = slicer.app, DiffSeg
            self.scene_host = SceneHost()
            return
        from host import doubles, pythonqt

        self.qt = pythonqt.import_qt()
        self.scene_host = SceneHost()
        slicer.app = Application(self.qt)
        source = os.environ.get(SOURCE_VARIABLE)
        if source:
            slicer.__path__.append(str(Path(source) / "Base" / "Python" / "slicer"))
        else:
            for name, module in doubles.modules().items():
                sys.modules[name] = module
                setattr(slicer, name.rpartition(".")[2], module)
        sys.path.append(str(MODULE_FILE.parent))
        import DiffSeg

        self.module = DiffSeg
        slicer.modules.diffseg = types.SimpleNamespace(path=str(MODULE_FILE), name="DiffSeg", logic=lambda: None)

    def open(self):
        """A widget of the module after setup() and enter(), in a parent that has a scene."""
        if inside_slicer():
            parent = slicer.modules.diffseg.createNewWidgetRepresentation()
            widget = parent.self()
            parent.enter()
            self._windows.append((parent, widget))
            return widget
        parent = self.parent()
        widget = self.module.DiffSegWidget(parent)
        widget.setup()
        parent.setMRMLScene(slicer.mrmlScene)
        parent.module = widget
        parent.enter()
        self._windows.append((parent, widget))
        return widget

    def parent(self):
        """What a widget of the module is made in."""
        import qt

        parent = slicer.qMRMLWidget()
        parent.setLayout(qt.QVBoxLayout())
        parent.setMRMLScene(slicer.mrmlScene)
        return parent

    def close(self):
        """Clean up every window, as at the end of the application."""
        for parent, widget in self._windows:
            if parent.isEntered:
                parent.exit()
            widget.cleanup()
            for panel in widget.panels:  # the module keeps its windows: at least they observe the scene no more
                panel.root.setMRMLScene(None)
        self._windows.clear()

    def wait_for(self, condition, seconds=300.0):
        """Run the event loop until `condition()` holds."""
        import time

        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, "it did not happen in time"
            self.qt.processEvents()
            time.sleep(0.005)
