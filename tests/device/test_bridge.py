"""The bridge (net/bridge): who is learned, where frames go and where not, what the bridge itself gets."""

from __future__ import annotations

import errno

import pytest

from tests.device.support import BROADCAST, MTU, SEED, Drops, Recorder, Router, Sink, Wire, changes, frame, stats
from tests.device.test_gso import headers
from ustack.device.bridge import BR_MAX_PORTS, BR_STATE_DISABLED, BR_STATE_FORWARDING, Bridge, Bridges
from ustack.device.core import Devices
from ustack.device.loopback import Loopback
from ustack.device.net_device import IFF_PROMISC, NETIF_F_HW_CSUM, NETIF_F_SG, NETIF_F_TSO
from ustack.drop import Reason
from ustack.net import Net
from ustack.packet import (
    CHECKSUM_PARTIAL,
    PACKET_BROADCAST,
    PACKET_HOST,
    PACKET_MULTICAST,
    PACKET_OTHERHOST,
    Packet,
)
from ustack.timer import NEVER, NSEC_PER_SEC
from ustack.trace.journey import Journey, Journeys, TraceWatcher
from ustack.wire.ethernet import ETH_P_IP, header

A, B, C = 0x0200_0000_00A1, 0x0200_0000_00B1, 0x0200_0000_00C1  # stations
PORT = 0x0200_0000_0100  # ports' own addresses, from here on
MULTICAST = 0x0100_5E00_0001


class Switch:
    """A bridge with three ports on wires that keep what is sent, and IPv4 above br0."""

    def __init__(self, ports: int = 3, features: int = 0) -> None:
        self.net = Net(SEED)
        self.drops = Drops()
        self.net.drop_watchers.append(self.drops)
        self.devices = Devices(self.net)
        self.bridges = Bridges(self.devices)
        self.sink = Sink(self.net)
        self.devices.dev_add_pack(ETH_P_IP, self.sink)
        self.br: Bridge = self.bridges.br_add_bridge("br0")
        self.wires = [self.add_wire(number, features) for number in range(ports)]
        for wire in self.wires:
            self.bridges.set_master(wire, self.br)
        self.devices.dev_open(self.br)

    def add_wire(self, number: int, features: int = 0) -> Wire:
        wire = Wire(f"eth{number}", features)
        wire.mac = PORT + number
        self.devices.register_netdevice(wire)
        self.devices.dev_open(wire)
        return wire

    def receive(self, port: int, data: bytes, start: int = 0) -> None:
        """``data`` comes in, ``start`` bytes of something else before it."""
        packet = Packet(bytes(start) + data, self.wires[port])
        packet.mac_header = start
        self.devices.netif_receive_skb(packet)

    def sent(self) -> list[list[bytes]]:
        """What left by each port since the last call."""
        frames = [wire.frames() for wire in self.wires]
        for wire in self.wires:
            wire.sent.clear()
        return frames

    def where(self) -> dict[int, str]:
        """The stations that are known, and their ports."""
        return {int(e.mac): e.port.dev.name for e in self.br.fdb.entries() if not e.local and e.port is not None}

    def conserved(self) -> bool:
        path = self.net.mib.path
        return path.received == path.delivered + path.forwarded + path.dropped

    def later(self, seconds: float) -> None:
        self.net.now += round(seconds * 1e9)
        self.net.timers.run(self.net.now)


@pytest.fixture
def switch() -> Switch:
    return Switch()


# -- learning and forwarding


def test_an_unknown_station_is_looked_for_everywhere_but_where_the_frame_came_from(switch: Switch) -> None:
    before = switch.net.mib.snapshot()
    data = frame(b"where are you?", B, A)
    switch.receive(0, data)
    assert switch.sent() == [[], [data], [data]]
    assert switch.sink.packets == []
    assert changes(before, switch.net.mib.snapshot()) == {"Path.received": 1, "Path.forwarded": 1}
    assert switch.drops.reasons == []


