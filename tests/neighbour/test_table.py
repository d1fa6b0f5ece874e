"""Neighbours: resolving, keeping, confirming, failing, forgetting (RFC 4861 7.3; Linux net/core/neighbour.c)."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

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
    FakeDevice,
    Lan,
    delta,
    ipv4_packet,
)
from ustack.device.net_device import BROADCAST_MAC, IFF_LOOPBACK, IFF_NOARP, IFF_UP
from ustack.drop import Reason
from ustack.neighbour.states import (
    NUD_DELAY,
    NUD_FAILED,
    NUD_INCOMPLETE,
    NUD_NAMES,
    NUD_NOARP,
    NUD_NONE,
    NUD_PERMANENT,
    NUD_PROBE,
    NUD_REACHABLE,
    NUD_STALE,
    NUD_VALID,
)
from ustack.packet import SKB_OVERHEAD, Packet
from ustack.timer import NEVER
from ustack.wire.arp import ARPOP_REPLY, ARPOP_REQUEST
from ustack.wire.ethernet import ETH_P_IP, header
from ustack.wire.ipv4 import str_to_addr

if TYPE_CHECKING:
    from ustack.neighbour.table import Neighbour

MS = SEC // 1000
QUESTION = (BROADCAST_MAC, ARPOP_REQUEST, OUR_MAC, OURS, 0, PEER)
UNICAST_QUESTION = (PEER_MAC, ARPOP_REQUEST, OUR_MAC, OURS, 0, PEER)
TO_PEER = header(PEER_MAC, OUR_MAC, ETH_P_IP)


@pytest.fixture
def lan() -> Lan:
    return Lan()


# -- resolving


def test_first_use_asks_at_once_and_keeps_the_packet(lan: Lan) -> None:
    lan.send()
    assert lan.arps() == [QUESTION]
    assert lan.state() == NUD_INCOMPLETE
    assert (lan.table.queued, len(lan.entry().arp_queue)) == (1, 1)


def test_the_answer_sends_what_waited_in_order(lan: Lan) -> None:
    sent = [lan.send(payload=bytes([i])).buf for i in range(5)]
    assert lan.arps() == [QUESTION], "one question for all of them"
    before = lan.net.mib.snapshot()
    lan.answer()
    assert lan.dev.take() == [TO_PEER + buf for buf in sent]
    assert lan.state() == NUD_REACHABLE and lan.table.queued == 0 and lan.entry().arp_queue_len_bytes == 0
    assert delta(before, lan.net) == {
        "Neigh.lookups": 1,
        "Neigh.hits": 1,
        "Path.received": 1,
        "Path.delivered": 1,
    }


def test_a_reachable_neighbour_is_sent_to_without_any_other_effect(lan: Lan) -> None:
    lan.reachable()
    before = lan.net.mib.snapshot()
    deadline = lan.net.timers.next_deadline()
    packet = lan.send()
    assert lan.dev.take() == [packet.buf] and packet.buf.startswith(TO_PEER)
    assert (packet.network_header, packet.transport_header, packet.mac_header, packet.data) == (14, 34, 0, 0)
    assert delta(before, lan.net) == {} and lan.net.timers.next_deadline() == deadline


def test_questions_are_a_second_apart_and_three(lan: Lan) -> None:
    """mcast_solicit 3, retrans_time 1 s."""
    lan.send()
    asked = [(0, len(lan.arps()))]
    while lan.net.timers.next_deadline() != NEVER:
        lan.at(lan.net.timers.next_deadline())
        asked.append((lan.net.now, len(lan.arps())))
    assert asked == [(0, 1), (1 * SEC, 1), (2 * SEC, 1), (3 * SEC, 0)]
    assert lan.state() == NUD_FAILED


def test_retrans_time_and_mcast_solicit_are_settings(lan: Lan) -> None:
    lan.parms.retrans_time_ms = 200
    lan.parms.mcast_solicit = 5
    lan.send()
    lan.settle()
    assert lan.net.now == 1 * SEC and len(lan.arps()) == 5


def test_a_setting_of_zero_cannot_make_a_flood(lan: Lan) -> None:
    """neigh_timer_handler: never sooner than HZ/100."""
    lan.parms.retrans_time_ms = 0
    lan.send()
    lan.settle()
    assert lan.net.now == 30 * MS and len(lan.arps()) == 3


def test_without_questions_a_use_fails_at_once(lan: Lan) -> None:
    lan.parms.mcast_solicit = 0
    lan.send()
    assert lan.arps() == [] and lan.state() == NUD_FAILED
    assert lan.dropped(Reason.NEIGH_FAILED) == 1 and lan.table.queued == 0


# -- failing


def test_failure_drops_each_packet_with_host_unreachable(lan: Lan) -> None:
    """neigh_invalidate calls error_report for each: ICMP destination unreachable, code 1 (host)."""
    for _ in range(3):
        lan.send()
    before = lan.net.mib.snapshot()
    lan.settle()
    assert lan.icmp.sent == [(3, 1)] * 3
    assert lan.net.drops == {Reason.NEIGH_FAILED: 3}
    assert delta(before, lan.net) == {"Neigh.res_failed": 1}
    assert lan.table.queued == 0


def test_a_failed_neighbour_recovers_on_its_next_use(lan: Lan) -> None:
    lan.send()
    lan.settle()
    lan.arps()
    packet = lan.send()
    assert lan.arps() == [QUESTION] and lan.state() == NUD_INCOMPLETE
    lan.answer()
    assert lan.dev.take() == [packet.buf]
    assert lan.state() == NUD_REACHABLE


def test_nothing_is_asked_for_a_failed_neighbour_that_nobody_uses(lan: Lan) -> None:
    lan.send()
    lan.settle()
    lan.arps()
    lan.wait(3600 * SEC)
    assert lan.arps() == [] and lan.state() == NUD_FAILED


def test_an_error_message_to_the_very_neighbour_that_failed_waits_for_it(lan: Lan) -> None:
    """The queue is emptied before its packets are dropped: what the ICMP error adds is a new question, not a loop."""
    lan.send()
    lan.send()
    lan.icmp.answer_through = lan.entry()
    lan.at(3 * SEC)
    assert lan.dropped(Reason.NEIGH_FAILED) == 2
    assert lan.state() == NUD_INCOMPLETE and lan.table.queued == 2
    lan.answer()
    assert lan.table.queued == 0 and lan.state() == NUD_REACHABLE


def test_received_packets_balance_while_they_wait_and_after(lan: Lan) -> None:
    frame = header(OUR_MAC, OTHER_MAC, ETH_P_IP) + ipv4_packet(FAR, PEER, b"x" * 26).buf
    for _ in range(2):
        packet = Packet(frame, lan.dev)
        lan.net.receive(packet)
        packet.network_header = packet.data = 14
        packet.protocol = ETH_P_IP
        lan.table.output(PEER, lan.dev, packet)
    path = lan.net.mib.path
    assert path.received == lan.table.queued == 2
    lan.dev.take()
    lan.answer()
    assert lan.dev.take() == [TO_PEER + frame[14:]] * 2, "the old link-layer header is replaced"
    assert (path.forwarded, path.dropped, lan.table.queued) == (2, 0, 0) and lan.balanced()


# -- the queue's bound


def test_the_oldest_waiting_packet_gives_way(lan: Lan) -> None:
    """__neigh_event_send: while more than unres_qlen_bytes of truesize would wait, drop from the front."""
    each = SKB_OVERHEAD + 20 + 100
    lan.parms.unres_qlen_bytes = 3 * each
    sent = [lan.send(payload=bytes([i]) * 100).buf for i in range(3)]
    assert lan.net.drops == {}
    before = lan.net.mib.snapshot()
    sent += [lan.send(payload=bytes([i]) * 100).buf for i in range(3, 5)]
    assert lan.net.drops == {Reason.NEIGH_QUEUEFULL: 2}
    assert delta(before, lan.net) == {"Neigh.unresolved_discards": 2}
    assert (lan.table.queued, lan.entry().arp_queue_len_bytes) == (3, 3 * each)
    assert lan.icmp.sent == [], "no ICMP error: the destination may well be there"
    lan.dev.take()
    lan.answer()
    assert lan.dev.take() == [TO_PEER + buf for buf in sent[2:]]


def test_a_packet_larger_than_the_bound_waits_alone(lan: Lan) -> None:
    """As in Linux, where only packets that already wait are dropped for the new one."""
    lan.parms.unres_qlen_bytes = 1000
    lan.send()
    lan.send(payload=b"x" * 5000)
    assert lan.table.queued == 1 and lan.dropped(Reason.NEIGH_QUEUEFULL) == 1


def test_the_default_bound_is_linux_s(lan: Lan) -> None:
    assert lan.parms.unres_qlen_bytes == 212_992
    for _ in range(400):
        lan.send(payload=b"")
    assert lan.table.queued == 212_992 // (SKB_OVERHEAD + 20)
    assert lan.table.queued + lan.dropped(Reason.NEIGH_QUEUEFULL) == 400


# -- reachability


def test_reachable_time_lies_between_half_and_one_and_a_half_of_its_base(lan: Lan) -> None:
    """RFC 4861 6.3.2 MIN_RANDOM_FACTOR 0.5, MAX_RANDOM_FACTOR 1.5; a new one every 300 s."""
    drawn = []
    for _ in range(200):
        drawn.append(lan.table.reachable_time(lan.parms))
        assert lan.table.reachable_time(lan.parms) == drawn[-1], "not at every question"
        lan.net.now += 301 * SEC
    assert all(15 * SEC <= time < 45 * SEC for time in drawn)
    assert min(drawn) < 20 * SEC and max(drawn) > 40 * SEC and len(set(drawn)) > 150


def test_reachable_time_follows_its_setting_at_once(lan: Lan) -> None:
    lan.table.reachable_time(lan.parms)
    lan.parms.base_reachable_time_ms = 10
    assert 5 * MS <= lan.table.reachable_time(lan.parms) < 15 * MS
    lan.parms.base_reachable_time_ms = 0
    assert lan.table.reachable_time(lan.parms) == 0


def test_without_confirmation_it_turns_stale_silently(lan: Lan) -> None:
    lan.reachable()
    lan.wait(lan.table.reachable_time(lan.parms) - 1)
    assert lan.state() == NUD_REACHABLE
    lan.wait(1)
    assert lan.state() == NUD_STALE
    lan.settle()
    assert lan.dev.take() == [] and lan.state() == NUD_STALE


def test_what_was_used_a_moment_ago_is_verified_at_once(lan: Lan) -> None:
    """neigh_timer_handler: within delay_first_probe_time of its last use it goes to DELAY, and is asked."""
    lan.parms.base_reachable_time_ms = 1000
    lan.reachable()
    lan.wait(2 * SEC)
    assert lan.state() == NUD_DELAY
    lan.wait(5 * SEC)
    assert lan.state() == NUD_PROBE and lan.arps()[0] == UNICAST_QUESTION


def test_confirmations_keep_it_reachable(lan: Lan) -> None:
    lan.reachable()
    for _ in range(100):
        lan.wait(5 * SEC)
        lan.table.confirm(PEER, lan.dev)
    assert lan.state() == NUD_REACHABLE and lan.dev.take() == []
    lan.wait(45 * SEC)
    assert lan.state() == NUD_STALE


def test_a_confirmation_moves_no_timer(lan: Lan) -> None:
    """It is called for every good ACK."""
    lan.reachable()
    deadline = lan.net.timers.next_deadline()
    lan.wait(1 * SEC)
    lan.table.confirm(PEER, lan.dev)
    assert lan.net.timers.next_deadline() == deadline and lan.entry().confirmed == lan.net.now


def stale(lan: Lan) -> Neighbour:
    entry = lan.reachable()
    lan.settle()
    assert entry.nud_state == NUD_STALE
    return entry


def test_a_stale_neighbour_is_used_at_once_and_asked_five_seconds_later(lan: Lan) -> None:
    """RFC 4861 7.3.3: the first packet to a STALE neighbour goes out and starts DELAY_FIRST_PROBE_TIME."""
    stale(lan)
    start = lan.net.now
    packet = lan.send()
    assert lan.dev.take() == [packet.buf] and lan.state() == NUD_DELAY
    lan.at(start + 5 * SEC - 1)
    assert lan.dev.take() == []
    lan.at(start + 5 * SEC)
    assert lan.arps() == [UNICAST_QUESTION] and lan.state() == NUD_PROBE


def test_forward_progress_within_the_delay_saves_the_question(lan: Lan) -> None:
    stale(lan)
    lan.send()
    lan.wait(2 * SEC)
    lan.table.confirm(PEER, lan.dev)
    assert lan.state() == NUD_REACHABLE
    lan.wait(10 * SEC)
    assert lan.arps() == []


@pytest.mark.parametrize("state", [NUD_STALE, NUD_DELAY, NUD_PROBE])
def test_confirm_makes_reachable_from(lan: Lan, state: int) -> None:
    entry = stale(lan)
    if state != NUD_STALE:
        lan.send()
    if state == NUD_PROBE:
        lan.wait(5 * SEC)
    assert entry.nud_state == state
    entry.confirm()
    assert entry.nud_state == NUD_REACHABLE and entry.confirmed == lan.net.now


def test_confirm_of_what_is_not_resolved_or_not_known_does_nothing(lan: Lan) -> None:
    lan.table.confirm(PEER, lan.dev)
    assert lan.table.entries() == []
    lan.send()
    lan.table.confirm(PEER, lan.dev)
    assert lan.state() == NUD_INCOMPLETE
    lan.settle()
    lan.table.confirm(PEER, lan.dev)
    assert lan.state() == NUD_FAILED


def test_three_unicast_probes_then_failure_and_a_broadcast_on_the_next_use(lan: Lan) -> None:
    """ucast_solicit 3, a second apart."""
    stale(lan)
    lan.send()
    start = lan.net.now
    lan.dev.take()
    lan.at(start + 8 * SEC - 1)
    assert lan.arps() == [UNICAST_QUESTION] * 3 and lan.state() == NUD_PROBE
    before = lan.net.mib.snapshot()
    lan.at(start + 8 * SEC)
    assert lan.state() == NUD_FAILED and lan.arps() == []
    assert delta(before, lan.net) == {"Neigh.res_failed": 1}
    lan.send()
    assert lan.arps() == [QUESTION] and lan.state() == NUD_INCOMPLETE


def test_packets_go_on_while_it_is_probed(lan: Lan) -> None:
    stale(lan)
    lan.send()
    lan.wait(5 * SEC)
    lan.dev.take()
    packet = lan.send()
    assert lan.dev.take() == [packet.buf] and lan.state() == NUD_PROBE


def test_the_answer_to_a_probe_makes_it_reachable(lan: Lan) -> None:
    stale(lan)
    lan.send()
    lan.wait(6 * SEC)
    lan.answer()
    assert lan.state() == NUD_REACHABLE
    lan.dev.take()
    lan.wait(10 * SEC)
    assert lan.arps() == []


# -- what needs no resolution


def test_multicast_is_mapped_and_not_remembered(lan: Lan) -> None:
    """RFC 1112 6.4: the low 23 bits under 01-00-5E; 224.1.1.1 and 239.129.1.1 share one."""
    for text in ("224.1.1.1", "239.129.1.1"):
        lan.send(str_to_addr(text))
    assert [frame[:6].hex() for frame in lan.dev.take()] == ["01005e010101"] * 2
    assert lan.table.entries() == []


@pytest.mark.parametrize("addr", [0xFFFFFFFF, SUBNET_BROADCAST])
def test_broadcast_is_mapped_and_not_remembered(lan: Lan, addr: int) -> None:
    lan.send(addr)
    assert [frame[:6] for frame in lan.dev.take()] == [b"\xff" * 6] and lan.table.entries() == []


@pytest.mark.parametrize("flag", [IFF_LOOPBACK, IFF_NOARP])
def test_a_device_without_arp_sends_to_itself_without_entries(lan: Lan, flag: int) -> None:
    lan.dev.flags |= flag
    before = lan.net.mib.snapshot()
    for addr in (PEER, OTHER, str_to_addr("127.0.0.1"), 0xFFFFFFFF):
        lan.send(addr)
    assert [frame[:14] for frame in lan.dev.take()] == [header(OUR_MAC, OUR_MAC, ETH_P_IP)] * 4
    assert lan.table.entries() == [] and delta(before, lan.net) == {}
    assert lan.table.ip_neigh_gw4(lan.dev, PEER) is lan.table.ip_neigh_gw4(lan.dev, OTHER), "one for all"


# -- holding an entry


def test_a_route_may_keep_the_entry(lan: Lan) -> None:
    neighbour = lan.table.ip_neigh_gw4(lan.dev, PEER)
    assert neighbour is not None and neighbour.nud_state == NUD_NONE and lan.arps() == []
    neighbour.output(ipv4_packet(OURS, PEER, b"1"))
    assert lan.arps() == [QUESTION]
    lan.answer()
    lan.dev.take()
    neighbour.output(ipv4_packet(OURS, PEER, b"2"))
    assert len(lan.dev.take()) == 1
    assert lan.table.ip_neigh_gw4(lan.dev, PEER) is neighbour


def test_a_dead_entry_still_sends(lan: Lan) -> None:
    kept = lan.reachable()
    assert lan.table.neigh_delete(PEER, lan.dev)
    assert kept.dead and kept.nud_state == NUD_NONE
    kept.output(ipv4_packet(OURS, PEER, b"x"))
    assert lan.arps() == [QUESTION] and lan.entry() is not kept and lan.table.queued == 1
    kept.confirm()
    assert kept.nud_state == NUD_NONE
    lan.answer()
    assert len(lan.dev.take()) == 1


def test_a_dead_entry_s_timer_is_dead_too(lan: Lan) -> None:
    kept = lan.reachable()
    lan.table.neigh_delete(PEER, lan.dev)
    assert not kept.pending and lan.net.timers.next_deadline() == NEVER


# -- the administrator


def test_a_permanent_entry_never_asks_and_never_expires(lan: Lan) -> None:
    entry = lan.table.neigh_add(PEER, lan.dev, PEER_MAC)
    assert entry.nud_state == NUD_PERMANENT and lan.net.timers.next_deadline() == NEVER
    lan.send()
    lan.wait(100_000 * SEC)
    lan.send()
    entry.confirm()
    assert [frame[:14] for frame in lan.dev.take()] == [TO_PEER] * 2 and entry.nud_state == NUD_PERMANENT


def test_setting_an_entry_sends_what_waited_for_it(lan: Lan) -> None:
    lan.send()
    lan.dev.take()
    lan.table.neigh_add(PEER, lan.dev, PEER_MAC)
    assert [frame[:14] for frame in lan.dev.take()] == [TO_PEER]
    lan.settle()
    assert lan.arps() == [] and lan.state() == NUD_PERMANENT


def test_an_entry_may_be_set_again_and_made_mortal(lan: Lan) -> None:
    lan.table.neigh_add(PEER, lan.dev, EVIL_MAC)
    entry = lan.table.neigh_add(PEER, lan.dev, PEER_MAC, NUD_REACHABLE)
    assert lan.table.gc_entries == 1 and lan.entry() is entry
    lan.settle()
    assert entry.nud_state == NUD_STALE
    lan.table.neigh_add(PEER, lan.dev, PEER_MAC, NUD_NOARP)
    assert lan.table.gc_entries == 1, "only PERMANENT is exempt"


@pytest.mark.parametrize("state", [NUD_PERMANENT | NUD_STALE, NUD_REACHABLE | NUD_STALE, 0x100])
def test_several_states_at_once_are_refused(lan: Lan, state: int) -> None:
    """Linux lets them pass, and does strange things."""
    with pytest.raises(OSError) as raised:
        lan.table.neigh_add(PEER, lan.dev, PEER_MAC, state)
    assert raised.value.errno == errno.EINVAL and lan.table.entries() == []


@pytest.mark.parametrize("addr", [0, 0xE0000001, 0xFFFFFFFF, SUBNET_BROADCAST, OURS, 0x7F000001, FAR])
@pytest.mark.parametrize("mac", [0, BROADCAST_MAC, 0x0100_5E00_0001, PEER_MAC])
def test_the_administrator_may_set_what_no_packet_could(lan: Lan, addr: int, mac: int) -> None:
    """neigh_add checks neither address."""
    lan.table.neigh_add(addr, lan.dev, mac)
    lan.send(addr)
    assert [frame[:6] for frame in lan.dev.take()] == [mac.to_bytes(6, "big")]


def test_deleting_fails_what_waits(lan: Lan) -> None:
    lan.send()
    before = lan.net.mib.snapshot()
    assert lan.table.neigh_delete(PEER, lan.dev)
    assert not lan.table.neigh_delete(PEER, lan.dev)
    assert lan.net.drops == {Reason.NEIGH_FAILED: 1} and lan.icmp.sent == [(3, 1)]
    assert delta(before, lan.net) == {"Neigh.destroys": 1, "Neigh.res_failed": 1} and lan.table.queued == 0


# -- devices


def test_a_device_that_goes_takes_its_entries_with_it_and_no_others(lan: Lan) -> None:
    second = lan.add_device("eth1", OTHER_MAC)
    lan.reachable()
    lan.send(OTHER)
    lan.table.neigh_add(FAR, lan.dev, OTHER_MAC)
    lan.table.output(PEER, second, ipv4_packet(OURS, PEER, b"x"))
    lan.table.neigh_ifdown(lan.dev)
    assert [(entry.addr, entry.dev.name) for entry in lan.table.entries()] == [(PEER, "eth1")]
    assert lan.net.drops == {Reason.NEIGH_DEAD: 1} and lan.icmp.sent == []
    assert (lan.table.queued, lan.table.gc_entries) == (1, 1)


def test_the_same_address_on_two_devices_is_two_neighbours(lan: Lan) -> None:
    second = lan.add_device("eth1", OTHER_MAC)
    lan.reachable()
    lan.table.output(PEER, second, ipv4_packet(OURS, PEER, b"x"))
    assert sorted(NUD_NAMES[entry.nud_state] for entry in lan.table.entries()) == ["INCOMPLETE", "REACHABLE"]


def test_no_entry_is_made_on_a_device_that_is_down(lan: Lan) -> None:
    kept = lan.reachable()
    lan.devices.dev_close(lan.dev)
    lan.table.neigh_ifdown(lan.dev)
    lan.send()
    kept.output(ipv4_packet(OURS, PEER, b"x"))
    assert lan.net.drops == {Reason.NEIGH_DEAD: 2} and lan.table.entries() == [] and lan.dev.take() == []
    assert lan.net.timers.next_deadline() == NEVER


def test_a_new_link_layer_address_of_ours_makes_every_header_anew(lan: Lan) -> None:
    lan.reachable()
    lo = FakeDevice("lo", 0)
    lo.flags = IFF_UP | IFF_LOOPBACK
    lan.devices.register_netdevice(lo)
    lan.table.output(OURS, lo, ipv4_packet(OURS, OURS, b"x"))
    lan.dev.mac = EVIL_MAC
    lo.mac = OTHER_MAC
    lan.table.neigh_changeaddr(lan.dev)
    lan.table.neigh_changeaddr(lo)
    lan.send()
    assert [frame[6:12] for frame in lan.dev.take()] == [EVIL_MAC.to_bytes(6, "big")]
    lan.table.output(OURS, lo, ipv4_packet(OURS, OURS, b"x"))
    assert lo.take()[1][:12] == OTHER_MAC.to_bytes(6, "big") * 2


# -- bounds of the table


def small(lan: Lan, thresh1: int = 4, thresh2: int = 8, thresh3: int = 16) -> None:
    lan.net.sysctl.gc_thresh1 = thresh1
    lan.net.sysctl.gc_thresh2 = thresh2
    lan.net.sysctl.gc_thresh3 = thresh3


def test_a_full_table_of_questions_refuses_the_next(lan: Lan) -> None:
    """Attack 39: a scan through us. Entries whose timer runs are not taken away (neigh_forced_gc)."""
    small(lan)
    for host in range(16):
        lan.send(PEER + 10 + host)
    before = lan.net.mib.snapshot()
    lan.send(PEER)
    assert lan.net.drops == {Reason.NEIGH_CREATEFAIL: 1} and len(lan.table.entries()) == 16
    assert delta(before, lan.net) == {"Neigh.table_fulls": 1, "Neigh.forced_gc_runs": 1}
    assert lan.icmp.sent == []
    lan.send(PEER)
    assert lan.net.mib.neigh.forced_gc_runs == before["Neigh.forced_gc_runs"] + 1, "no second scan at once"
    lan.at(4 * SEC)
    lan.send(PEER)
    assert lan.state() == NUD_INCOMPLETE, "what failed has made room"


def test_failed_entries_go_down_to_gc_thresh2(lan: Lan) -> None:
    small(lan, thresh1=100)
    for host in range(16):
        lan.send(PEER + 10 + host)
    lan.at(4 * SEC)
    lan.send(PEER)
    assert len(lan.table.entries()) == 9 and lan.net.mib.neigh.destroys == 8


def test_between_thresh2_and_3_it_collects_only_every_five_seconds(lan: Lan) -> None:
    small(lan, thresh1=100)
    lan.net.now = 6 * SEC
    for host in range(10):
        lan.send(PEER + 10 + host)
    assert lan.net.mib.neigh.forced_gc_runs == 1
    lan.wait(6 * SEC)
    lan.send(PEER)
    assert lan.net.mib.neigh.forced_gc_runs == 2 and lan.dropped(Reason.NEIGH_CREATEFAIL) == 0


def test_reachable_and_permanent_entries_survive_a_full_table(lan: Lan) -> None:
    small(lan)
    lan.table.neigh_add(FAR, lan.dev, OTHER_MAC)
    lan.reachable()
    for host in range(200):
        lan.send(PEER + 10 + host % 200)
        lan.wait(SEC // 4)
        lan.table.confirm(PEER, lan.dev)
    assert lan.state() == NUD_REACHABLE and lan.state(FAR) == NUD_PERMANENT
    assert len(lan.table.entries()) <= 17 and lan.table.gc_entries <= 16


def test_permanent_entries_do_not_count(lan: Lan) -> None:
    small(lan)
    for host in range(40):
        lan.table.neigh_add(PEER + 10 + host, lan.dev, PEER_MAC)
    lan.send()
    assert lan.state() == NUD_INCOMPLETE and lan.table.gc_entries == 1


def test_a_table_full_of_questions_refuses_an_administrator_s_mortal_entry(lan: Lan) -> None:
    small(lan)
    for host in range(16):
        lan.send(PEER + 10 + host)
    with pytest.raises(OSError) as raised:
        lan.table.neigh_add(PEER, lan.dev, PEER_MAC, NUD_STALE)
    assert raised.value.errno == errno.ENOBUFS
    lan.table.neigh_add(PEER, lan.dev, PEER_MAC)


def test_periodic_collection_forgets_what_nobody_used_for_a_minute(lan: Lan) -> None:
    """neigh_periodic_work, every base_reachable_time / 2: FAILED at once, STALE after gc_stale_time."""
    small(lan)
    for host in range(4):
        lan.reachable(OTHER + host)
    lan.send(FAR)
    lan.at(16 * SEC)
    assert FAR not in [entry.addr for entry in lan.table.entries()]
    lan.at(59 * SEC)
    assert len(lan.table.entries()) == 4
    lan.at(75 * SEC)
    assert lan.table.entries() == []
    assert lan.net.timers.next_deadline() == NEVER, "nothing to collect, nothing to wake up for"


def test_below_gc_thresh1_nothing_is_forgotten(lan: Lan) -> None:
    lan.reachable()
    lan.wait(1_000_000 * SEC)
    assert lan.state() == NUD_STALE and lan.net.timers.next_deadline() == NEVER


# -- whatever happens


ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(["send", "answer", "evil", "ask", "confirm", "wait", "delete", "down"]), st.integers(0, 5)
    ),
    max_size=60,
)


@settings(max_examples=120, deadline=None)
@given(ACTIONS)
def test_no_packet_is_lost_without_a_reason(actions: list[tuple[str, int]]) -> None:
    lan = Lan()
    small(lan, 1, 2, 3)
    lan.parms.unres_qlen_bytes = 2000
    sent = 0
    for action, host in actions:
        if action == "send":
            lan.send(PEER + 2 + host)
            sent += 1
        act(lan, action, PEER + 2 + host, host)
        data = [frame for frame in lan.dev.frames if frame[12:14] == b"\x08\x00"]
        assert sent == len(data) + sum(lost(lan)) + lan.table.queued
        assert lan.table.queued == sum(len(entry.arp_queue) for entry in lan.table.entries())
        assert lan.table.gc_entries == len(lan.table.entries()) <= 3
        for entry in lan.table.entries():
            assert entry.arp_queue == [] or entry.nud_state & NUD_VALID == 0
            assert entry.arp_queue_len_bytes == sum(packet.truesize for packet in entry.arp_queue)
    lan.settle()
    assert lan.table.queued == 0 and lan.balanced()


def act(lan: Lan, action: str, addr: int, host: int) -> None:
    if action == "answer":
        lan.answer(PEER_MAC + host, addr)
    elif action == "evil":
        lan.hear(ARPOP_REPLY, EVIL_MAC, addr, OURS)
    elif action == "ask":
        lan.ask(PEER_MAC + host, addr)
    elif action == "confirm":
        lan.table.confirm(addr, lan.dev)
    elif action == "wait":
        lan.wait([1, SEC, 5 * SEC, 60 * SEC, SEC // 3, 20 * SEC][host])
    elif action == "delete":
        lan.table.neigh_delete(addr, lan.dev)
    elif action == "down" and host == 0:
        lan.table.neigh_ifdown(lan.dev)


def lost(lan: Lan) -> list[int]:
    reasons = (Reason.NEIGH_FAILED, Reason.NEIGH_QUEUEFULL, Reason.NEIGH_CREATEFAIL, Reason.NEIGH_DEAD)
    return [lan.dropped(reason) for reason in reasons]
