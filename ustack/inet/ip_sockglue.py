"""SOL_IP options (Linux net/ipv4/ip_sockglue.c, do_ip_setsockopt and do_ip_getsockopt)."""

from __future__ import annotations

import errno
from struct import Struct
from typing import TYPE_CHECKING, Final

from mypy_extensions import i64

from ustack.error_queue import IP_RECVERR as IP_RECVERR
from ustack.inet.family import SOCK_RAW, SOCK_STREAM
from ustack.inet.security import CAP_NET_ADMIN, CAP_NET_RAW
from ustack.inet.sockaddr import INADDR_ANY
from ustack.ipv4.options import ip_options_get
from ustack.routing.flow import rt_tos2priority
from ustack.sock import error, octets_value
from ustack.tcp.ecn import INET_ECN_MASK
from ustack.wire.ipv4 import IP_HLEN

if TYPE_CHECKING:
    from ustack.device.core import Devices
    from ustack.inet.socket import Socket
    from ustack.ipv4.options import IpOptions
    from ustack.net import Net
    from ustack.sock import Sock

# include/uapi/linux/in.h
IP_TOS: Final = 1
IP_TTL: Final = 2
IP_HDRINCL: Final = 3
IP_OPTIONS: Final = 4
IP_PKTINFO: Final = 8
IP_MTU_DISCOVER: Final = 10
IP_MTU: Final = 14
IP_FREEBIND: Final = 15
IP_TRANSPARENT: Final = 19
IP_MINTTL: Final = 21
IP_NODEFRAG: Final = 22
IP_BIND_ADDRESS_NO_PORT: Final = 24
IP_MULTICAST_IF: Final = 32
IP_MULTICAST_TTL: Final = 33
IP_MULTICAST_LOOP: Final = 34

IP_PMTUDISC_OMIT: Final = 5
_INT: Final = Struct("=i")
#: struct ip_mreqn: imr_multiaddr, imr_address (network order), and in the machine's order imr_ifindex.
_ADDR: Final = Struct("!I")

#: Options that are one flag of Sock, and for which an empty value is an error.
_FLAGS: Final = {
    IP_FREEBIND: "freebind",
    IP_TRANSPARENT: "transparent",
    IP_MULTICAST_LOOP: "mc_loop",
}
#: The same where an empty value means 0.
_LOOSE_FLAGS: Final = {
    IP_RECVERR: "recverr",
    IP_PKTINFO: "recv_pktinfo",
    IP_HDRINCL: "hdrincl",
    IP_NODEFRAG: "nodefrag",
    IP_BIND_ADDRESS_NO_PORT: "bind_address_no_port",
}
#: Options that are one number of Sock, as getsockopt answers it.
_NUMBERS: Final = {
    IP_TOS: "tos",
    IP_MTU_DISCOVER: "pmtudisc",
    IP_MINTTL: "min_ttl",
    IP_MULTICAST_TTL: "mc_ttl",
}


def ip_value(value: int | bytes) -> int:
    """An int of four bytes or an unsigned char of one; "If optlen==0, it is equivalent to val == 0"."""
    if isinstance(value, int):
        return value
    if len(value) >= _INT.size:
        number: int = _INT.unpack_from(value)[0]
        return number
    return value[0] if value else 0


class IpSockOptions:
    """The IP level of one stack's sockets."""

    def __init__(self, net: Net, devices: Devices) -> None:
        self.net: Net = net
        self.devices: Devices = devices

    def ip_setsockopt(self, sock: Socket, name: i64, value: int | bytes) -> None:
        """Raises ENOPROTOOPT, EINVAL, EPERM, EADDRNOTAVAIL."""
        if name == IP_MULTICAST_IF:
            return self._set_multicast_if(sock, value)
        if name == IP_OPTIONS:
            return set_options(sock, value)
        flag = _LOOSE_FLAGS.get(name)
        if flag is not None:
            return set_loose_flag(sock.sk, name, flag, ip_value(value) != 0)
        if name == IP_TOS:
            return set_tos(sock.sk, ip_value(value) & 0xFF)
        if name == IP_MTU_DISCOVER:
            sock.sk.pmtudisc = within(ip_value(value), 0, IP_PMTUDISC_OMIT)
            return
        # from here on Linux insists on at least one byte
        if value == b"":
            raise error(errno.EINVAL if self._known(name) else errno.ENOPROTOOPT)
        flag = _FLAGS.get(name)
        if flag is not None:
            return set_flag(sock, name, flag, ip_value(value) != 0)
        set_number(sock, name, ip_value(value))

    def _known(self, name: i64) -> bool:
        return name in _FLAGS or name in (IP_TTL, IP_MINTTL, IP_MULTICAST_TTL)

    def _set_multicast_if(self, sock: Socket, value: int | bytes) -> None:
        """struct ip_mreqn, struct ip_mreq or an address: the device that multicasts leave by."""
        sk = sock.sk
        value = octets_value(value)
        if sk.sock_type == SOCK_STREAM or len(value) < _ADDR.size:
            raise error(errno.EINVAL)
        # an address alone is the interface's, in the two structures the interface's comes second
        at = 4 if len(value) >= 8 else 0
        addr: i64 = _ADDR.unpack_from(value, at)[0]
        index: i64 = _INT.unpack_from(value, 8)[0] if len(value) >= 12 else 0
        if index == 0 and addr != INADDR_ANY:
            index = self._ip_dev_find(addr)
        elif index != 0 and self.devices.by_index(index) is None:
            raise error(errno.EADDRNOTAVAIL)
        if index != 0 and sk.bound_dev_if != 0 and index != sk.bound_dev_if:
            raise error(errno.EINVAL)
        sk.mc_index = index
        sk.mc_addr = addr

    def _ip_dev_find(self, addr: i64) -> i64:
        """Index of the device that has ``addr``. EADDRNOTAVAIL if none has."""
        for dev in self.devices.all():
            for address in dev.addresses:
                if address.local == addr:
                    return dev.ifindex
        raise error(errno.EADDRNOTAVAIL)

    def ip_getsockopt(self, sock: Socket, name: i64) -> int | bytes:
        """Raises ENOPROTOOPT; ENOTCONN for IP_MTU without a route."""
        sk = sock.sk
        flag = _FLAGS.get(name) or _LOOSE_FLAGS.get(name)
        if flag is not None:
            return int(getattr(sk, flag))
        number = _NUMBERS.get(name)
        if number is not None:
            return int(getattr(sk, number))
        if name == IP_TTL:
            return self.net.sysctl.ip_default_ttl if sk.uc_ttl == -1 else sk.uc_ttl
        if name == IP_MULTICAST_IF:
            return _ADDR.pack(sk.mc_addr)
        if name == IP_OPTIONS:
            return b"" if sk.inet_opt is None else ip_options_undo(sk.inet_opt)
        if name == IP_MTU:
            if sk.dst_cache is None:
                raise error(errno.ENOTCONN)
            return sk.dst_cache.mtu
        raise error(errno.ENOPROTOOPT)


