"""Options, objects, and how it ends."""

from __future__ import annotations

import errno

import pytest

from tests.cli.ip.recorder import Recorder, mistake
from ustack.cli.ip.session import Refused
from ustack.cli.ip.usage import USAGE
from ustack.rtnl.messages import Nack, Rtm, Rule

RULE = Rule(priority=0, table=255, protocol=2)


@pytest.mark.parametrize(
    "line", ["rule", "ru", "rule show", "rule s", "-4 rule", "-c rule", "-color=never rule", "-o rule", "-h rule",
             "-iec rule", "-l 5 rule", "-f inet rule", "-family inet rule", "-a rule", "-r rule", "-t rule"],
)  # fmt: skip
def test_forms_of_one_command(line: str) -> None:
    assert Recorder(RULE).shows(line) == "0:\tfrom all lookup local\n"


@pytest.mark.parametrize(
    ("line", "out"),
    [
        ("-j rule", '[{"priority":0,"src":"all","table":"local"}]\n'),
        ("--json rule", '[{"priority":0,"src":"all","table":"local"}]\n'),
        ("rule -j", '[{"priority":0,"src":"all","table":"local"}]\n'),
        ("rule show -j", '[{"priority":0,"src":"all","table":"local"}]\n'),
        ("-d rule", "0:\tfrom all lookup local proto kernel\n"),
        ("-N rule", "0:\tfrom all lookup 255\n"),
        ("-j -p rule",
         '[ {\n        "priority": 0,\n        "src": "all",\n        "table": "local"\n    } ]\n'),
        ("-6 rule", ""),
        ("-j -6 rule", "[]\n"),
    ],
)  # fmt: skip
def test_options(line: str, out: str) -> None:
    assert Recorder(RULE).shows(line) == out


@pytest.mark.parametrize(
    ("line", "status", "err"),
    [
        ("foo", 1, 'Object "foo" is unknown, try "ip help".\n'),
        ("tunnel show", 1, 'Object "tunnel" is unknown, try "ip help".\n'),
        ("-x route", 255, 'Option "-x" is unknown, try "ip -help".\n'),
        ("-n other route", 255, 'Option "-n" is unknown, try "ip -help".\n'),
        ("-c=foo route", 255, 'Option "-c=foo" is unknown, try "ip -help".\n'),
        ("-f foo route", 255, 'Error: argument "foo" is wrong: invalid protocol family\n'),
        ("-f", 255, 'Command line is not complete. Try option "help"\n'),
        ("route foo", 255, 'Command "foo" is unknown, try "ip route help".\n'),
        ("rule foo", 255, 'Command "foo" is unknown, try "ip rule help".\n'),
        ("addr foo", 255, 'Command "foo" is unknown, try "ip address help".\n'),
        ("link foo", 255, 'Command "foo" is unknown, try "ip link help".\n'),
        ("neigh foo", 255, 'Command "foo" is unknown, try "ip neigh help".\n'),
        ("nexthop foo", 255, 'Command "foo" is unknown, try "ip nexthop help".\n'),
        ("-6 route add 10.0.0.0/8 dev us0", 2, "RTNETLINK answers: Address family not supported by protocol\n"),
    ],
)
def test_mistakes(line: str, status: int, err: str) -> None:
    assert mistake(line) == (status, err)


@pytest.mark.parametrize("subject", ["addr", "link", "route", "rule", "neigh", "nexthop"])
@pytest.mark.parametrize("line", ["{} help", "{} add help"])
def test_usage_goes_to_stderr(subject: str, line: str) -> None:
    if subject == "link":
        line = line.replace("add", "set")
    status, err = mistake(line.format(subject))
    assert status == 255 and err.startswith(f"Usage: ip {subject} ")


def test_usage_of_everything() -> None:
    for line in ("", "help", "-help", "-j"):
        status, err = mistake(line)
        assert status == 255 and err.startswith("Usage: ip [ OPTIONS ] OBJECT")
    assert all(text.format(program="ustack").startswith("Usage: ustack ") for text in USAGE.values())


def test_the_program_has_the_name_that_it_is_given() -> None:
    assert 'try "ustack route help"' in Recorder().run("route foo", program="ustack")[2]
    assert Recorder().run("-V", program="ustack")[1].startswith("ustack utility, ustack-")


def test_refusals_in_the_kernels_words_and_in_those_of_the_errno() -> None:
    line = "rule add pref 5"
    assert Recorder(refuse=Nack(errno.EEXIST)).run(line) == (2, "", "RTNETLINK answers: File exists\n")
    assert Recorder(refuse=Nack(errno.EINVAL, "Invalid tos")).run(line) == (2, "", "Error: Invalid tos.\n")
    assert Recorder(refuse=Nack(errno.ENOENT, "no such table")).run("-j route show table 9") == (
        2, "[", "Error: no such table.\nDump terminated\n",
    )  # fmt: skip
    assert Recorder(refuse=Nack(errno.ENOENT)).run("route flush table 9")[2].endswith("Flush terminated\n")
    assert str(Refused(errno.EPERM)) == "RTNETLINK answers: Operation not permitted\n"


def test_long_answers_come_in_pieces() -> None:
    rules = [Rule(priority=number, table=254) for number in range(25)]
    recorder = Recorder(*rules, piece=10)
    assert recorder.shows("rule").count("\n") == 25
    assert recorder.asked == [Rtm("dump", Rule(action=0))]
