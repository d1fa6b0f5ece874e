"""bridge fdb: what is asked, and how it is printed (iproute2's bridge/fdb.c)."""

from __future__ import annotations

import io
import json

import pytest
from click.testing import CliRunner

from tests.cli.ip.recorder import Recorder
from ustack.cli.ip.fdb import do_fdb
from ustack.cli.ip.session import Options, Session
from ustack.cli.ip.words import Mistake
from ustack.cli.main import cli
from ustack.neighbour.states import NUD_PERMANENT, NUD_REACHABLE, NUD_STALE
from ustack.rtnl.messages import Fdb, Link, Rtm

BR0 = Link(ifindex=4, name="br0", kind="bridge")
ENTRIES = [
    Fdb(mac=0x020000000001, ifindex=2, master=4, state=NUD_PERMANENT, used=9, updated=9),
    Fdb(mac=0x020000000099, ifindex=3, master=4, state=NUD_REACHABLE, used=1, updated=2),
    Fdb(mac=0x020000000098, ifindex=3, master=4, state=NUD_STALE, used=400, updated=301),
    Fdb(mac=0x020000000004, ifindex=4, master=4, state=NUD_PERMANENT),
]


def shows(line: str, options: Options | None = None) -> tuple[str, Recorder]:
    recorder, out = Recorder(BR0, *ENTRIES), io.StringIO()
    assert do_fdb(Session(recorder, out, io.StringIO(), options, "bridge"), line.split()) == 0
    return out.getvalue(), recorder


def test_showing() -> None:
    assert shows("")[0] == shows("show")[0] == (
        "02:00:00:00:00:01 dev us0 master br0 permanent\n"
        "02:00:00:00:00:99 dev us1 master br0 \n"
        "02:00:00:00:00:98 dev us1 master br0 stale\n"
        "02:00:00:00:00:04 dev br0 master br0 permanent\n"
    )  # fmt: skip
    assert "02:00:00:00:00:99 dev us1 used 1/2 master br0 \n" in shows("", Options(stats=1))[0]


def test_showing_in_json() -> None:
    found = json.loads(shows("show", Options(json=True))[0])
    assert found[1] == {"mac": "02:00:00:00:00:99", "ifname": "us1", "flags": [], "master": "br0", "state": ""}


@pytest.mark.parametrize(
    ("line", "wanted"),
    [("show br br0", Fdb(master=4)), ("s dev us1", Fdb(ifindex=3)), ("l brport us0 br br0", Fdb(ifindex=2, master=4))],
)
def test_choosing(line: str, wanted: Fdb) -> None:
    assert shows(line)[1].asked[-1] == Rtm("dump", wanted)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("show br nosuch", 'Cannot find device "nosuch"\n'),
        ("show br", 'Command line is not complete. Try option "help"\n'),
        ("show us0", 'Command "us0" is unknown, try "bridge fdb help".\n'),
        ("add x", 'Command "add" is unknown, try "bridge fdb help".\n'),
        ("help", "Usage: bridge fdb "),
    ],
)
def test_mistakes(line: str, said: str) -> None:
    with pytest.raises(Mistake) as raised:
        shows(line)
    assert raised.value.text.startswith(said)


def test_the_command_asks_for_fdb_alone() -> None:
    answer = CliRunner().invoke(cli, ["bridge", "vlan"])
    assert answer.exit_code == 2
    assert "'fdb' is all there is to be asked." in answer.output
