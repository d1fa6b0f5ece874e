"""The muffin's way out: "muffin" by UDP to port 4747, from the socket to the ring, row for row as the text follows it
through the kernel. What the kernel passes and ustack does not is named with the reason."""

from __future__ import annotations

from typing import Final

import pytest

from tests.harness import B, Pair, Verdicts, udp
from tests.trace.watch import Watch, decision, functions, in_order, step
from ustack.inet.family import SOCK_DGRAM
from ustack.inet.security import SecurityModule
from ustack.inet.sockaddr import AF_INET
from ustack.netfilter.hooks import NF_ACCEPT, NF_INET_LOCAL_OUT, NF_QUEUE
from ustack.trace.journey import DELIVERED
from ustack.trace.points import Point

PORT: Final = 4747
MUFFIN: Final = "UDP, length 6"

#: The text's rows: the kernel's function, and our point, or why there is none.
TABLE: Final[tuple[tuple[str, Point | str], ...]] = (
    # from the system call to the transport
    ("sock_sendmsg", Point.SOCK_SENDMSG),
    ("security_socket_sendmsg", Point.SECURITY_SOCKET_SENDMSG),
    ("call_int_hook", "a macro around the same list of modules: its answer is security_socket_sendmsg's"),
    ("sock_sendmsg_nosec", "nothing but the call through sock->ops"),
    ("inet_sendmsg", Point.INET_SENDMSG),
    ("inet_autobind", Point.INET_AUTOBIND),
    ("udp_sendmsg", Point.UDP_SENDMSG),
    # routing
    ("ip_route_output_flow", "only adds IPsec, which ustack has not got"),
    ("__ip_route_output_key", "nothing but the call of ip_route_output_key_hash"),
    ("ip_route_output_key_hash", "nothing but the preparation of the arguments"),
    ("fib_lookup", Point.FIB_LOOKUP_OUT),
    ("fib_table_lookup", "its answer is fib_lookup's: the table and the route"),
    ("fib_select_path", "a single next hop leaves nothing to select: only with several is it a step"),
    ("__mkroute_output", "its result is the answer of ip_route_output_key_hash_rcu"),
    ("ip_route_output_key_hash_rcu", Point.IP_ROUTE_OUTPUT),
    # the table of the text
    ("ip_make_skb", "one function with ip_send_skb, once udp_send_skb has written the datagram"),
    ("udp_send_skb", Point.UDP_SEND_SKB),
    ("ip_send_skb", Point.IP_SEND_SKB),
    ("ip_local_out", Point.IP_LOCAL_OUT),
    ("__ip_local_out", "length and checksum are in the header from the beginning; the rest is ip_local_out"),
    ("nf_hook", "without functions registered the hook costs a look; with some it is nf_hook_slow, see below"),
    ("nf_hook_slow", "no function is registered; see test_a_hook_and_a_queue"),
    ("nf_queue", "no function has said NF_QUEUE; see test_a_hook_and_a_queue"),
    ("__nf_queue", "one function with nf_queue"),
    ("qh->outfn", "the listener's own; see test_a_hook_and_a_queue"),
    ("__nfqnl_enqueue_packet", "no nfnetlink: whoever listens for NF_QUEUE does so in this process"),
    ("nfnetlink_unicast", "no nfnetlink"),
    ("netlink_unicast", "no nfnetlink"),
    ("netlink_sendskb", "no nfnetlink"),
    ("__netlink_sendskb", "no nfnetlink"),
    ("netlink_deliver_tap", "no nfnetlink, so no nlmon either: captures are taps of devices"),
    ("__netlink_deliver_tap", "no nlmon"),
    ("__netlink_deliver_tap_skb", "no nlmon"),
    # what the text leaves out between netfilter and the device
    ("ip_output", Point.IP_OUTPUT),
    ("ip_finish_output", Point.IP_FINISH_OUTPUT),
    ("ip_finish_output2", Point.IP_FINISH_OUTPUT2),
    ("neigh_hh_output", Point.NEIGH_HH_OUTPUT),
    # the device
    ("dev_queue_xmit", "nothing but the call of __dev_queue_xmit"),
    ("__dev_queue_xmit", Point.DEV_QUEUE_XMIT),
    ("validate_xmit_skb", Point.VALIDATE_XMIT_SKB),
    ("__dev_xmit_skb", Point.DEV_XMIT_SKB),
    ("dev_hard_start_xmit", Point.DEV_HARD_START_XMIT),
    ("xmit_one", "one function with dev_hard_start_xmit"),
    ("netdev_start_xmit", "one function with dev_hard_start_xmit"),
    ("__netdev_start_xmit", "one function with dev_hard_start_xmit"),
    ("ops->ndo_start_xmit", "the driver's: e1000_xmit_frame"),
    ("e1000_xmit_frame", Point.E1000_XMIT_FRAME),
)


@pytest.fixture
def pair() -> Pair:
    pair = Pair(resolved=True)
    return pair


def send(pair: Pair) -> None:
    sender = pair.a.socket(AF_INET, SOCK_DGRAM)
    sender.sendto(b"muffin", (B, PORT))
    pair.settle()


