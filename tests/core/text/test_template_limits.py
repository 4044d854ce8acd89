"""Laws of what a template may cost: steps and texts are counted, and each failure is one sentence."""

from __future__ import annotations

from typing import Any

import pytest

from zaya_core.errors import CheckpointError
from zaya_core.text.control_names import ControlNames
from zaya_core.text.template import limits
from zaya_core.text.template.built_in import BUILT_IN_TEMPLATE
from zaya_core.text.template.chat_template import MAX_TEMPLATE_BYTES, ChatTemplate

NAMES = ControlNames(["<|im_start|>", "<|im_end|>", "<think>", "</think>"])
ASK = [{"role": "user", "content": "a"}]
DOUBLED = "{% set ns = namespace(x='a', y='a') %}{% for i in range(99) %}{% set ns.x = [ns.x, ns.x] %}"
BIG = "{% set big = 'a' * 1000000 %}"

TOO_MANY_STEPS = [
    "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "{% for a in range(99999) if range(99999)|sum %}{% endfor %}",
    "{% for a in range(99999) recursive %}{% if loop.depth < 3 %}{{ loop(range(99999)) }}{% endif %}{% endfor %}",
    "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}",
    "{% for a in range(99999) %}{{ range(99999)|list|random }}{% endfor %}",
    "{% for a in range(99999) %}{{ range(99999)|selectattr('x')|list }}{% endfor %}",
    "{{ range(99999)|map('string')|map('string')|list|length }}",
    "{{ (1,) * 99999 * 9 }}",
    "{% set ns = namespace(x=[1]) %}{% for a in range(99) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
    DOUBLED + "{% endfor %}{{ ns.x }}",
    DOUBLED + "{% endfor %}{{ ns.x|tojson }}",
    DOUBLED + "{% endfor %}{{ ns.x ~ '' }}",
    DOUBLED + "{% endfor %}{{ '%s' % ns.x }}",
    DOUBLED + "{% endfor %}{{ '{}'.format(ns.x) }}",
    DOUBLED + "{% set ns.y = [ns.y, ns.y] %}{% endfor %}{{ ns.x == ns.y }}",
    DOUBLED.replace("[ns.x, ns.x]", "(ns.x, ns.x)") + "{% endfor %}{{ {ns.x: 1} }}",
    DOUBLED.replace("[ns.x, ns.x]", "(ns.x, ns.x)") + "{% endfor %}{{ {}[ns.x] }}",
    DOUBLED.replace("[ns.x, ns.x]", "[ns.x]|batch(9999, ns.x)|list") + "{% endfor %}{{ ns.x }}",
    BIG + "{% for i in range(99999) %}{% set y = big[::-1] %}{% endfor %}",
    BIG + "{% for i in range(99999) %}{% set y = big|upper %}{% endfor %}",
    BIG + "{% for i in range(99999) %}{% set y = big == big ~ '' %}{% endfor %}",
    BIG + "{{ big.rfind('b' + big) }}",
    BIG + "{{ big.strip('b' + big) }}",
    BIG + "{{ big|wordwrap(1) }}",
    BIG + "{{ big|list|sort }}",
    "{% for i in range(99999) %}{% if 0 %}" + "a" * 50_000 + "{% endif %}{% endfor %}",
    "{% for i in range(99999) %}" + "{% if 0 %}a{% endif %}" * 200 + "{% endfor %}",
    "{% macro f() %}{% if 0 %}"
    + "a" * 50_000
    + "{% endif %}{% endmacro %}{% for i in range(99999) %}{{ f() }}{% endfor %}",
]
TOO_LARGE = [
    "{{ 'a' * 10 ** 9 }}", "{{ 10 ** 9 * 'a' }}", "{{ [1] * 10 ** 9 }}", "{{ 'a'|center(10 ** 9) }}",
    "{{ 'a'.center(10 ** 9) }}",
    "{{ 'a'.zfill(10 ** 9) }}", "{{ '\\t'.expandtabs(10 ** 9) }}", "{{ '%1000000000d' % 1 }}",
    "{{ '%.1000000000f' % 1.0 }}",
    "{{ '%*d' % (10 ** 9, 1) }}", "{{ '%1000000000d'|format(1) }}", "{{ '{:1000000000}'.format(1) }}",
    "{{ '{:{w}}'.format(1, w=10 ** 9) }}", "{{ '{w:{w}}'.format_map({'w': 10 ** 9}) }}",
    "{{ range(9)|slice(10 ** 9)|list }}",
    "{{ range(9)|batch(10 ** 9, 1)|list }}", "{{ 1.5|round(10 ** 9, 'ceil') }}", "{{ 'a'|indent(10 ** 9, true) }}",
    "{{ ('\\n' * 100000)|indent(9999) }}", "{{ 2 ** (10 ** 9) }}", "{{ 2 ** -(10 ** 9) }}",
    "{{ (10 ** 3000) ** 3000 }}",
    "{% set ns = namespace(x=3) %}{% for i in range(99) %}{% set ns.x = ns.x * ns.x %}{% endfor %}",
    "{% set ns = namespace(x='a') %}{% for i in range(99) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
    "{% set ns = namespace(x='a') %}{% for i in range(99) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
    "{% set ns = namespace(x='a') %}{% for i in range(99) %}{% set y %}{{ ns.x * 2 }}{% endset %}"
    "{% set ns.x = y %}{% endfor %}",
    BIG + "{{ big.replace('a', big) }}", BIG + "{{ big|replace('', big) }}", BIG + "{{ range(99)|join(big) }}",
    BIG + "{{ big.join('abcdef') }}", BIG + "{{ ('%(a)s' * 99) % {'a': big} }}",
    BIG + "{{ ('{a}' * 99).format(a=big) }}",
    BIG + "{{ big }}{{ big }}{{ big }}", BIG + "{{ [big, big, big] }}", "{{ [[[1]]]|tojson(indent=10 ** 9) }}",
    "{{ ('&' * 1000000)|escape }}", "{{ strftime_now('%1000000000d') }}", "{{ strftime_now('%Y' * 1000000) }}",
]  # fmt: skip
FAILING = [
    "{{ lipsum(n=10 ** 6) }}", "{{ cycler(1, 2) }}", "{{ range(10 ** 9) }}", "{{ raise_exception() }}",
    "{{ raise_exception('a' * 10000) }}",
    "{{ raise_exception(messages * 1000) }}", "{{ 'a' + 1 }}", "{{ 1 // 0 }}", "{{ 1 % 0 }}", "{{ nothing() }}",
    "{{ nothing.at.all }}",
    "{% set ns = namespace() %}{% set ns.a = ns %}{{ ns|tojson }}", "{% import 'a' as b %}", "{% extends 'a' %}",
    "{% block a %}{{ self.a() }}{% endblock %}", "{% for x in range(2) recursive %}{{ loop(range(2)) }}{% endfor %}",
    "{{ 'a'.translate({97: 'b'}) }}", "{{ ''.encode() }}", "{{ (1).to_bytes(10 ** 9) }}",
    "{{ {}.fromkeys(range(99)) }}",
    "{{ [[1]]|sum(start=[]) }}", "{{ messages|attr('append')(1) }}", "{{ '%(' % 1 }}", "{{ '{'.format() }}",
    "{{ 'a' % 1 }}",
    "{{ [1, 'a']|sort }}", "{{ 1e999|int }}", "{{ strftime_now(1) }}", "{{ {[]: 1} }}", "{{ joiner(1, 2, 3) }}",
]  # fmt: skip
NOT_COMPILING = [
    "{% break %}", "{% continue %}", "{% if %}", "{% endfor %}", "{{ }}", "{{ 'a", "{# ", "{% macro %}",
    "{{ 'a'|nothing }}",
    "{{ 1 is nothing }}", "{% do 1 %}", "{{ 'a'|pprint }}", "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
    "{{ " + "[" * 500,
    "{{ " + "not " * 5000 + "1 }}", "{{ 1" + " + 1" * 5000 + " }}", "{{ a" + "|upper" * 5000 + " }}",
    "{{ " + "9" * 5000 + " }}",
    "{% if a %}" * 500 + "{% endif %}" * 500, "{% for a in b %}" * 50 + "{% endfor %}" * 50,

    "{% set loop = 1 %}{% for loop in a %}{% endfor %}",
]  # fmt: skip


