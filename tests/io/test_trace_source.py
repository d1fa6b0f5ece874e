"""From a point to the line of our sources that takes the step."""

from __future__ import annotations

from pathlib import Path

import ustack
from ustack.io.trace_source import Sources, numbered
from ustack.trace.points import Point

ROOMS = Path(ustack.__file__).parent
TEXT = '''"""A file."""


class Net:
    """Loses packets."""

    def drop(self, packet: Packet) -> None:
        def inner() -> None:
            pass

        if packet.journey is not None:
            packet.journey.step(Point.KFREE_SKB, "", {})
            other(Point.KFREE_SKB)


def elsewhere(what: Point) -> None:
    tell(Point.IP_RCV, Point.IP_OUTPUT)
'''


def test_mentions_and_definitions_have_their_lines() -> None:
    mentions, definitions = numbered(TEXT)
    assert mentions == {"KFREE_SKB": 12, "IP_RCV": 17, "IP_OUTPUT": 17}
    assert definitions == {"Net": 4, "Net.drop": 7, "Net.drop.inner": 8, "elsewhere": 16}


def test_the_line_is_the_one_that_takes_the_step(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(TEXT)
    place = Sources(tmp_path).place("KFREE_SKB")
    assert place == ("kfree_skb_reason", "device", "Net.drop", "net.py", 12, 7)
    assert place.where() == "net.py:12"


def test_without_a_mention_it_is_the_functions(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(TEXT.replace("Point.KFREE_SKB", "point"))
    assert Sources(tmp_path).place("KFREE_SKB").where() == "net.py:7"


def test_without_sources_there_is_no_line(tmp_path: Path) -> None:
    place = Sources(tmp_path).place("KFREE_SKB")
    assert (place.linux, place.file, place.line, place.defined) == ("kfree_skb_reason", "net.py", 0, 0)
    assert place.where() == ""


def test_a_file_is_read_once(tmp_path: Path) -> None:
    file = tmp_path / "net.py"
    file.write_text(TEXT)
    sources = Sources(tmp_path)
    before = sources.place("KFREE_SKB")
    file.write_text("\n" + TEXT)
    assert sources.place("KFREE_SKB") == before


def test_a_point_of_another_version_has_its_name(tmp_path: Path) -> None:
    place = Sources(tmp_path).place("XFRM_INPUT")
    assert place == ("xfrm_input", "", "", "", 0, 0)
    assert place.where() == ""


def test_in_the_real_sources_the_line_mentions_the_point() -> None:
    """Compiled too: they are installed beside the modules."""
    sources = Sources()
    for point in (Point.KFREE_SKB, Point.NETIF_RECEIVE_SKB):
        place = sources.place(point.name)
        line = (ROOMS / place.file).read_text().splitlines()[place.line - 1]
        assert f"Point.{point.name}" in line
        assert place.where() == f"{point.file}:{place.line}"
        assert 0 < place.defined < place.line
