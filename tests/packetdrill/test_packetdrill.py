"""packetdrill's scripts against a stack, and scripts.toml against what happens."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.packetdrill.expected import STANDING, read_expected
from tests.packetdrill.runner import Place, Unavailable, addresses_for, build, run_script

if TYPE_CHECKING:
    from pathlib import Path

EXPECTED = read_expected()


@pytest.fixture(scope="module")
def place() -> Place:
    try:
        return Place.find()
    except Unavailable as why:
        pytest.skip(str(why))


@pytest.fixture(scope="module")
def built(place: Place, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("packetdrill")
    try:
        build(folder)
    except Unavailable as why:
        pytest.skip(str(why))
    return folder


@pytest.mark.timeout(150)
@pytest.mark.parametrize("name", EXPECTED)
def test_script(place: Place, built: Path, name: str) -> None:
    """What is listed as passing passes; what passes is listed so."""
    if not (place.scripts / f"{name}.pkt").exists():
        pytest.skip("this version of the scripts does not have it")
    result = run_script(place, built, name)
    if EXPECTED[name] == STANDING:
        assert result.passed, result.output
    else:
        assert not result.passed, f"it passes: scripts.toml is stale, which says {EXPECTED[name]!r}"


def test_every_script_is_listed(place: Place) -> None:
    """A script that is new is to be judged, and to be entered."""
    assert [name for name in place.names() if name not in EXPECTED] == []


def test_the_list_gives_reasons() -> None:
    assert all(text.strip() for text in EXPECTED.values())


def test_a_script_may_have_addresses_of_its_own() -> None:
    assert addresses_for("// none\n") == ("192.168.0.1", "192.0.2.1")
    assert addresses_for("--local_ip=192.168.0.3\n--remote_ip=10.248.0.2 // far\n") == ("192.168.0.3", "10.248.0.2")


def test_what_is_missing_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("USTACK_PACKETDRILL", raising=False)
    monkeypatch.delenv("USTACK_PACKETDRILL_SCRIPTS", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Unavailable, match="packetdrill is not installed"):
        Place.find()
    program = tmp_path / "packetdrill"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    with pytest.raises(Unavailable, match="no packetdrill scripts"):
        Place.find()
