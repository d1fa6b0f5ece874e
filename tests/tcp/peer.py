"""One stack and a scripted peer on its wire, in virtual time: what the tests of TCP speak.

    with established() as c:
        c.app_send(b"abc")
        c.expect("PA", seq=1, ack=1, data=b"abc")
        c.inject("A", ack=4)
        c.silent(until=SEC)
        c.counted(TCPOrigDataSent=1, TCPDelivered=1, TCPHPAcks=1)

The stack is 192.0.2.2, the peer 192.0.2.1: a NIC's rings with nobody but the test behind them. It answers ARP by
itself and nothing else. Sequence numbers are relative: ``seq`` of what the stack sends and ``ack`` of what the peer
sends count from the stack's ISN (the SYN is 0), the other two from the peer's. ``at`` and ``until`` are ns since the
last ``mark``, which the constructors set when they are done.

``expect`` wants the next segment now, unless it says when; ``silent`` wants none. Leaving the block checks that every
segment was expected, that every packet received is accounted for, and that no timer of a closed connection is armed.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final, Self

from tests.tcp.host import (
    LETTERS,
    M32,
    MSEC,
    PEER,
    PEER_ISS,
    PEER_MAC,
    PEER_PORT,
    SEC,
    SEED,
    SERVER_PORT,
    STACK,
    STACK_MAC,
    START,
    USEC,
    Batch,
    Host,
    Segment,
    code_of,
    flag_bits,
    tcp_sock,
)
from ustack.device.e1000 import NO_OFFLOAD
from ustack.inet.options import SO_ERROR, SOL_SOCKET
from ustack.sock import TCP_CLOSE, TCP_LISTEN
from ustack.tcp.delack import TICK
from ustack.tcp.states import State
from ustack.wire.ipv4 import str_to_addr

if TYPE_CHECKING:
    from collections.abc import Callable

    from ustack.drop import Reason
    from ustack.inet.socket import Socket

#: What tests take from here: all of host.py that they need, and one constructor a state.
__all__ = [
    "M32", "MSEC", "PEER", "PEER_ISS", "PEER_MAC", "PEER_PORT", "SEC", "SEED", "SERVER_PORT", "STACK", "STACK_MAC",
    "START", "USEC", "Batch", "Peer", "Segment", "close_wait", "closing", "code_of", "established", "fin_wait1",
    "fin_wait2", "flag_bits", "last_ack", "listening", "simultaneous", "syn_recv", "syn_sent", "tcp_sock", "time_wait",
]  # fmt: skip

#: Counters that every packet moves, and groups that tell of the floors below; the first two are checked apart.
_ROUTINE: Final = ("Tcp.InSegs", "Tcp.OutSegs", "Ip.InReceives", "Ip.InDelivers", "Ip.OutRequests", "Ip.OutTransmits")
_BELOW: Final = ("Path", "RtCache", "Neigh")


class Peer(Host):
    """A host that expects: the script's verbs, the application's calls, the books.

    ``mss``, ``wscale``, ``timestamps`` and ``sack`` are what the peer's SYN or SYN-ACK offers (None: not at all);
    ``window`` is what it advertises, in bytes. ``features``: the stack's NIC; with E1000_FEATURES super-segments come
    out whole.
    """

    # -- what is expected

    def next_segment(self, at: int | None = None) -> Segment:
        """The next segment: sent already, or up to ``at``."""
        if not self.out and at is not None:
            target = self.zero + at
            while not self.out:
                deadline = int(self.stack.next_deadline())
                if deadline > target:
                    break
                self.now = max(self.now, deadline)
                self.poll()
        assert self.out, f"nothing was sent by {(self.now - self.zero) / SEC:.6f} s"
        return self.out.pop(0)

    def expect(
        self,
        flags: str,
        *,
        seq: int | None = None,
        ack: int | None = None,
        data: bytes | None = None,
        at: int | None = None,
        window: int | None = None,
        sport: int | None = None,
        dport: int | None = None,
        dst: str = PEER,
    ) -> Segment:
        """The stack's next segment, with these flags and no other; sent already, or at ``at`` exactly.

        What is left out is not compared, but for ``data``, which is b"" then. ``window`` is the field on the wire.
        """
        s = self.next_segment(at)
        problems: list[str] = []

        def compare(what: str, wanted: object, got: object) -> None:
            if wanted is not None and wanted != got:
                problems.append(f"{what} is {got!r}, not {wanted!r}")

        letters = "".join(letter for letter, bit in LETTERS.items() if s.flags & bit)
        compare("flags", "".join(sorted(flags)), "".join(sorted(letters)))
        compare("seq", seq, (s.seq - self.irs) & M32)
        compare("ack", ack, (s.ack - self.iss) & M32)
        compare("data", b"" if data is None else data, s.data)
        compare("window", window, s.window)
        compare("sport", self.sport if sport is None else sport, s.sport)
        compare("dport", self.pport if dport is None else dport, s.dport)
        compare("dst", dst, s.dst)
        compare("time since the mark", at, s.time - self.zero)
        assert not problems, f"{s}: {'; '.join(problems)}"
        return s

    def silent(self, until: int | None = None) -> None:
        """No segment is sent now, nor before ``until`` (ns since the mark)."""
        if until is not None:
            self.run_to(self.zero + until)
        assert not self.out, f"not silent: {self.out}"

    def moved(self) -> dict[str, int]:
        """The counters that moved since the mark, without those that every packet moves."""
        after = self.net.mib.snapshot()
        return {
            name: after[name] - was
            for name, was in self.before.items()
            if after[name] != was and name not in _ROUTINE and name.partition(".")[0] not in _BELOW
        }

    def counted(self, *reasons: Reason, **counters: int) -> None:
        """Since the mark packets were dropped for ``reasons``, in this order, and these counters moved and no other.

        Counters of the Tcp and TcpExt groups go by their own name, others as ``Icmp_InMsgs``. Tcp.InSegs and OutSegs
        need not be said: they must equal what was injected and what came out for the first time.
        """
        expected: dict[str, int] = {}
        for name, value in counters.items():
            if "_" in name:
                expected[name.replace("_", ".", 1)] = value
            else:
                group = "Tcp" if f"Tcp.{name}" in self.before else "TcpExt"
                assert f"{group}.{name}" in self.before, f"no such counter: {name}"
                expected[f"{group}.{name}"] = value
        moved, wanted = self.moved(), {name: value for name, value in expected.items() if value}
        assert moved == wanted, f"moved {moved}, not {wanted}"
        after = self.net.mib.snapshot()
        assert after["Tcp.InSegs"] - self.before["Tcp.InSegs"] == self.injected
        assert after["Tcp.OutSegs"] - self.before["Tcp.OutSegs"] == self.emitted
        names = [reason.name for reason in self.drops.reasons]
        assert names == [reason.name for reason in reasons], f"dropped for {names}"

    @property
    def state(self) -> State:
        """Where the connection is, whether a socket, a request or a TimeWait holds it; CLOSE if nothing does."""
        tables = self.stack.tcp.tables
        ours, peer = str_to_addr(STACK), str_to_addr(PEER)
        tw = tables.timewait.lookup(peer, self.pport, ours, self.sport)
        if tw is not None:
            return State(tw.substate)
        if tables.requests.lookup(peer, self.pport, ours, self.sport) is not None:
            return State.SYN_RECV
        tp = tables.lookup_established(peer, self.pport, ours, self.sport)
        if tp is not None:
            return State(tp.state)
        return State.LISTEN if self.tp.state == TCP_LISTEN else State.CLOSE

    def in_state(self, state: State) -> bool:
        """Whether ``state`` is where the connection is."""
        return self.state is state

    # -- the application

    def app_listen(self, backlog: int = 8, port: int = SERVER_PORT, address: str = "") -> None:
        """The stack's socket listens; it is ``server`` from then on."""
        self.sock.bind((address, port))
        self.sock.listen(backlog)
        self.sock.observe(self.events)
        self.server = self.sock
        self.sport = port
        self.poll()

    def app_connect(self, port: int = SERVER_PORT) -> None:
        """Start connecting to the peer's ``port``."""
        self.pport = port
        self.sock.observe(self.events)
        assert code_of(lambda: self.sock.connect((PEER, port))) == errno.EINPROGRESS
        self.poll()

    def app_accept(self) -> Socket:
        """Take the connection off the server; ``sock`` and ``tp`` are it from then on."""
        assert self.server is not None
        self.sock = self.server.accept()
        self.tp = tcp_sock(self.sock)
        self.events.seen.clear()
        self.sock.observe(self.events)
        self.poll()
        return self.sock

    def app_send(self, data: bytes, flags: int = 0) -> int:
        """How many bytes were taken."""
        taken = int(self.sock.send(data, flags))
        self.poll()
        return taken

    def app_recv(self, length: int = 1 << 20, flags: int = 0) -> bytes:
        data = self.sock.recv(length, flags)
        self.poll()
        return data

    def app_shutdown(self, how: int = 1) -> None:
        """SHUT_RD 0, SHUT_WR 1, SHUT_RDWR 2."""
        self.sock.shutdown(how)
        self.poll()

    def app_close(self) -> None:
        self.sock.close()
        self.poll()

    def app_setsockopt(self, level: int, name: int, value: int | bytes) -> None:
        self.sock.setsockopt(level, name, value)
        self.poll()

    def app_fails(self, call: Callable[[], object]) -> int:
        """The errno that ``call`` raises."""
        code = code_of(call)
        self.poll()
        return code

    def app_error(self) -> int:
        """SO_ERROR, which clears it."""
        value = self.sock.getsockopt(SOL_SOCKET, SO_ERROR)
        assert isinstance(value, int)
        return value

    # -- handshakes

    def peer_syn(self, **more: int) -> None:
        """The peer's SYN with what it offers."""
        self.nxt = 0
        self.inject("S", options=self.syn_options(), window=more.get("window"))

    def accepted(self) -> None:
        """The peer calls, the stack's application accepts."""
        self.peer_syn()
        self.expect("SA", seq=0, ack=1)
        self.inject("A")
        self.app_accept()

    def connected(self) -> None:
        """The stack calls, the peer answers."""
        self.app_connect()
        self.expect("S", seq=0)
        self.nxt = 0
        self.inject("SA", options=self.syn_options())
        self.expect("A", seq=1, ack=1)
        self.sock.connect((PEER, self.pport))

    # -- the books

    def timers_pending(self) -> int:
        """How many of the socket's own timers are armed."""
        timers = (self.tp.retransmit_timer, self.tp.delack_timer, self.tp.keepalive_timer)
        return sum(timer is not None and timer.pending for timer in timers)

    def check(self) -> None:
        """Nothing was sent that nobody expected, nothing is lost track of, no timer is left to the dead."""
        assert not self.out, f"not expected: {self.out}"
        assert self.stack.unaccounted() == 0
        if self.tp.state == TCP_CLOSE:
            assert self.timers_pending() == 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *rest: object) -> None:
        if kind is None:
            self.check()


