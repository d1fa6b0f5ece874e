"""What packets cost that nobody wants: how often who watches is asked, and that a filter needs no copy of a frame."""

from __future__ import annotations

from random import Random

from tests.harness import udp as bound
from tests.trace.below import PEER, Target
from tests.trace.test_journey import FIRST, HEADER, SECOND, ZERO_HEADER, Watched, Watcher, followed
from ustack.net import Net
from ustack.netfilter.hooks import NF_ACCEPT, NF_INET_LOCAL_OUT, NF_INET_POST_ROUTING, HookState
from ustack.packet import Packet
from ustack.trace.bpf import KNOWN, Filter, Instruction
from ustack.trace.given import Given, Numbers
from ustack.trace.journey import FRAME_MAX, Journey, Journeys
from ustack.trace.watcher import FilterWatcher

LDH, LDW, JEQ, RET = 0x28, 0x20, 0x15, 0x06
#: Of an IPv4 packet whose payload begins with "muff".
MUFFIN: list[Instruction] = [
    (LDH, 0, 0, 12),
    (JEQ, 0, 3, 0x0800),
    (LDW, 0, 0, 14),
    (JEQ, 0, 1, 0x6D756666),
    (RET, 0, 0, 65535),
    (RET, 0, 0, 0),
]


# -- how often


def test_what_was_not_wanted_is_not_asked_about_again() -> None:
    """Once when it is built; its link-layer header says nothing new to those who do not look at it."""
    a = Watched(Watcher(b"cake"))
    packet = a.build()
    a.frame(packet)
    assert a.watcher.asked == [(ZERO_HEADER + b"muffin", 20)] and packet.journey is None


def test_one_that_was_never_asked_about_is_when_it_leaves() -> None:
    """A fragment, or a packet behind which another was built."""
    a = Watched(Watcher(b"cake"))
    first = a.build(b"muffin")
    a.build(b"bread!")
    a.frame(first)
    a.frame(Packet(b"part"))
    assert [frame[14:] for frame, _ in a.watcher.asked] == [b"muffin", b"bread!", b"muffin", b"part"]


def test_one_that_comes_in_is_asked_about_once_and_when_it_leaves() -> None:
    """On its way out its TTL is another."""
    a = Watched(Watcher(b"cake"))
    packet = a.receive()
    a.tracer.received(packet)
    assert len(a.watcher.asked) == 1
    a.tracer.framed(packet)
    assert len(a.watcher.asked) == 2


def test_what_somebody_changes_is_asked_about_again() -> None:
    a = Watched(Watcher(b"cake"))
    packet, other = a.build(), Packet(b"")
    a.tracer.changed(other)
    packet.buf = b"cake"
    packet.end = 4
    a.tracer.changed(packet)
    a.frame(packet)
    assert len(a.watcher.asked) == 2 and followed(packet).watchers == [a.watcher]


def test_a_hook_may_have_changed_it() -> None:
    """What NAT, say, makes of a packet is seen as it leaves."""
    for point in (NF_INET_LOCAL_OUT, NF_INET_POST_ROUTING):
        target = Target()

        def bake(state: HookState) -> int:
            state.packet.buf = state.packet.buf.replace(b"muffin", b"cakes!")
            return NF_ACCEPT

        target.stack.hooks.nf_register_hook(point, bake)
        journeys, watcher = Journeys(), Watcher(b"cakes!")
        journeys.join(target.stack.net)
        journeys.watch(watcher)
        bound(target.stack).sendto(b"muffin", (PEER, 7))
        target.poll()
        journeys.end_all()
        assert len(watcher.over) == 1


def test_who_watches_later_is_asked_about_what_was_built_before() -> None:
    """It may wait for its neighbour meanwhile."""
    a = Watched(Watcher(b"cake"))
    packet, late = a.build(), Watcher(b"muffin")
    a.journeys.watch(late)
    a.frame(packet)
    assert followed(packet).watchers == [late]


