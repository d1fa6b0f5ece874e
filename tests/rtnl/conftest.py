from __future__ import annotations

import pytest

from tests.rtnl.place import Place


@pytest.fixture
def place() -> Place:
    return Place()
