"""The AF_INET family: inet_create and the operations of its sockets (Linux net/ipv4/af_inet.c)."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

from mypy_extensions import i64

from ustack.dst import RTN_BROADCAST, RTN_LOCAL, RTN_MULTICAST
from ustack.error_queue import inet_recv_error
from ustack.inet.family import SOCK_RAW, NetProtoFamily
from ustack.inet.protosw import INET_PROTOSW_REUSE, IPPROTO_MAX, Inetsw
from ustack.inet.security import CAP_NET_BIND_SERVICE, CAP_NET_RAW, Cred, Security
from ustack.inet.sockaddr import AF_INET, AF_UNSPEC, INADDR_ANY, SockaddrIn
from ustack.inet.socket import (
    NO_PORT,
    SS_CONNECTED,
    SS_CONNECTING,
    SS_DISCONNECTING,
    SS_UNCONNECTED,
    ProtoOps,
    Socket,
)
from ustack.sock import (
    MSG_ERRQUEUE,
    MSG_FASTOPEN,
    RCV_SHUTDOWN,
    SHUTDOWN_MASK,
    STATE_NAMES,
    TCP_CLOSE,
    TCP_LISTEN,
    TCP_SYN_RECV,
    TCP_SYN_SENT,
    Sock,
    error,
)
from ustack.tcp.control import TFO_CLIENT_ENABLE
from ustack.trace.points import Point

if TYPE_CHECKING:
    from ustack.inet.options import SocketOptions
    from ustack.neighbour.table import AddressOracle
    from ustack.net import Net
    from ustack.packet import Buffer
    from ustack.sock import Message

#: States in which a peer's address may be there already, and is not shown yet.
_NO_PEER_YET: Final = (TCP_CLOSE, TCP_SYN_SENT)


class InetFamily(NetProtoFamily):
    """inet_family_ops with the inetsw table it creates sockets from."""

    def __init__(self, security: Security) -> None:
        super().__init__(AF_INET)
        self.security: Security = security
        self.inetsw = Inetsw()

    def create(self, sock_type: i64, protocol: i64, cred: Cred) -> Socket:
        """inet_create: EINVAL for a protocol number that cannot be, then the table's errors, then EPERM."""
        if not 0 <= protocol < IPPROTO_MAX:
            raise error(errno.EINVAL)
        answer = self.inetsw.lookup(sock_type, protocol)
        if sock_type == SOCK_RAW and not cred.capable(CAP_NET_RAW):
            raise error(errno.EPERM)
        sk = answer.prot.new_sock(protocol or answer.protocol)
        sk.uid = cred.uid
        if answer.flags & INET_PROTOSW_REUSE:
            sk.reuseaddr = True
        return Socket(sock_type, answer.ops, sk, cred, self.security)


