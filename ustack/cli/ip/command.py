"""ustack addr, link, route, ...: the command lines, handed to the grammar as they are."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

import click

if TYPE_CHECKING:
    from collections.abc import Sequence

    from click.shell_completion import CompletionItem

#: Nothing here is click's to understand but --control and --help, wherever they stand.
RAW: Final = {"ignore_unknown_options": True, "allow_interspersed_args": True, "help_option_names": []}
#: Our names for iproute2's objects.
OBJECTS: Final = {
    "addr": "address", "link": "link", "route": "route", "rule": "rule", "neigh": "neighbour", "nexthop": "nexthop",
    "monitor": "monitor", "ip": "help",
}  # fmt: skip
CHANGES: Final = ("show", "add", "replace", "change", "del", "flush")
VERBS: Final = {
    "addr": CHANGES,
    "link": ("show", "set", "add", "del"),
    "route": (*CHANGES, "append", "prepend", "get", "save", "load"),
    "rule": ("show", "add", "del", "flush"),
    "neigh": (*CHANGES, "get"),
    "nexthop": ("show", "add", "replace", "del", "get", "flush"),
    "monitor": ("all", "link", "address", "route", "neigh", "rule", "nexthop", "netconf"),
}


class IpCommand(click.Command):
    """Its help is iproute2's kind of usage; every word is an argument."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.params["control"], ctx.params["words"] = take_control(args)
        return []

    def get_help(self, ctx: click.Context) -> str:
        from ustack.cli.ip.usage import USAGE

        program = "ustack ip" if self.name == "ip" else "ustack"
        return f"{USAGE[OBJECTS[str(self.name)]].format(program=program)}\n{self.help}"

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """The verb, after which anything may come."""
        from click.shell_completion import CompletionItem

        words = list(ctx.params.get("words", []))
        subject = str(self.name)
        if subject == "ip":
            if not words:
                return [CompletionItem(name) for name in OBJECTS if name != "ip" and name.startswith(incomplete)]
            subject = words.pop(0)
        verbs = () if words else VERBS.get(subject, ())
        return [CompletionItem(verb) for verb in verbs if verb.startswith(incomplete)]


def take_control(args: Sequence[str]) -> tuple[str | None, list[str]]:
    """The value of --control, and the other words."""
    control, words = None, []
    rest = iter(args)
    for word in rest:
        if word == "--control":
            control = next(rest, None)
            if control is None:
                raise click.UsageError("Option '--control' requires an argument.")
        elif word.startswith("--control="):
            control = word.partition("=")[2]
        else:
            words.append(word)
    return control, words


def make(name: str, text: str) -> IpCommand:
    """The command of that name."""

    def call(control: str | None, words: list[str]) -> None:
        ctx = click.get_current_context()
        if "--help" in words:
            click.echo(ctx.get_help())
            ctx.exit()
        status = execute(words if name == "ip" else [name, *words], control)
        if status:
            ctx.exit(status)

    text += "\n\nOptions of iproute2 (-j -p -s -d -o -br -N) stand anywhere; --control PATH names the daemon's socket."
    return IpCommand(name, context_settings=dict(RAW), callback=call, help=text)


def execute(words: list[str], control: str | None) -> int:
    """The exit status."""
    from ustack.cli.ip.run import run
    from ustack.cli.ip.transport import DaemonTransport

    transport = DaemonTransport(control)
    try:
        return run(words, transport, sys.stdout, sys.stderr, program="ustack")
    finally:
        transport.close()


addr = make("addr", "Addresses of the devices.")
link = make("link", "The devices themselves.")
route = make("route", "Routes, in every table.")
rule = make("rule", "Which table is asked, and when.")
neigh = make("neigh", "Neighbours, and addresses answered for.")
nexthop = make("nexthop", "Next hops that many routes share.")
monitor = make("monitor", "What changes, as it changes.")
ip = make("ip", "All of these, as iproute2 has them: ustack ip -j route show.")
