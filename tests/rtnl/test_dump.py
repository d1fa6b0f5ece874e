"""Long answers in pieces, and who follows them."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import pytest

from tests.rtnl.place import Place
from ustack.rtnl.dump import CURSORS_MAX, PIECE, Cursors, follow, whole
from ustack.rtnl.messages import Link, More, Nack, Object, Objects, Rtm, RtnlAnswer, RtnlRequest
from ustack.sock import error

if TYPE_CHECKING:
    from collections.abc import Iterator


def links(count: int, silence: int = 0) -> Iterator[Object | None]:
    """So many links, each after ``silence`` steps without one."""
    for ifindex in range(1, count + 1):
        for _ in range(silence):
            yield None
        yield Link(ifindex=ifindex)


def failing() -> Iterator[Object | None]:
    yield from links(PIECE)
    raise error(errno.EIO)


class Server:
    """Answers with ``steps``, in pieces."""

    def __init__(self, steps: Iterator[Object | None]) -> None:
        self.steps = steps
        self.cursors = Cursors()
        self.asked = 0

    def ask(self, request: RtnlRequest) -> RtnlAnswer:
        self.asked += 1
        try:
            return self.cursors.more(request) if isinstance(request, More) else self.cursors.begin(self.steps)
        except OSError as reason:
            return Nack(reason.errno or 0)


REQUEST = Rtm("dump", Link())


@pytest.mark.parametrize("count", [0, 1, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE + 7])
def test_all_pieces_together_are_the_whole(count: int) -> None:
    server = Server(links(count))
    pieces = list(follow(server.ask, REQUEST))
    assert [item for piece in pieces for item in piece] == whole(links(count)).objects
    assert all(len(piece) <= PIECE for piece in pieces)
    assert len(server.cursors) == 0


def test_work_without_a_result_ends_a_piece_too() -> None:
    server = Server(links(10, silence=PIECE - 1))
    pieces = list(follow(server.ask, REQUEST))
    assert [len(piece) for piece in pieces] == [1] * 10 + [0]


def test_a_cursor_serves_once() -> None:
    cursors = Cursors()
    cursor = cursors.begin(links(3 * PIECE)).cursor
    assert cursor != 0
    following = cursors.more(More(cursor))
    assert following.cursor not in (0, cursor)
    with pytest.raises(OSError) as caught:
        cursors.more(More(cursor))
    assert caught.value.errno == errno.ESTALE


def test_one_that_never_was_is_estale() -> None:
    assert Place().rtnetlink.request(More(77)) == Nack(errno.ESTALE)


def test_cursors_that_nobody_continues_go_the_oldest_first() -> None:
    cursors = Cursors()
    first = cursors.begin(links(2 * PIECE)).cursor
    for _ in range(CURSORS_MAX - 1):
        cursors.begin(links(2 * PIECE))
    assert (len(cursors), cursors.evicted) == (CURSORS_MAX, 0)
    last = cursors.begin(links(2 * PIECE)).cursor
    assert (len(cursors), cursors.evicted) == (CURSORS_MAX, 1)
    with pytest.raises(OSError):
        cursors.more(More(first))
    assert len(cursors.more(More(last)).objects) == PIECE


def test_a_failure_on_the_way_ends_the_answer() -> None:
    pieces = follow(Server(failing()).ask, REQUEST)
    assert len(next(pieces)) == PIECE
    with pytest.raises(OSError) as caught:
        next(pieces)
    assert (caught.value.errno, caught.value.strerror) == (errno.EIO, error(errno.EIO).strerror)


def test_a_refusal_is_raised_with_its_words() -> None:
    with pytest.raises(OSError, match="no way") as caught:
        next(follow(lambda request: Nack(errno.ENOENT, "no way"), REQUEST))
    assert caught.value.errno == errno.ENOENT


def test_in_process_an_answer_comes_whole() -> None:
    answer = Place().rtnetlink.request(REQUEST)
    assert isinstance(answer, Objects)
    assert (len(answer.objects), answer.cursor) == (3, 0)
