"""The networks by name, and which one a state dict belongs to."""

from collections.abc import Iterable, Mapping
from typing import Any

from training.network.fast import FastNet
from training.network.modnet import MODNet

Network = MODNet | FastNet
NETWORKS: dict[str, type[Network]] = {kind.name: kind for kind in (MODNet, FastNet)}


def make_network(name: str, architecture: Mapping[str, Any]) -> Network:
    """Return a network with random weights; raises LookupError, TypeError or ValueError."""
    return NETWORKS[name](**architecture)


def recognise_network(keys: Iterable[str]) -> str:
    """Return the name of the network that has such keys; MODNet if none is known."""
    return FastNet.name if "gate.weight" in keys else MODNet.name
