"""ustack up: which device an address on the command line belongs to, and what the file has to say beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from ustack.cli.up import settle
from ustack.io.config import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    from ustack.io.config import Device


def devices(path: Path | None = None, **options: Any) -> list[Device]:
    return settle(path, {"serve": None} | options).devices()


def described(path: Path | None = None, **options: Any) -> list[tuple[str, list[str], str | None]]:
    return [(device.name, device.addr, device.host_addr) for device in devices(path, **options)]


@pytest.fixture
def router(tmp_path: Path) -> Path:
    file = tmp_path / "router.toml"
    file.write_text("""
        [[device]]
        name = "us0"
        addr = ["192.0.2.2/24"]
        [[device]]
        name = "us1"
        addr = ["198.51.100.2/24"]
        host-addr = "198.51.100.1/24"
    """)
    return file


def test_one_device_is_us0() -> None:
    assert described() == [("us0", [], None)]
    assert described(addr=("192.0.2.2/24", "192.0.2.3/24"), host_addr=("192.0.2.1/24",)) == [
        ("us0", ["192.0.2.2/24", "192.0.2.3/24"], "192.0.2.1/24")
    ]
    assert described(dev=("tap7",), addr=("192.0.2.2/24",)) == [("tap7", ["192.0.2.2/24"], None)]
    assert described(addr=("us0=192.0.2.2/24",)) == [("us0", ["192.0.2.2/24"], None)]


def test_several_devices_need_a_name_at_each_address() -> None:
    two = ("us0", "us1")
    addresses = ("us0=192.0.2.2/24", "us1=198.51.100.2/24", "us1=198.51.100.3/24")
    assert described(dev=two, addr=addresses, host_addr=("us1=198.51.100.1/24",)) == [
        ("us0", ["192.0.2.2/24"], None),
        ("us1", ["198.51.100.2/24", "198.51.100.3/24"], "198.51.100.1/24"),
    ]
    with pytest.raises(ConfigError, match="say whose it is, as in us0=192.0.2.2/24"):
        devices(dev=two, addr=("192.0.2.2/24",))
    with pytest.raises(ConfigError, match="no device 'us2', but us0, us1"):
        devices(dev=two, host_addr=("us2=192.0.2.1/24",))
    with pytest.raises(ConfigError, match="there twice"):
        devices(dev=("us0", "us0"))


def test_mtu_and_offload_are_everybodys() -> None:
    assert [(d.mtu, d.no_offload) for d in devices(dev=("a", "b"), mtu=1400, no_offload=True)] == [(1400, True)] * 2


def test_the_command_line_wins_over_the_file(router: Path) -> None:
    assert described(router) == [("us0", ["192.0.2.2/24"], None), ("us1", ["198.51.100.2/24"], "198.51.100.1/24")]
    changed = described(router, addr=("us1=203.0.113.2/24",))
    assert changed == [("us0", ["192.0.2.2/24"], None), ("us1", ["203.0.113.2/24"], "198.51.100.1/24")]
    assert described(router, dev=("us5",)) == [("us5", [], None)]


def test_another_name_for_the_device_of_the_file(tmp_path: Path) -> None:
    file = tmp_path / "host.toml"
    file.write_text('addr = ["192.0.2.2/24"]\nhost-addr = "192.0.2.1/24"\n')
    assert described(file, dev=("us3",)) == [("us3", ["192.0.2.2/24"], "192.0.2.1/24")]
    assert described(file, addr=("192.0.2.9/24",)) == [("us0", ["192.0.2.9/24"], "192.0.2.1/24")]
