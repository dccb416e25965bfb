"""Doubles of Slicer's own Python layer: what the module uses of it, and no more.

`ScriptedLoadableModule`, `parameterNodeWrapper` (typed fields kept in the real vtkMRMLScriptedModuleNode), `i18n`.
"""

import pathlib
import sys
import types
import typing

import slicer
import slicer.util
import vtk


class ScriptedLoadableModule:
    def __init__(self, parent):
        self.parent = parent


class ScriptedLoadableModuleLogic:
    def getParameterNode(self):
        node = slicer.mrmlScene.GetSingletonNode("DiffSeg", "vtkMRMLScriptedModuleNode")
        if node is None:
            node = slicer.vtkMRMLScriptedModuleNode()
            node.SetSingletonTag("DiffSeg")
            node.SetModuleName("DiffSeg")
            node = slicer.mrmlScene.AddNode(node)
        return node


class ScriptedLoadableModuleWidget:
    def __init__(self, parent):
        self.parent = parent
        self.layout = parent.layout()

    def setup(self):
        pass

    def onReload(self):
        pass

    def resourcePath(self, name):
        from pathlib import Path

        import DiffSeg

        return str(Path(DiffSeg.__file__).parent / "Resources" / name)


class ScriptedLoadableModuleTest:
    def delayDisplay(self, text):
        print(text)


class WithinRange:
    def __init__(self, low, high):
        self.low, self.high = low, high

    def first(self):
        return self.low

    def check(self, value):
        if not self.low <= value <= self.high:
            raise ValueError(f"{value} is not from {self.low} to {self.high}")


class Choice:
    def __init__(self, choices):
        self.choices = choices

    def first(self):
        return self.choices[0]

    def check(self, value):
        if value not in self.choices:
            raise ValueError(f"{value} is not one of {self.choices}")


def _field(name, hint, default):
    kind, rules, role = hint, (), name
    if typing.get_origin(hint) is typing.Annotated:
        kind, *rules = typing.get_args(hint)
    if typing.get_origin(kind) in (types.UnionType, typing.Union):  # a node or None
        kind = next(part for part in typing.get_args(kind) if part is not type(None))
        role = f"{name}.0"  # as Slicer's UnionSerializer calls it
    is_node = issubclass(kind, vtk.vtkObject)
    if default is None and not is_node:
        default = rules[0].first() if rules else kind()

    def get(self):
        if is_node:
            return self.parameterNode.GetNodeReference(role)
        if not self.parameterNode.HasParameter(name):
            return default
        text = self.parameterNode.GetParameter(name)
        return text == "True" if kind is bool else kind(text)

    def put(self, value):
        if is_node:
            self.parameterNode.SetNodeReferenceID(role, value.GetID() if value else None)
            return
        if kind is float and type(value) is int:
            value = float(value)
        if type(value) is not kind and not (kind is pathlib.Path and isinstance(value, kind)):
            raise TypeError(f"{name} must be {kind.__name__}, not {value!r}")
        for rule in rules:
            rule.check(value)
        self.parameterNode.SetParameter(name, str(value))

    return property(get, put), kind, rules


def parameterNodeWrapper(cls):
    """Turn annotated fields into typed access to the wrapped node, with connectGui for the form's widgets."""
    hints = typing.get_type_hints(cls, include_extras=True)
    fields = {name: _field(name, hint, getattr(cls, name, None)) for name, hint in hints.items()}

    class Wrapper:
        allParameters = fields

        def __init__(self, node):
            object.__setattr__(self, "parameterNode", node)
            object.__setattr__(self, "known", {})
            object.__setattr__(self, "written", None)
            self.reread()
            node.AddObserver(vtk.vtkCommand.ModifiedEvent, self.reread)

        def reread(self, *_):
            """Slicer's wrapper, too, remembers what it has read, and reads again only when the node says it changed."""
            for name, (access, _kind, _rules) in fields.items():
                if name != self.written:
                    try:
                        self.known[name] = access.fget(self)
                    except ValueError as problem:
                        print(f"Traceback of an observer: {name}: {problem}", file=sys.stderr)

        def __getattr__(self, name):  # events and observers go to the node
            return getattr(object.__getattribute__(self, "parameterNode"), name)

        def connectGui(self, ui):
            connected = []
            for name, widget in vars(ui).items():
                parameter = widget.property("SlicerParameterName")
                if parameter:
                    if parameter not in fields:
                        raise ValueError(f"Cannot find a param with the given name: {parameter} ({name})")
                    connected.append(_Connection(self, parameter, fields[parameter], widget))
            return connected

        def disconnectGui(self, tag):
            for connection in tag:
                connection.stop()

    def remembered(name, access):
        def put(self, value):
            object.__setattr__(self, "written", name)
            before = self.parameterNode.StartModify()
            try:
                access.fset(self, value)
                self.known[name] = access.fget(self)
            finally:
                self.parameterNode.EndModify(before)
                object.__setattr__(self, "written", None)

        return property(lambda self: self.known[name], put)

    for name, (access, _, _) in fields.items():
        setattr(Wrapper, name, remembered(name, access))
    Wrapper.__name__ = cls.__name__
    return Wrapper


