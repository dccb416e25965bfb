"""The extension installs what is on disk: every file is listed, and every listed file exists."""

import re
import subprocess
import sys

from conftest import ROOT


def test_the_library_lists_every_file():
    tool = ROOT / "Testing" / "tools" / "update_cmake_lists.py"
    ended = subprocess.run([sys.executable, str(tool), "--check"], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr


def test_the_library_list_names_what_git_would_ship():
    listed = set(
        re.findall(r"^  (\S+\.(?:py|safetensors))$", (ROOT / "DiffSegLib" / "CMakeLists.txt").read_text(), re.M)
    )
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", "DiffSegLib"]
    shipped = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True).stdout.splitlines()
    files = {name.removeprefix("DiffSegLib/") for name in shipped if name.endswith((".py", ".safetensors"))}
    assert listed == files


def test_the_modules_files_exist():
    text = (ROOT / "DiffSeg" / "CMakeLists.txt").read_text().replace("${MODULE_NAME}", "DiffSeg")
    for name in re.findall(r"\s(Resources/\S+|DiffSeg\.py)\s", text):
        assert (ROOT / "DiffSeg" / name).is_file(), name


def test_the_index_checker_can_read_the_extensions_variables():
    text = (ROOT / "CMakeLists.txt").read_text()
    for name in ("HOMEPAGE", "CONTRIBUTORS", "DESCRIPTION", "ICONURL", "SCREENSHOTURLS", "DEPENDS"):
        assert re.search(rf'^set\(EXTENSION_{name} "[^"\n]+"\)$', text, re.M), name
    urls = re.findall(r"SlicerDiffSeg/main/(\S+?\.png)", text)
    assert len(urls) == 3 and all((ROOT / url).is_file() for url in urls)


def test_the_tests_in_slicer_have_the_module_from_the_source_tree():
    """Slicer's own macros would have it from the build folder, and the runner refuses to test another's files."""
    text = (ROOT / "Testing" / "CMakeLists.txt").read_text()
    (command,) = re.findall(r"add_test\(\s+NAME py_run_in_slicer\s+COMMAND (.+?)\)", text, re.S)
    assert "--additional-module-paths ${DiffSeg_SOURCE_DIR}/DiffSeg" in command and "--testing" in command
    assert "project(DiffSeg)" in (ROOT / "CMakeLists.txt").read_text()
