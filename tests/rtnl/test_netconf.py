"""Settings over rtnetlink: asked for, set, refused, and told of when they change."""

from __future__ import annotations

import errno

import pytest

from tests.rtnl.place import Place, taken
from ustack.rtnl.messages import Ack, GetSysctl, Nack, Netconf, SetSysctl, Settings

FORWARDING = "net.ipv4.conf.eth0.forwarding"


def test_a_setting_is_asked_for_by_its_name(place: Place) -> None:
    answer = place.rtnetlink.request(GetSysctl(FORWARDING))
    assert isinstance(answer, Settings)
    assert answer.values == {FORWARDING: "0"}
    assert answer.docs[FORWARDING]


def test_all_of_a_folder_come_in_the_order_of_their_names(place: Place) -> None:
    answer = place.rtnetlink.request(GetSysctl("net.ipv4.conf.eth0"))
    assert isinstance(answer, Settings)
    assert FORWARDING in answer.values
    assert list(answer.values) == sorted(answer.values)


def test_a_change_is_told(place: Place) -> None:
    watch = place.watch("netconf")
    assert place.rtnetlink.request(SetSysctl(FORWARDING, "1")) == Ack()
    assert [event.object for event in taken(watch)] == [Netconf(name=FORWARDING, value="1")]
    assert place.eth0.in_dev.forward()


def test_the_switch_of_all_devices_is_told_for_each(place: Place) -> None:
    """As `ip monitor netconf` shows it: all, default, and every device."""
    watch = place.watch("netconf")
    assert place.rtnetlink.request(SetSysctl("net.ipv4.ip_forward", "1")) == Ack()
    told = [event.object.name for event in taken(watch) if isinstance(event.object, Netconf)]
    assert told == [f"net.ipv4.conf.{where}.forwarding" for where in ("all", "default", "lo", "eth0", "eth1")]


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        (GetSysctl("net.ipv4.nosuch"), errno.ENOENT),
        (SetSysctl("net.ipv4.nosuch", "1"), errno.ENOENT),
        (SetSysctl(FORWARDING, "yes"), errno.EINVAL),
        (SetSysctl(FORWARDING, "9" * 100), errno.EINVAL),
        (SetSysctl(FORWARDING, ""), errno.EINVAL),
    ],
)
def test_what_cannot_be_is_refused(place: Place, request_: GetSysctl | SetSysctl, code: int) -> None:
    watch = place.watch()
    answer = place.rtnetlink.request(request_)
    if answer != Ack():  # nothing written is nothing changed
        assert answer == Nack(code)
    assert taken(watch) == []


def test_settings_are_no_objects_to_be_dumped(place: Place) -> None:
    assert place.refusal("dump", Netconf(name="", value="")) == (errno.EOPNOTSUPP, "")
