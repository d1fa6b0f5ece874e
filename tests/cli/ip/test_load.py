"""ip route load and save: text in, few messages out."""

from __future__ import annotations

import errno
import io
import sys
from typing import TYPE_CHECKING

import msgspec
import pytest

from tests.cli.ip.recorder import Recorder, ip
from tests.cli.ip.test_route import GATEWAY, made
from tests.cli.ip.test_route_text import PRINTED
from ustack.cli.ip.load import split, tidy
from ustack.cli.ip.run import run
from ustack.routing.uapi import NLM_F_CREATE, NLM_F_EXCL
from ustack.rtnl.messages import BATCH_MAX, Hop, Loaded, Nack, Route, RouteBatch, Rtm

if TYPE_CHECKING:
    from pathlib import Path

    from ustack.rtnl.messages import RtnlAnswer, RtnlRequest

ADD = NLM_F_CREATE | NLM_F_EXCL


def prefixes(*texts: str) -> bytes:
    return b"".join(ip(text.partition("/")[0]).to_bytes(4, "big") + bytes([int(text.partition("/")[2] or 32)])
                    for text in texts)  # fmt: skip


def loaded(tmp_path: Path, text: str, recorder: Recorder | None = None) -> tuple[list[RouteBatch], str]:
    """The batches that a file makes, and what was said."""
    file = tmp_path / "routes"
    file.write_text(text)
    recorder = recorder or Recorder()
    status, out, err = recorder.run(f"route load {file}")
    assert out == "" and status == (2 if err else 0)
    batches = [each for each in recorder.asked if isinstance(each, RouteBatch)]
    assert len(batches) == len(recorder.asked) and all(batch.flags == ADD for batch in batches)
    return batches, err.replace(str(file), "FILE")


def test_routes_with_the_same_words_are_one_message(tmp_path: Path) -> None:
    batches, err = loaded(
        tmp_path,
        "10.1.0.0/16 via 192.0.2.1 dev us0 proto bgp \n"
        "10.2.0.0/16 via 192.0.2.1 dev us0 proto bgp \n"
        "10.3.0.1 via 192.0.2.1 dev us0 proto bgp \n"
        "default via 192.0.2.1 dev us0 proto bgp \n",
    )
    assert err == ""
    (batch,) = batches
    assert batch.prefixes == prefixes("10.1.0.0/16", "10.2.0.0/16", "10.3.0.1", "0.0.0.0/0")
    assert (batch.like.gateway, batch.like.ifindex, batch.like.protocol, batch.like.scope) == (GATEWAY, 2, 186, 0)


def test_what_makes_gateways_reachable_goes_first(tmp_path: Path) -> None:
    batches, _ = loaded(
        tmp_path,
        "default via 192.0.2.1 \n10.8.0.0/16 \n\tnexthop via 192.0.2.1 weight 1 \n\tnexthop dev us1 weight 2 \n"
        "192.0.2.0/24 dev us0 scope link \nblackhole 10.9.0.0/16\n",
    )
    assert [batch.prefixes for batch in batches] == [
        prefixes("192.0.2.0/24"), prefixes("10.9.0.0/16"), prefixes("0.0.0.0/0"), prefixes("10.8.0.0/16"),
    ]  # fmt: skip
    assert batches[3].like.hops == [Hop(gateway=GATEWAY), Hop(ifindex=3, weight=2)]
    assert batches[1].like.rtype == 6


