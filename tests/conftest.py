"""What every test shares: properties run the same examples each time, and are not judged by the clock."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

settings.register_profile("ustack", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("ustack")
