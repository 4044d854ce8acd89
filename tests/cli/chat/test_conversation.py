"""Laws of a conversation: nothing said is lost, nothing computed is computed again."""

from __future__ import annotations

import pytest

from zaya_cli.chat.conversation import STOPPED, Conversation
from zaya_cli.flags.generation import GenerationSettings
from zaya_cli.models.folder import BUNDLED
from zaya_core import Engine, SamplingParams, load_model, load_tokenizer
from zaya_core.engine.events import Finished, TokenEvent
from zaya_core.errors import PromptTooLongError, UsageError


@pytest.fixture(scope="session")
def parts(talking_folder):
    return load_model(talking_folder, device="cpu"), load_tokenizer(talking_folder)


@pytest.fixture
def begin(parts):
    """A new conversation, with an Engine of its own."""

    def begin(engine=None, **settings):
        system = settings.pop("system", None)
        values = {"max_tokens": 12, "thinking_budget": 5, **settings}
        return Conversation(engine or Engine(*parts), GenerationSettings(**values), SamplingParams(seed=1), system)

    return begin


def stats(events):
    return next(event.stats for event in events if isinstance(event, Finished))


def roles_and_texts(conversation):
    return [(exchange.question, exchange.thinking, exchange.answer) for exchange in conversation.exchanges]


def history(conversation, *more):
    messages = [message for exchange in conversation.exchanges for message in exchange.messages()]
    return [*messages, *more]


def user(text):
    return {"role": "user", "content": text}


@pytest.mark.parametrize("thinking", ["show", "off"])
@pytest.mark.parametrize("name", ["endless", "demo"])
def test_a_turn_prefills_the_ids_behind_the_deepest_snapshot_that_begins_its_prompt(
    begin, endless_folder, name, thinking
):
    """With thinking, which the template drops, the last answer is read again without it; else only what is new."""
    folder = BUNDLED / "demo" if name == "demo" else endless_folder
    engine = Engine(load_model(folder, device="cpu"), load_tokenizer(folder))
    conversation = begin(engine, thinking=thinking)
    known: list[int] = []
    for turn in range(5):
        messages = history(conversation, user(f"What is {turn} + 7?"))
        ids = engine.tokenizer.render_chat(messages, thinking != "off")
        # Up to and with the question before: the template's text for its answer depends on what comes after.
        head = engine.tokenizer.render_chat(messages[:-2], add_generation_prompt=False) if turn else []
        figures = stats(list(conversation.ask(messages[-1]["content"])))
        if thinking == "off" and turn:
            is_complete = conversation.exchanges[-2].reason == "stop"
            head = known if is_complete else known[:-1]  # the last token was chosen, not computed
        assert figures.prefilled_tokens == figures.prompt_tokens - len(head)
        prompt = conversation.known_ids[: figures.prompt_tokens]
        assert prompt[: len(head)] == head
        assert engine.tokenizer.decode(prompt, False) == engine.tokenizer.decode(ids, False)
        known = list(conversation.known_ids)


def test_another_answer_reads_the_generation_prompt_only(begin, parts):
    conversation = begin()
    list(conversation.ask("What is 1 + 7?"))
    first = conversation.exchanges[0]
    ids = parts[1].render_chat([user("What is 1 + 7?")])
    head = parts[1].render_chat([user("What is 1 + 7?")], add_generation_prompt=False)
    assert stats(list(conversation.ask_again())).prefilled_tokens == len(ids) - len(head)
    assert [exchange.question for exchange in conversation.exchanges] == ["What is 1 + 7?"]
    assert conversation.exchanges[0].tokens != first.tokens


def test_a_changed_question_reads_from_the_question_on(begin, parts):
    conversation = begin(system="the cat sat on the mat")
    list(conversation.ask("What is 1 + 7?"))
    list(conversation.ask("and now?"))
    figures = stats(list(conversation.ask_again("or so?")))
    before = parts[1].render_chat(
        [{"role": "system", "content": conversation.system}, *history(conversation)[:2]], add_generation_prompt=False
    )
    assert [exchange.question for exchange in conversation.exchanges] == ["What is 1 + 7?", "or so?"]
    assert figures.cached_tokens > len(before) - len(conversation.exchanges[0].tokens)