def test_a_station_that_has_sent_something_is_found(switch: Switch) -> None:
    switch.receive(1, frame(b"I am here", A, B))
    switch.sent()
    assert switch.where() == {B: "eth1"}
    data = frame(b"there you are", B, A)
    switch.receive(0, data)
    assert switch.sent() == [[], [data], []]
    assert switch.where() == {A: "eth0", B: "eth1"}
    assert switch.br.fdb.stats.learned == 2
    assert switch.conserved()


def test_what_is_for_a_station_on_the_same_port_goes_nowhere(switch: Switch) -> None:
    """should_deliver: "skb->dev != p->dev"; it has heard it already."""
    switch.receive(0, frame(b"1", C, A))
    switch.receive(0, frame(b"2", C, B))
    switch.sent()
    switch.receive(0, frame(b"between us", B, A))
    assert switch.sent() == [[], [], []]
    assert switch.drops.reasons == [Reason.NO_TX_TARGET]
    assert switch.conserved()


def test_a_hairpin_port_sends_it_back(switch: Switch) -> None:
    switch.br.ports[0].hairpin = True
    data = frame(b"x", B, A)
    switch.receive(0, data)
    assert switch.sent() == [[data], [data], [data]]


def test_a_station_that_moves_is_followed_at_once(switch: Switch) -> None:
    switch.receive(0, frame(b"here", C, A))
    switch.receive(2, frame(b"now here", C, A))
    assert switch.where() == {A: "eth2"}
    assert (switch.br.fdb.stats.learned, switch.br.fdb.stats.moved) == (1, 1)
    switch.sent()
    data = frame(b"to you", A, B)
    switch.receive(1, data)
    assert switch.sent() == [[], [], [data]]


def test_frames_behind_a_header_of_the_hardware_leave_without_it(switch: Switch) -> None:
    """A virtio_net_hdr lies before what a TAP delivers."""
    data = frame(b"behind", B, A)
    switch.receive(0, data, start=12)
    assert switch.sent() == [[], [data], [data]]


# -- broadcast and multicast


@pytest.mark.parametrize(("dst", "kind"), [(BROADCAST, PACKET_BROADCAST), (MULTICAST, PACKET_MULTICAST)])
def test_what_is_for_all_goes_to_all_and_to_the_bridge_itself(switch: Switch, dst: int, kind: int) -> None:
    before = switch.net.mib.snapshot()
    data = frame(b"everybody", dst, A)
    switch.receive(0, data)
    assert switch.sent() == [[], [data], [data]]
    (packet,) = switch.sink.packets
    assert packet.dev is switch.br
    assert packet.in_dev is switch.br
    assert packet.pkt_type == kind
    assert changes(before, switch.net.mib.snapshot()) == {"Path.received": 1, "Path.delivered": 1}
    multicast = {"multicast": 1} if dst == MULTICAST else {}
    assert stats(switch.br) == {"rx_packets": 1, "rx_bytes": len(data) - 14} | multicast


def test_what_is_for_the_bridge_goes_up_and_nowhere_else(switch: Switch) -> None:
    assert switch.br.mac == PORT  # the lowest of its ports'
    switch.receive(1, frame(b"for you", PORT, A))
    assert switch.sent() == [[], [], []]
    (packet,) = switch.sink.packets
    assert (packet.dev, packet.pkt_type) == (switch.br, PACKET_HOST)
    assert switch.conserved()


def test_what_is_for_another_port_goes_up_as_somebody_elses(switch: Switch) -> None:
    """Its entry is local; the kind of address is what eth_type_trans made of it."""
    switch.receive(0, frame(b"for eth2", PORT + 2, A))
    assert switch.sent() == [[], [], []]
    (packet,) = switch.sink.packets
    assert (packet.dev, packet.pkt_type) == (switch.br, PACKET_OTHERHOST)


