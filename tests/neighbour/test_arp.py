"""ARP: answers, what is learned and what is not, our own addresses' defence (RFC 826, RFC 5227; net/ipv4/arp.c)."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.neighbour.lan import (
    EVIL_MAC,
    FAR,
    OTHER,
    OTHER_MAC,
    OUR_MAC,
    OURS,
    PEER,
    PEER_MAC,
    SEC,
    SUBNET_BROADCAST,
    Lan,
    arp_of,
    delta,
    ipv4_packet,
)
from ustack.device.net_device import BROADCAST_MAC, IFF_LOOPBACK, IFF_NOARP, Address
from ustack.drop import Reason
from ustack.neighbour.states import (
    NUD_DELAY,
    NUD_FAILED,
    NUD_INCOMPLETE,
    NUD_PERMANENT,
    NUD_PROBE,
    NUD_REACHABLE,
    NUD_STALE,
)
from ustack.packet import Packet
from ustack.wire import arp as arp_wire
from ustack.wire.arp import ARPOP_REPLY, ARPOP_REQUEST
from ustack.wire.ethernet import ETH_P_ARP, header
from ustack.wire.ipv4 import str_to_addr

ANNOUNCEMENT = (BROADCAST_MAC, ARPOP_REQUEST, OUR_MAC, OURS, 0, OURS)
IGNORED = {"Path.received": 1, "Path.dropped": 1}
CONSUMED = {"Path.received": 1, "Path.delivered": 1}
LOOKED_UP = {"Neigh.lookups": 1}


@pytest.fixture
def lan() -> Lan:
    return Lan()


def answer_to(mac: int, addr: int, tpa: int = OURS) -> tuple[int, int, int, int, int, int]:
    return (mac, ARPOP_REPLY, OUR_MAC, tpa, mac, addr)


# -- questions for us


def test_a_question_for_our_address_is_answered_and_remembered_as_stale(lan: Lan) -> None:
    """arp_process: "if someone is requesting our address, they are probably intending to talk to us"."""
    before = lan.net.mib.snapshot()
    lan.ask()
    assert lan.arps() == [answer_to(PEER_MAC, PEER)]
    assert lan.state() == NUD_STALE and lan.entry().lladdr == PEER_MAC
    assert delta(before, lan.net) == CONSUMED | LOOKED_UP | {"Neigh.allocs": 1}


def test_a_unicast_question_is_answered_too(lan: Lan) -> None:
    """RFC 1122 2.3.2.1 (2): a peer's unicast poll."""
    lan.reachable()
    lan.hear(ARPOP_REQUEST, PEER_MAC, PEER, OURS, dst=OUR_MAC)
    assert lan.arps() == [answer_to(PEER_MAC, PEER)] and lan.state() == NUD_REACHABLE


def test_answering_costs_no_question_in_return(lan: Lan) -> None:
    lan.ask()
    lan.dev.take()
    lan.send()
    assert lan.arps() == [] and lan.state() == NUD_DELAY


def test_a_question_for_somebody_else_is_ignored(lan: Lan) -> None:
    before = lan.net.mib.snapshot()
    lan.ask(tpa=OTHER)
    assert lan.dev.take() == [] and lan.table.entries() == []
    assert delta(before, lan.net) == IGNORED | LOOKED_UP and lan.net.drops == {Reason.ARP_IGNORED: 1}


def test_any_address_of_ours_is_answered_for_on_any_device(lan: Lan) -> None:
    """arp_ignore 0: "reply for any local target IP address, configured on any interface"."""
    second = lan.add_device("eth1", OTHER_MAC)
    second.addresses.append(Address(str_to_addr("198.51.100.2"), 24))
    lan.ask(tpa=str_to_addr("198.51.100.2"))
    assert lan.arps() == [answer_to(PEER_MAC, PEER, str_to_addr("198.51.100.2"))]


def test_who_is_not_on_the_link_is_answered_but_not_remembered(lan: Lan) -> None:
    lan.ask(addr=FAR)
    assert lan.arps() == [answer_to(PEER_MAC, FAR)] and lan.table.entries() == []


