"""The configuration: every setting by its name, every mistake by the name of its setting."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ustack.io.config import (
    SERVICES,
    Config,
    ConfigError,
    default_control_path,
    load,
    parse,
    parse_address,
    parse_cidr,
)
from ustack.wire.ipv4 import addr_to_str

if TYPE_CHECKING:
    from pathlib import Path

EVERYTHING = b"""
dev = "us7"
addr = ["192.0.2.2/24", "198.51.100.2/25"]
gateway = "192.0.2.1"
host-addr = "192.0.2.1/24"
mtu = 9000
no-offload = true
serve = ["echo", "http"]
capture = "frames.pcapng"
control = "/run/us7.sock"
log-level = "debug"

[sysctl]
"net.ipv4.ip_forward" = 1
"net.ipv4.tcp_rmem" = "4096 131072 1048576"
"""


def test_every_setting_has_the_name_of_its_option() -> None:
    assert parse(EVERYTHING, "x") == Config(
        dev="us7",
        addr=["192.0.2.2/24", "198.51.100.2/25"],
        gateway="192.0.2.1",
        host_addr="192.0.2.1/24",
        mtu=9000,
        no_offload=True,
        serve=["echo", "http"],
        capture="frames.pcapng",
        control="/run/us7.sock",
        log_level="debug",
        sysctl={"net.ipv4.ip_forward": 1, "net.ipv4.tcp_rmem": "4096 131072 1048576"},
    )


def test_an_empty_file_is_the_defaults() -> None:
    assert parse(b"", "x") == Config()
    assert (Config().dev, Config().mtu, Config().serve, Config().no_offload) == ("us0", 1500, [], False)


ROUTER = b"""
mtu = 9000

[[device]]
name = "us0"
addr = ["192.0.2.2/24"]
host-addr = "192.0.2.1/24"

[[device]]
name = "us1"
addr = ["198.51.100.2/24"]
mtu = 1400
no-offload = true
"""


def test_several_devices() -> None:
    """What a device does not say the configuration says for all of them."""
    first, second = parse(ROUTER, "x").devices()
    assert (first.name, first.addr, first.host_addr) == ("us0", ["192.0.2.2/24"], "192.0.2.1/24")
    assert (first.mtu, first.no_offload) == (9000, False)
    assert (second.name, second.addr, second.host_addr) == ("us1", ["198.51.100.2/24"], None)
    assert (second.mtu, second.no_offload) == (1400, True)


def test_one_device_needs_no_table() -> None:
    (only,) = parse(EVERYTHING, "x").devices()
    assert (only.name, only.addr, only.host_addr) == ("us7", ["192.0.2.2/24", "198.51.100.2/25"], "192.0.2.1/24")
    assert (only.mtu, only.no_offload) == (9000, True)


def test_defaults_are_not_shared() -> None:
    Config().addr.append("192.0.2.2")
    assert Config().addr == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"adress = []", "unknown key 'adress'"),
        (b"host_addr = '192.0.2.1/24'", "unknown key 'host_addr'"),
        (b"mtu = 'large'", "mtu"),
        (b"mtu = 67", "bad mtu 67"),
        (b"mtu = 65536", "bad mtu 65536"),
        (b"addr = '192.0.2.2'", "addr"),
        (b"addr = ['192.0.2']", "bad address '192.0.2'"),
        (b"addr = ['192.0.2.2/33']", "bad prefix length in '192.0.2.2/33'"),
        (b"addr = ['192.0.2.2/']", "bad prefix length"),
        (b"addr = ['192.0.2.2/+1']", "bad prefix length"),
        (b"gateway = '192.0.2.256'", "bad address '192.0.2.256'"),
        (b"gateway = '::1'", "bad address"),
        (b"host-addr = 'localhost/8'", "bad address 'localhost'"),
        (b"serve = ['ftp']", "unknown service 'ftp'"),
        (b"dev = ''", "bad device name ''"),
        (b"dev = 'a/b'", "bad device name"),
        (b"dev = 'sixteen-bytes-xx'", "bad device name"),
        (b"log-level = 'loud'", "bad log-level 'loud'"),
        (b"addr = ['192.0.2.2']\n[[device]]\nname = 'us1'", "addr and host-addr belong into each [[device]]"),
        (b"[[device]]\naddr = []", "name"),
        (b"[[device]]\nname = 'us1'\n[[device]]\nname = 'us1'", "device 'us1' is there twice"),
        (b"[[device]]\nname = 'us1'\nmtu = 20", "bad mtu 20"),
        (b"[[device]]\nname = 'us1'\ngateway = '192.0.2.1'", "unknown key 'gateway'"),
        (b"mtu = ", "x: "),
        (b"\xff", "x: "),
    ],
)
def test_a_mistake_is_named_in_one_line(text: bytes, said: str) -> None:
    with pytest.raises(ConfigError) as seen:
        parse(text, "x")
    assert said in str(seen.value)
    assert str(seen.value).startswith("x: ") and "\n" not in str(seen.value)


def test_every_service_may_be_asked_for() -> None:
    Config(serve=list(SERVICES)).check()


def test_the_longest_device_name() -> None:
    Config(dev="fifteen-bytes-x").check()


@given(st.integers(0, 0xFFFF_FFFF), st.integers(0, 32))
def test_addresses_and_networks_come_back(address: int, prefixlen: int) -> None:
    assert parse_address(addr_to_str(address)) == address
    cidr = parse_cidr(f"{addr_to_str(address)}/{prefixlen}")
    assert (cidr.address, cidr.prefixlen) == (address, prefixlen)
    assert str(cidr) == f"{addr_to_str(address)}/{prefixlen}"


def test_an_address_without_a_length_stands_alone() -> None:
    assert str(parse_cidr("192.0.2.2")) == "192.0.2.2/32"


@given(st.text(max_size=20))
def test_no_text_raises_anything_else(text: str) -> None:
    for read in (parse_address, parse_cidr):
        try:
            read(text)
        except ConfigError as mistake:
            assert "\n" not in str(mistake)  # repr() quotes what would break the line


@given(st.binary(max_size=60))
def test_no_file_raises_anything_else(text: bytes) -> None:
    try:
        parse(text, "x")
    except ConfigError as mistake:
        assert str(mistake)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(OSError) as seen:
        load(tmp_path / "missing.toml")
    assert seen.value.errno == errno.ENOENT
    (tmp_path / "there.toml").write_bytes(EVERYTHING)
    assert load(tmp_path / "there.toml").mtu == 9000


def test_where_the_control_socket_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("USTACK_CONTROL", "/somewhere/else")
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/1000")
    assert default_control_path() == "/somewhere/else"
    monkeypatch.delenv("USTACK_CONTROL")
    assert default_control_path() == "/run/user/1000/ustack.sock"
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    assert default_control_path().endswith(".sock")
