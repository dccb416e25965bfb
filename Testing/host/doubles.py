"""Doubles of Slicer's own Python layer: what the module uses of it, and no more.

`ScriptedLoadableModule`, `parameterNodeWrapper` (typed fields kept in the real vtkMRMLScriptedModuleNode), `i18n`.
"""

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

    def check(self, value):
        if not self.low <= value <= self.high:
            raise ValueError(f"{value} is not from {self.low} to {self.high}")


class Choice:
    def __init__(self, choices):
        self.choices = choices

    def check(self, value):
        if value not in self.choices:
            raise ValueError(f"{value} is not one of {self.choices}")


def _field(name, hint, default):
    kind, rules = hint, ()
    if typing.get_origin(hint) is typing.Annotated:
        kind, *rules = typing.get_args(hint)
    is_node = isinstance(kind, type) and issubclass(kind, vtk.vtkObject)

    def get(self):
        if is_node:
            return self.parameterNode.GetNodeReference(name)
        text = self.parameterNode.GetParameter(name)
        if text == "":
            return default
        return text == "True" if kind is bool else kind(text)

    def put(self, value):
        if is_node:
            self.parameterNode.SetNodeReferenceID(name, value.GetID() if value else None)
            return
        if type(value) is not kind:
            raise TypeError(f"{name} must be {kind.__name__}, not {value!r}")
        for rule in rules:
            rule.check(value)
        self.parameterNode.SetParameter(name, str(value))

    return property(get, put), kind, rules


def parameterNodeWrapper(cls):
    """Turn annotated fields into typed access to the wrapped node, with connectGui for the form's widgets."""
    fields = {name: _field(name, hint, getattr(cls, name, None)) for name, hint in cls.__annotations__.items()}

    class Wrapper:
        def __init__(self, node):
            object.__setattr__(self, "parameterNode", node)

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

    for name, (access, _, _) in fields.items():
        setattr(Wrapper, name, access)
    Wrapper.__name__ = cls.__name__
    Wrapper.__annotations__ = dict(cls.__annotations__)
    return Wrapper


class _Connection:
    """One widget and one parameter, kept equal both ways."""

    def __init__(self, wrapper, parameter, field, widget):
        self.wrapper, self.parameter, self.widget, self.live = wrapper, parameter, widget, True
        _, _, rules = field
        self.shape = widget.metaObject().className()
        signals = {
            "QSpinBox": "valueChanged(int)",
            "QComboBox": "currentIndexChanged(int)",
            "QCheckBox": "toggled(bool)",
            "qMRMLNodeComboBox": "currentNodeChanged(QObject*)",
        }
        if self.shape == "QSpinBox":
            widget.setRange(rules[0].low, rules[0].high)
        if self.shape == "QComboBox":
            for text in rules[0].choices:
                widget.addItem(text)
        self.to_widget()
        if self.shape == "qMRMLNodeComboBox":
            widget.currentNodeChanged.connect(self.to_parameter)
        else:
            widget.connect(signals[self.shape], self.to_parameter)
        self.tag = wrapper.parameterNode.AddObserver(vtk.vtkCommand.ModifiedEvent, self.to_widget)

    def stop(self):
        self.live = False
        self.wrapper.parameterNode.RemoveObserver(self.tag)

    def to_parameter(self, *_):
        if self.live:
            value = {
                "QSpinBox": lambda w: w.value,
                "QComboBox": lambda w: w.currentText,
                "QCheckBox": lambda w: w.checked,
                "qMRMLNodeComboBox": lambda w: w.currentNode(),
            }[self.shape](self.widget)
            setattr(self.wrapper, self.parameter, value)

    def to_widget(self, *_):
        value = getattr(self.wrapper, self.parameter)
        if self.shape == "QSpinBox":
            self.widget.value = value
        elif self.shape == "QComboBox":
            self.widget.setCurrentText(value)
        elif self.shape == "QCheckBox":
            self.widget.checked = value
        else:
            self.widget.setCurrentNode(value)


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
