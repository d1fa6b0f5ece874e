"""The steps of a packet that a router sends on: which rule, table, route and next hop, and why."""

from __future__ import annotations

from tests.harness import SEC, readable
from tests.harness import udp as bound
from tests.test_router import routed
from tests.trace.below import FAR, OURS, OUT, PEER, Target, echo, ip, names, udp
from tests.trace.watch import Watch, decision, step
from ustack.routing.fib_rules import FibRuleConfig
from ustack.routing.fib_types import FibConfig, NexthopConfig
from ustack.routing.uapi import FR_ACT_PROHIBIT, FR_ACT_TO_TBL, NLM_F_CREATE
from ustack.trace.journey import DELIVERED, DROPPED, SENT
from ustack.trace.points import Point
from ustack.wire.ipv4 import str_to_addr

BEYOND = "203.0.113.2"
WAY = [
    "E1000_CLEAN_RX_IRQ",
    "NETIF_RECEIVE_SKB",
    "IP_RCV",
    "IP_RCV_CORE",
    "FIB_LOOKUP_IN",
    "FIB_VALIDATE_SOURCE",
    "IP_ROUTE_INPUT",
    "IP_RCV_FINISH",
    "IP_FORWARD",
    "IP_DECREASE_TTL",
    "IP_FORWARD_FINISH",
    *OUT[1:],
]


def test_the_whole_way() -> None:
    target = Target(forward=True)
    with Watch(r=target.stack) as watch:
        target.receive(ip(17, udp(), daddr=BEYOND))
        assert len(target.sent()) == 1
        journey = watch.one("UDP")
        assert journey.outcome == SENT
        assert names(journey) == WAY
        lookup = step(journey, Point.FIB_LOOKUP_IN)
        assert lookup.decision == "unicast" and lookup.dev == "eth0"
        assert lookup.facts == {
            "to": BEYOND,
            "from": PEER,
            "rule": 32766,
            "table": "main",
            "route": "203.0.113.0/24 dev eth1 src 203.0.113.1",
        }
        route = step(journey, Point.IP_ROUTE_INPUT)
        assert (route.decision, route.facts) == ("to ip_forward", {"type": "unicast", "dev": "eth1", "mtu": 1500})
        assert step(journey, Point.IP_RCV_CORE).facts["ttl"] == 64
        assert step(journey, Point.IP_DECREASE_TTL).facts == {"ttl": 63}
        assert step(journey, Point.IP_FINISH_OUTPUT).facts == {"length": 34, "mtu": 1500}
        hop = step(journey, Point.IP_FINISH_OUTPUT2)
        assert (hop.decision, hop.facts) == ("to the destination itself", {"nexthop": BEYOND})
        assert step(journey, Point.NEIGH_HH_OUTPUT).facts == {
            "neighbour": BEYOND,
            "state": "PERMANENT",
            "lladdr": "02:00:00:00:00:fd",
        }
        sent = step(journey, Point.E1000_XMIT_FRAME)
        assert sent.dev == "eth1" and sent.facts["cmd"] == "EOP" and "type" not in sent.facts
        # and the second of the flow finds it all kept
        watch.forget()
        target.receive(ip(17, udp(), daddr=BEYOND))
        target.sent()
        assert step(watch.one("UDP"), Point.IP_ROUTE_INPUT).facts["cached"] is True


def test_a_gateway_and_a_metric() -> None:
    target = Target(forward=True)
    target.stack.add_route("198.51.100.0/24", BEYOND, metric=7)
    with Watch(r=target.stack) as watch:
        target.receive(ip(17, udp(), daddr=FAR))
        target.sent()
        journey = watch.one("UDP")
        route = "198.51.100.0/24 via 203.0.113.2 dev eth1 metric 7"
        assert step(journey, Point.FIB_LOOKUP_IN).facts["route"] == route
        assert step(journey, Point.IP_ROUTE_INPUT).facts["via"] == BEYOND
        assert decision(journey, Point.IP_FINISH_OUTPUT2) == "to the gateway"


