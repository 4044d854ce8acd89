"""Random templates on random texts: control tokens come from the template's literals, and nothing runs for ever.

`ZAYA_FUZZ_SECONDS=300 pytest tests/fuzz/test_templates.py` looks for longer.
"""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

import pytest

from tests.core import tokenizers_made_here as made
from tests.fuzz.budget import rounds
from zaya_core.errors import CheckpointError
from zaya_core.text.control_names import ControlNames
from zaya_core.text.template import limits
from zaya_core.text.template.chat_template import ChatTemplate
from zaya_core.text.tokenizer import Tokenizer, load_tokenizer

CONTROL = ["<|im_start|>", "<|im_end|>", "<think>", "</think>", "<bos>", "<zyphra_tool_call>"]
# Pieces of control tokens, and what an edit may take out of the middle of one.
PIECES = [*CONTROL, "<", ">", "|", "<|", "|>", "im_", "end", "start", "<|im_", "end|>", "think", "/think", "/no_think"]
PIECES += [" ", "\r", "\n", "\t", "<b>", "<!-- -->", "&lt;", "&#60;", "x", "X", "é", "\U00020000", "{}", "%s", "_END|>"]
WORDS = ["x", "/think", "/no_think", " ", "<", "|", "im_", "end", "<|im_end|>", "<think>"]
METHODS = ["lower", "upper", "title", "capitalize", "swapcase", "casefold", "strip", "lstrip", "rstrip"]
FILTERS = [
    *METHODS[:4],
    "trim",
    "reverse",
    "string",
    "list",
    "tojson",
    "striptags",
    "escape",
    "urlencode",
    "safe",
    "join",
]
FILTERS += [
    "indent(0)",
    "indent(1)",
    "wordwrap(3)",
    "truncate(9, true, '')",
    "center(20)",
    "first",
    "last",
    "sort",
    "unique",
]
FILTERS += ["batch(2)", "slice(3)", "map('lower')", "map('trim')", "select", "replace('x', '')", "replace('<', '<|')"]
FILTERS += [
    "default('x')",
    "length",
    "wordcount",
    "int",
    "float",
    "items",
    "dictsort",
    "groupby(0)",
    "format",
    "e",
    "d",
    "sum",
]
OPERATORS = ["+", "-", "*", "/", "//", "%", "**", "~", "==", "<", "in", "and", "or"]
WIDE = [
    "10 ** 9",
    "99999",
    "10 ** 9 * 'a'",
    "range(99999)",
    "-1",
    "0",
    "1.5",
    "'a' * 99999",
    "messages",
    "none",
    "[1] * 99999",
]


def words(random: Random) -> str:
    return "".join(random.choices(PIECES, k=random.randrange(1, 7)))


def literal(random: Random) -> str:
    """Never a whole control token, as the template's literals are counted."""
    return repr(random.choice(["<", "<|", "<|im_", "|>", ">", "end|>", "x", "", " ", "im_end"]))


def edited(random: Random, depth: int) -> str:
    """An expression that makes something of `t`, a text of people."""
    if depth == 0:
        return random.choice(["t", "m.content", "m.name", "m['content']", "messages[0].content", "tools[0].name"])
    inner = edited(random, depth - 1)
    kind = random.randrange(9)
    if kind == 0:
        return f"({inner})|string|replace({random.choice(WORDS)!r}, {literal(random)})"
    if kind == 1:
        return f"(({inner})|string).replace({random.choice(WORDS)!r}, '')"
    if kind == 2:
        return f"(({inner})|string).{random.choice(METHODS)}()"
    if kind == 3:
        return f"(({inner})|string)[{random.choice(['1:', ':-1', '::-1', '::2', '2:9', '0'])}]"
    if kind == 4:
        return f"{literal(random)} ~ ({inner}) ~ ({edited(random, 0)})"
    if kind == 5:
        return random.choice(["'<|im_%s|>' % ", "'<%s' % "]) + f"(({inner})|string)"
    if kind == 6:
        return f"'<{{}}>'.format({inner})"
    if kind == 7:
        return f"(({inner})|string).split({random.choice(WORDS)!r})|join"
    return f"({inner})|{random.choice(FILTERS)}"


def block(random: Random, turns: int) -> tuple[str, list[str]]:
    """A stretch of a template and the control tokens that it writes."""
    name = random.choice(CONTROL)
    expression = edited(random, random.randrange(4))
    half = random.randrange(1, len(name))
    own, count = random.choice(
        [
            (name, 1),
            (f"{{{{ {name!r} }}}}", 1),
            (f"{{{{ {name[:half]!r} ~ {name[half:]!r} }}}}", 1),
            (f"{{% set c = {name!r} %}}{{{{ c }}}}{{{{ c + 'x' }}}}", 2),
            (f"{{% macro f(c) %}}{{{{ c }}}}{name}{{% endmacro %}}{{{{ f(t) }}}}", 1),
            (f"{{{{ [{name!r}, t, {name!r}]|join('x') }}}}", 2),
            (f"{{{{ '%s{name}' % t }}}}", 1),
            ("", 0),
        ]
    )
    text = random.choice(
        [f"{{{{ {expression} }}}}", f"{{% for t in ({expression})|string %}}{{{{ t }}}}{{% endfor %}}"]
    )
    written = [name] * count
    if random.random() < 0.5:
        return f"{{% for m in messages %}}{{% set t = m.content %}}{own}{text}{{% endfor %}}", written * turns
    return own + text, written


