"""The blocks of the networks: convolution, norm and residual block with time, for 2D and 3D.

GroupNorm(C, C) is instance norm with an affine part; unlike torch's InstanceNorm it keeps channels-last tensors as they
are and is several times faster.
"""

import math
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

from DiffSegLib.network.precision import has_tiles

NORM_EPS = 1e-6  # of the reference
LARGE = 32**3  # voxels
TINY = 100  # voxels up to which a convolution takes less time than oneDNN's own layout
FEW = 1024  # voxels below which group norm of channels-last maps takes another way, up to a hundred times as long


class Conv3d(nn.Conv3d):
    """torch's convolution, which on a CPU computes with oneDNN whatever the size.

    For one volume in float32 whose channels, depth and height multiply to no more than 20,480 torch takes a kernel of
    its own instead, which needs up to five times as long (`use_mkldnn` in ATen's Convolution.cpp). Its gradient has no
    gradient of its own.
    """

    def forward(self, input: Tensor) -> Tensor:
        """As of nn.Conv3d."""
        if not self._is_watched() and self._is_slow(input):
            how = (self.stride, self.padding, self.dilation, self.groups)
            made: Tensor = OneDNN.apply(input, self.weight, self.bias, *how)
            return made
        return super().forward(input)

    def _is_slow(self, x: Tensor) -> bool:
        """Whether torch would take its own kernel, and oneDNN's gains: not where each voxel is read once."""
        plain = type(x) is Tensor and x.is_cpu and x.layout == torch.strided and x.dtype == torch.float32
        small = x.ndim == 5 and len(x) == 1 and x.shape[:4].numel() <= 20_480 and x.shape[2:].numel() > TINY
        usual = self.padding_mode == "zeros" and not isinstance(self.padding, str)
        return plain and small and usual and self.kernel_size != self.stride

    @staticmethod
    def _is_watched() -> bool:
        """Whether oneDNN is switched off, or something follows each call, which could not take its opaque tensors."""
        allowed = torch.backends.mkldnn.is_available() and torch.backends.mkldnn.enabled
        # tracing, dispatch modes, functorch's transforms: torch has no public question for all of them
        private = ("_is_tracing", "_len_torch_dispatch_stack", "_are_functorch_transforms_active")
        traced = torch.compiler.is_compiling() or any(getattr(torch._C, name, int)() for name in private)
        return traced or torch.is_autocast_enabled("cpu") or not allowed


class OneDNN(torch.autograd.Function):
    """A convolution in oneDNN's own layout; its copies, which autograd would keep, are made anew for its gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, *how: Any) -> Tensor:
        """how: stride, padding, dilation, groups."""
        ctx.save_for_backward(x, weight)
        ctx.how, ctx.bias = how, None if bias is None else [len(bias)]
        return nn.functional.conv3d(x.to_mkldnn(), weight, bias, *how).to_dense()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """As of torch's convolution."""
        x, weight = ctx.saved_tensors
        stride, padding, dilation, groups = ctx.how
        wanted, whole = ctx.needs_input_grad[:3], (False, [0, 0, 0], groups)  # not transposed
        given = (gradient.to_mkldnn(), x.to_mkldnn(), weight, ctx.bias, stride, padding, dilation, *whole, wanted)
        found = torch.ops.aten.convolution_backward(*given)
        dense = (each.to_dense() if each is not None and each.is_mkldnn else each for each in found)
        return (*dense, None, None, None, None)


def conv(spatial_dims: int, *args: int | tuple[int, ...], **kwargs: object) -> nn.Module:
    """A 2D or 3D convolution."""
    return (nn.Conv2d, Conv3d)[spatial_dims - 2](*args, **kwargs)  # type: ignore[arg-type]


class InstanceNorm(nn.GroupNorm):
    """Instance norm with affine part, whose parameters follow the input's precision.

    With float32 parameters and bfloat16 input the backward pass on a CPU takes a mixed-precision kernel that is nine
    times slower (16 ms instead of 1.7 for 4 x 16 x 40 x 56 x 40). Of channels-last maps it takes up to fifty times as
    long: these have batch norm's kernel, whose mean and variance are exact only with float32 parameters.
    """

    def forward(self, x: Tensor, shift: Tensor | None = None) -> Tensor:
        """(B, C, *spatial) -> the same shape and precision. shift: (B, C), what is added to each channel behind it."""
        if shift is not None and not (x.is_cpu and len(x) == 1):
            made = self(x)
            return add(made, along(shift, made))
        offset = self.bias if shift is None else self.bias + shift[0]  # spares a pass over the map
        voxels = x.shape[2:].numel()  # batch norm refuses a single one
        if x.is_cpu and voxels > 1 and (x.requires_grad or voxels < FEW) and channels_last(x):
            of_one = (None, None, self.weight, offset.float(), True, 0.0, self.eps)  # its norm is the instance's
            normed = [_gradient_turned(nn.functional.batch_norm(each, *of_one)) for each in x.split(1)]
            return torch.cat(normed) if len(x) > 1 else normed[0]
        weight, bias = self.weight.to(x.dtype), offset.to(x.dtype)
        if not x.is_cuda:
            return nn.functional.group_norm(x, self.num_groups, weight, bias, self.eps)
        with torch.autocast("cuda", enabled=False):  # which would go to float32 here
            return nn.functional.group_norm(x, self.num_groups, weight, bias, self.eps)


