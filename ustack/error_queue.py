"""The queue beside a socket's data: what became of what was sent (Linux sk_error_queue, struct sock_exterr_skb).

recvmsg with MSG_ERRQUEUE takes from it, and POLLERR says that there is something. It holds completions of MSG_ZEROCOPY
and the times at which bytes were sent and acknowledged (SO_TIMESTAMPING), and the ICMP error that has ended an open. It
is bounded as in Linux: by the receive buffer, at what an skb without data weighs.
"""

from __future__ import annotations

import errno
from collections import deque
from struct import Struct
from typing import Final

from mypy_extensions import i64

from ustack.sock import MSG_ERRQUEUE, MSG_TRUNC, Message, Sock, error
from ustack.timer import NSEC_PER_SEC

SOL_IP: Final = 0
SOL_SOCKET: Final = 1
IP_RECVERR: Final = 11
SCM_TIMESTAMPING: Final = 37

# ee_origin and ee_code (include/uapi/linux/errqueue.h)
SO_EE_ORIGIN_ICMP: Final = 2
SO_EE_ORIGIN_TIMESTAMPING: Final = 4
SO_EE_ORIGIN_ZEROCOPY: Final = 5
SO_EE_CODE_ZEROCOPY_COPIED: Final = 1

# SO_TIMESTAMPING (include/uapi/linux/net_tstamp.h)
SOF_TIMESTAMPING_TX_SOFTWARE: Final[i64] = 1 << 1
SOF_TIMESTAMPING_SOFTWARE: Final[i64] = 1 << 4
SOF_TIMESTAMPING_OPT_ID: Final[i64] = 1 << 7
SOF_TIMESTAMPING_TX_SCHED: Final[i64] = 1 << 8
SOF_TIMESTAMPING_TX_ACK: Final[i64] = 1 << 9
SOF_TIMESTAMPING_OPT_TSONLY: Final[i64] = 1 << 11
SOF_TIMESTAMPING_OPT_STATS: Final[i64] = 1 << 12
SOF_TIMESTAMPING_BIND_PHC: Final[i64] = 1 << 15
SOF_TIMESTAMPING_OPT_ID_TCP: Final[i64] = 1 << 16
SOF_TIMESTAMPING_MASK: Final[i64] = (1 << 19) - 1

# which moment it is (ee_info)
SCM_TSTAMP_SND: Final = 0
SCM_TSTAMP_SCHED: Final = 1
SCM_TSTAMP_ACK: Final = 2

#: SKB_TRUESIZE(0): what an entry is charged as, bytes.
ENTRY_SIZE: Final[i64] = 768

_AF_INET: Final = 2
#: struct sock_extended_err, and the sockaddr_in of an offender, which only an ICMP error has.
_EXTENDED_ERR: Final = Struct("=IBBBxII16x")
_OFFENDER: Final = Struct("=H2x4s8x")
#: struct scm_timestamping: by software, two that are no more or not here.
_TIMESTAMPING: Final = Struct("=qq32x")


class ExtendedError:
    """struct sock_extended_err with its moment (ns, 0 for none) and the bytes of data that it would show."""

    def __init__(self, errno_: i64, origin: i64, code: i64, info: i64, data: i64, tstamp: i64 = 0) -> None:
        self.errno: i64 = errno_
        self.origin: i64 = origin
        self.code: i64 = code
        self.info: i64 = info
        self.data: i64 = data
        self.tstamp: i64 = tstamp
        self.length: i64 = 0


class IcmpError(ExtendedError):
    """What an ICMP error said: its type, who sent it, and of the datagram it quotes the destination and the payload."""

    def __init__(
        self, errno_: i64, icmp_type: i64, code: i64, info: i64, offender: i64, addr: i64, port: i64, payload: bytes
    ) -> None:
        super().__init__(errno_, SO_EE_ORIGIN_ICMP, code, info, 0)
        self.icmp_type: i64 = icmp_type
        self.offender: i64 = offender
        self.addr: i64 = addr
        self.port: i64 = port
        self.payload: bytes = payload


