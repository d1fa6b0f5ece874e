"""The table of neighbour states against RFC 4861 section 7.3 and Linux's neigh_update and neigh_timer_handler."""

from __future__ import annotations

import itertools

import pytest

from ustack.neighbour import states
from ustack.neighbour.states import (
    NUD_ADMIN,
    NUD_ASKING,
    NUD_CONNECTED,
    NUD_DELAY,
    NUD_FAILED,
    NUD_IN_TIMER,
    NUD_INCOMPLETE,
    NUD_NAMES,
    NUD_NOARP,
    NUD_NONE,
    NUD_PERMANENT,
    NUD_PROBE,
    NUD_REACHABLE,
    NUD_READY,
    NUD_STALE,
    NUD_VALID,
    STATES,
    Event,
    after,
)

ALL = list(NUD_NAMES)
KNOWN = [NUD_REACHABLE, NUD_STALE, NUD_DELAY, NUD_PROBE]


def test_every_state_answers_every_event_with_a_state() -> None:
    assert set(STATES) == set(NUD_NAMES)
    for row in STATES.values():
        assert len(row) == len(Event) and set(row) <= set(STATES)


def test_numbers_are_linux_ones() -> None:
    """include/uapi/linux/neighbour.h: what netlink and ``ip neigh`` speak."""
    assert (NUD_NONE, NUD_INCOMPLETE, NUD_REACHABLE, NUD_STALE, NUD_DELAY) == (0, 1, 2, 4, 8)
    assert (NUD_PROBE, NUD_FAILED, NUD_NOARP, NUD_PERMANENT) == (16, 32, 64, 128)


def test_masks_are_the_sets_that_their_comments_name() -> None:
    """include/net/neighbour.h."""
    assert NUD_IN_TIMER == NUD_INCOMPLETE | NUD_REACHABLE | NUD_DELAY | NUD_PROBE
    assert NUD_VALID == NUD_PERMANENT | NUD_NOARP | NUD_REACHABLE | NUD_PROBE | NUD_STALE | NUD_DELAY
    assert NUD_CONNECTED == NUD_PERMANENT | NUD_NOARP | NUD_REACHABLE
    assert NUD_ADMIN == NUD_PERMANENT | NUD_NOARP
    assert NUD_ASKING == NUD_INCOMPLETE | NUD_PROBE
    assert NUD_READY == NUD_VALID & ~NUD_STALE


@pytest.mark.parametrize("event", list(Event))
@pytest.mark.parametrize("state", [NUD_NOARP, NUD_PERMANENT])
def test_nothing_changes_what_the_administrator_set(state: int, event: Event) -> None:
    assert after(state, event) == state


def test_a_failed_neighbour_is_asked_again_on_the_next_use() -> None:
    assert after(NUD_FAILED, Event.USED) == NUD_INCOMPLETE


@pytest.mark.parametrize("state", ALL)
def test_a_timer_that_runs_out_in_use_only_spares_reachable_its_wait_for_the_next_use(state: int) -> None:
    """neigh_timer_handler: "neigh %p is delayed"."""
    wanted = NUD_DELAY if state == NUD_REACHABLE else after(state, Event.TIMEOUT)
    assert after(state, Event.TIMEOUT_IN_USE) == wanted


def test_a_new_neighbour_is_asked_for_on_its_first_use() -> None:
    assert after(NUD_NONE, Event.USED) == NUD_INCOMPLETE


@pytest.mark.parametrize("state", [state for state in ALL if not state & NUD_ASKING])
def test_only_a_state_that_asks_can_give_up(state: int) -> None:
    assert after(state, Event.GAVE_UP) == state


@pytest.mark.parametrize("state", [NUD_INCOMPLETE, NUD_PROBE])
def test_giving_up_is_failure(state: int) -> None:
    assert after(state, Event.GAVE_UP) == NUD_FAILED


def test_an_unasked_packet_never_makes_a_neighbour_reachable() -> None:
    """Or anybody on the link could keep a poisoned entry fresh."""
    unasked = itertools.product(ALL, [Event.OTHER_REPLY, Event.MOVED])
    reached = [(state, event) for state, event in unasked if after(state, event) == NUD_REACHABLE]
    assert reached == [(NUD_REACHABLE, Event.OTHER_REPLY)]


@pytest.mark.parametrize("state", KNOWN)
def test_another_address_is_always_suspect(state: int) -> None:
    """RFC 4861 7.2.5, override with a different address: "the state of the entry [...] is set to STALE"."""
    assert after(state, Event.MOVED) == NUD_STALE


@pytest.mark.parametrize("state", KNOWN)
def test_the_known_address_heard_again_changes_nothing(state: int) -> None:
    """neigh_update: "If entry was valid and address is not changed, do not change entry state, if new one is STALE"."""
    assert after(state, Event.OTHER_REPLY) == state


@pytest.mark.parametrize("state", [NUD_NONE, NUD_INCOMPLETE, NUD_FAILED])
def test_the_first_address_heard_unasked_is_stale(state: int) -> None:
    assert after(state, Event.OTHER_REPLY) == NUD_STALE


@pytest.mark.parametrize("state", KNOWN)
def test_forward_progress_of_an_upper_layer_confirms_a_known_address(state: int) -> None:
    """RFC 4861 appendix C: "!INCOMPLETE, upper-layer reachability confirmation -> REACHABLE"."""
    assert after(state, Event.CONFIRMED) == NUD_REACHABLE


@pytest.mark.parametrize("state", [NUD_NONE, NUD_INCOMPLETE, NUD_FAILED])
def test_without_an_address_there_is_nothing_to_confirm(state: int) -> None:
    assert after(state, Event.CONFIRMED) == state


@pytest.mark.parametrize("state", [NUD_INCOMPLETE, NUD_PROBE])
def test_an_answer_makes_it_reachable(state: int) -> None:
    assert after(state, Event.SOLICITED_REPLY) == NUD_REACHABLE


def test_the_life_of_an_address_without_news() -> None:
    """RFC 4861 7.3.3: REACHABLE, STALE by time, DELAY by use, PROBE by time, and used all the while."""
    state = NUD_REACHABLE
    seen = []
    for event in [Event.USED, Event.TIMEOUT, Event.TIMEOUT, Event.USED, Event.USED, Event.TIMEOUT, Event.TIMEOUT]:
        state = int(after(state, event))
        seen.append(state)
    assert seen == [NUD_REACHABLE, NUD_STALE, NUD_STALE, NUD_DELAY, NUD_DELAY, NUD_PROBE, NUD_PROBE]


def test_use_leads_nowhere_but_to_a_question_or_a_delay() -> None:
    moves = {(state, after(state, Event.USED)) for state in ALL if after(state, Event.USED) != state}
    assert moves == {(NUD_NONE, NUD_INCOMPLETE), (NUD_FAILED, NUD_INCOMPLETE), (NUD_STALE, NUD_DELAY)}


def test_no_event_leads_back_to_none_or_to_an_administrators_state() -> None:
    for state, event in itertools.product(ALL, Event):
        if after(state, event) != state:
            assert after(state, event) not in (NUD_NONE, NUD_NOARP, NUD_PERMANENT)


def test_every_state_has_its_name() -> None:
    assert all(getattr(states, f"NUD_{name}") == state for state, name in NUD_NAMES.items())