def template_of(source: str) -> ChatTemplate:
    return ChatTemplate(source, "T", {}, NAMES)


def check_sentence(error: CheckpointError) -> None:
    assert "T: the chat template" in str(error)
    assert len(str(error)) <= 300
    assert "\n" not in str(error)


DOUBLED = "{% set ns = namespace(l=[]) %}{% for i in range(60) %}{% set ns.l = [ns.l, ns.l] %}{% endfor %}"
READING_ALL = (
    "string safe upper escape join tojson sort unique sum min urlencode title trim replace('a','b') map('string')|list"
)


@pytest.mark.parametrize("name", READING_ALL.split())
def test_a_filter_that_reads_all_of_a_doubled_list_is_stopped(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "STEPS", 100_000)
    with pytest.raises(CheckpointError) as caught:
        template_of(f"{DOUBLED}{{{{ ns.l|{name} }}}}").render([{"role": "user", "content": "hi"}])
    check_sentence(caught.value)


@pytest.mark.parametrize("source", TOO_MANY_STEPS)
def test_a_template_that_would_run_for_ever_is_stopped(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "STEPS", 100_000)
    with pytest.raises(CheckpointError, match="too many steps") as caught:
        template_of(source).render(ASK)
    check_sentence(caught.value)


@pytest.mark.parametrize("source", TOO_LARGE)
def test_what_would_be_huge_is_not_made(source: str) -> None:
    with pytest.raises(CheckpointError, match=r"it makes a|it writes") as caught:
        template_of(source).render(ASK)
    check_sentence(caught.value)


