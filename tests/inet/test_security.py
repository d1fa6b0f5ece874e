"""Security hooks: every call asks them, the first non-zero answer is the error (security/security.c, call_int_hook)."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import pytest

from tests.inet.doubles import World, fake
from ustack.inet.family import SOCK_DGRAM, SOCK_STREAM
from ustack.inet.security import CAP_FULL_SET, CAP_NET_ADMIN, CAP_NET_RAW, NOBODY_CRED, ROOT, Cred, SecurityModule

if TYPE_CHECKING:
    from collections.abc import Callable

    from ustack.inet.sockaddr import SockaddrIn
    from ustack.inet.socket import Socket


class Recorder(SecurityModule):
    """Writes down what it is asked and refuses one hook with ``code``."""

    def __init__(self, refuse: str = "", code: int = errno.EACCES) -> None:
        self.asked: list[str] = []
        self.refuse = refuse
        self.code = code

    def answer(self, hook: str) -> int:
        self.asked.append(hook)
        return self.code if hook == self.refuse else 0

    def socket_create(self, family: int, sock_type: int, protocol: int, cred: Cred) -> int:
        return self.answer("create")

    def socket_post_create(self, sock: Socket) -> int:
        return self.answer("post_create")

    def socket_bind(self, sock: Socket, address: SockaddrIn) -> int:
        return self.answer("bind")

    def socket_connect(self, sock: Socket, address: SockaddrIn) -> int:
        return self.answer("connect")

    def socket_listen(self, sock: Socket, backlog: int) -> int:
        return self.answer("listen")

    def socket_accept(self, sock: Socket) -> int:
        return self.answer("accept")

    def socket_sendmsg(self, sock: Socket, size: int) -> int:
        return self.answer(f"sendmsg {size}")

    def socket_recvmsg(self, sock: Socket, size: int, flags: int) -> int:
        return self.answer(f"recvmsg {size}")

    def socket_shutdown(self, sock: Socket, how: int) -> int:
        return self.answer("shutdown")


CALLS: dict[str, Callable[[Socket], object]] = {
    "bind": lambda sock: sock.bind(("", 5000)),
    "connect": lambda sock: sock.connect(("192.0.2.2", 80)),
    "listen": lambda sock: sock.listen(1),
    "accept": lambda sock: sock.accept(),
    "sendmsg 3": lambda sock: sock.send(b"abc"),
    "recvmsg 9": lambda sock: sock.recv(9),
    "shutdown": lambda sock: sock.shutdown(0),
}


@pytest.mark.parametrize("hook", sorted(CALLS))
def test_a_refusal_is_the_error_and_nothing_happens(hook: str) -> None:
    world = World()
    sock = world.socket(SOCK_STREAM)
    world.security.security_add_hooks(Recorder(hook))
    with pytest.raises(OSError) as caught:
        CALLS[hook](sock)
    assert caught.value.errno == errno.EACCES
    assert fake(sock).calls == [] and sock.sk.num == 0


@pytest.mark.parametrize("hook", ["create", "post_create"])
def test_a_socket_can_be_refused_before_and_after_it_is_made(hook: str) -> None:
    world = World()
    world.security.security_add_hooks(Recorder(hook))
    with pytest.raises(OSError) as caught:
        world.socket(SOCK_DGRAM)
    assert caught.value.errno == errno.EACCES


def test_the_hook_is_asked_before_the_family_is_looked_for() -> None:
    world = World()
    module = Recorder("create", errno.EPERM)
    world.security.security_add_hooks(module)
    with pytest.raises(OSError) as caught:
        world.families.sock_create(10, SOCK_DGRAM, 0, ROOT)
    assert caught.value.errno == errno.EPERM


def test_the_first_refusal_ends_the_asking() -> None:
    world = World()
    first, second, third = Recorder(), Recorder("bind", errno.EPERM), Recorder("bind", errno.EACCES)
    sock = world.socket(SOCK_DGRAM)
    for module in (first, second, third):
        world.security.security_add_hooks(module)
    with pytest.raises(OSError) as caught:
        sock.bind(("", 5000))
    assert caught.value.errno == errno.EPERM
    assert (first.asked, second.asked, third.asked) == (["bind"], ["bind"], [])


def test_a_module_that_is_gone_is_not_asked() -> None:
    world = World()
    module = Recorder("bind")
    world.security.security_add_hooks(module)
    assert world.security.active
    world.security.security_delete_hooks(module)
    assert not world.security.active
    world.socket(SOCK_DGRAM).bind(("", 5000))
    assert module.asked == []
    with pytest.raises(ValueError):
        world.security.security_delete_hooks(module)


def test_a_module_that_refuses_nothing_changes_nothing() -> None:
    """The base class is the default answer of every hook: 0."""
    world = World()
    world.security.security_add_hooks(SecurityModule())
    sock = world.socket(SOCK_STREAM)
    sock.bind(("", 5000))
    sock.listen(3)
    sock.shutdown(0)
    sock.send(b"x")
    for code, call in ((errno.EINVAL, sock.accept), (errno.EINPROGRESS, lambda: sock.connect(("192.0.2.2", 1)))):
        with pytest.raises(OSError) as caught:
            call()
        assert caught.value.errno == code
    with pytest.raises(BlockingIOError):
        sock.recv(1)


def test_capabilities() -> None:
    assert all(ROOT.capable(capability) for capability in range(41))
    assert not any(NOBODY_CRED.capable(capability) for capability in range(41))
    one = Cred(1000, 1 << CAP_NET_RAW)
    assert one.capable(CAP_NET_RAW) and not one.capable(CAP_NET_ADMIN)
    assert CAP_FULL_SET == 2**41 - 1
