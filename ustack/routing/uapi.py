"""Numbers of the routing interface (Linux include/uapi/linux/rtnetlink.h, fib_rules.h, nexthop.h, if_addr.h).

The route types stand in dst.py, the scopes in flow.py.
"""

from __future__ import annotations

from typing import Final

# -- tables
RT_TABLE_UNSPEC: Final = 0
RT_TABLE_COMPAT: Final = 252
RT_TABLE_DEFAULT: Final = 253
RT_TABLE_MAIN: Final = 254
RT_TABLE_LOCAL: Final = 255

# -- who made it
RTPROT_UNSPEC: Final = 0
RTPROT_REDIRECT: Final = 1
RTPROT_KERNEL: Final = 2
RTPROT_BOOT: Final = 3
RTPROT_STATIC: Final = 4

# -- next hop flags
RTNH_F_DEAD: Final = 1  #: its device is down
RTNH_F_PERVASIVE: Final = 2
RTNH_F_ONLINK: Final = 4  #: the gateway is on the link, whatever the tables say
RTNH_F_OFFLOAD: Final = 8
RTNH_F_LINKDOWN: Final = 16  #: its device has no carrier
RTNH_F_UNRESOLVED: Final = 32
RTNH_COMPARE_MASK: Final = RTNH_F_DEAD | RTNH_F_LINKDOWN | RTNH_F_OFFLOAD

# -- route flags (rtm_flags)
RTM_F_CLONED: Final = 0x200
RTM_F_LOOKUP_TABLE: Final = 0x1000
RTM_F_FIB_MATCH: Final = 0x2000

# -- metrics
RTAX_LOCK: Final = 1
RTAX_MTU: Final = 2
RTAX_WINDOW: Final = 3
RTAX_RTT: Final = 4
RTAX_RTTVAR: Final = 5
RTAX_SSTHRESH: Final = 6
RTAX_CWND: Final = 7
RTAX_ADVMSS: Final = 8
RTAX_REORDERING: Final = 9
RTAX_HOPLIMIT: Final = 10
RTAX_INITCWND: Final = 11
RTAX_FEATURES: Final = 12
RTAX_RTO_MIN: Final = 13
RTAX_INITRWND: Final = 14
RTAX_QUICKACK: Final = 15
RTAX_CC_ALGO: Final = 16
RTAX_FASTOPEN_NO_COOKIE: Final = 17
RTAX_MAX: Final = 17

# -- rule actions and flags
FR_ACT_UNSPEC: Final = 0
FR_ACT_TO_TBL: Final = 1
FR_ACT_GOTO: Final = 2
FR_ACT_NOP: Final = 3
FR_ACT_BLACKHOLE: Final = 6
FR_ACT_UNREACHABLE: Final = 7
FR_ACT_PROHIBIT: Final = 8
FIB_RULE_PERMANENT: Final = 1
FIB_RULE_INVERT: Final = 2
FIB_RULE_UNRESOLVED: Final = 4
FIB_RULE_IIF_DETACHED: Final = 8
FIB_RULE_OIF_DETACHED: Final = 16

# -- how to add (nlmsg_flags)
NLM_F_REPLACE: Final = 0x100
NLM_F_EXCL: Final = 0x200
NLM_F_CREATE: Final = 0x400
NLM_F_APPEND: Final = 0x800

# -- address flags
IFA_F_SECONDARY: Final = 0x01
IFA_F_NODAD: Final = 0x02
IFA_F_DEPRECATED: Final = 0x20
IFA_F_PERMANENT: Final = 0x80
IFA_F_NOPREFIXROUTE: Final = 0x200

# -- lookups (include/net/ip_fib.h)
FIB_LOOKUP_NOREF: Final = 1
FIB_LOOKUP_IGNORE_LINKSTATE: Final = 2

# -- how a gateway's neighbour entry stands (include/uapi/linux/neighbour.h); the table itself lies beside this room
NUD_NONE: Final = 0x00
NUD_INCOMPLETE: Final = 0x01
NUD_REACHABLE: Final = 0x02
NUD_VALID: Final = 0xDE  #: PERMANENT NOARP REACHABLE PROBE STALE DELAY
