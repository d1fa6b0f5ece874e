"""How much is judged: USTACK_ORACLE_SEEDS and USTACK_ORACLE_LOOKUPS (see README.md)."""

from __future__ import annotations

import os
import shutil

import pytest

from tests.oracle.world import HASH_SEED
from ustack.io.host import Namespace

#: The normal run: 100,000 lookups in all.
SEEDS = range(1, 21)
LOOKUPS = 5000
ROUTER_SEEDS = range(1, 13)
FRAMES = 150


def seeds(usual: range) -> range:
    """``FIRST-LAST`` or ``COUNT`` in USTACK_ORACLE_SEEDS; ``usual`` without."""
    first, _, last = os.environ.get("USTACK_ORACLE_SEEDS", "").partition("-")
    if not first:
        return usual
    return range(int(first), int(last) + 1) if last else range(1, int(first) + 1)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "seed" in metafunc.fixturenames:
        metafunc.parametrize("seed", seeds(SEEDS))
    if "router_seed" in metafunc.fixturenames:
        metafunc.parametrize("router_seed", seeds(ROUTER_SEEDS))


@pytest.fixture
def lookups() -> int:
    """Questions to each world."""
    return int(os.environ.get("USTACK_ORACLE_LOOKUPS", LOOKUPS))


@pytest.fixture(scope="session")
def kernel() -> None:
    """There must be a right to make namespaces, iproute2, and a kernel that hashes as it is told (Linux 6.11)."""
    if not os.path.exists("/proc/sys/" + HASH_SEED.replace(".", "/")):
        pytest.skip("this kernel keeps the seed of its multipath hash to itself")
    if shutil.which("ip") is None:
        pytest.skip("iproute2 is not installed")
    try:
        Namespace.create().close()
    except PermissionError:
        pytest.skip("no right to make a network namespace: run as root")
