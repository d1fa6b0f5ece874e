"""ustack up: the daemon, in the foreground or behind us."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ustack.io.config import Config
    from ustack.io.daemon import Daemon

#: What the daemon tells who started it once it answers.
READY: Final = b"ready"
MESSAGE_MAX: Final = 4096


@click.command()
@click.option("--dev", metavar="NAME", multiple=True, help="TAP device: made, or attached to; several times.  [us0]")
@click.option("--addr", metavar="[DEV=]CIDR", multiple=True, help="Address of the stack, on DEV; several times.")
@click.option("--gateway", metavar="ADDR", help="Default gateway of the stack.")
@click.option("--host-addr", metavar="[DEV=]CIDR", multiple=True, help="Bring the host's side up with this address.")
@click.option("--mtu", type=int, metavar="N", help="MTU of the links, bytes.  [1500]")
@click.option("--no-offload", is_flag=True, default=None, help="No checksum and segmentation offload on the TAP.")
@click.option("--sysctl", metavar="NAME=VALUE", multiple=True, help="Setting under Linux's name; several times.")
@click.option("--serve", metavar="LIST", help="Services: echo, discard, chargen, http; with commas.")
@click.option("--config", type=click.Path(dir_okay=False, path_type=Path), help="TOML file with the same names.")
@click.option("--capture", metavar="FILE", help="Write every frame to a pcapng file.")
@click.option("--control", metavar="PATH", help="Control socket.")
@click.option("--log-level", metavar="LEVEL", help="debug, info, warning or error.  [info]")
@click.option("--foreground", is_flag=True, help="Stay, and log to stderr; SIGTERM or 'ustack down' ends it.")
def up(config: Path | None, foreground: bool, **options: Any) -> None:
    """Start a stack on a TAP device, or on several, and return once it answers.

    \b
    ustack up --addr 192.0.2.2/24 --host-addr 192.0.2.1/24
    ustack up --dev us0 --addr us0=192.0.2.2/24 --dev us1 --addr us1=198.51.100.2/24
    """
    settings = settle(config, options)
    if foreground:
        run(settings)
    else:
        run_behind(settings)


def settle(path: Path | None, options: dict[str, Any]) -> Config:
    """The file's settings, with those of the command line in their place. Raises ConfigError, OSError."""
    from ustack.io.config import Config, load

    settings = Config() if path is None else load(path)
    settle_devices(settings, options)
    settle_sysctl(settings, options.pop("sysctl", ()))
    if options["serve"] is not None:
        options["serve"] = [name.strip() for name in options["serve"].split(",") if name.strip()]
    for name, value in options.items():
        if value is not None:
            setattr(settings, name, value)
    settings.check()
    return settings


def settle_sysctl(settings: Config, given: Iterable[str]) -> None:
    """Those of the command line after those of the file, in order. Raises ConfigError for what has no ``=``."""
    from ustack.io.config import ConfigError

    for text in given:
        name, equals, value = text.partition("=")
        if not equals:
            raise ConfigError(f"bad --sysctl {text!r}: NAME=VALUE is wanted")
        settings.sysctl.pop(name.strip(), None)
        settings.sysctl[name.strip()] = value.strip()


def settle_devices(settings: Config, options: dict[str, Any]) -> None:
    """Take --dev, --addr and --host-addr out of ``options``: with one device they are its own, else DEV= says whose.

    Raises ConfigError.
    """
    from ustack.io.config import Device

    names, addresses, hosts = (list(options.pop(name, ()) or ()) for name in ("dev", "addr", "host_addr"))
    if names:
        settings.device = [Device(name=name) for name in names]
        if len(names) == 1:  # another name for the device of the file
            settings.device[0].addr, settings.device[0].host_addr = settings.addr, settings.host_addr
        settings.addr, settings.host_addr = [], None
    elif not settings.device:
        settings.device = [Device(name=settings.dev, addr=settings.addr, host_addr=settings.host_addr)]
        settings.addr, settings.host_addr = [], None
    devices = {device.name: device for device in settings.device}
    chosen: dict[str, list[str]] = {}
    for text in addresses:
        name, cidr = whose(text, devices, "--addr")
        chosen.setdefault(name, []).append(cidr)
    for name, cidrs in chosen.items():
        devices[name].addr = cidrs
    for text in hosts:
        name, cidr = whose(text, devices, "--host-addr")
        devices[name].host_addr = cidr


def whose(text: str, devices: Iterable[str], option: str) -> tuple[str, str]:
    """(device, CIDR) of ``[DEV=]CIDR``. Raises ConfigError where DEV is wanted, or no device of ours."""
    from ustack.io.config import ConfigError

    names = list(devices)
    name, said, cidr = text.partition("=")
    if said and name not in names:
        raise ConfigError(f"{option} {text!r}: there is no device {name!r}, but {', '.join(names)}")
    if not said and len(names) > 1:
        raise ConfigError(f"{option} {text!r}: with several devices say whose it is, as in {names[0]}={text}")
    return (name, cidr) if said else (names[0], text)


def run(settings: Config) -> None:
    """Until it is stopped."""
    from ustack.cli.logs import log_to_stderr

    log_to_stderr(settings.log_level)
    start(settings).run()


def start(settings: Config) -> Daemon:
    """A daemon that answers. Raises OSError, ConfigError."""
    from ustack.io.host_helper import HostHelper

    wanted = any(device.host_addr is not None for device in settings.devices())
    helper = HostHelper() if wanted else None
    try:
        from ustack.io.daemon import Daemon

        return Daemon(settings, helper)
    finally:
        if helper is not None:
            helper.close()


def run_behind(settings: Config) -> None:
    """In a process of its own (daemon(7)); returns once it answers, or raises what it failed with."""
    for name in ("capture", "control"):
        path = getattr(settings, name)
        if path is not None:
            setattr(settings, name, os.path.abspath(path))  # the daemon's directory is another
    here, there = os.pipe()
    if os.fork():
        os.close(there)
        with open(here, "rb") as pipe:
            message = pipe.read(MESSAGE_MAX)
        if message != READY:
            raise click.ClickException(message.decode(errors="replace") or "the daemon ended without a word")
        return
    status = 1
    try:
        os.close(here)
        os.setsid()
        os.chdir("/")
        serve_behind(settings, there)
        status = 0
    except Exception as reason:
        from ustack.cli.main import say

        with contextlib.suppress(OSError):  # once it was ready nobody listens any more
            text = say(reason) if isinstance(reason, OSError | ValueError) else repr(reason)
            os.write(there, " ".join(text.split()).encode()[:MESSAGE_MAX])
    finally:
        os._exit(status)


def serve_behind(settings: Config, parent: int) -> None:
    """What the process behind us does: start, say so, let go of the terminal, serve."""
    daemon = start(settings)
    nowhere = os.open(os.devnull, os.O_RDWR)
    sys.stdout.flush()
    for fd in (0, 1, 2):
        os.dup2(nowhere, fd)
    os.write(parent, READY)
    os.close(parent)
    daemon.run()
