"""Across a switch: host a, a bridge that learns, host b; and what the bridge's own stack sends and gets."""

from __future__ import annotations

from typing import Final

from tests.harness import B, Network, udp
from tests.trace.watch import Watch, decision, functions, in_order, step
from ustack.trace.journey import DELIVERED
from ustack.trace.points import Point

PORT: Final = 4747
MUFFIN: Final = "UDP, length 6"


def test_the_muffin_crosses_a_switch() -> None:
    """The first finds a station unknown and goes everywhere but back, the answer's way is known then."""
    with Network() as net:
        a, switch, b, c = (net.stack() for _ in range(4))
        for stack, address in ((a, "192.0.2.1/24"), (b, "192.0.2.2/24"), (c, "192.0.2.3/24")):
            net.join(stack, address, switch, "")
        bridge = switch.bridges.br_add_bridge("br0")
        for number in range(3):
            switch.bridges.set_master(switch.device(f"eth{number}"), bridge)
        switch.set_up(bridge)
        switch.add_address("192.0.2.100/24", bridge)
        net.run(3_000_000_000)
        receiver = udp(b, B, PORT)
        with Watch(a=a, s=switch, b=b, c=c) as watch:
            udp(a).sendto(b"muffin", (B, PORT))
            net.settle()
            receiver.recv(100)
            muffin = watch.one(MUFFIN)
            question = watch.all("who-has 192.0.2.2")[0]
            hosts = [each.host for each in muffin.steps]
            assert [host for at, host in enumerate(hosts) if at == 0 or hosts[at - 1] != host] == ["a", "s", "b"]
            wanted = ["br_handle_frame", "br_fdb_update", "br_forward", "br_dev_queue_push_xmit", "e1000_xmit_frame"]
            assert in_order(wanted, functions(muffin, "s"))
            assert decision(muffin, Point.BR_FORWARD) == "to eth1"
            assert muffin.outcome == DELIVERED
            assert decision(question, Point.BR_FLOOD) == "to eth1, eth2"
            assert decision(question, Point.BR_PASS_FRAME_UP) == "to the bridge itself"
            copies = [journey for journey in watch.all("who-has 192.0.2.2") if journey.parent == question.ident]
            assert len(copies) == 2
            watch.forget()
            own = udp(switch)
            own.sendto(b"muffin", (B, PORT))
            net.settle()
            receiver.recv(100)
            sent = watch.one(MUFFIN)
            assert step(sent, Point.BR_DEV_XMIT).dev == "br0"
            assert decision(sent, Point.BR_DEV_XMIT) == "station known"