def within(number: int, low: int, high: int) -> int:
    """``number``, or EINVAL outside of [low, high]."""
    if not low <= number <= high:
        raise error(errno.EINVAL)
    return number


def check_raw_only(sk: Sock, name: i64) -> None:
    """ENOPROTOOPT for the options that only raw sockets have."""
    if (name == IP_HDRINCL or name == IP_NODEFRAG) and sk.sock_type != SOCK_RAW:
        raise error(errno.ENOPROTOOPT)


def set_loose_flag(sk: Sock, name: i64, attribute: str, on: bool) -> None:
    check_raw_only(sk, name)
    setattr(sk, attribute, on)


def set_flag(sock: Socket, name: i64, attribute: str, on: bool) -> None:
    """IP_TRANSPARENT lets a socket be anybody, hence the right."""
    may = sock.cred.capable(CAP_NET_RAW) or sock.cred.capable(CAP_NET_ADMIN)
    if name == IP_TRANSPARENT and on and not may:
        raise error(errno.EPERM)
    setattr(sock.sk, attribute, on)


def set_number(sock: Socket, name: i64, number: int) -> None:
    sk = sock.sk
    if name == IP_TTL:
        sk.uc_ttl = -1 if number == -1 else within(number, 1, 255)
    elif name == IP_MINTTL:
        sk.min_ttl = within(number, 0, 255)
    elif name == IP_MULTICAST_TTL:
        if sk.sock_type == SOCK_STREAM:
            raise error(errno.EINVAL)
        sk.mc_ttl = within(1 if number == -1 else number, 0, 255)
    else:
        raise error(errno.ENOPROTOOPT)


def set_options(sock: Socket, value: int | bytes) -> None:
    """Options for every packet, as in a header; none at all undoes it. EINVAL for what no header could carry."""
    raw = octets_value(value)
    sock.sk.inet_opt = ip_options_get(raw, sock.cred.capable(CAP_NET_RAW)) if raw else None
    sock.sk.options_changed()


def ip_options_undo(opt: IpOptions) -> bytes:
    """Options as the user gave them: compiled ones have their pointers moved and their first hop taken out."""
    data = bytearray(opt.data)
    if opt.srr:
        at = opt.srr - IP_HLEN
        end = at + data[at + 1]
        data[at + 7 : end] = data[at + 3 : end - 4]
        data[at + 3 : at + 7] = int(opt.faddr).to_bytes(4, "big")
    if opt.rr_needaddr:
        _take_back(data, opt.rr - IP_HLEN)
    if opt.ts_needtime:
        _take_back(data, opt.ts - IP_HLEN)
    if opt.ts_needaddr:
        _take_back(data, opt.ts - IP_HLEN)
    return bytes(data)


def _take_back(data: bytearray, at: i64) -> None:
    """The pointer of the option at ``at`` four bytes back, and the slot there empty."""
    data[at + 2] -= 4
    slot = at + data[at + 2] - 1
    data[slot : slot + 4] = bytes(4)


def set_tos(sk: Sock, tos: i64) -> None:
    """__ip_sock_set_tos: the priority follows; a stream keeps the ECN bits that its connection negotiated."""
    if sk.sock_type == SOCK_STREAM:
        tos = tos & ~INET_ECN_MASK | sk.tos & INET_ECN_MASK
    if tos != sk.tos:
        sk.tos = tos
        sk.priority = rt_tos2priority(tos)
        sk.dst_cache = None
