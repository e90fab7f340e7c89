"""The methods that the paper compares with, one file each, and the readers of their published weights."""

from enlca.peers.layout import Peer

# In the order of Table 1. A new method is one file and one entry here.
PEERS: dict[str, Peer] = {item.name.lower(): item for item in ()}


def peer(name: str) -> Peer:
    """Return a method by its name, in any case.

    Raises:
        ValueError: an unknown name.
    """
    if (found := PEERS.get(name.lower())) is None:
        raise ValueError(f"unknown method {name!r}; known: {', '.join(item.name for item in PEERS.values())}")
    return found
