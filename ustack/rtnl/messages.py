"""What rtnetlink(7) says in messages: links, addresses, routes, rules, neighbours, next-hop objects.

The attributes are those of the kernel's messages, as plain values: addresses integers in host order, devices by
ifindex, 0 or None for an attribute that is absent. ``Rtm`` asks; the answer is Objects (what was asked for), Ack, or
Nack with the errno and, where the kernel has one, the text of its extended acknowledgement. What is long comes in
pieces: Objects with a ``cursor`` are followed by more, which ``More`` asks for (dump.py does).
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

#: What can be done to what: RTM_NEW*, RTM_DEL*, RTM_GET* of linux/rtnetlink.h.
Verb = Literal["new", "del", "get", "dump", "flush"]

#: Most prefixes in one RouteBatch: some ten milliseconds of work.
BATCH_MAX: Final = 4096


class Message(msgspec.Struct, omit_defaults=True, kw_only=True):
    """One object of any kind."""


class Link(Message, tag="link"):
    """RTM_*LINK (struct ifinfomsg). In a change, what is None stays as it is.

    A request finds its device by ``ifindex``, else by ``name``; a change with both gives it that name. A dump takes
    those that agree in ``ifindex`` or ``name``, ``kind``, ``group``, and ``flags`` under ``change``.
    """

    ifindex: int = 0
    name: str = ""
    kind: str = ""  #: IFLA_INFO_KIND: "tun" for a TAP; "" for lo
    flags: int | None = None  #: IFF_*
    change: int = 0  #: which of the flags a change is about
    mtu: int | None = None
    txqlen: int | None = None
    mac: int | None = None
    carrier: bool | None = None
    group: int | None = None
    master: int | None = None  #: IFLA_MASTER: the bridge that it is a port of; 0 in a change: of none
    promiscuity: int = 0  #: IFLA_PROMISCUITY
    min_mtu: int = 0
    max_mtu: int = 0
    operstate: str = ""  #: "UP", "DOWN", "UNKNOWN"
    qdisc: str = ""
    stats: dict[str, int] = {}  #: by the names of rtnl_link_stats64


class Addr(Message, tag="addr"):
    """RTM_*ADDR (struct ifaddrmsg).

    A deletion with ``wildcard`` is one without IFA_ADDRESS: whatever the prefix length. A dump or flush takes those
    that agree in ``ifindex``, ``label``, ``scope``, ``flags`` under ``flags_mask``, and whose ``local`` is in ``to``.
    """

    ifindex: int = 0
    local: int = 0
    peer: int | None = None  #: IFA_ADDRESS where it is not ``local``
    prefixlen: int = 32
    broadcast: int | None = None
    label: str = ""
    scope: int | None = None
    flags: int = 0  #: IFA_F_*
    metric: int = 0  #: IFA_RT_PRIORITY of the subnet's route
    wildcard: bool = False
    flags_mask: int = 0
    to: tuple[int, int] | None = None  #: (address, prefix length)


class Hop(Message):
    """One of several next hops (struct rtnexthop)."""

    ifindex: int = 0
    gateway: int = 0
    weight: int = 1
    flags: int = 0


class Route(Message, tag="route"):
    """RTM_*ROUTE (struct rtmsg). ``metrics`` by RTAX_* number, RTAX_LOCK (1) a mask of 1 << RTAX_*.

    What ``get`` is asked with beside ``dst``, ``tos`` and ``ifindex`` (the device out) stands from ``src`` on. A dump
    or flush takes those that agree in ``table``, ``protocol``, ``scope``, ``rtype``, ``tos``, ``priority``,
    ``gateway``, ``ifindex``, ``prefsrc`` and ``nhid``, and whose prefix lies in ``root`` and contains ``match``; with
    ``cached``, what was learned of single destinations instead.
    """

    dst: int = 0
    dst_len: int = 0
    tos: int = 0
    table: int = 0  #: 0 in a request: main; in a dump: all
    protocol: int = 0
    scope: int | None = None
    rtype: int = 0  #: RTN_*; 0 in a request: unicast, in a deletion or dump: any
    flags: int = 0  #: RTNH_F_*, RTM_F_*
    priority: int | None = None
    gateway: int = 0
    ifindex: int = 0
    prefsrc: int = 0
    metrics: dict[int, int] = {}
    congctl: str = ""
    hops: list[Hop] = []
    nhid: int = 0
    src: int = 0
    src_len: int = 0
    iif: int = 0
    mark: int = 0
    uid: int | None = None
    ipproto: int = 0
    sport: int = 0
    dport: int = 0
    fibmatch: bool = False
    expires: int | None = None  #: RTA_CACHEINFO: seconds left, of a path MTU or a redirect
    cached: bool = False  #: an answer of ``get``: iproute2 prints "cache"
    root: tuple[int, int] | None = None  #: (address, prefix length)
    match: tuple[int, int] | None = None


class Rule(Message, tag="rule"):
    """RTM_*RULE (struct fib_rule_hdr).

    A dump or flush takes those that agree in ``priority``, ``table``, ``tos``, ``mark``, ``mask``, ``iif``, ``oif``,
    ``ipproto`` and ``protocol``, and whose ``src`` and ``dst`` lie in those given; a flush spares preference 0.
    """

    priority: int | None = None
    action: int = 1  #: FR_ACT_*; 0 in a deletion: any
    table: int = 0
    goto: int = 0
    src: int = 0
    src_len: int = 0
    dst: int = 0
    dst_len: int = 0
    tos: int = 0
    dscp: int | None = None
    iif: str = ""
    oif: str = ""
    mark: int = 0
    mask: int | None = None
    ipproto: int = 0
    sport: tuple[int, int] | None = None
    dport: tuple[int, int] | None = None
    uidrange: tuple[int, int] | None = None
    suppress_prefixlength: int | None = None
    suppress_ifgroup: int | None = None
    protocol: int = 0
    flags: int = 0  #: FIB_RULE_*; FIB_RULE_INVERT is ``not``


class Neigh(Message, tag="neigh"):
    """RTM_*NEIGH (struct ndmsg). ``proxy`` for an address answered for.

    A dump or flush takes those on ``ifindex``, in one of the states ``state`` (a flush with 0: all that was not set by
    hand), and in the prefix ``dst``/``dst_len``, if that is given.
    """

    ifindex: int = 0
    dst: int = 0
    dst_len: int = 32
    mac: int | None = None
    state: int = 0  #: NUD_*
    proxy: bool = False
    flags: int = 0  #: NTF_*
    protocol: int = 0
    probes: int = 0
    refcnt: int = 0
    used: int = 0  #: seconds since
    confirmed: int = 0
    updated: int = 0


class Fdb(Message, tag="fdb"):
    """RTM_GETNEIGH of AF_BRIDGE: a station that a bridge knows. A dump takes those of ``ifindex`` and ``master``."""

    mac: int = 0
    ifindex: int = 0  #: the port where it is; the bridge for its own address
    master: int = 0  #: the bridge
    state: int = 0  #: NUD_PERMANENT for addresses of ours, NUD_STALE for one whose time is up, else NUD_REACHABLE
    used: int = 0  #: seconds since something was sent to it
    updated: int = 0  #: seconds since it sent something


class Nexthop(Message, tag="nexthop"):
    """RTM_*NEXTHOP (struct nhmsg). A dump or flush: by ``id``, ``ifindex``, ``protocol``, and ``groups`` alone."""

    id: int = 0
    gateway: int = 0
    ifindex: int = 0
    scope: int = 0
    protocol: int = 0
    flags: int = 0
    blackhole: bool = False
    group: list[tuple[int, int]] = []  #: (id, weight)
    groups: bool = False


class Netconf(Message, tag="netconf"):
    """A setting that changed (RTM_NEWNETCONF), for those who watch."""

    name: str  #: as in sysctl: net.ipv4.conf.eth0.forwarding
    value: str


Object = Link | Addr | Route | Rule | Neigh | Fdb | Nexthop | Netconf


class Rtm(msgspec.Struct, tag="rtm"):
    """Do ``verb`` with ``object``. ``flags``: NLM_F_REPLACE, EXCL, CREATE, APPEND for "new".

    "get" and "dump" answer with Objects, "flush" with those it has removed, the others with Ack. For "dump" and
    "flush" the attributes that are set filter.
    """

    verb: Verb
    object: Object
    flags: int = 0


class More(msgspec.Struct, tag="more"):
    """Asks for what follows Objects with that ``cursor``. Nack ESTALE if the cursor is gone, or was used already."""

    cursor: int


class RouteBatch(msgspec.Struct, tag="routes"):
    """Many routes that differ in their prefix alone: the quick way for big tables.

    ``prefixes``: five bytes each, the address in network order and the length. NLM flags as in Rtm. The answer is
    Loaded; prefixes that are refused do not stop the others. More than BATCH_MAX are refused as a whole: EMSGSIZE.
    """

    like: Route
    prefixes: bytes
    flags: int = 0


class Monitor(msgspec.Struct, tag="monitor"):
    """From now on send every change of these kinds, as Event after Event, until the connection ends.

    The answer is Ack, and nothing else may be asked afterwards. No ``kinds``: all of them.
    """

    kinds: list[str]  #: "link", "addr", "route", "rule", "neigh", "nexthop", "netconf"


class GetSysctl(msgspec.Struct, tag="getsysctl"):
    """Asks for Settings: the one of that name, or all below it; "" for all."""

    name: str


class SetSysctl(msgspec.Struct, tag="setsysctl"):
    name: str
    value: str


class GetProc(msgspec.Struct, tag="getproc"):
    """Asks for the Text of a file of /proc/net by its name there; "" for the names."""

    name: str


class Ack(msgspec.Struct, tag="ack"):
    """It is done."""


class Nack(msgspec.Struct, tag="nack"):
    """It is not: the errno, and the kernel's words where it has any (extack), without a full stop."""

    errno: int
    text: str = ""


class Objects(msgspec.Struct, tag="objects"):
    """What was asked for, in the kernel's order; with ``cursor``, as far as it fits one answer."""

    objects: list[Object]
    cursor: int = 0


class Loaded(msgspec.Struct, tag="loaded"):
    """What became of a RouteBatch: how many were taken, and the errno of each that was not, by its place."""

    taken: int
    refused: dict[int, int] = {}


class Event(msgspec.Struct, tag="event"):
    """Something came, changed, or (``deleted``) went; ``lost`` such were left out before, for want of reading."""

    object: Object
    deleted: bool = False
    lost: int = 0
    asked: bool = False  #: RTM_GETNEIGH: somebody is wanted who knows the neighbour's address ("miss")


class Settings(msgspec.Struct, tag="settings"):
    """Names and values, in the order of the names; ``docs`` in one line each, where asked for one name."""

    values: dict[str, str]
    docs: dict[str, str] = {}


class Text(msgspec.Struct, tag="text"):
    """What is to be printed as it is."""

    text: str


RtnlRequest = Rtm | More | RouteBatch | Monitor | GetSysctl | SetSysctl | GetProc
RtnlAnswer = Ack | Nack | Objects | Loaded | Event | Settings | Text
