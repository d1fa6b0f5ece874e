"""ustack bridge: the stations that the stack's bridges know, in the manner of bridge(8) of iproute2."""

from __future__ import annotations

import sys

import click

from ustack.cli.control import control_option


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("words", metavar="fdb [show [br BRIDGE] [dev DEV]]", nargs=-1)
@click.option("-j", "--json", "as_json", is_flag=True, help="JSON.")
@click.option("-p", "--pretty", is_flag=True, help="With -j: in lines.")
@click.option("-s", "--statistics", is_flag=True, help="Seconds since an address was used, and since it was heard.")
@control_option
def bridge(words: tuple[str, ...], as_json: bool, pretty: bool, statistics: bool, control: str | None) -> None:
    """Show which addresses the bridges of the running daemon have learned, and at which port.

    Bridges are made with 'ustack link add br0 type bridge'; 'ustack link set us0 master br0' makes a port.
    """
    from ustack.cli.ip.fdb import do_fdb
    from ustack.cli.ip.session import REFUSED, Options, Refused, Session
    from ustack.cli.ip.transport import DaemonTransport
    from ustack.cli.ip.words import Mistake

    if not words or not "fdb".startswith(words[0]):
        raise click.UsageError("'fdb' is all there is to be asked.")
    transport = DaemonTransport(control)
    options = Options(json=as_json, pretty=pretty, stats=int(statistics))
    try:
        status = do_fdb(Session(transport, sys.stdout, sys.stderr, options, "ustack bridge"), list(words[1:]))
    except Mistake as mistake:
        sys.stderr.write(mistake.text)
        status = mistake.status
    except Refused as refusal:
        sys.stderr.write(str(refusal))
        status = REFUSED
    finally:
        transport.close()
    if status:
        click.get_current_context().exit(status)
