"""What the engine needs on this computer: which Python runs it, what is missing there, and how to install it.

The engine's process is asked what there is; torch is imported in Slicer by nobody but the PyTorch extension, which
does so when it has installed it. Packages go into Slicer's Python through
slicer.packaging, after the user has agreed; a Python of the user's own is left alone.
"""

import itertools
import platform
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import slicer
import slicer.util

from DiffSegLib import __version__, events
from DiffSegLib.errors import EnvironmentProblem
from DiffSegLib.jobs import DescribeJob
from DiffSegLib.models.shipped import home
from DiffSegLib.scene import settings
from DiffSegLib.scene.damage import damaged
from DiffSegLib.scene.process import WorkerClient, chosen_python, interpreter, users_environment
from DiffSegLib.scene.words import tr as _

# torch 2.9 is slow in mixed-precision conv3d; below 2.10 a known hole in its file reader is open. On Windows the paths
# of the licence files in 2.13 are too long for most Slicer installations.
TORCH = ">=2.10,<2.13" if sys.platform == "win32" else ">=2.10,<3"
PYTHON_KEY = "Python"
_numbers = itertools.count(1)


@dataclass
class Report:
    """What was found. problem: one sentence on what is missing, or empty. facts: title -> text, in order."""

    facts: dict[str, str] = field(default_factory=dict)
    problem: str = ""
    detail: str = ""

    def text(self) -> str:
        """All of it, for a bug report."""
        lines = [f"{title}: {value}" for title, value in self.facts.items()]
        lines += [f"Problem: {self.problem}"] * bool(self.problem) + [self.detail.strip()] * bool(self.detail.strip())
        return "\n".join(lines)


def choose_python(path: str) -> None:
    """Run the engine with another Python from the next start on; an empty path means Slicer's own.

    Raises EnvironmentProblem for a path that is no Python; the one that was chosen before stays then.
    """
    if path and not _is_python(path):
        text = _("{path}: is no Python that can be started; choose the python of an environment.")
        raise EnvironmentProblem(text.format(path=path))
    settings.put(PYTHON_KEY, path)


def _is_python(path: str) -> bool:
    """Whether a program answers as Python 3 does; looked at as the engine would be started with it."""
    command = [path, "-c", "import sys; print('python', sys.version_info[0])"]
    hidden = getattr(subprocess, "CREATE_NO_WINDOW", 0)  # no black window on Windows
    try:
        answer = subprocess.run(
            command,
            env=users_environment(),
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
            creationflags=hidden,
        )
    except (OSError, ValueError, subprocess.SubprocessError):
        return False
    return answer.stdout.strip() == "python 3"


def describe(client: WorkerClient, requirements: Path, finished: Callable[[Report], None]) -> Report:
    """Ask the engine's process, which is started if need be, and call `finished` with the report.

    Returns the report as far as it is known without the engine; the rest is written into it.
    requirements: the file of what the engine needs, for the advice where something is missing.
    """
    report = Report({"DiffSeg": __version__, **_application()})
    report.facts["Engine runs with"] = interpreter()
    report.facts["Own models"] = str(home() / "models")

    def listen(event: events.Event) -> None:
        if event["event"] == "result":
            report.facts.update(_facts(event))
            missing = [name for name, version in event["versions"].items() if version is None]
            if missing:
                report.problem = _("Not installed for the engine's Python: {names}.").format(names=", ".join(missing))
        elif event["event"] == "error":
            report.problem, report.detail = str(event["message"]), str(event.get("detail", ""))
            if event.get("exit_code") == 3:
                report.problem = f"{report.problem.partition('; install')[0].rstrip('.')}. {_advice(requirements)}"
        else:
            return
        finished(report)

    client.submit(DescribeJob(f"describe-{next(_numbers)}"), listen)
    return report


def _advice(requirements: Path) -> str:
    if not chosen_python():
        return _("Press Install or repair.")
    names = " ".join(f'"{line}"' for line in (f"torch{TORCH}", *requirement_lines(requirements)))
    text = _("Empty “Other Python” to use Slicer's own, or run: {command}")
    program = f'"{interpreter()}"' if " " in interpreter() else interpreter()
    return text.format(command=f"{program} -m pip install {names}")


def _application() -> dict[str, str]:
    application = getattr(slicer, "app", None)
    version = getattr(application, "applicationVersion", None)
    if version is None:
        return {"Slicer": "not running in the application"}
    return {"Slicer": f"{version} (revision {getattr(application, 'revision', '?')})"}