@pytest.mark.parametrize("target", ["127.0.0.1", "127.5.5.5", "224.0.0.1", "239.1.1.1", "255.255.255.255", "0.0.0.1"])
def test_questions_for_what_no_link_can_have_are_ignored(lan: Lan, target: str) -> None:
    before = lan.net.mib.snapshot()
    lan.ask(tpa=str_to_addr(target))
    assert lan.dev.take() == [] and lan.table.entries() == [] and delta(before, lan.net) == IGNORED


def test_who_claims_to_be_everybody_is_answered_and_not_remembered(lan: Lan) -> None:
    """As the kernel does, where the entry of a broadcast address cannot be changed."""
    lan.ask(addr=SUBNET_BROADCAST)
    lan.answer(addr=SUBNET_BROADCAST)
    assert lan.arps() == [answer_to(PEER_MAC, SUBNET_BROADCAST)] and lan.table.entries() == []
    lan.dev.in_dev.cnf.arp_accept = 1
    lan.answer(addr=SUBNET_BROADCAST)
    lan.hear(ARPOP_REQUEST, EVIL_MAC, SUBNET_BROADCAST, SUBNET_BROADCAST, dst=BROADCAST_MAC)
    assert lan.table.entries() == []


@pytest.mark.parametrize("sender", ["127.0.0.1", "224.0.0.1", "240.0.0.1", "255.255.255.255", "0.0.0.9"])
def test_a_sender_that_nobody_can_be_is_ignored(lan: Lan, sender: str) -> None:
    before = lan.net.mib.snapshot()
    lan.ask(addr=str_to_addr(sender))
    lan.answer(addr=str_to_addr(sender))
    assert lan.dev.take() == [] and lan.table.entries() == []
    assert delta(before, lan.net) == {"Path.received": 2, "Path.dropped": 2}


# -- probes


def test_a_probe_for_our_address_is_answered_and_nothing_learned(lan: Lan) -> None:
    """RFC 5227 2.1.1: sender address 0; RFC 2131's duplicate detection in arp_process."""
    before = lan.net.mib.snapshot()
    lan.hear(ARPOP_REQUEST, PEER_MAC, 0, OURS, dst=BROADCAST_MAC)
    assert lan.arps() == [answer_to(PEER_MAC, 0)]
    assert lan.table.entries() == [] and delta(before, lan.net) == CONSUMED


@pytest.mark.parametrize(("op", "tpa"), [(ARPOP_REQUEST, OTHER), (ARPOP_REPLY, OURS), (ARPOP_REQUEST, 0)])
def test_other_packets_without_a_sender_address_are_ignored(lan: Lan, op: int, tpa: int) -> None:
    lan.hear(op, PEER_MAC, 0, tpa, dst=BROADCAST_MAC)
    assert lan.dev.take() == [] and lan.net.drops == {Reason.ARP_IGNORED: 1}


# -- malformed, foreign, our own


@pytest.mark.parametrize("length", range(28))
def test_a_truncated_packet_is_invalid(lan: Lan, length: int) -> None:
    whole = arp_wire.emit(ARPOP_REQUEST, PEER_MAC, PEER, 0, OURS)
    lan.receive(header(BROADCAST_MAC, PEER_MAC, ETH_P_ARP) + whole[:length])
    assert lan.net.drops == {Reason.ARP_INVALID: 1} and lan.dev.take() == [] and lan.balanced()


@pytest.mark.parametrize("offset", range(6))
def test_other_hardware_protocols_and_lengths_are_invalid(lan: Lan, offset: int) -> None:
    whole = bytearray(arp_wire.emit(ARPOP_REQUEST, PEER_MAC, PEER, 0, OURS))
    whole[offset] ^= 0x40
    lan.receive(header(BROADCAST_MAC, PEER_MAC, ETH_P_ARP) + bytes(whole))
    assert lan.net.drops == {Reason.ARP_INVALID: 1} and lan.dev.take() == []


@pytest.mark.parametrize("op", [0, 3, 4, 8, 9, 0xFFFF])
def test_only_requests_and_replies_are_understood(lan: Lan, op: int) -> None:
    lan.hear(op, PEER_MAC, PEER, OURS)
    assert lan.net.drops == {Reason.ARP_IGNORED: 1} and lan.dev.take() == [] and lan.table.entries() == []


