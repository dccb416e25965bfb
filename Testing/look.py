"""What the module's window looks like where everything is larger and dark; prints one JSON object.

PYTHONPATH=.:Testing QT_SCALE_FACTOR=1.25 QT_QPA_PLATFORM=offscreen python Testing/look.py
"""

import importlib
import json
import sys

from host.application import Host

DARK, LIGHT, LINK = "#2d2d30", "#e6e6e6", "#6cb0ff"
HOST = {"slicer", "qt", "ctk", "vtk", "host"}  # what Slicer has loaded before


def main() -> None:
    """Open the window in a dark style as narrow as it goes, and look at every widget."""
    for double in ("host.doubles", "host.pythonqt"):  # what they need is not the module's doing
        importlib.import_module(double)
    before = set(sys.modules)
    made = Host()
    imported = packages(before)
    import qt

    application = qt.QApplication.instance()
    application.setPalette(dark(qt))
    larger = application.font()
    larger.setPointSizeF(1.25 * larger.pointSizeF())
    application.setFont(larger)
    widget = made.open()
    opened = packages(before)
    window = widget.parent
    for section in window.findChildren(qt.QWidget):
        if section.metaObject().className() == "ctkCollapsibleButton":
            section.collapsed = False
    window.show()
    made.qt.processEvents()
    layout = window.layout()
    width = layout.minimumSize().width()
    window.resize(width, max(layout.heightForWidth(width), layout.minimumSize().height()))
    made.qt.processEvents()
    seen = [w for w in window.findChildren(qt.QWidget) if w.visible]
    found = {
        "ratio": window.devicePixelRatioF(),
        "width": window.width,
        "imported": imported,
        "opened": opened,
        "widgets": len(seen),
        "clipped": [name(w) for w in seen if is_clipped(qt, w)],
        "unreadable": [name(w) for w in seen if contrast(w) < 4.5],
    }
    made.close()
    print(json.dumps(found))


def packages(before: set[str]) -> list[str]:
    """What was imported since, but for the standard library and what Slicer has anyway."""
    new = {module.partition(".")[0] for module in set(sys.modules) - before}
    return sorted(new - set(sys.stdlib_module_names) - HOST)


def dark(qt):
    """A palette as that of Slicer's dark style."""
    palette = qt.QPalette(qt.QColor(DARK))
    for role in ("WindowText", "Text", "ButtonText", "ToolTipText", "HighlightedText"):
        palette.setColor(getattr(qt.QPalette, role), qt.QColor(LIGHT))
    for role in ("Window", "Base", "AlternateBase", "Button", "ToolTipBase", "Highlight"):
        palette.setColor(getattr(qt.QPalette, role), qt.QColor(DARK))
    palette.setColor(qt.QPalette.Link, qt.QColor(LINK))
    return palette


def is_clipped(qt, widget) -> bool:
    """Whether a text or a control has less room than it needs."""
    controls = (qt.QLabel, qt.QAbstractButton, qt.QComboBox, qt.QAbstractSpinBox, qt.QLineEdit)
    if not isinstance(widget, controls) or widget.objectName.startswith("qt_"):  # the field inside a spin box
        return False
    needed, wraps = widget.minimumSizeHint, isinstance(widget, qt.QLabel) and widget.wordWrap
    needed = needed() if callable(needed) else needed  # a class's own method hides the property
    return widget.height < needed.height() or (not wraps and widget.width < needed.width())


def contrast(widget) -> float:
    """Of the text on what is behind it, as WCAG 2.1 counts it: 4.5 can be read."""
    palette = widget.palette
    tones = [luminance(palette.color(role)) for role in (widget.foregroundRole(), widget.backgroundRole())]
    return (max(tones) + 0.05) / (min(tones) + 0.05)


def luminance(color) -> float:
    """Relative, 0 to 1."""
    parts = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in color.getRgbF()[:3]]
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]


def name(widget) -> str:
    """Of a widget or the next one around it that has one."""
    while widget is not None and not widget.objectName:
        widget = widget.parent()
    return widget.objectName if widget is not None else "?"


if __name__ == "__main__":
    main()
