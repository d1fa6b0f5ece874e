"""What other processes ask of sockets over the control socket: all of them (inet_diag), options with a room, ioctls."""

from __future__ import annotations

import errno
import socket
import struct
from typing import TYPE_CHECKING

from tests.io.test_server import guest, house  # noqa: F401  # fixtures
from ustack.io import control
from ustack.io.services import Echo
from ustack.sock import SIOCINQ, SIOCOUTQ
from ustack.tcp.info import unpack_info

if TYPE_CHECKING:
    from tests.io.test_server import Guest, House

TCP_CONGESTION, TCP_INFO, TCP_MAXSEG = 13, 11, 2
LISTEN = 1 << 10


def option(guest: Guest, socket_id: int, name: int, room: int | None) -> int | bytes:  # noqa: F811
    answer = guest.ask(control.GetOption(socket_id, socket.IPPROTO_TCP, name, room))
    assert isinstance(answer, control.Option)
    return answer.value


def test_options_as_getsockopt_writes_them(house: House, guest: Guest) -> None:  # noqa: F811
    Echo(house.loop)
    socket_id, far = guest.connect(7)
    mss = option(guest, socket_id, TCP_MAXSEG, None)
    assert isinstance(mss, int) and 536 < mss <= 65_495, "the number"
    assert option(guest, socket_id, TCP_MAXSEG, 2) == struct.pack("=H", mss), "as many bytes as there is room for"
    info = option(guest, socket_id, TCP_INFO, 1000)
    assert isinstance(info, bytes) and unpack_info(info)["state"] == 1
    request = control.SetOption(socket_id, socket.IPPROTO_TCP, TCP_CONGESTION, b"reno")
    assert guest.ask(request) == control.Done()
    assert option(guest, socket_id, TCP_CONGESTION, 4) == b"reno"
    assert guest.failure(control.SetOption(socket_id, 6, TCP_CONGESTION, b"none")) == errno.ENOENT
    assert guest.failure(control.GetOption(socket_id, 6, TCP_MAXSEG, -1)) == errno.EINVAL
    far.close()


def test_ioctls(house: House, guest: Guest) -> None:  # noqa: F811
    Echo(house.loop)
    socket_id, far = guest.connect(7)
    assert guest.ask(control.Ioctl(socket_id, SIOCINQ)) == control.Option(0)
    assert guest.ask(control.Ioctl(socket_id, SIOCOUTQ)) == control.Option(0)
    assert guest.failure(control.Ioctl(socket_id, 1)) == errno.ENOTTY
    far.close()


def test_all_sockets_with_what_ss_shows(house: House, guest: Guest) -> None:  # noqa: F811
    Echo(house.loop)
    _, far = guest.connect(7)
    answer = guest.ask(control.GetSockets(["tcp", "udp", "raw"]))
    assert isinstance(answer, control.Sockets)
    found = sorted((diag.kind, diag.state) for diag in answer.sockets)
    assert found == [("tcp", 1), ("tcp", 1), ("tcp", 10)]
    ours = next(diag for diag in answer.sockets if diag.rport == 7)
    assert ours.congestion == "cubic" and ours.info["snd_mss"] > 0 and len(ours.meminfo) == 9 and ours.cookie > 0
    only = guest.ask(control.GetSockets(["tcp"], LISTEN))
    assert isinstance(only, control.Sockets) and [diag.lport for diag in only.sockets] == [7]
    far.close()


def test_more_sockets_than_a_message_holds(house: House, guest: Guest) -> None:  # noqa: F811
    """They come in parts."""
    held = [house.loop.stack.socket() for _ in range(200)]
    for number, sock in enumerate(held):
        sock.bind(("", 10_000 + number))
        sock.listen(1)
    answer = guest.ask(control.GetSockets(["tcp"]))
    assert isinstance(answer, control.Sockets) and len(answer.sockets) == 200
    for sock in held:
        sock.close()
