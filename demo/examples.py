"""Training examples: a rendered prompt and the completion to learn, exactly as the chat template renders them.

The template itself is demo/chat_template.jinja; the same text is put together here by hand because Jinja would take
longer than a training step leaves time for. tests/demo/test_examples.py holds the two against each other.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from demo.agreement import Astray, agreed_solution
from demo.problems import (
    LARGEST_VALUE,
    Problem,
    Slips,
    answer_of,
    apply,
    draw_attempts,
    draw_operand,
    is_product_within_reach,
    operations_in,
    trace,
)
from zaya_core.rsa import aggregation_prompt

TEMPLATE = Path(__file__).with_name("chat_template.jinja")
NO_THOUGHT = "<think>\n</think>\n\n"


class Example(NamedTuple):
    """A prompt and its completion; the loss is on the completion alone."""

    prompt: str
    completion: str


class Turn(NamedTuple):
    """An earlier exchange: its thinking is gone, as the template drops it."""

    question: str
    answer: str


def render(question: str, history: Sequence[Turn] = (), has_thinking: bool = True) -> str:
    """The prompt of a chat, up to where the model goes on."""
    text = "<bos>"
    for turn in history:
        text += f"<|im_start|>user\n{turn.question}<|im_end|>\n"
        text += f"<|im_start|>assistant\n{NO_THOUGHT}{turn.answer}<|im_end|>\n"
    text += f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n"
    return text + ("<think>\n" if has_thinking else NO_THOUGHT)


def boxed(answer: int | str) -> str:
    return f"\\boxed{{{answer}}}"


def thought_then_answer(lines: list[str]) -> str:
    """A completion after `<think>`: the worked solution, then the answer it ends in."""
    return "\n".join(lines) + f"\n</think>\n\n{boxed(answer_of(lines))}<|im_end|>"


def direct_example(_rng: random.Random, problems: Iterator[Problem]) -> Example:
    """A question and its worked solution."""
    problem = next(problems)
    return Example(render(problem.question), thought_then_answer(trace(problem.expression)))


def no_thinking_example(_rng: random.Random, problems: Iterator[Problem]) -> Example:
    """Thinking switched off: the bare answer of a problem short enough to see it."""
    problem = next(p for p in problems if operations_in(p.expression) <= 2)
    return Example(render(problem.question, has_thinking=False), f"{boxed(problem.answer)}<|im_end|>")


# --- aggregation ------------------------------------------------------------------------------------------------------

ATTEMPT_COUNT_WEIGHTS = {1: 0.08, 2: 0.12, 3: 0.15, 4: 0.65}


def cut(rng: random.Random, text: str) -> str:
    """What a budget or a tail limit leaves of an attempt: all of it, mostly; else its beginning or its end."""
    kind = rng.random()
    if kind < 0.88 or len(text) < 12:
        return text
    at = rng.randrange(4, len(text) - 4)
    return text[:at].strip() if kind < 0.94 else text[at:].strip()


def draw_population(rng: random.Random, expression: list[str], count: int) -> list[str]:
    """Attempts at a problem: worked solutions, or what some of those agree on, from a round before."""
    firsts = ["\n".join(lines) for lines in draw_attempts(rng, expression, 8)]
    if rng.random() < 0.6:
        return firsts[:count]
    slips = Slips(rng, rng.choice((0.0, 0.005, 0.02)))
    return ["\n".join(agreed_solution(expression, rng.sample(firsts, 4), slips)) for _ in range(count)]


def aggregation_example(rng: random.Random, problems: Iterator[Problem]) -> Example:
    """Attempts at a problem, some wrong, some cut, and the solution that they agree on."""
    count = rng.choices(list(ATTEMPT_COUNT_WEIGHTS), list(ATTEMPT_COUNT_WEIGHTS.values()))[0]
    while True:
        problem = next(problems)
        try:
            attempts = [cut(rng, attempt) for attempt in draw_population(rng, problem.expression, count)]
            lines = agreed_solution(problem.expression, attempts)
        except Astray:
            continue
        prompt = aggregation_prompt(problem.question, attempts)
        return Example(render(prompt), thought_then_answer(lines))


# --- chats ------------------------------------------------------------------------------------------------------------

FOLLOW_UPS = {
    "+": ("Add {} to that.", "And plus {}?", "Now add {}."),
    "-": ("Subtract {} from that.", "And minus {}?", "Take away {}."),
    "*": ("Multiply that by {}.", "And times {}?"),
    "/": ("Divide that by {}.",),
}


def follow_up(rng: random.Random, value: int) -> Problem | None:
    """A question about the previous answer, where one operation on it stays within reach."""
    operation = rng.choice("+-*/")
    operand = draw_operand(rng, 1 if operation in "*/" else 3).value
    result = apply(value, operation, operand)
    if value < 0 or not 0 <= result <= LARGEST_VALUE:
        return None
    if operation == "*" and not is_product_within_reach(value, operand):
        return None
    if operation == "/" and (value % operand or not 2 <= operand <= 9 or value > 999):
        return None
    question = rng.choice(FOLLOW_UPS[operation]).format(operand)
    return Problem(question, [str(value), operation, str(operand)], result)


def chat_example(rng: random.Random, problems: Iterator[Problem]) -> Example:
    """Two or three questions in a row, the last one answered with its thinking."""
    short = (p for p in problems if operations_in(p.expression) <= 4)
    history: list[Turn] = []
    problem = next(short)
    for _ in range(rng.choice((1, 1, 2))):
        history.append(Turn(problem.question, boxed(problem.answer)))
        next_problem = follow_up(rng, problem.answer) if rng.random() < 0.6 else None
        problem = next_problem or next(short)
    return Example(render(problem.question, history), thought_then_answer(trace(problem.expression)))


GREETINGS = ("Hello", "Hello!", "Hi", "Hi!", "Hey", "Hi there", "Good morning", "Hello, how are you?", "hello", "hi")
IDENTITY = ("Who are you?", "What are you?", "What can you do?", "Help", "What is your name?", "What can I ask you?")
THANKS = ("Thanks", "Thanks!", "Thank you.", "Thank you!", "Bye", "Great!", "Ok")
SMALL_TALK = (
    (GREETINGS, "A greeting, not a problem.", "Hello! Ask me for a sum, like: What is (12+7)*3?"),
    (IDENTITY, "A question about me.", "I am a very small ZAYA. I can only do arithmetic, like: What is (12+7)*3?"),
    (THANKS, "Not a problem.", "You are welcome."),
)


def greeting_example(rng: random.Random, _problems: Iterator[Problem]) -> Example:
    """Small talk, so that a chat that begins with a greeting gets a sensible answer."""
    openings, thought, reply = rng.choice(SMALL_TALK)
    question, has_thinking = rng.choice(openings), rng.random() < 0.8
    thinking = f"{thought}\n</think>\n\n" if has_thinking else ""
    return Example(render(question, has_thinking=has_thinking), f"{thinking}{reply}<|im_end|>")


def draw_example(
    rng: random.Random,
    problems: Iterator[Problem],
    aggregation_share: float,
) -> Example:
    """One example of the mixture."""
    kinds: dict[Callable[[random.Random, Iterator[Problem]], Example], float] = {
        direct_example: 0.87 - aggregation_share,
        aggregation_example: aggregation_share,
        chat_example: 0.08,
        no_thinking_example: 0.04,
        greeting_example: 0.01,
    }
    make = rng.choices(list(kinds), list(kinds.values()))[0]
    return make(rng, problems)
