"""The steps of what leaves: routes, fragments, segments, checksums, queues, rings and the loopback device."""

from __future__ import annotations

import pytest

from tests.harness import Pair, code_of, connection, readable
from tests.harness import udp as bound
from tests.trace.below import OURS, OUT, PEER, SEC, Target, names
from tests.trace.watch import Watch, decision, functions, in_order, step
from ustack.device.e1000 import NO_OFFLOAD
from ustack.inet.ip_sockglue import IP_MTU_DISCOVER, IP_MULTICAST_TTL
from ustack.inet.options import SO_BROADCAST, SOL_IP, SOL_SOCKET
from ustack.trace.journey import DELIVERED, DROPPED, ON_ITS_WAY, SENT
from ustack.trace.points import Point


def from_ip_on(journey_names: list[str]) -> list[str]:
    return journey_names[journey_names.index("IP_LOCAL_OUT") :]


def test_a_datagram_leaves_its_checksum_to_the_device() -> None:
    target = Target()
    with Watch(a=target.stack) as watch:
        bound(target.stack, "", 5000).sendto(b"muffin", (PEER, 4747))
        target.sent()
        journey = watch.one("UDP")
        assert journey.outcome == SENT and from_ip_on(names(journey)) == OUT
        assert step(journey, Point.FIB_LOOKUP_OUT).facts == {
            "to": PEER,
            "rule": 32766,
            "table": "main",
            "route": "192.0.2.0/24 dev eth0 src 192.0.2.1",
        }
        way = step(journey, Point.IP_ROUTE_OUTPUT)
        assert way.decision == f"to {PEER}"
        assert way.facts == {"type": "unicast", "dev": "eth0", "mtu": 1500, "src": OURS}
        assert step(journey, Point.IP_SEND_SKB).facts["DF"] is True
        assert step(journey, Point.IP_LOCAL_OUT).facts["from"] == OURS
        assert decision(journey, Point.VALIDATE_XMIT_SKB) == "checksum left to the device"
        assert step(journey, Point.VALIDATE_XMIT_SKB).facts == {
            "checksum": "PARTIAL",
            "csum_start": 34,
            "csum_offset": 6,
        }
        assert decision(journey, Point.DEV_XMIT_SKB) == "straight through"
        sent = step(journey, Point.E1000_XMIT_FRAME).facts
        assert (sent["type"], sent["descriptors"], sent["cmd"]) == ("context, data", 2, "EOP|TXSM")
        assert (sent["tucss"], sent["tucso"]) == (34, 40)


def test_a_device_without_offloads() -> None:
    target = Target(features=NO_OFFLOAD)
    with Watch(a=target.stack) as watch:
        code_of(lambda: target.stack.socket().connect((PEER, 80)))
        target.sent()
        journey = watch.one("Flags [S]")
        assert decision(journey, Point.VALIDATE_XMIT_SKB) == "checksum to be computed here"
        assert step(journey, Point.SKB_CHECKSUM_HELP).facts == {"csum_start": 34, "csum_offset": 16}
        assert step(journey, Point.E1000_XMIT_FRAME).facts["cmd"] == "EOP"


def test_a_datagram_is_cut_into_fragments() -> None:
    target = Target()
    with Watch(a=target.stack) as watch:
        sock = bound(target.stack, "", 5000)
        sock.setsockopt(SOL_IP, IP_MTU_DISCOVER, 0)
        sock.sendto(bytes(3000), (PEER, 4747))
        target.sent()
        whole, *parts = watch.all("UDP")
        assert names(whole)[-2:] == ["IP_FINISH_OUTPUT", "IP_FRAGMENT"]
        assert decision(whole, Point.IP_FINISH_OUTPUT) == "too large"
        assert (decision(whole, Point.IP_FRAGMENT), whole.outcome) == ("cut into 3 fragments", SENT)
        assert [step(part, Point.IP_DO_FRAGMENT).facts["offset"] for part in parts] == [0, 1480, 2960]
        for number, part in enumerate(parts, 1):
            assert part.parent == whole.ident and part.outcome == SENT
            assert decision(part, Point.IP_DO_FRAGMENT) == f"fragment {number} of 3"
            assert names(part) == ["IP_DO_FRAGMENT", *OUT[3:]]


def streamed(pair: Pair, watch: Watch) -> None:
    """4000 bytes from a to b."""
    watch.journeys.unwatch(watch)
    client, server = connection(pair)
    pair.run(SEC)
    watch.done.clear()
    watch.journeys.watch(watch)
    client.send(bytes(4000))
    pair.run(SEC)
    assert server.recv(5000) == bytes(4000)