def test_every_form_in_which_routes_are_printed(tmp_path: Path) -> None:
    """Also with -o, with -d, with types, with comments and empty lines, with the prefix somewhere else."""
    batches, err = loaded(
        tmp_path,
        "# a table\n\n"
        "unicast 10.1.0.0/16 dev us0 table main proto boot scope global linkdown \n"
        "unicast 10.2.0.0/16 dev us0 table main proto boot scope global linkdown \n"
        "10.8.0.0/16 \\\tnexthop via 192.0.2.1 dev us0 weight 1 dead linkdown \\\tnexthop dev us1 weight 1 \n"
        "table 7 dev us0 10.3.0.0/16\n"
        "table 7 dev us0 10.4.0.0/16\n"
        "10.6/16 dev us1\n"
        "local 10.7.0.1 dev us0 table local proto kernel scope host src 10.7.0.1 \n"
        "10.5.0.0/16 dev us0 rto_min lock 250ms \n"
        "10.9.0.0/16 nhid 5 proto static \n\tnexthop via 192.0.2.1 dev us0 weight 1 \n"
        "10.9.1.0/24 nhid 5 via 192.0.2.1 dev us0 proto static \n",
    )
    assert err == ""
    assert sorted(batch.prefixes for batch in batches) == sorted(
        [prefixes("10.1.0.0/16", "10.2.0.0/16")]
        + [prefixes(text) for text in ("10.8.0.0/16", "10.3.0.0/16", "10.4.0.0/16", "10.6.0.0/16", "10.7.0.1",
                                       "10.5.0.0/16", "10.9.0.0/16", "10.9.1.0/24")]
    )  # fmt: skip
    by_prefix = {batch.prefixes[:5]: batch.like for batch in batches}
    assert by_prefix[prefixes("10.1.0.0/16")].scope == 0
    assert by_prefix[prefixes("10.5.0.0/16")].metrics == {1: 1 << 13, 13: 250}
    for text in ("10.9.0.0/16", "10.9.1.0/24"):
        like = by_prefix[prefixes(text)]
        assert (like.nhid, like.protocol, like.gateway, like.ifindex, like.hops) == (5, 4, 0, 0, [])


def test_big_groups_are_cut(tmp_path: Path) -> None:
    count = 2 * BATCH_MAX + 7
    text = "".join(f"10.{n >> 8}.{n & 255}.0/24 dev us0\n" for n in range(count))
    batches, _ = loaded(tmp_path, text)
    assert [len(batch.prefixes) // 5 for batch in batches] == [BATCH_MAX, BATCH_MAX, 7]
    assert b"".join(batch.prefixes for batch in batches) == prefixes(*[line.split()[0] for line in text.splitlines()])


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("10.1.0.0/33 dev us0", 'Error: any valid prefix is expected rather than "10.1.0.0/33".'),
        ("10.1.0/x dev us0", 'Error: any valid prefix is expected rather than "10.1.0/x".'),
        ("999.1.0.0/16 dev us0", 'Error: any valid prefix is expected rather than "999.1.0.0/16".'),
        ("10.1.0.0/16 dev us9", 'Cannot find device "us9"'),
        ("10.1.0.0/16 foo", 'Error: either "to" is duplicate, or "foo" is a garbage.'),
        ("10.1.0.0/16 realm 5", "RTNETLINK answers: Operation not supported"),
        ("via 192.0.2.1", "Error: a prefix is expected."),
        ("10.1.0.0/16 nexthop", 'Error: unexpected end of line after "nexthop"'),
    ],
)
def test_mistakes_name_their_line(tmp_path: Path, line: str, said: str) -> None:
    """And the other lines are loaded."""
    batches, err = loaded(tmp_path, f"10.5.0.0/16 dev us0\n{line}\n10.6.0.0/16 dev us0\n")
    assert err == f"FILE:2: {said}\n"
    assert [batch.prefixes for batch in batches] == [prefixes("10.5.0.0/16", "10.6.0.0/16")]


class Choosy(Recorder):
    """Refuses the first two of every batch."""

    def ask(self, request: RtnlRequest) -> RtnlAnswer:
        if isinstance(request, RouteBatch):
            self.asked.append(request)
            return Loaded(len(request.prefixes) // 5 - 2, {0: errno.EEXIST, 1: errno.EINVAL})
        return super().ask(request)


def test_refused_routes_name_their_line(tmp_path: Path) -> None:
    """One that is there already is no mistake."""
    _, err = loaded(tmp_path, "# one\n10.1.0.0/16 dev us0\n\n10.2.0.0/17 dev us0\n10.3.0.0/16 dev us0\n", Choosy())
    assert err == "FILE:4: RTNETLINK answers: Invalid argument\n"


def test_a_refused_batch_is_said_once(tmp_path: Path) -> None:
    recorder = Recorder(refuse=Nack(errno.EINVAL, "Nexthop has invalid gateway"))
    text = "".join(f"10.{n}.0.0/16 via 10.99.0.1 dev us0\n" for n in range(200))
    _, err = loaded(tmp_path, text, recorder)
    assert err == "FILE:1: Error: Nexthop has invalid gateway. (and 199 like it)\n"


def test_only_so_many_mistakes_are_said(tmp_path: Path) -> None:
    _, err = loaded(tmp_path, "10.1.0.0/16 dev us9\n" * 30)
    assert err.count("\n") == 21 and err.endswith("FILE: 10 more mistakes\n")


def test_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("10.1.0.0/16 dev us0\n"))
    recorder = Recorder()
    assert recorder.run("route load -") == (0, "", "")
    assert isinstance(recorder.asked[0], RouteBatch)


