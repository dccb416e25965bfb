"""Translation of what the window says: Slicer's own; slicer-core has none, and there the sentences stay English.

`from DiffSegLib.scene.words import tr as _`, as Slicer's modules do with slicer.i18n: the function finds the context of
a sentence by the file that calls it, and Slicer's lupdate finds the sentence by the underscore.
"""

try:
    from slicer.i18n import tr
except ImportError:

    def tr(text: str) -> str:
        """The text itself."""
        return text


__all__ = ["tr"]