class ErrorQueue:
    """Of one socket; made when it is first needed."""

    def __init__(self) -> None:
        self.entries: deque[ExtendedError] = deque()
        self.lost: i64 = 0  #: that found no room

    def add(self, sk: Sock, entry: ExtendedError) -> bool:
        """Queue it: True, and the caller tells the owner when he may act. False: the receive buffer has no room
        (sock_queue_err_skb)."""
        size: i64 = len(self.entries)
        if (size + 1) * ENTRY_SIZE + sk.rmem_alloc >= sk.rcvbuf:
            self.lost += 1
            return False
        self.entries.append(entry)
        return True

    def zerocopy_done(self, sk: Sock, low: i64, high: i64) -> bool:
        """Sends ``low`` to ``high`` need their buffers no more; one entry for all that follow each other. As ``add``.

        The bytes were copied, as always with a device that is a file.
        """
        if self.entries:
            last = self.entries[-1]
            if last.origin == SO_EE_ORIGIN_ZEROCOPY and last.data + 1 == low:
                last.data = high
                return True
        return self.add(sk, ExtendedError(0, SO_EE_ORIGIN_ZEROCOPY, SO_EE_CODE_ZEROCOPY_COPIED, low, high))


def sock_dequeue_err_skb(sk: Sock) -> ExtendedError:
    """Take the oldest entry; SO_ERROR is that of the next one if ICMP has sent it. EAGAIN if there is none."""
    queue = sk.error_queue
    if queue is None or not queue.entries:
        raise error(errno.EAGAIN)
    entry = queue.entries.popleft()
    if queue.entries and queue.entries[0].origin == SO_EE_ORIGIN_ICMP:
        sk.err = queue.entries[0].errno
    elif entry.origin == SO_EE_ORIGIN_ICMP:
        sk.err = 0
    if queue.entries:
        sk.observer.error_report(sk)
    return entry


def icmp_message(entry: IcmpError, length: i64) -> Message:
    """What was quoted, from where it should have gone, and by whom."""
    size: i64 = len(entry.payload)
    flags: i64 = MSG_ERRQUEUE | MSG_TRUNC if size > length else MSG_ERRQUEUE
    message = Message(entry.payload[:length], entry.addr, entry.port, flags)
    packed = _EXTENDED_ERR.pack(entry.errno, entry.origin, entry.icmp_type, entry.code, entry.info, 0)
    offender = _OFFENDER.pack(_AF_INET, int(entry.offender).to_bytes(4, "big"))
    message.control = [(SOL_IP, IP_RECVERR, packed[:16] + offender)]
    return message


def inet_recv_error(sk: Sock, length: i64 = 0x7FFF_FFFF) -> Message:
    """The oldest entry, as control messages; EAGAIN if there is none (ip_recv_error).

    Of the data that a time belongs to nothing is shown, whatever room there is: MSG_TRUNC says that it is missing.
    """
    entry = sock_dequeue_err_skb(sk)
    if isinstance(entry, IcmpError):
        return icmp_message(entry, length)
    message = Message(b"", 0, 0, MSG_ERRQUEUE | MSG_TRUNC if entry.length else MSG_ERRQUEUE)
    message.control = control = []
    if entry.tstamp and sk.tsflags & SOF_TIMESTAMPING_SOFTWARE:
        when = _TIMESTAMPING.pack(entry.tstamp // NSEC_PER_SEC, entry.tstamp % NSEC_PER_SEC)
        control.append((SOL_SOCKET, SCM_TIMESTAMPING, when))
    packed = _EXTENDED_ERR.pack(entry.errno, entry.origin, 0, entry.code, entry.info, entry.data)
    control.append((SOL_IP, IP_RECVERR, packed))
    return message
