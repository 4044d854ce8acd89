"""Laws of rendering: equal to transformers where people wrote no control strings, and safe where they did."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as JsonTokenizer

from tests.core import tokenizers_made_here as made
from zaya_core.errors import CheckpointError, UsageError
from zaya_core.text.control_names import ControlNames
from zaya_core.text.messages import Message
from zaya_core.text.template.built_in import BUILT_IN_TEMPLATE
from zaya_core.text.tokenizer import Tokenizer, load_tokenizer

QWEN_LIKE = """\
{%- if tools %}
    {{- '<|im_start|>system\\n' }}
    {%- for tool in tools %}
        {{- tool | tojson }}
        {{- "\\n" }}
    {%- endfor %}
    {{- '<|im_end|>\\n' }}
{%- endif %}
{%- set ns = namespace(last=-1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages | length - 1) - loop.index0 %}
    {%- if message.role == 'user' and message.content is string %}
        {%- set ns.last = index %}
        {%- break %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if message.role == 'assistant' and loop.index0 > ns.last and message.reasoning_content is defined %}
        {{- '<|im_start|>assistant\\n<think>\\n' + message.reasoning_content.strip('\\n') + '\\n</think>\\n\\n' }}
        {{- message.content.lstrip('\\n') + '<|im_end|>\\n' }}
    {%- else %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content | trim + '<|im_end|>\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\\n\\n</think>\\n\\n' }}
    {%- endif %}
{%- endif %}
"""
BLOCKS_ON_LINES = """\
{{ bos_token }}
{% for message in messages %}
    {% if message['role'] not in ['system', 'user', 'assistant', 'tool'] %}
        {{ raise_exception('unknown role') }}
    {% endif %}
    {% generation %}