def test_a_file_that_is_not_there() -> None:
    assert Recorder().run("route load /nowhere/at/all") == (
        1, "", 'Cannot open "/nowhere/at/all": No such file or directory\n',
    )  # fmt: skip
    assert Recorder().run("route save /nowhere/at/all")[0] == 1
    assert Recorder().run("route load")[0] == 255 and Recorder().run("route load a b")[0] == 255


# -- save


def test_saving_says_it_all(tmp_path: Path) -> None:
    file = tmp_path / "saved"
    recorder = Recorder(made(ifindex=2, scope=0), made(nhid=5, ifindex=2))
    assert recorder.shows("route save") == (
        "unicast 10.1.0.0/16 dev us0 table main proto boot scope global \n"
        "unicast 10.1.0.0/16 nhid 5 dev us0 table main proto boot scope global \n"
    )
    assert recorder.shows(f"route save {file} table all") == "" and file.read_text() == recorder.shows("route save")
    assert recorder.asked[:2] == [Rtm("dump", Route(table=254)), Rtm("dump", Route())]
    assert Recorder().run("route save table x")[0] == 255


@pytest.mark.parametrize(("route", "text"), PRINTED, ids=[text.strip() for _, text in PRINTED])
def test_what_is_saved_is_loaded_again(tmp_path: Path, route: Route, text: str) -> None:
    """Every attribute but those that are the stack's to find out; features without a name cannot be said."""
    if "0x2" in text:
        return
    if route.ifindex == 9:
        route = msgspec.structs.replace(route, ifindex=2)
    (tmp_path / "routes").write_text(Recorder(route).shows("route save table all"))
    recorder = Recorder()
    assert recorder.run(f"route load {tmp_path / 'routes'}") == (0, "", "")
    (batch,) = recorder.asked
    assert isinstance(batch, RouteBatch)
    like = batch.like
    assert batch.prefixes == route.dst.to_bytes(4, "big") + bytes([route.dst_len])
    for name in ("rtype", "table", "protocol", "scope", "tos", "priority", "prefsrc", "nhid", "congctl"):
        assert getattr(like, name) == getattr(route, name), name
    if not route.nhid:
        assert (like.gateway, like.ifindex, like.flags) == (route.gateway, route.ifindex, route.flags & 4)
        assert [(hop.ifindex, hop.gateway, hop.weight) for hop in like.hops] == [
            (hop.ifindex, hop.gateway, hop.weight) for hop in route.hops
        ]


def test_helpers() -> None:
    assert split("10.0.0.0/8 dev us0 \n") == ("10.0.0.0/8", "dev us0 \n")
    assert split("default dev us0\n") == ("0.0.0.0/0", "dev us0\n")
    assert split("unicast default dev us0\n") == ("0.0.0.0/0", "unicast\ndev us0\n")
    assert tidy("10.0.0.0/8 dev us0 linkdown onlink".split()) == "10.0.0.0/8 dev us0 onlink".split()


class Terminal(io.StringIO):
    """Somebody looks."""

    def isatty(self) -> bool:
        return True


def test_on_a_terminal_it_tells_how_far_it_is(tmp_path: Path) -> None:
    file = tmp_path / "routes"
    file.write_text("".join(f"10.{n >> 8}.{n & 255}.0/24 dev us0\n" for n in range(50_000)))
    err = Terminal()
    assert run(["route", "load", str(file)], Choosy(), io.StringIO(), err) == 2
    assert "reading" in err.getvalue() and "loading" in err.getvalue()
    assert "49,974 routes in " in err.getvalue() and "13 were there" in err.getvalue()
