"""What the tables of the sections do alike."""

from typing import Any


def fitRows(table: Any, most: int = 6) -> None:
    """Make a table as high as its rows are, or as `most` of them; the rest is scrolled to."""
    rows = min(max(table.rowCount, 1), most)
    height = (rows + 1) * table.verticalHeader().defaultSectionSize + 2 * table.frameWidth
    table.minimumHeight = table.maximumHeight = height