@pytest.mark.parametrize("mac", [0, BROADCAST_MAC, 0x0100_5E00_0001, 0x0300_0000_0001])
def test_a_link_layer_address_that_is_no_station_is_not_believed(lan: Lan, mac: int) -> None:
    """RFC 1812 3.3.2."""
    lan.send()
    lan.dev.take()
    lan.receive(header(OUR_MAC, PEER_MAC, ETH_P_ARP) + arp_wire.emit(ARPOP_REPLY, mac, PEER, OUR_MAC, OURS))
    assert lan.net.drops == {Reason.ARP_INVALID: 1} and lan.state() == NUD_INCOMPLETE


def test_padding_is_no_part_of_it(lan: Lan) -> None:
    frame = header(BROADCAST_MAC, PEER_MAC, ETH_P_ARP) + arp_wire.emit(ARPOP_REQUEST, PEER_MAC, PEER, 0, OURS)
    lan.receive(frame + bytes(60 - len(frame)))
    assert lan.arps() == [answer_to(PEER_MAC, PEER)]


def test_our_own_voice_is_ignored(lan: Lan) -> None:
    """A hub or a loop brings our announcement back: neither a conflict nor a neighbour."""
    before = lan.net.mib.snapshot()
    lan.hear(ARPOP_REQUEST, OUR_MAC, OURS, OURS, dst=BROADCAST_MAC)
    lan.hear(ARPOP_REQUEST, OUR_MAC, OURS, PEER, dst=BROADCAST_MAC)
    assert lan.dev.take() == [] and lan.table.entries() == []
    assert delta(before, lan.net) == {"Path.received": 2, "Path.dropped": 2}


def test_a_frame_for_another_host_is_not_read(lan: Lan) -> None:
    lan.hear(ARPOP_REQUEST, PEER_MAC, PEER, OURS, dst=OTHER_MAC)
    assert lan.net.drops == {Reason.OTHERHOST: 1} and lan.dev.take() == [] and lan.table.entries() == []


@pytest.mark.parametrize("flag", [IFF_NOARP, IFF_LOOPBACK])
def test_a_device_without_arp_neither_hears_nor_speaks_it(lan: Lan, flag: int) -> None:
    lan.dev.flags |= flag
    lan.ask()
    lan.arp.announce(lan.dev, OURS)
    assert lan.net.drops == {Reason.ARP_IGNORED: 1} and lan.dev.take() == []


# -- learning


def test_an_unsolicited_reply_creates_nothing(lan: Lan) -> None:
    """Attack 38 (CVE-1999-0667); arp_accept 0."""
    lan.hear(ARPOP_REPLY, EVIL_MAC, PEER, OURS)
    lan.hear(ARPOP_REPLY, EVIL_MAC, PEER, PEER, dst=BROADCAST_MAC)
    lan.hear(ARPOP_REQUEST, EVIL_MAC, PEER, PEER, dst=BROADCAST_MAC)
    assert lan.table.entries() == [] and lan.net.drops == {Reason.ARP_IGNORED: 3} and lan.dev.take() == []


@pytest.mark.parametrize(("mode", "made"), [(0, []), (1, [PEER, OTHER, FAR]), (2, [PEER, OTHER]), (3, [])])
def test_arp_accept_creates_a_stale_entry(lan: Lan, mode: int, made: list[int]) -> None:
    """1: whoever tells of itself; 2: only in a subnet of the device."""
    lan.dev.in_dev.cnf.arp_accept = mode
    lan.hear(ARPOP_REPLY, PEER_MAC, PEER, OURS)
    lan.hear(ARPOP_REQUEST, OTHER_MAC, OTHER, OTHER, dst=BROADCAST_MAC)
    lan.hear(ARPOP_REPLY, EVIL_MAC, FAR, OURS)
    lan.hear(ARPOP_REQUEST, EVIL_MAC, FAR + 1, OTHER, dst=BROADCAST_MAC)
    assert [(e.addr, e.nud_state) for e in lan.table.entries()] == [(addr, NUD_STALE) for addr in made]


def test_an_unsolicited_reply_does_not_make_a_neighbour_reachable(lan: Lan) -> None:
    lan.reachable()
    lan.settle()
    lan.hear(ARPOP_REPLY, PEER_MAC, PEER, OURS)
    assert lan.state() == NUD_STALE


def test_nor_does_it_refresh_a_reachable_one(lan: Lan) -> None:
    """Or a poisoned entry lived for as long as its poisoner likes."""
    entry = lan.reachable()
    lan.wait(10 * SEC)
    lan.hear(ARPOP_REPLY, PEER_MAC, PEER, OURS)
    assert entry.confirmed == 0 and entry.nud_state == NUD_REACHABLE


