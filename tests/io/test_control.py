"""The control protocol: what is said comes out as it was said, and nothing else ever does."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ustack.io import control

u32 = st.integers(0, 0xFFFF_FFFF)
u16 = st.integers(0, 0xFFFF)
i32 = st.integers(-(1 << 31), (1 << 31) - 1)
ids = st.integers(0, (1 << 63) - 1)

requests = st.one_of(
    st.builds(control.Hello, i32),
    st.builds(control.GetStatus),
    st.builds(control.Down),
    st.builds(control.Open, i32, i32, i32),
    st.builds(control.Bind, ids, u32, u16),
    st.builds(control.Connect, ids, u32, u16, u16),
    st.builds(control.Disconnect, ids),
    st.builds(control.Listen, ids, i32),
    st.builds(control.GetName, ids, st.booleans()),
    st.builds(control.SetOption, ids, i32, i32, st.one_of(i32, st.binary(max_size=64))),
    st.builds(control.GetOption, ids, i32, i32),
    st.builds(control.Shutdown, ids, i32),
)
answers = st.one_of(
    st.builds(control.Done),
    st.builds(control.Failed, i32, st.text(max_size=40)),
    st.builds(control.Opened, ids),
    st.builds(control.Name, u32, u16),
    st.builds(control.Option, st.one_of(i32, st.binary(max_size=64))),
)


@given(requests)
def test_requests_come_back(request: control.Request) -> None:
    message = control.encode_request(request)
    assert len(message) < control.MESSAGE_MAX
    assert control.decode_request(message) == request


@given(answers)
def test_answers_come_back(answer: control.Answer) -> None:
    (message,) = control.encode_answer(answer)
    assert control.AnswerReader().feed(message) == answer


def big_status(sockets: int) -> control.Status:
    rows = [control.SocketStatus("tcp", "ESTAB", "192.0.2.2:80", f"192.0.2.1:{n}", n, 0) for n in range(sockets)]
    return control.Status("1", 1, 2.5, [], [], rows, {}, {})


def test_a_long_answer_comes_in_parts_that_fit() -> None:
    messages = control.encode_answer(big_status(5000))
    assert len(messages) > 2
    assert all(len(message) < control.MESSAGE_MAX for message in messages)
    reader = control.AnswerReader()
    assert [reader.feed(message) for message in messages[:-1]] == [None] * (len(messages) - 1)
    assert reader.feed(messages[-1]) == big_status(5000)


def test_a_reader_can_be_used_again() -> None:
    reader = control.AnswerReader()
    for message in control.encode_answer(big_status(2000)):
        reader.feed(message)
    assert reader.feed(control.encode_answer(control.Done())[0]) == control.Done()


@given(st.binary(max_size=200))
def test_any_bytes_are_a_request_or_a_protocol_error(message: bytes) -> None:
    try:
        control.decode_request(message)
    except control.ProtocolError as mistake:
        assert "not a request" in str(mistake)


@given(st.binary(max_size=200))
def test_any_bytes_are_an_answer_or_a_protocol_error(message: bytes) -> None:
    try:
        control.decode_answer(message)
    except control.ProtocolError as mistake:
        assert "not an answer" in str(mistake)


@given(requests, st.data())
def test_a_cut_or_flipped_request_is_a_request_or_a_protocol_error(
    request: control.Request, data: st.DataObject
) -> None:
    message = bytearray(control.encode_request(request))
    message[data.draw(st.integers(0, len(message) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    for bad in (bytes(message), bytes(message[:-1])):
        try:
            control.decode_request(bad)
        except control.ProtocolError:
            continue


def test_a_bomb_of_nested_arrays_is_a_protocol_error() -> None:
    with pytest.raises(control.ProtocolError):
        control.decode_request(b"\x91" * 60_000)


def test_an_answer_is_no_request() -> None:
    with pytest.raises(control.ProtocolError):
        control.decode_request(control.encode_answer(control.Done())[0])


@given(ids, u32, u16)
def test_records_of_accepted_connections(socket_id: int, addr: int, port: int) -> None:
    record = control.encode_accepted(socket_id, addr, port)
    assert len(record) == control.ACCEPTED_LEN
    assert control.decode_accepted(record) == (socket_id, addr, port)


@given(u32, u16, u16, st.binary(max_size=20))
def test_headers_of_datagrams(addr: int, port: int, code: int, payload: bytes) -> None:
    header = control.encode_datagram_header(addr, port, code)
    assert len(header) == control.DATAGRAM_HEADER_LEN
    assert control.decode_datagram_header(header + payload) == (addr, port, code)


@pytest.mark.parametrize("size", [0, 1, 7, 19, 21])
def test_what_is_too_short_is_a_protocol_error(size: int) -> None:
    if size < control.DATAGRAM_HEADER_LEN:
        with pytest.raises(control.ProtocolError):
            control.decode_datagram_header(bytes(size))
    with pytest.raises(control.ProtocolError):
        control.decode_accepted(bytes(size))