def rule(pref: int, table: int = 0, action: int = FR_ACT_TO_TBL, mark: int = 0, src: str = "") -> FibRuleConfig:
    config = FibRuleConfig(action, table, pref)
    config.mark = mark
    if src:
        config.src, config.src_len = str_to_addr(src), 32
    return config


def test_the_rule_that_decided_is_told() -> None:
    target = Target(forward=True)
    routes = FibConfig(0, 0)
    routes.table = 100
    routes.gateway = str_to_addr(BEYOND)
    routes.nlflags = NLM_F_CREATE
    rules, fib = target.stack.routing.fib.rules, target.stack.routing.fib
    fib.rtm_newroute(routes)
    rules.fib_nl_newrule(rule(200, 100, src=PEER))
    rules.fib_nl_newrule(rule(100, action=FR_ACT_PROHIBIT, src="192.0.2.66"))
    with Watch(r=target.stack) as watch:
        target.receive(ip(17, udp(), daddr=FAR))
        target.sent()
        lookup = step(watch.one("UDP"), Point.FIB_LOOKUP_IN)
        assert lookup.facts == {
            "to": FAR,
            "from": PEER,
            "rule": 200,
            "table": "100",
            "route": "default via 203.0.113.2 dev eth1",
        }
        watch.forget()
        target.receive(ip(17, udp(), daddr=FAR, saddr="192.0.2.66"))
        journey = next(each for each in watch.done if each.outcome == DROPPED)
        lookup = step(journey, Point.FIB_LOOKUP_IN)
        assert (lookup.decision, journey.reason) == ("EACCES", "IP_PROHIBITED")
        assert lookup.facts == {"to": FAR, "from": "192.0.2.66", "rule": 100, "action": "prohibit"}
        watch.forget()
        # nobody's rule has an answer
        target.receive(ip(17, udp(), daddr=FAR, saddr="192.0.2.67"))
        journey = next(each for each in watch.done if each.outcome == DROPPED)
        lookup = step(journey, Point.FIB_LOOKUP_IN)
        assert (lookup.decision, lookup.facts) == ("no route", {"to": FAR, "from": "192.0.2.67"})
        watch.forget()
        target.receive(ip(1, echo()))
        assert step(watch.one("echo request"), Point.FIB_LOOKUP_IN).facts["rule"] == 0
        assert step(watch.one("echo request"), Point.FIB_LOOKUP_IN).facts["table"] == "local"


def test_one_of_several_hops() -> None:
    target = Target(forward=True)
    cfg = FibConfig(str_to_addr("198.51.100.0"), 24)
    cfg.nlflags = NLM_F_CREATE
    eth0, eth1 = target.devs
    cfg.multipath = [
        NexthopConfig(eth0.ifindex, str_to_addr(PEER), 1),
        NexthopConfig(eth1.ifindex, str_to_addr(BEYOND), 3),
    ]
    target.stack.routing.fib.rtm_newroute(cfg)
    with Watch(r=target.stack) as watch:
        for last in range(8):
            target.receive(ip(17, udp(), daddr=f"198.51.100.{last}"))
        target.sent()  # one redirect among them
        chosen = [step(journey, Point.FIB_SELECT_MULTIPATH).facts for journey in watch.all("UDP")]
        assert len(chosen) == 8
        assert {fact["of"] for fact in chosen} == {2}
        assert {fact["nexthop"] for fact in chosen} == {"via 192.0.2.2 dev eth0", "via 203.0.113.2 dev eth1"}
        for journey, facts in zip(watch.all("UDP"), chosen, strict=True):
            last_step = step(journey, Point.E1000_XMIT_FRAME)
            assert str(facts["nexthop"]).endswith(last_step.dev)
        words = step(watch.all("UDP")[0], Point.FIB_LOOKUP_IN).facts["route"]
        assert words == (
            "198.51.100.0/24 nexthop via 192.0.2.2 dev eth0 weight 1 nexthop via 203.0.113.2 dev eth1 weight 3"
        )
        # our own packets choose as well
        watch.forget()
        bound(target.stack).sendto(b"muffin", (FAR, 7))
        target.sent()
        assert step(watch.one("UDP"), Point.FIB_SELECT_PATH).facts["of"] == 2
        assert decision(watch.one("UDP"), Point.FIB_SELECT_PATH) == "by hash"


