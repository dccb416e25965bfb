"""qMRMLNodeComboBox."""

from PySide6 import QtCore, QtWidgets
from PySide6.QtCore import Property, Signal


class qMRMLNodeComboBox(QtWidgets.QComboBox):
    """Lists the scene's nodes of its types; exact class when showChildNodeTypes is off."""

    currentNodeChanged = Signal(object)

    def __init__(self, parent=None):
        super().__init__(parent)
        self._scene, self._types, self._children, self._none, self._identifiers = None, [], True, False, []
        self._none_text, self._tags = "None", []
        self._flags = {"addEnabled": True, "removeEnabled": True}
        self.currentIndexChanged.connect(lambda _: self.currentNodeChanged.emit(self.currentNode()))

    def setMRMLScene(self, scene):
        for tag in self._tags:
            self._scene.RemoveObserver(tag)
        self._scene, self._tags = scene, []
        if scene is not None:
            events = (scene.NodeAddedEvent, scene.NodeRemovedEvent, scene.EndCloseEvent)
            self._tags = [scene.AddObserver(event, self._fill) for event in events]
            self._fill()

    def _accepts(self, node):
        if self._children:
            return any(node.IsA(kind) for kind in self._types)
        return node.GetClassName() in self._types

    def _fill(self, *_):
        chosen = self.currentNode()
        known = [self._scene.GetNthNode(n) for n in range(self._scene.GetNumberOfNodes())]
        listed = [node for node in known if self._accepts(node) and not node.GetHideFromEditors()]
        blocked = QtCore.QSignalBlocker(self)
        self.clear()
        self._identifiers = [None] * self._none + [node.GetID() for node in listed]
        for name in [self._none_text] * self._none + [node.GetName() for node in listed]:
            self.addItem(name)
        blocked.unblock()
        self.setCurrentNode(chosen)
        if self.currentNode() is not chosen:
            self.currentNodeChanged.emit(self.currentNode())

    def currentNode(self):
        index = QtWidgets.QComboBox.property(self, "currentIndex")
        identifier = self._identifiers[index] if 0 <= index < len(self._identifiers) else None
        return self._scene.GetNodeByID(identifier) if identifier else None

    def setCurrentNode(self, node):
        identifier = node.GetID() if node else None
        self.setCurrentIndex(self._identifiers.index(identifier) if identifier in self._identifiers else 0)

    def _take_types(self, value):
        self._types = list(value)

    nodeTypes = Property("QStringList", lambda self: self._types, _take_types)
    showChildNodeTypes = Property(bool, lambda self: self._children, lambda self, v: setattr(self, "_children", v))
    noneEnabled = Property(bool, lambda self: self._none, lambda self, value: setattr(self, "_none", value))
    noneDisplay = Property(str, lambda self: self._none_text, lambda self, value: setattr(self, "_none_text", value))
    renameEnabled = Property(bool, lambda self: False, lambda self, value: None)
    addEnabled = Property(bool, lambda self: True, lambda self, value: None)
    removeEnabled = Property(bool, lambda self: True, lambda self, value: None)