def test_back_to_back_replies_the_first_one_counts(lan: Lan) -> None:
    """arp_process: "If several different ARP replies follow back-to-back, use the FIRST one": locktime, 1 s."""
    lan.send()
    lan.answer(PEER_MAC)
    lan.answer(EVIL_MAC)
    lan.wait(1 * SEC)
    before = lan.net.mib.snapshot()
    lan.answer(EVIL_MAC)
    assert lan.entry().lladdr == PEER_MAC and lan.state() == NUD_REACHABLE
    assert delta(before, lan.net) == IGNORED | LOOKED_UP | {"Neigh.hits": 1}


def test_later_another_address_is_taken_as_suspect_and_verified(lan: Lan) -> None:
    """A host that has a new card is believed, and asked: STALE, then DELAY and a unicast probe of the new address."""
    lan.reachable()
    lan.wait(SEC + 1)
    lan.hear(ARPOP_REQUEST, OTHER_MAC, PEER, PEER, dst=BROADCAST_MAC)
    assert lan.entry().lladdr == OTHER_MAC and lan.state() == NUD_STALE
    packet = lan.send()
    assert packet.buf[:6] == OTHER_MAC.to_bytes(6, "big")
    lan.dev.take()
    lan.wait(5 * SEC)
    assert lan.arps() == [(OTHER_MAC, ARPOP_REQUEST, OUR_MAC, OURS, 0, PEER)]


def test_repeating_what_is_known_does_not_move_the_lock(lan: Lan) -> None:
    """neigh_update: "otherwise we risk to move the locktime window with noop updates"."""
    lan.reachable()
    lan.wait(SEC)
    lan.hear(ARPOP_REPLY, PEER_MAC, PEER, OURS)
    lan.wait(1)
    lan.hear(ARPOP_REPLY, OTHER_MAC, PEER, OURS)
    assert lan.entry().lladdr == OTHER_MAC


def test_a_broadcast_reply_resolves_but_proves_nothing(lan: Lan) -> None:
    """arp_process: "Broadcast replies and request packets do not assert neighbour reachability"."""
    lan.send()
    lan.dev.take()
    lan.hear(ARPOP_REPLY, PEER_MAC, PEER, OURS, dst=BROADCAST_MAC)
    assert len(lan.dev.take()) == 1 and lan.state() == NUD_DELAY, "STALE, and used by what waited"


def test_the_peer_s_own_question_resolves_ours(lan: Lan) -> None:
    lan.send()
    lan.dev.take()
    lan.ask()
    sent = lan.dev.take()
    assert [arp_of(frame) for frame in sent] == [None, answer_to(PEER_MAC, PEER)]
    assert lan.state() == NUD_DELAY and lan.table.queued == 0


def test_a_reply_to_another_address_than_asked_from_proves_nothing(lan: Lan) -> None:
    lan.send()
    lan.hear(ARPOP_REPLY, PEER_MAC, PEER, OTHER)
    assert lan.state() == NUD_DELAY


def test_a_reply_after_the_last_question_has_failed_is_unasked(lan: Lan) -> None:
    lan.send()
    lan.settle()
    assert lan.state() == NUD_FAILED
    lan.answer()
    assert lan.state() == NUD_STALE


def test_only_probe_and_incomplete_believe_a_reply(lan: Lan) -> None:
    lan.reachable()
    lan.settle()
    lan.send()
    lan.answer()
    assert lan.state() == NUD_DELAY
    lan.wait(5 * SEC)
    assert lan.state() == NUD_PROBE
    lan.answer()
    assert lan.state() == NUD_REACHABLE


def test_nobody_overrides_the_administrator(lan: Lan) -> None:
    lan.table.neigh_add(PEER, lan.dev, PEER_MAC)
    lan.wait(100 * SEC)
    lan.answer(EVIL_MAC)
    lan.hear(ARPOP_REQUEST, EVIL_MAC, PEER, PEER, dst=BROADCAST_MAC)
    lan.ask(EVIL_MAC)
    assert (lan.entry().lladdr, lan.state()) == (PEER_MAC, NUD_PERMANENT)
    assert lan.arps() == [answer_to(EVIL_MAC, PEER)], "answering is not believing"


