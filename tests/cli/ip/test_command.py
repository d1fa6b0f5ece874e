"""The commands of the command line: what click leaves to the grammar."""

from __future__ import annotations

import click
import pytest
from click.testing import CliRunner

from tests.cli.ip.recorder import Recorder
from ustack.cli.ip import transport
from ustack.cli.ip.command import OBJECTS, take_control
from ustack.cli.main import COMMANDS, IP_OBJECTS, cli
from ustack.rtnl.messages import Rule


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    """In place of the daemon; where it would be is noted."""
    made = Recorder(Rule(priority=0, table=255))

    def connect(control: str | None) -> Recorder:
        made.kinds = [control or ""]
        return made

    monkeypatch.setattr(transport, "DaemonTransport", connect)
    return made


def invoke(*words: str) -> tuple[int, str]:
    done = CliRunner().invoke(cli, list(words))
    return done.exit_code, done.output


@pytest.mark.parametrize(
    "line", ["rule", "ru", "rule show", "ip rule", "ip ru s", "rule -4", "rule -o show", "ip -o rule show"]
)
def test_forms_of_one_command(recorder: Recorder, line: str) -> None:
    assert invoke(*line.split()) == (0, "0:\tfrom all lookup local\n")
    assert recorder.closed and recorder.kinds == [""]


@pytest.mark.parametrize("line", ["--control X rule", "rule --control X show", "rule show --control=X"])
def test_where_the_daemon_is(recorder: Recorder, line: str) -> None:
    words = line.split()
    if words[0] == "--control":
        words = ["ip", *words]
    assert invoke(*words)[0] == 0 and recorder.kinds == ["X"]


def test_options_go_anywhere(recorder: Recorder) -> None:
    document = '[{"priority":0,"src":"all","table":"local"}]\n'
    for line in ("rule -j", "rule -j show", "rule show -j", "ip -j rule", "ip rule show --json"):
        assert invoke(*line.split()) == (0, document)


def test_it_says_how_it_is_called(recorder: Recorder) -> None:
    assert invoke("rule", "foo") == (255, 'Command "foo" is unknown, try "ustack rule help".\n')
    assert invoke("ip", "foo") == (1, 'Object "foo" is unknown, try "ustack help".\n')


def test_help_needs_no_daemon() -> None:
    for name in OBJECTS:
        status, out = invoke(name, "--help")
        assert status == 0 and out.startswith(f"Usage: ustack {name} "), name


def test_abbreviations_of_objects() -> None:
    group = cli
    assert isinstance(group, click.Group)
    ctx = click.Context(group)
    for short, name in (("r", "route"), ("ro", "route"), ("ru", "rule"), ("a", "addr"), ("address", "addr"),
                        ("l", "link"), ("n", "neigh"), ("ne", "neigh"), ("neighbour", "neigh"), ("nex", "nexthop"),
                        ("m", "monitor"), ("nc", "nc"), ("ip", "ip")):  # fmt: skip
        command = group.get_command(ctx, short)
        assert command is not None and command.name == name, short
    assert group.get_command(ctx, "foo") is None and group.get_command(ctx, "") is None
    assert set(IP_OBJECTS.values()) | {"ip"} == set(OBJECTS) <= set(COMMANDS)


def test_control_wants_a_path() -> None:
    assert take_control(["a", "--control", "x", "b"]) == ("x", ["a", "b"])
    with pytest.raises(click.UsageError):
        take_control(["--control"])


def test_completing() -> None:
    def complete(words: str, at: int) -> list[str]:
        done = CliRunner(env={"_USTACK_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(at)}).invoke(
            cli, [], prog_name="ustack"
        )
        return [line.partition(",")[2] for line in done.output.split()]

    assert complete("ustack route re", 2) == ["replace"]
    assert complete("ustack route show t", 3) == []
    assert complete("ustack ip ne", 2) == ["neigh", "nexthop"]
    assert complete("ustack ip route ge", 3) == ["get"]
    assert complete("ustack r s", 2) == ["show", "save"]