# -- one constructor a state; keywords as for Peer


def listening(backlog: int = 8, peer: Peer | None = None) -> Peer:
    """LISTEN on SERVER_PORT."""
    c = peer or Peer()
    c.app_listen(backlog)
    c.mark()
    return c


def syn_sent(peer: Peer | None = None) -> Peer:
    """SYN_SENT: the SYN has been seen."""
    c = peer or Peer()
    c.app_connect()
    c.expect("S", seq=0)
    c.mark()
    return c


def syn_recv(peer: Peer | None = None) -> Peer:
    """SYN_RECV of a passive open: a request, the SYN-ACK has been seen."""
    c = listening(peer=peer)
    c.peer_syn()
    c.expect("SA", seq=0, ack=1)
    c.mark()
    return c


def simultaneous(peer: Peer | None = None) -> Peer:
    """SYN_RECV of a simultaneous open."""
    c = syn_sent(peer)
    c.peer_syn()
    c.expect("SA", seq=0, ack=1)
    c.mark()
    return c


def established(
    active: bool = False,
    mss: int | None = 1460,
    wscale: int | None = None,
    timestamps: bool = False,
    window: int = 65_535,
    iss: int = PEER_ISS,
    seed: bytes = SEED,
    features: int = NO_OFFLOAD,
    mtu: int = 1500,
    peer: Peer | None = None,
    sack: bool = False,
) -> Peer:
    """ESTABLISHED: accepted, or connected if ``active``. Both sides have sent nothing but their SYNs: seq 1, ack 1."""
    c = peer or Peer(mss, wscale, timestamps, window, iss, seed, features, mtu, sack=sack)
    if active:
        c.connected()
    else:
        if c.server is None:
            c.app_listen()
        c.accepted()
    c.mark()
    return c


