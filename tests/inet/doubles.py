"""A protocol that writes down what it is asked, and a world with one address, for the tests of the socket layer."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from ustack.device.core import Devices
from ustack.dst import RTN_BROADCAST, RTN_LOCAL, RTN_MULTICAST, RTN_UNICAST
from ustack.inet.af_inet import InetDgramOps, InetFamily, InetPingOps, InetSockrawOps, InetStreamOps
from ustack.inet.family import SOCK_DGRAM, SOCK_RAW, SOCK_STREAM, Families
from ustack.inet.ip_sockglue import IpSockOptions
from ustack.inet.options import SocketOptions
from ustack.inet.protosw import (
    INET_PROTOSW_PERMANENT,
    INET_PROTOSW_REUSE,
    IPPROTO_ICMP,
    IPPROTO_IP,
    IPPROTO_TCP,
    IPPROTO_UDP,
    InetProtosw,
    Proto,
)
from ustack.inet.security import ROOT, Cred, Security
from ustack.neighbour.table import AddressOracle
from ustack.net import Net
from ustack.sock import (
    TCP_CLOSE,
    TCP_ESTABLISHED,
    TCP_LISTEN,
    TCP_SYN_SENT,
    Message,
    Sock,
    error,
)

if TYPE_CHECKING:
    from ustack.device.net_device import NetDevice
    from ustack.inet.socket import ProtoOps, Socket
    from ustack.packet import Buffer

OURS = 0xC000_0201  # 192.0.2.1
PEER = 0xC000_0202
FOREIGN = 0xCB00_7101  # 203.0.113.1
BROADCAST = 0xC000_02FF
GROUP = 0xE000_0001


class FakeSock(Sock):
    """Obeys, and remembers it in ``calls``; ``taken`` is the set of ports of everybody."""

    def __init__(self, net: Net, sock_type: int, protocol: int, taken: set[int]) -> None:
        super().__init__(net, sock_type, protocol)
        self.calls: list[tuple[object, ...]] = []
        self.taken = taken
        self.children: list[FakeSock] = []
        self.connect_error = 0
        self.inbox: list[bytes] = []
        if sock_type == SOCK_RAW:
            self.num = protocol

    def get_port(self, port: int) -> None:
        if port == 0:
            port = next((free for free in (40_000, 40_001) if free not in self.taken), 0)
        if port == 0 or port in self.taken:
            raise error(errno.EADDRINUSE)
        self.taken.add(port)
        self.num = port

    def put_port(self) -> None:
        self.taken.discard(int(self.num))
        self.num = 0

    def connect(self, addr: int, port: int) -> None:
        if self.connect_error:
            raise error(self.connect_error)
        self.daddr, self.dport = addr, port
        self.state = TCP_SYN_SENT if self.sock_type == SOCK_STREAM else TCP_ESTABLISHED
        self.calls.append(("connect", addr, port))

    def disconnect(self) -> None:
        self.daddr = self.dport = 0
        self.state = TCP_CLOSE
        self.calls.append(("disconnect",))

    def listen(self, backlog: int) -> None:
        self.state = TCP_LISTEN
        self.calls.append(("listen", backlog))

    def accept(self) -> Sock:
        if not self.children:
            raise error(errno.EAGAIN)
        return self.children.pop(0)

    def sendmsg(self, data: Buffer, flags: int, addr: int, port: int) -> int:
        self.calls.append(("sendmsg", bytes(data[:64]), flags, addr, port))
        return len(data)

    def recvmsg(self, length: int, flags: int) -> Message:
        if not self.inbox:
            raise error(errno.EAGAIN)
        return Message(self.inbox.pop(0)[:length], PEER, 7, 0)

    def shutdown_how(self, how: int) -> None:
        self.calls.append(("shutdown", how))

    def set_keepalive(self, on: bool) -> None:
        self.calls.append(("keepalive", on))

    def close(self) -> None:
        self.calls.append(("close",))

    def poll(self) -> int:
        return 0

    def setsockopt(self, level: int, name: int, value: int | bytes, admin: bool = True) -> None:
        if level != 6:
            raise error(errno.ENOPROTOOPT)
        self.calls.append(("setsockopt", name, value))

    def getsockopt(self, level: int, name: int, room: int = 1 << 30) -> int | bytes:
        if level != 6:
            raise error(errno.ENOPROTOOPT)
        return 4711


class FakeProto(Proto):
    def __init__(self, net: Net, sock_type: int) -> None:
        self.net = net
        self.sock_type = sock_type
        self.taken: set[int] = set()

    def new_sock(self, protocol: int) -> Sock:
        return FakeSock(self.net, self.sock_type, protocol, self.taken)


class OneAddress(AddressOracle):
    """192.0.2.1/24 is ours."""

    def inet_addr_type(self, addr: int) -> int:
        if addr == OURS:
            return RTN_LOCAL
        if addr in (0, 0xFFFF_FFFF, BROADCAST):
            return RTN_BROADCAST
        return RTN_MULTICAST if addr >> 28 == 0xE else RTN_UNICAST

    def select_source(self, dev: NetDevice, dst: int) -> int:
        return OURS


class World:
    """The socket layer over FakeSock, registered as the stack registers the real protocols."""

    def __init__(self) -> None:
        self.net = Net(bytes(16))
        self.devices = Devices(self.net)
        self.security = Security()
        self.families = Families(self.security)
        self.inet = InetFamily(self.security)
        self.families.sock_register(self.inet)
        options = SocketOptions(self.net, self.devices, IpSockOptions(self.net, self.devices))
        oracle = OneAddress()
        self._register(SOCK_STREAM, IPPROTO_TCP, InetStreamOps(self.net, oracle, options), INET_PROTOSW_PERMANENT)
        self._register(SOCK_DGRAM, IPPROTO_UDP, InetDgramOps(self.net, oracle, options), INET_PROTOSW_PERMANENT)
        self._register(SOCK_DGRAM, IPPROTO_ICMP, InetPingOps(self.net, oracle, options), INET_PROTOSW_REUSE)
        self._register(SOCK_RAW, IPPROTO_IP, InetSockrawOps(self.net, oracle, options), INET_PROTOSW_REUSE)

    def _register(self, sock_type: int, protocol: int, ops: ProtoOps, flags: int) -> None:
        entry = InetProtosw(sock_type, protocol, FakeProto(self.net, sock_type), ops, flags)
        self.inet.inetsw.inet_register_protosw(entry)

    def socket(self, sock_type: int, protocol: int = 0, cred: Cred = ROOT) -> Socket:
        return self.families.sock_create(2, sock_type, protocol, cred)


def fake(sock: Socket) -> FakeSock:
    """The double under ``sock``."""
    sk = sock.sk
    assert isinstance(sk, FakeSock)
    return sk