def test_a_promiscuous_bridge_sees_what_it_forwards(switch: Switch) -> None:
    switch.receive(1, frame(b"here", A, B))
    switch.sent()
    switch.devices.dev_change_flags(switch.br, switch.br.flags | IFF_PROMISC)
    data = frame(b"not for you", B, A)
    switch.receive(0, data)
    assert switch.sent() == [[], [data], []]
    (packet,) = switch.sink.packets
    assert (packet.dev, packet.pkt_type) == (switch.br, PACKET_OTHERHOST)
    switch.receive(0, frame(b"nor this", A, C))
    switch.receive(0, frame(b"nor this", C, A))
    assert len(switch.sink.packets) == 3
    assert switch.sent() == [[], [], []]
    assert switch.drops.reasons == []
    assert switch.conserved()


def test_captures_see_a_frame_at_its_port_at_the_bridge_and_where_it_leaves(switch: Switch) -> None:
    recorder = Recorder()
    switch.devices.add_tap(recorder)
    data = frame(b"everybody", BROADCAST, A)
    switch.receive(0, data)
    assert recorder.seen == [(data, False), (data, True), (data, True), (data, False)]


# -- reserved addresses


@pytest.mark.parametrize("last", range(16))
def test_link_local_groups_stay_on_their_cable(switch: Switch, last: int) -> None:
    """IEEE 802.1D 7.12.6; 0 is the spanning tree's, and goes through where there is none (BR_NO_STP)."""
    data = frame(b"bpdu", 0x0180_C200_0000 + last, A)
    switch.receive(0, data)
    if last == 0:
        assert switch.sent() == [[], [data], [data]]
    elif last == 1:
        assert switch.sent() == [[], [], []]
        assert switch.drops.reasons == [Reason.MAC_IEEE_MAC_CONTROL]
        assert switch.where() == {}
    else:
        assert switch.sent() == [[], [], []]
        (packet,) = switch.sink.packets  # the port's own, not the bridge's
        assert packet.dev is switch.wires[0]
        assert switch.where() == {A: "eth0"}
    assert switch.conserved()


@pytest.mark.parametrize("source", [0, BROADCAST, MULTICAST])
def test_a_source_that_is_no_station_is_lost(switch: Switch, source: int) -> None:
    switch.receive(0, frame(b"who?", B, source))
    assert switch.sent() == [[], [], []]
    assert switch.where() == {}
    assert switch.drops.reasons == [Reason.MAC_INVALID_SOURCE]
    assert stats(switch.wires[0]) == {"rx_dropped": 1}
    assert switch.conserved()


# -- ageing


def test_a_silent_station_is_forgotten_after_300_seconds(switch: Switch) -> None:
    switch.receive(0, frame(b"here", C, A))
    switch.later(299.9)
    assert switch.where() == {A: "eth0"}
    switch.later(0.2)
    assert switch.where() == {}
    assert switch.br.fdb.stats.aged == 1
    assert switch.br.fdb.n_learned == 0


def test_one_that_sends_is_not(switch: Switch) -> None:
    switch.receive(0, frame(b"here", C, A))
    switch.receive(1, frame(b"here", C, B))
    switch.later(200)
    switch.receive(0, frame(b"still here", C, A))
    switch.later(101)
    assert switch.where() == {A: "eth0"}
    switch.later(200)
    assert switch.where() == {}
    assert switch.br.fdb.stats.aged == 2


def test_being_sent_to_does_not_count(switch: Switch) -> None:
    switch.receive(0, frame(b"here", C, A))
    switch.later(200)
    switch.receive(1, frame(b"hello?", A, B))
    switch.later(101)
    assert switch.where() == {B: "eth1"}


def test_while_nobody_is_known_no_timer_runs(switch: Switch) -> None:
    assert switch.net.timers.next_deadline() == NEVER
    switch.receive(0, frame(b"here", C, A))
    assert switch.net.timers.next_deadline() == 300 * NSEC_PER_SEC
    switch.later(301)
    assert switch.net.timers.next_deadline() == NEVER


