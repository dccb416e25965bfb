"""Which device and floating-point precision to run in, decided by what the machine can do."""

import contextlib
import copy
import functools

import torch
from torch import nn

from DiffSegLib.errors import EnvironmentProblem, InputError

# whose weights autocast casts
CAST = (nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.ConvTranspose3d, nn.Linear)


def pick_device(name: str) -> torch.device:
    """`auto` is CUDA where there is one, else the CPU. Raises EnvironmentProblem where `cuda` was asked for in vain."""
    if name not in ("auto", "cpu", "cuda"):
        raise InputError(f"device is {name!r}; allowed: auto, cpu, cuda.")
    if name == "cuda" and not torch.cuda.is_available():
        raise EnvironmentProblem("No CUDA device can be used by this torch; choose the device cpu or auto.")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def pick_precision(name: str, device: torch.device) -> torch.dtype:
    """`auto`: bfloat16 where it is fast (CUDA from Ampere on; a CPU with AVX512-BF16 or AMX), else float32.

    On processors without it bfloat16 convolutions fall to slow reference kernels, so this is no user's choice to guess.
    """
    if name == "auto":
        fast = torch.cuda.is_bf16_supported(including_emulation=False) if device.type == "cuda" else _cpu_bf16()
        return torch.bfloat16 if fast else torch.float32
    return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[name]


def autocast(device: torch.device, dtype: torch.dtype) -> contextlib.AbstractContextManager[None]:
    """Run convolutions in `dtype`; nothing for float32."""
    if dtype == torch.float32:
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=dtype)


def ready(network: nn.Module, device: torch.device, dtype: torch.dtype) -> nn.Module:
    """A network for inference on `device`, a copy whose convolutions have their weights in `dtype` already.

    The same numbers as under autocast alone, which would cast all weights anew in every pass; with tiles but for
    roundings, as the weights lie channels-last there. On a CPU in float32 it is the network itself.
    """
    if dtype == torch.float32 and device.type == "cpu":
        return network.eval()
    copied = copy.deepcopy(network).to(device).eval()
    for module in copied.modules():
        if dtype != torch.float32 and isinstance(module, CAST):
            module.to(dtype)
            if isinstance(module, nn.Conv3d) and device.type == "cpu" and dtype == torch.bfloat16 and has_tiles():
                module.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    return copied


def has_tiles() -> bool:
    """Whether the CPU multiplies bfloat16 in tiles (AMX)."""
    return bool(getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)())


@functools.lru_cache(maxsize=1)
def _cpu_bf16() -> bool:
    """Whether the CPU has bfloat16 instructions, and torch's convolution agrees with float32 on them."""
    if not (has_tiles() or getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)()):
        return False
    noise = torch.Generator().manual_seed(0)
    for size, stride in ((6, 1), (6, 2), (2, 2)):  # the last: one voxel left along each axis, where AMX has been wrong
        x, w = torch.randn(1, 4, size, size, size, generator=noise), torch.randn(8, 4, 3, 3, 3, generator=noise)
        exact = torch.nn.functional.conv3d(x, w, padding=1, stride=stride)
        found = torch.nn.functional.conv3d(x.bfloat16(), w.bfloat16(), padding=1, stride=stride).float()
        if not bool((exact - found).abs().max() < 0.05 * exact.abs().max()):
            return False
    return True
