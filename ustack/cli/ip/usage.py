"""What each command says about itself."""

from __future__ import annotations

from typing import Final

USAGE: Final = {
    "help": """\
Usage: {program} [ OPTIONS ] OBJECT {{ COMMAND | help }}
OBJECT  := addr | link | route | rule | neigh | nexthop | monitor
OPTIONS := -j[son] -p[retty] -s[tatistics] -d[etails] -o[neline] -br[ief] -N[umeric] -t[imestamp] -ts[hort] -4
Every word may be shortened as in iproute2: {program} r s t all
""",
    "address": """\
Usage: {program} addr {{ add | change | replace }} CIDR [ peer PREFIX ] [ broadcast ADDR | + | - ] dev DEV
                      [ label NAME ] [ scope SCOPE ] [ metric N ] [ noprefixroute ]
       {program} addr del CIDR [ peer PREFIX ] [ label NAME ] dev DEV
       {program} addr {{ show | flush }} [ [ dev ] DEV ] [ to PREFIX ] [ scope SCOPE ] [ label PATTERN ] [ up ]
                      [ [-]{{ primary | secondary | permanent | dynamic | noprefixroute }} ]
SCOPE := global | site | link | host | NUMBER
""",
    "link": """\
Usage: {program} link show [ [ dev ] DEV ] [ up ] [ type KIND ] [ master DEV | nomaster ]
       {program} link set [ dev ] DEV [ up | down ] [ mtu N ] [ address MAC ] [ name NAME ] [ txqueuelen N ]
                      [ {{ arp | promisc | multicast | allmulticast }} {{ on | off }} ] [ master BRIDGE | nomaster ]
       {program} link add [ name ] NAME [ address MAC ] [ mtu N ] [ up ] type bridge
       {program} link delete [ dev ] BRIDGE
""",
    "route": """\
Usage: {program} route {{ show | flush }} [ [ to ] [ root | match | exact ] PREFIX ] [ table TABLE | all ]
                       [ dev DEV ] [ via PREFIX ] [ src PREFIX ] [ proto PROTO ] [ scope SCOPE ] [ type TYPE ]
                       [ tos TOS ] [ metric N ] [ cache ]
       {program} route get ADDR [ from ADDR ] [ iif DEV ] [ oif DEV ] [ mark N ] [ tos TOS ] [ uid N ]
                       [ ipproto PROTO ] [ sport N ] [ dport N ] [ fibmatch ]
       {program} route {{ add | del | change | replace | append | prepend }} [ TYPE ] PREFIX WAY
                       [ table TABLE ] [ proto PROTO ] [ scope SCOPE ] [ metric N ] [ tos TOS ] [ src ADDR ] METRICS
       {program} route save [ FILE ] [ table TABLE | all ]
       {program} route load {{ FILE | - }}
WAY     := [ via ADDR ] [ dev DEV ] [ onlink ] | nhid ID | nexthop HOP [ nexthop HOP ]...
HOP     := [ via ADDR ] [ dev DEV ] [ weight N ] [ onlink ]
METRICS := [ mtu [lock] N ] [ advmss [lock] N ] [ window [lock] N ] [ hoplimit [lock] N ] [ initcwnd [lock] N ]
           [ initrwnd [lock] N ] [ rto_min TIME ] [ rtt [lock] TIME ] [ rttvar [lock] TIME ] [ cwnd [lock] N ]
           [ ssthresh [lock] N ] [ reordering [lock] N ] [ quickack 0|1 ] [ features ecn ] [ congctl [lock] NAME ]
TYPE    := unicast | local | broadcast | anycast | multicast | blackhole | unreachable | prohibit | throw
TABLE   := main | local | default | NAME | NUMBER        PROTO := kernel | boot | static | bgp | NAME | NUMBER
""",
    "rule": """\
Usage: {program} rule [ show [ SELECTOR ] [ pref N ] [ table TABLE ] ]
       {program} rule {{ add | del }} [ not ] SELECTOR [ pref N ] ACTION [ suppress_prefixlength N ] [ protocol PROTO ]
       {program} rule flush [ SELECTOR ] [ pref N ] [ table TABLE ]
SELECTOR := [ from PREFIX ] [ to PREFIX ] [ iif DEV ] [ oif DEV ] [ fwmark N[/MASK] ] [ tos TOS ]
            [ ipproto PROTO ] [ sport N[-N] ] [ dport N[-N] ] [ uidrange N-N ]
ACTION   := table TABLE | goto PREF | nop | blackhole | unreachable | prohibit
""",
    "neighbour": """\
Usage: {program} neigh {{ add | del | change | replace }} {{ ADDR [ lladdr MAC ] [ nud STATE ] | proxy ADDR }} dev DEV
       {program} neigh {{ show | flush }} [ proxy ] [ [ to ] PREFIX ] [ dev DEV ] [ nud STATE ]
       {program} neigh get {{ ADDR | proxy ADDR }} dev DEV
STATE := permanent | noarp | stale | reachable | none | incomplete | delay | probe | failed
""",
    "nexthop": """\
Usage: {program} nexthop {{ add | replace }} id N {{ [ via ADDR ] [ dev DEV ] [ onlink ] | blackhole | group GROUP }}
                         [ protocol PROTO ]
       {program} nexthop {{ show | flush }} [ id N ] [ dev DEV ] [ protocol N ] [ groups ]
       {program} nexthop {{ get | del }} id N
GROUP := ID[,WEIGHT][/ID[,WEIGHT]]...
""",
    "monitor": """\
Usage: {program} monitor [ all | label ] [ link ] [ address ] [ route ] [ neigh ] [ rule ] [ nexthop ] [ netconf ]
                  [ dev DEV ]
""",
}
USAGE["neighbor"] = USAGE["neighbour"]