def test_what_is_learned_on_one_device_is_not_known_on_another(lan: Lan) -> None:
    second = lan.add_device("eth1", OTHER_MAC)
    lan.reachable()
    lan.wait(2 * SEC)
    lan.hear(ARPOP_REPLY, EVIL_MAC, PEER, OURS, dst=OTHER_MAC, dev=second)
    assert lan.entry().lladdr == PEER_MAC


# -- flood


def test_a_flood_of_askers_is_bounded_and_does_not_keep_us_from_resolving(lan: Lan) -> None:
    """Attack 39, RFC 6583: 60,000 made-up askers; every one is answered, a capped number remembered."""
    lan.dev.addresses[0] = Address(OURS, 8)
    lan.net.sysctl.gc_thresh1, lan.net.sysctl.gc_thresh2, lan.net.sysctl.gc_thresh3 = 8, 16, 32
    busy = lan.reachable()
    for host in range(2000):
        lan.ask(EVIL_MAC + host, OURS + 100 + host)
        assert len(lan.table.entries()) <= 32
    assert len(lan.arps()) == 2000
    assert lan.net.mib.neigh.table_fulls == 2000 - 31 and lan.net.drops == {}
    assert lan.net.mib.neigh.forced_gc_runs < 10, "a full table is not searched for every packet"
    lan.send(OTHER)
    assert lan.state(OTHER) == NUD_INCOMPLETE and lan.net.drops == {}
    assert busy.nud_state == NUD_REACHABLE and lan.entry() is busy


def test_an_asker_we_have_used_is_no_longer_a_stranger(lan: Lan) -> None:
    lan.ask()
    assert lan.entry().learned
    lan.send()
    assert not lan.entry().learned


# -- what our questions look like


def test_we_ask_from_the_packet_s_source(lan: Lan) -> None:
    """arp_solicit with arp_announce 0: the waiting packet's source if it is ours."""
    second = str_to_addr("192.0.2.77")
    lan.dev.addresses.append(Address(second, 24))
    lan.table.output(PEER, lan.dev, ipv4_packet(second, PEER, b"x"))
    lan.table.output(OTHER, lan.dev, ipv4_packet(FAR, OTHER, b"forwarded"))
    assert [arp[3] for arp in lan.arps()] == [second, OURS]
    lan.hear(ARPOP_REPLY, PEER_MAC, PEER, second)
    assert lan.state() == NUD_REACHABLE


def test_a_packet_that_is_not_ipv4_or_too_short_names_no_source(lan: Lan) -> None:
    lan.table.output(PEER, lan.dev, Packet(b"short"))
    short = Packet(b"E" * 19)
    short.protocol = 0x0800
    lan.table.output(OTHER, lan.dev, short)
    assert [arp[3] for arp in lan.arps()] == [OURS, OURS]


def test_a_device_without_address_asks_from_nobody_and_hears_the_answer(lan: Lan) -> None:
    bare = lan.add_device("eth1", OTHER_MAC)
    lan.table.output(PEER, bare, ipv4_packet(FAR, PEER, b"x"))
    assert arp_of(bare.take()[0]) == (BROADCAST_MAC, ARPOP_REQUEST, OTHER_MAC, 0, 0, PEER)
    lan.hear(ARPOP_REPLY, PEER_MAC, PEER, 0, dst=OTHER_MAC, dev=bare)
    assert len(bare.take()) == 1 and lan.state() == NUD_REACHABLE


# -- our own addresses (RFC 5227)


def test_a_new_address_is_announced_twice_two_seconds_apart(lan: Lan) -> None:
    """RFC 5227 2.3: ANNOUNCE_NUM 2, ANNOUNCE_INTERVAL 2 s."""
    lan.arp.announce(lan.dev, OURS)
    assert lan.arps() == [ANNOUNCEMENT]
    lan.wait(2 * SEC - 1)
    assert lan.arps() == []
    lan.wait(1)
    assert lan.arps() == [ANNOUNCEMENT]
    lan.settle()
    assert lan.arps() == [] and lan.net.now == 2 * SEC


def test_an_address_that_went_meanwhile_is_not_announced_again(lan: Lan) -> None:
    lan.arp.announce(lan.dev, OURS)
    lan.arps()
    lan.dev.addresses.clear()
    lan.settle()
    assert lan.arps() == []


