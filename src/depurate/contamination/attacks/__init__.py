"""Backdoor attacks, one a file: on training data, on training itself, and on the weights of a trained network."""

from depurate.contamination.attacks.all_to_all import AllToAll
from depurate.contamination.attacks.badnets import BadNets
from depurate.contamination.attacks.bit_flips import TargetedBitFlips
from depurate.contamination.attacks.blended import Blended
from depurate.contamination.attacks.hidden_update import HiddenUpdate
from depurate.contamination.attacks.input_aware import InputAware
from depurate.contamination.attacks.label_consistent import LabelConsistent
from depurate.contamination.attacks.low_frequency import LowFrequency
from depurate.contamination.attacks.natural import NaturalPatch
from depurate.contamination.attacks.protocol import Attack
from depurate.contamination.attacks.sig import Sig
from depurate.contamination.attacks.spec import (
    ATTACKS,
    attack_spec,
    attack_tensors,
    parse_attack,
    with_tensors,
)
from depurate.contamination.attacks.subnet import SubnetReplacement
from depurate.contamination.attacks.trojan import Trojan
from depurate.contamination.attacks.wanet import WaNet

__all__ = [
    "ATTACKS",
    "AllToAll",
    "Attack",
    "BadNets",
    "Blended",
    "HiddenUpdate",
    "InputAware",
    "LabelConsistent",
    "LowFrequency",
    "NaturalPatch",
    "Sig",
    "SubnetReplacement",
    "TargetedBitFlips",
    "Trojan",
    "WaNet",
    "attack_spec",
    "attack_tensors",
    "parse_attack",
    "with_tensors",
]
