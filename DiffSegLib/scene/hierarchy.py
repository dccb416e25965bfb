"""Results in Slicer's subject hierarchy: under the patient's study, beside the volume that they belong to.

In the application every node has an item by itself. On slicer-core none has: then nothing happens here.
"""

from typing import Any

import slicer
import vtk

PLACED = "DiffSeg.Placed"  # a node is moved once: where the user put it later, it stays
FOLDER = "DiffSeg.Folder"


def place_beside(node: Any, volumeNode: Any) -> None:
    """Move a node's item to the parent of its volume's item."""
    hierarchy, own, other = _items(node, volumeNode)
    if own and other and node.GetAttribute(PLACED) is None:
        hierarchy.SetItemParent(own, hierarchy.GetItemParent(other))
        node.SetAttribute(PLACED, "1")


def place_in_folder(node: Any, volumeNode: Any, name: str, key: str) -> None:
    """Move a node's item into the folder with `key`; if there is none it is made beside the volume, collapsed."""
    hierarchy, own, other = _items(node, volumeNode)
    if not (own and other):
        return
    folder = find_folder(key)
    if not folder:
        folder = hierarchy.CreateFolderItem(hierarchy.GetItemParent(other), name)
        hierarchy.SetItemAttribute(folder, FOLDER, key)
        hierarchy.SetItemExpanded(folder, False)
    hierarchy.SetItemParent(own, folder)
    node.SetAttribute(PLACED, "1")


def find_folder(key: str) -> int:
    """The folder's item, wherever the user may have moved it; 0 if there is none."""
    hierarchy = slicer.mrmlScene.GetSubjectHierarchyNode()
    if hierarchy is None:
        return 0
    items = vtk.vtkIdList()
    hierarchy.GetItemChildren(hierarchy.GetSceneItemID(), items, True)
    every = (items.GetId(n) for n in range(items.GetNumberOfIds()))
    return next((item for item in every if hierarchy.GetItemAttribute(item, FOLDER) == key), 0)


def _items(node: Any, volumeNode: Any) -> tuple[Any, int, int]:
    hierarchy = slicer.mrmlScene.GetSubjectHierarchyNode()
    if hierarchy is None:
        return None, 0, 0
    return hierarchy, hierarchy.GetItemByDataNode(node), hierarchy.GetItemByDataNode(volumeNode)