def conversation(random: Random) -> list[dict[str, Any]]:
    return [
        {"role": random.choice(["user", "assistant"]), "content": words(random), "name": words(random)}
        for _ in range(random.randrange(1, 4))
    ]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    folder: Path = tmp_path_factory.mktemp("m")
    return load_tokenizer(made.write_folder(folder, made.gemma_text(), chat_template="x"))


def test_control_tokens_are_those_of_the_literals(tokenizer: Tokenizer) -> None:
    rendered = 0
    for number in rounds(120):
        random = Random(number)
        chat = conversation(random)
        blocks = [block(random, len(chat)) for _ in range(random.randrange(1, 5))]
        source = "{% set m = messages[-1] %}{% set t = m.content %}" + "".join(text for text, _ in blocks)
        expected = [name for _, names in blocks for name in names]
        tokenizer.chat_template = ChatTemplate(source, f"case {number}", {}, ControlNames(CONTROL))
        try:
            ids = tokenizer.render_chat(chat, tools=[{"name": words(random)}])
        except CheckpointError:  # an edit that its value does not have
            continue
        rendered += 1
        found = [tokenizer.token_text(id_) for id_ in ids if id_ in tokenizer.control_ids]
        assert found == expected, f"case {number}: {source!r} on {chat!r}"
    assert rendered > 30


def wild(random: Random, depth: int) -> str:
    """Any expression, useful or not."""
    if depth == 0:
        return random.choice(
            [*WIDE, "t", "ns.x", "'%999d%s'", "'{:99999}'", "3", "['a', 'b']", "{'a': 1}", "loop", "f"]
        )
    left, right = wild(random, depth - 1), wild(random, random.randrange(depth))
    name = random.choice([*FILTERS, "batch", "slice", "center", "indent", "wordwrap", "round", "attr", "map", "random"])
    method = random.choice(
        [*METHODS, "center", "ljust", "zfill", "replace", "join", "split", "format", "items", "get", "x"]
    )
    return random.choice(
        [
            f"({left} {random.choice(OPERATORS)} {right})",
            f"({left})|{name.partition('(')[0]}({right})",
            f"({left})|{name}",
            f"({left}).{method}({right})",
            f"({left}).{method}({right}, {right})",
            f"({left})[{right}:]",
            f"({left})[{right}]",
            f"[{left}, {right}]",
            f"({left}, {left})",
            f"{{{left}: {right}}}",
            f"f({left})",
            f"range({left}, {right})",
            f"({left} if {right} else {left})",
            f"dict(a={left})",
            f"namespace(x={left})",
        ]
    )


def statement(random: Random) -> str:
    value = wild(random, random.randrange(1, 4))
    inner = f"{{{{ {wild(random, 2)} }}}}"
    return random.choice(
        [
            f"{{{{ {value} }}}}",
            f"{{% set ns.x = {value} %}}",
            f"{{% for t in {value} %}}{inner}{{% endfor %}}",
            f"{{% for t in {value} recursive %}}{{{{ loop({value}) }}}}{{% endfor %}}",
            f"{{% for t in range(99999) %}}{{% set ns.x = {value} %}}{{% endfor %}}",
            f"{{% for t in range(99) if {value} %}}{{% set ns.x = [ns.x, ns.x] %}}{{% endfor %}}{{{{ ns.x }}}}",
            f"{{% macro f(n) %}}{inner}{{{{ f({value}) }}}}{{% endmacro %}}{{{{ f(1) }}}}",
            f"{{% set t %}}{inner}{inner}{{% endset %}}",
            f"{{% filter {random.choice(FILTERS)} %}}{inner}{{% endfilter %}}",
            f"{{% if {value} %}}{inner}{{% endif %}}",
            f"{{% call(x) f({value}) %}}{inner}{{% endcall %}}",
        ]
    )


def test_no_template_runs_for_ever_or_fails_in_its_own_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "STEPS", 20_000)
    for number in rounds(80):
        random = Random(number)
        source = "{% set ns = namespace(x='a') %}{% set t = 'a' %}{% macro f(n) %}{{ n }}{% endmacro %}"
        source += "".join(statement(random) for _ in range(random.randrange(1, 5)))
        started = time.process_time()
        with suppress(CheckpointError):
            ChatTemplate(source, "T", {}, ControlNames(CONTROL)).render(conversation(random))
        assert time.process_time() - started < 5, f"case {number}: {source!r}"
