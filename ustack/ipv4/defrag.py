"""Reassembly of fragmented datagrams (Linux net/ipv4/ip_fragment.c, inet_fragment.c; RFC 791 section 3.2, RFC 815).

A datagram under way is a FragQueue: its fragments as they came, and the byte ranges they cover as a sorted list of
runs, found by bisection and merged when they touch, so that a flood of tiny or reversed fragments costs no more than
an ordinary one (FragmentSmack, CVE-2018-5391). Memory is bounded by ``ipfrag_high_thresh``; the oldest datagram makes
room. Every fragment is held until its datagram ends and then ends once, as part of the whole or as a drop; ``len()``
says how many are held.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING, Final

from librt.strings import BytesWriter
from mypy_extensions import i64

from ustack.drop import Reason
from ustack.dst import RTN_LOCAL
from ustack.ipv4.facts import datagram_facts
from ustack.packet import CHECKSUM_NONE, CHECKSUM_UNNECESSARY, Packet
from ustack.timer import NSEC_PER_SEC, Timer
from ustack.trace.journey import DELIVERED, PATIENCE
from ustack.trace.points import Point
from ustack.wire import ipv4
from ustack.wire.icmp import ICMP_EXC_FRAGTIME, ICMP_TIME_EXCEEDED
from ustack.wire.ipv4 import IP_DF, IP_MAX_LEN, IP_MF, Ipv4Header

if TYPE_CHECKING:
    from ustack.net import Net
    from ustack.trace.journey import Journey, Tracer

# what inserting a fragment finds (include/net/inet_frag.h)
IPFRAG_OK: Final = 0
IPFRAG_DUP: Final = 1
IPFRAG_OVERLAP: Final = 2

# RFC 3168 codepoints seen, one bit each (ip4_frag_ecn)
_FRAG_ECN_NOT_ECT: Final = 0x01
_FRAG_ECN_CE: Final = 0x08
_ECN_MASK: Final = 3
_ECN_CE: Final = 3
_ECN_INVALID: Final = 0xFF


class FragPeer:
    """How many fragments a source has sent while any of its datagrams is under way (struct inet_peer's rid)."""

    def __init__(self) -> None:
        self.rid: i64 = 0
        self.queues: i64 = 0


class FragQueue:
    """One datagram being put together (struct ipq); lengths and offsets in bytes of the datagram's payload."""

    def __init__(self, key: bytes, peer: FragPeer, deadline: i64) -> None:
        self.key: bytes = key
        self.peer: FragPeer = peer
        self.deadline: i64 = deadline  #: ns
        self.rid: i64 = 0
        self.fragments: dict[int, Packet] = {}  #: by offset
        self.starts: list[int] = []  #: the runs covered so far, sorted, apart from each other ...
        self.ends: list[int] = []  #: ... and where each ends
        self.length: i64 = 0  #: the furthest end seen; the datagram's once ``last_in``
        self.meat: i64 = 0  #: bytes covered
        self.memory: i64 = 0
        self.last_in: bool = False
        self.ecn: i64 = 0
        self.max_size: i64 = 0  #: largest fragment with its header
        self.max_df_size: i64 = 0  #: the same of those with DF

    @property
    def complete(self) -> bool:
        return self.last_in and self.meat == self.length

    def accept_end(self, end: i64, more: bool) -> bool:
        """Whether a fragment that ends at ``end`` agrees with what is known of the datagram's length; note it.

        "If we already have some bits beyond end or have different end, the segment is corrupted."
        """
        if more:
            if end > self.length:
                if self.last_in:
                    return False
                self.length = end
            return True
        if end < self.length or (self.last_in and end != self.length):
            return False
        self.last_in = True
        self.length = end
        return True

    def insert(self, offset: i64, end: i64) -> i64:
        """Cover ``offset`` to ``end``; answers IPFRAG_OK, _DUP or _OVERLAP (inet_frag_queue_insert).

        What lies within one run has been received before and is a duplicate; any other overlap is an attack
        (RFC 5722) and covers nothing.
        """
        count: i64 = len(self.starts)
        if count and offset >= self.starts[-1]:  # the common case: the fragment goes to the end
            at = count
        else:
            at = bisect_right(self.starts, offset)
        if at > 0 and offset < self.ends[at - 1]:
            return IPFRAG_DUP if end <= self.ends[at - 1] else IPFRAG_OVERLAP
        if at < count and self.starts[at] < end:
            return IPFRAG_OVERLAP
        self._merge(at, offset, end)
        self.meat += end - offset
        return IPFRAG_OK

    def _merge(self, at: i64, offset: i64, end: i64) -> None:
        """Put a new run at place ``at``, joined with the neighbours it touches."""
        joins_next = at < len(self.starts) and self.starts[at] == end
        if at > 0 and self.ends[at - 1] == offset:
            self.ends[at - 1] = end
            if joins_next:
                self.ends[at - 1] = self.ends[at]
                del self.starts[at], self.ends[at]
        elif joins_next:
            self.starts[at] = offset
        else:
            self.starts.insert(at, offset)
            self.ends.insert(at, end)

    def reset(self, deadline: i64) -> None:
        """Forget everything but who it is for (ip_frag_reinit)."""
        self.deadline = deadline
        self.fragments = {}
        self.starts = []
        self.ends = []
        self.length = self.meat = self.memory = 0
        self.last_in = False
        self.ecn = self.max_size = self.max_df_size = 0


class _ExpireTimer(Timer):
    """One timer for all datagrams: they live equally long, so the oldest is due first."""

    def __init__(self, defrag: Defrag) -> None:
        super().__init__()
        self.defrag: Defrag = defrag

    def fire(self) -> None:
        self.defrag.ip_expire()


class Defrag:
    """The datagrams under way in one stack (struct fqdir), oldest first."""

    def __init__(self, net: Net) -> None:
        self.net: Net = net
        self.queues: dict[bytes, FragQueue] = {}
        self.peers: dict[int, FragPeer] = {}  #: of the sources in ``queues``, no others
        self.memory: i64 = 0  #: bytes held
        self.evictions: i64 = 0  #: datagrams given up to make room
        self._held: i64 = 0
        self._timer = _ExpireTimer(self)

    def __len__(self) -> int:
        """Fragments held."""
        return self._held

    def ip_defrag(self, packet: Packet) -> Packet | None:
        """Take a fragment; the whole datagram if it was the last one missing, else None.

        ``packet.iph`` is parsed and the packet ends where its header says. The answer is the first fragment's packet
        with a header and a payload of the whole; ``data`` stays where it was.
        """
        self.net.mib.ip.ReasmReqds += 1
        iph = packet.iph
        if iph is None:
            self.net.drop(packet, Reason.FRAG_INVALID)
            return None
        queue = self._find(packet, iph)
        reason = self._judge(queue, packet, iph)
        if reason is not None:
            self._reject(queue, packet, reason)
            return None
        if not queue.complete:
            if packet.journey is not None:
                self._tell_waiting(packet.journey, queue, iph)
            return None
        return self._reassemble(queue, packet)

    def _tell_waiting(self, journey: Journey, queue: FragQueue, iph: Ipv4Header) -> None:
        """For a trace: it is kept for the others' sake."""
        facts = datagram_facts(queue)
        facts["offset"] = iph.fragment_offset
        journey.step(Point.IP_DEFRAG, "waits for the rest", facts)
        journey.patience = queue.deadline - self.net.now + PATIENCE

    def flush(self, reason: Reason = Reason.STACK_CLOSED) -> None:
        """Give up everything: the stack is closing."""
        for queue in list(self.queues.values()):
            self._free(queue, reason)

    # -- finding the datagram

    def _find(self, packet: Packet, iph: Ipv4Header) -> FragQueue:
        """The datagram it belongs to, begun if need be (ip_find)."""
        key = frag_key(packet.buf, iph.start)
        queue = self.queues.get(key)
        if queue is None:
            peer = self.peers.get(iph.saddr)
            if peer is None:
                peer = self.peers[iph.saddr] = FragPeer()
            queue = FragQueue(key, peer, self._deadline())
            self.queues[key] = queue
            peer.queues += 1
            if not self._timer.pending:
                self.net.timers.mod_timer(self._timer, queue.deadline)
        elif self._too_far(queue):
            self._reinit(queue)
        peer = queue.peer
        peer.rid += 1
        queue.rid = peer.rid
        return queue

    def _deadline(self) -> i64:
        return self.net.now + self.net.sysctl.ipfrag_time * NSEC_PER_SEC

    def _too_far(self, queue: FragQueue) -> bool:
        """ip_frag_too_far: so many of the source's other fragments since, that the identification may be another's.

        RFC 4963 describes the harm: with 16 bits, identifications come round within a datagram's life.
        """
        max_dist = self.net.sysctl.ipfrag_max_dist
        return max_dist != 0 and queue.peer.rid + 1 - queue.rid > max_dist

    def _reinit(self, queue: FragQueue) -> None:
        """Lose what is there and start again, as the youngest datagram (ip_frag_reinit)."""
        fragments = queue.fragments
        self._uncharge(queue)
        queue.reset(self._deadline())
        del self.queues[queue.key]
        self.queues[queue.key] = queue
        self._drop_all(fragments, Reason.FRAG_TOO_FAR)

    # -- taking the fragment

    def _judge(self, queue: FragQueue, packet: Packet, iph: Ipv4Header) -> Reason | None:
        """Take the fragment, or say why not (ip_frag_queue)."""
        if packet.frags is not None:
            packet.linearize()
        start = iph.start + iph.header_len
        offset = iph.fragment_offset
        end = offset + packet.end - start
        more = iph.frag_off & IP_MF != 0
        if more:
            # RFC 791: all but the last fragment are multiples of eight; what is over cannot have a place
            end &= ~7
        # RFC 791 3.1: a total length is 16 bits; what would not fit is the ping of death (CVE-1999-0128)
        if end <= offset or end + iph.header_len > IP_MAX_LEN or not queue.accept_end(end, more):
            return Reason.FRAG_INVALID
        outcome = queue.insert(offset, end)
        if outcome != IPFRAG_OK:
            return Reason.DUP_FRAG if outcome == IPFRAG_DUP else Reason.FRAG_OVERLAP
        packet.end = start + end - offset
        self._hold(queue, packet, iph, offset)
        return None if self._make_room(queue) else Reason.FRAG_NOMEM

    def _hold(self, queue: FragQueue, packet: Packet, iph: Ipv4Header, offset: i64) -> None:
        size = packet.end - iph.start
        queue.fragments[offset] = packet
        queue.ecn |= 1 << (iph.tos & _ECN_MASK)
        if size > queue.max_size:
            queue.max_size = size
        if iph.frag_off & IP_DF and size > queue.max_df_size:
            queue.max_df_size = size
        memory = packet.truesize
        queue.memory += memory
        self.memory += memory
        self._held += 1

    def _make_room(self, queue: FragQueue) -> bool:
        """Evict the oldest datagrams until the memory fits; False if ``queue`` itself would have to go (ip_evictor).

        The Rose attack (CVE-2004-0744) fills the table with datagrams that never end: newcomers must still pass.
        """
        while self.memory > self.net.sysctl.ipfrag_high_thresh:
            oldest = next(iter(self.queues.values()))
            self.evictions += 1
            if oldest is queue:
                return False
            self._free(oldest, Reason.FRAG_NOMEM)
        return True

    def _reject(self, queue: FragQueue, packet: Packet, reason: Reason) -> None:
        """Lose ``packet``, and unless it is a mere duplicate the datagram with it; counted once."""
        if reason == Reason.DUP_FRAG:
            return self.net.drop(packet, reason)
        if reason == Reason.FRAG_NOMEM:
            return self._free(queue, reason)  # the packet is already among those held
        self._free(queue, Reason.FRAG_QUEUE_FREED)
        self.net.drop(packet, reason)

    # -- the end of a datagram

    def ip_expire(self) -> None:
        """Give up what has waited for ``ipfrag_time`` seconds, and set the timer for the next."""
        if self.net.tracer is not None:
            self.net.tracer.call(Point.IP_EXPIRE, "", {"datagrams": len(self.queues)})
        for queue in list(self.queues.values()):
            if queue.deadline > self.net.now:
                break
            self._time_exceeded(queue)
            self._free(queue, Reason.FRAG_REASM_TIMEOUT)
        for queue in self.queues.values():
            self.net.timers.mod_timer(self._timer, queue.deadline)
            break

    def _time_exceeded(self, queue: FragQueue) -> None:
        """RFC 792: "If fragment zero is not available then no time exceeded need be sent at all."

        Only an end host sends it, as Linux reads the same page: never for what was passing through (CVE-2011-1927).
        """
        head = queue.fragments.get(0)
        if head is None or self.net.icmp is None or head.dst is None or head.dst.rt_type != RTN_LOCAL:
            return
        self.net.icmp.icmp_send(head, ICMP_TIME_EXCEEDED, ICMP_EXC_FRAGTIME, 0)

    def _free(self, queue: FragQueue, reason: Reason) -> None:
        """Take the datagram out and lose its fragments (inet_frag_kill, inet_frag_destroy)."""
        self._unlink(queue)
        self._drop_all(queue.fragments, reason)

    def _drop_all(self, fragments: dict[int, Packet], reason: Reason) -> None:
        """One drop with the reason and its counters, the others silently: it is one datagram that failed."""
        for packet in fragments.values():
            self.net.drop(packet, reason)
            reason = Reason.FRAG_QUEUE_FREED

    def _unlink(self, queue: FragQueue) -> None:
        self._uncharge(queue)
        del self.queues[queue.key]
        queue.peer.queues -= 1
        if queue.peer.queues == 0:
            del self.peers[frag_saddr(queue.key)]

    def _uncharge(self, queue: FragQueue) -> None:
        self.memory -= queue.memory
        self._held -= len(queue.fragments)

    # -- the whole

    def _reassemble(self, queue: FragQueue, last: Packet) -> Packet | None:
        """ip_frag_reasm: the first fragment's packet carries the whole, the others have arrived with it."""
        if self.net.tracer is not None:
            _trace_whole(self.net.tracer, queue, last)
        self._unlink(queue)
        packets = [queue.fragments[offset] for offset in sorted(queue.fragments)]
        head = packets[0]
        old = head.iph
        ecn = ecn_of_all(queue.ecn)
        if old is None or ecn == _ECN_INVALID or old.header_len + queue.length > IP_MAX_LEN:
            self._drop_all(queue.fragments, Reason.FRAG_INVALID)
            return None
        # "When we set IP_DF on a refragmented skb": only if the largest fragment had it
        frag_off = IP_DF if queue.max_df_size == queue.max_size else 0
        header = whole_header(head.buf, old, old.tos | ecn, old.header_len + queue.length, frag_off)
        pieces = [head.buf[: old.start], header]
        summed = head.ip_summed
        for packet in packets:
            pieces.append(packet.buf[payload_start(packet) : packet.end])
            if packet.ip_summed != summed:
                summed = CHECKSUM_NONE
            if packet is not head:
                self.net.deliver(packet)
        head.buf = b"".join(pieces)
        head.end = len(head.buf)
        head.iph = ipv4.parse(head.buf, old.start, head.end)
        head.ip_summed = summed if summed == CHECKSUM_UNNECESSARY else CHECKSUM_NONE
        self.net.mib.ip.ReasmOKs += 1
        return head


def _trace_whole(tracer: Tracer, queue: FragQueue, last: Packet) -> None:
    """The journey of the fragment that came last goes on with the whole, or of another if that is not followed; the
    others end in it."""
    packets = list(queue.fragments.values())
    followed = [packet for packet in (last, queue.fragments[0], *packets) if packet.journey is not None]
    if not followed:
        return
    kept = followed[0].journey
    for packet in packets:
        journey = packet.journey
        packet.journey = None
        if journey is None:
            continue
        facts = datagram_facts(queue)
        if journey is not kept and kept is not None:
            facts["journey"] = kept.ident
        journey.step(Point.IP_FRAG_REASM, "made whole" if journey is kept else "became part of the whole", facts)
        if journey is not kept:
            journey.finish(DELIVERED)
    queue.fragments[0].journey = kept
    tracer.current = kept
    if kept is not None:
        kept.patience = PATIENCE


def frag_key(b: bytes, start: i64) -> bytes:
    """What the fragments of one datagram share: RFC 791's source, destination, identification and protocol.

    Bytes, because Python hashes those with a secret: nobody outside can choose keys that collide. As in Linux, the
    device is no part of it: fragments may come by several.
    """
    return b[start + 12 : start + 20] + b[start + 4 : start + 6] + b[start + 9 : start + 10]


def frag_saddr(key: bytes) -> i64:
    """The source address in a key."""
    return int.from_bytes(key[:4], "big")


def ecn_of_all(seen: i64) -> i64:
    """What the codepoints seen (bits) add to the first fragment's; 0xFF if they contradict each other.

    RFC 3168 5.3: "if any fragment of an IP packet to be reassembled has the CE codepoint set", the whole has it; "this
    MUST NOT occur if any of the other fragments contributing to this reassembly carries the Not-ECT codepoint"
    (ip_frag_ecn_table).
    """
    if seen & _FRAG_ECN_NOT_ECT and seen != _FRAG_ECN_NOT_ECT:
        return _ECN_INVALID
    return _ECN_CE if seen & _FRAG_ECN_CE else 0


def whole_header(b: bytes, old: Ipv4Header, tos: i64, total_len: i64, frag_off: i64) -> bytes:
    """The first fragment's header with the whole's length, flags and checksum."""
    out = BytesWriter()
    options = b[old.start + 20 : old.start + old.header_len]
    ipv4.emit(out, tos, total_len, old.ident, frag_off, old.ttl, old.protocol, old.saddr, old.daddr, options)
    return out.getvalue()


def payload_start(packet: Packet) -> i64:
    """Where a fragment's payload begins in its buffer."""
    iph = packet.iph
    return packet.network_header if iph is None else iph.start + iph.header_len