def test_another_ageing_time_holds_at_once(switch: Switch) -> None:
    switch.receive(0, frame(b"here", C, A))
    switch.later(20)
    switch.br.fdb.set_ageing_time(15 * NSEC_PER_SEC)
    switch.later(0)
    assert switch.where() == {}


def test_with_an_ageing_time_of_zero_it_is_a_hub(switch: Switch) -> None:
    """br_fdb_update: "some users want to always flood"."""
    switch.br.fdb.set_ageing_time(0)
    switch.receive(1, frame(b"here", A, B))
    switch.sent()
    data = frame(b"x", B, A)
    switch.receive(0, data)
    assert switch.sent() == [[], [data], [data]]


# -- the table's limit, and lies


def test_a_full_table_floods_for_newcomers_and_keeps_who_is_there(switch: Switch) -> None:
    switch.br.fdb.max_learned = 2
    for source in (A, B, C):
        switch.receive(0, frame(b"here", 0x0200_0000_0999, source))
    assert switch.where() == {A: "eth0", B: "eth0"}
    assert (switch.br.fdb.n_learned, switch.br.fdb.stats.refused) == (2, 1)
    switch.sent()
    data = frame(b"x", C, A)
    switch.receive(0, data)
    assert switch.sent() == [[], [data], [data]]
    switch.later(301)
    switch.receive(0, frame(b"here", A, C))
    assert switch.where() == {C: "eth0"}


def test_our_own_address_from_outside_teaches_nothing(switch: Switch) -> None:
    """Linux: "received packet on %s with own address as source address": a loop, or a liar."""
    switch.receive(1, frame(b"I am you", B, PORT))
    assert switch.where() == {}
    assert switch.br.fdb.stats.own_source == 1
    switch.sent()
    switch.receive(2, frame(b"for you", PORT, A))
    assert len(switch.sink.packets) == 1


def test_a_hundred_thousand_sources_cost_no_more_than_the_limit() -> None:
    switch = Switch(ports=2)
    switch.br.fdb.max_learned = 1000
    for source in range(5000):
        switch.receive(0, frame(b"", B, 0x0200_1000_0000 + source))
    switch.wires[1].sent.clear()
    assert len(switch.br.fdb.entries()) == 1000 + 2
    assert switch.br.fdb.stats.refused == 4000


# -- ports


def test_a_port_that_goes_down_takes_its_stations_along(switch: Switch) -> None:
    switch.receive(0, frame(b"here", C, A))
    switch.receive(1, frame(b"here", C, B))
    switch.devices.dev_close(switch.wires[0])
    assert switch.br.ports[0].state == BR_STATE_DISABLED
    assert switch.where() == {B: "eth1"}
    assert switch.br.fdb.stats.flushed == 1
    switch.sent()
    data = frame(b"x", A, B)
    switch.receive(1, data)
    assert switch.sent() == [[], [], [data]]
    switch.devices.dev_open(switch.wires[0])
    assert switch.br.ports[0].state == BR_STATE_FORWARDING


def test_so_does_one_whose_cable_is_pulled(switch: Switch) -> None:
    switch.receive(0, frame(b"here", C, A))
    switch.devices.netif_carrier_off(switch.wires[0])
    assert switch.where() == {}
    switch.devices.netif_carrier_on(switch.wires[0])
    assert switch.br.ports[0].state == BR_STATE_FORWARDING


def test_what_comes_in_at_a_port_of_a_bridge_that_is_down_is_lost(switch: Switch) -> None:
    switch.devices.dev_close(switch.br)
    switch.receive(0, frame(b"x", B, A))
    assert switch.sent() == [[], [], []]
    assert switch.drops.reasons == [Reason.BRIDGE_INGRESS_STP_STATE]
    assert switch.where() == {}
    assert switch.conserved()