def test_a_redirect() -> None:
    target = Target(forward=True)
    target.stack.neighbours.neigh_add(str_to_addr("192.0.2.3"), target.devs[0], 0x0200_0000_00FC)
    with Watch(r=target.stack) as watch:
        target.receive(ip(17, udp(), daddr="192.0.2.3"))
        target.sent()
        journey = watch.one("UDP, length 6")
        told = step(journey, Point.IP_RT_SEND_REDIRECT)
        assert told.facts == {"sender": PEER, "gateway": "192.0.2.3", "told": 0}
        assert step(journey, Point.ICMP_SEND).facts == {"icmp": "5/1 redirect"}
        redirect = watch.one("ICMP redirect")
        assert redirect.cause == journey.ident and redirect.outcome == SENT and journey.outcome == SENT


def test_a_router_cuts_and_the_receiver_puts_together() -> None:
    network, a, router, b = routed()
    with network, Watch(a=a, r=router, b=b) as watch:
        server, client = bound(b, "", 7), bound(a)
        client.sendto(b"hello", ("198.51.100.1", 7))
        network.run_until(lambda: readable(server))
        server.recv(100)
        for device in router.devices.all():
            if device.name == "eth1":
                router.devices.dev_set_mtu(device, 600)
        client.setsockopt(0, 10, 0)  # IP_PMTUDISC_DONT
        network.run(1 * SEC)
        watch.forget()
        client.sendto(bytes(1000), ("198.51.100.1", 7))
        network.run_until(lambda: readable(server))
        server.recv(2000)
        whole, *parts = watch.all("UDP")
        assert whole.outcome == SENT and decision(whole, Point.IP_FRAGMENT) == "cut into 2 fragments"
        assert step(whole, Point.IP_FRAGMENT).host == "r"
        assert [part.parent for part in parts] == [whole.ident] * 2
        assert [decision(part, Point.IP_DO_FRAGMENT) for part in parts] == ["fragment 1 of 2", "fragment 2 of 2"]
        first, last = parts
        assert step(first, Point.IP_DO_FRAGMENT).facts["MF"] is True
        assert step(last, Point.IP_DO_FRAGMENT).facts["offset"] == 576
        assert decision(first, Point.IP_DEFRAG) == "waits for the rest"
        assert step(first, Point.IP_DEFRAG).facts == {"here": 576, "fragments": 1, "offset": 0}
        assert step(first, Point.IP_FRAG_REASM).facts["journey"] == last.ident
        assert decision(last, Point.IP_FRAG_REASM) == "made whole"
        assert (first.outcome, last.outcome) == (DELIVERED, DELIVERED)
        assert "IP_PROTOCOL_DELIVER" in names(last) and "IP_PROTOCOL_DELIVER" not in names(first)


def test_options_are_told_on_the_way() -> None:
    target = Target(forward=True)
    with Watch(r=target.stack) as watch:
        target.receive(ip(17, udp(), daddr=BEYOND, options=b"\x44\x08\x05\x00" + bytes(4) + b"\x94\x04\0\0"))
        target.sent()
        journey = watch.one("UDP")
        said = step(journey, Point.IP_RCV_OPTIONS)
        assert (said.decision, said.facts) == ("understood", {"timestamp": 20, "router_alert": 28})
        assert journey.outcome == SENT
        watch.forget()
        target.receive(ip(17, udp(), daddr=BEYOND, options=b"\x83\x07\x04\xc0\x00\x02\x09\x00"))
        journey = watch.one("UDP")
        assert step(journey, Point.IP_RCV_OPTIONS).facts == {"loose_route": 20}
        assert (journey.outcome, journey.reason) == (DROPPED, "IP_SOURCE_ROUTED")
        watch.forget()
        target.receive(ip(17, udp(), daddr=OURS, options=b"\x07\x00\x04\x00"))
        bad = step(next(each for each in watch.done if each.outcome == DROPPED), Point.IP_RCV_OPTIONS)
        assert (bad.decision, bad.facts) == ("malformed", {"fault_at": 20})
