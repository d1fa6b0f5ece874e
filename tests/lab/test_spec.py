"""The description of a laboratory: what it means, and every mistake in one line that names the key."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ustack.lab.programs import BUILT_IN
from ustack.lab.spec import (
    HOOK_POINTS,
    LOOP,
    Cable,
    Host,
    Spec,
    SpecError,
    check_cable,
    impairments,
    load,
    parse,
    ports_of,
)

if TYPE_CHECKING:
    from pathlib import Path

TWO = """
[[host]]
name = "a"
addr = "192.0.2.1/24"
[[host]]
name = "b"
addr = { eth0 = "192.0.2.2/24", eth1 = ["198.51.100.1/24", "198.51.100.2/24"] }
[[switch]]
name = "sw"
"""


def complaint(text: str) -> str:
    with pytest.raises(SpecError) as raised:
        parse(text.encode(), "lab.toml")
    said = str(raised.value)
    assert "\n" not in said
    assert said.startswith("lab.toml: ")
    return said.removeprefix("lab.toml: ")


def test_what_is_left_out_has_its_default() -> None:
    spec = parse(TWO.encode())
    a, b = spec.host
    assert (spec.seed, spec.until, a.mtu, a.ring, a.forward, spec.switch[0].ageing) == (
        0,
        "60s",
        1500,
        64,
        False,
        "300s",
    )
    assert ports_of(a) == {"eth0": ["192.0.2.1/24"]}
    assert ports_of(b) == {"eth0": ["192.0.2.2/24"], "eth1": ["198.51.100.1/24", "198.51.100.2/24"]}
    assert ports_of(Host(name="c")) == {}


def test_an_empty_one_is_one() -> None:
    assert parse(b"") == Spec()


def test_impairments_have_units_and_two_directions() -> None:
    cable = Cable(ends=["a", "b"], delay="5ms", loss="1%", rate="10mbit", limit="64kb")
    there = impairments("cable", cable, None)
    assert (there.delay, there.loss, there.rate, there.limit) == (5_000_000, 0.01, 10**7, 65536)
    spec = parse((TWO + '[[cable]]\nends = ["a", "b"]\ndelay = "5ms"\nloss = "1%"\nback = { delay = 0.02 }').encode())
    back = impairments("cable", spec.cable[0], spec.cable[0].back)
    assert (back.delay, back.loss) == (20_000_000, 0.01)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("nonsense = 1", "unknown key 'nonsense'"),
        ("[[host]]\nname = 'x'\nadr = '1'", "host 3: unknown key 'adr'"),
        ("[[host]]\naddr = '1'", "host 3: no 'name'"),
        ("[[host]]\nname = 'x'\nmtu = 'big'", "host 3: mtu: expected 'int', got 'str'"),
        ("[[host]]\nname = 'x'\nmtu = 20", "host 'x': mtu: 68 to 65535 bytes are possible, not 20"),
        ("[[host]]\nname = 'x'\nring = 100", "host 'x': ring: a power of two is wanted, not 100"),
        ("[[host]]\nname = 'x'\nring = 8", "host 'x': ring: 64 to 4096 descriptors are possible, not 8"),
        ("[[host]]\nname = 'a'", "host 'a': name: there is a host of that name already"),
        ("[[switch]]\nname = 'a'", "switch 'a': name: there is a host of that name already"),
        ("[[host]]\nname = 'a:b'", "host 'a:b': name: letters, digits, '_', '-' and '.' are possible, 63 at most"),
        ("[[host]]\nname = 'x'\naddr = '192.0.2/24'",
         "host 'x': addr: bad address '192.0.2': four numbers from 0 to 255 with dots are wanted"),
        ("[[host]]\nname = 'x'\naddr = '192.0.2.1/33'",
         "host 'x': addr: bad prefix length in '192.0.2.1/33': a number from 0 to 32 is wanted"),
        ("[[host]]\nname = 'x'\naddr = { lo = '192.0.2.9/24' }",
         "host 'x': addr: bad port 'lo': 1 to 15 bytes without '/', ':' and spaces are possible"),
        ("[[host]]\nname = 'x'\ngateway = 'b'",
         "host 'x': gateway: bad address 'b': four numbers from 0 to 255 with dots are wanted"),
        ("[[host]]\nname = 'x'\nhosts = { y = 'z' }",
         "host 'x': hosts: y: bad address 'z': four numbers from 0 to 255 with dots are wanted"),
        ("[hosts]\ny = 'z'", "hosts: y: bad address 'z': four numbers from 0 to 255 with dots are wanted"),
        ("[[host]]\nname = 'x'\nserve = ['ftp']",
         "host 'x': serve: unknown service 'ftp': there are echo, discard, chargen, http"),
        ("[[host]]\nname = 'x'\n[[host.program]]\nrun = 'udp-snd'",
         f"host 'x': program: run: unknown program 'udp-snd': there are {', '.join(BUILT_IN)}, and 'file.py:function'"),
        ("[[host]]\nname = 'x'\n[[host.program]]\nrun = 'file.py:'",
         "host 'x': program: run: bad function 'file.py:': 'file.py:name' is wanted"),
        ("[[host]]\nname = 'x'\n[[host.program]]\nrun = 'ping'\nstart = 'noon'",
         "host 'x': program: start: bad time 'noon': a number with ns, us, ms, s, min or h is wanted"),
        ("[[host]]\nname = 'x'\n[[host.hook]]\npoint = 'INPUT'\nfunction = 'f.py:g'",
         f"host 'x': hook: point: unknown point 'INPUT': there are {', '.join(HOOK_POINTS)}"),
        ("[[host]]\nname = 'x'\n[[host.hook]]\npoint = 'FORWARD'\nfunction = 'g'",
         "host 'x': hook: function: bad function 'g': 'file.py:name' is wanted"),
        ("[[switch]]\nname = 'x'\nageing = 'soon'",
         "switch 'x': ageing: bad time 'soon': a number with ns, us, ms, s, min or h is wanted"),
        ("[[switch]]\nname = 'x'\nstations = 0", "switch 'x': stations: 1 to 1048576 are possible, not 0"),
        ("[[cable]]\nends = ['a']", "cable 1 (a): ends: a cable has two, not 1"),
        ("[[cable]]\nends = ['a', 'z']", "cable 1 (a - z): ends: there is no host or switch 'z'"),
        ("[[cable]]\nends = ['a', 'b']\n[[cable]]\nends = ['b:eth0', 'sw']\n[[cable]]\nends = ['b:eth0', 'sw']",
         "cable 3 (b:eth0 - sw): ends: 'b:eth0' is taken by cable 2 (b:eth0 - sw)"),
        ("[[cable]]\nends = ['a', 'b']\nloss = '200%'",
         "cable 1 (a - b): loss: bad share '200%': at most 100%, which is 1, is possible"),
        ("[[cable]]\nends = ['a', 'b']\nback = { rate = '5' , delay = 'x' }",
         "cable 1 (a - b): back: delay: bad time 'x': a number with ns, us, ms, s, min or h is wanted"),
        ("[[cable]]\nends = ['a', 'b']\njitter = '2s'",
         "cable 1 (a - b): times, rate and limit are not negative, jitter is one second at most"),
        ("[[switch]]\nname = 's2'\n[[cable]]\nends = ['sw', 's2']\n[[cable]]\nends = ['s2', 'sw']",
         f"cable 2 (s2 - sw): ends: {LOOP}"),
        ("[[tap]]\nname = 'us0'\nend = 'z'", "tap 'us0': end: there is no host or switch 'z'"),
        ("[[tap]]\nname = 'a/b'\nend = 'a'",
         "tap 'a/b': name: 1 to 15 bytes without '/', ':' and spaces are possible"),
        ("[[tap]]\nname = 'us0'\nend = 'a'\nhost-addr = '192.0.2.256'",
         "tap 'us0': host-addr: bad address '192.0.2.256': four numbers from 0 to 255 with dots are wanted"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line_that_names_the_key(text: str, said: str) -> None:
    top = "" if text.startswith("[") else text
    assert complaint(top + TWO + ("" if top else text)) == said


def test_text_that_is_no_toml_says_where() -> None:
    assert "line" in complaint("[[host\n")


def test_until_is_a_time() -> None:
    assert complaint("until = 'x'") == "until: bad time 'x': a number with ns, us, ms, s, min or h is wanted"


def test_a_cable_from_a_switch_to_itself_is_a_loop() -> None:
    assert "a loop of switches" in complaint(TWO + "[[cable]]\nends = ['sw', 'sw']")
    parse(("allow-loops = true\n" + TWO + "[[cable]]\nends = ['sw', 'sw']").encode())


def test_files_lie_beside_the_description(tmp_path: Path) -> None:
    file = tmp_path / "x.toml"
    file.write_text(
        "[[host]]\nname = 'x'\n[[host.program]]\nrun = 'f.py:main'\n[[host.program]]\nrun = 'ping'\nargs = ['x']\n"
        "[[host.hook]]\npoint = 'FORWARD'\nfunction = '/elsewhere/h.py:h'"
    )
    (host,) = load(file).host
    assert [program.run for program in host.program] == [f"{tmp_path}/f.py:main", "ping"]
    assert host.hook[0].function == "/elsewhere/h.py:h"


def test_a_file_that_is_not_there_is_the_systems_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "nosuch.toml")


def test_a_cable_in_a_program_is_checked_too() -> None:
    with pytest.raises(SpecError, match="cable: corrupt: bad share"):
        check_cable("cable", Cable(ends=["a", "b"], corrupt="often"))


@given(st.binary(max_size=200))
def test_whatever_the_file_holds_it_is_a_description_or_a_complaint(text: bytes) -> None:
    try:
        parse(text, "x")
    except SpecError as mistake:
        assert str(mistake).startswith("x: ")
