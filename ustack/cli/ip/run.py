"""The whole command: options, object, verb. ``run`` is what the tests of others call, too."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Final

from ustack.cli.ip.session import REFUSED, Options, Refused, Session
from ustack.cli.ip.usage import USAGE
from ustack.cli.ip.words import FAILURE, MISTAKE, Mistake, ShowUsage, choose, invalid, matches

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TextIO

    from ustack.cli.ip.transport import Transport

#: Objects, in the order in which iproute2 tries abbreviations; those that ustack does not have stand there for that.
OBJECTS: Final = (
    "address", "addrlabel", "maddress", "route", "rule", "neighbor", "neighbour", "ntable", "link", "l2tp", "fou",
    "ila", "macsec", "tunnel", "tuntap", "token", "tcpmetrics", "tcp_metrics", "monitor", "xfrm", "mroute", "mrule",
    "netns", "netconf", "vrf", "sr", "nexthop", "mptcp", "ioam", "help", "stats",
)  # fmt: skip
#: Those that it has, and their modules; ``route`` has ``do_route``.
MODULES: Final = {
    "address": "address", "route": "route", "rule": "rule", "neighbor": "neigh", "neighbour": "neigh", "link": "link",
    "nexthop": "nexthop", "monitor": "monitor",
}  # fmt: skip
#: Options in the order in which abbreviations are tried, and the field of Options that they set, if any.
OPTIONS: Final = {
    "-loops": None, "-family": None, "-human-readable": None, "-iec": None, "-statistics": "stats",
    "-details": "details", "-resolve": None, "-oneline": "oneline", "-timestamp": "timestamp",
    "-tshort": "short_timestamp", "-Version": None, "-brief": "brief", "-json": "json", "-rcvbuf": None,
    "-color": None, "-help": None, "-Numeric": "numeric", "-all": None, "-pretty": "pretty",
}  # fmt: skip
FAMILIES: Final = {"-4": True, "-6": False, "-0": None, "-M": False, "-B": None}
WITH_VALUE: Final = ("-loops", "-family", "-rcvbuf")
COLORS: Final = ("-color=always", "-color=auto", "-color=never")


def run(argv: list[str], transport: Transport, out: TextIO, err: TextIO, program: str = "ip") -> int:
    """``ip ARGV``: prints to ``out`` and ``err``, and returns the exit status.

    0; 1 for what cannot be done; 2 where the stack refuses; 255 for what the grammar does not allow.
    """
    session = Session(transport, out, err, program=program)
    subject = ""
    try:
        words = read_options(session, argv)
        if not words:
            raise ShowUsage
        subject = find_object(words[0], program)
        if subject == "help":
            raise ShowUsage
        return command(subject)(session, words[1:])
    except Mistake as mistake:
        err.write(mistake.text)
        return mistake.status
    except Refused as refusal:
        err.write(str(refusal))
        return REFUSED
    except ShowUsage:
        err.write(USAGE.get(subject, USAGE["help"]).format(program=program))
        return MISTAKE


def find_object(word: str, program: str) -> str:
    for name in OBJECTS:
        if matches(word, name) and (name in MODULES or name == "help"):
            return name
    raise Mistake(f'Object "{word}" is unknown, try "{program} help".\n', FAILURE)


def command(name: str) -> Callable[[Session, list[str]], int]:
    module = MODULES[name]
    found: Callable[[Session, list[str]], int] = getattr(import_module(f"ustack.cli.ip.{module}"), f"do_{module}")
    return found


# -- options


def read_options(session: Session, argv: list[str]) -> list[str]:
    """Set what the options say, wherever they stand; what is left is returned.

    Before the object an unknown one is a mistake; after it a word that is no option is left to the grammar.
    """
    rest: list[str] = []
    at = 0
    while at < len(argv):
        word = argv[at]
        at += 1
        if word[:1] != "-" or len(word) == 1:
            rest.append(word)
            continue
        name = find_option(word)
        if name is None:
            if not rest:
                raise Mistake(f'Option "{word}" is unknown, try "{session.program} -help".\n')
            rest.append(word)
        elif name in WITH_VALUE:
            if at == len(argv):
                raise Mistake('Command line is not complete. Try option "help"\n')
            if name == "-family":
                set_family(session.options, argv[at])
            at += 1
        else:
            apply(session, name)
    session.names.numeric = session.options.numeric
    return rest


def find_option(word: str) -> str | None:
    """The option that ``word`` stands for, with one dash or two."""
    dashed = word[1:] if word.startswith("--") else word
    if dashed in FAMILIES:
        return dashed
    if dashed in COLORS:
        return "-color"
    if dashed == "-n":  # another network namespace: there is none
        return None
    return choose(dashed, tuple(OPTIONS))


def apply(session: Session, name: str) -> None:
    options = session.options
    if name == "-help":
        raise ShowUsage
    if name == "-Version":
        from ustack.io.version import ustack_version

        session.out.write(f"{session.program} utility, ustack-{ustack_version()}\n")
        raise Mistake("", 0)
    if name in FAMILIES:
        options.inet = FAMILIES[name] is True
        options.other_family = FAMILIES[name] is False
        return
    field = OPTIONS[name]
    if field in ("stats", "details"):
        setattr(options, field, getattr(options, field) + 1)
    elif field is not None:
        setattr(options, field, True)


def set_family(options: Options, word: str) -> None:
    if word not in ("inet", "inet6", "link", "mpls", "bridge"):
        invalid(word, "invalid protocol family")
    options.inet = word == "inet"
    options.other_family = word in ("inet6", "mpls")
