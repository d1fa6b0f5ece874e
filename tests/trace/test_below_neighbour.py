"""The steps of neighbours: questions and answers with their cause, packets that wait, and what becomes of them."""

from __future__ import annotations

from tests.harness import udp as bound
from tests.trace.below import (
    BROADCAST_MAC,
    OTHER_MAC,
    OUR_MAC,
    OURS,
    PEER,
    PEER_MAC,
    SEC,
    Target,
    arp,
    dropped,
    ip,
    names,
    udp,
)
from tests.trace.watch import Watch, decision, functions, in_order, step
from ustack.neighbour.states import NUD_STALE
from ustack.packet import Packet
from ustack.trace.journey import DELIVERED, DROPPED, SENT
from ustack.trace.points import Point
from ustack.wire.ipv4 import str_to_addr

STRANGER = "192.0.2.77"
STRANGERS_MAC = 0x0200_0000_0077


def answer(spa: str = STRANGER, sha: int = STRANGERS_MAC, dst: int = OUR_MAC) -> bytes:
    return arp(2, spa, OURS, sha, dst)


def test_a_packet_waits_for_an_address() -> None:
    target = Target()
    with Watch(a=target.stack) as watch:
        sock = bound(target.stack, "", 5000)
        sock.sendto(b"muffin", (STRANGER, 4747))
        target.sent()
        watch.end()
        request = watch.one("ARP, Request")
        assert names(request)[-7:] == [
            "ARP_SOLICIT",
            "ARP_SEND",
            "DEV_QUEUE_XMIT",
            "VALIDATE_XMIT_SKB",
            "DEV_XMIT_SKB",
            "DEV_HARD_START_XMIT",
            "E1000_XMIT_FRAME",
        ]
        assert decision(request, Point.ARP_SOLICIT) == "everybody is asked"
        assert step(request, Point.ARP_SOLICIT).facts == {"neighbour": STRANGER, "state": "INCOMPLETE"}
        assert step(request, Point.ARP_SEND).facts == {
            "op": "request",
            "spa": OURS,
            "sha": "02:00:00:00:00:01",
            "tpa": STRANGER,
        }
        waits = watch.one("UDP")
        assert request.cause == waits.ident and waits.cause == 0
        assert names(waits)[-2:] == ["NEIGH_RESOLVE_OUTPUT", "NEIGH_EVENT_SEND"]
        queued = step(waits, Point.NEIGH_EVENT_SEND)
        assert queued.decision == "queued: neighbour INCOMPLETE"
        assert queued.facts == {
            "neighbour": STRANGER,
            "state": "INCOMPLETE",
            "waiting": 1,
            "bytes": 610,
            "limit": 212_992,
        }


