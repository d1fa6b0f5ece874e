"""Names for numbers, with and without the files."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ustack.cli.ip import names
from ustack.cli.ip.names import Names, parse_route_type, read_lines, read_names, read_protocols

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """In place of /etc/iproute2."""
    monkeypatch.setattr(names, "FOLDERS", (str(tmp_path),))
    return tmp_path


def test_built_in_names(folder: Path) -> None:
    known = Names()
    assert [known.table(n) for n in (255, 254, 253, 100)] == ["local", "main", "default", "100"]
    assert [known.protocol(n) for n in (2, 3, 4, 16, 11, 12, 186, 77)] == [
        "kernel", "boot", "static", "dhcp", "zebra", "bird", "bgp", "77",
    ]  # fmt: skip
    assert [known.scope(n) for n in (0, 200, 253, 254, 255, 7)] == ["global", "site", "link", "host", "nowhere", "7"]
    assert known.tos(0x10) == "0x10" and known.ip_protocol(6) == "tcp"
    assert known.parse_table("main") == 254 and known.parse_table("0x10") == 16 and known.parse_table("mai") is None
    assert known.parse_protocol("static") == 4 and known.parse_protocol("256") is None
    assert known.parse_scope("link") == 253 and known.parse_scope("universe") is None
    assert known.parse_tos("10") == 16 and known.parse_tos("0x10") == 16 and known.parse_tos("x") is None
    assert known.parse_ip_protocol("udp") == 17 and known.parse_ip_protocol("47") == 47


def test_files_come_first(folder: Path) -> None:
    (folder / "rt_tables").write_text("# reserved\n254 haupt\n0x20 blue # and more\nnonsense\n\n7\n254 other\n")
    (folder / "rt_tables.d").mkdir()
    (folder / "rt_tables.d" / "more.conf").write_text("33 green\n")
    (folder / "rt_tables.d" / "ignored").write_text("34 red\n")
    (folder / "rt_dsfield").write_text("0x20 CS1\n0xB8 EF\n")
    known = Names()
    assert [known.table(n) for n in (254, 32, 33, 34, 255)] == ["haupt", "blue", "green", "34", "local"]
    assert known.parse_table("blue") == 32 and known.parse_table("main") is None
    assert known.tos(0x20) == "CS1" and known.parse_tos("EF") == 0xB8 and known.parse_tos("ef") == 0xEF


def test_numbers_instead(folder: Path) -> None:
    known = Names(numeric=True)
    assert (known.table(254), known.protocol(2), known.scope(253), known.tos(8)) == ("254", "2", "253", "0x08")
    assert (known.route_type(6), known.ip_protocol(6)) == ("6", "ipproto-6")
    assert known.parse_table("main") == 254


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("unicast", 1), ("uni", 1), ("u", 7), ("local", 2), ("l", None), ("b", 3), ("brd", 3), ("bl", 6), ("any", 4),
        ("a", 4), ("m", 5), ("p", 8), ("unr", 7), ("throw", 9), ("t", None), ("nat", 10), ("x", 11), ("7", 7),
        ("", None), ("foo", None),
    ],
)  # fmt: skip
def test_route_types_by_their_beginnings(text: str, kind: int | None) -> None:
    assert parse_route_type(text) == kind


def test_ip_protocols_from_their_file(tmp_path: Path) -> None:
    file = tmp_path / "protocols"
    file.write_text("# comment\nip\t0\tIP\nospf 89 OSPFIGP # more\nbroken\nx y\n")
    assert read_protocols(file) == {0: "ip", 89: "ospf"}
    assert read_lines(tmp_path / "nowhere") == [] and read_names("nothing") == {}