def norm(channels: int) -> nn.Module:
    """Instance norm with affine part."""
    return InstanceNorm(channels, channels, eps=NORM_EPS)


def activation(name: str) -> nn.Module:
    """`gelu` (erf), `gelu_tanh` (the reference's; four times slower in bf16 on a CPU) or `silu`."""
    made: dict[str, nn.Module] = {"gelu": GELU(), "gelu_tanh": GELU(approximate="tanh"), "silu": nn.SiLU()}
    return made[name]


class GELU(nn.GELU):
    """GELU that is as fast on channels-last tensors, for which torch takes a kernel of half the speed on a CPU."""

    def forward(self, x: Tensor) -> Tensor:
        """The same shape and layout."""
        if x.is_contiguous() or not channels_last(x):
            return super().forward(x)
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


def channels_last(x: Tensor) -> bool:
    """Whether a volume's channels lie next to each other in memory."""
    return x.ndim == 5 and x.is_contiguous(memory_format=torch.channels_last_3d)


def arranged(x: Tensor, channels: int | None = None) -> Tensor:
    """A volume in the memory layout in which the blocks of its level compute fastest: (B, C, *spatial), as it was.

    channels: of the level, where `x` has others, as the input of a network's first convolution.

    Channels-last for large maps on a CPU: planar maps whose size is a large power of two share few lines of the cache
    (32 channels of 64^3 in bfloat16: 61 instead of 84 ms a convolution). Elsewhere it gains nothing, and the norm of
    few voxels or of other numbers of channels is slower then. In float32 vectors are half as long, and 16 channels are
    enough (40 x 56 x 40: 7.5 instead of 10.4 ms).
    """
    computed = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype  # an image is float32
    several = 16 if computed == torch.float32 else 32
    large = x.ndim == 5 and (channels or x.shape[1]) % several == 0 and x.shape[2:].numel() >= LARGE
    return x.contiguous(memory_format=torch.channels_last_3d) if large and x.is_cpu else usual_layout(x)


def usual_layout(x: Tensor) -> Tensor:
    """A volume channel by channel in memory; channels-last where a CPU multiplies bfloat16 in tiles.

    Convolutions are 1.4 to 3.6 times as fast there as in the planar layout, with their backward pass 1.1 to 2.1 times.
    """
    tiled = x.ndim == 5 and x.dtype == torch.bfloat16 and x.is_cpu and has_tiles()
    return x.contiguous(memory_format=torch.channels_last_3d if tiled else torch.contiguous_format)


def _gradient_turned(x: Tensor) -> Tensor:
    """`x`, whose gradient is brought into the channels-last layout before it goes on.

    torch hands gradients on as they lie, and batch norm's backward pass takes up to twenty times as long where input
    and gradient differ.
    """
    if x.requires_grad:
        x.register_hook(partial(torch.Tensor.contiguous, memory_format=torch.channels_last_3d))
    return x


class TimeEmbedding(nn.Module):
    """Sinusoidal embedding of t in (0, 1], (B,) -> (B, dim): [cos, sin] of 10000 t / 10000^(j / half)."""

    frequencies: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        half = dim // 2
        frequencies = torch.exp(-math.log(10000.0) * torch.arange(half, dtype=torch.float64) / half)
        self.register_buffer("frequencies", frequencies, persistent=False)

    def forward(self, t: Tensor) -> Tensor:
        """(B,) -> (B, dim) float32."""
        argument = t.double()[:, None] * 10000.0 * self.frequencies  # float64: arguments reach 10000 rad
        return torch.cat([argument.cos(), argument.sin()], dim=1).float()