def test_the_answer_sends_it() -> None:
    target = Target()
    with Watch(a=target.stack) as watch:
        bound(target.stack, "", 5000).sendto(b"muffin", (STRANGER, 4747))
        target.wait(SEC // 2)
        target.receive(answer())
        target.sent()
        watch.end()
        reply, muffin = watch.one("ARP, Reply"), watch.one("UDP")
        assert names(reply) == ["E1000_CLEAN_RX_IRQ", "NETIF_RECEIVE_SKB", "ARP_RCV", "NEIGH_UPDATE", "ARP_PROCESS"]
        assert decision(reply, Point.NETIF_RECEIVE_SKB) == "to arp_rcv" and reply.outcome == DELIVERED
        told = step(reply, Point.NEIGH_UPDATE)
        assert (told.decision, told.facts) == (
            "answers us",
            {"neighbour": STRANGER, "state": "INCOMPLETE to REACHABLE", "lladdr": "02:00:00:00:00:77"},
        )
        assert decision(reply, Point.ARP_PROCESS) == "taken"
        drained = step(muffin, Point.NEIGH_UPDATE_PROCESS_ARP_QUEUE)
        assert drained.facts["lladdr"] == "02:00:00:00:00:77" and drained.facts["state"] == "REACHABLE"
        assert int(drained.now) - int(step(muffin, Point.NEIGH_EVENT_SEND).now) == SEC // 2
        wanted = ["__neigh_event_send", "neigh_update_process_arp_queue", "neigh_hh_output", "e1000_xmit_frame"]
        assert in_order(wanted, functions(muffin)) and muffin.outcome == SENT


def test_nobody_answers() -> None:
    """Three questions, the last two of a timer's; then every packet that waits fails with its ICMP error."""
    target = Target(forward=True)
    with Watch(a=target.stack) as watch:
        target.receive(ip(17, udp(), saddr="203.0.113.2", daddr=STRANGER, dst=OUR_MAC + 1), port=1)
        target.wait(10 * SEC)
        watch.end()
        lost = dropped(watch, "NEIGH_FAILED", "", "3/1 host unreachable")
        assert decision(lost, Point.ICMP_SEND) == "sent"
        requests = watch.all("ARP, Request")
        assert [request.cause for request in requests] == [lost.ident] * 3
        assert ["NEIGH_TIMER_HANDLER" in names(request) for request in requests] == [False, True, True]
        assert int(lost.steps[-1].now) - int(step(lost, Point.NEIGH_EVENT_SEND).now) >= 3 * SEC
        error = watch.one("unreachable")
        assert error.cause == lost.ident and error.outcome == SENT
        assert "NEIGH_TIMER_HANDLER" in names(error)


def test_too_much_waits() -> None:
    target = Target()
    target.devs[0].in_dev.arp_parms.unres_qlen_bytes = 1500
    with Watch(a=target.stack) as watch:
        sock = bound(target.stack, "", 5000)
        for number in range(4):
            sock.sendto(bytes((number,)), (STRANGER, 4747))
        lost = [journey for journey in watch.done if journey.outcome == DROPPED]
        assert [journey.reason for journey in lost] == ["NEIGH_QUEUEFULL"] * 2
        assert step(lost[0], Point.KFREE_SKB).facts == {"counters": "Neigh.unresolved_discards"}
        target.receive(answer())
        target.sent()
        assert [journey.outcome for journey in watch.all("UDP")] == [DROPPED, DROPPED, SENT, SENT]


def test_a_stale_neighbour_is_used_and_asked() -> None:
    target = Target()
    table, dev = target.stack.neighbours, target.devs[0]
    table.neigh_add(str_to_addr(PEER), dev, PEER_MAC, NUD_STALE)
    with Watch(a=target.stack) as watch:
        bound(target.stack, "", 5000).sendto(b"muffin", (PEER, 4747))
        target.sent()
        muffin = watch.one("UDP")
        assert step(muffin, Point.NEIGH_RESOLVE_OUTPUT).facts["state"] == "STALE"
        assert step(muffin, Point.NEIGH_HH_OUTPUT).facts["state"] == "DELAY"
        watch.forget()
        target.wait(6 * SEC)
        probe = watch.all("ARP, Request")[0]
        assert names(probe)[:3] == ["NEIGH_TIMER_HANDLER", "ARP_SOLICIT", "ARP_SEND"]
        assert decision(probe, Point.ARP_SOLICIT) == "it is asked where it was last"
        assert step(probe, Point.NEIGH_TIMER_HANDLER).facts["state"] == "DELAY"
        assert step(probe, Point.DEV_QUEUE_XMIT).facts["dst"] == "02:00:00:00:00:fe"
        assert probe.cause == 0


def test_questions_for_us() -> None:
    target = Target()
    with Watch(a=target.stack) as watch:
        target.receive(arp(spa=STRANGER, sha=STRANGERS_MAC))
        target.sent()
        watch.end()
        request, reply = watch.one("ARP, Request"), watch.one("ARP, Reply")
        assert reply.cause == request.ident
        assert decision(request, Point.ARP_PROCESS) == "answered"
        assert decision(request, Point.IP_ROUTE_INPUT) == "to ip_local_deliver"
        assert step(request, Point.NEIGH_UPDATE).facts["state"] == "NONE to STALE"
        assert step(request, Point.ARP_RCV).facts == {
            "op": "request",
            "spa": STRANGER,
            "sha": "02:00:00:00:00:77",
            "tpa": OURS,
        }
        assert step(reply, Point.ARP_SEND).facts["tha"] == "02:00:00:00:00:77"
        watch.forget()
        # somebody else there all of a sudden is not believed at once
        target.receive(arp(spa=STRANGER, sha=OTHER_MAC))
        request = watch.one("ARP, Request")
        assert decision(request, Point.NEIGH_UPDATE) == "not believed: locktime"
        watch.forget()
        # one of our addresses is claimed, and defended
        target.receive(arp(spa=OURS, tpa=OURS, sha=OTHER_MAC))
        target.sent()
        claim = next(each for each in watch.all() if "ARP_RCV" in names(each))
        assert decision(claim, Point.ARP_PROCESS) == "an address of ours claimed"
        defence = next(each for each in watch.all() if each.cause == claim.ident)
        assert step(defence, Point.ARP_SEND).facts["tpa"] == OURS


def test_a_question_for_a_proxy_waits() -> None:
    target = Target(forward=True)
    target.stack.neighbours.proxies.pneigh_create(str_to_addr("203.0.113.9"), target.devs[0])
    with Watch(a=target.stack) as watch:
        target.receive(arp(tpa="203.0.113.9", dst=BROADCAST_MAC))
        assert watch.done == []
        target.wait(2 * SEC)
        watch.end()
        request = next(each for each in watch.all() if "ARP_RCV" in names(each))
        waits = step(request, Point.PNEIGH_ENQUEUE)
        assert waits.decision == "answered for another, later" and 0 <= int(waits.facts["delay_us"]) < 800_000
        said = [each.decision for each in request.steps if each.point is Point.ARP_PROCESS]
        assert said == ["to be looked at again", "answered"]
        reply = watch.one("ARP, Reply")
        assert reply.cause == request.ident and request.outcome == DELIVERED


def test_a_neighbour_that_is_gone_is_looked_up_anew() -> None:
    target = Target()
    table, dev = target.stack.neighbours, target.devs[0]
    sock = bound(target.stack, "", 5000)
    old = table.neigh_lookup(str_to_addr(PEER), dev)
    assert old is not None
    table.neigh_delete(str_to_addr(PEER), dev)
    with Watch(a=target.stack) as watch:
        sock.sendto(b"muffin", (PEER, 4747))
        watch.forget()
        assert old.dead
        tracer = target.stack.net.tracer
        assert tracer is not None
        packet = Packet(ip(17, udp(), saddr=OURS, daddr=PEER)[14:])
        tracer.built(packet, bytes(12) + b"\x08\x00" + packet.buf)
        old.output(packet)
        watch.end()
        journey = watch.one("UDP")
        said = [each.decision for each in journey.steps if each.point is Point.NEIGH_RESOLVE_OUTPUT]
        assert said[0] == "entry is gone: the table is asked anew"
