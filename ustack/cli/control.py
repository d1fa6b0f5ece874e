"""ustack down, status and proc: what asks the running daemon."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ustack.io.control import DeviceStatus, Status

#: How long a daemon may take to close everything, seconds.
PATIENCE: Final = 10.0

control_option = click.option("--control", metavar="PATH", help="The daemon's control socket.")


@click.command()
@control_option
def down(control: str | None) -> None:
    """Stop the running daemon and wait until everything it made is gone."""
    from ustack.io.client import Client
    from ustack.io.control import Down

    with Client(control) as client:
        client.ask(Down())
        client.wait_for_end(PATIENCE)


@click.command()
@click.option("-j", "--json", "as_json", is_flag=True, help="JSON, for programs.")
@control_option
def status(as_json: bool, control: str | None) -> None:
    """Show devices, neighbours, sockets and drops of the running daemon."""
    from ustack.io.client import Client

    with Client(control) as client:
        answer = client.status()
    if as_json:
        import msgspec

        document = msgspec.to_builtins(answer)
        del document["type"]
        click.echo(msgspec.json.format(msgspec.json.encode(document)))
    else:
        show(answer)


@click.command()
@click.argument("name", default="")
@control_option
def proc(name: str, control: str | None) -> None:
    """Print a file of the stack's /proc/net, or without NAME which there are."""
    from ustack.io.client import Client
    from ustack.rtnl.messages import GetProc, Text

    with Client(control) as client:
        answer = client.request(GetProc(name.removeprefix("/proc/").removeprefix("net/")))
    if not isinstance(answer, Text):
        raise click.ClickException(f"/proc/net/{name}: there is no such file in ustack, see 'ustack proc'")
    click.echo(answer.text, nl=False)


def show(status: Status) -> None:
    """Tables, as wide as they need to be."""
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, soft_wrap=True)
    console.print(f"ustack {status.version}, pid {status.pid}, up {duration(status.uptime)}")
    for device in status.devices:
        for line in device_lines(device):
            console.print(line, markup=False)
    tables: list[tuple[str, list[str], list[list[str]]]] = [
        ("Neighbours", ["address", "device", "MAC", "state"],
         [[n.address, n.dev, n.mac or "-", n.state] for n in status.neighbours]),
        ("Sockets", ["protocol", "state", "recv-q", "send-q", "local", "peer"],
         [[s.protocol, s.state, str(s.recv_queue), str(s.send_queue), s.local, s.peer] for s in status.sockets]),
        ("Drops", ["reason", "packets"], [[name, str(count)] for name, count in status.drops.items()]),
    ]  # fmt: skip
    for title, columns, rows in tables:
        if not rows:
            continue
        table = Table(*columns, title=title, title_justify="left", box=None, title_style="bold", pad_edge=False)
        for row in rows:
            table.add_row(*row)
        console.print(table)


def device_lines(device: DeviceStatus) -> Iterator[str]:
    """In the manner of ``ip -s address``."""
    yield f"{device.ifindex}: {device.name}: <{','.join(device.flags)}> mtu {device.mtu} mac {device.mac}"
    for address in device.addresses:
        yield f"    inet {address}"
    for way in ("rx", "tx"):
        moved = " ".join(
            f"{name.removeprefix(way + '_')} {count}"
            for name, count in device.stats.items()
            if name.startswith(way) and (count or name.endswith(("packets", "bytes")))
        )
        yield f"    {way} {moved}"
    yield "    rings " + " ".join(f"{name} {level}" for name, level in device.rings.items())


def duration(seconds: float) -> str:
    """``3 d 4:05:06``."""
    whole = int(seconds)
    days, rest = divmod(whole, 86_400)
    clock = f"{rest // 3600}:{rest // 60 % 60:02}:{rest % 60:02}"
    return f"{days} d {clock}" if days else clock
