"""Settings by Linux's names, for whoever asks (ustack sysctl)."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from ustack.rtnl.messages import Ack, GetSysctl, SetSysctl, Settings
from ustack.sock import error

if TYPE_CHECKING:
    from ustack.stack import Stack


class SysctlService:
    def __init__(self, stack: Stack) -> None:
        self.stack: Stack = stack

    def get(self, message: GetSysctl) -> Settings:
        """One setting with its documentation, or all below a name but for those that are only written.

        ENOENT for no such name; EACCES for one setting that is only written.
        """
        table = self.stack.sysctl
        names = table.below(message.name)
        if not names:
            raise error(errno.ENOENT)
        if names == [message.name] and not table.readable(names[0]):
            raise error(errno.EACCES)
        values = {name: table.get(name) for name in names if table.readable(name)}
        return Settings(values, {names[0]: table.doc(names[0])} if len(names) == 1 else {})

    def set(self, message: SetSysctl) -> Ack:
        """ENOENT, EACCES, EINVAL."""
        self.stack.sysctl.set(message.name, message.value)
        return Ack()
