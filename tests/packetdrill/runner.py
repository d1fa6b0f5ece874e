"""Runs scripts: compiles the plugin, starts packetdrill in namespaces of its own, and is its daemon meanwhile."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.packetdrill.machine import LOCAL, REMOTE, Machine
from tests.packetdrill.server import Server
from tests.packetdrill.settings import Settings

HERE: Final = Path(__file__).parent
#: What every script of the IPv4 set is run with.
OPTIONS: Final = (
    "--send_omit_free",
    "--ip_version=ipv4",
    f"--gateway_ip={LOCAL}",
    "--netmask_ip=255.255.0.0",
    "-D",
    "TFO_COOKIE=3021b9d889017eeb",
    "-D",
    "CODE=host_unreachable",
    "-D",
    "CMSG_LEVEL_IP=SOL_IP",
    "-D",
    "CMSG_TYPE_RECVERR=IP_RECVERR",
)
#: Programs that the stand-in stands in for.
STANDINS: Final = ("ip", "tc", "ethtool", "nstat")
TIME_LIMIT: Final = 120  # s of the machine's own time

#: $1: our folder, $2: that of the settings, $3 and $4: folders to keep in sight; the rest is what to run.
_NAMESPACE: Final = """
ours=$1 settings=$2 program=$3 scripts=$4
shift 4
mount --bind /tmp /mnt
mount -t tmpfs tmpfs /tmp
for keep in "$ours" "$program" "$scripts"; do
    case $keep in /tmp/*) mkdir -p "$keep"; mount --bind "/mnt/${keep#/tmp/}" "$keep" ;; esac
done
mount --bind "$settings" /proc/sys/net/ipv4
exec "$@"
"""


class Unavailable(Exception):
    """Scripts cannot be run here; the text says why."""


@dataclass(frozen=True)
class Place:
    """Where packetdrill and its scripts are."""

    program: Path
    scripts: Path

    @classmethod
    def find(cls, program: str | None = None, scripts: str | None = None) -> Place:
        """By what is given, or else by the environment and PATH. Raises Unavailable."""
        found = program or os.environ.get("USTACK_PACKETDRILL") or shutil.which("packetdrill")
        if not found or not os.access(found, os.X_OK):
            raise Unavailable("packetdrill is not installed: USTACK_PACKETDRILL names none, and PATH has none")
        where = Path(scripts or os.environ.get("USTACK_PACKETDRILL_SCRIPTS") or Path(found).resolve().parent / "../tcp")
        if not (where / "common/defaults.sh").exists():
            raise Unavailable(f"no packetdrill scripts in {where}: set USTACK_PACKETDRILL_SCRIPTS")
        if os.geteuid() != 0 or subprocess.run(["unshare", "--net", "--mount", "true"], capture_output=True).returncode:
            raise Unavailable("packetdrill wants root: it locks its memory, and needs namespaces of its own")
        return cls(Path(found).resolve(), where.resolve())

    def names(self) -> list[str]:
        """Every script for IPv4, as ``folder/name``."""
        found = (path.relative_to(self.scripts).with_suffix("") for path in self.scripts.rglob("*.pkt"))
        return sorted(str(name) for name in found if not name.name.endswith("v6"))


@dataclass(frozen=True)
class Result:
    """How one script went."""

    name: str
    passed: bool
    output: str  #: of packetdrill, of the daemon
    seconds: float


def build(folder: Path) -> None:
    """Compile the plugin and the stand-in into ``folder``. Raises Unavailable without a compiler."""
    compiler = shutil.which("cc") or shutil.which((sysconfig.get_config_var("CC") or "cc").split()[0])
    if compiler is None:
        raise Unavailable("there is no C compiler for the plugin")
    (folder / "bin").mkdir(exist_ok=True)
    shared = ["-shared", "-fPIC", "-o", str(folder / "plugin.so"), str(HERE / "plugin.c"), "-ldl", "-lpthread"]
    for arguments in (shared, ["-o", str(folder / "bin/standin"), str(HERE / "standin.c")]):
        subprocess.run([compiler, "-O1", "-Wall", *arguments], check=True)
    for name in STANDINS:
        (folder / "bin" / name).symlink_to("standin")
    (folder / "bin/python3").symlink_to(os.path.realpath(sys.executable))
    shutil.copy(HERE / "grep.sh", folder / "bin/grep")
    (folder / "bin/grep").chmod(0o755)


def run_script(place: Place, built: Path, name: str, flags: tuple[str, ...] = ()) -> Result:
    """Run one script against a stack of its own; ``built`` is where build() has been, ``flags`` packetdrill's."""
    began = time.monotonic()
    path = place.scripts / f"{name}.pkt"
    with tempfile.TemporaryDirectory(dir=built) as own:
        folder = Path(own)
        (folder / "ipv4").mkdir()
        (folder / "net").mkdir()
        script = path.read_text()
        addresses = addresses_for(script)
        machine = Machine(addresses[0], f"{addresses[1]}/32")
        machine.pipe.mss = int(options_of(script).get("--mss", 0))
        settings = Settings(machine, folder / "ipv4", folder / "net")
        settings.store()
        server = Server(machine, folder / "socket", settings)
        trouble = ""
        with (folder / "output").open("w+") as output:
            options = (f"--local_ip={addresses[0]}", f"--remote_ip={addresses[1]}", *flags)
            process = _start(place, built, folder, path, options, output.fileno())
            try:
                _serve(server, process)
            except Exception:  # whatever happens in the stack is the script's failure
                trouble = traceback.format_exc()
            finally:
                server.close()
                trouble += _end(process)
                output.seek(0)
                text = output.read()
        text += "".join(f"daemon: {line}\n" for line in settings.complaints) + trouble
    return Result(name, process.returncode == 0 and not trouble, text, time.monotonic() - began)


def addresses_for(script: str) -> tuple[str, str]:
    """The local and the remote address: ours, or those that ``script`` has among its options.

    On packetdrill's command line ours would win, and the Fast Open cookies of such scripts be those of other addresses.
    """
    options = options_of(script)
    return options.get("--local_ip", LOCAL), options.get("--remote_ip", REMOTE)


def options_of(script: str) -> dict[str, str]:
    """The options at the head of a script that have values."""
    lines = [line.partition("=") for line in script.splitlines() if line.startswith("--")]
    return {option: value.split()[0] for option, equals, value in lines if equals}


def _start(
    place: Place, built: Path, folder: Path, path: Path, flags: tuple[str, ...], output: int
) -> subprocess.Popen[bytes]:
    socket = str(folder / "socket")
    plugin = str(built / "plugin.so")
    command = [str(place.program), *OPTIONS, f"--so_filename={plugin}", f"--so_flags={socket}", *flags, path.name]
    keep = [str(built), str(folder / "ipv4"), str(place.program.parent), str(place.scripts.parent)]
    environment = dict(
        os.environ,
        PATH=f"{built / 'bin'}:{os.environ['PATH']}",
        USTACK_PACKETDRILL_SOCKET=socket,
        USTACK_PACKETDRILL_PROC=str(folder / "net"),
    )
    preloaded = ["env", f"LD_PRELOAD={plugin}", *command]
    return subprocess.Popen(
        ["unshare", "--net", "--mount", "sh", "-ec", _NAMESPACE, "sh", *keep, *preloaded],
        cwd=path.parent,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        env=environment,
    )


def _serve(server: Server, process: subprocess.Popen[bytes]) -> None:
    """Be the daemon until packetdrill ends, or has taken too long."""
    until = os.pidfd_open(process.pid)
    try:
        server.serve(until, time.monotonic() + TIME_LIMIT)
    finally:
        os.close(until)


def _end(process: subprocess.Popen[bytes]) -> str:
    """Wait for it; what to say if it would not end by itself."""
    try:
        process.wait(1)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        process.wait()
        return f"packetdrill was stopped after {TIME_LIMIT} s\n"
    return ""
