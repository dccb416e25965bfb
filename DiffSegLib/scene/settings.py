"""What the module remembers between sessions of Slicer, in the application's own settings."""

from typing import Any

import slicer

PREFIX = "DiffSeg/"
_without_application: dict[str, str] = {}


def get(key: str, default: str = "") -> str:
    """A remembered text."""
    settings = _settings()
    found = _without_application.get(key) if settings is None else settings.value(PREFIX + key)
    return default if found is None else str(found)


def put(key: str, value: str) -> None:
    """Remember a text; an empty one is forgotten."""
    settings = _settings()
    if settings is None:
        _without_application[key] = value
    elif value:
        settings.setValue(PREFIX + key, value)
    else:
        settings.remove(PREFIX + key)


def _settings() -> Any:
    application: Any = getattr(slicer, "app", None)
    return application.userSettings() if hasattr(application, "userSettings") else None