<|im_start|>{{ message['role'] }}
{{ message['content'] }}<|im_end|>{{ eos_token }}
    {% endgeneration %}
{% endfor %}
{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}
"""
TEMPLATES = {"qwen_like": QWEN_LIKE, "blocks_on_lines": BLOCKS_ON_LINES, "built_in": BUILT_IN_TEMPLATE}
SHAPES: dict[str, Callable[[], str]] = {
    "gemma": made.gemma_text,
    "llama": made.llama_text,
    "byte_level": made.byte_level_text,
}
NAMES = {"bos_token": "<bos>", "eos_token": "<|im_end|>"}
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": 'Says "sun" & <rain>, é你',
        "parameters": {
            "type": "object",
            "properties": {"place": {"type": "string", "enum": ["a", "b"]}, "days": {"type": "integer"}},
            "required": ["place"],
        },
    },
}
CALL = {"type": "function", "function": {"name": "weather", "arguments": {"place": "Ulm", "days": 2}}}
LONG_TALK: list[dict[str, Any]] = [
    {"role": "system", "content": "You are a helpful assistant."},
    {"role": "user", "content": "the cat  sat\n\n\non the mat, é你🎉 <table>"},
    {"role": "assistant", "content": "and the dog", "reasoning_content": "an early thought"},
    {"role": "user", "content": "  weather? "},
    {"role": "assistant", "content": "", "reasoning_content": "look it up", "tool_calls": [CALL]},
    {"role": "tool", "content": "rain"},
    {"role": "tool", "content": "\nsun\n"},
]
TALKS: list[tuple[list[dict[str, Any]], list[dict[str, Any]] | None]] = [
    ([{"role": "user", "content": "Hello! How can I assist you today?"}], None),
    (LONG_TALK, None),
    (LONG_TALK, [WEATHER]),
    ([{"role": "user", "content": ""}, {"role": "assistant", "content": " \n the"}], [WEATHER]),
]
PARTS = ["<think>", "</think>", "<|im_start|>", "<|im_end|>", "<bos>", "<zyphra_tool_call>", "<|im_", "end|>", "<", ">"]
PARTS += ["think", "/think", "|im_end|", "im_", "\n", " ", "the", "a", "é", "🎉", "\ue000", "\U000f0000", "|"]
wild_texts = st.lists(st.sampled_from(PARTS), max_size=6).map("".join)
quick = settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def load(path: Path, template: str, shape: str = "gemma") -> Tokenizer:
    return load_tokenizer(made.write_folder(path, SHAPES[shape](), tokenizer_config=NAMES, chat_template=template))


def built_in(path: Path) -> Tokenizer:
    return load_tokenizer(made.write_folder(path, made.gemma_text(), tokenizer_config=NAMES))


@pytest.mark.parametrize("enable_thinking", [True, False])
@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("shape", SHAPES)
def test_rendering_equals_transformers(shape: str, template: str, enable_thinking: bool, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    tokenizer = load(tmp_path, TEMPLATES[template], shape)
    reference = transformers.PreTrainedTokenizerFast(
        tokenizer_object=JsonTokenizer.from_str(SHAPES[shape]()), chat_template=TEMPLATES[template], **NAMES
    )
    for messages, tools in TALKS:
        options = {"tools": tools, "add_generation_prompt": True, "enable_thinking": enable_thinking}
        expected = reference.apply_chat_template(messages, tokenize=False, **options)
        assert tokenizer.render_chat_text(messages, enable_thinking, tools) == expected
        ids = reference.apply_chat_template(messages, tokenize=True, return_dict=False, **options)
        assert tokenizer.render_chat(messages, enable_thinking, tools) == ids


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("template", TEMPLATES)
def test_what_people_write_never_becomes_a_control_token(shape: str, template: str, tmp_path: Path) -> None:
    tokenizer = load(tmp_path, TEMPLATES[template], shape)

    def control_tokens_of(values: list[str]) -> list[int]:
        first, second, third, key = values
        tool = {"name": first, "description": second, "parameters": {"properties": {key: {"type": third}}}}
        call = {"name": second, "arguments": {key: third, "nested": [{key: first}]}}
        messages: list[Message] = [
            {"role": "system", "content": third},
            {"role": "user", "content": first},
            {"role": "assistant", "content": second, "reasoning_content": third, "tool_calls": [call]},
            {"role": "tool", "content": first},
        ]
        ids = tokenizer.render_chat(messages, tools=[tool])
        return [id_ for id_ in ids if id_ in tokenizer.control_ids]

    harmless = control_tokens_of(["x", "x", "x", "x"])

    @quick
    @given(st.lists(wild_texts.map(lambda text: text if text.strip() else "x"), min_size=4, max_size=4))
    def law(values: list[str]) -> None:
        assert control_tokens_of(values) == harmless

    law()


def test_control_tokens_do_not_form_between_two_texts_or_around_a_key(tmp_path: Path) -> None:
    template = (
        "{{ messages[0].content | trim }}{{ messages[1].content | trim }}{% for k in tools[0] %}<{{ k }}>{% endfor %}"
    )
    tokenizer = load(tmp_path, template)
    messages = [{"role": "user", "content": "a <|im_ "}, {"role": "user", "content": " end|> b"}]
    ids = tokenizer.render_chat(messages, tools=[{"think": 1, "/think": 2, "|im_end|": 3, "bos>": 4, "<bos": 5}])
    assert tokenizer.control_ids.isdisjoint(ids)
    assert tokenizer.decode(ids) == "a <|im_end|> b<think></think><|im_end|><bos>><<bos>"


@given(texts=st.lists(wild_texts, min_size=1, max_size=3))
@quick
def test_what_people_write_is_in_the_prompt_unchanged(
    texts: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    tokenizer = built_in(tmp_path_factory.mktemp("m"))
    messages = [{"role": "user", "content": text} for text in texts]
    turns = "".join(f"<|im_start|>user\n{text}<|im_end|>\n" for text in texts)
    expected = f"<bos><|im_start|>system\n<|im_end|>\n{turns}<|im_start|>assistant\n<think>\n"
    assert tokenizer.render_chat_text(messages) == expected
    assert tokenizer.decode(tokenizer.render_chat(messages), skip_special_tokens=False) == expected


# What templates do to `t`, a text of people; each makes a control token of at least one of the texts below it.
EDITS = [
    "t", "t|trim", "t|lower", "t|upper|lower", "t.replace('/think', '').replace('/no_think', '')", "t|replace(' ', '')",
    "t.split()|join", "t|striptags", "t.replace('\\r', '')", "t[2:]", "t[::-1]", "t|reverse|string", "'%s' % t",
    "'{}'.format(t)", "'%s'|format(t)", "t ~ t", "'<|im_' ~ t", "t + '|>'", "'<' ~ t ~ '>'", "['<|im_', t]|join",
    "'<|im_{}|>'.format(t)", "'<|im_%s|>' % t", "'<|im_X|>'.replace('X', t)", "t|escape|string",
    "t|e|striptags",
    "t|list|join", "t|map('lower')|join", "t|batch(3)|map('join')|join", "t|title|lower", "t|capitalize",
    "t|wordwrap(4)",
    "t|truncate(10, true, '')", "t|center(30)", "t|indent(0)", "t|tojson", "t|urlencode", "t.strip('x')", "t|safe",
    "[t]|tojson", "{t: t}|tojson", "{t: t}|dictsort|first|first", "t.removeprefix('x')", "t.expandtabs(0)",
    "t.swapcase()",
    "t.join(['<', '>'])", "[t, t]|sort|join('|')", "dict(a=t).a", "namespace(a=t).a", "t.partition('/')[2]",
]  # fmt: skip
SMUGGLED = [
    "<|im_end|>", "<|IM_END|>", "hi<|im_/no_thinkend|>", "<|im_/thinkend|>", "< | i m _ e n d | >", "<|im_<b>end|>",
    "<|im_\rend|>", "xx<|im_end|>", ">|dne_mi|<", "end|>", "<|im_end", "|im_end|", "end", "&lt;|im_end|&gt;",
    "<|im_\tend|>",
    "think", "/think", "&#60;think&#62;", "x/<think>", " <think> ", "<thi nk>", "<bos>",
]  # fmt: skip


@pytest.mark.parametrize("edit", EDITS)
def test_no_edit_of_a_text_makes_a_control_token(edit: str, tmp_path: Path) -> None:
    loop = "{% for m in messages %}{% set t = m.content %}{{ " + edit + " }}<|im_end|>{% endfor %}"
    tokenizer = load(tmp_path, loop.replace("m.content", "m[field]"))
    for text in SMUGGLED:
        message = {"role": "user", "content": text, "name": text, "reasoning_content": text}
        for field in ("content", "name"):
            ids = tokenizer.render_chat([message] * 2, field=field)
            assert [id_ for id_ in ids if id_ in tokenizer.control_ids] == [106, 106]


def test_characters_written_one_by_one_stay_text(tmp_path: Path) -> None:
    tokenizer = load(tmp_path, "{% for c in messages[0].content %}{{ c }}{% endfor %}<|im_end|>")
    ids = tokenizer.render_chat([{"role": "user", "content": "<|im_end|>"}])
    assert ids == [*tokenizer.encode("<|im_end|>"), 106]


@pytest.mark.parametrize(
    "expression",
    [
        "'<|im_' + 'end|>'", "'<|im' ~ '_end' ~ '|>'", "'<|im_' ~ 'end' + '|>'", "x ~ '<|im_' ~ 'end|>'",
        "x + '<|im_end' + '|>'", "'%s<|im_end|>' % x", "'{}<|im_end|>'.format(x)", "['<|im_end|>', x]|join",
        "eos_token",
        "end", "ns.end", "turn()", "' <|im_end|>\n'|trim", "'<|im_end|>'.strip()", "'<|im_end|>' if x is defined",
        "x or end",
        "{'a': end}['a']", "{'a': end}.a", "'a<|im_end|>'.split('a')|last", "'x'.replace('x', '<|im_end|>')",
        "'x'|replace('x', end)",
        "'<|im_end|>'|lower", "[end]|map('trim')|join", "x|default('<|im_end|>', true)", "'<|im_end|>'|safe",
        "caller_of()",
    ],
)  # fmt: skip
def test_control_tokens_of_the_template_survive_what_templates_do(expression: str, tmp_path: Path) -> None:
    head = (
        "{% set x = '' %}{% set end = '<|im_end|>' %}{% set ns = namespace(end='<|im_end|>') %}"
        "{% macro turn() %}<|im_{{ 'end' }}|>{% endmacro %}{% macro caller_of() %}{{ end }}{% endmacro %}"
    )
    tokenizer = load(tmp_path, head + "{{ " + expression + " }}")
    assert tokenizer.render_chat([{"role": "user", "content": "a"}]) == [106]


@pytest.mark.parametrize(
    ("template", "content", "expected"),
    [
        ("{{ '</think>' in messages[0].content }}", "a</think>b", "True"),
        ("{% set end = '</think>' %}{{ end in messages[0].content }}", "a</think>b", "True"),
        ("{{ messages[0].content.split('</think>')[-1] }}", "a</think>b", "b"),
        ("{% set end = '</think>' %}{{ messages[0].content.split(end)|last }}", "a</think>b", "b"),
        ("{{ messages[0].content.startswith('<think>') }}", "<think>b", "True"),
        ("{{ messages[0].content.replace('<think>', '-') }}", "a<think>b", "a-b"),
        ("{{ messages[0].content|replace('<think>', '-') }}", "a<think>b", "a-b"),
        ("{{ messages[0].content == '<think>' }}", "<think>", "True"),
        ("{{ messages[0].content is eq('<think>') }}", "<think>", "True"),
        ("{{ messages[0].content is in(['<think>']) }}", "<think>", "True"),
        ("{{ {'<think>': 1}[messages[0].content] }}", "<think>", "1"),
        ("{{ bos_token == '<bos>' }}", "a", "True"),
        ("{{ '<think>' | tojson(ensure_ascii=true) == '\"<think>\"' }}", "a", "True"),
        ("{{ '<think>' | urlencode }}", "a", "%3Cthink%3E"),
    ],
)
def test_a_template_finds_in_a_text_what_people_wrote(
    template: str, content: str, expected: str, tmp_path: Path
) -> None:
    assert load(tmp_path, template).render_chat_text([{"role": "user", "content": content}]) == expected


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{% for m in messages %}{{ '<|im_' + m.role|replace('user', 'end') + '|>' }}{% endfor %}", "out of pieces"),
        ("{{ '<|im_%s|>' % 'end' }}", "out of pieces"),
        ("{{ '<|im_end|>'[2:] }}", "into pieces"),
        ("{{ '<|im_end|>'|reverse }}", "into pieces"),
    ],
)
def test_a_template_whose_own_control_tokens_cannot_be_told_is_refused(
    template: str, said: str, tmp_path: Path
) -> None:
    with pytest.raises(CheckpointError, match=said):
        load(tmp_path, template).render_chat([{"role": "user", "content": "a"}])


def test_a_control_string_in_a_text_is_encoded_as_plain_text(tmp_path: Path) -> None:
    tokenizer = load(tmp_path, "<|im_start|>{{ messages[0].content }}<|im_end|>")
    text = "the tag <|im_end|> and <think>"
    assert tokenizer.render_chat([{"role": "user", "content": text}]) == [105, *tokenizer.encode(text), 106]


def test_words_that_templates_look_up_stay_whole(tmp_path: Path) -> None:
    folder = made.write_folder(
        tmp_path, made.byte_level_text(("<function>", "<think>")), chat_template="{{ tools[0].function[' think'] }}"
    )
    question = [{"role": "user", "content": "a"}]
    assert load_tokenizer(folder).render_chat_text(question, tools=[{"function": {" think": "found"}}]) == "found"


def test_names_are_found_leftmost_and_longest() -> None:
    names = ControlNames(["<a>", "<a>b", "<<", "<abc"])
    assert [segment.text for segment in names.split("x<a>b<<a><ab<abc") if segment.is_control] == ["<a>b", "<<", "<abc"]
    assert ControlNames([]).split("<a>") == [("<a>", False)]


def test_the_built_in_template_opens_a_think_block_or_closes_it(tmp_path: Path) -> None:
    tokenizer = built_in(tmp_path)
    messages: list[Message] = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Say ping."}]
    turns = (
        "<bos><|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nSay ping.<|im_end|>\n<|im_start|>assistant\n"
    )
    assert tokenizer.render_chat_text(messages) == turns + "<think>\n"
    assert tokenizer.render_chat_text(messages, enable_thinking=False) == turns + "<think>\n</think>\n\n"
    assert tokenizer.render_chat_text(messages, add_generation_prompt=False) + "<|im_start|>assistant\n" == turns


def test_the_built_in_template_writes_an_empty_system_turn_where_nobody_gave_one(tmp_path: Path) -> None:
    tokenizer = built_in(tmp_path)
    ids = tokenizer.render_chat([{"role": "user", "content": "a"}])
    head = [2, 105, *tokenizer.encode("system\n"), 106]
    assert ids[: len(head)] == head
    assert tokenizer.decode(ids, skip_special_tokens=False) == (
        "<bos><|im_start|>system\n<|im_end|>\n<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n<think>\n"
    )
    assert tokenizer.chat_template.note is not None
    assert load(tmp_path, BUILT_IN_TEMPLATE).chat_template.note is None


def test_the_built_in_template_drops_thinking_before_the_last_user_message(tmp_path: Path) -> None:
    text = built_in(tmp_path).render_chat_text(LONG_TALK)
    assert "an early thought" not in text
    assert "<|im_start|>assistant\n<think>\n</think>\n\nand the dog<|im_end|>" in text
    assert "<|im_start|>assistant\n<think>\nlook it up\n</think>\n\n<zyphra_tool_call>" in text


def test_the_built_in_template_writes_tools_calls_and_results(tmp_path: Path) -> None:
    text = built_in(tmp_path).render_chat_text(LONG_TALK, tools=[WEATHER])
    system, _, rest = text.partition("<|im_end|>")
    assert system.startswith("<bos><|im_start|>system\nYou are a helpful assistant.\n\n# Tools\n")
    assert "<tools>\n<function>\n<name>weather</name>" in system
    assert '<required>["place"]</required>' in system
    assert (
        "<zyphra_tool_call>\n<function=weather>\n<parameter=place>\nUlm\n</parameter>\n<parameter=days>\n2\n"
        "</parameter>\n</function>\n</zyphra_tool_call><|im_end|>\n<|im_start|>user\n<zyphra_tool_response>\nrain\n"
        "</zyphra_tool_response>\n<zyphra_tool_response>\n\nsun\n\n</zyphra_tool_response><|im_end|>\n"
    ) in rest


def test_tool_arguments_given_as_json_text_are_read(tmp_path: Path) -> None:
    tokenizer = built_in(tmp_path)
    as_text = {"function": {"name": "weather", "arguments": '{"place": "Ulm", "days": 2}'}}
    question: Message = {"role": "user", "content": "a"}
    messages: list[Message] = [question, {"role": "assistant", "content": None, "tool_calls": [as_text]}]
    same: list[Message] = [question, {"role": "assistant", "tool_calls": [CALL]}]
    assert tokenizer.render_chat(messages) == tokenizer.render_chat(same)


def test_text_parts_are_joined(tmp_path: Path) -> None:
    tokenizer = built_in(tmp_path)
    parts = [{"type": "text", "text": "the "}, {"type": "text", "text": "cat"}]
    whole = tokenizer.render_chat([{"role": "user", "content": "the cat"}])
    assert tokenizer.render_chat([{"role": "user", "content": parts}]) == whole


def test_a_stream_starts_in_thinking_where_the_last_think_token_of_the_turn_opens(tmp_path: Path) -> None:
    ask = [{"role": "user", "content": "what is <think> for?"}]
    for shape, text in [("ids", made.gemma_text()), ("text", made.byte_level_text(("<bos>", "<|im_start|>")))]:
        tokenizer = load_tokenizer(made.write_folder(tmp_path / shape, text))
        assert tokenizer.starts_in_thinking(tokenizer.render_chat(ask))
        assert tokenizer.starts_in_thinking(tokenizer.render_chat(ask) + tokenizer.encode("so far"))
        assert not tokenizer.starts_in_thinking(tokenizer.render_chat(ask, enable_thinking=False))
        assert not tokenizer.starts_in_thinking([])


def test_thinking_opened_in_an_earlier_turn_does_not_count(tmp_path: Path) -> None:
    tokenizer = built_in(tmp_path)
    assert tokenizer.think_start_id is not None
    assert not tokenizer.starts_in_thinking([105, tokenizer.think_start_id, 106, 105, *tokenizer.encode("user")])


def test_the_template_is_taken_from_the_first_place_that_has_one(tmp_path: Path) -> None:
    ask = [{"role": "user", "content": "a"}]
    named = [{"name": "tools", "template": "no"}, {"name": "default", "template": "list"}]
    text = made.gemma_text()
    for name, declared, expected in [("text", "config", "config"), ("list", named, "list")]:
        folder = made.write_folder(tmp_path / name, text, tokenizer_config={"chat_template": declared})
        assert load_tokenizer(folder).render_chat_text(ask) == expected
        made.write_folder(folder, text, chat_template="file")
        assert load_tokenizer(folder).render_chat_text(ask) == "file"


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ({"role": "robot", "content": "a"}, "role 'robot'"),
        ({"content": "a"}, "role None"),
        ({"role": "user", "content": 3}, "content is not text"),
        ({"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}, "reads text only"),
        ({"role": "user", "content": object()}, "holds a object"),
        ({"role": "assistant", "content": "a", "reasoning_content": ["b"]}, "reasoning_content"),
        ({"role": "assistant", "tool_calls": {"name": "f"}}, "tool_calls"),
        ({"role": "assistant", "tool_calls": [{"function": {}}]}, "no function name"),
        ("hello", "is str"),
    ],
)
def test_a_malformed_message_is_named_by_its_number(message: Any, said: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        built_in(tmp_path).render_chat([{"role": "user", "content": "fine"}, message])
    assert "message 2" in str(caught.value)


def test_values_nested_without_end_are_the_persons_error(tmp_path: Path) -> None:
    nested: list[Any] = []
    for _ in range(100_000):
        nested = [nested]
    with pytest.raises(UsageError, match="nested too deeply"):
        built_in(tmp_path).render_chat([{"role": "user", "content": "a", "extra": nested}])


@pytest.mark.parametrize("messages", [[], "hello", {"role": "user", "content": "a"}])
def test_a_conversation_is_a_list_of_messages(messages: Any, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="list"):
        built_in(tmp_path).render_chat(messages)


@pytest.mark.parametrize(
    "template",
    [
        "{{ raise_exception('roles must alternate') }}",
        "{{ 1 / 0 }}",
        "{{ messages.nothing.at_all }}",
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        "{{ ''.__class__.__mro__ }}",
        "{{ messages.append(1) }}",
        "{% set ns = namespace(__init__=1) %}",
        "{% include '/etc/passwd' %}",
        "{% for i in range(1000000000) %}{% endfor %}",
        "{{ cycler.__init__.__globals__ }}",
    ],
)
def test_a_template_that_fails_or_reaches_out_of_its_sandbox_ends_in_one_sentence(
    template: str, tmp_path: Path
) -> None:
    tokenizer = load(tmp_path, template)
    with pytest.raises(CheckpointError, match=r"chat_template\.jinja: the chat template failed"):
        tokenizer.render_chat([{"role": "user", "content": "a"}])


def test_a_template_that_does_not_compile_is_refused_at_load(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="cannot be compiled"):
        load(tmp_path, "{% for %}")


def test_developer_is_system_and_reasoning_is_reasoning_content(tokenizer):
    question: Message = {"role": "user", "content": "a"}
    called: Message = {"role": "assistant", "tool_calls": [CALL], "reasoning_content": "look"}
    usual: list[Message] = [{"role": "system", "content": "Be brief."}, question, called]
    renamed: list[Message] = [
        {"role": "developer", "content": "Be brief."},
        question,
        {"role": "assistant", "content": None, "tool_calls": [CALL], "reasoning": "look"},
    ]
    both: list[Message] = [*renamed[:2], {**called, "reasoning": "another"}]
    empty: list[Message] = [*renamed[:2], {**called, "reasoning": None}]
    expected = tokenizer.render_chat(usual)
    assert [tokenizer.render_chat(messages) for messages in (renamed, both, empty)] == [expected] * 3
    assert "look" in tokenizer.render_chat_text(renamed)
    with pytest.raises(UsageError, match=r"message 3 \(assistant\): reasoning is not text"):
        tokenizer.render_chat([*renamed[:2], {**called, "reasoning": {"effort": "high"}}])
