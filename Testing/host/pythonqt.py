"""PySide6 that behaves as PythonQt does in Slicer: properties are attributes, connect takes signal strings.

`import_qt()` makes `qt` and `ctk` importable and adds the q* widgets to `slicer`. It patches PySide6's classes for the
whole process. A wrong signal name raises here, where PythonQt only returns False.
"""

import ctypes
import inspect
import sys
import types

import slicer
from PySide6 import QtCore, QtGui, QtUiTools, QtWidgets
from PySide6.QtCore import QObject

MODULES = (QtCore, QtGui, QtWidgets, QtUiTools)
_plain_connect = QObject.connect
_plain_attribute = QObject.__getattribute__
_patched = set()


def _attribute(name, writable, method):
    def get(self):
        # Qt's own property would call a method of that name, for which PySide6 up to 6.8 takes this one, without end
        return method(self) if callable(method) else QObject.property(self, name)

    def put(self, value):
        if not QObject.setProperty(self, name, value):
            raise AttributeError(f"{type(self).__name__}.{name} cannot be {value!r}")

    return property(get, put if writable else None)


def _patch(kind):
    if kind in _patched or not hasattr(kind, "staticMetaObject"):
        return
    _patched.add(kind)
    for base in kind.__mro__[1:]:
        _patch(base)
    meta = kind.staticMetaObject
    for number in range(meta.propertyOffset(), meta.propertyCount()):
        found = meta.property(number)
        if (kind.__name__, found.name()) != ("QTimer", "singleShot"):  # a static method of that name must stay
            method = kind.__dict__.get(found.name())
            setattr(kind, found.name(), _attribute(found.name(), found.isWritable(), method))


def _connect(sender, signal, slot):
    name = bytes(QtCore.QMetaObject.normalizedSignature(signal).data()).decode()
    name = name.replace("vtkMRMLNode*", "PyObject")  # what the doubles of Slicer's widgets send
    if sender.metaObject().indexOfSignal(name) < 0:
        raise ValueError(f"{type(sender).__name__} has no signal {signal}")
    try:
        parameters = list(inspect.signature(slot).parameters.values())
        count = len(parameters) if all(p.kind is not p.VAR_POSITIONAL for p in parameters) else None
    except (TypeError, ValueError):
        count = None
    _plain_connect(sender, "2" + name, lambda *values: slot(*values[:count]))
    return True


def _lookup(self, name):
    plain = _plain_attribute(self, name)
    if name == "connect":  # PySide6 itself connects a single shot to a function with three arguments
        return lambda *given: _connect(self, *given) if len(given) == 2 else plain(*given)
    return plain


def _single_shot(msec, slot):
    """As Slicer's, which gives each timer a parent that lives as long as the application, and never deletes it."""
    timer = QtCore.QTimer(QtWidgets.QApplication.instance())
    timer.setSingleShot(True)
    _connect(timer, "timeout()", slot)
    timer.start(msec)


class ToolTips(QObject):
    """What Slicer's ctkToolTipTrapper does: a plain tooltip becomes a paragraph as soon as it is set."""

    def eventFilter(self, watched, event):
        if event.type() == QtCore.QEvent.ToolTipChange and isinstance(watched, QtWidgets.QWidget):
            text = QObject.property(watched, "toolTip")
            if text and not QtGui.Qt.mightBeRichText(text):
                QObject.setProperty(
                    watched, "toolTip", QtGui.Qt.convertFromPlainText(text, QtCore.Qt.WhiteSpaceMode.WhiteSpaceNormal)
                )
                return True
        return False


class UiLoader(QtUiTools.QUiLoader):
    """Loads the module's form with the custom widgets below."""

    def __init__(self, *_arguments):
        super().__init__()
        from host.widgets import CUSTOM

        for kind in CUSTOM:
            self.registerCustomWidget(kind)

    def createWidget(self, className, parent=None, name=""):
        made = super().createWidget(className, parent, name)
        assert made is not None, f"unknown widget class {className}"
        return made


class _Flat(types.ModuleType):
    """All of Qt in one module, as PythonQt offers it."""

    def __getattr__(self, name):
        if name == "QUiLoader":
            return UiLoader
        for module in MODULES:
            if hasattr(module, name):
                return getattr(module, name)
        raise AttributeError(f"qt.{name}")


def import_qt():
    """Start an application, patch PySide6 and fill sys.modules; returns the application. Safe to call again."""
    application = QtWidgets.QApplication.instance() or QtWidgets.QApplication([])
    if "qt" in sys.modules:
        return application
    if sys.version_info < (3, 12):
        # PySide6 counts on values that live for ever, as they do from 3.12 on: its calls without a result and its
        # setters take references from them, and at none left the process is aborted
        for value in (None, True, False):
            ctypes.c_ssize_t.from_address(id(value)).value += 1 << 40
    # QProcess does not take its base's look-up over
    QObject.__getattribute__ = QtCore.QProcess.__getattribute__ = _lookup
    QObject.className = lambda self: self.metaObject().className()
    QObject.name = property(lambda self: QObject.property(self, "objectName"))
    for module in MODULES:
        for name in dir(module):  # dir(), not vars(): PySide6 makes its classes when asked for
            kind = getattr(module, name, None)
            if isinstance(kind, type) and issubclass(kind, QObject):
                _patch(kind)
    application.toolTips = ToolTips()
    application.installEventFilter(application.toolTips)
    QtCore.QTimer.singleShot = staticmethod(_single_shot)
    sys.modules["qt"], sys.modules["ctk"] = _Flat("qt"), types.ModuleType("ctk")
    from host import widgets

    for kind in widgets.CUSTOM + widgets.EMPTY:
        setattr(slicer if kind.__name__.startswith("q") else sys.modules["ctk"], kind.__name__, kind)
    return application
