"""What a user of the window reads can be translated: each sentence stands in `_()`, where Slicer's lupdate looks."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import DiffSegLib.errors
from conftest import ROOT

SCENE = ROOT / "DiffSegLib" / "scene"
SOURCES = [path for path in sorted(SCENE.rglob("*.py")) if path.name != "batch.py"]  # a command line's, English
SOURCES += [ROOT / "DiffSeg" / "DiffSeg.py"]
FUNCTIONS = {"DiffSegLib.scene.words", "slicer.i18n"}  # where `_` comes from
ERRORS = {name for name, kind in vars(DiffSegLib.errors).items() if isinstance(kind, type)} | {"Edited"}
# in no window: the first stands in a file, the others tell developers of a defect or stand in their test's log
PLAIN = {"Written by DiffSeg from a Slicer scene.", "There is no signal {}.", "There is no signal currentNodeChanged."}
PLAIN |= {"A synthetic volume is segmented", "Skipped: {}", "Test passed"}
SENTENCE = re.compile(r"[\w{“]\S* .*[.?!…:](\n.*)?", re.DOTALL)


def literals(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Every text outside of docstrings and `_()`, with its line; an f-string's values as {}."""
    if isinstance(tree, ast.Call) and called(tree) in ("_", "translate"):
        return
    if isinstance(tree, ast.Expr) and isinstance(tree.value, ast.Constant):
        return
    if isinstance(tree, ast.JoinedStr):
        yield tree.lineno, "".join(str(getattr(part, "value", "")) if is_text(part) else "{}" for part in tree.values)
        for part in tree.values:
            if isinstance(part, ast.FormattedValue):
                yield from literals(part.value)
        return
    if is_text(tree):
        yield tree.lineno, tree.value
    for child in ast.iter_child_nodes(tree):
        yield from literals(child)


def is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def called(node: ast.Call) -> str:
    return ast.unparse(node.func).rpartition(".")[2]


def plain_sentences(text: str) -> list[tuple[int, str]]:
    """Sentences that a user may see and nobody can translate, and ways to call `_` that lupdate does not follow."""
    tree, found = ast.parse(text), []
    found += [(line, words) for line, words in literals(tree) if SENTENCE.fullmatch(words)]
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and called(node) in ERRORS:
            found += [(line, words) for value in node.args for line, words in literals(value) if " " in words.strip()]
        elif isinstance(node, ast.Call) and called(node) == "_" and not (len(node.args) == 1 and is_text(node.args[0])):
            found.append((node.lineno, ast.unparse(node)))
    return [(line, words) for line, words in dict.fromkeys(found) if words not in PLAIN]


def wrong_names(text: str) -> list[int]:
    """Lines that give `_` another meaning in a file that translates, or translate with another function."""
    tree = ast.parse(text)
    imported = [
        (node.lineno, node.module in FUNCTIONS)
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and any(alias.asname == "_" for alias in node.names)
    ]
    calls = [node.lineno for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func) == "_"]
    bound = [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and node.id == "_"
    ]
    return [line for line, isKnown in imported if not isKnown] + (bound if imported else calls)


@pytest.mark.parametrize(
    "text",
    [
        'raise InputError("Choose a volume first.")',
        'raise InputError("no volume")',
        'raise InputError(f"{name} holds no voxels.")',
        'raise steps.Edited(f"{name}: edited")',
        'run.error = DiffSegError("It could not be " + what)',
        'text = f"{name}: was drawn on {other}; choose one."\nraise InputError(text)',
        'warnings.append("Nothing was found.")',
        'self.say("Waiting for the engine…")',
        'say(_(f"{name} holds no voxels."))',
        'say(_("{name} holds" + " no voxels."))',
        "say(_(text))",
        'raise InputError(_("{problem} Choose another.").format(problem=f"{path}: cannot be read."))',
    ],
)
def test_the_guard_sees_a_sentence_that_cannot_be_translated(text):
    assert plain_sentences(text)


@pytest.mark.parametrize(
    "text",
    [
        'from DiffSegLib.scene.words import tr as _\nfor value, _ in rows:\n    say(_("Done."))',
        'from gettext import gettext as _\nsay(_("Done."))',
        'say(_("Done."))',
    ],
)
def test_the_guard_sees_an_underscore_that_translates_nothing(text):
    assert wrong_names(text)


def test_the_guard_lets_pass_what_is_translated_or_no_sentence():
    text = '''
"""A docstring."""
from slicer.i18n import tr as _
def f(name):
    """Another one."""
    raise InputError(_("{name} holds no voxels; load it again.").format(name=name)) from None
node.SetName(f"{name} step {number}")
say(", ".join(names) + ". ")
'''
    assert plain_sentences(text) == [] and wrong_names(text) == []


def test_every_sentence_of_the_window_can_be_translated():
    assert len(SOURCES) > 40
    wrong = {where(path): plain_sentences(path.read_text(encoding="utf-8")) for path in SOURCES}
    assert {path: found for path, found in wrong.items() if found} == {}


def test_the_underscore_is_slicers_everywhere():
    wrong = {where(path): wrong_names(path.read_text(encoding="utf-8")) for path in SOURCES}
    assert {path: found for path, found in wrong.items() if found} == {}


def where(path: Path) -> str:
    return str(path.relative_to(ROOT))
