"""ustack sysctl: settings read and written in the manner of sysctl(8)."""

from __future__ import annotations

import errno
import os
import re
from typing import TYPE_CHECKING

import click

from ustack.cli.control import control_option

if TYPE_CHECKING:
    from collections.abc import Callable

    from ustack.rtnl.messages import RtnlAnswer, RtnlRequest

#: Not shown among others: their values have better names.
DEPRECATED = ("base_reachable_time", "retrans_time")
#: What sysctl ends with if anything it was asked for was not to be had.
FAILURE = 1


@click.command()
@click.argument("variables", metavar="[NAME[=VALUE]]...", nargs=-1)
@click.option("-a", "--all", "everything", is_flag=True, help="Show all settings.")
@click.option("-n", "--values", is_flag=True, help="Show values without names.")
@click.option("-N", "--names", is_flag=True, help="Show names without values.")
@click.option("-w", "--write", is_flag=True, help="Every argument is to be NAME=VALUE.")
@click.option("-q", "--quiet", is_flag=True, help="Do not show what was set.")
@click.option("-e", "--ignore", is_flag=True, help="Pass over unknown names.")
@click.option("-r", "--pattern", metavar="REGEX", help="Only names that match.")
@click.option("--deprecated", is_flag=True, help="Show names that have better ones, too.")
@click.option("-j", "--json", "as_json", is_flag=True, help="One JSON object of names and values.")
@click.option("--doc", is_flag=True, help="Show what settings mean.")
@control_option
@click.pass_context
def sysctl(
    ctx: click.Context, /, variables: tuple[str, ...], everything: bool, control: str | None, **options: object
) -> None:
    """Show and set the stack's settings under Linux's names.

    \b
    ustack sysctl net.ipv4.conf.us0.rp_filter
    ustack sysctl net.ipv4.ip_forward=1
    ustack sysctl -a -r 'neigh.*solicit'
    """
    if not variables and not everything:
        click.echo("sysctl: no variables specified\nTry `ustack sysctl --help' for more information.", err=True)
        ctx.exit(FAILURE)
    from ustack.io.client import Client

    with Client(control) as client:
        run = Run(client.request, options)
        ctx.exit(run.run([""] if everything else list(variables)))


class Run:
    """One call: every argument is tried, whatever became of those before it."""

    def __init__(self, ask: Callable[[RtnlRequest], RtnlAnswer], options: dict[str, object]) -> None:
        """``ask`` answers with Settings, Ack or Nack; ``options`` by the names of the command's parameters."""
        self.ask: Callable[[RtnlRequest], RtnlAnswer] = ask
        self.options: dict[str, object] = options
        pattern = options.get("pattern")
        self.pattern = re.compile(str(pattern)) if pattern else None
        self.found: dict[str, str] = {}
        self.status: int = 0

    def run(self, variables: list[str]) -> int:
        """The exit status: 1 if any of it failed."""
        for variable in variables:
            name, equals, value = variable.partition("=")
            if equals:
                self._set(name.strip(), value.strip())
            elif self.options.get("write"):
                self._fail("command line(0): invalid syntax, continuing...")
            else:
                self._get(name)
        if self.options.get("as_json"):
            import json

            click.echo(json.dumps(self.found, indent=4))
        return self.status

    def _get(self, name: str) -> None:
        from ustack.rtnl.messages import GetSysctl, Nack, Settings

        answer = self.ask(GetSysctl(name))
        if isinstance(answer, Nack):
            if answer.errno != errno.EACCES:  # what is only written has nothing to show, and that is no mistake
                self._refused(name, answer.errno)
            return
        assert isinstance(answer, Settings)
        for each, value in answer.values.items():
            if len(answer.values) > 1 and each.endswith(DEPRECATED) and not self.options.get("deprecated"):
                continue
            if self.pattern is None or self.pattern.search(each):
                self._show(each, self._doc(each) if self.options.get("doc") else value)

    def _doc(self, name: str) -> str:
        from ustack.rtnl.messages import GetSysctl, Settings

        answer = self.ask(GetSysctl(name))
        return answer.docs.get(name, "") if isinstance(answer, Settings) else ""

    def _set(self, name: str, value: str) -> None:
        from ustack.rtnl.messages import Nack, SetSysctl

        if self.pattern is not None and not self.pattern.search(name):
            return
        answer = self.ask(SetSysctl(name, value))
        if isinstance(answer, Nack):
            self._refused(name, answer.errno)
        elif not self.options.get("quiet"):
            self._show(name, value)

    def _show(self, name: str, value: str) -> None:
        if self.options.get("as_json"):
            self.found[name] = value
        elif self.options.get("names"):
            click.echo(name)
        else:
            click.echo(value if self.options.get("values") else f"{name} = {value}")

    def _refused(self, name: str, code: int) -> None:
        if code == errno.ENOENT:
            if not self.options.get("ignore"):
                self._fail(f"cannot stat {path_of(name)}: {os.strerror(code)}")
        elif code in (errno.EACCES, errno.EPERM):
            self._fail(f'permission denied on key "{name}"')
        else:
            self._fail(f'setting key "{name}": {os.strerror(code)}')

    def _fail(self, text: str) -> None:
        click.echo(f"sysctl: {text}", err=True)
        self.status = FAILURE


def path_of(name: str) -> str:
    """Where Linux has the setting."""
    first = next((character for character in name if character in "./"), ".")
    return "/proc/sys/" + (name if first == "/" else name.translate({ord("."): "/", ord("/"): "."}))