class InetOps(ProtoOps):
    """What streams, datagrams and raw sockets do alike."""

    def __init__(self, net: Net, addresses: AddressOracle, options: SocketOptions) -> None:
        self.net: Net = net
        self.addresses: AddressOracle = addresses
        self.options: SocketOptions = options

    def release(self, sock: Socket) -> None:
        """inet_release; SO_LINGER is the protocol's to honour, it never makes close wait here."""
        if self.net.tracer is not None:
            self.net.tracer.note(Point.INET_RELEASE, "" if sock.sk.linger < 0 else f"linger {sock.sk.linger} s")
        sock.sk.close()

    def getname(self, sock: Socket, peer: bool) -> SockaddrIn:
        """inet_getname: ENOTCONN for the peer of a socket that has none, or does not have it yet."""
        sk = sock.sk
        if not peer:
            return SockaddrIn(sk.rcv_saddr or sk.saddr, sk.num or sk.sport)
        if sk.dport == 0 or sk.state in _NO_PEER_YET:
            raise error(errno.ENOTCONN)
        return SockaddrIn(sk.daddr, sk.dport)

    def shutdown(self, sock: Socket, how: i64) -> None:
        """inet_shutdown. ``how`` 0, 1, 2 become the bits 1, 2, 3."""
        how += 1
        if how & ~SHUTDOWN_MASK or how == 0:
            raise error(errno.EINVAL)
        sk = sock.sk
        if self.net.tracer is not None:
            self.net.tracer.note(Point.INET_SHUTDOWN, STATE_NAMES[int(sk.state)])
        if sock.state == SS_CONNECTING:
            unfinished = sk.state in (TCP_SYN_SENT, TCP_SYN_RECV, TCP_CLOSE)
            sock.state = SS_DISCONNECTING if unfinished else SS_CONNECTED
        if sk.state == TCP_LISTEN:
            if how & RCV_SHUTDOWN:
                self.disconnect(sock)
        elif sk.state == TCP_SYN_SENT:
            self.disconnect(sock)
        elif sk.state == TCP_CLOSE:
            # not connected, yet the bits stick: whoever polls an unconnected socket is to see the hang-up
            sk.shutdown |= how
            sk.observer.state_change(sk)
            raise error(errno.ENOTCONN)
        else:
            sk.shutdown_how(how)
            sk.shutdown |= how
        sk.observer.state_change(sk)

    def disconnect(self, sock: Socket) -> None:
        """sk_prot->disconnect, and what it makes of the socket."""
        sock.state = SS_DISCONNECTING
        sock.sk.disconnect()
        sock.state = SS_UNCONNECTED

    def autobind(self, sk: Sock) -> None:
        """A local port for a socket that sends without one (inet_autobind). EAGAIN if there is none left."""
        try:
            sk.get_port(0)
        except OSError:
            raise error(errno.EAGAIN) from None
        if self.net.tracer is not None:
            self.net.tracer.note(Point.INET_AUTOBIND, f"port {sk.num}")

    def sendmsg(self, sock: Socket, data: Buffer, flags: i64, addr: i64, port: i64) -> int:
        """inet_sendmsg."""
        sk = sock.sk
        if self.net.tracer is not None:
            self.net.tracer.note(Point.INET_SENDMSG, "bound" if sk.num else "not bound")
        if sk.num == 0:
            self.autobind(sk)
        return sk.sendmsg(data, flags, addr, port)

    def recvmsg(self, sock: Socket, length: i64, flags: i64) -> Message:
        if flags & MSG_ERRQUEUE:
            return inet_recv_error(sock.sk, length)
        if self.net.tracer is not None:
            self.net.tracer.note(Point.INET_RECVMSG)
        return sock.sk.recvmsg(length, flags)

    def setsockopt(self, sock: Socket, level: i64, name: i64, value: int | bytes) -> None:
        self.options.setsockopt(sock, level, name, value)

    def getsockopt(self, sock: Socket, level: i64, name: i64, room: i64) -> int | bytes:
        return self.options.getsockopt(sock, level, name, room)

    # -- bind

    def bind(self, sock: Socket, address: SockaddrIn) -> None:
        """inet_bind: the hook that may rewrite the address, then the checks of __inet_bind in their order."""
        sock.security.call_int_hook(lambda module: module.inet4_bind(sock, address))
        self.check_family(address)
        rt_type = self.addresses.inet_addr_type(address.addr)
        self.check_address(sock.sk, address.addr, rt_type)
        self.check_port(sock.cred, address.port)
        self.check_unbound(sock.sk)
        set_addresses(sock.sk, address.addr, rt_type)
        self.take_port(sock, address.port)
        finish_bind(sock.sk, address.port)

    def check_family(self, address: SockaddrIn) -> None:
        """ "Compatibility games: accept AF_UNSPEC (mapped to AF_INET) only if s_addr is INADDR_ANY"."""
        if address.family != AF_INET and (address.family != AF_UNSPEC or address.addr != INADDR_ANY):
            raise error(errno.EAFNOSUPPORT)

    def check_address(self, sk: Sock, addr: i64, rt_type: i64) -> None:
        """EADDRNOTAVAIL for a foreign address (inet_addr_valid_or_nonlocal)."""
        if sk.freebind or sk.transparent or self.net.sysctl.ip_nonlocal_bind != 0:
            return
        if addr != INADDR_ANY and rt_type not in (RTN_LOCAL, RTN_MULTICAST, RTN_BROADCAST):
            raise error(errno.EADDRNOTAVAIL)

    def check_port(self, cred: Cred, port: i64) -> None:
        """EACCES for a privileged port without the right (inet_port_requires_bind_service)."""
        privileged = 0 < port < self.net.sysctl.ip_unprivileged_port_start
        if privileged and not cred.capable(CAP_NET_BIND_SERVICE):
            raise error(errno.EACCES)

    def check_unbound(self, sk: Sock) -> None:
        """EINVAL: "Check these errors (active socket, double bind)"."""
        if sk.state != TCP_CLOSE or sk.num != 0:
            raise error(errno.EINVAL)

    def take_port(self, sock: Socket, port: i64) -> None:
        """The protocol's get_port, and the hook after it; every failure leaves the socket unbound."""
        sk = sock.sk
        if port == 0 and sk.bind_address_no_port:
            return
        try:
            sk.get_port(port)
        except OSError:
            sk.saddr = sk.rcv_saddr = 0
            raise error(errno.EADDRINUSE) from None
        try:
            sock.security.call_int_hook(lambda module: module.inet4_post_bind(sock))
        except OSError:
            sk.saddr = sk.rcv_saddr = 0
            sk.put_port()
            raise