# class of the widget -> signal, how it is read, how it is written; the first base class that is listed serves
CONNECTORS = {
    "qMRMLNodeComboBox": (
        "currentNodeChanged(QObject*)",
        lambda w: w.currentNode(),
        lambda w, value: w.setCurrentNode(value),
    ),
    "ctkPathLineEdit": (
        "currentPathChanged(QString)",
        lambda w: pathlib.Path(w.currentPath),
        lambda w, value: setattr(w, "currentPath", str(value)),
    ),
    "ctkDirectoryButton": (
        "directoryChanged(QString)",
        lambda w: pathlib.Path(w.directory),
        lambda w, value: setattr(w, "directory", str(value)),
    ),
    "ctkSliderWidget": ("valueChanged(double)", lambda w: w.value, lambda w, value: setattr(w, "value", value)),
    "QDoubleSpinBox": ("valueChanged(double)", lambda w: w.value, lambda w, value: setattr(w, "value", value)),
    "QSpinBox": ("valueChanged(int)", lambda w: w.value, lambda w, value: setattr(w, "value", value)),
    "QSlider": ("valueChanged(int)", lambda w: w.value, lambda w, value: setattr(w, "value", value)),
    "QComboBox": ("currentIndexChanged(int)", lambda w: w.currentIndex, lambda w, value: w.setCurrentIndex(value)),
    "QCheckBox": ("toggled(bool)", lambda w: w.checked, lambda w, value: setattr(w, "checked", value)),
    "QLineEdit": ("textChanged(QString)", lambda w: w.text, lambda w, value: setattr(w, "text", value)),
}


class _Connection:
    """One widget and one parameter, kept equal both ways."""

    def __init__(self, wrapper, parameter, field, widget):
        self.wrapper, self.parameter, self.widget, self.live = wrapper, parameter, widget, True
        _, _, rules = field
        names = [kind.__name__ for kind in type(widget).__mro__]
        shape = next((name for name in CONNECTORS if name in names), None)
        if shape is None:
            raise RuntimeError(f"Unable to create GUI connector for {names[0]}")
        signal, self.read, self.write = CONNECTORS[shape]
        for rule in rules:
            if isinstance(rule, WithinRange):
                for name, value in (("minimum", rule.low), ("maximum", rule.high)):
                    setattr(widget, name, value)
            elif shape == "QComboBox":  # goes by the place in the list, whatever the text there
                widget.clear()
                for text in rule.choices:
                    widget.addItem(text)
                self.read = lambda w, choices=rule.choices: choices[w.currentIndex]
                self.write = lambda w, value, choices=rule.choices: w.setCurrentIndex(choices.index(value))
        self.to_widget()
        if shape == "qMRMLNodeComboBox":  # a Python object is no QObject*
            widget.currentNodeChanged.connect(self.to_parameter)
        else:
            widget.connect(signal, self.to_parameter)
        self.tag = wrapper.parameterNode.AddObserver(vtk.vtkCommand.ModifiedEvent, self.to_widget)

    def stop(self):
        self.live = False
        self.wrapper.parameterNode.RemoveObserver(self.tag)

    def to_parameter(self, *_):
        if self.live:
            setattr(self.wrapper, self.parameter, self.read(self.widget))

    def to_widget(self, *_):
        value = getattr(self.wrapper, self.parameter)
        if self.read(self.widget) != value:
            self.write(self.widget, value)


def modules():
    """Name -> module, to stand in sys.modules."""
    layer = types.ModuleType("slicer.ScriptedLoadableModule")
    for kind in (
        ScriptedLoadableModule,
        ScriptedLoadableModuleLogic,
        ScriptedLoadableModuleWidget,
        ScriptedLoadableModuleTest,
    ):
        setattr(layer, kind.__name__, kind)
    parameters = types.ModuleType("slicer.parameterNodeWrapper")
    parameters.parameterNodeWrapper = parameterNodeWrapper
    parameters.WithinRange, parameters.Choice = WithinRange, Choice
    words = types.ModuleType("slicer.i18n")
    words.tr = lambda text: text
    words.translate = lambda _context, text: text
    return {
        "slicer.ScriptedLoadableModule": layer,
        "slicer.parameterNodeWrapper": parameters,
        "slicer.i18n": words,
    }
