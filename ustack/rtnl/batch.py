"""Many routes at once (RouteBatch): one fib_info for all of them, and no message for each."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

from ustack.dst import RTN_UNICAST
from ustack.rtnl.handler import check_range
from ustack.rtnl.messages import BATCH_MAX, Loaded, RouteBatch
from ustack.rtnl.route import to_fib_config
from ustack.sock import error

if TYPE_CHECKING:
    from ustack.stack import Stack

PREFIX_BYTES: Final = 5


def load(stack: Stack, batch: RouteBatch) -> Loaded:
    """Insert each of ``batch.prefixes`` like ``batch.like``, whose own prefix does not count.

    EMSGSIZE for more than BATCH_MAX, EINVAL for half a prefix, and what the route itself is refused with.
    """
    count, rest = divmod(len(batch.prefixes), PREFIX_BYTES)
    if rest:
        raise error(errno.EINVAL)
    if count > BATCH_MAX:
        raise error(errno.EMSGSIZE)
    check_range(batch.like, batch.flags)
    cfg = to_fib_config(batch.like)
    cfg.dst = cfg.dst_len = 0
    cfg.rt_type = batch.like.rtype or RTN_UNICAST
    cfg.nlflags = batch.flags
    refused = stack.routing.fib.rtm_newroutes(cfg, batch.prefixes)
    return Loaded(count - len(refused), refused)
