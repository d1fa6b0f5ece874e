"""ustack shell: a command, or a shell, as the host of a network with a stack on it."""

from __future__ import annotations

import os
import sys

import click

from ustack.cli.up import settle


@click.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.option("--addr", metavar="CIDR", multiple=True, help="Address of the stack.  [192.0.2.2/24]")
@click.option("--host-addr", metavar="CIDR", help="Address of the host.  [192.0.2.1/24]")
@click.option("--mtu", type=int, metavar="N", help="MTU of the link, bytes.  [1500]")
@click.option("--no-offload", is_flag=True, default=None, help="No checksum and segmentation offload on the TAP.")
@click.option("--serve", metavar="LIST", help="Services.  [echo,discard,chargen,http]")
@click.option("--capture", metavar="FILE", help="Write every frame to a pcapng file.")
@click.option("--log-level", metavar="LEVEL", help="debug, info, warning or error.  [warning]")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
def shell(
    addr: tuple[str, ...],
    host_addr: str | None,
    mtu: int | None,
    no_offload: bool | None,
    serve: str | None,
    capture: str | None,
    log_level: str | None,
    command: tuple[str, ...],
) -> None:
    """Run COMMAND, or $SHELL, in a network of its own with a running stack.

    Nobody but COMMAND sees that network, no root is needed, and all of it is gone when COMMAND ends. The exit status
    is COMMAND's. 'ustack ping', 'ustack nc' and 'ustack status' inside talk to this stack.

    \b
    ustack shell -- ping -c 3 192.0.2.2
    ustack shell -- curl http://192.0.2.2/
    """
    from ustack.cli.logs import log_to_stderr
    from ustack.io.config import HOST_ADDR, SERVICES, STACK_ADDR
    from ustack.io.sandbox import NOT_EXECUTABLE, NOT_FOUND, run_in_sandbox

    settings = settle(
        None,
        {
            "addr": addr or (STACK_ADDR,),
            "host_addr": (host_addr or HOST_ADDR,),
            "mtu": mtu,
            "no_offload": no_offload,
            "serve": ",".join(SERVICES) if serve is None else serve,
            "capture": capture,
            "log_level": log_level or "warning",
        },
    )
    log_to_stderr(settings.log_level)
    words = list(command) or [os.environ.get("SHELL") or "/bin/sh"]
    try:
        status = run_in_sandbox(settings, words)
    except OSError as reason:
        if reason.filename != words[0]:
            raise
        click.echo(f"ustack: {words[0]}: {reason.strerror}", err=True)
        status = NOT_FOUND if reason.errno == NOT_FOUND else NOT_EXECUTABLE
    sys.exit(status)
