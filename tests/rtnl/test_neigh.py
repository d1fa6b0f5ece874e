"""Neighbours: what `ip neigh` adds, shows, flushes and is refused (net/core/neighbour.c)."""

from __future__ import annotations

import errno

import pytest

from tests.rtnl.place import ADD, ETH0, ETH1, Place, ip, taken
from ustack.neighbour.states import NUD_NOARP, NUD_NONE, NUD_PERMANENT, NUD_PROBE, NUD_REACHABLE, NUD_STALE
from ustack.neighbour.table import NTF_EXT_LEARNED, NTF_USE
from ustack.routing.uapi import NLM_F_CREATE, NLM_F_REPLACE
from ustack.rtnl.messages import Neigh
from ustack.timer import NSEC_PER_SEC

PEER = ip("192.0.2.77")
MAC = 0x020000000077
REPLACE = NLM_F_CREATE | NLM_F_REPLACE


def entry(last: int = 77, ifindex: int = ETH0, state: int = NUD_PERMANENT, mac: int | None = MAC) -> Neigh:
    return Neigh(ifindex=ifindex, dst=ip("192.0.2.0") + last, mac=mac, state=state)


def shown(place: Place, wanted: Neigh | None = None) -> list[int]:
    """The last bytes of the addresses that a dump shows."""
    return [neigh.dst & 0xFF for neigh in place.objects("dump", wanted or Neigh())]


# -- adding


def test_an_entry_by_hand_is_shown_as_it_was_given(place: Place) -> None:
    place.add(entry())
    (neigh,) = place.objects("get", Neigh(ifindex=ETH0, dst=PEER))
    assert (neigh.mac, neigh.state, neigh.flags, neigh.proxy) == (MAC, NUD_PERMANENT, 0, False)
    assert place.objects("dump", Neigh()) == [neigh]


def test_ages_are_in_seconds(place: Place) -> None:
    place.add(entry(state=NUD_REACHABLE))
    place.stack.net.now += 5 * NSEC_PER_SEC
    (neigh,) = place.objects("dump", Neigh())
    assert (neigh.used, neigh.confirmed, neigh.updated) == (5, 5, 5)


def test_one_that_is_there_is_eexist_unless_it_may_be_replaced(place: Place) -> None:
    place.add(entry())
    assert place.refusal("new", entry(mac=1), ADD) == (errno.EEXIST, "")
    place.do("new", entry(mac=0x02, state=NUD_REACHABLE), REPLACE)
    (neigh,) = place.objects("dump", Neigh())
    assert (neigh.mac, neigh.state) == (2, NUD_REACHABLE)


def test_a_change_of_what_is_not_there_is_enoent(place: Place) -> None:
    assert place.refusal("new", entry(), NLM_F_REPLACE) == (errno.ENOENT, "")
    assert shown(place) == []


def test_a_state_with_an_address_needs_one(place: Place) -> None:
    """The kernel leaves an empty entry behind then; here a refusal changes nothing."""
    assert place.refusal("new", entry(mac=None), ADD) == (errno.EINVAL, "No link layer address given")
    assert shown(place) == []


@pytest.mark.parametrize(
    ("message", "refusal"),
    [
        (Neigh(dst=PEER, mac=MAC, state=NUD_PERMANENT), (errno.EINVAL, "Device not specified")),
        (Neigh(ifindex=99, dst=PEER, mac=MAC), (errno.ENODEV, "")),
        (Neigh(ifindex=ETH0, dst=PEER, mac=MAC, state=NUD_REACHABLE | NUD_STALE), (errno.EINVAL, "")),
        (Neigh(ifindex=ETH0, dst=1 << 32, mac=MAC), (errno.ERANGE, "integer out of range")),
        (Neigh(ifindex=ETH0, dst=PEER, mac=1 << 48), (errno.ERANGE, "integer out of range")),
        (Neigh(ifindex=ETH0, dst=PEER, mac=MAC, state=1 << 16), (errno.ERANGE, "integer out of range")),
    ],
)
def test_what_cannot_be_is_refused(place: Place, message: Neigh, refusal: tuple[int, str]) -> None:
    assert place.refusal("new", message, ADD) == refusal


def test_who_made_it_and_that_it_was_learned_elsewhere_is_kept(place: Place) -> None:
    place.add(Neigh(ifindex=ETH0, dst=PEER, mac=MAC, state=NUD_REACHABLE, protocol=186, flags=NTF_EXT_LEARNED))
    (neigh,) = place.objects("dump", Neigh())
    assert (neigh.protocol, neigh.flags) == (186, NTF_EXT_LEARNED)


def test_an_entry_can_be_put_to_use(place: Place) -> None:
    """NTF_USE: a stale one is asked for as if a packet went there."""
    place.add(entry(state=NUD_STALE))
    place.do("new", Neigh(ifindex=ETH0, dst=PEER, flags=NTF_USE), REPLACE)
    assert place.objects("dump", Neigh())[0].state not in (NUD_STALE, NUD_NONE)