@pytest.mark.parametrize("cut", [3, 9])
def test_a_stopped_answer_goes_on_as_if_it_had_not_been_stopped(begin, cut):
    whole, halves = begin(), begin()
    list(whole.ask("hello"))
    for count, event in enumerate(halves.ask("hello")):
        if isinstance(event, TokenEvent) and count >= cut:
            halves.stop()
    assert halves.exchanges[0].reason == "cancelled"
    left = 12 - len(halves.exchanges[0].tokens)
    halves.settings = GenerationSettings(max_tokens=left, thinking_budget=5)
    assert stats(list(halves.go_on())).prefilled_tokens == 1
    assert halves.exchanges == whole.exchanges
    list(whole.ask("more"))
    halves.settings = whole.settings
    list(halves.ask("more"))
    assert halves.exchanges == whole.exchanges


def test_a_partial_answer_stays_and_says_that_it_was_stopped(begin):
    conversation = begin()
    for event in conversation.ask("hello"):
        if isinstance(event, TokenEvent):
            conversation.stop()
    (exchange,) = conversation.exchanges
    assert exchange.thinking
    assert exchange.messages()[1]["content"] == STOPPED
    list(conversation.ask("go on"))
    assert [message["role"] for message in history(conversation)] == ["user", "assistant"] * 2


def test_an_answer_that_never_came_changes_nothing_and_can_be_asked_for_again(begin):
    conversation = begin()
    conversation.stop()
    list(conversation.ask("hello"))
    assert (conversation.exchanges, conversation.unanswered) == ([], "hello")
    list(conversation.ask_again())
    (answered,) = conversation.exchanges
    conversation.stop()
    list(conversation.ask_again())
    assert (conversation.exchanges, conversation.unanswered) == ([answered], None)


def test_an_error_keeps_what_had_come(begin, monkeypatch):
    conversation = begin()
    model = conversation.engine.model

    class Failing:
        passes = 4

        def __getattr__(self, name):
            return getattr(model, name)

        def __call__(self, *arguments, **settings):
            self.passes -= 1
            if self.passes == 0:
                raise MemoryError
            return model(*arguments, **settings)

    conversation.engine.model = Failing()
    with pytest.raises(MemoryError):
        list(conversation.ask("hello"))
    conversation.engine.model = model
    assert conversation.exchanges[0].reason == "cancelled"
    list(conversation.ask("and now?"))
    assert len(conversation.exchanges) == 2


def test_a_prompt_that_is_too_long_leaves_everything_as_it_was(begin):
    conversation = begin()
    list(conversation.ask("hello"))
    before = roles_and_texts(conversation)
    with pytest.raises(PromptTooLongError, match="512"):
        list(conversation.ask("word " * 512))
    assert roles_and_texts(conversation) == before
    assert conversation.unanswered is None
    list(conversation.ask("short"))
    assert len(conversation.exchanges) == 2


def test_the_system_message_is_said_once(begin, parts):
    conversation = begin(system="dog")
    list(conversation.ask("hello"))
    list(conversation.ask("hello"))
    assert parts[1].decode(conversation.known_ids).count("dog") == 1


def test_taking_back_returns_the_question_and_what_was_before_it(begin):
    conversation = begin()
    list(conversation.ask("one"))
    first = list(conversation.exchanges)
    list(conversation.ask("two"))
    assert conversation.undo() == "two"
    assert conversation.exchanges == first
    assert conversation.undo() == "one"
    for impossible in (conversation.undo, conversation.ask_again, conversation.go_on):
        with pytest.raises(UsageError):
            impossible()


def test_a_complete_answer_is_not_continued(begin, parts, monkeypatch):
    conversation = begin(thinking="off")
    list(conversation.ask("hello"))
    second = conversation.exchanges[0].tokens[1]
    conversation.clear()
    conversation.asked = 0
    monkeypatch.setattr(parts[1], "stop_ids", frozenset({second}))
    list(conversation.ask("hello"))
    assert conversation.exchanges[0].reason == "stop"
    with pytest.raises(UsageError, match="complete"):
        conversation.go_on()


def test_states_that_nothing_can_begin_with_hold_no_memory(begin, talking_folder, parts):
    model = load_model(talking_folder, device="cpu")
    conversation = begin(Engine(model, parts[1]))
    list(conversation.ask("hello"))
    list(conversation.ask_again("good morning"))
    # Before the question, behind it, and the end for /continue.
    assert len(conversation.engine.prefixes.beginnings_of(conversation.known_ids)) == 3
    conversation.clear()
    assert conversation.engine.states.pool.blocks_in_use == 0
