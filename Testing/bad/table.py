"""Write what is said to every kind of malformed input into docs/reliability.md, and how often what was tried.

python Testing/bad/table.py [TALLY]   # TALLY: what DIFFSEG_TALLY=TALLY make test wrote
"""

import json
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import test_bad_inputs
from bad import KINDS
from DiffSegLib.errors import InputError, printable

ROOT = Path(__file__).resolve().parents[2]
BEGIN, END = "<!-- kinds -->", "<!-- end of kinds -->"
COUNTS, END_OF_COUNTS = "<!-- counts -->", "<!-- end of counts -->"


def said(each) -> str:
    """The sentence, without the folder."""
    with tempfile.TemporaryDirectory() as outer:
        folder = f"{outer}/kind"  # some write beside it
        Path(folder).mkdir()
        path = each.make(Path(folder))
        try:
            found = test_bad_inputs.READERS[each.group](path)
        except InputError as problem:
            text = str(problem).splitlines()[0]
        else:
            text = (getattr(found, "notes", None) or ("as it is",))[0]
        path = printable(str(path))
        return text.replace(f"{path}: ", "").replace(f"{folder}/", "").replace(folder, "").strip()


def count(page: Path, found: dict[str, dict[str, int]]) -> None:
    """Write how often each was tried in one run of the tests."""
    head, _, rest = page.read_text(encoding="utf-8").partition(COUNTS)
    tail = rest.partition(END_OF_COUNTS)[2]
    lines = ["| tried in one run | times | tests | tests in which something was lost or wrong |", "| --- " * 4 + "|"]
    lines += [f"| {kind} | {row['tried']:,} | {row['tests']} | {row['wrong']} |" for kind, row in found.items()]
    page.write_text(head + COUNTS + "\n" + "\n".join(lines) + "\n" + END_OF_COUNTS + tail, encoding="utf-8")


def main() -> int:
    """Write it."""
    page = ROOT / "docs" / "reliability.md"
    if len(sys.argv) > 1:
        count(page, json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
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
