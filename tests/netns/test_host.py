"""The kernel's side: what the daemon and the tests ask of it, and how it says no."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from ustack.io.host import OWN_NAMESPACE, Namespace
from ustack.io.tap import Tap

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ustack.io.host import Host


@pytest.fixture
def tap(host: Host) -> Iterator[Tap]:
    tap = Tap("tap0")
    yield tap
    tap.close()


def shown(*command: str) -> str:
    """What a program nobody here wrote says."""
    return subprocess.run(["ip", *command], capture_output=True, text=True, check=True).stdout


def test_a_link_is_configured_as_ip_link_does(host: Host, tap: Tap) -> None:
    host.set_link("tap0", up=True, mtu=1400, mac="02:00:00:00:00:01", txqueuelen=2000)
    link = shown("link", "show", "tap0")
    assert ",UP" in link and "mtu 1400" in link and "02:00:00:00:00:01" in link and "qlen 2000" in link
    assert [host.link("tap0")[key] for key in ("address", "mtu", "txqlen")] == ["02:00:00:00:00:01", 1400, 2000]
    assert host.link("tap0")["stats"]["tx_dropped"] == 0
    host.set_link("tap0", up=False)
    assert ",UP" not in shown("link", "show", "tap0")


def test_only_what_is_given_changes(host: Host, tap: Tap) -> None:
    before = host.link("tap0")
    host.set_link("tap0", mtu=1280)
    assert host.link("tap0") == {**before, "mtu": 1280}


def test_addresses_come_and_go(host: Host, tap: Tap) -> None:
    host.add_address("tap0", "192.0.2.1/24")
    host.add_address("tap0", "198.51.100.7")
    assert host.addresses("tap0") == ["192.0.2.1/24", "198.51.100.7/32"]
    host.delete_address("tap0", "192.0.2.1/24")
    assert host.addresses("tap0") == ["198.51.100.7/32"]


def test_routes_and_neighbours_are_what_ip_shows(host: Host, tap: Tap) -> None:
    host.set_link("tap0", up=True)
    host.add_address("tap0", "192.0.2.1/24")
    host.add_route("198.51.100.0/24", gateway="192.0.2.2")
    host.add_route("203.0.113.0/24", dev="tap0")
    host.add_route("default", gateway="192.0.2.2")
    host.add_neighbour("tap0", "192.0.2.2", "02:00:00:00:00:02")
    routes = shown("route")
    assert "default via 192.0.2.2" in routes and "198.51.100.0/24 via 192.0.2.2" in routes
    assert "203.0.113.0/24 dev tap0" in routes
    assert "02:00:00:00:00:02 PERMANENT" in shown("neigh")
    host.delete_route("198.51.100.0/24")
    assert "198.51.100.0" not in shown("route")


@pytest.mark.parametrize(
    ("code", "attempt"),
    [
        (errno.ENODEV, lambda host: host.set_link("nothing0", up=True)),
        (errno.ENODEV, lambda host: host.link("nothing0")),
        (errno.ENODEV, lambda host: host.delete_link("nothing0")),
        (errno.ENODEV, lambda host: host.add_address("nothing0", "192.0.2.1/24")),
        (errno.EEXIST, lambda host: host.add_address("tap0", "192.0.2.9/24")),
        (errno.EINVAL, lambda host: host.add_address("tap0", "192.0.2.256/24")),
        (errno.EINVAL, lambda host: host.add_address("tap0", "192.0.2.1/many")),
        (errno.EINVAL, lambda host: host.add_address("tap0", "192.0.2.1/33")),
        (errno.EADDRNOTAVAIL, lambda host: host.delete_address("tap0", "192.0.2.77/24")),
        (errno.EINVAL, lambda host: host.set_link("tap0", mtu=99_999)),
        (errno.EINVAL, lambda host: host.set_link("tap0", mac="nonsense")),
        (errno.ENETUNREACH, lambda host: host.add_route("203.0.113.0/24", gateway="198.51.100.1")),
        (errno.ESRCH, lambda host: host.delete_route("203.0.113.0/24")),
    ],
)
def test_a_refusal_is_an_oserror_with_linux_errno(
    host: Host, tap: Tap, code: int, attempt: Callable[[Host], object]
) -> None:
    host.add_address("tap0", "192.0.2.9/24")
    with pytest.raises(OSError) as caught:
        attempt(host)
    assert caught.value.errno == code


def test_devices_stay_in_the_namespace_they_were_made_in(namespace: Namespace, host: Host, tap: Tap) -> None:
    with Namespace.create() as other:
        assert "tap0" not in shown("link")
        assert host.has_link("tap0"), "the netlink socket stays too"
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    other.close()
    assert "tap0" in shown("link")


def test_leaving_returns_to_where_the_thread_was(namespace: Namespace) -> None:
    outside = os.readlink(OWN_NAMESPACE)
    inner = Namespace.create()
    assert os.readlink(OWN_NAMESPACE) == outside, "making one does not enter it"
    with pytest.raises(KeyError), inner:
        assert os.readlink(OWN_NAMESPACE) != outside
        with inner:
            pass
        assert os.readlink(OWN_NAMESPACE) != outside, "entered twice, left once"
        raise KeyError
    assert os.readlink(OWN_NAMESPACE) == outside
    inner.close()
    inner.close()


def test_a_namespace_without_a_name_is_gone_when_let_go() -> None:
    """Nothing of it is to be found afterwards: no mount, no entry under /run/netns."""
    before = os.listdir("/run/netns") if os.path.isdir("/run/netns") else []
    try:
        Namespace.create().close()
    except PermissionError:
        pytest.skip("no right to make a network namespace")
    assert (os.listdir("/run/netns") if os.path.isdir("/run/netns") else []) == before


def test_an_unknown_name_is_not_a_namespace() -> None:
    with pytest.raises(FileNotFoundError):
        Namespace.named("no-such-namespace")


def test_a_process_moves_to_a_private_network_where_it_may_make_devices() -> None:
    """As ``ustack shell`` does, for an ordinary user too."""
    program = (
        "import os; from ustack.io.host import Host, private_network, OWN_NAMESPACE\n"
        "before = os.readlink(OWN_NAMESPACE); private_network()\n"
        "assert os.readlink(OWN_NAMESPACE) != before and os.geteuid() == 0\n"
        "with Host() as host: host.set_link('lo', up=True)\n"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    if "PermissionError" in run.stderr:
        pytest.skip("this system lets nobody but root make namespaces")
    assert (run.returncode, run.stderr) == (0, "")


def test_a_named_namespace_is_listed_entered_and_deleted() -> None:
    """In a mount namespace whose /run is its own, so that the machine never sees the name."""
    program = (
        "import os, subprocess; from ustack.io.host import *\n"
        "create_namespace('lab'); before = os.readlink(OWN_NAMESPACE)\n"
        "listed = subprocess.run(['ip', 'netns'], capture_output=True, text=True).stdout; assert 'lab' in listed\n"
        "with Namespace.named('lab') as lab: assert os.readlink(OWN_NAMESPACE) != before\n"
        "lab.close(); delete_namespace('lab'); assert not os.path.exists('/run/netns/lab')\n"
    )
    command = ["unshare", "-m", "sh", "-c", 'mount -t tmpfs none /run && exec "$0" -c "$1"', sys.executable, program]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    if "Operation not permitted" in run.stderr:
        pytest.skip("no right to make a mount namespace")
    assert (run.returncode, run.stderr) == (0, "")
