"""Long answers in pieces: who answers keeps a cursor (Linux struct netlink_callback), who asks follows it.

A table of a million routes is neither built nor sent in one go: a piece is some milliseconds of work, and the stack
does other things between two of them. What changes meanwhile may show or not, as in the kernel.
"""

from __future__ import annotations

import errno
from collections import OrderedDict
from itertools import islice
from typing import TYPE_CHECKING, Final

from ustack.rtnl.messages import More, Nack, Objects
from ustack.sock import error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ustack.rtnl.messages import Object, RtnlAnswer, RtnlRequest

#: Steps of one piece: as many objects as a message of the control socket holds.
PIECE: Final = 512
#: Answers that wait to be continued; the one that has waited longest goes first.
CURSORS_MAX: Final = 64


class Cursors:
    """Answers that are not finished."""

    def __init__(self) -> None:
        self.evicted: int = 0  #: given up for want of room
        self._last: int = 0
        self._waiting: OrderedDict[int, Iterator[Object | None]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._waiting)

    def begin(self, steps: Iterator[Object | None]) -> Objects:
        """The first piece of ``steps``. Raises what they raise."""
        piece = list(islice(steps, PIECE))
        objects = [step for step in piece if step is not None]
        if len(piece) < PIECE:
            return Objects(objects)
        if len(self._waiting) >= CURSORS_MAX:
            self._waiting.popitem(last=False)
            self.evicted += 1
        self._last += 1
        self._waiting[self._last] = steps
        return Objects(objects, self._last)

    def more(self, request: More) -> Objects:
        """The next one. ESTALE for a cursor that is not, or no longer, waiting."""
        steps = self._waiting.pop(request.cursor, None)
        if steps is None:
            raise error(errno.ESTALE)
        return self.begin(steps)


def whole(steps: Iterator[Object | None]) -> Objects:
    """All of it at once."""
    return Objects([step for step in steps if step is not None])


def follow(ask: Callable[[RtnlRequest], RtnlAnswer], request: RtnlRequest) -> Iterator[list[Object]]:
    """Every piece of the answer to ``request``, a dump or a flush. Raises the OSError that a Nack stands for."""
    while True:
        answer = ask(request)
        if isinstance(answer, Nack):
            raise OSError(answer.errno, answer.text) if answer.text else error(answer.errno)
        assert isinstance(answer, Objects)
        yield answer.objects
        if answer.cursor == 0:
            return
        request = More(answer.cursor)
