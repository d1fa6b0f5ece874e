"""ustack completion: what the shell needs to complete our command line."""

from __future__ import annotations

import click
from click.shell_completion import BashComplete, ZshComplete

from ustack.cli.main import cli


class Bash(BashComplete):
    """Without the look at the installed bash, which may not be the one that reads the script."""

    @staticmethod
    def _check_version() -> None:
        """Nothing to check."""


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh"]))
def completion(shell: str) -> None:
    """Print the completion script for SHELL.

    \b
    bash: eval "$(ustack completion bash)"
    zsh:  eval "$(ustack completion zsh)"
    """
    made = Bash if shell == "bash" else ZshComplete
    click.echo(made(cli, {}, "ustack", "_USTACK_COMPLETE").source())
