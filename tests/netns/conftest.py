"""Tests with real devices: each in a network namespace of its own, which is gone with the test, however it ended."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest

from ustack.io.host import Host, Namespace, write_sysctl

if TYPE_CHECKING:
    from collections.abc import Iterator


# A shell has its background jobs ignore SIGINT, and programs that we start and interrupt would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def namespace() -> Iterator[Namespace]:
    """The test runs inside a fresh namespace: its loopback is up, and nothing in it speaks unasked (no IPv6)."""
    if not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        pytest.skip("/dev/net/tun is not there or not open to this user")
    try:
        fresh = Namespace.create()
    except PermissionError:
        pytest.skip("no right to make a network namespace: run as root, or under unshare -Urn")
    with fresh:
        write_sysctl("net.ipv6.conf.all.disable_ipv6", "1")
        write_sysctl("net.ipv6.conf.default.disable_ipv6", "1")
        with Host() as host:
            host.set_link("lo", up=True)
        yield fresh
    fresh.close()


@pytest.fixture
def host(namespace: Namespace) -> Iterator[Host]:
    """The kernel of that namespace."""
    with Host() as host:
        yield host