def test_a_device_that_went_down_announces_nothing(lan: Lan) -> None:
    lan.arp.announce(lan.dev, OURS)
    lan.arps()
    lan.devices.dev_close(lan.dev)
    lan.settle()
    assert lan.arps() == [] and lan.net.drops == {}


@pytest.mark.parametrize(("op", "tpa"), [(ARPOP_REQUEST, OURS), (ARPOP_REPLY, PEER), (ARPOP_REQUEST, PEER)])
def test_a_claim_to_our_address_is_counted_and_answered_with_one_announcement(lan: Lan, op: int, tpa: int) -> None:
    """RFC 5227 2.4 (c); attack 41."""
    before = lan.net.mib.snapshot()
    lan.hear(op, EVIL_MAC, OURS, tpa, dst=BROADCAST_MAC)
    assert lan.arps() == [ANNOUNCEMENT] and lan.table.entries() == []
    assert delta(before, lan.net) == CONSUMED | {"Neigh.conflicts": 1}


def test_an_address_is_defended_at_most_once_in_ten_seconds(lan: Lan) -> None:
    """RFC 5227 DEFEND_INTERVAL: "MUST NOT send another defensive ARP Announcement"."""
    announced = 0
    for _ in range(250):
        lan.hear(ARPOP_REPLY, EVIL_MAC, OURS, OURS, dst=BROADCAST_MAC)
        announced += len(lan.arps())
        lan.wait(SEC // 10)
    assert announced == 3 and lan.net.mib.neigh.conflicts == 250


def test_each_address_is_defended_for_itself(lan: Lan) -> None:
    lan.dev.addresses.append(Address(OTHER, 24))
    lan.hear(ARPOP_REPLY, EVIL_MAC, OURS, OURS, dst=BROADCAST_MAC)
    lan.hear(ARPOP_REPLY, EVIL_MAC, OTHER, OTHER, dst=BROADCAST_MAC)
    assert [arp[3] for arp in lan.arps()] == [OURS, OTHER]


def test_two_devices_of_ours_on_one_link_are_no_conflict(lan: Lan) -> None:
    """RFC 5227 2.4: "the 'sender hardware address' does not match any of the host's own interface addresses"."""
    second = lan.add_device("eth1", OTHER_MAC)
    lan.hear(ARPOP_REQUEST, OTHER_MAC, OURS, OURS, dst=BROADCAST_MAC)
    lan.hear(ARPOP_REQUEST, EVIL_MAC, OURS, OURS, dst=BROADCAST_MAC, dev=second)
    assert lan.net.mib.neigh.conflicts == 0 and lan.net.drops == {Reason.ARP_IGNORED: 2}
    assert lan.arps() == [] and second.take() == [] and lan.table.entries() == []


# -- anything at all

ADDRESSES = st.sampled_from([0, OURS, PEER, OTHER, FAR, SUBNET_BROADCAST, 0x7F000001, 0xE0000001, 0xFFFFFFFF])
MACS = st.sampled_from([0, OUR_MAC, PEER_MAC, OTHER_MAC, EVIL_MAC, BROADCAST_MAC, 0x0100_5E00_0001])


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 3), MACS, ADDRESSES, MACS, ADDRESSES, MACS, st.booleans())
def test_no_single_packet_makes_a_neighbour_reachable_or_an_entry_for_who_did_not_ask_us(
    op: int, sha: int, spa: int, tha: int, tpa: int, dst: int, known: bool
) -> None:
    lan = Lan()
    if known:
        lan.ask()
        lan.wait(2 * SEC)
        lan.dev.take()
    lan.hear(op, sha, spa, tpa, dst=dst, tha=tha)
    assert lan.balanced()
    for entry in lan.table.entries():
        assert entry.nud_state == NUD_STALE and entry.addr in (PEER, OTHER)
        assert entry.addr == PEER or (op == ARPOP_REQUEST and tpa == OURS)
        assert entry.lladdr in (PEER_MAC, OTHER_MAC, EVIL_MAC)
    assert len(lan.dev.take()) <= 1


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=80))
def test_any_bytes_raise_nothing_and_are_accounted_for(body: bytes) -> None:
    lan = Lan()
    lan.receive(header(BROADCAST_MAC, PEER_MAC, ETH_P_ARP) + body)
    assert lan.balanced() and lan.net.mib.path.received == 1