def test_the_bridge_has_a_carrier_while_a_port_works(switch: Switch) -> None:
    assert (switch.br.carrier, switch.br.operstate) == (True, "UP")
    for wire in switch.wires:
        switch.devices.dev_close(wire)
    assert (switch.br.carrier, switch.br.operstate) == (False, "DOWN")
    switch.devices.dev_open(switch.wires[1])
    assert switch.br.carrier
    switch.bridges.set_master(switch.wires[1], None)
    assert not switch.br.carrier


def test_ports_are_promiscuous_without_their_owner_having_asked(switch: Switch) -> None:
    assert [int(wire.promiscuity) for wire in switch.wires] == [1, 1, 1]
    assert switch.wires[0].flags & IFF_PROMISC == 0
    switch.bridges.set_master(switch.wires[0], None)
    assert switch.wires[0].promiscuity == 0


def test_a_port_that_is_none_any_more_is_a_device_of_its_own(switch: Switch) -> None:
    switch.receive(0, frame(b"here", C, A))
    switch.bridges.set_master(switch.wires[0], None)
    assert switch.where() == {}
    assert switch.wires[0].master is None
    assert switch.br.mac == PORT + 1
    switch.sent()
    switch.receive(0, frame(b"for eth0", PORT, A))
    (packet,) = switch.sink.packets
    assert (packet.dev, packet.pkt_type) == (switch.wires[0], PACKET_HOST)
    assert switch.sent() == [[], [], []]


def test_the_bridge_takes_the_lowest_address_and_the_smallest_mtu_of_its_ports(switch: Switch) -> None:
    assert (switch.br.mac, switch.br.mtu) == (PORT, MTU)
    switch.devices.dev_set_mac_address(switch.wires[2], A)
    switch.devices.dev_set_mac_address(switch.wires[1], 0x0200_0000_0001)
    switch.devices.dev_set_mtu(switch.wires[1], 1400)
    assert (switch.br.mac, switch.br.mtu) == (0x0200_0000_0001, 1400)
    local = {int(entry.mac) for entry in switch.br.fdb.entries() if entry.local}
    assert local == {PORT, 0x0200_0000_0001, A}


def test_what_was_set_by_hand_stays(switch: Switch) -> None:
    switch.devices.dev_set_mac_address(switch.br, C)
    switch.devices.dev_set_mtu(switch.br, 1300)
    switch.devices.dev_set_mtu(switch.wires[0], 1400)
    switch.bridges.set_master(switch.wires[1], None)
    assert (switch.br.mac, switch.br.mtu) == (C, 1300)
    switch.receive(0, frame(b"for you", C, A))
    (packet,) = switch.sink.packets
    assert packet.pkt_type == PACKET_HOST


def test_who_may_be_a_port(switch: Switch) -> None:
    """br_add_if."""
    lo = Loopback(switch.devices)
    switch.devices.register_netdevice(lo)
    other = switch.bridges.br_add_bridge("br1")
    with pytest.raises(OSError) as raised:
        switch.br.add_if(lo)
    assert raised.value.errno == errno.EINVAL
    with pytest.raises(OSError) as raised:
        switch.br.add_if(other)
    assert (raised.value.errno, raised.value.strerror) == (errno.ELOOP, "Can not enslave a bridge to a bridge")
    with pytest.raises(OSError) as raised:
        other.add_if(switch.wires[0])
    assert raised.value.errno == errno.EBUSY
    with pytest.raises(OSError) as raised:
        switch.bridges.set_master(switch.add_wire(7), lo)
    assert raised.value.errno == errno.EOPNOTSUPP
    with pytest.raises(OSError) as raised:
        switch.bridges.br_add_bridge("br0")
    assert raised.value.errno == errno.EEXIST


def test_another_master_takes_a_port_from_the_first(switch: Switch) -> None:
    other = switch.bridges.br_add_bridge("br1")
    switch.bridges.set_master(switch.wires[0], other)
    assert [port.dev.name for port in switch.br.ports] == ["eth1", "eth2"]
    assert [port.dev.name for port in other.ports] == ["eth0"]


