"""qMRMLTableView."""

from PySide6 import QtGui, QtWidgets


class qMRMLTableView(QtWidgets.QTableView):
    """Shows a table node's cells as text, its first column as row headers where the node says so."""

    def __init__(self, parent=None):
        super().__init__(parent)
        self._node = None

    def setMRMLScene(self, scene):
        pass

    def mrmlTableNode(self):
        return self._node

    def setMRMLTableNode(self, node):
        self._node = node
        model = QtGui.QStandardItemModel()
        if node is not None:
            first = 1 if node.GetUseFirstColumnAsRowHeader() else 0
            columns = range(first, node.GetNumberOfColumns())
            model.setHorizontalHeaderLabels([node.GetColumnName(column) for column in columns])
            for row in range(node.GetNumberOfRows()):
                model.appendRow([QtGui.QStandardItem(node.GetCellText(row, column)) for column in columns])
            if first:
                model.setVerticalHeaderLabels([node.GetCellText(row, 0) for row in range(node.GetNumberOfRows())])
        self.setModel(model)
        self._model = model
        self.resizeColumnsToContents()
