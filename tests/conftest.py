"""What every test shares: properties run the same examples each time, and are not judged by the clock.

With USTACK_NO_SKIPS set a skipped test is a failed one: where everything that a test may want is there, as in the
virtual machine of vagrant/, one that was not run has not passed.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from collections.abc import Generator

settings.register_profile("ustack", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("ustack")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.skipped and os.environ.get("USTACK_NO_SKIPS") and not hasattr(report, "wasxfail"):
        why: Any = report.longrepr
        report.outcome = "failed"
        report.longrepr = f"skipped, which is no pass here: {why[2] if isinstance(why, tuple) else why}"
    return report