def test_there_are_1023_ports_at_most() -> None:
    switch = Switch(ports=0)
    switch.devices.dev_close(switch.br)
    for number in range(1, BR_MAX_PORTS):
        wire = Wire(f"p{number}")
        wire.mac = PORT + number
        switch.br.add_if(wire)
    with pytest.raises(OSError) as raised:
        switch.br.add_if(Wire("onemore"))
    assert raised.value.errno == errno.EXFULL
    switch.br.del_if(switch.br.ports[4])
    assert switch.br.add_if(Wire("onemore")).port_no == 5


def test_a_port_whose_device_goes_away_is_gone_and_a_bridge_leaves_its_ports(switch: Switch) -> None:
    switch.devices.unregister_netdevice(switch.wires[0])
    assert len(switch.br.ports) == 2
    switch.receive(1, frame(b"here", C, A))
    switch.devices.unregister_netdevice(switch.br)
    assert [wire.master for wire in switch.wires] == [None, None, None]
    assert switch.net.timers.next_deadline() == NEVER
    switch.receive(1, frame(b"mine", PORT + 1, A))
    assert switch.sink.packets[0].dev is switch.wires[1]


# -- what the stack itself sends


def test_the_bridge_is_a_station_like_others(switch: Switch) -> None:
    switch.receive(2, frame(b"here", PORT, B))
    switch.sent()
    known, unknown, group = (frame(b"x", dst, PORT) for dst in (B, C, BROADCAST))
    for data in (known, unknown, group):
        assert switch.devices.dev_queue_xmit(Packet(data, switch.br))
    assert switch.sent() == [[unknown, group], [unknown, group], [known, unknown, group]]
    assert stats(switch.br) == {"rx_packets": 1, "rx_bytes": 4, "tx_packets": 3, "tx_bytes": 3 * 15}


def test_what_it_sends_to_itself_goes_nowhere(switch: Switch) -> None:
    switch.devices.dev_set_mac_address(switch.br, C)
    switch.devices.dev_queue_xmit(Packet(frame(b"x", C, A), switch.br))
    assert switch.sent() == [[], [], []]
    assert switch.drops.reasons == [Reason.NO_TX_TARGET]


def test_a_packet_that_is_routed_out_of_it_is_forwarded_once(switch: Switch) -> None:
    """The books: however many ports it leaves by."""
    inside = switch.add_wire(9)
    switch.devices.dev_add_pack(ETH_P_IP, Router(switch.devices, switch.br))
    before = switch.net.mib.snapshot()
    switch.devices.netif_receive_skb(Packet(frame(b"routed", B, A), inside))
    assert [len(frames) for frames in switch.sent()] == [1, 1, 1]
    assert changes(before, switch.net.mib.snapshot()) == {"Path.received": 1, "Path.forwarded": 1}


def test_captures_see_what_it_sends_on_br0_too(switch: Switch) -> None:
    recorder = Recorder()
    switch.devices.add_tap(recorder)
    data = frame(b"x", BROADCAST, PORT)
    switch.devices.dev_queue_xmit(Packet(data, switch.br))
    assert recorder.seen == [(data, True)] * 4


def test_one_port_that_is_full_costs_its_copy_alone(switch: Switch) -> None:
    switch.wires[1].room = 0
    switch.wires[1].no_queue = True
    data = frame(b"everybody", C, A)
    switch.receive(0, data)
    assert switch.sent() == [[], [], [data]]
    assert switch.drops.reasons == [Reason.QDISC_DROP]
    assert stats(switch.wires[1]) == {"tx_dropped": 1}
    assert switch.conserved()