def _let_go(c: Peer, orphan: bool) -> None:
    if orphan:
        c.app_close()
    else:
        c.app_shutdown()


def fin_wait1(orphan: bool = False, peer: Peer | None = None) -> Peer:
    """FIN_WAIT1 after shutdown(SHUT_WR), or close if ``orphan``: our FIN is out and not acknowledged."""
    c = established(peer=peer)
    _let_go(c, orphan)
    c.expect("FA", seq=1, ack=1)
    c.mark()
    return c


def fin_wait2(orphan: bool = False, peer: Peer | None = None) -> Peer:
    """FIN_WAIT2: our FIN is acknowledged."""
    c = fin_wait1(orphan, peer)
    c.inject("A", ack=2)
    c.mark()
    return c


def closing(orphan: bool = False, peer: Peer | None = None) -> Peer:
    """CLOSING: both FINs have crossed, ours is not acknowledged."""
    c = fin_wait1(orphan, peer)
    c.inject("FA", ack=1)
    c.expect("A", seq=2, ack=2)
    c.mark()
    return c


def time_wait(orphan: bool = False, peer: Peer | None = None) -> Peer:
    """TIME_WAIT: we closed first, both FINs are acknowledged."""
    c = fin_wait2(orphan, peer)
    c.inject("FA", ack=2)
    c.expect("A", seq=2, ack=2)
    c.mark()
    return c


def close_wait(peer: Peer | None = None) -> Peer:
    """CLOSE_WAIT: the peer's FIN is acknowledged, we have not closed."""
    c = established(peer=peer)
    c.inject("FA")
    c.expect("A", seq=1, ack=2, at=c.now - c.zero + TICK)  # nobody was quick enough to answer
    c.mark()
    return c


def last_ack(orphan: bool = True, peer: Peer | None = None) -> Peer:
    """LAST_ACK: we closed after the peer did, our FIN is out."""
    c = close_wait(peer)
    _let_go(c, orphan)
    c.expect("FA", seq=1, ack=2)
    c.mark()
    return c
