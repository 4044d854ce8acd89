"""Arithmetic problems, their worked solutions, and solutions with the mistakes a small model makes.

An expression is a list of pieces ("12", "*", "(", ...). A worked solution ("trace") reduces one operation at a time and
rewrites what remains, so that every line follows from the line before it alone:

    (12+7)*3-40
    12+7=19
    19*3-40
    19*3=30+27=57
    57-40=17

A sum or difference goes digit by digit (385-166=285-66=225-6=219), a product through its partial products.
Values between steps stay within 0..999, products are of three digits by one or two by two, divisions are exact:
limits within which a small model can learn to be reliable.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

LARGEST_OPERAND = 999
LARGEST_VALUE = 999
PRECEDENCE = {"+": 1, "-": 1, "*": 2, "/": 2}
OPERATION_WEIGHTS = {"+": 0.28, "-": 0.26, "*": 0.32, "/": 0.14}
OPERATION_COUNT_WEIGHTS = {1: 0.14, 2: 0.22, 3: 0.22, 4: 0.19, 5: 0.13, 6: 0.10}


class Problem(NamedTuple):
    """A question in words, the expression it asks for, and its value."""

    question: str
    expression: list[str]
    answer: int


BETWEEN_TERMS = -1  # stands for a step where something within one is meant


@dataclass
class Slips:
    """Where a faulty solver goes wrong: chances for each step, and hard steps at which several solvers err alike."""

    rng: random.Random
    result: float = 0.0
    copy: float = 0.0
    order: float = 0.0
    hard_steps: dict[int, tuple[float, int]] = field(default_factory=dict)  # as in HardSteps, of one solver

    def of_result(self, step: int, value: int) -> int:
        chance, error = self.hard_steps.get(step, (0.0, 0))
        if self.rng.random() < chance:
            return value + error
        return value + digit_error(self.rng, value) if self.rng.random() < self.result else value


def digit_error(rng: random.Random, value: int) -> int:
    """The difference a wrong digit or a lost carry makes."""
    place = 10 ** rng.randrange(len(str(abs(value))))
    return rng.choice((-1, 1)) * place * rng.choice((1, 1, 1, 2, rng.randint(1, 9)))


# --- expressions ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Node:
    """A drawn subexpression: its pieces, its value and how tightly its last operation binds (3 for a number)."""

    pieces: list[str]
    value: int
    precedence: int


def draw_operand(rng: random.Random, most_digits: int = 3) -> Node:
    digits = min(rng.choices((1, 2, 3), (0.36, 0.43, 0.21))[0], most_digits)
    value = rng.randint(2 if digits == 1 else 10 ** (digits - 1), 10**digits - 1)
    return Node([str(value)], value, 3)


def bracketed(node: Node, is_needed: bool) -> list[str]:
    return ["(", *node.pieces, ")"] if is_needed else node.pieces


def join(left: Node, operation: str, right: Node, value: int) -> Node:
    """Combine two subexpressions, with brackets only where the meaning needs them."""
    level = PRECEDENCE[operation]
    pieces = [*bracketed(left, left.precedence < level), operation, *bracketed(right, right.precedence <= level)]
    return Node(pieces, value, level)


def is_product_within_reach(left: int, right: int) -> bool:
    small, large = sorted((left, right))
    return small >= 2 and ((small <= 9 and large <= 999) or large <= 99) and small * large <= LARGEST_VALUE


def draw_division(rng: random.Random, left: Node) -> Node | None:
    """Divide by a number that goes in exactly; a lone number is replaced by a multiple."""
    divisor = rng.randint(2, 9)
    if left.precedence == 3:
        value = rng.randint(2, LARGEST_OPERAND // divisor) * divisor
        left = Node([str(value)], value, 3)
    else:
        fitting = [d for d in range(2, 10) if left.value % d == 0]
        if not fitting or not 2 <= left.value <= LARGEST_OPERAND:
            return None
        divisor = rng.choice(fitting)
    return join(left, "/", Node([str(divisor)], divisor, 3), left.value // divisor)


def draw_node(rng: random.Random, operations: int) -> Node:
    """Draw a subexpression of so many operations whose steps all stay within reach."""
    if operations == 0:
        return draw_operand(rng)
    while True:
        operation = rng.choices(list(OPERATION_WEIGHTS), list(OPERATION_WEIGHTS.values()))[0]
        if operation == "/":
            quotient = draw_division(rng, draw_node(rng, operations - 1))
            if quotient:
                return quotient
            continue
        first = rng.randrange(operations)
        left, right = draw_node(rng, first), draw_node(rng, operations - 1 - first)
        if operation == "-" and left.value < right.value:
            left, right = right, left
        if operation == "*" and not is_product_within_reach(left.value, right.value):
            if right.precedence != 3:
                continue
            right = draw_operand(rng, 1 if left.value > 99 else 2)
            if not is_product_within_reach(left.value, right.value):
                continue
        value = apply(left.value, operation, right.value)
        if 0 <= value <= LARGEST_VALUE:
            return join(left, operation, right, value)


def apply(left: int, operation: str, right: int) -> int:
    """The value of one operation; a division that slips made inexact rounds down, as a wrong trace would."""
    if operation == "+":
        return left + right
    if operation == "-":
        return left - right
    if operation == "*":
        return left * right
    return left // right if right else 0


def draw_expression(rng: random.Random, operations: int | None = None) -> tuple[list[str], int]:
    if operations is None:
        operations = rng.choices(list(OPERATION_COUNT_WEIGHTS), list(OPERATION_COUNT_WEIGHTS.values()))[0]
    if operations == 1 and rng.random() < 0.1:  # the only place where a value below zero may appear: the last step
        left, right = sorted((draw_operand(rng), draw_operand(rng)), key=lambda node: node.value)
        return [*left.pieces, "-", *right.pieces], left.value - right.value
    node = draw_node(rng, operations)
    return node.pieces, node.value


# --- worked solutions -------------------------------------------------------------------------------------------------


def next_operation(pieces: list[str], slips: Slips | None) -> int:
    """Index of the operation to do next: innermost bracket first, then products, then sums, left before right."""
    close = pieces.index(")") if ")" in pieces else len(pieces)
    start = max((i for i in range(close) if pieces[i] == "("), default=-1) + 1
    candidates = [i for i in range(start, close) if pieces[i] in PRECEDENCE]
    if slips and slips.rng.random() < slips.order:
        return candidates[0]
    return max(candidates, key=lambda i: (PRECEDENCE[pieces[i]], -i))


def partial_products(left: int, right: int) -> list[int]:
    """The products by digit that add up to left * right; one entry where the product is known by heart."""
    if 0 <= left < 10 <= right:
        left, right = right, left
    by_digit, factor = (right, left) if right > 9 else (left, right)
    digits = str(abs(by_digit))
    parts = [int(digit) * 10 ** (len(digits) - 1 - i) * factor for i, digit in enumerate(digits) if digit != "0"]
    return parts if sum(parts) == left * right else [left * right]


def leading_place(number: int) -> int:
    """What the first digit of a number that is not negative counts: 100 for 385."""
    place: int = 10 ** (len(str(number)) - 1)
    return place


def leading_part(number: int) -> int:
    """What is left when the other digits are zero: 300 for 385."""
    place = leading_place(number)
    return number // place * place


def by_digits(left: int, operation: str, right: int, slips: Slips | None) -> tuple[list[str], int]:
    """A sum or difference one digit of the second number at a time: what is left to do after each, and the value.

    385-166 gives 285-66, 225-6 and the value 219. A result below zero is written at once.
    """
    rests = []
    if operation == "+" and len(str(left)) < len(str(right)):
        left, right = right, left
        rests.append(f"{left}+{right}")
    is_at_once = operation == "-" and left < right
    while right > 9 and not is_at_once:
        leading = leading_part(right)
        left, right = apply(left, operation, leading), right - leading
        if slips:
            left = slips.of_result(BETWEEN_TERMS, left)
        if right:
            rests.append(f"{left}{operation}{right}")
    return rests, apply(left, operation, right)


def by_parts(left: int, right: int, slips: Slips | None) -> tuple[list[str], int]:
    """A product as the sum of its partial products."""
    parts = partial_products(left, right)
    if len(parts) == 1:
        return [], left * right
    if slips:
        parts = [slips.of_result(BETWEEN_TERMS, part) for part in parts]
    return ["+".join(map(str, parts))], sum(parts)


def work_out(left: str, operation: str, right: str, step: int, slips: Slips | None) -> tuple[str, int]:
    """One step as written, and its value."""
    if operation == "*":
        between, value = by_parts(int(left), int(right), slips)
    elif operation == "/":
        between, value = [], apply(int(left), operation, int(right))
    else:
        between, value = by_digits(int(left), operation, int(right), slips)
    if slips:
        value = slips.of_result(step, value)
    return "=".join([f"{left}{operation}{right}", *between, str(value)]), value


def miscopy(pieces: list[str], slips: Slips) -> list[str]:
    """Change one number of the remaining expression."""
    numbers = [i for i, piece in enumerate(pieces) if piece.lstrip("-").isdigit()]
    index = slips.rng.choice(numbers)
    wrong = abs(int(pieces[index]) + digit_error(slips.rng, int(pieces[index])))
    return [*pieces[:index], str(wrong), *pieces[index + 1 :]]


def trace(expression: list[str], slips: Slips | None = None) -> list[str]:
    """The lines of a worked solution; the last line ends in the answer."""
    pieces, lines, step = list(expression), [], 0
    while len(pieces) > 1:
        if sum(piece in PRECEDENCE for piece in pieces) > 1:
            lines.append("".join(pieces))
        at = next_operation(pieces, slips)
        text, value = work_out(pieces[at - 1], pieces[at], pieces[at + 1], step, slips)
        lines.append(text)
        pieces = reduced(pieces, at, str(value))
        if slips and len(pieces) > 1 and slips.rng.random() < slips.copy:
            pieces = miscopy(pieces, slips)
        step += 1
    return lines


def reduced(pieces: list[str], at: int, value: str) -> list[str]:
    """The expression with the operation at an index replaced by its value, without brackets around a lone number."""
    start, end = at - 1, at + 2
    if start > 0 and end < len(pieces) and pieces[start - 1] == "(" and pieces[end] == ")":
        start, end = start - 1, end + 1
    return [*pieces[:start], value, *pieces[end:]]


def operations_in(expression: list[str]) -> int:
    return sum(piece in PRECEDENCE for piece in expression)


def answer_of(lines: list[str]) -> str:
    """The number the last line ends in."""
    return lines[-1].rsplit("=", 1)[-1]


class HardSteps(NamedTuple):
    """Steps at which solvers err alike: of each, or of BETWEEN_TERMS, its chance and its error.

    `alike`: the share of those who err that make the same error.
    """

    steps: dict[int, tuple[float, int]]
    alike: float


def draw_hard_steps(rng: random.Random, count: int) -> HardSteps:
    """Of a problem of so many steps: none, one or two; now and then most, which leaves only the attempts to go by."""
    if rng.random() < 0.08:
        steps = {
            i: (0.95, digit_error(rng, rng.randint(10, 999))) for i in range(BETWEEN_TERMS, count) if rng.random() < 0.7
        }
        return HardSteps(steps, 1.0)
    steps = {}
    for _ in range(rng.choice((0, 0, 1, 2))):
        steps[rng.randrange(count)] = rng.choice((0.3, 0.5, 0.7, 0.9)), digit_error(rng, rng.randint(100, 999))
    return HardSteps(steps, rng.choice((0.2, 0.5, 0.9)))


def draw_attempts(rng: random.Random, expression: list[str], count: int) -> list[list[str]]:
    """Traces of the same problem by solvers of one quality, which may stumble at the same steps."""
    quality = rng.choice((0.01, 0.04, 0.08, 0.15, 0.3))
    hard = draw_hard_steps(rng, operations_in(expression))
    attempts = []
    for _ in range(count):
        shared = {
            step: (chance, error if rng.random() < hard.alike else digit_error(rng, 99))
            for step, (chance, error) in hard.steps.items()
        }
        attempts.append(trace(expression, Slips(rng, quality, quality / 3, quality / 3, shared)))
    return attempts


# --- questions --------------------------------------------------------------------------------------------------------

PHRASINGS = ("What is {}?",) * 12 + ("Calculate {}.", "Compute {}.", "What is {} ?", "{} = ?", "{}", "How much is {}?")


def ask_expression(rng: random.Random, operations: int | None = None) -> Problem:
    """`What is EXPR?` and, more rarely, other ways of asking."""
    expression, answer = draw_expression(rng, operations)
    text = "".join(expression)
    if rng.random() < 0.25:
        text = "".join(f" {piece} " if piece in PRECEDENCE else piece for piece in expression)
    return Problem(rng.choice(PHRASINGS).format(text), expression, answer)


PEOPLE = (
    ("Tom", "He"),
    ("Anna", "She"),
    ("Sam", "He"),
    ("Mia", "She"),
    ("Leo", "He"),
    ("Zoe", "She"),
    ("Max", "He"),
    ("Eva", "She"),
)
THINGS = ("apples", "books", "coins", "pens", "cards", "stamps", "eggs", "shells", "beads", "stickers")
HOLDERS = ("boxes", "bags", "packs", "baskets")
GAINS = ("{he} buys {n} more.", "{he} finds {n} more.", "A friend gives {name} {n} more.", "{he} gets {n} more.")
LOSSES = ("{he} gives away {n}.", "{he} loses {n}.", "{he} sells {n}.", "{n} of them break.")


@dataclass
class Story:
    """A word problem in the making: sentences so far, and the expression they amount to."""

    rng: random.Random
    name: str
    he: str
    things: str
    sentences: list[str]
    node: Node

    def tell(self, template: str, operation: str, right: Node, value: int, n: int) -> None:
        self.sentences.append(template.format(he=self.he, name=self.name, n=n, things=self.things))
        self.node = join(self.node, operation, right, value)

    def gain_or_lose(self) -> bool:
        n = draw_operand(self.rng)
        is_loss = self.rng.random() < 0.5
        value = self.node.value + (-n.value if is_loss else n.value)
        if 0 <= value <= LARGEST_VALUE:
            self.tell(self.rng.choice(LOSSES if is_loss else GAINS), "-" if is_loss else "+", n, value, n.value)
        return 0 <= value <= LARGEST_VALUE

    def multiply(self) -> bool:
        times, verb = self.rng.choice(((2, "doubles"), (3, "triples")))
        if not is_product_within_reach(self.node.value, times):
            return False
        self.tell(f"Then the number {verb}.", "*", Node([str(times)], times, 3), self.node.value * times, times)
        return True

    def divide(self) -> bool:
        if not 4 <= self.node.value <= LARGEST_OPERAND:
            return False
        fitting = [d for d in range(2, 10) if self.node.value % d == 0]
        if not fitting:
            return False
        n = self.rng.choice(fitting)
        self.tell("{he} shares them equally among {n} friends.", "/", Node([str(n)], n, 3), self.node.value // n, n)
        return True


def draw_packs(rng: random.Random) -> tuple[str, Node]:
    """`12 boxes of 7 apples`, as words and as a product."""
    count = each = LARGEST_OPERAND
    while not is_product_within_reach(count, each):
        count, each = sorted((draw_operand(rng, 2).value, draw_operand(rng, 2).value))
    words = f"{count} {rng.choice(HOLDERS)} of {each}"
    return words, Node([str(count), "*", str(each)], count * each, 2)


def begin_story(rng: random.Random) -> Story:
    (name, he), things = rng.choice(PEOPLE), rng.choice(THINGS)
    if rng.random() < 0.5:
        words, node = draw_packs(rng)
    else:
        node = draw_operand(rng)
        words = str(node.value)
    return Story(rng, name, he, things, [f"{name} has {words} {things}."], node)


def add_packs(story: Story) -> bool:
    words, node = draw_packs(story.rng)
    value = story.node.value + node.value
    if value > LARGEST_VALUE:
        return False
    story.tell(f"{{he}} buys {words} {{things}}.", "+", node, value, 0)
    return True


def ask_story(rng: random.Random) -> Problem:
    """A short word problem of 1 to 5 operations."""
    story = begin_story(rng)
    is_shared = False
    events = rng.choices((1, 2, 3), (0.45, 0.35, 0.2))[0]
    while events:
        kind = rng.random()
        if kind < 0.6:
            events -= story.gain_or_lose()
        elif kind < 0.75:
            events -= add_packs(story)
        elif kind < 0.88:
            events -= story.multiply()
        elif events == 1:
            is_shared = story.divide()
            events -= is_shared
    question = f"How many {story.things} does {story.name} have now?"
    if is_shared:
        question = f"How many {story.things} does each friend get?"
    return Problem(" ".join([*story.sentences, question]), story.node.pieces, story.node.value)


WORD_PROBLEM_SHARE = 0.2


def draw_problem(rng: random.Random) -> Problem:
    return ask_story(rng) if rng.random() < WORD_PROBLEM_SHARE else ask_expression(rng)


HELD_OUT_ONE_IN = 20


def is_held_out(problem: Problem) -> bool:
    """Whether an expression belongs to the held-out split, decided by its hash: no draw can carry it across."""
    digest = hashlib.blake2b("".join(problem.expression).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") % HELD_OUT_ONE_IN == 0


def held_out(count: int, seed: int = 1, least_operations: int = 1) -> list[Problem]:
    """The first so many distinct held-out questions of a seed, with so many operations or more (of 6 at most)."""
    rng = random.Random(f"held-out:{seed}")
    problems: dict[str, Problem] = {}
    while len(problems) < count:
        problem = draw_problem(rng)
        if is_held_out(problem) and operations_in(problem.expression) >= least_operations:
            problems.setdefault(problem.question, problem)
    return list(problems.values())


def training_problems(rng: random.Random) -> Iterator[Problem]:
    """An endless stream of problems of the training split."""
    while True:
        problem = draw_problem(rng)
        if not is_held_out(problem):
            yield problem
