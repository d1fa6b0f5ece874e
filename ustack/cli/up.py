"""ustack up: the daemon, in the foreground or behind us."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

if TYPE_CHECKING:
    from ustack.io.config import Config
    from ustack.io.daemon import Daemon

#: What the daemon tells who started it once it answers.
READY: Final = b"ready"
MESSAGE_MAX: Final = 4096


@click.command()
@click.option("--dev", metavar="NAME", help="TAP device: made, or attached to if it is there.  [us0]")
@click.option("--addr", metavar="CIDR", multiple=True, help="Address of the stack; may be given several times.")
@click.option("--gateway", metavar="ADDR", help="Default gateway of the stack.")
@click.option("--host-addr", metavar="CIDR", help="Bring the host's side of the TAP up with this address.")
@click.option("--mtu", type=int, metavar="N", help="MTU of the link, bytes.  [1500]")
@click.option("--no-offload", is_flag=True, default=None, help="No checksum and segmentation offload on the TAP.")
@click.option("--serve", metavar="LIST", help="Services: echo, discard, chargen, http; with commas.")
@click.option("--config", type=click.Path(dir_okay=False, path_type=Path), help="TOML file with the same names.")
@click.option("--capture", metavar="FILE", help="Write every frame to a pcapng file.")
@click.option("--control", metavar="PATH", help="Control socket.")
@click.option("--log-level", metavar="LEVEL", help="debug, info, warning or error.  [info]")
@click.option("--foreground", is_flag=True, help="Stay, and log to stderr; SIGTERM or 'ustack down' ends it.")
def up(config: Path | None, foreground: bool, **options: Any) -> None:
    """Start a stack on a TAP device and return once it answers."""
    settings = settle(config, options)
    if foreground:
        run(settings)
    else:
        run_behind(settings)


def settle(path: Path | None, options: dict[str, Any]) -> Config:
    """The file's settings, with those of the command line in their place. Raises ConfigError, OSError."""
    from ustack.io.config import Config, load

    settings = Config() if path is None else load(path)
    options["addr"] = list(options["addr"]) or None
    if options["serve"] is not None:
        options["serve"] = [name.strip() for name in options["serve"].split(",") if name.strip()]
    for name, value in options.items():
        if value is not None:
            setattr(settings, name, value)
    settings.check()
    return settings


def run(settings: Config) -> None:
    """Until it is stopped."""
    from ustack.cli.logs import log_to_stderr

    log_to_stderr(settings.log_level)
    start(settings).run()


def start(settings: Config) -> Daemon:
    """A daemon that answers. Raises OSError, ConfigError."""
    from ustack.io.host_helper import HostHelper

    helper = HostHelper() if settings.host_addr is not None else None
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
