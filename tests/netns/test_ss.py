"""ustack ss beside iproute2's ss: both ends of one connection, one by each, read by one parser."""

from __future__ import annotations

import socket as kernel
import subprocess
from typing import TYPE_CHECKING

from tests.cli.test_ss import parse
from tests.netns.daemon import HOST, PATIENCE, STACK, RunningDaemon, run, run_ustack
from tests.netns.programs import need

if TYPE_CHECKING:
    from pathlib import Path

    from ustack.io.host import Namespace


def word(words: list[str], name: str) -> str:
    """The value of ``name:value``."""
    return next((each.partition(":")[2] for each in words if each.startswith(name + ":")), "")


def real_ss() -> str:
    """What ss says of a connection that has carried data both ways, a listener, a TIME_WAIT."""
    with kernel.create_server(("127.0.0.1", 8080)) as server, kernel.socket() as client:
        client.setsockopt(kernel.SOL_SOCKET, kernel.SO_KEEPALIVE, 1)
        client.connect(("127.0.0.1", 8080))
        theirs, _ = server.accept()
        with theirs:
            client.sendall(bytes(20_000))
            theirs.recv(10)
            theirs.sendall(b"answer")
            client.recv(6)
            other = kernel.create_connection(("127.0.0.1", 8080))
            accepted, _ = server.accept()
            other.close()
            accepted.recv(1)
            accepted.close()
            return subprocess.run(["ss", "-tinmoea"], check=True, capture_output=True, text=True).stdout


def test_iproute2s_own_lines_have_this_grammar(namespace: Namespace) -> None:
    """The parser is judged by the real thing before it judges ours."""
    need("ss")
    found = parse(real_ss())
    states = sorted(first["state"] for first, _ in found)
    assert states == ["ESTAB", "ESTAB", "LISTEN", "TIME-WAIT"]
    words = next(words for first, words in found if first["state"] == "ESTAB")
    assert any(word.startswith("rtt:") for word in words)


def test_both_ends_of_a_connection(namespace: Namespace, tmp_path: Path) -> None:
    need("ss")
    with RunningDaemon(tmp_path, "--serve", "echo"), kernel.create_connection((STACK, 7), PATIENCE) as sock:
        sock.sendall(bytes(20_000))
        got = 0
        while got < 20_000:
            got += len(sock.recv(20_000))
        status, ours, mistake = run_ustack("ss", "-tinmoe")
        assert (status, mistake) == (0, "")
        theirs = run("ss", "-tinmoe", "dst", f"{STACK}:7")[1]
        ((us, our_words),) = parse(ours)
        ((them, their_words),) = parse(theirs)
        assert us["state"] == them["state"] == "ESTAB"
        assert (us["local"], us["peer"]) == (them["peer"], them["local"])
        assert us["peer"].startswith(HOST)
        for words, others in ((our_words, their_words), (their_words, our_words)):
            assert int(word(words, "bytes_sent")) - int(word(words, "bytes_retrans") or 0) == 20_000
            assert word(others, "bytes_received") == "20000"
        assert word(our_words, "advmss") == word(their_words, "advmss") == "1448"
        assert word(our_words, "pmtu") == word(their_words, "pmtu") == "1500"
        assert word(our_words, "mss") == word(their_words, "mss") == "1448"
        assert word(our_words, "wscale") == ",".join(reversed(word(their_words, "wscale").split(",")))
        common = {each.partition(":")[0] for each in their_words} - {"bbr"}
        missing = common - {each.partition(":")[0] for each in our_words}
        assert not {name for name in missing if " " not in name} - {
            "app_limited",
            "rcv_rtt",
            "delivered",
            "ato",
            "busy",
        }


def test_filters_and_counts(namespace: Namespace, tmp_path: Path) -> None:
    with RunningDaemon(tmp_path, "--serve", "echo"), kernel.create_connection((STACK, 7), PATIENCE):
        status, out, _ = run_ustack("ss", "-tanH", "state", "listening", "sport", "=", ":7")
        assert status == 0 and out.splitlines() == [out.strip()] and "0.0.0.0:7" in out
        assert run_ustack("ss", "-tanH", "sport", "=", ":1")[:2] == (0, "")
        status, out, _ = run_ustack("ss", "-s")
        assert status == 0 and "(estab 1, " in out
        status, _, mistake = run_ustack("ss", "state", "asleep")
        assert status == 1 and mistake == "ustack: ss: wrong state name: asleep\n"