def test_a_super_segment_is_left_to_the_device() -> None:
    with Pair(resolved=True) as pair, Watch(a=pair.a, b=pair.b) as watch:
        streamed(pair, watch)
        whole = watch.by(Point.E1000_XMIT_FRAME)
        assert decision(whole, Point.VALIDATE_XMIT_SKB) == "segments and checksums left to the device"
        sent = step(whole, Point.E1000_XMIT_FRAME).facts
        assert (sent["cmd"], sent["mss"], sent["hdr_len"]) == ("EOP|TSE|TXSM", 1448, 66)
        assert watch.by(Point.TCP_V4_RCV) is whole  # and crosses the cable as one


def test_a_super_segment_is_cut_here() -> None:
    with Pair(resolved=True, features=NO_OFFLOAD) as pair, Watch(a=pair.a, b=pair.b) as watch:
        streamed(pair, watch)
        whole = watch.by(Point.SKB_GSO_SEGMENT)
        assert decision(whole, Point.VALIDATE_XMIT_SKB) == "to be cut into segments here"
        assert (decision(whole, Point.SKB_GSO_SEGMENT), whole.outcome) == ("cut into 3 segments", SENT)
        parts = [journey for journey in watch.all() if journey.parent == whole.ident]
        told = [decision(part, Point.TCP_GSO_SEGMENT) for part in parts]
        assert told == ["segment 1 of 3", "segment 2 of 3", "segment 3 of 3"]
        seqs = [int(step(part, Point.TCP_GSO_SEGMENT).facts["seq"]) for part in parts]
        assert [seq - seqs[0] for seq in seqs] == [0, 1448, 2896]
        assert all("TCP_V4_RCV" in names(part) for part in parts)


def test_waiting_for_the_ring() -> None:
    """The ring is full, packets wait in the queue, the queue is full; then room is made."""
    target = Target(ring=64)
    dev = target.devs[0]
    dev.tx_queue_len = 2
    with Watch(a=target.stack) as watch:
        sock = bound(target.stack, "", 5000)
        for number in range(36):
            try:
                sock.sendto(bytes((number,)), (PEER, 4747))
            except OSError:
                pass
        journeys = watch.all()
        assert journeys == [] or all(journey.outcome == DROPPED for journey in journeys)
        dropped = [journey for journey in watch.done if journey.reason == "QDISC_DROP"]
        assert len(dropped) == 2  # 32 in the ring, 2 in the queue
        lost = dropped[0]
        assert decision(lost, Point.DEV_XMIT_SKB) == "others wait"
        full = step(lost, Point.PFIFO_ENQUEUE)
        assert (full.decision, full.facts) == ("full", {"qlen": 2, "limit": 2, "stopped": True})
        assert step(lost, Point.KFREE_SKB).facts == {"counters": "Ip.OutDiscards tx_dropped"}
        target.sent()
        target.poll()
        target.sent()
        watch.end()
        waited = watch.by(Point.E1000_MAYBE_STOP_TX)
        busy = step(waited, Point.E1000_MAYBE_STOP_TX)
        assert (busy.decision, busy.facts) == ("the ring is full", {"needs": 2, "free": 0})
        assert decision(waited, Point.PFIFO_ENQUEUE) == "queued"
        assert decision(waited, Point.PFIFO_DEQUEUE) == "its turn"
        assert waited.outcome == SENT
        assert sum(journey.outcome == SENT for journey in watch.done) == 34


def test_a_queue_that_finds_the_ring_full_again() -> None:
    target = Target(ring=64)
    with Watch(a=target.stack) as watch:
        sock = bound(target.stack, "", 5000)
        for number in range(70):
            sock.sendto(bytes((number,)), (PEER, 4747))
        while target.sent():
            target.poll()
        watch.end()
        back = watch.by(Point.DEV_REQUEUE_SKB)
        assert decision(back, Point.DEV_REQUEUE_SKB) == "back to the front"
        assert functions(back).count("qdisc_dequeue_head") == 2 and back.outcome == SENT


def test_a_device_that_is_down_and_frames_it_still_has() -> None:
    target = Target()
    with Watch(a=target.stack) as watch:
        sock = bound(target.stack, "", 5000)
        sock.sendto(b"muffin", (PEER, 4747))
        target.nics[0].set_link(False)
        sock.sendto(b"cake", (PEER, 4747))
        lost = watch.one("length 4")
        assert (lost.outcome, lost.reason) == (DROPPED, "DEV_DOWN")
        assert names(lost)[-2:] == ["DEV_QUEUE_XMIT", "KFREE_SKB"]
        target.stack.set_down(target.devs[0])
        ended = watch.one("length 6")
        assert (ended.outcome, ended.reason) == (DROPPED, "DEV_DOWN")
        assert decision(ended, Point.E1000_DOWN) == "not sent yet"


