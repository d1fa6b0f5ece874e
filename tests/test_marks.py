"""Marks of what has no socket: fwmark_reflect, tcp_fwmark_accept (IP4_REPLY_MARK, inet_request_mark; SO_MARK)."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import pytest

from tests.harness import MSEC, SEC, B, Pair, code_of, readable, udp
from tests.test_stack import ECHO, ping
from ustack.dst import RTN_BLACKHOLE
from ustack.inet.options import SO_MARK, SOL_SOCKET
from ustack.netfilter.hooks import NF_ACCEPT, NF_INET_LOCAL_OUT, NF_INET_PRE_ROUTING, HookState
from ustack.routing.fib_rules import FibRuleConfig
from ustack.routing.fib_types import FibConfig
from ustack.routing.uapi import FR_ACT_TO_TBL, NLM_F_CREATE
from ustack.wire import ipv4, tcp
from ustack.wire.tcp import TCPHDR_ACK, TCPHDR_FIN, TCPHDR_RST, TCPHDR_SYN

if TYPE_CHECKING:
    from ustack.inet.socket import Socket

MARK, OWN = 7, 3
TABLE = 77


class Marked(Pair):
    """Whatever ``b`` receives has MARK; ``sent`` is what it sends: the transport's bytes, and the mark."""

    def __init__(self, *settings: str) -> None:
        super().__init__(resolved=True)
        self.sent: list[tuple[bytes, int]] = []
        for setting in settings:
            self.b.sysctl.set(f"net.ipv4.{setting}", "1")
        self.b.hooks.nf_register_hook(NF_INET_PRE_ROUTING, self.mark)
        self.b.hooks.nf_register_hook(NF_INET_LOCAL_OUT, self.note)

    def mark(self, state: HookState) -> int:
        state.packet.mark = MARK
        return NF_ACCEPT

    def note(self, state: HookState) -> int:
        packet = state.packet
        iph = ipv4.parse(packet.buf, packet.network_header, packet.end)
        assert iph is not None
        self.sent.append((packet.buf[iph.start + iph.header_len : packet.end], int(packet.mark)))
        return NF_ACCEPT

    def block(self, mark: int) -> None:
        """``ip rule add fwmark MARK table 77``, where nothing leads anywhere."""
        cfg = FibConfig()
        cfg.table, cfg.rt_type, cfg.nlflags = TABLE, RTN_BLACKHOLE, NLM_F_CREATE
        self.b.routing.fib.rtm_newroute(cfg)
        rule = FibRuleConfig(FR_ACT_TO_TBL, TABLE, 5)
        rule.mark = mark
        self.b.routing.fib.rules.fib_nl_newrule(rule)

    def marks(self) -> list[int]:
        self.run(100 * MSEC)
        found = [mark for _, mark in self.sent]
        self.sent.clear()
        return found

    def flags(self) -> list[tuple[int, int]]:
        """Of the segments that were sent: flags and mark."""
        self.run(100 * MSEC)
        found = []
        for data, mark in self.sent:
            th = tcp.parse(data, 0, len(data))
            assert th is not None
            found.append((int(th.flags), mark))
        self.sent.clear()
        return found

    def ask(self) -> Socket:
        """A connection to port 80 has begun."""
        client = self.a.socket()
        assert code_of(lambda: client.connect((B, 80))) == errno.EINPROGRESS
        return client

    def listen(self, mark: int = 0) -> Socket:
        listener = self.b.socket()
        listener.setsockopt(SOL_SOCKET, SO_MARK, mark)
        listener.bind((B, 80))
        listener.listen(5)
        return listener


@pytest.mark.parametrize("settings", [(), ("fwmark_reflect",)])
def test_icmp_replies_and_errors(settings: tuple[str, ...]) -> None:
    with Marked(*settings) as pair:
        ping(pair.a).sendto(ECHO, (B, 0))
        udp(pair.a).sendto(b"nobody", (B, 9))
        assert pair.marks() == [MARK if settings else 0] * 2


@pytest.mark.parametrize("settings", [(), ("fwmark_reflect",)])
def test_a_reset(settings: tuple[str, ...]) -> None:
    """ip_send_unicast_reply."""
    with Marked(*settings) as pair:
        pair.ask()
        assert pair.flags() == [(TCPHDR_RST | TCPHDR_ACK, MARK if settings else 0)]


def test_the_way_back_is_that_of_the_mark() -> None:
    """flowi4_mark: rules for the mark decide about the answer; the route of the last one is not taken for it."""
    with Marked() as pair:
        pair.block(MARK)
        ask = ping(pair.a)
        ask.sendto(ECHO, (B, 0))
        assert pair.marks() == [0]
        pair.b.sysctl.set("net.ipv4.fwmark_reflect", "1")
        ask.sendto(ECHO, (B, 0))
        udp(pair.a).sendto(b"nobody", (B, 9))
        pair.ask()
        assert pair.marks() == []
        pair.b.sysctl.set("net.ipv4.fwmark_reflect", "0")
        ask.sendto(ECHO, (B, 0))
        assert len(pair.marks()) == 1


@pytest.mark.parametrize(
    ("settings", "own", "expected"),
    [
        ((), 0, 0),
        (("fwmark_reflect",), 0, 0),
        (("tcp_fwmark_accept",), 0, MARK),
        (("tcp_fwmark_accept",), OWN, OWN),
        ((), OWN, OWN),
    ],
)
def test_a_connection_has_its_listeners_mark_or_its_syns(settings: tuple[str, ...], own: int, expected: int) -> None:
    """SYN-ACK, ACKs, data, FIN, and what TIME_WAIT says for it; fwmark_reflect is not about sockets."""
    with Marked(*settings) as pair:
        listener, client = pair.listen(own), pair.ask()
        assert pair.flags() == [(TCPHDR_SYN | TCPHDR_ACK, expected)]
        pair.run_until(lambda: readable(listener))
        server = listener.accept()
        assert server.getsockopt(SOL_SOCKET, SO_MARK) == expected
        server.send(b"x")
        assert {mark for _, mark in pair.flags()} == {expected}
        assert client.recv(10) == b"x"
        server.close()
        pair.run(SEC)
        client.close()
        assert {mark for _, mark in pair.flags()} == {expected}
        tw = pair.b.tcp.tables.timewait.all()
        assert len(tw) == 1
        tw[0].send_ack()
        assert pair.flags() == [(TCPHDR_ACK, expected)]
        listener.close()


def test_a_syn_whose_mark_leads_nowhere_is_not_answered() -> None:
    """inet_csk_route_req goes by ir_mark."""
    with Marked("tcp_fwmark_accept") as pair:
        pair.block(MARK)
        listener, client = pair.listen(), pair.ask()
        assert pair.flags() == []
        client.close()
        listener.close()


def test_a_connection_resets_with_its_own_mark() -> None:
    """tcp_v4_send_reset: the socket's mark, where nothing is reflected."""
    with Marked() as pair:
        listener, client = pair.listen(OWN), pair.ask()
        pair.run_until(lambda: readable(listener))
        server = listener.accept()
        pair.run(SEC)
        pair.sent.clear()
        server.close()
        client.send(b"for nobody")
        fin, reset, *_ = pair.flags()
        assert fin[0] & TCPHDR_FIN and reset[0] & TCPHDR_RST and (fin[1], reset[1]) == (OWN, OWN)
        listener.close()
        client.close()
