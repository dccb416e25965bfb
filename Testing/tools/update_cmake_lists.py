"""Rewrite the file list of DiffSegLib/CMakeLists.txt from what is on disk; `--check` only compares.

Nothing is globbed in a Slicer extension: a forgotten file works from the source tree and is missing when installed.
"""

import sys
from pathlib import Path

LIBRARY = Path(__file__).resolve().parents[2] / "DiffSegLib"
HEAD = "# Written by Testing/tools/update_cmake_lists.py; run it after adding or removing a file.\n"


def wanted() -> str:
    """What DiffSegLib/CMakeLists.txt should hold."""
    scripts = sorted(path.relative_to(LIBRARY).as_posix() for path in LIBRARY.rglob("*.py"))
    data = [path for kind in ("*.safetensors", "*.html") for path in LIBRARY.rglob(kind)]
    resources = sorted(path.relative_to(LIBRARY).as_posix() for path in data)
    text = HEAD + "set(DIFFSEGLIB_SCRIPTS\n" + "".join(f"  {name}\n" for name in scripts) + "  )\n\n"
    text += "set(DIFFSEGLIB_RESOURCES\n" + "".join(f"  {name}\n" for name in resources) + "  )\n\n"
    text += "slicerMacroBuildScriptedModule(\n  NAME DiffSegLib\n  SCRIPTS ${DIFFSEGLIB_SCRIPTS}\n"
    return text + "  RESOURCES ${DIFFSEGLIB_RESOURCES}\n  WITH_SUBDIR\n  )\n"


if __name__ == "__main__":
    listing = LIBRARY / "CMakeLists.txt"
    if "--check" in sys.argv:
        sys.exit(0 if listing.read_text(encoding="utf-8") == wanted() else "DiffSegLib/CMakeLists.txt is out of date")
    listing.write_text(wanted(), encoding="utf-8")