def set_addresses(sk: Sock, addr: i64, rt_type: i64) -> None:
    """rcv_saddr "is the one used by hash lookups, and saddr is used for transmit"; they differ for groups."""
    sk.rcv_saddr = addr
    sk.saddr = 0 if rt_type in (RTN_MULTICAST, RTN_BROADCAST) else addr


def finish_bind(sk: Sock, port: i64) -> None:
    """What a successful bind leaves: locks on what was asked for, no peer, no route."""
    if sk.rcv_saddr != INADDR_ANY:
        sk.bound_addr = True
    if port != 0:
        sk.bound_port = True
    sk.sport = sk.num
    sk.daddr = 0
    sk.dport = 0
    sk.dst_cache = None


class InetStreamOps(InetOps):
    """inet_stream_ops: TCP."""

    def connect(self, sock: Socket, address: SockaddrIn) -> None:
        """__inet_stream_connect for a caller that never waits."""
        if address.family == AF_UNSPEC:
            return self.disconnect(sock)
        code = self._start_connect(sock, address)
        sk = sock.sk
        if sk.defer_connect:
            return None  # TCP_FASTOPEN_CONNECT: the first send will carry the SYN
        if sk.state == TCP_SYN_SENT or sk.state == TCP_SYN_RECV:
            raise error(code)
        if sk.state == TCP_CLOSE:
            self._connect_failed(sock)
        sock.state = SS_CONNECTED

    def _connect_failed(self, sock: Socket) -> None:
        """ "Connection was closed by RST, timeout, ICMP error or another process disconnected us." """
        code = int(sock.sk.take_error()) or errno.ECONNABORTED
        self.disconnect(sock)
        raise error(code)

    def _start_connect(self, sock: Socket, address: SockaddrIn) -> int:
        """Judge the socket's state and set out if it has not; the errno for "not finished yet"."""
        if sock.state == SS_CONNECTING and sock.sk.defer_connect:
            raise error(errno.EISCONN)
        if sock.state == SS_CONNECTING:
            return errno.EALREADY
        if sock.state == SS_CONNECTED:
            raise error(errno.EISCONN)
        if sock.state != SS_UNCONNECTED:
            raise error(errno.EINVAL)
        if sock.sk.state != TCP_CLOSE:
            raise error(errno.EISCONN)
        if address.family != AF_INET:
            raise error(errno.EAFNOSUPPORT)
        if self.net.tracer is not None:
            self.net.tracer.note(Point.INET_STREAM_CONNECT, STATE_NAMES[int(sock.sk.state)])
        sock.sk.connect(address.addr, address.port)
        sock.state = SS_CONNECTING
        return errno.EINPROGRESS

    def listen(self, sock: Socket, backlog: i64) -> None:
        """inet_listen: the protocol's listen starts, or only changes the backlog where it listens already.

        A socket without a port gets one (inet_csk_listen_start). Raises EINVAL in use, EADDRINUSE if none is left.
        """
        sk = sock.sk
        if sock.state != SS_UNCONNECTED or (sk.state != TCP_CLOSE and sk.state != TCP_LISTEN):
            raise error(errno.EINVAL)
        if sk.num == 0:
            sk.get_port(0)
        sk.listen(backlog)

    def accept(self, sock: Socket) -> Sock:
        if sock.sk.state != TCP_LISTEN:
            raise error(errno.EINVAL)
        return sock.sk.accept()

    def sendmsg(self, sock: Socket, data: Buffer, flags: i64, addr: i64, port: i64) -> int:
        """A stream is never bound by sending (sk_prot->no_autobind), and goes to its peer whatever the address.

        But MSG_FASTOPEN is a connect to it: EISCONN for who has done so before.
        """
        sk = sock.sk
        if self.net.tracer is not None:
            self.net.tracer.note(Point.INET_STREAM_SENDMSG, STATE_NAMES[int(sk.state)])
        if not flags & MSG_FASTOPEN:
            return sk.sendmsg(data, flags, 0, NO_PORT)
        if self.net.sysctl.tcp_fastopen & TFO_CLIENT_ENABLE:
            self._check_fastopen(sock)
        try:
            return sk.sendmsg(data, flags, addr, port)
        finally:
            if sock.state == SS_UNCONNECTED and sk.state == TCP_SYN_SENT:
                sock.state = SS_CONNECTING
            elif sock.state == SS_CONNECTING and sk.state not in (TCP_SYN_SENT, TCP_SYN_RECV, TCP_CLOSE):
                sock.state = SS_CONNECTED

    def _check_fastopen(self, sock: Socket) -> None:
        """Whether a connect may follow in this state of the socket, as __inet_stream_connect judges it."""
        sk = sock.sk
        if sock.state == SS_CONNECTED or (sock.state == SS_UNCONNECTED and sk.state != TCP_CLOSE):
            raise error(errno.EISCONN)
        if sock.state == SS_DISCONNECTING:
            raise error(errno.EINVAL)
        if sock.state == SS_CONNECTING and sk.state == TCP_CLOSE:
            self._connect_failed(sock)


