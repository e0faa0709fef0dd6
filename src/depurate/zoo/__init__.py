"""A zoo of contaminated networks whose attack and anchor are known, to measure purification on."""

from depurate.zoo.catalogue import CATALOGUE, Planned, planned
from depurate.zoo.data import Data, read_data
from depurate.zoo.entry import ZooEntry, check_name, load_entry, save_entry
from depurate.zoo.filling import Filled, fill
from depurate.zoo.identity import entry_digest, tensors_digest
from depurate.zoo.making import Order, make_entry
from depurate.zoo.measuring import accuracy, success
from depurate.zoo.networks import NETWORKS, Network, network
from depurate.zoo.recipes import RECIPES, Recipe
from depurate.zoo.record import ZooRecord, read_record

__all__ = [
    "CATALOGUE",
    "NETWORKS",
    "RECIPES",
    "Data",
    "Filled",
    "Network",
    "Order",
    "Planned",
    "Recipe",
    "ZooEntry",
    "ZooRecord",
    "accuracy",
    "check_name",
    "entry_digest",
    "fill",
    "load_entry",
    "make_entry",
    "network",
    "planned",
    "read_data",
    "read_record",
    "save_entry",
    "success",
    "tensors_digest",
]
