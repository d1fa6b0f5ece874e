"""ustack sysctl, compared word for word with what sysctl(8) of procps-ng 4.0 prints."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from ustack.cli.sysctl import Run, path_of, sysctl
from ustack.device.net_device import NetDevice
from ustack.rtnl.messages import Ack, GetSysctl, Nack, RtnlAnswer, RtnlRequest, SetSysctl, Settings
from ustack.rtnl.rtnetlink import Rtnetlink
from ustack.stack import Stack

SEED = bytes(32)


class Setup:
    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.stack = Stack(SEED)
        self.stack.add_device(NetDevice("eth0.5", 0x02_00_00_00_00_01))
        self.rtnetlink = Rtnetlink(self.stack)
        self.capsys = capsys

    def ask(self, request: RtnlRequest) -> RtnlAnswer:
        assert isinstance(request, GetSysctl | SetSysctl)
        return self.rtnetlink.request(request)

    def __call__(self, *variables: str, **options: object) -> tuple[int, str, str]:
        status = Run(self.ask, options).run(list(variables))
        shown = self.capsys.readouterr()
        return status, shown.out, shown.err


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Setup:
    return Setup(capsys)


def test_one_setting(run: Setup) -> None:
    assert run("net.ipv4.ip_forward") == (0, "net.ipv4.ip_forward = 0\n", "")
    assert run("net.ipv4.ip_local_port_range") == (0, "net.ipv4.ip_local_port_range = 32768\t60999\n", "")
    assert run("net/ipv4/ip_forward") == (0, "net.ipv4.ip_forward = 0\n", "")


def test_setting_one_says_so(run: Setup) -> None:
    assert run("net.ipv4.ip_forward=1") == (0, "net.ipv4.ip_forward = 1\n", "")
    assert run("net.ipv4.tcp_rmem = 4096 5000 6000") == (0, "net.ipv4.tcp_rmem = 4096 5000 6000\n", "")
    assert run("net.ipv4.ip_forward=0", quiet=True) == (0, "", "")
    assert run("net.ipv4.ip_forward=1", values=True) == (0, "1\n", "")
    assert run.stack.net.conf.all.forwarding == 1


def test_values_or_names_alone(run: Setup) -> None:
    assert run("net.ipv4.ip_forward", values=True) == (0, "0\n", "")
    assert run("net.ipv4.ip_forward", names=True) == (0, "net.ipv4.ip_forward\n", "")


def test_a_folder_shows_what_is_in_it(run: Setup) -> None:
    status, out, _ = run("net.ipv4.conf.lo")
    assert status == 0 and out.startswith("net.ipv4.conf.lo.accept_local = 0\nnet.ipv4.conf.lo.accept_redirects = 1\n")


def test_all_but_what_is_only_written(run: Setup) -> None:
    status, out, err = run("")
    names = [line.partition(" = ")[0] for line in out.splitlines()]
    assert (status, err) == (0, "")
    missing = set(run.stack.sysctl.names()) - set(names)
    assert {name.rpartition(".")[2] for name in missing} == {"flush", "base_reachable_time", "retrans_time"}
    assert len(run("", deprecated=True)[1].splitlines()) == len(run.stack.sysctl.names()) - 1


def test_a_pattern(run: Setup) -> None:
    assert run("", pattern=r"lo\.rp_f") == (0, "net.ipv4.conf.lo.rp_filter = 0\n", "")


def test_json(run: Setup) -> None:
    status, out, _ = run("net.ipv4.ip_forward", "net.ipv4.tcp_wmem", as_json=True)
    assert status == 0
    assert json.loads(out) == {"net.ipv4.ip_forward": "0", "net.ipv4.tcp_wmem": "4096\t16384\t4194304"}


def test_what_settings_mean(run: Setup) -> None:
    status, out, _ = run("net.ipv4.conf.all.rp_filter", doc=True)
    assert (status, out) == (
        0, "net.ipv4.conf.all.rp_filter = source validation: 0 none, 1 strict, 2 loose (RFC 3704)\n",
    )  # fmt: skip


def test_dots_in_a_device_s_name(run: Setup) -> None:
    for name in ("net.ipv4.conf.eth0/5.rp_filter", "net/ipv4/conf/eth0.5/rp_filter"):
        assert run(name) == (0, "net.ipv4.conf.eth0/5.rp_filter = 0\n", "")


def test_errors_are_sysctl_s(run: Setup) -> None:
    nowhere = "sysctl: cannot stat /proc/sys/net/ipv4/nope: No such file or directory\n"
    assert run("net.ipv4.nope") == (1, "", nowhere)
    assert run("net.ipv4.nope=1") == (1, "", nowhere)
    assert run("net.ipv4.nope", ignore=True) == (0, "", "")
    assert run("net.ipv4.ip_forward=x") == (1, "", 'sysctl: setting key "net.ipv4.ip_forward": Invalid argument\n')
    assert run("net.ipv4.ip_forward=") == (1, "", 'sysctl: setting key "net.ipv4.ip_forward": Invalid argument\n')
    assert run("net.ipv4.ip_forward", write=True) == (1, "", "sysctl: command line(0): invalid syntax, continuing...\n")
    denied = 'sysctl: permission denied on key "net.ipv4.conf.lo.mc_forwarding"\n'
    assert run("net.ipv4.conf.lo.mc_forwarding=1") == (1, "", denied)


def test_what_is_only_written_shows_nothing(run: Setup) -> None:
    assert run("net.ipv4.route.flush") == (0, "", "")
    assert run("net.ipv4.route.flush=1") == (0, "net.ipv4.route.flush = 1\n", "")


def test_one_mistake_does_not_stop_the_others(run: Setup) -> None:
    status, out, err = run("net.ipv4.nope", "net.ipv4.ip_forward")
    assert (status, out) == (1, "net.ipv4.ip_forward = 0\n") and "nope" in err


def test_nothing_asked_for() -> None:
    result = CliRunner().invoke(sysctl, [])
    assert result.exit_code == 1 and "no variables specified" in result.output


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("net.ipv4.conf.eth0/5.rp_filter", "/proc/sys/net/ipv4/conf/eth0.5/rp_filter"),
        ("net/ipv4/conf/eth0.5/rp_filter", "/proc/sys/net/ipv4/conf/eth0.5/rp_filter"),
        ("nope", "/proc/sys/nope"),
    ],
)
def test_paths(name: str, path: str) -> None:
    assert path_of(name) == path


# -- the daemon's side


def test_the_service_answers(run: Setup) -> None:
    answer = run.ask(GetSysctl("net.ipv4.ip_default_ttl"))
    assert isinstance(answer, Settings) and answer.values == {"net.ipv4.ip_default_ttl": "64"}
    assert answer.docs == {"net.ipv4.ip_default_ttl": "time to live of packets we send"}
    assert isinstance(run.ask(SetSysctl("net.ipv4.ip_default_ttl", "128")), Ack)
    assert run.stack.net.sysctl.ip_default_ttl == 128


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        (GetSysctl("net.ipv4.nope"), 2),
        (GetSysctl("net.ipv4.conf.nope.rp_filter"), 2),
        (GetSysctl("net.ipv4.route.flush"), 13),
        (SetSysctl("", "1"), 2),
        (SetSysctl("net.ipv4", "1"), 2),
        (SetSysctl("net.ipv4.ip_default_ttl", "0"), 22),
        (SetSysctl("net.ipv4.conf.all.mc_forwarding", "1"), 13),
    ],
)
def test_the_service_refuses_with_an_errno(run: Setup, request_: GetSysctl | SetSysctl, code: int) -> None:
    answer = run.ask(request_)
    assert isinstance(answer, Nack) and answer.errno == code