def test_what_is_too_long_for_a_port_does_not_leave_by_it(switch: Switch) -> None:
    """is_skb_forwardable."""
    switch.devices.dev_set_mtu(switch.wires[1], 600)
    data = frame(bytes(1000), B, A)
    switch.receive(0, data)
    assert switch.sent() == [[], [], [data]]
    assert switch.drops.reasons == [Reason.DEV_MALFORMED]
    assert switch.conserved()


# -- journeys


class Watcher(TraceWatcher):
    def __init__(self) -> None:
        super().__init__()
        self.journeys: list[Journey] = []

    def journey(self, journey: Journey) -> None:
        self.journeys.append(journey)


def traced(switch: Switch, *frames: bytes) -> list[list[tuple[str, str]]]:
    """What the bridge did with each of ``frames``, which come in at eth0, and with their copies."""
    watcher = Watcher()
    journeys = Journeys()
    journeys.join(switch.net, "sw")
    journeys.watch(watcher)
    for data in frames:
        switch.receive(0, data)
    journeys.end_all()
    journeys.unwatch(watcher)
    return [
        [(step.point.name, step.decision) for step in journey.steps if step.point.file == "device/bridge.py"]
        for journey in sorted(watcher.journeys, key=lambda journey: journey.ident)
    ]


def test_a_flooded_packet_goes_on_by_its_last_port_and_copies_by_the_others(switch: Switch) -> None:
    assert traced(switch, frame(b"\x45" + bytes(30), B, A)) == [
        [
            ("BR_HANDLE_FRAME", ""),
            ("BR_FDB_UPDATE", "learned"),
            ("BR_FLOOD", "to eth1, eth2"),
            ("BR_DEV_QUEUE_PUSH_XMIT", "out of eth2"),
        ],
        [("BR_DEV_QUEUE_PUSH_XMIT", "a copy out of eth1")],
    ]


def test_a_broadcast_goes_up_itself_and_its_copies_go_out(switch: Switch) -> None:
    up, *copies = traced(switch, frame(b"\x45" + bytes(30), BROADCAST, A))
    assert [name for name, _ in up] == ["BR_HANDLE_FRAME", "BR_FDB_UPDATE", "BR_FLOOD", "BR_PASS_FRAME_UP"]
    assert copies == [[("BR_DEV_QUEUE_PUSH_XMIT", f"a copy out of {port}")] for port in ("eth1", "eth2")]


def test_a_known_station_and_one_that_is_on_the_same_port(switch: Switch) -> None:
    switch.receive(1, frame(b"here", A, B))
    switch.receive(0, frame(b"here", A, C))
    there, nowhere = traced(switch, frame(b"\x45" + bytes(30), B, A), frame(b"\x45" + bytes(30), C, A))
    assert there[1:] == [
        ("BR_FDB_UPDATE", "learned"),
        ("BR_FORWARD", "to eth1"),
        ("BR_DEV_QUEUE_PUSH_XMIT", "out of eth1"),
    ]
    assert nowhere[1:] == [("BR_FDB_UPDATE", "known"), ("BR_FORWARD", "no port to leave by")]


# -- offloads


def test_a_super_segment_crosses_whole_where_the_port_can_and_in_pieces_where_not() -> None:
    switch = Switch(ports=2, features=NETIF_F_SG | NETIF_F_HW_CSUM | NETIF_F_TSO)
    plain = switch.add_wire(8)
    switch.bridges.set_master(plain, switch.br)
    head = headers()
    packet = Packet(header(B, A, ETH_P_IP) + head[14:] + bytes(3000), switch.wires[0])
    packet.ip_summed = CHECKSUM_PARTIAL
    packet.csum_start, packet.csum_offset = 34, 16
    packet.gso_size, packet.gso_type = 1000, 1
    switch.devices.netif_receive_skb(packet)
    (whole,) = switch.wires[1].sent
    assert (whole.gso_size, whole.ip_summed) == (1000, CHECKSUM_PARTIAL)
    assert len(plain.sent) == 3
    assert switch.conserved()
