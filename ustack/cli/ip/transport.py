"""Who is asked: the daemon over its socket, or a stack in this process."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ustack.io.client import Client
    from ustack.rtnl.messages import Event, RtnlAnswer, RtnlRequest
    from ustack.rtnl.rtnetlink import Rtnetlink


class Transport:
    """Questions and answers of rtnetlink (rtnl/messages.py), however they travel."""

    def ask(self, request: RtnlRequest) -> RtnlAnswer:
        """The answer, or the first piece of it: Objects with a cursor go on with More."""
        raise NotImplementedError

    def events(self, kinds: list[str]) -> Iterator[Event]:
        """What changes, for ever, in a channel of its own: ``ask`` works meanwhile. Raises OSError."""
        raise NotImplementedError

    def close(self) -> None:
        """Let go of what it holds."""


class DaemonTransport(Transport):
    """The daemon that listens on the control socket."""

    def __init__(self, control: str | None) -> None:
        """Raises OSError where no daemon answers."""
        from ustack.io.client import Client

        self.control: str | None = control
        self.client: Client = Client(control)

    def ask(self, request: RtnlRequest) -> RtnlAnswer:
        return self.client.request(request)

    def events(self, kinds: list[str]) -> Iterator[Event]:
        from ustack.io.client import Client

        with Client(self.control) as watcher:
            yield from watcher.events(kinds)

    def close(self) -> None:
        self.client.close()


class DirectTransport(Transport):
    """A stack in this process. It has no events: those come to a Subscription."""

    def __init__(self, rtnetlink: Rtnetlink) -> None:
        self.rtnetlink: Rtnetlink = rtnetlink

    def ask(self, request: RtnlRequest) -> RtnlAnswer:
        return self.rtnetlink.request(request)