# -- notes


def test_notes_are_used_again_and_journeys_keep_theirs() -> None:
    a = Watched(Watcher(b"muffin"))
    steps = []
    for length in (6, 7):
        a.tracer.call(FIRST, "sendto", Numbers("length", length))
        a.tracer.note(SECOND, str(length), Numbers("id", length, "ttl", 64))
        steps.append(followed(a.build()).steps)
        a.build(b"bread!")
    for length, (call, note) in zip((6, 7), steps, strict=True):
        assert (call.point, call.decision, call.facts) == (FIRST, "sendto", {"length": length})
        assert (note.point, note.decision, note.facts) == (SECOND, str(length), {"id": length, "ttl": 64})


def test_what_is_given_has_words_of_its_own() -> None:
    try:
        Given().facts()
    except NotImplementedError:
        return
    raise AssertionError


# -- a filter sees the frame where it lies


def test_a_program_runs_on_a_part_of_a_buffer() -> None:
    """From ``start`` to ``end`` as on a copy of that; and before an IPv4 packet as behind NO_ETHERNET."""
    chance = Random(5)
    loads = sorted(code for code in KNOWN if code & 7 == 0 and code & 0xE0 in (0x20, 0x40) or code == 0xB1)
    for _ in range(3000):
        buf = chance.randbytes(chance.randrange(60))
        end = chance.randrange(len(buf) + 1)
        start = chance.choice([-14, 0, chance.randrange(end + 1)])
        where = chance.choice([chance.randrange(70), 12, 0xFFFF_F000, 0xFFF0_0000 + chance.randrange(40)])
        where = chance.choice([where, 0xFFE0_0000 + chance.randrange(40)])
        code = chance.choice(loads)
        program: list[Instruction] = [(0x01, 0, 0, chance.randrange(20)), (code, 0, 0, where), (0x87, 0, 0, 0)]
        program = [*(program if code == 0xB1 else program[:2]), (0x16, 0, 0, 0)]
        copy = ZERO_HEADER + buf[:end] if start < 0 else buf[start:end]
        machine = Filter(program)
        assert machine.run(buf, len(copy), start, end) == machine.run(copy, len(copy)), (program, start, end, buf)


class Muffins(FilterWatcher):
    def __init__(self) -> None:
        super().__init__(MUFFIN)
        self.over: list[Journey] = []

    def journey(self, journey: Journey) -> None:
        self.over.append(journey)


def test_a_filter_decides_where_a_packet_is_built_received_and_framed() -> None:
    net, journeys, watcher = Net(bytes(16)), Journeys(), Muffins()
    tracer = journeys.join(net)
    journeys.watch(watcher)
    for payload, wanted in ((b"muffin", True), (b"cakes!", False), (b"", False)):
        built, received, framed = Packet(payload), Packet(HEADER + payload), Packet(payload)
        tracer.built(built)
        tracer.received(received)
        framed.push_mac_header(HEADER)
        tracer.framed(framed)
        for packet, header in ((built, ZERO_HEADER), (received, HEADER), (framed, HEADER)):
            assert (packet.journey is not None) == wanted
            if wanted:
                assert (followed(packet).frame, followed(packet).length) == (header + payload, 20)


def test_pieces_count_whether_or_not_there_is_a_filter() -> None:
    """The linear part and what hangs behind it are one frame, of which the beginning is kept."""
    net, journeys, watcher = Net(bytes(16)), Journeys(), Muffins()
    tracer = journeys.join(net)
    journeys.watch(watcher)
    packet = Packet(b"mu")
    packet.frags = [b"ff", b"in" * FRAME_MAX]
    packet.frags_len = 2 + 2 * FRAME_MAX
    tracer.built(packet)
    journey = followed(packet)
    assert journey.frame == (ZERO_HEADER + b"muff" + b"in" * FRAME_MAX)[:FRAME_MAX]
    assert journey.length == 14 + 4 + 2 * FRAME_MAX
