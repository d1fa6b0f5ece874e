"""Settings that the configuration gives to the stack (--sysctl, [sysctl])."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ustack.cli.up import settle
from ustack.device.net_device import NetDevice
from ustack.io.config import ConfigError, parse
from ustack.io.daemon import refuse, set_sysctls
from ustack.stack import Stack

if TYPE_CHECKING:
    from pathlib import Path

SEED = bytes(32)
OPTIONS = {"serve": None, "dev": (), "addr": (), "host_addr": ()}


def test_what_there_is_is_set_at_once_and_the_rest_kept() -> None:
    """conf.default before there are devices, so that they start with it; a device's own once it is there."""
    stack = Stack(SEED)
    settings: dict[str, str | int] = {
        "net.ipv4.conf.us0.rp_filter": 2,
        "net.ipv4.conf.default.rp_filter": 1,
        "net.ipv4.ip_forward": "1",
    }
    later = set_sysctls(stack, settings)
    assert later == {"net.ipv4.conf.us0.rp_filter": 2}
    us0 = stack.add_device(NetDevice("us0", 0x02_00_00_00_00_01))
    us1 = stack.add_device(NetDevice("us1", 0x02_00_00_00_00_02))
    refuse(set_sysctls(stack, later))
    assert (us0.in_dev.cnf.rp_filter, us1.in_dev.cnf.rp_filter) == (2, 1)
    assert us0.in_dev.forward() and us1.in_dev.forward()


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("net.ipv4.ip_default_ttl", 0, "sysctl net.ipv4.ip_default_ttl = 0: Invalid argument"),
        ("net.ipv4.ip_forward", "yes", "sysctl net.ipv4.ip_forward = yes: Invalid argument"),
        ("net.ipv4.conf.lo.mc_forwarding", 1, "sysctl net.ipv4.conf.lo.mc_forwarding = 1: Permission denied"),
    ],
)
def test_a_value_that_cannot_be_is_named(name: str, value: str | int, said: str) -> None:
    with pytest.raises(ConfigError) as raised:
        set_sysctls(Stack(SEED), {name: value})
    assert str(raised.value) == said


def test_a_name_that_never_comes_is_a_mistake() -> None:
    stack = Stack(SEED)
    later = set_sysctls(stack, {"net.ipv4.conf.us7.rp_filter": 1})
    with pytest.raises(ConfigError, match="sysctl net.ipv4.conf.us7.rp_filter: there is no such setting"):
        refuse(set_sysctls(stack, later))
    refuse({})


def test_the_command_line_wins_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "ustack.toml"
    file.write_text('[sysctl]\n"net.ipv4.ip_forward" = 1\n"net.ipv4.ip_default_ttl" = 9\n')
    options = ("net.ipv4.ip_forward=0", "net.ipv4.tcp_rmem = 1 2 3")
    assert settle(file, OPTIONS | {"sysctl": options}).sysctl == {
        "net.ipv4.ip_default_ttl": 9,
        "net.ipv4.ip_forward": "0",
        "net.ipv4.tcp_rmem": "1 2 3",
    }


def test_a_setting_without_a_value_is_a_mistake() -> None:
    with pytest.raises(ConfigError, match="NAME=VALUE is wanted"):
        settle(None, OPTIONS | {"sysctl": ("net.ipv4.ip_forward",)})


@pytest.mark.parametrize("text", [b"sysctl = 1", b"[sysctl]\nx = true", b"[sysctl]\nnet.ipv4.ip_forward = 1"])
def test_a_table_of_something_else(text: bytes) -> None:
    with pytest.raises(ConfigError):
        parse(text, "x")
