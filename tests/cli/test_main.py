"""The command line: what it offers, and that whatever goes wrong is one line on stderr."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from ustack.cli.control import duration
from ustack.cli.main import COMMANDS, say
from ustack.cli.nc import parse_where
from ustack.cli.ping import HEADER, Pinger

if TYPE_CHECKING:
    from pathlib import Path


def ustack(*arguments: str, **environment: str) -> tuple[int, str, str]:
    """(status, stdout, stderr) of the command."""
    done = subprocess.run(
        [sys.executable, "-m", "ustack", *arguments],
        capture_output=True,
        text=True,
        timeout=30,
        stdin=subprocess.DEVNULL,
        env=os.environ | {"USTACK_CONTROL": "/nowhere/at/all.sock"} | environment,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def fails(*arguments: str, status: int = 1, **environment: str) -> str:
    """What it says, which must be one line without a traceback."""
    code, out, err = ustack(*arguments, **environment)
    assert (code, out) == (status, ""), err
    assert err.startswith("ustack: ") and err.endswith("\n") and err.count("\n") == 1, err
    assert "Traceback" not in err and "internal error" not in err, err
    return err


def test_help_names_every_command() -> None:
    status, out, err = ustack("--help")
    assert (status, err) == (0, "")
    assert all(f"\n  {name} " in out for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name: str) -> None:
    status, out, err = ustack(name, "--help")
    assert (status, err) == (0, "") and out.startswith(f"Usage: ustack {name}")


def test_version() -> None:
    status, out, _ = ustack("--version")
    assert status == 0 and out.startswith("ustack ")


def test_starting_imports_little() -> None:
    """--help and --version must be there in 0.15 s: the stack, rich, msgspec and pyroute2 are not needed for them."""
    script = (
        "import sys\nfrom ustack.cli.main import main\nsys.argv = ['ustack', '--help']\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "print([name for name in ('rich', 'msgspec', 'pyroute2', 'ustack.stack', 'asyncio') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_completion(shell: str) -> None:
    status, out, err = ustack("completion", shell)
    assert (status, err) == (0, "")
    assert "_USTACK_COMPLETE" in out and "_ustack_completion" in out


def test_bash_takes_the_completion_script() -> None:
    _, script, _ = ustack("completion", "bash")
    done = subprocess.run(["bash", "-n"], input=script, text=True, capture_output=True, timeout=30, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_completing_commands_and_options() -> None:
    def complete(words: str, at: int) -> str:
        return ustack(_USTACK_COMPLETE="bash_complete", COMP_WORDS=words, COMP_CWORD=str(at))[1]

    assert complete("ustack s", 1).split() == ["plain,status", "plain,shell", "plain,sysctl", "plain,ss"]
    assert "plain,--serve" in complete("ustack up --se", 2)


# -- errors


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("nope",), "No such command 'nope'"),
        (("--nope",), "--nope"),
        (("up", "--mtu", "many"), "'many' is not a valid integer"),
        (("ping",), "Missing argument 'ADDRESS'"),
        (("ping", "-c", "0", "192.0.2.1"), "0 is not in the range"),
        (("nc", "192.0.2.1"), "ADDR and PORT are wanted"),
        (("nc", "192.0.2.1", "http"), "bad port 'http'"),
        (("nc", "192.0.2.1", "70000"), "bad port '70000'"),
        (("nc", "192.0.2.1", "30-20"), "bad port '30-20'"),
        (("completion", "fish"), "'fish' is not one of"),
    ],
)
def test_a_wrong_command_line_is_status_2(arguments: tuple[str, ...], said: str) -> None:
    text = fails(*arguments, status=2)
    assert said in text and "--help" in text


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("up", "--addr", "192.0.2.300"), "bad address '192.0.2.300'"),
        (("up", "--addr", "192.0.2.2/40"), "bad prefix length"),
        (("up", "--gateway", "nowhere"), "bad address 'nowhere'"),
        (("up", "--host-addr", "x/24"), "bad address 'x'"),
        (("up", "--mtu", "20"), "bad mtu 20"),
        (("up", "--serve", "echo,ftp"), "unknown service 'ftp'"),
        (("up", "--dev", "a-name-that-is-too-long"), "bad device name"),
        (("up", "--config", "/nowhere/ustack.toml"), "/nowhere/ustack.toml: No such file"),
        (("up", "--log-level", "loud"), "bad log-level"),
        (("shell", "--addr", "1.2.3"), "bad address '1.2.3'"),
        (("down",), "/nowhere/at/all.sock: no daemon answers"),
        (("status",), "no daemon answers"),
        (("status", "-j"), "no daemon answers"),
        (("ping", "192.0.2.1"), "no daemon answers"),
        (("nc", "192.0.2.1", "80"), "no daemon answers"),
        (("nc", "-l", "80"), "no daemon answers"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(arguments: tuple[str, ...], said: str) -> None:
    assert said in fails(*arguments)


def test_a_configuration_file_with_an_unknown_key(tmp_path: Path) -> None:
    file = tmp_path / "ustack.toml"
    file.write_text("adress = []\n")
    assert "unknown key 'adress'" in fails("up", "--config", str(file))


def test_what_is_no_control_socket(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("")
    assert "no daemon answers" in fails("status", USTACK_CONTROL=str(path))


def test_a_reader_that_has_enough_is_no_error() -> None:
    script = f"{sys.executable} -m ustack --help | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=30, check=False)
    assert "Traceback" not in done.stderr and "Exception" not in done.stderr


# -- helpers


def test_errors_in_words() -> None:
    assert say(OSError(2, "No such file", "name")) == "name: No such file"
    assert say(OSError(2, "No such file")) == "No such file"
    assert say(OSError()) == "OSError"
    assert say(ValueError("bad")) == "bad"


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0:00:00"), (3661, "1:01:01"), (90_061.5, "1 d 1:01:01")])
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_where_nc_goes() -> None:
    assert parse_where(("192.0.2.1", "80"), False) == ("192.0.2.1", [80])
    assert parse_where(("192.0.2.1", "20-23"), False) == ("192.0.2.1", [20, 21, 22, 23])
    assert parse_where(("80",), True) == ("", [80])


def reply(sequence: int, payload: bytes, kind: int = 0) -> bytes:
    return HEADER.pack(kind, 0, 0, 0, sequence) + payload


def test_replies_are_judged(capsys: pytest.CaptureFixture[str]) -> None:
    pinger = Pinger(None, "192.0.2.1", 4, quiet=False)  # type: ignore[arg-type]
    pinger.sent = 3
    pinger.asked = {1: 1_000_000, 2: 2_000_000, 3: 3_000_000}
    pinger.hear(reply(1, b"\0\1\2\3"), "192.0.2.1", 3_500_000)
    pinger.hear(reply(1, b"\0\1\2\3"), "192.0.2.1", 4_500_000)
    pinger.hear(reply(2, b"evil"), "192.0.2.1", 4_000_000)
    pinger.hear(reply(9, b"\0\1\2\3"), "192.0.2.1", 4_000_000)  # nobody asked
    pinger.hear(reply(3, b"\0\1\2\3", kind=8), "192.0.2.1", 4_000_000)  # a request
    pinger.hear(b"\0", "192.0.2.1", 4_000_000)
    assert capsys.readouterr().out.splitlines() == [
        "12 bytes from 192.0.2.1: icmp_seq=1 time=2.500 ms",
        "12 bytes from 192.0.2.1: icmp_seq=1 time=3.500 ms (DUP!)",
        "12 bytes from 192.0.2.1: icmp_seq=2 time=2.000 ms (wrong data!)",
    ]
    pinger.summary()
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].startswith("3 packets transmitted, 2 received, +1 duplicates, 33.33% packet loss, time ")
    assert lines[3] == "rtt min/avg/max/mdev = 2.000/2.250/2.500/0.250 ms"
