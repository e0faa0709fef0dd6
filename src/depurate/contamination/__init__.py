"""Contamination of known kind and amount, drawn from a seed: noise on weights of every kind, and backdoor attacks.

A noise is a small frozen object with a spec string, `KIND:NAME=VALUE,...`; `parse_noise` makes the one of the other.
`noise.apply(target, seed)` takes a tensor or a state dict, leaves it as it is, and returns new `.values`, the `.mask`
of the entries that were hit, and the `.clean` values, to score a repair with:

>>> import torch
>>> noise = parse_noise("sparse:rate=0.25,law=gaussian,scale=10")
>>> hit = noise.apply({"fc.weight": torch.ones(40, 50), "fc.bias": torch.zeros(40)}, seed=0, layers="*.weight")
>>> bool((hit.values["fc.weight"] != 1).eq(hit.mask["fc.weight"]).all()), noise.spec
(True, 'sparse:rate=0.25,law=gaussian,scale=10')

| kind | what it does |
|---|---|
| `sparse:rate,law,unit,sign,place` | a draw of a law added to a share of the entries, at random or on the largest |
| `stuck:rate,at` | entries that read `zero`, `max` or `min` |
| `signflip:rate` | entries with the wrong sign |
| `bitflip:rate,bits,memory` | every bit (or exponent, mantissa, sign bit) flips with probability `rate` |
| `burst:rate,over,law,unit,mode,page` | whole `kernels`, input `channels` or memory `pages` |
| `rounding:bits` | all entries rounded to a few bits |
| `drift:gain,spread` | all entries multiplied by g + s·n |
| `dense:law,unit` | a draw of a law added to all entries |
| `nonfinite:rate,value` | `nan`, `inf`, `-inf` or `mixed` |

Laws: `gaussian`, `uniform`, `cauchy` with `scale`, `constant` with `value`; measured in standard deviations of the
tensor they are added to, or in plain numbers with `unit=absolute`.
"""

from depurate.contamination.attacks import BadNets
from depurate.contamination.bitflip import BitFlip
from depurate.contamination.burst import Burst
from depurate.contamination.contaminated import Contaminated, ContaminatedState
from depurate.contamination.dense import Dense
from depurate.contamination.drift import Drift
from depurate.contamination.laws import Cauchy, Constant, Gaussian, Law, Uniform
from depurate.contamination.noise import Noise
from depurate.contamination.nonfinite import NonFinite
from depurate.contamination.parsing import KINDS, parse_noise
from depurate.contamination.rounding import Rounding
from depurate.contamination.signflip import SignFlip
from depurate.contamination.sparse import Sparse, contaminate
from depurate.contamination.stuck import Stuck

__all__ = [
    "KINDS",
    "BadNets",
    "BitFlip",
    "Burst",
    "Cauchy",
    "Constant",
    "Contaminated",
    "ContaminatedState",
    "Dense",
    "Drift",
    "Gaussian",
    "Law",
    "Noise",
    "NonFinite",
    "Rounding",
    "SignFlip",
    "Sparse",
    "Stuck",
    "Uniform",
    "contaminate",
    "parse_noise",
]
