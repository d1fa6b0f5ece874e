"""Words and JSON from one description, in iproute2's layout."""

from __future__ import annotations

import io
import json

from hypothesis import given, settings
from hypothesis import strategies as st

from ustack.cli.ip.output import Printer, compact_json, pretty_json

TREES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=12,
)


def printed(**options: bool) -> str:
    out = io.StringIO()
    printer = Printer(out, **options)
    printer.begin()
    for number in (1, 2):
        printer.open()
        printer.put("id", number, f"id {number} ")
        printer.data("only", "json")
        printer.text("words ")
        printer.open_list("hops")
        printer.newline()
        for hop in range(number):
            printer.open()
            printer.put("hop", hop, f"hop {hop} ")
            printer.close()
        printer.close()
        printer.open("flow")
        printer.put("to", None, "to nowhere")
        printer.close()
        printer.text("\n")
        printer.close()
    printer.end()
    return out.getvalue()


def test_words() -> None:
    assert printed() == "id 1 words \nhop 0 to nowhere\nid 2 words \nhop 0 hop 1 to nowhere\n"
    assert printed(oneline=True) == "id 1 words \\hop 0 to nowhere\nid 2 words \\hop 0 hop 1 to nowhere\n"
    assert printed(pretty=True) == printed()


def test_json() -> None:
    assert printed(as_json=True) == (
        '[{"id":1,"only":"json","hops":[{"hop":0}],"flow":{"to":null}},'
        '{"id":2,"only":"json","hops":[{"hop":0},{"hop":1}],"flow":{"to":null}}]\n'
    )


def test_pretty_json_as_iproute2_has_it() -> None:
    text = printed(as_json=True, pretty=True)
    assert text.startswith(
        '[ {\n        "id": 1,\n        "only": "json",\n        "hops": [ {\n                "hop": 0\n'
        '            } ],\n        "flow": {\n            "to": null\n        }\n    },{\n        "id": 2,\n'
    )
    assert text.endswith("    } ]\n")
    assert json.loads(text) == json.loads(printed(as_json=True))


def test_nothing_at_all() -> None:
    for options, text in (({}, ""), ({"as_json": True}, "[]\n"), ({"as_json": True, "pretty": True}, "[ ]\n")):
        out = io.StringIO()
        printer = Printer(out, **options)
        printer.begin()
        printer.end()
        assert out.getvalue() == text


def test_empty_things() -> None:
    assert pretty_json({"flags": [], "flow": {}}, 0) == '{\n    "flags": [ ],\n    "flow": {}\n}'
    assert pretty_json(["a", "b"], 0) == '[ "a","b" ]'


@given(TREES)
@settings(max_examples=100)
def test_both_layouts_say_the_same(tree: object) -> None:
    assert json.loads(pretty_json(tree, 1)) == json.loads(compact_json(tree)) == tree
