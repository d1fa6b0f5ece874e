"""The ustack command: which subcommands there are, and how errors end.

Nothing but click is imported before a subcommand is chosen, and only what that one needs after it.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Final

import click

if TYPE_CHECKING:
    from typing import NoReturn

#: Subcommand: its module, which has a command of the same name, and what --help says about it.
COMMANDS: Final = {
    "up": ("ustack.cli.up", "Start a stack on a TAP device."),
    "down": ("ustack.cli.control", "Stop the running daemon."),
    "status": ("ustack.cli.control", "Show devices, neighbours, sockets and drops of the running daemon."),
    "lab": (
        "ustack.cli.lab",
        "Run a network of stacks: hosts, routers, switches, bad cables, in virtual or real time.",
    ),
    "shell": ("ustack.cli.shell", "Run a command, or a shell, on a network that has a stack on it."),
    "ping": ("ustack.cli.ping", "Send ICMP echo requests out of the stack."),
    "nc": ("ustack.cli.nc", "Connect or listen, TCP or UDP, out of the stack."),
    "addr": ("ustack.cli.ip.command", "Show and change addresses, as ip does."),
    "link": ("ustack.cli.ip.command", "Show and change devices, as ip does."),
    "route": ("ustack.cli.ip.command", "Show, change, ask, save and load routes, as ip does."),
    "rule": ("ustack.cli.ip.command", "Show and change the rules that choose a table, as ip does."),
    "neigh": ("ustack.cli.ip.command", "Show and change neighbours, as ip does."),
    "bridge": ("ustack.cli.bridge", "Show the stations that bridges have learned, as bridge fdb does."),
    "nexthop": ("ustack.cli.ip.command", "Show and change next hops that routes share, as ip does."),
    "monitor": ("ustack.cli.ip.command", "Watch all of these change, as ip does."),
    "ip": ("ustack.cli.ip.command", "The same with the options first: ustack ip -j route show."),
    "sysctl": ("ustack.cli.sysctl", "Show and set the stack's settings under Linux's names."),
    "trace": ("ustack.cli.trace", "Show the way of packets through the stack, step by step."),
    "ss": ("ustack.cli.ss", "Show sockets with all that TCP knows of them, as ss does."),
    "proc": ("ustack.cli.control", "Print what Linux has in /proc/net: the shape of the tables, route counters."),
    "completion": ("ustack.cli.completion", "Print the completion script for bash or zsh."),
}

#: What iproute2 calls its objects, in the order in which it tries abbreviations, and what we do.
IP_OBJECTS: Final = {
    "address": "addr", "route": "route", "rule": "rule", "neighbor": "neigh", "neighbour": "neigh", "link": "link",
    "monitor": "monitor", "nexthop": "nexthop",
}  # fmt: skip

#: Exit status for everything that is wrong with the environment rather than with the command line (which is 2).
FAILURE: Final = 1
#: sysexits.h has no word for it; the shell adds 128 to a signal's number, and SIGINT is 2.
INTERRUPTED: Final = 130


class LazyGroup(click.Group):
    """Loads a subcommand's module when the subcommand runs."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            name = next((ours for word, ours in IP_OBJECTS.items() if name and word.startswith(name)), name)
        if name not in COMMANDS:
            return None
        command = getattr(import_module(COMMANDS[name][0]), name)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


def print_version(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        from ustack.io.version import ustack_version

        click.echo(f"ustack {ustack_version()}")
        ctx.exit()


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "-V", "--version", is_flag=True, expose_value=False, is_eager=True, callback=print_version, help="Show the version."
)
def cli() -> None:
    """Linux's IPv4 network stack in Python, in user space.

    The shortest demonstration there is: ustack shell -- ping -c 3 192.0.2.2
    """


def main() -> NoReturn:
    """Run the command line; whatever goes wrong is one line on stderr and a status other than 0."""
    try:
        status = cli.main(prog_name="ustack", standalone_mode=False)
    except click.exceptions.Exit as leave:
        status = leave.exit_code
    except click.UsageError as mistake:
        where = mistake.ctx.command_path if mistake.ctx else "ustack"
        fail(f"{mistake.format_message().rstrip('.')} (see '{where} --help')", mistake.exit_code)
    except click.ClickException as mistake:
        fail(mistake.format_message(), mistake.exit_code)
    except (click.Abort, KeyboardInterrupt):
        status = INTERRUPTED
    except BrokenPipeError:
        # who read our output has enough; the interpreter must not complain when it flushes at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = FAILURE
    except (OSError, ValueError) as reason:
        fail(say(reason))
    except Exception as mistake:
        if os.environ.get("USTACK_TRACEBACK"):
            raise
        fail(f"internal error: {type(mistake).__name__}: {mistake} (USTACK_TRACEBACK=1 shows where)")
    sys.exit(status if isinstance(status, int) else 0)


def fail(text: str, status: int = FAILURE) -> NoReturn:
    click.echo(f"ustack: {' '.join(text.split())}", err=True)
    sys.exit(status)


def say(reason: OSError | ValueError) -> str:
    """``name: text`` for what is about a file or a device, else the text."""
    if not isinstance(reason, OSError) or not reason.strerror:
        return str(reason) or type(reason).__name__
    return f"{os.fsdecode(reason.filename)}: {reason.strerror}" if reason.filename else reason.strerror
