"""The house keeps its shape: which room imports which, what an import costs, nothing executed from a file."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import ROOT

LIBRARY = ROOT / "DiffSegLib"
# anyone may import these
PLAIN = {"errors", "whole_files", "events", "labels", "jobs", "config", "config_rules", "presets", "options", "schema"}
PLAIN |= {"config_idle", "terminal", "tuning", "__version__"}
# Room -> the other rooms it may import. What is not written here is refused, a new room too.
ARROWS = {
    "__init__": set(),
    **{room: set() for room in PLAIN - {"__version__"}},
    "data": set(),
    "diffusion": set(),
    "network": {"diffusion"},
    "models": {"network"},
    "inference": {"data", "diffusion", "network", "models"},
    "training": {"data", "diffusion", "network", "models", "inference"},
    "evaluation": {"data"},
    "demo": {"data", "models", "inference"},
    "serving": {"data", "models", "network", "inference", "training", "evaluation"},
    "scene": {"models", "data"},  # of both only what needs no torch, see WITHOUT_TORCH
    "commands": {"data", "models", "inference", "training", "evaluation", "demo", "scene", "serving"},
    "__main__": {"commands"},
}
SLICER = {"slicer", "qt", "ctk", "vtk", "vtkmodules", "mrml"}
HEAVY = {"torch", "monai"}
WITHOUT_TORCH = {
    "models.shipped",
    "models.card",
    "models.library",
    "data.volume",
    "data.batch",
    "data.channels",
    "data.files",
    "data.outputs",
}
WITHOUT_TORCH = {f"DiffSegLib.{name}" for name in WITHOUT_TORCH}
FILE_LINES = 320  # without blank ones: a file holds one idea
ENGINE_LINES = 9427
EXECUTES = {"eval", "exec", "compile", "__import__", "os.system", "os.popen", "runpy.run_path"}
EXECUTES |= {"torch.load", "torch.jit.load", "torch.hub.load"}
OPTIONAL = {"matplotlib", "nilearn", "mpl_toolkits"}  # packages of the extra `demo`


def sources(folder: Path = LIBRARY) -> list[Path]:
    return sorted(path for path in folder.rglob("*.py") if "__pycache__" not in path.parts)


def engine() -> list[Path]:
    return [path for path in sources() if room_of(path) != "scene"]


def room_of(path: Path) -> str:
    inside = path.relative_to(LIBRARY)
    return inside.parts[0] if len(inside.parts) > 1 else inside.stem


def imports(text: str) -> Iterator[tuple[str, int]]:
    """Every imported module, wherever in the file, with its line; `from DiffSegLib import x` as `DiffSegLib.x`."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: imports are absolute here"
            parent = str(node.module)
            names = [f"{parent}.{alias.name}" for alias in node.names] if parent == "DiffSegLib" else [parent]
            yield from ((name, node.lineno) for name in names)


def where(path: Path, line: int) -> str:
    return f"{path.relative_to(ROOT)}:{line}"


def run_python(code: str) -> str:
    command = [sys.executable, "-c", code]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.strip()


def test_each_room_imports_only_the_rooms_it_may():
    wrong = []
    for path in sources():
        room = room_of(path)
        assert room in ARROWS, f"{room}: a new room; write into ARROWS what it may import"
        for name, line in imports(path.read_text(encoding="utf-8")):
            if name.startswith("DiffSegLib."):
                other = name.split(".")[1]
                if other not in PLAIN | ARROWS[room] | {room}:
                    wrong.append(f"{where(path, line)}: {room} -> {other}")
    assert wrong == []


def test_the_arrows_go_one_way():
    order: list[str] = []
    while len(order) < len(ARROWS):
        free = [room for room in ARROWS if room not in order and ARROWS[room] <= set(order)]
        assert free, f"a circle among {sorted(set(ARROWS) - set(order))}"
        order += free
    assert order.index("diffusion") < order.index("inference") < order.index("training") < order.index("commands")


def test_plain_data_needs_nothing_but_the_standard_library():
    for room in PLAIN - {"__version__"}:
        path = LIBRARY / f"{room}.py"
        for name, line in imports(path.read_text(encoding="utf-8")):
            top, *rest = name.split(".")
            allowed = top in sys.stdlib_module_names or (top == "DiffSegLib" and rest[0] in PLAIN)
            assert allowed, f"{where(path, line)}: {name}"


def test_only_the_scene_knows_slicer_and_qt_and_vtk():
    found = {room_of(p) for p in sources() for name, _ in imports(p.read_text(encoding="utf-8")) if is_slicer(name)}
    assert found == {"scene"}