@pytest.mark.parametrize("source", FAILING)
def test_every_failure_of_a_template_is_one_sentence(source: str) -> None:
    with pytest.raises(CheckpointError, match="failed on this conversation") as caught:
        template_of(source).render(ASK)
    check_sentence(caught.value)


@pytest.mark.parametrize("source", NOT_COMPILING)
def test_what_does_not_compile_is_one_sentence(source: str) -> None:
    with pytest.raises(CheckpointError, match="cannot be compiled") as caught:
        template_of(source)
    check_sentence(caught.value)


def test_nothing_is_computed_by_the_compiler() -> None:
    huge = "{% if 0 %}{{ 'a' * 10 ** 9 }}{{ 'a'|center(10 ** 9) }}{{ 2 ** (10 ** 9) }}{% endif %}"
    assert template_of(huge).render(ASK) == []


def test_a_namespace_of_namespaces_is_written_shortly() -> None:
    nested = "{% set ns = namespace() %}{% for i in range(60) %}{% set ns.x = namespace(a=ns.x, b=ns.x) %}{% endfor %}"
    assert [part.text for part in template_of(nested + "{{ ns.x }}").render(ASK)] == ["<namespace>"]


@pytest.mark.parametrize("turns", [200, 2_000])
def test_long_conversations_stay_within_the_limits(turns: int) -> None:
    chat: list[dict[str, Any]] = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b" * 99}]
    text = "".join(part.text for part in template_of(BUILT_IN_TEMPLATE).render(chat * (turns // 2)))
    assert text.count("<|im_start|>") == turns + 2


def test_a_long_message_may_be_written_whole() -> None:
    content = "é<think>" * 300_000
    segments = template_of(BUILT_IN_TEMPLATE).render([{"role": "user", "content": content}])
    assert "user\n" + content in [part.text for part in segments]


def test_the_largest_template_is_some_ten_times_a_real_one() -> None:
    assert len(BUILT_IN_TEMPLATE) * 10 < MAX_TEMPLATE_BYTES
