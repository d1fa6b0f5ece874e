"""The judge itself: it sees what is wrong, says it with few commands, and asks the kernel what pyroute2 would ask."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest
from librt.strings import BytesWriter
from pyroute2.netlink.exceptions import NetlinkError

from tests.oracle.frames import Frames, router
from tests.oracle.generate import generate
from tests.oracle.getroute import pack, parse
from tests.oracle.judge import Judge
from tests.oracle.kernel import Kernel
from tests.oracle.queries import Asker, shell
from tests.oracle.routers import comparable, without_times
from tests.oracle.shrink import shrink
from tests.oracle.world import Answer, Device, Query, World, addr_number, addr_text
from ustack.wire.ipv4 import emit

HERE = Path(__file__).parent
ONE_LINK = World(0, [Device("v0", 2, 0x0200_0000_0002)])


class Liar:
    """The kernel, but for one command, one show and one answer."""

    def __init__(self, kernel: Kernel, command: str = "", show: str = "", dst: int = 0) -> None:
        self.kernel = kernel
        self.command, self.show_words, self.dst = command, show, dst

    def run(self, commands: list[str]) -> list[str]:
        return ["No" if command == self.command else "" for command in commands]

    def show(self, words: str) -> str:
        shown = self.kernel.show(words)
        return shown.replace("src", "scr") if words == self.show_words else shown

    def ask(self, queries: list[Query]) -> list[Answer]:
        answers = self.kernel.ask(queries)
        return [
            answer._replace(scope=7) if query.dst == self.dst else answer
            for query, answer in zip(queries, answers, strict=True)
        ]


def test_a_seed_is_a_world_and_its_questions() -> None:
    assert generate(4).commands == generate(4).commands != generate(5).commands
    assert Asker(generate(4)).queries(50) == Asker(generate(4)).queries(50)
    assert router(4) == router(4)
    assert [Frames(router(4)).frame() for _ in range(5)] == [Frames(router(4)).frame() for _ in range(5)]


def test_the_worlds_hold_everything_that_routing_knows() -> None:
    """Among the seeds of the normal run there is each type, verb, selector, action, and each kind of mistake."""
    text = "\n".join("\n".join(generate(seed).commands) for seed in range(1, 21))
    for word in (
        "local broadcast multicast blackhole unreachable prohibit throw onlink nhid nexthop group weight tos metric"
        " scope src proto append prepend replace change peer brd from to iif oif fwmark ipproto sport dport uidrange"
        " not goto nop suppress_prefixlength rp_filter accept_local ignore_routes_with_linkdown route_localnet carrier"
        " down mtu lock congctl noprefixroute label flush nodev"
    ).split():
        assert re.search(rf"\b{word}\b", text), word


def test_a_shrinker_leaves_what_is_needed() -> None:
    commands = [str(number) for number in range(100)]
    tried = []

    def differs(some: list[str]) -> bool:
        tried.append(some)
        return {"17", "18", "93"} <= set(some)

    assert shrink(commands, differs) == ["17", "18", "93"]
    assert len(tried) < 100
    assert shrink(["only"], lambda some: True) == []
    assert shrink(commands, lambda some: len(some) == 100) == commands


def test_a_shrinker_ends_in_time() -> None:
    commands = [str(number) for number in range(10)]
    assert shrink(commands, lambda some: True, seconds=0) == commands


def test_a_world_is_a_script() -> None:
    world = World(1, ONE_LINK.devices, ["route add default dev v0", "sysctl net.ipv4.ip_forward=1", "carrier v0 off"])
    assert world.script().splitlines()[-3:] == [
        "ip -n in route add default dev v0",
        "ip netns exec in sysctl -qw net.ipv4.ip_forward=1",
        "ip -n out link set p0 down",
    ]


def test_a_question_as_it_is_typed() -> None:
    query = Query(addr_number("192.0.2.1"), addr_number("192.0.2.2"), 2, 0, 1, 8, 17, 5, 6, 0, True)
    assert shell(query, {2: "v0"}) == (
        "route get fibmatch 192.0.2.1 from 192.0.2.2 iif v0 mark 1 tos 0x8 ipproto 17 sport 5 dport 6 uid 0"
    )


def test_addresses_go_there_and_back() -> None:
    dice = random.Random(1)
    for addr in (0, 0xFFFF_FFFF, *(dice.randrange(1 << 32) for _ in range(20))):
        assert addr_number(addr_text(addr)) == addr


def test_every_difference_that_is_meant_has_its_line() -> None:
    """Nothing is let pass in the code that differences.md does not name, and the other way round."""
    table = (HERE / "differences.md").read_text().partition("## TCP")[0]
    rows = re.findall(r"^\| ([a-z][a-z-]+) \| (.*?) \|", table, re.MULTILINE)
    assert len(rows) == table.count("\n| ") - 1
    for name, where in rows:
        files = re.findall(r"`(\w+\.py)`", where)
        assert files, name
        for file in files:
            assert f"{name}:" in (HERE / file).read_text(), (name, file)
    code = "".join(path.read_text() for path in sorted(HERE.glob("*.py")))
    assert set(re.findall(r"\b([a-z]+(?:-[a-z]+)+): ", code)) <= {name for name, _ in rows}


# -- with a kernel


@pytest.mark.usefixtures("kernel")
def test_pyroute2_is_answered_the_same() -> None:
    """The messages packed by hand are those that pyroute2 makes."""
    world = generate(7)
    with Kernel(world) as kernel:
        kernel.run(world.commands)
        names = ("dst", "src", "iif", "oif", "mark", "tos", "uid", "ipproto", "sport", "dport")
        for query in Asker(world).queries(100):
            if query.fibmatch:
                continue
            asked = {name: getattr(query, name) for name in names}
            asked = {name: value for name, value in asked.items() if value > 0 or (name == "uid" and value == 0)}
            asked |= {name: addr_text(asked[name]) for name in ("dst", "src") if name in asked}
            asked["dst"] = addr_text(query.dst)
            answer = kernel.ask([query])[0]
            try:
                message = kernel.route.route("get", **asked)[0]
            except NetlinkError as error:
                assert answer.error == error.code, asked
                continue
            assert (answer.rtype, answer.oif) == (message["type"], message.get("oif", 0)), asked
            assert addr_text(answer.gateway) == message.get("gateway", "0.0.0.0"), asked
            assert addr_text(answer.prefsrc) == message.get("prefsrc", "0.0.0.0"), asked


def test_what_is_packed_can_be_read() -> None:
    message = pack(Query(addr_number("192.0.2.1"), 7, 1, 2, 3, 4, 17, 5, 6, 1000), 9)
    found = parse(message)
    assert (found.dst, found.src, found.iif, found.oif, found.mark) == (addr_number("192.0.2.1"), 7, 1, 2, 3)
    assert (found.tos, found.uid, found.dst_len) == (4, 1000, 32)


@pytest.mark.usefixtures("kernel")
def test_the_judge_sees_a_lie() -> None:
    commands = ["addr add 192.0.2.1/24 dev v0", "route add 198.51.100.0/24 via 192.0.2.2"]
    query = Query(addr_number("198.51.100.7"))
    with Kernel(ONE_LINK) as kernel:
        refused = Judge(ONE_LINK, kernel, Liar(kernel, command=commands[1])).commands(commands)
        assert refused is not None and (refused.what, refused.kernel, refused.ours) == (commands[1], "done", "No")
        assert refused.commands == commands[:1]
        show = "-4 route show table all"
        shown = Judge(ONE_LINK, kernel, Liar(kernel, show=show)).shows()
        assert shown is not None and shown.what == show and "+local 192.0.2.1 dev v0 table local" in shown.kernel
        answered = Judge(ONE_LINK, kernel, Liar(kernel, dst=query.dst)).answers([Query(query.dst - 1), query])
        assert answered is not None and answered[0] == 1
        assert "*scope 7" in answered[1].ours and "*scope 0" in answered[1].kernel
        honest = Judge(ONE_LINK, kernel, Liar(kernel))
        assert honest.shows() is None and honest.answers([query]) is None


@pytest.mark.usefixtures("kernel")
def test_the_kernel_speaks_after_every_command() -> None:
    """Also where a bad word ends the batch, which then goes on behind it."""
    with Kernel(ONE_LINK) as kernel:
        said = kernel.run(
            [
                "addr add 192.0.2.1/24 dev v0",
                "route add 10.0.0.0/33 dev v0",
                "addr add 192.0.2.1/24 dev v0",
                "carrier v0 off",
                "route add 10.0.0.1/8 dev v0",
                "sysctl net.ipv4.no_such=1",
                "route add 10.0.0.0/8 nonsense",
                "route add 10.0.0.0/8 dev v0",
            ]
        )
        assert [bool(words) for words in said] == [False, True, True, False, True, True, True, False]
        assert said[2] == "Error: ipv4: Address already assigned."
        assert "linkdown" in kernel.show("route show 10.0.0.0/8")
        assert [route.get("dst") for route in kernel.dump("routes")][:1] == ["10.0.0.0"]


# -- what of a frame is compared


def ip_frame(saddr: str, daddr: str, payload: bytes, options: bytes = b"") -> bytes:
    """An ICMP datagram, its checksum right."""
    out = BytesWriter()
    emit(out, 0, 20 + len(options) + len(payload), 7, 0, 64, 1, addr_number(saddr), addr_number(daddr), options)
    return bytes(12) + b"\x08\0" + out.getvalue() + payload


def test_the_identification_of_our_own_is_no_difference() -> None:
    """ident: of what is sent on it is one."""
    own, forwarded = ip_frame("192.0.2.1", "192.0.2.9", b""), ip_frame("192.0.2.8", "198.51.100.9", b"")
    assert "id own" in comparable([(2, own)])[0] and "id 0x7" in comparable([(3, forwarded)])[0]
    assert comparable([(3, forwarded)], sourced=True) == comparable([(3, forwarded)])
    assert comparable([(2, own)], sourced=True) == []


def test_messages_to_nobody_in_particular_are_no_difference() -> None:
    """single-host."""
    error = b"\x0b" + bytes(7)
    for daddr in ("192.0.2.255", "240.0.0.1", "255.255.255.255"):
        assert comparable([(2, ip_frame("192.0.2.1", daddr, error))]) == []
        assert len(comparable([(2, ip_frame("192.0.2.8", daddr, error))])) == 1
    assert len(comparable([(2, ip_frame("192.0.2.1", "192.0.2.9", error))])) == 1


def test_times_are_left_out_and_nothing_else() -> None:
    """time-of-day."""
    header = bytes([0x48]) + bytes(19)
    alone = header + b"\x44\x0c\x0d\x00" + b"1234" + b"5678"
    assert without_times(alone) == header + b"\x44\x0c\x0d\x00" + bytes(8)
    with_address = header + b"\x44\x0c\x0d\x01" + b"addr" + b"time"
    assert without_times(with_address) == header + b"\x44\x0c\x0d\x01" + b"addr" + bytes(4)
    to_come = header + b"\x44\x0c\x05\x00" + b"1234" + b"5678"
    assert without_times(to_come) == to_come
    for other in (b"", b"\x45", header + b"\x07\x0b\x0c" + b"12345678\0", header + b"\x44\xff\x0d\x00" + bytes(8)):
        assert without_times(other) == other
