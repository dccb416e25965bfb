"""What a worker process keeps between jobs: torch, and the last model, ready to run."""

import sys
from typing import Any

from DiffSegLib.errors import EnvironmentProblem

Fields = dict[str, Any]  # of a request, or of its result


class Session:
    """Holds the last model, so that a second job pays neither the import nor the loading."""

    def __init__(self) -> None:
        try:
            import safetensors  # noqa: F401 - to see whether all is there before the first job
            import SimpleITK  # noqa: F401
            import torch  # noqa: F401
        except ImportError as problem:
            text = (
                f"{sys.executable} cannot run the engine ({problem}); install it in the module's section Environment."
            )
            raise EnvironmentProblem(text) from None
        self._key: tuple[str, float, str] | None = None
        self._predictor: Any = None

    def predictor(self, model: str, device: str) -> Any:
        """The warm predictor, or a new one for another model, a changed file or another device."""
        from DiffSegLib.inference.predict import Predictor
        from DiffSegLib.models.shipped import find
        from DiffSegLib.models.store import load

        path = find(model)
        key = (str(path.resolve()), path.stat().st_mtime, device)
        if key != self._key:
            predictor = Predictor(load(path), device)
            predictor.warm_up()
            self._predictor, self._key = predictor, key  # only once it has proved to run
        return self._predictor
