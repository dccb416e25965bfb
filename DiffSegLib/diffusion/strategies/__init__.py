"""Training strategies: which x_t the network is shown, and which of its outputs is held against the truth.

One file each, all with the signature of `contract.Strategy`. Whatever pass comes before the judged one records no
gradient.
"""

from DiffSegLib.diffusion.strategies.contract import Strategy
from DiffSegLib.diffusion.strategies.recycling import recycling
from DiffSegLib.diffusion.strategies.recycling_next import recycling_next
from DiffSegLib.diffusion.strategies.self_conditioning import self_conditioning
from DiffSegLib.diffusion.strategies.self_conditioning_next import self_conditioning_next
from DiffSegLib.diffusion.strategies.standard import standard
from DiffSegLib.diffusion.strategies.supervised import supervised
from DiffSegLib.diffusion.strategies.unrolled import unrolled

STRATEGIES: dict[str, Strategy] = {
    each.__name__: each
    for each in (supervised, standard, recycling, recycling_next, self_conditioning, self_conditioning_next, unrolled)
}
