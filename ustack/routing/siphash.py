"""The kernel's hash of a flow under a seed that is known (Linux flow_hash_from_keys_seed).

With net.ipv4.fib_multipath_hash_seed several routers, Linux's and ours, send a flow the same way (and a judge can tell
whether we do).
"""

from __future__ import annotations

from mypy_extensions import i64

from ustack.siphash import SipHash, swab32


def flow_hash_from_keys_seed(seed: i64, src: i64, dst: i64, proto: i64, sport: i64, dport: i64) -> i64:
    """32 bits, never 0, of struct flow_keys as it lies in the memory of a little-endian machine.

    ``seed``: 32 bits. Addresses and ports in host order; both directions of a flow hash the same, for they are put in
    order first (__flow_hash_consistentify), by their value as such a machine reads them.
    """
    source, destination = swab32(src), swab32(dst)
    if destination < source:
        source, destination = destination, source
    first, second = _swab16(sport), _swab16(dport)
    if second < first:
        first, second = second, first
    state = SipHash(seed, seed, seed, seed)
    state.block(0, proto << 16)  # basic (EtherType, protocol) and tags
    state.block(0, 0)  # vlan
    state.block(0, 0)  # cvlan
    state.block(second << 16 | first, 0)  # keyid, ports
    state.block(source, 0)  # icmp, and where addrs begins
    state.block(0, destination)  # its end, and the structure's
    state.block(48 << 24, 0)
    found = state.finish()
    return found if found != 0 else 1


def _swab16(value: i64) -> i64:
    return (value >> 8 | value << 8) & 0xFFFF