def test_through_the_loopback_device() -> None:
    target = Target()
    with Watch(a=target.stack) as watch:
        server = bound(target.stack, "", 7)
        bound(target.stack, "", 5000).sendto(b"muffin", ("127.0.0.1", 7))
        target.poll()
        server.recv(100)
        watch.end()
        journey = watch.one("UDP")
        wanted = ["neigh_hh_output", "loopback_xmit", "process_backlog", "netif_receive_skb", "ip_rcv", "udp_rcv"]
        assert in_order(wanted, functions(journey)) and journey.outcome == DELIVERED
        assert "FIB_LOOKUP_IN" not in names(journey)  # the route came along
        assert step(journey, Point.LOOPBACK_XMIT).decision == "to netif_rx"
        assert step(journey, Point.LOOPBACK_XMIT).facts == {"backlog": 0, "limit": 1000}
        assert step(journey, Point.FIB_LOOKUP_OUT).facts["route"] == "local 127.0.0.1 dev lo src 127.0.0.1"
        watch.forget()
        target.stack.net.sysctl.netdev_max_backlog = 0
        bound(target.stack, "", 5001).sendto(b"muffin", ("127.0.0.1", 7))
        lost = watch.one("UDP")
        assert (lost.reason, lost.steps[-2].decision) == ("CPU_BACKLOG", "the backlog is full")


@pytest.mark.parametrize("ttl", [0, 1])
def test_to_a_group_and_back(ttl: int) -> None:
    target = Target()
    with Watch(a=target.stack) as watch:
        sock = bound(target.stack, OURS, 5000)
        sock.setsockopt(SOL_IP, IP_MULTICAST_TTL, ttl)
        sock.sendto(b"muffin", ("224.0.0.1", 7))
        target.poll()
        target.sent()
        watch.end()
        first, copy = watch.all("UDP")
        assert copy.parent == first.ident and "LOOPBACK_XMIT" in names(copy)
        if ttl == 0:
            assert decision(first, Point.IP_MC_OUTPUT) == "stays here: its TTL is 0, and a copy for us"
            assert (first.outcome, first.reason) == (DROPPED, "TTL_ZERO")
        else:
            assert decision(first, Point.IP_MC_OUTPUT) == "to the link, and a copy for us"
            assert first.outcome == SENT
            assert step(first, Point.NEIGH_HH_OUTPUT).facts["lladdr"] == "01:00:5e:00:00:01"


def test_to_everybody() -> None:
    target = Target()
    with Watch(a=target.stack) as watch:
        sock = bound(target.stack, "", 5000)
        sock.setsockopt(SOL_SOCKET, SO_BROADCAST, 1)
        sock.sendto(b"muffin", ("192.0.2.255", 7))
        target.poll()
        target.sent()
        watch.end()
        first, copy = watch.all("UDP")
        assert copy.parent == first.ident
        route = "broadcast 192.0.2.255 dev eth0 src 192.0.2.1"
        assert step(first, Point.FIB_LOOKUP_OUT).facts["route"] == route
        assert step(first, Point.FIB_LOOKUP_OUT).facts["table"] == "local"
        assert step(first, Point.NEIGH_HH_OUTPUT).facts["lladdr"] == "ff:ff:ff:ff:ff:ff"


def test_a_connection_keeps_its_route() -> None:
    with Pair(resolved=True) as pair, Watch(a=pair.a, b=pair.b) as watch:
        client, server = connection(pair)
        for _ in range(2):
            pair.run(SEC)
            watch.forget()
            client.send(b"muffin")
            pair.run_until(lambda: readable(server))
            server.recv(10)
        pair.run(SEC)
        journey = watch.by(Point.IP_QUEUE_XMIT)
        kept = step(journey, Point.IP_QUEUE_XMIT_DST)
        assert (kept.decision, kept.facts) == ("the socket's route holds", {"dev": "eth0"})
        assert "FIB_LOOKUP_OUT" not in names(journey)
        # and what comes for it needs none either
        finish = [each for each in journey.steps if each.point is Point.IP_RCV_FINISH]
        assert [each.decision for each in finish] == ["early demux has found its socket"]
        assert "FIB_LOOKUP_IN" not in names(journey)
        assert journey.outcome != ON_ITS_WAY


def test_a_timer_that_stands_for_nobody_is_no_cause() -> None:
    """What is sent after a packet was received, and not because of it, has no cause."""
    target = Target()
    with Watch(a=target.stack) as watch:
        target.receive(bytes(60))
        bound(target.stack, "", 5000).sendto(b"muffin", (PEER, 4747))
        target.sent()
        assert watch.one("UDP").cause == 0
