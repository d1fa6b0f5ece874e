"""ustack ss: the stack's sockets in the manner of ss(8) of iproute2."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from ustack.cli.control import control_option

if TYPE_CHECKING:
    from ustack.io.control import SocketDiag, Sockets

KINDS: Final = ["raw", "udp", "tcp"]
#: Columns between which there is a blank, and which of them are numbers or end in a colon.
TITLES: Final = ("Netid", "State", "Recv-Q", "Send-Q", "Local Address:", "Port", "Peer Address:", "Port", "Process")


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("words", metavar="[FILTER]...", nargs=-1)
@click.option("-t", "--tcp", is_flag=True, help="TCP sockets.")
@click.option("-u", "--udp", is_flag=True, help="UDP sockets.")
@click.option("-w", "--raw", is_flag=True, help="Raw sockets.")
@click.option("-a", "--all", "everything", is_flag=True, help="Sockets in all states.")
@click.option("-l", "--listening", is_flag=True, help="Sockets that wait for others.")
@click.option("-n", "--numeric", is_flag=True, help="Numbers for services, and rates in full.")
@click.option("-o", "--options", is_flag=True, help="Timers, and the options of TCP connections.")
@click.option("-e", "--extended", is_flag=True, help="Owner, number, mark, what is shut down.")
@click.option("-m", "--memory", is_flag=True, help="Memory.")
@click.option("-i", "--info", is_flag=True, help="What TCP knows of the connection.")
@click.option("-s", "--summary", is_flag=True, help="Only how many there are.")
@click.option("-4", "--ipv4", is_flag=True, help="IPv4, which is all there is.")
@click.option("-H", "--no-header", is_flag=True, help="No line of titles.")
@click.option("-O", "--oneline", is_flag=True, help="One line for each socket.")
@control_option
def ss(words: tuple[str, ...], control: str | None, **options: bool) -> None:
    """Show the sockets of the running daemon, as ss does.

    \b
    ustack ss -tinmoe
    ustack ss -tan state time-wait
    ustack ss -tn dport = :80 and src 192.0.2.0/24
    """
    from ustack.cli.ss_filter import SS_ALL, SS_CONN, SS_LISTENING, FilterError, Parser, take_states
    from ustack.io.client import Client

    try:
        states, rest = take_states(list(words))
        matches = Parser(rest, port_of).parse()
    except FilterError as mistake:
        raise click.ClickException(f"ss: {mistake}") from None
    states = states or (SS_ALL if options["everything"] else SS_LISTENING if options["listening"] else SS_CONN)
    kinds = [kind for kind in KINDS if options[kind]] or KINDS
    with Client(control) as client:
        if options["summary"]:
            return summary(client.sockets(KINDS, SS_ALL))
        answer = client.sockets(kinds, states)
    one_state = states & (states - 1) == 0
    show([diag for diag in answer.sockets if matches(diag)], len(kinds) == 1, one_state, options)


def port_of(name: str) -> int:
    """The number of a service. Raises FilterError."""
    from socket import getservbyname

    from ustack.cli.ss_filter import FilterError

    try:
        return getservbyname(name)
    except OSError:
        raise FilterError(f"'{name}' is no service") from None


def service_name(diag: SocketDiag, port: int, numeric: bool) -> str:
    """``*`` for none, a service's name where there is one and ``numeric`` is not asked for."""
    from socket import getservbyport

    if port == 0:
        return "*"
    if numeric or diag.kind == "raw":
        return str(port)
    try:
        return getservbyport(port, diag.kind)
    except OSError:
        return str(port)


def show(found: list[SocketDiag], one_kind: bool, one_state: bool, options: dict[str, bool]) -> None:
    """Columns as wide as they need to be, the addresses aligned at their colons; Netid and State only if they vary."""
    rows = [] if options["no_header"] else [(list(TITLES), "")]
    rows += [(row(diag, options), info(diag, options)) for diag in found]
    widths = [max((len(cells[at]) for cells, _ in rows), default=0) for at in range(len(TITLES))]
    for cells, text in rows:
        line = join(cells, widths, one_kind, one_state)
        if options["oneline"]:
            click.echo((line + text).rstrip())
        else:
            click.echo(line.rstrip() + (f"\n\t{text}" if text else ""))


def join(cells: list[str], widths: list[int], one_kind: bool, one_state: bool) -> str:
    kind, state, recv, send, laddr, lport, raddr, rport, process = cells
    words = [] if one_kind else [kind.ljust(widths[0])]
    if not one_state:
        words.append(state.ljust(widths[1]))
    words += [recv.ljust(widths[2]), send.ljust(widths[3])]
    words.append(laddr.rjust(widths[4]) + lport.ljust(widths[5]))
    words.append(raddr.rjust(widths[6]) + rport.ljust(widths[7]))
    return " ".join([*words, process])


def row(diag: SocketDiag, options: dict[str, bool]) -> list[str]:
    """The cells; the last one is what -o and -e say."""
    from ustack.cli.ss_text import details_text, timer_text
    from ustack.sock import STATE_NAMES
    from ustack.wire.ipv4 import addr_to_str

    numeric = options["numeric"]
    device = f"%{diag.dev}" if diag.dev else ""
    process = timer_text(diag) if options["options"] else ""
    if options["extended"] and diag.kind != "raw":
        process += details_text(diag)
    return [
        diag.kind,
        STATE_NAMES[diag.state],
        str(diag.recv_queue),
        str(diag.send_queue),
        f"{addr_to_str(diag.laddr)}{device}:",
        service_name(diag, diag.lport, numeric),
        f"{addr_to_str(diag.raddr)}:",
        service_name(diag, diag.rport, numeric),
        process.strip(),
    ]


def info(diag: SocketDiag, options: dict[str, bool]) -> str:
    """What -m and -i say, with a blank before each word."""
    from ustack.cli.ss_text import info_text, memory_text

    text = memory_text(diag) if options["memory"] and diag.kind != "raw" else ""
    return text + info_text(diag, options["options"], options["numeric"]) if options["info"] else text


def summary(answer: Sockets) -> None:
    """How many of each kind."""
    from ustack.sock import TCP_CLOSE, TCP_ESTABLISHED, TCP_TIME_WAIT

    kinds = {kind: sum(diag.kind == kind for diag in answer.sockets) for kind in KINDS}
    tcp = [diag.state for diag in answer.sockets if diag.kind == "tcp"]
    waiting, connected = tcp.count(TCP_TIME_WAIT), tcp.count(TCP_ESTABLISHED)
    closed = waiting + tcp.count(TCP_CLOSE)
    click.echo(f"Total: {len(answer.sockets) - waiting}")
    click.echo(
        f"TCP:   {len(tcp)} (estab {connected}, closed {closed}, orphaned {answer.orphans}, timewait {waiting})\n"
    )
    counts = {"RAW": kinds["raw"], "UDP": kinds["udp"], "TCP": kinds["tcp"] - waiting}
    counts |= {"INET": sum(counts.values()), "FRAG": 0}
    click.echo("Transport Total     IP        IPv6")
    for name, count in counts.items():
        click.echo(f"{name}\t  {count:<9} {count:<9} {0:<9}")
    click.echo()
