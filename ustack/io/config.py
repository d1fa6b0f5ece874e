"""Configuration of the daemon: the options of ``ustack up`` and the same names in a TOML file.

    dev = "us0"
    addr = ["192.0.2.2/24"]
    host-addr = "192.0.2.1/24"
    serve = ["echo", "http"]

A router has a table for each of its devices instead of ``dev``, ``addr`` and ``host-addr``:

    [[device]]
    name = "us0"
    addr = ["192.0.2.2/24"]

    [[device]]
    name = "us1"
    addr = ["198.51.100.2/24"]

Settings of the stack have Linux's names:

    [sysctl]
    "net.ipv4.ip_forward" = 1

What is given on the command line wins over the file. Every mistake is a ConfigError whose text names the setting.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

import msgspec

from ustack.device.net_device import IFNAMSIZ, dev_valid_name
from ustack.wire.ipv4 import addr_to_str, str_to_addr

if TYPE_CHECKING:
    from pathlib import Path

SERVICES: Final = ("echo", "discard", "chargen", "http")
LOG_LEVELS: Final = ("debug", "info", "warning", "error")
#: RFC 791: "Every internet module must be able to forward a datagram of 68 octets"; 65,535 is IPv4's total length.
MTU_MIN: Final = 68
MTU_MAX: Final = 65_535
#: The shell's and the examples' network: TEST-NET-1 (RFC 5737).
STACK_ADDR: Final = "192.0.2.2/24"
HOST_ADDR: Final = "192.0.2.1/24"


class ConfigError(ValueError):
    """One line that says which setting is wrong and why."""


class Cidr:
    """An address with its network: ``address`` in host order, ``prefixlen`` 0 to 32."""

    def __init__(self, address: int, prefixlen: int) -> None:
        self.address: int = address
        self.prefixlen: int = prefixlen

    def __str__(self) -> str:
        return f"{addr_to_str(self.address)}/{self.prefixlen}"


def parse_address(text: str) -> int:
    """Dotted quad to host order. Raises ConfigError: the short and octal forms of inet_aton are not addresses here."""
    try:
        return str_to_addr(text)
    except ValueError:
        raise ConfigError(f"bad address {text!r}: four numbers from 0 to 255 with dots are wanted") from None


def parse_cidr(text: str) -> Cidr:
    """``192.0.2.2/24``; without a length the address stands alone (/32), as ``ip address add`` has it."""
    address, slash, length = text.partition("/")
    if slash and not (length.isascii() and length.isdigit() and int(length) <= 32):
        raise ConfigError(f"bad prefix length in {text!r}: a number from 0 to 32 is wanted")
    return Cidr(parse_address(address), int(length) if slash else 32)


class Device(msgspec.Struct, forbid_unknown_fields=True, rename="kebab", omit_defaults=True, kw_only=True):
    """One TAP of several; what is None is the configuration's."""

    name: str
    addr: list[str] = []
    host_addr: str | None = None
    mtu: int | None = None
    no_offload: bool | None = None


class Config(msgspec.Struct, forbid_unknown_fields=True, rename="kebab", omit_defaults=True, kw_only=True):
    """Every setting with its default; ``check`` before use."""

    dev: str = "us0"
    addr: list[str] = []
    gateway: str | None = None
    host_addr: str | None = None
    device: list[Device] = []
    mtu: int = 1500
    no_offload: bool = False
    sysctl: dict[str, str | int] = {}
    serve: list[str] = []
    capture: str | None = None
    control: str | None = None
    log_level: str = "info"

    def check(self) -> None:
        """Raises ConfigError for the first setting that cannot be."""
        if self.device and (self.addr or self.host_addr):
            raise ConfigError("addr and host-addr belong into each [[device]] where there are any")
        names: list[str] = []
        for device in self.devices():
            check_device(device)
            if device.name in names:
                raise ConfigError(f"device {device.name!r} is there twice")
            names.append(device.name)
        if self.gateway is not None:
            parse_address(self.gateway)
        for name in self.serve:
            if name not in SERVICES:
                raise ConfigError(f"unknown service {name!r} in serve: there are {', '.join(SERVICES)}")
        if self.log_level not in LOG_LEVELS:
            raise ConfigError(f"bad log-level {self.log_level!r}: one of {', '.join(LOG_LEVELS)} is wanted")

    def devices(self) -> list[Device]:
        """Every TAP with all of its settings: those of [[device]], or the one of ``dev``."""
        if not self.device:
            one = Device(name=self.dev, addr=self.addr, host_addr=self.host_addr)
            return [self._complete(one)]
        return [self._complete(device) for device in self.device]

    def _complete(self, device: Device) -> Device:
        return Device(
            name=device.name,
            addr=device.addr,
            host_addr=device.host_addr,
            mtu=self.mtu if device.mtu is None else device.mtu,
            no_offload=self.no_offload if device.no_offload is None else device.no_offload,
        )


def check_device(device: Device) -> None:
    """Raises ConfigError for the first setting of ``device``, whose settings are all there, that cannot be."""
    check_device_name(device.name)
    for cidr in device.addr:
        parse_cidr(cidr)
    if device.host_addr is not None:
        parse_cidr(device.host_addr)
    if device.mtu is None or not MTU_MIN <= device.mtu <= MTU_MAX:
        raise ConfigError(f"bad mtu {device.mtu}: {MTU_MIN} to {MTU_MAX} bytes are possible")


def check_device_name(name: str) -> None:
    """Raises ConfigError for what dev_valid_name does not take."""
    if not dev_valid_name(name):
        raise ConfigError(
            f"bad device name {name!r}: 1 to {IFNAMSIZ - 1} bytes without '/', ':' and spaces are possible"
        )


def load(path: Path) -> Config:
    """The file as a Config, checked. Raises ConfigError for what is in it, OSError where it cannot be read."""
    return parse(path.read_bytes(), str(path))


def parse(text: bytes, name: str) -> Config:
    """TOML to a checked Config; ``name`` is what errors call the file."""
    try:
        config = msgspec.toml.decode(text, type=Config)
        config.check()
    except (msgspec.MsgspecError, ConfigError, UnicodeDecodeError, ValueError) as mistake:
        raise ConfigError(f"{name}: {say(mistake)}") from None
    return config


def say(mistake: Exception) -> str:
    """The text of a mistake; msgspec's "Object contains unknown field" in the words of a configuration file."""
    return str(mistake).replace("Object contains unknown field", "unknown key").replace("`", "'")


def default_control_path() -> str:
    """Where daemon and clients meet unless told: $USTACK_CONTROL, else one place a user."""
    told = os.environ.get("USTACK_CONTROL")
    if told:
        return told
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if runtime:
        return os.path.join(runtime, "ustack.sock")
    uid = os.getuid()
    return "/run/ustack.sock" if uid == 0 else f"/tmp/ustack-{uid}.sock"