class InetDgramOps(InetOps):
    """inet_dgram_ops: UDP."""

    def connect(self, sock: Socket, address: SockaddrIn) -> None:
        """inet_dgram_connect, and the family check of __ip4_datagram_connect."""
        sk = sock.sk
        if address.family == AF_UNSPEC:
            sk.disconnect()
            return
        if sk.num == 0:
            self.autobind(sk)
        if address.family != AF_INET:
            raise error(errno.EAFNOSUPPORT)
        sk.connect(address.addr, address.port)


class InetPingOps(InetDgramOps):
    """Ping sockets (inet_sockraw_ops over ping_prot): the port is the echo identifier, so none is privileged."""

    def check_address(self, sk: Sock, addr: i64, rt_type: i64) -> None:
        """ping_check_bind_addr refuses the group addresses too; INADDR_ANY counts among them elsewhere."""
        if addr == INADDR_ANY:
            return
        if rt_type == RTN_MULTICAST or rt_type == RTN_BROADCAST:
            raise error(errno.EADDRNOTAVAIL)
        super().check_address(sk, addr, rt_type)

    def check_port(self, cred: Cred, port: i64) -> None:
        """An identifier, no port."""


class InetSockrawOps(InetDgramOps):
    """inet_sockraw_ops: raw sockets, whose "port" is their protocol."""

    def bind(self, sock: Socket, address: SockaddrIn) -> None:
        """raw_bind: only the address counts, and a second bind may change it."""
        sk = sock.sk
        if sk.state != TCP_CLOSE:
            raise error(errno.EINVAL)
        rt_type = self.addresses.inet_addr_type(address.addr)
        self.check_address(sk, address.addr, rt_type)
        set_addresses(sk, address.addr, rt_type)
        sk.dst_cache = None
