"""Changes, told to those who watch (Linux rtnl_notify, and the socket queues behind it).

Each watcher has a queue with a limit; what does not fit is counted and the next event says so (the kernel's ENOBUFS).
While nobody watches a change costs one look at an empty list.
"""

from __future__ import annotations

import errno
from collections import deque
from typing import TYPE_CHECKING, Final

from ustack.net import (
    RTM_DELADDR,
    RTM_DELLINK,
    RTM_DELNEIGH,
    RTM_DELNEXTHOP,
    RTM_DELROUTE,
    RTM_DELRULE,
    RTM_GETNEIGH,
    RTM_NEWADDR,
    RTM_NEWLINK,
    RTM_NEWNEIGH,
    RTM_NEWNETCONF,
    RTM_NEWNEXTHOP,
    RTM_NEWROUTE,
    RTM_NEWRULE,
    RtnlWatcher,
)
from ustack.rtnl.messages import Event
from ustack.sock import error

if TYPE_CHECKING:
    from collections.abc import Callable

    from ustack.net import Net
    from ustack.rtnl.messages import Object

#: Events that wait for one watcher.
EVENTS_MAX: Final = 4096
WATCHERS_MAX: Final = 64
#: What an event is about, and whether it is gone.
KINDS: Final = {
    RTM_NEWLINK: ("link", False),
    RTM_DELLINK: ("link", True),
    RTM_NEWADDR: ("addr", False),
    RTM_DELADDR: ("addr", True),
    RTM_NEWROUTE: ("route", False),
    RTM_DELROUTE: ("route", True),
    RTM_NEWRULE: ("rule", False),
    RTM_DELRULE: ("rule", True),
    RTM_NEWNEIGH: ("neigh", False),
    RTM_DELNEIGH: ("neigh", True),
    RTM_GETNEIGH: ("neigh", False),
    RTM_NEWNEXTHOP: ("nexthop", False),
    RTM_DELNEXTHOP: ("nexthop", True),
    RTM_NEWNETCONF: ("netconf", False),
}


class Subscription:
    """One who watches: events wait here until they are taken."""

    def __init__(self, kinds: list[str]) -> None:
        """EINVAL for a kind that is none; no ``kinds`` means all."""
        known = {kind for kind, _ in KINDS.values()}
        if not known.issuperset(kinds):
            raise error(errno.EINVAL)
        self.kinds: frozenset[str] = frozenset(kinds or known)
        self.events: deque[Event] = deque()
        self.lost: int = 0  #: since the last event that was queued

    def room(self) -> bool:
        """Whether one more event fits; if not it is lost."""
        if len(self.events) < EVENTS_MAX:
            return True
        self.lost += 1
        return False

    def queue(self, what: Object, deleted: bool, asked: bool) -> None:
        self.events.append(Event(what, deleted, self.lost, asked))
        self.lost = 0
        self.heard()

    def heard(self) -> None:
        """There is something to take; called while the stack works."""


class Monitors(RtnlWatcher):
    """All who watch one stack."""

    def __init__(self, net: Net, describe: Callable[[str, object], Object]) -> None:
        """``describe`` makes the message of what has changed, by its kind."""
        self.net: Net = net
        self.describe: Callable[[str, object], Object] = describe
        self.subscriptions: list[Subscription] = []

    def subscribe(self, subscription: Subscription) -> None:
        """Tell ``subscription`` from now on. ENOBUFS for one too many."""
        if len(self.subscriptions) >= WATCHERS_MAX:
            raise error(errno.ENOBUFS)
        if not self.subscriptions:
            self.net.rtnl_watchers.append(self)
        self.subscriptions.append(subscription)

    def unsubscribe(self, subscription: Subscription) -> None:
        """Not an error if it was told already."""
        if subscription in self.subscriptions:
            self.subscriptions.remove(subscription)
            if not self.subscriptions:
                self.net.rtnl_watchers.remove(self)

    def changed(self, event: int, what: object) -> None:
        kind, deleted = KINDS[event]
        asked = event == RTM_GETNEIGH
        wanted = [each for each in self.subscriptions if kind in each.kinds]
        ready = [each for each in wanted if each.room()]
        if ready:
            message = self.describe(kind, what)
            for each in ready:
                each.queue(message, deleted, asked)
