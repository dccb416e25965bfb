"""Write what is said to every kind of malformed input into docs/reliability.md, between its two marks.

python Testing/bad/table.py
"""

import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import test_bad_inputs
from bad import KINDS
from DiffSegLib.errors import InputError

ROOT = Path(__file__).resolve().parents[2]
BEGIN, END = "<!-- kinds -->", "<!-- end of kinds -->"


def said(each) -> str:
    """The sentence, without the folder."""
    with tempfile.TemporaryDirectory() as folder:
        path = each.make(Path(folder))
        try:
            found = test_bad_inputs.READERS[each.group](path)
        except InputError as problem:
            text = str(problem).splitlines()[0]
        else:
            text = (getattr(found, "notes", None) or ("as it is",))[0]
        return text.replace(f"{path}: ", "").replace(f"{folder}/", "").replace(folder, "").strip()


def main() -> int:
    """Write it."""
    page = ROOT / "docs" / "reliability.md"
    head, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    tail = rest.partition(END)[2]
    lines = [f"{len(KINDS)} kinds, each a test.", "", "| input | kind | outcome | what is said |", "| --- " * 4 + "|"]
    for each in KINDS:
        text = "one error event, and the worker lives on" if each.group == "request" else said(each)
        lines.append(f"| {each.group} | {each.name} | {each.outcome} | {text[:160].replace('|', '/')} |")
    page.write_text(head + BEGIN + "\n" + "\n".join(lines) + "\n" + END + tail, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
