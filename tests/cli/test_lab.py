"""ustack lab in virtual time: what it prints, the same each time, and how it ends."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

import pytest

from tests.cli.test_main import fails, ustack

if TYPE_CHECKING:
    from pathlib import Path

LAB: Final = """
[hosts]
b = "192.0.2.2"

[[host]]
name = "a"
addr = "192.0.2.1/24"

  [[host.program]]
  run = "udp-send"
  args = ["b", 4747, "muffin"]
  start = "10ms"

[[host]]
name = "b"
addr = "192.0.2.2/24"

  [[host.program]]
  run = "udp-recv"
  args = [4747]

[[switch]]
name = "sw"

[[cable]]
ends = ["a", "sw"]
delay = "1ms"

[[cable]]
ends = ["b", "sw"]
"""


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "lab.toml"
    path.write_text(LAB)
    return str(path)


def test_what_the_programs_say_and_when(file: str) -> None:
    status, out, err = ustack("lab", file)
    assert status == 0, err
    *_, sent, received = out.splitlines()
    assert sent == '    0.010000  a: sent "muffin" to 192.0.2.2:4747'
    assert received.startswith('    0.013000  b: received "muffin" from 192.0.2.1:')
    assert "s of virtual time in " in err and "2 hosts, 1 switch; 2 cables with " in err


def test_it_is_the_same_each_time_and_another_seed_is_another_run(file: str) -> None:
    first, again, other = (ustack("lab", file, *options)[1] for options in ((), (), ("--seed", "2")))
    assert first == again
    assert first != other, "the port is left to chance"


def test_quiet_says_nothing_of_its_own(file: str) -> None:
    assert ustack("lab", file, "-q")[2] == ""


def test_the_way_of_a_packet_stands_between_the_lines(file: str) -> None:
    status, out, err = ustack("lab", file, "--trace", "udp")
    assert status == 0, err
    sent, _, received = out.partition("udp_sendmsg")
    assert 'sent "muffin"' in sent and 'received "muffin"' in received
    for function in ("e1000_xmit_frame", "br_handle_frame", "ip_rcv", "udp_rcv"):
        assert function in received


def test_json_is_alone_on_standard_output(file: str) -> None:
    status, out, err = ustack("lab", file, "-j", "--trace", "udp")
    assert status == 0, err
    journeys = [json.loads(line) for line in out.splitlines()]
    assert [journey["outcome"] for journey in journeys] == ["delivered"]
    assert 'received "muffin"' in err


def test_files_for_wireshark_and_for_the_eye(file: str, tmp_path: Path) -> None:
    svg, pcapng = tmp_path / "way.svg", tmp_path / "way.pcapng"
    status, _, err = ustack("lab", file, "--svg", str(svg), "-w", str(pcapng), "--trace", "udp")
    assert status == 0, err
    assert svg.read_text().startswith("<svg") or "<svg" in svg.read_text()
    assert pcapng.read_bytes()[:4] == b"\x0a\x0d\x0d\x0a"


def test_a_capture_for_each_host_and_switch(file: str, tmp_path: Path) -> None:
    directory = tmp_path / "frames"
    status, _, err = ustack("lab", file, "--capture", str(directory))
    assert status == 0, err
    files = {path.stem: path.read_bytes() for path in directory.iterdir()}
    assert sorted(files) == ["a", "b", "sw"]
    assert [data.count(b"muffin") for _, data in sorted(files.items())] == [1, 1, 2], "in and out again at the switch"


def test_a_program_that_does_not_end_is_a_failure(file: str) -> None:
    status, out, err = ustack("lab", file, "--until", "12ms", "-q")
    assert status == 1
    assert err == "ustack: b: udp-recv: has not ended after 0.012 s\n"
    assert "sent" in out


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[[host]]\nnam = 1\n", "nam"),
        ("[[host", "lab.toml"),
        ('[[cable]]\nends = ["a", "b"]\n', "'a'"),
    ],
)
def test_mistakes_in_the_file_are_one_line(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "lab.toml"
    path.write_text(text)
    assert words in fails("lab", str(path))


def test_mistakes_on_the_command_line_are_one_line(file: str) -> None:
    assert "nowhere" in fails("lab", "/nowhere.toml", status=2)
    assert "bad time 'soon'" in fails("lab", file, "--until", "soon")
    assert "filter" in fails("lab", file, "--trace", "nonsense here")


def test_real_time_without_taps(file: str) -> None:
    status, out, err = ustack("lab", file, "--real-time")
    assert status == 0, err
    assert 'b: received "muffin"' in out
