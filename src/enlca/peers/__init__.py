"""The methods that the paper compares with, one file each, and the readers of their published weights."""

from enlca.peers import dbpn, lapsrn, memnet, nlrn, oisr, rcan, rdn, rnan, san, srfbn, srmdnf
from enlca.peers.layout import Peer

# In the order of Table 1. A new method is one file and one entry here.
_METHODS = (lapsrn, memnet, srmdnf, dbpn, rdn, rcan, nlrn, rnan, srfbn, oisr, san)
PEERS: dict[str, Peer] = {method.PEER.name.lower(): method.PEER for method in _METHODS}


def peer(name: str) -> Peer:
    """Return a method by its name, in any case.

    Raises:
        ValueError: an unknown name.
    """
    if (found := PEERS.get(name.lower())) is None:
        raise ValueError(f"unknown method {name!r}; known: {', '.join(item.name for item in PEERS.values())}")
    return found