def is_slicer(name: str) -> bool:
    return name.split(".")[0] in SLICER


def test_the_window_never_imports_torch():
    wrong = []
    for path in (*sources(LIBRARY / "scene"), *sources(ROOT / "DiffSeg")):
        for name, line in imports(path.read_text(encoding="utf-8")):
            engine_room = name.startswith(("DiffSegLib.models", "DiffSegLib.data")) and name not in WITHOUT_TORCH
            if name.split(".")[0] in HEAVY or engine_room:
                wrong.append(f"{where(path, line)}: {name}")
    assert wrong == []


def test_the_window_has_its_own_timers():
    """Slicer keeps each that QTimer.singleShot makes, with what it calls, until the application ends."""
    for path in (*sources(LIBRARY / "scene"), *sources(ROOT / "DiffSeg")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        assert not [node.lineno for node in ast.walk(tree) if getattr(node, "attr", "") == "singleShot"], path


def test_the_engine_runs_where_there_is_no_slicer():
    modules = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in engine()]
    names = [name.removesuffix(".__init__") for name in modules]
    code = f"""
import importlib, sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {SLICER!r}:
            raise AssertionError("the engine imports " + name)
sys.meta_path.insert(0, Blocked())
for name in {names!r}:
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as missing:
        if (missing.name or "").split(".")[0] not in {OPTIONAL!r}:
            raise
print(len({names!r}))
"""
    assert int(run_python(code)) == len(names) > 40


@pytest.mark.parametrize(
    "code",
    [
        "import DiffSegLib, DiffSegLib.__main__",
        "import DiffSegLib.errors, DiffSegLib.events, DiffSegLib.labels, DiffSegLib.jobs, DiffSegLib.config",
        "from DiffSegLib.models.shipped import shipped; assert shipped()",
        "import DiffSegLib.models.library",
        "from DiffSegLib.commands import make_parser; make_parser()",
        f"import {', '.join(sorted(WITHOUT_TORCH))}",
    ],
)
def test_what_a_window_or_a_help_text_needs_does_not_import_torch(code):
    assert run_python(f"{code}\nimport sys; print(sorted({HEAVY!r} & sys.modules.keys()))") == "[]"


def dangers(text: str) -> list[tuple[int, str]]:
    """Lines that execute, or could execute, what stands in a file, or that unpack an archive."""
    found = []
    for name, line in imports(text):
        if name.split(".")[0] in {"pickle", "marshal", "shelve", "dill", "joblib", "cloudpickle"}:
            found.append((line, f"import {name}"))
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        options = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
        last = called.rpartition(".")[2]
        if called in EXECUTES or last in {"extractall", "unpack_archive"}:
            found.append((node.lineno, called))
        elif called in {"np.load", "numpy.load"} and options.get("allow_pickle") != "False":
            found.append((node.lineno, f"{called} without allow_pickle=False"))
        elif options.get("shell", "False") != "False":
            found.append((node.lineno, f"{called} through a shell"))
    return found


@pytest.mark.parametrize(
    "text",
    [
        "import pickle",
        "def f():\n    from joblib import load",
        "eval(text)",
        "exec(open(path).read())",
        "torch.load(path)",
        "torch.load(path, weights_only=True)",
        "np.load(path)",
        "np.load(path, allow_pickle=True)",
        "subprocess.run(line, shell=True)",
        "zipfile.ZipFile(path).extractall(folder)",
        "shutil.unpack_archive(path)",
    ],
)
def test_the_guard_sees_each_danger(text):
    assert dangers(text)


def test_nothing_is_executed_from_a_file():
    assert dangers("network.eval()\nnp.load(path, allow_pickle=False)\nre.compile(text)") == []
    files = (*sources(), *sources(ROOT / "DiffSeg"))
    wrong = [f"{where(p, line)}: {what}" for p in files for line, what in dangers(p.read_text(encoding="utf-8"))]
    assert wrong == []


def test_files_stay_small_and_so_does_the_engine():
    lengths = {p: sum(bool(line.strip()) for line in p.read_text(encoding="utf-8").splitlines()) for p in sources()}
    assert {str(p.relative_to(ROOT)): n for p, n in lengths.items() if n > FILE_LINES} == {}
    assert sum(lengths[path] for path in engine()) <= ENGINE_LINES


def test_no_package_is_called_testing():
    # Extensions share one folder in Slicer: two packages called Testing, and one of them hides the other.
    assert not (ROOT / "Testing" / "__init__.py").exists()
