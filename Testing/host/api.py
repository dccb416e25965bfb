"""Which names of Qt, CTK and Slicer's widgets the module uses, and which there are.

PythonQt reaches of a CTK or qMRML widget only its properties, signals, slots and invokable methods, and says nothing
about a misspelt signal. What is used is read from the forms and the code; what there is, from the headers.
"""

import ast
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

OWN = ("ctk", "qMRML", "qSlicer")  # classes with headers of Slicer's or CTK's


@dataclass(frozen=True)
class Use:
    """A name of a class: `kind` is property, method or signal (then `name` is its whole signature)."""

    owner: str
    kind: str
    name: str
    where: str


def uses_of_form(path: Path) -> Iterator[Use]:
    """Properties that a form sets, and signals and slots that it connects."""
    tree = ElementTree.parse(path)
    classes = widgets_of(path)
    for widget in tree.iter("widget"):
        for entry in widget.findall("property"):
            if entry.get("stdset") != "0":
                yield Use(widget.get("class"), "property", entry.get("name"), path.name)
    for link in tree.iter("connection"):
        yield Use(classes[link.findtext("sender")], "signal", link.findtext("signal"), path.name)
        yield Use(classes[link.findtext("receiver")], "method", link.findtext("slot").partition("(")[0], path.name)


def widgets_of(path: Path) -> dict[str, str]:
    """Name -> class of every widget of a form."""
    return {w.get("name"): w.get("class") for w in ElementTree.parse(path).iter("widget")}


def uses_of_code(path: Path, forms: Path) -> Iterator[Use]:
    """What a file does with `self.ui.<widget>` of its form, and with widgets that it makes itself."""
    body = ast.parse(path.read_text(encoding="utf-8")).body
    classes: list[ast.AST] = [node for node in body if isinstance(node, ast.ClassDef)]
    rest = ast.Module([node for node in body if not isinstance(node, ast.ClassDef)], [])
    for scope in (*classes, rest):  # self is another in each class
        yield from _uses_of_scope(scope, path, forms)


def _uses_of_scope(tree: ast.AST, path: Path, forms: Path) -> Iterator[Use]:
    known = _made(tree)
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Assign)
            and ast.unparse(node.targets[0]) == "form"
            and isinstance(node.value, ast.Constant)
        ) and node.value.value:
            known |= {f"self.ui.{n}": kind for n, kind in widgets_of(forms / f"{node.value.value}.ui").items()}
    called = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            owner = known.get(ast.unparse(node.value))
            if owner is not None and node.attr not in ("connect", "disconnect"):
                yield Use(
                    owner, "method" if id(node) in called else "property", node.attr, f"{path.name}:{node.lineno}"
                )
            elif (
                owner is None
                and ast.unparse(node.value).startswith("self.ui.")
                and ast.unparse(node.value).count(".") == 2
            ):
                yield Use("?", "widget", ast.unparse(node.value), f"{path.name}:{node.lineno}")
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "connect":
            given = [ast.unparse(node.func.value), *(ast.unparse(a) for a in node.args)]
            texts = [a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
            owner = next((known[text] for text in given if text in known), None)
            if owner is not None and texts:
                yield Use(owner, "signal", texts[0], f"{path.name}:{node.lineno}")


def _made(tree: ast.AST) -> dict[str, str]:
    """`name = qt.QTimer()` -> {name: QTimer}."""
    made = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call):
            found = re.fullmatch(r"(?:qt|ctk|slicer)\.((?:Q|ctk|qMRML|qSlicer)\w+)", ast.unparse(node.value.func))
            if found:
                made |= {ast.unparse(target): found.group(1) for target in node.targets}
    return made


def read_headers(folders: list[Path], wanted: set[str]) -> dict[str, dict[str, object]]:
    """Class -> its base class and own names, for the wanted classes and their bases, from header files."""
    files = {path.stem: path for folder in folders for path in folder.rglob("*.h")}
    table: dict[str, dict[str, object]] = {}
    todo = set(wanted)
    while todo:
        name = todo.pop()
        if name in table or not name.startswith(OWN):
            continue
        if name not in files:
            raise FileNotFoundError(f"no header of {name}")
        table[name] = read_class(files[name].read_text(encoding="utf-8", errors="replace"), name)
        todo.add(str(table[name]["base"]))
    return dict(sorted(table.items()))


def read_class(text: str, name: str) -> dict[str, object]:
    """Base class, properties, signals (normalised) and what can be called, of one class in a header."""
    text = re.sub(r"//[^\n]*|/\*.*?\*/", "", text, flags=re.S)
    found = re.search(rf"class\s+(?:\w+\s+)?{name}\s*(?:final\s*)?:\s*public\s+(\w+)[^{{]*{{(.*?)\n}};", text, re.S)
    if not found:
        raise ValueError(f"no class {name} in its header")
    base, body = found.groups()
    properties = re.findall(r"Q_PROPERTY\(\s*[\w:<>,*& ]+?[\s*&](\w+)\s+READ", body)
    signals, methods = set(), set(re.findall(r"Q_INVOKABLE[^;{(]*?(\w+)\s*\(", body))
    parts = re.split(r"\n\s*((?:public|protected|private|Q_SIGNALS|signals)(?:\s+(?:slots|Q_SLOTS))?)\s*:", body)
    for access, part in zip(parts[1::2], parts[2::2], strict=True):
        declared = re.findall(r"(\w+)\s*\(([^()]*(?:\([^()]*\)[^()]*)*)\)\s*(?:const)?\s*(?:override)?\s*[;{=]", part)
        if access in ("signals", "Q_SIGNALS"):
            for method, arguments in declared:
                signals |= {f"{method}({form})" for form in _forms(arguments)}
        elif access in ("public slots", "public Q_SLOTS"):
            methods |= {method for method, _ in declared}
    return {"base": base, "properties": sorted(properties), "signals": sorted(signals), "methods": sorted(methods)}


def _forms(arguments: str) -> Iterator[str]:
    """The normalised argument lists of a signal: without names, and without each trailing default."""
    kinds, required = [], 0
    for part in filter(None, (text.strip() for text in arguments.split(","))):
        kind, default, _ = part.partition("=")
        kind = re.sub(r"\bconst\b|&", "", kind).strip()
        kind = re.sub(r"\s*\*\s*", "* ", kind).strip()
        words = kind.split()
        if len(words) > 1 and re.fullmatch(r"\w+", words[-1]) and words[-1] not in ("int", "long", "char", "double"):
            words = words[:-1]
        kinds.append(" ".join(words).replace(" *", "*"))
        required += not default
    for count in range(required, len(kinds) + 1):
        yield ",".join(kinds[:count])


def all_uses(root: Path) -> list[Use]:
    """Every use in the module's forms and in the code that touches widgets."""
    forms = root / "DiffSeg" / "Resources" / "UI"
    code = [root / "DiffSeg" / "DiffSeg.py", *sorted((root / "DiffSegLib" / "scene").rglob("*.py"))]
    found = [use for path in sorted(forms.glob("*.ui")) for use in uses_of_form(path)]
    return found + [use for path in code for use in uses_of_code(path, forms)]
