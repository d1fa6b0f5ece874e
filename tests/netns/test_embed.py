"""A stack inside the program, on a real TAP, talking to the kernel; both in one thread."""

from __future__ import annotations

import errno
import socket as kernel
from typing import TYPE_CHECKING

import pytest

import ustack
from tests.netns.daemon import HOST, PATIENCE, STACK

if TYPE_CHECKING:
    from ustack.io.host import Host, Namespace


def test_a_connection_to_the_kernel(namespace: Namespace, host: Host) -> None:
    with ustack.Stack(tap="us0", addr=f"{STACK}/24", host_addr=f"{HOST}/24") as stack:
        with kernel.create_server((HOST, 0)) as server, stack.create_connection(server.getsockname()) as sock:
            theirs, peer = server.accept()
            assert peer == sock.getsockname()
            with theirs:
                sock.sendall(b"muffin")
                assert theirs.recv(100) == b"muffin"
                theirs.sendall(b"crumbs")
                assert sock.recv(100) == b"crumbs"
            assert sock.recv(100) == b""
        assert host.has_link("us0")
    assert not host.has_link("us0")


def test_a_server_for_the_kernel(namespace: Namespace) -> None:
    with ustack.Stack(tap="us0", addr=f"{STACK}/24", host_addr=f"{HOST}/24") as stack:
        server = stack.create_server((STACK, 80))
        with kernel.socket() as client:
            client.setblocking(False)
            assert client.connect_ex((STACK, 80)) == errno.EINPROGRESS
            ours, peer = server.accept()
            client.settimeout(PATIENCE)
            assert peer == client.getsockname()
            client.sendall(b"question")
            assert ours.recv(100) == b"question"
            ours.sendall(b"answer")
            stack.run(0.01)
            assert client.recv(100) == b"answer"


def test_a_socket_may_be_closed_after_its_stack(namespace: Namespace) -> None:
    with ustack.Stack(tap="us0", addr=f"{STACK}/24", host_addr=f"{HOST}/24") as stack:
        sock = stack.create_server((STACK, 80))
    sock.close()


def test_real_time_runs_out(namespace: Namespace) -> None:
    with ustack.Stack(tap="us0", addr=f"{STACK}/24", host_addr=f"{HOST}/24") as stack:
        sock = stack.socket()
        sock.settimeout(0.05)
        with pytest.raises(TimeoutError):
            sock.connect(("192.0.2.77", 80))


def test_the_tap_is_taken_away(namespace: Namespace, host: Host) -> None:
    with ustack.Stack(tap="us0", addr=f"{STACK}/24", host_addr=f"{HOST}/24") as stack:
        host.delete_link("us0")
        with pytest.raises(OSError) as seen:
            stack.create_connection((HOST, 80), timeout=PATIENCE)
        assert seen.value.errno in (errno.ENODEV, errno.ENETUNREACH)


def test_no_right_to_make_one(namespace: Namespace) -> None:
    with ustack.Stack(tap="us0", addr=f"{STACK}/24"), pytest.raises(OSError) as seen:
        ustack.Stack(tap="us0", addr=f"{STACK}/24")
    assert seen.value.errno == errno.EBUSY
