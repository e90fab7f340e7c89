"""Methods of other papers, one file each, and the readers of their published weights."""

from enlca.peers import compact, dbpn, lapsrn, memnet, nlrn, oisr, rcan, rdn, rnan, san, srfbn, srmdnf
from enlca.peers.layout import Peer

# In the order of Table 1, then what is not in it. A new method is one file and one entry here.
_METHODS = (lapsrn, memnet, srmdnf, dbpn, rdn, rcan, nlrn, rnan, srfbn, oisr, san, compact)
PEERS: dict[str, Peer] = {method.PEER.name.lower(): method.PEER for method in _METHODS}


def peer(name: str) -> Peer:
    """Return a method by its name, in any case.

    Raises:
        ValueError: an unknown name.
    """
    if (found := PEERS.get(name.lower())) is None:
        raise ValueError(f"unknown method {name!r}; known: {', '.join(item.name for item in PEERS.values())}")
    return found