def test_the_table_has_a_limit(place: Place) -> None:
    place.stack.net.sysctl.gc_thresh3 = 3
    answers = [place.ask("new", entry(last, state=NUD_PROBE), ADD) for last in range(1, 6)]
    assert str(answers[-1]) == f"Nack(errno={int(errno.ENOBUFS)}, text='')"


# -- deleting and flushing


def test_a_deletion(place: Place) -> None:
    place.add(entry())
    place.do("del", Neigh(ifindex=ETH0, dst=PEER))
    assert shown(place) == []
    assert place.refusal("del", Neigh(ifindex=ETH0, dst=PEER)) == (errno.ENOENT, "")
    assert place.refusal("del", Neigh(dst=PEER)) == (errno.EINVAL, "")
    assert place.refusal("del", Neigh(ifindex=99, dst=PEER)) == (errno.ENODEV, "")


@pytest.fixture
def full(place: Place) -> Place:
    place.add(entry(1))
    place.add(entry(2, state=NUD_REACHABLE))
    place.add(entry(3, state=NUD_STALE))
    place.add(entry(4, ETH1, NUD_STALE))
    place.add(entry(200, state=NUD_NOARP))
    return place


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (Neigh(), [1, 2, 3, 4, 200]),
        (Neigh(ifindex=ETH1), [4]),
        (Neigh(state=NUD_STALE), [3, 4]),
        (Neigh(state=NUD_STALE | NUD_PERMANENT, ifindex=ETH0), [1, 3]),
        (Neigh(dst=ip("192.0.2.0"), dst_len=30), [1, 2, 3]),
        (Neigh(dst=ip("192.0.2.4")), [4]),
        (Neigh(proxy=True), []),
    ],
)
def test_a_dump_filters(full: Place, wanted: Neigh, found: list[int]) -> None:
    assert shown(full, wanted) == found


def test_a_flush_spares_what_was_set_by_hand(full: Place) -> None:
    assert [neigh.dst & 0xFF for neigh in full.objects("flush", Neigh())] == [2, 3, 4]
    assert shown(full) == [1, 200]


def test_a_flush_of_a_state_takes_it(full: Place) -> None:
    assert [neigh.dst & 0xFF for neigh in full.objects("flush", Neigh(state=NUD_PERMANENT))] == [1]
    assert [neigh.dst & 0xFF for neigh in full.objects("flush", Neigh(ifindex=ETH1))] == [4]
    assert shown(full) == [2, 3, 200]


# -- asking


def test_what_is_not_there_is_enoent_in_words(place: Place) -> None:
    absent = (errno.ENOENT, "Neighbour entry not found")
    assert place.refusal("get", Neigh(ifindex=ETH0, dst=PEER)) == absent
    assert place.refusal("get", Neigh(dst=PEER)) == (errno.EINVAL, "No device specified")
    absent = (errno.ENOENT, "Proxy neighbour entry not found")
    assert place.refusal("get", Neigh(ifindex=ETH0, dst=PEER, proxy=True)) == absent


# -- proxies


def test_a_proxy_entry_comes_and_goes(place: Place) -> None:
    proxy = Neigh(ifindex=ETH0, dst=PEER, proxy=True)
    place.add(proxy)
    place.add(proxy)  # NLM_F_EXCL means nothing here
    assert place.objects("get", proxy) == [proxy]
    assert place.objects("dump", Neigh(proxy=True)) == [proxy]
    assert shown(place) == []
    place.do("del", proxy)
    assert place.refusal("del", proxy) == (errno.ENOENT, "")


def test_a_proxy_needs_no_device(place: Place) -> None:
    everywhere = Neigh(dst=PEER, proxy=True, protocol=4)
    place.add(everywhere)
    assert place.objects("dump", Neigh(proxy=True)) == [everywhere]
    assert place.objects("get", Neigh(ifindex=ETH1, dst=PEER, proxy=True)) == [everywhere]


def test_proxies_can_be_flushed(place: Place) -> None:
    place.add(Neigh(ifindex=ETH0, dst=PEER, proxy=True))
    place.add(Neigh(ifindex=ETH1, dst=PEER, proxy=True))
    assert len(place.objects("flush", Neigh(ifindex=ETH1, proxy=True))) == 1
    assert [neigh.ifindex for neigh in place.objects("dump", Neigh(proxy=True))] == [ETH0]


# -- events


def test_changes_are_told(place: Place) -> None:
    watch = place.watch("neigh")
    place.add(entry())
    place.do("del", Neigh(ifindex=ETH0, dst=PEER))
    events = taken(watch)
    assert isinstance(events[0].object, Neigh)
    assert (events[0].object.state, events[0].deleted) == (NUD_PERMANENT, False)
    assert events[-1].deleted
