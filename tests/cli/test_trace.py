"""ustack trace: what it writes where, and that whatever is wrong is told in one line before anybody waits."""

from __future__ import annotations

import json
import os
import signal
import sys
from io import StringIO
from typing import TYPE_CHECKING

import pytest

from tests.cli.test_main import fails
from tests.io.journeys import dropped, sent
from tests.io.test_pcapng import read
from ustack.cli.trace import Output, colors, columns, until_interrupted
from ustack.io.trace_json import journey_line
from ustack.io.trace_source import Sources
from ustack.io.trace_svg import journey_svg
from ustack.io.trace_text import TraceText

if TYPE_CHECKING:
    from pathlib import Path

    from ustack.io.trace import JourneyInfo


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")


def text(journey: JourneyInfo, color: bool = False) -> str:
    return TraceText(Sources(), 100, color).render(journey)


def test_journeys_as_text_with_a_line_between(capsys: pytest.CaptureFixture[str]) -> None:
    with Output() as output:
        output.show(sent())
        assert capsys.readouterr().out == text(sent())
        output.show(dropped())
        assert capsys.readouterr().out == "\n" + text(dropped())
    assert output.count == 2


def test_journeys_as_json_a_line_each(capsys: pytest.CaptureFixture[str]) -> None:
    with Output(as_json=True) as output:
        output.show(sent())
        output.show(dropped())
    lines = capsys.readouterr().out.splitlines(keepends=True)
    assert lines == [journey_line(each, Sources()) for each in (sent(), dropped())]
    assert json.loads(lines[1])["reason"] == "NO_SOCKET"


@pytest.mark.parametrize("as_json", [False, True])
def test_a_file_instead_of_text_and_beside_json(
    as_json: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "trace.pcapng"
    with Output(as_json, str(file)) as output:
        output.show(sent())
        assert len(read(file.read_bytes())) == 1
        output.show(dropped())
    assert len(read(file.read_bytes())) == 2
    assert len(capsys.readouterr().out.splitlines()) == (2 if as_json else 0)


def test_a_picture_of_the_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "way.svg"
    with Output(svg=str(file)) as output:
        output.show(sent())
        output.show(dropped())
    assert file.read_text() == journey_svg(sent(), Sources())
    assert capsys.readouterr().out == text(sent()) + "\n" + text(dropped())


def test_without_a_packet_there_is_no_picture(tmp_path: Path) -> None:
    with Output(svg=str(tmp_path / "way.svg")):
        pass
    assert list(tmp_path.iterdir()) == []


def test_colours(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with Output(color="always") as output:
        output.show(sent())
    assert capsys.readouterr().out == text(sent(), color=True) != text(sent())

    class Terminal(StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert [colors(when) for when in ("auto", "always", "never")] == [False, True, False]
    monkeypatch.setattr(sys, "stdout", Terminal())
    assert [colors(when) for when in ("auto", "always", "never")] == [True, True, False]
    monkeypatch.setenv("TERM", "dumb")
    assert not colors("auto")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    assert not colors("auto") and colors("always")


def test_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    assert columns() == 100
    monkeypatch.delenv("COLUMNS")
    monkeypatch.setattr(sys, "__stdout__", None)
    assert columns() == 120


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_it_and_are_no_error(number: signal.Signals) -> None:
    before = signal.getsignal(signal.SIGTERM)
    interrupt = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with until_interrupted():
            os.kill(os.getpid(), number)
            signal.pause()
    finally:
        signal.signal(signal.SIGINT, interrupt)
    assert signal.getsignal(signal.SIGTERM) is before


def test_files_that_fail_are_told_before_the_first_packet(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Output(pcapng=str(tmp_path / "no" / "file"))
    with pytest.raises(IsADirectoryError):
        Output(svg=str(tmp_path))


def test_what_is_wrong_is_one_line(tmp_path: Path) -> None:
    assert fails("trace", "udp", "prot", "53").startswith("ustack: filter 'udp prot 53': ")
    assert "/nowhere/at/all.sock" in fails("trace", "udp")
    file = tmp_path / "file"
    assert "no daemon" in fails("trace", "-w", str(file), "--svg", str(file)) and not file.exists()
    assert "--count" in fails("trace", "-c", "0", status=2)
    assert "--color" in fails("trace", "--color", "blue", status=2)