def test_row_for_row(pair: Pair) -> None:
    """What ustack passes is in the text's order, every row once, and every row of the text is passed or explained."""
    receiver = udp(pair.b, B, PORT)
    with Watch(a=pair.a, b=pair.b) as watch:
        send(pair)
        receiver.recv(100)
    passed = [point for _, point in TABLE if isinstance(point, Point)]
    assert [point.linux for point in passed] == [name for name, point in TABLE if isinstance(point, Point)]
    journey = watch.one(MUFFIN)
    seen = [each.point for each in journey.steps if each.host == "a"]
    for point in passed:
        assert seen.count(point) == 1, point.name
    assert in_order([point.name for point in passed], [point.name for point in seen])
    assert all(isinstance(row, Point) or row for _, row in TABLE)
    assert journey.outcome == DELIVERED


def test_what_was_decided(pair: Pair) -> None:
    """Function by function, with the words that ss, ip and tcpdump would use."""
    receiver = udp(pair.b, B, PORT)
    with Watch(a=pair.a, b=pair.b) as watch:
        send(pair)
        receiver.recv(100)
    journey = watch.one(MUFFIN)
    call = step(journey, Point.SOCK_SENDMSG)
    assert call.facts == {"socket": "udp *:0", "length": 6, "to": f"{B}:{PORT}"}
    assert step(journey, Point.SECURITY_SOCKET_SENDMSG).facts == {"modules": "none"}
    assert decision(journey, Point.INET_SENDMSG) == "not bound"
    port = int(str(decision(journey, Point.INET_AUTOBIND)).removeprefix("port "))
    assert port == int.from_bytes(journey.frame[34:36], "big")
    route = step(journey, Point.FIB_LOOKUP_OUT)
    assert route.facts["table"] == "main"
    assert route.facts["rule"] == 32766
    assert route.facts["route"] == "192.0.2.0/24 dev eth0 src 192.0.2.1"
    assert decision(journey, Point.SK_DST_CHECK) == "looked up"
    assert decision(journey, Point.UDP_SEND_SKB) == "checksum left to the device"
    assert step(journey, Point.E1000_XMIT_FRAME).facts["cmd"] == "EOP|TXSM"
    assert step(journey, Point.E1000_XMIT_FRAME).dev == "eth0"


class Asked(SecurityModule):
    """Has nothing against it."""


def test_the_second_muffin_knows_its_way(pair: Pair) -> None:
    """A connected socket keeps its route (sk_dst_check): nothing is looked up. A module was asked and answered 0."""
    pair.a.security.security_add_hooks(Asked())
    sender, receiver = udp(pair.a), udp(pair.b, B, PORT)
    sender.connect((B, PORT))
    sender.send(b"first")
    pair.settle()
    assert receiver.recv(100) == b"first"
    with Watch(a=pair.a) as watch:
        sender.send(b"muffin")
        pair.settle()
    journey = watch.one(MUFFIN)
    assert decision(journey, Point.SK_DST_CHECK) == "kept"
    assert "fib_lookup" not in functions(journey)
    assert "inet_autobind" not in functions(journey)
    assert str(step(journey, Point.SOCK_SENDMSG).facts["socket"]).endswith(f"> {B}:{PORT}")
    assert decision(journey, Point.SECURITY_SOCKET_SENDMSG) == "0"
    assert step(journey, Point.SECURITY_SOCKET_SENDMSG).facts == {"modules": "Asked"}


def test_a_hook_and_a_queue(pair: Pair) -> None:
    """The text's rows in netfilter: a function at LOCAL_OUT says NF_QUEUE, a listener lets the muffin go on."""
    verdicts = Verdicts()
    pair.a.hooks.nf_register_queue_handler(verdicts)
    pair.a.hooks.nf_register_hook(NF_INET_LOCAL_OUT, lambda state: NF_QUEUE)
    with Watch(a=pair.a, b=pair.b) as watch:
        send(pair)
        assert watch.all(MUFFIN) == []  # it is neither here nor there
        pair.a.hooks.nf_reinject(verdicts.entries[0], NF_ACCEPT)
        pair.settle()
    journey = watch.all(MUFFIN)[0]
    wanted = ["ip_local_out", "nf_hook_slow", "nf_queue", "nf_reinject", "ip_output", "e1000_xmit_frame"]
    assert in_order(wanted, functions(journey, "a"))


@pytest.mark.parametrize(("no_check", "length", "words"), [(False, 3000, "computed"), (True, 6, "off (SO_NO_CHECK)")])
def test_who_sums(pair: Pair, no_check: bool, length: int, words: str) -> None:
    """udp_send_skb: what leaves in fragments is summed here, what asks for no checksum has none."""
    sender = udp(pair.a)
    sender.sk.no_check_tx = no_check
    with Watch(a=pair.a) as watch:
        sender.sendto(bytes(length), (B, PORT))
        pair.settle()
    assert decision(watch.by(Point.UDP_SEND_SKB), Point.UDP_SEND_SKB) == f"checksum {words}"


def test_without_a_watcher_nothing_is_noted(pair: Pair) -> None:
    watch = Watch(a=pair.a, b=pair.b)
    watch.journeys.unwatch(watch)
    send(pair)
    watch.end()
    assert watch.done == []
    assert pair.a.net.tracer is None
