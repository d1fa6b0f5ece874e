"""net.ipv4.tcp_congestion_control and its two companions (Linux proc_tcp_congestion_control ...)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ustack.sysctl_names import RO, TCP_CA_NAME_MAX, TextSetting

if TYPE_CHECKING:
    from ustack.tcp.congestion.registry import Registry


class DefaultSetting(TextSetting):
    """tcp_congestion_control."""

    def __init__(self, registry: Registry) -> None:
        super().__init__("tcp_congestion_control", "the congestion control of new connections", TCP_CA_NAME_MAX)
        self.registry: Registry = registry

    def read(self) -> str:
        return self.registry.default().name

    def write(self, text: str) -> None:
        """ENOENT for a name that is none."""
        self.registry.set_default(text)


class AvailableSetting(TextSetting):
    """tcp_available_congestion_control."""

    def __init__(self, registry: Registry) -> None:
        super().__init__("tcp_available_congestion_control", "the congestion controls that there are", mode=RO)
        self.registry: Registry = registry

    def read(self) -> str:
        return self.registry.shown(False)


class AllowedSetting(TextSetting):
    """tcp_allowed_congestion_control."""

    def __init__(self, registry: Registry) -> None:
        super().__init__("tcp_allowed_congestion_control", "those that anybody may choose")
        self.registry: Registry = registry

    def read(self) -> str:
        return self.registry.shown(True)

    def write(self, text: str) -> None:
        """ENOENT if one of them is none; then nothing changes."""
        self.registry.set_allowed([name for name in text.split(" ") if name])


def congestion_settings(registry: Registry) -> list[TextSetting]:
    return [DefaultSetting(registry), AvailableSetting(registry), AllowedSetting(registry)]
