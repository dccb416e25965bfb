"""One of several samples by itself: what their mean is compared with."""

import pytest

from DiffSegLib.inference import sampling
from DiffSegLib.inference.windows import window_noise


def drawn(number, how, image):
    """The steps' volumes of `how`, which draws one sample, with the noise of the sample `number` of several."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sampling, "window_noise", lambda seed, _sample, *rest: window_noise(seed, number, *rest))
        return list(how.volumes(image))