def _facts(event: Mapping[str, Any]) -> dict[str, str]:
    memory = event["memory_gib"]
    device = f"{event['cuda']}, {memory[0]} of {memory[1]} GiB free" if event["cuda"] else "CPU (no CUDA device)"
    versions = ", ".join(f"{name} {version or 'missing'}" for name, version in event["versions"].items())
    return {
        "Python": f"{event['python_version']} on {event['system']}",
        "Packages": versions,
        "Device": f"{device}; {event['threads']} threads; computes in {event['precision']}",
    }


def install(requirements: Path, client: WorkerClient, repair: bool = False) -> None:
    """Install what is missing into Slicer's Python, with Slicer's own dialogs for consent, progress and restart.

    repair: a package that is there and cannot be loaded is removed first, after the user has agreed, and comes anew.

    Torch comes through the PyTorch extension where it is installed, since that finds the build that fits the graphics
    card. The engine's process is ended first, so that no file is in use. Raises EnvironmentProblem with one sentence.
    """
    if chosen_python():
        raise EnvironmentProblem(" ".join([_("The engine runs with a Python of your own."), _advice(requirements)]))
    if (sys.platform, platform.machine()) == ("darwin", "x86_64"):
        text = _(
            "There is no PyTorch {version} for Macs with an Intel processor; take the Slicer for Apple silicon, or "
            "another computer."
        )
        raise EnvironmentProblem(text.format(version=TORCH))
    try:
        import slicer.packaging as packaging
    except ImportError:
        raise EnvironmentProblem(_("Installing from here needs Slicer 5.12 or newer.")) from None
    client.shutdown()
    try:
        if repair:
            _remove_damaged(packaging)
        if not packaging.pip_check(f"torch{TORCH}"):
            _install_torch(packaging)
        packaging.pip_ensure(packaging.load_requirements(requirements), requester="DiffSeg")
    except Exception as problem:  # pip's failures come as CalledProcessError, a torch that cannot be loaded as anything
        reason = str(problem).splitlines()[0] if str(problem) else type(problem).__name__
        if isinstance(problem, RuntimeError) and "declined" in reason:  # Slicer's word for it, and ours
            raise EnvironmentProblem(_("The packages were not installed, as you wished.")) from None
        text = _("The packages could not be installed ({reason}); the log has pip's own words. Is there a network?")
        raise EnvironmentProblem(text.format(reason=reason)) from None


def _remove_damaged(packaging: Any) -> None:
    with slicer.util.WaitCursor():
        name = damaged(interpreter())
    if not name:
        return
    text = _("{package} is installed and cannot be loaded. Remove it and install it anew?").format(package=name)
    if not slicer.util.confirmOkCancelDisplay(text, "DiffSeg"):
        raise RuntimeError("declined")
    packaging.pip_uninstall([name])


def _install_torch(packaging: Any) -> None:
    try:
        import PyTorchUtils
    except ImportError:
        packaging.pip_ensure([f"torch{TORCH}"], requester="DiffSeg")
        return
    if PyTorchUtils.PyTorchUtilsLogic().installTorch(askConfirmation=True, torchVersionRequirement=TORCH) is None:
        raise RuntimeError("declined")


def offline_instructions(requirements: Path) -> str:
    """What to do on a computer without internet, as commands to copy."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    lines = requirement_lines(requirements)
    names = " ".join(f'"{line}"' for line in lines)
    # a list: one text Slicer would divide at spaces, and take the backslashes out of a path of Windows
    given = ", ".join(f'"{text}"' for text in ("torch", *lines))
    system = f"{platform.system()} {platform.machine()}"
    there = _("On a computer with internet, the same system ({system}) and Python {version}:")
    here = _("Bring the folder wheels here, and in Slicer's Python console:")
    return (
        f"{there.format(system=system, version=version)}\n"
        f'  python -m pip download --dest wheels "torch{TORCH}" {names}\n'
        f"{here}\n"
        f'  slicer.util.pip_install(["--no-index", "--find-links", r"/path/to/wheels", {given}])'
    )


def requirement_lines(requirements: Path) -> list[str]:
    """The requirements of a file, without comments."""
    lines = (line.partition("#")[0].strip() for line in requirements.read_text(encoding="utf-8").splitlines())
    return [line for line in lines if line]