class ResidualBlock(nn.Module):
    """conv - norm - act - conv - norm, then act of the sum with the input; channels stay.

    The time shifts each channel behind the first norm. The reference adds it in front of the second one, where instance
    norm subtracts it again, so its networks do not see the time at all (`time_before_norm=True` does the same).
    checkpointing: of the block keep the input alone for the backward pass, which then computes the rest again with the
    same random numbers.
    """

    def __init__(
        self,
        spatial_dims: int,
        channels: int,
        time_dim: int | None,
        act: str,
        dropout: float = 0.0,
        time_before_norm: bool = False,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        self.time_before_norm = time_before_norm
        self.checkpointing = checkpointing
        self.conv1 = conv(spatial_dims, channels, channels, 3, padding=1, bias=False)
        self.norm1 = norm(channels)
        self.act = activation(act)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = conv(spatial_dims, channels, channels, 3, padding=1, bias=False)
        self.time = None if time_dim is None else nn.Linear(time_dim, channels)
        self.norm2 = norm(channels)

    def forward(self, x: Tensor, t: Tensor | None) -> Tensor:
        """x: (B, C, *spatial); t: (B, time_dim) embedding, or None for a network without time."""
        if self.checkpointing and torch.is_grad_enabled():
            return checkpoint(self._forward, x, t, use_reentrant=False)
        return self._forward(x, t)

    def _forward(self, x: Tensor, t: Tensor | None) -> Tensor:
        shift = None if self.time is None or t is None else self.time(self.act(t))
        h = self.norm1(self.conv1(x), None if self.time_before_norm else shift)
        h = self.conv2(self.dropout(self.act(h)))
        if shift is not None and self.time_before_norm:
            h = h + along(shift, h)
        return self.act(add(self.norm2(h), x))


def along(shift: Tensor, x: Tensor) -> Tensor:
    """(B, C) -> what is added to each channel of x (B, C, *spatial), in its precision.

    For channels-last maps a row of voxels long: torch adds rows, and one of a single voxel is 16 numbers short.
    """
    shift = shift.reshape(*shift.shape, *[1] * (x.ndim - 2)).to(x.dtype)
    if channels_last(x):
        return shift.expand(-1, -1, 1, 1, x.shape[-1]).contiguous(memory_format=torch.channels_last_3d)
    return shift


def add(made: Tensor, other: Tensor) -> Tensor:
    """Made + other; into `made`, which the layer that has just written it does not need for its backward pass."""
    return made.add_(other) if made.dtype == other.dtype else made + other


class Down(nn.Module):
    """Strided convolution with kernel = stride, then norm; an odd size is padded at its end."""

    def __init__(self, spatial_dims: int, channels: int, channels_out: int, stride: tuple[int, ...]) -> None:
        super().__init__()
        self.stride = stride
        self.conv = conv(spatial_dims, channels, channels_out, stride, stride=stride, bias=False)
        self.norm = norm(channels_out)

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, *spatial) -> (B, channels_out, *(spatial / stride, rounded up))."""
        lacking = [-size % stride for size, stride in zip(x.shape[2:], self.stride, strict=True)]
        if any(lacking):
            x = nn.functional.pad(x, [n for lack in reversed(lacking) for n in (0, lack)])
        return self.norm(self.conv(x))


class Up(nn.Module):
    """Transposed convolution with kernel = stride, then norm, cropped at the end to the skip's size."""

    def __init__(self, spatial_dims: int, channels: int, channels_out: int, stride: tuple[int, ...]) -> None:
        super().__init__()
        kind = (nn.ConvTranspose2d, nn.ConvTranspose3d)[spatial_dims - 2]
        self.conv = kind(channels, channels_out, stride, stride=stride, bias=False)  # type: ignore[arg-type]
        self.norm = norm(channels_out)

    def forward(self, x: Tensor, size: torch.Size, shift: Tensor | None = None) -> Tensor:
        """size: the spatial size of the skip. shift: as of InstanceNorm."""
        x = self.norm(self.conv(x), shift)
        return x[(slice(None), slice(None), *(slice(0, n) for n in size))]


class Transformer(nn.Module):
    """One pre-norm transformer layer over all voxels of the coarsest grid, then layer norm; no position is given."""

    def __init__(self, channels: int, heads: int, head_dim: int, dropout: float = 0.0) -> None:
        super().__init__()
        inner = heads * head_dim
        self.heads = heads
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(channels, eps=NORM_EPS) for _ in range(3))
        self.query, self.key, self.value = (nn.Linear(channels, inner) for _ in range(3))
        self.out = nn.Linear(inner, channels)
        self.mlp1, self.mlp2 = nn.Linear(channels, 4 * channels), nn.Linear(4 * channels, channels)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, act: nn.Module) -> Tensor:
        """x: (B, C, *spatial) -> the same shape."""
        tokens = x.flatten(2).transpose(1, 2)
        h = self.norm1(tokens)
        query, key, value = (
            part(h).unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in (self.query, self.key, self.value)
        )
        h = nn.functional.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
        tokens = tokens + self.dropout(self.out(h))
        tokens = tokens + self.dropout(self.mlp2(act(self.mlp1(self.norm2(tokens)))))
        # contiguous: a transposed view is channels-last in memory, which makes every later norm's backward pass on a
        # CPU a hundred times slower (1 ms -> 112 ms for 4 x 16 x 40 x 56 x 40)
        return self.norm3(tokens).transpose(1, 2).contiguous().reshape(x.shape)
