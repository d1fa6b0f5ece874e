"""The table of states against RFC 9293 figure 5."""

from __future__ import annotations

import itertools

import pytest

from ustack.tcp.states import NO_STATE, TRANSITIONS, Event, State, after, diagram

#: RFC 9293 section 3.3.2, figure 5, an arrow a row (and the resets that the text adds).
FIGURE_5 = {
    (State.CLOSE, Event.PASSIVE_OPEN): State.LISTEN,
    (State.CLOSE, Event.ACTIVE_OPEN): State.SYN_SENT,
    (State.LISTEN, Event.RCV_SYN): State.SYN_RECV,
    (State.LISTEN, Event.ACTIVE_OPEN): State.SYN_SENT,
    (State.LISTEN, Event.CLOSE): State.CLOSE,
    (State.SYN_SENT, Event.RCV_SYN): State.SYN_RECV,
    (State.SYN_SENT, Event.RCV_SYN_ACK): State.ESTABLISHED,
    (State.SYN_SENT, Event.CLOSE): State.CLOSE,
    (State.SYN_RECV, Event.RCV_ACK_OF_SYN): State.ESTABLISHED,
    (State.SYN_RECV, Event.CLOSE): State.FIN_WAIT1,
    (State.ESTABLISHED, Event.CLOSE): State.FIN_WAIT1,
    (State.ESTABLISHED, Event.RCV_FIN): State.CLOSE_WAIT,
    (State.FIN_WAIT1, Event.RCV_ACK_OF_FIN): State.FIN_WAIT2,
    (State.FIN_WAIT1, Event.RCV_FIN): State.CLOSING,
    (State.FIN_WAIT2, Event.RCV_FIN): State.TIME_WAIT,
    (State.CLOSING, Event.RCV_ACK_OF_FIN): State.TIME_WAIT,
    (State.CLOSE_WAIT, Event.CLOSE): State.LAST_ACK,
    (State.LAST_ACK, Event.RCV_ACK_OF_FIN): State.CLOSE,
    (State.TIME_WAIT, Event.TIMEOUT_2MSL): State.CLOSE,
}


@pytest.mark.parametrize(("state", "event"), FIGURE_5)
def test_every_arrow_of_figure_5_is_in_the_table(state: State, event: Event) -> None:
    assert after(state, event) == FIGURE_5[state, event]


def test_all_eleven_states_have_a_row() -> None:
    assert set(TRANSITIONS) == set(State)
    assert len(State) == 11


def test_nothing_but_figure_5_the_fin_of_syn_received_and_aborts_moves_a_connection() -> None:
    """RFC 9293 3.10.7.4, eighth step: SYN-RECEIVED also takes a FIN; section 3.10.5: ABORT leads to CLOSED."""
    extra = {
        (state, event): target
        for state, event in itertools.product(State, Event)
        if (target := after(state, event)) != NO_STATE and (state, event) not in FIGURE_5
    }
    fin = extra.pop((State.SYN_RECV, Event.RCV_FIN))
    assert fin == State.CLOSE_WAIT
    assert {event for _, event in extra} == {Event.ABORT}
    assert set(extra.values()) == {State.CLOSE}


def test_every_state_but_closed_can_be_aborted() -> None:
    assert [s for s in State if after(s, Event.ABORT) == NO_STATE] == [State.CLOSE]


def test_every_state_can_be_reached_from_closed() -> None:
    seen = {State.CLOSE}
    while True:
        more = {target for state in seen for target in TRANSITIONS[state].values()} - seen
        if not more:
            break
        seen |= more
    assert seen == set(State)


def test_the_diagram_draws_every_arrow_once() -> None:
    lines = diagram().splitlines()
    arrows = [line for line in lines if "->" in line]
    assert len(arrows) == sum(len(row) for row in TRANSITIONS.values()) == len(set(arrows))
