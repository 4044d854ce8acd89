"""Laws of the answers: what is found in a text, and what counts as the same."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from fractions import Fraction

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.answer_pairs import DIFFERENT, MORE_DIFFERENT, MORE_SAME, SAME, pairs
from zaya_core.answers import comparison, find_answer, same_answer
from zaya_core.answers.bounds import is_within_bounds
from zaya_core.answers.reading import form
from zaya_core.answers.worker import Worker

WHOLE = st.integers(-(10**12), 10**12)
PIECES = [*"abcXYZ0123456789 .,+-/(){}$%=\\\n−", "\\frac", "\\text{", "\\boxed{"]
WRITTEN = st.lists(st.sampled_from(PIECES)).map("".join)


@pytest.fixture(scope="module", autouse=True)
def _patience():
    """Whatever else the machine does, what is compared here comes to its end."""
    patient, comparison._worker = comparison._worker, Worker(longest=30.0)
    yield
    comparison._worker.stop()
    comparison._worker = patient


@pytest.fixture
def no_worker(monkeypatch):
    """Fails when algebra is asked."""
    monkeypatch.setattr(comparison, "_by_algebra", lambda a, b: pytest.fail(f"{a} and {b} need no algebra"))


# --- the same and not the same ----------------------------------------------------------------------------------------


@pytest.mark.processes
@pytest.mark.parametrize("kind", SAME)
def test_answers_that_graders_count_as_equal_are_the_same(kind):
    wrong = [(a, b) for _, a, b in pairs({kind: SAME[kind]}) if not (same_answer(a, b) and same_answer(b, a))]
    assert not wrong


@pytest.mark.processes
@pytest.mark.parametrize("kind", DIFFERENT)
def test_answers_that_graders_tell_apart_are_different(kind):
    wrong = [(a, b) for _, a, b in pairs({kind: DIFFERENT[kind]}) if same_answer(a, b) or same_answer(b, a)]
    assert not wrong


@pytest.mark.processes
def test_more_answers_of_all_kinds_are_the_same_or_different():
    assert not [(a, b) for _, a, b in pairs(MORE_SAME) if not same_answer(a, b)]
    assert not [(a, b) for _, a, b in pairs(MORE_DIFFERENT) if same_answer(a, b)]


def test_every_kind_has_its_pairs():
    assert len(pairs(SAME)) >= 300
    assert len(pairs(DIFFERENT)) >= 200


@given(WRITTEN)
def test_an_answer_is_the_same_as_itself_and_spaces_around_it_never_count(text):
    assert same_answer(text, f" {text}\n")
    assert form(text) == form(f" {text}\n")


@given(WHOLE, st.integers(1, 10**6))
def test_all_spellings_of_a_fraction_are_the_same(upper, lower):
    sign, size = ("-" if upper < 0 else ""), abs(upper)
    spellings = [f"{upper}/{lower}", f"{sign}\\frac{{{size}}}{{{lower}}}", f"\\dfrac{{{upper}}}{{{lower}}}",
                 f"${upper} / {lower}$", f"x = {upper}/{lower}", f"\\text{{{upper}/{lower}}}."]  # fmt: skip
    assert {str(form(spelling)).removeprefix("x=") for spelling in spellings} == {str(Fraction(upper, lower))}


@given(WHOLE)
def test_thousands_commas_and_zeros_after_the_point_do_not_count(value):
    spellings = [f"{value:,}", str(value), f"{value}.0", f"{value}.", f"{value:,}.00", f"\\({value}\\)", f"{{{value}}}"]
    assert {str(form(spelling)) for spelling in spellings} == {str(value)}


@given(WHOLE, WHOLE)
def test_different_numbers_are_different(one, other):
    assert same_answer(str(one), f"{other:,}") == (one == other)


@given(st.integers(0, 99), st.integers(1, 9), st.integers(1, 9))
def test_a_mixed_number_is_a_sum(whole, upper, lower):
    value = str(whole + Fraction(upper, lower))
    assert {str(form(f"{whole} {upper}/{lower}")), str(form(rf"{whole}\frac{upper}{lower}"))} == {value}


def test_bare_braces_only_group_and_what_is_repeated_counts_once():
    assert (
        same_answer("{1, 2}", "1, 2") and same_answer(r"\{1, 2\}", "2, 1") and same_answer(r"\{1, 1, 2\}", r"\{2, 1\}")
    )
    assert same_answer("1, 1", "1") and not same_answer("(1, 1)", "1")


def test_numbers_letters_words_and_tuples_of_them_need_no_algebra(no_worker):
    for a, b in [
        ("1/2", "0.5"),
        ("1", "2"),
        ("B", "(B) 12 cm"),
        ("B", "7"),
        ("yes", "no"),
        ("(1,2)", "(1,3)"),
        ("x=5", "y=5"),
    ]:
        same_answer(a, b)


# --- limits -----------------------------------------------------------------------------------------------------------

HUGE = [
    "9" * 5000, "1e999999999", "1/" + "9" * 3000, "x=" * 3000 + "5", "{" * 5000, "\\boxed{" * 900, "(" * 400,
    "10^{99999}", "2^{2^{2^{2^{2}}}}", "9^{9^{9}}", "9^9^9^9", "99999!", "((9!)!)!", "9!!", r"\prod_{k=1}^{99999} k",
    r"\sum_{i=1}^{9999} \sum_{j=1}^{9999} ij", "\\frac{" * 50, "\\text{" * 200, "\\pm " * 300, "1," * 480,
    "((((((((((((1))))))))))))",
    "\\sqrt{" * 90 + "2" + "}" * 90, "½" * 300, "=" * 300,
]  # fmt: skip
BROKEN = [
    "1/0",
    "\x00\ud800",
    "\\",
    "^",
    "_",
    "$",
    "\\begin{matrix}",
    "\\frac",
    "\\sqrt",
    "0^0",
    "\\frac{1}{0}",
    "x^",
    "\\left(",
    "{}",
    "é",
]


@pytest.mark.parametrize("huge", HUGE, ids=range(len(HUGE)))
def test_huge_answers_are_left_to_normal_forms(huge, no_worker):
    assert same_answer(huge, huge + " ")
    assert not same_answer(huge, "17")


@pytest.mark.processes
@pytest.mark.parametrize("hostile", HUGE + BROKEN, ids=range(len(HUGE + BROKEN)))
def test_hostile_answers_cost_nothing_and_break_nothing(hostile):
    start = time.process_time()
    assert same_answer(hostile, hostile + " ")
    assert not same_answer(hostile, "17")
    find_answer(hostile * 20)
    assert time.process_time() - start < 0.5


def test_a_long_box_takes_time_in_proportion_to_its_length():
    start = time.process_time()
    found = find_answer(r"\boxed{" + "x=" * 30_000 + "5}")
    assert found is not None and found.kind == "boxed"
    assert time.process_time() - start < 0.2


@pytest.mark.parametrize(
    "hostile", ["x" * 201, "2^{99999}", "2^{3^{4^{5}}}", "10000!", "(5!)!", "1" * 60, "(" * 11 + "1" + ")" * 11]
)
def test_beyond_the_bounds_no_algebra_is_tried(hostile):
    assert not is_within_bounds(hostile, "1")
    assert not is_within_bounds("1", hostile)


# --- the worker -------------------------------------------------------------------------------------------------------

HANGS = "print('ready', flush=True); import time; time.sleep(60)"
SPINS = "print('ready', flush=True); input(); 9 ** 9 ** 9"
ECHOES = "print('ready', flush=True)\nwhile True: input(); print('true', flush=True)"


@pytest.mark.processes
@pytest.mark.parametrize("code", [HANGS, SPINS])
def test_a_worker_that_hangs_is_killed_after_a_second_and_the_next_comparison_works(code):
    worker = Worker(code)
    worker._running()
    hanging = worker._process
    start = time.monotonic()
    assert worker.ask(("a", "b")) is None
    assert 0.9 < time.monotonic() - start < 10
    assert hanging is not None and hanging.returncode is not None  # reaped
    worker._code = ECHOES
    assert worker.ask(("a", "b")) is True
    worker.stop()


@pytest.mark.processes
@pytest.mark.parametrize("code", ["", "print('hello')", "import sys; sys.exit(3)", "print('ready'); 1/0"])
def test_where_no_worker_can_be_had_normal_forms_decide(code, monkeypatch):
    monkeypatch.setattr(comparison, "_worker", Worker(code))
    comparison._by_algebra.cache_clear()
    assert not same_answer("x^2-9", "(x-3)(x+3)")
    assert same_answer("x^2 - 9", "x^2-9")
    comparison._by_algebra.cache_clear()


@pytest.mark.parametrize("where", ["frozen", "worker", "no interpreter"])
def test_a_frozen_program_and_a_worker_start_no_worker(where, monkeypatch):
    if where == "frozen":
        monkeypatch.setattr(sys, "frozen", True, raising=False)
    elif where == "worker":
        monkeypatch.setenv("ZAYA_COMPARES_FORMULAS", "1")
    else:
        monkeypatch.setattr(sys, "executable", "")
    monkeypatch.setattr(subprocess, "Popen", lambda *args, **options: pytest.fail("started"))
    assert Worker(ECHOES).ask(("a", "b")) is None


@pytest.mark.processes
def test_a_worker_that_was_killed_is_started_again():
    worker = Worker(ECHOES)
    assert worker.ask(("a", "b")) is True
    assert worker._process is not None
    psutil.Process(worker._process.pid).kill()
    psutil.wait_procs([psutil.Process(worker._process.pid)], timeout=5)
    assert worker.ask(("a", "b")) is True
    worker.stop()


@pytest.mark.processes
def test_an_interrupted_comparison_leaves_no_reply_for_the_next(monkeypatch):
    worker = Worker(ECHOES)
    worker._running()
    interrupted = worker._process
    assert interrupted is not None and interrupted.stdout is not None

    def interrupt() -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(interrupted.stdout, "readline", interrupt, raising=False)
    with pytest.raises(KeyboardInterrupt):
        worker.ask(("a", "b"))
    assert interrupted.returncode is not None
    assert worker.ask(("a", "b")) is True
    worker.stop()


PROGRAM = """
import os, sys
from zaya_core.answers import comparison, same_answer
from zaya_core.answers.worker import Worker
comparison._worker = Worker(longest=30)
print(same_answer("x^2-1", "(x-1)(x+1)"), comparison._worker._process.pid, "torch" in sys.modules, flush=True)
if sys.argv[1] == "killed":
    os.kill(os.getpid(), 9)
"""


@pytest.mark.processes
@pytest.mark.parametrize("how", ["returns", "killed"])
@pytest.mark.skipif(sys.platform == "win32", reason="kills itself by a signal")
def test_the_worker_ends_with_its_parent_says_nothing_and_nothing_of_the_working_directory_is_imported(how, tmp_path):
    for name in ("sympy", "json", "zaya_core", "math_verify"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('imported from the working directory')")
    command = [sys.executable, "-c", f"import sys; sys.path.remove(''); sys.argv[1:] = [{how!r}]{PROGRAM}"]
    path = os.pathsep.join(filter(None, sys.path))
    done = subprocess.run(command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True)
    verdict, pid, has_torch = done.stdout.split()
    assert (verdict, has_torch) == ("True", "False")
    assert not done.stderr
    end = time.monotonic() + 10
    while psutil.pid_exists(int(pid)) and psutil.Process(int(pid)).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < end
        time.sleep(0.02)


# --- the finder -------------------------------------------------------------------------------------------------------
TEXTS = [
    (r"The answer is $\frac{1}{2}$.", "1/2"),
    ("The answer is 11 5/6.", "71/6"),
    (r"Therefore the area is $12\pi$ square units.", r"12\pi"),
    (r"The length is \(3\sqrt2\) cm.", r"3\sqrt{2}"),
    ("Therefore $n$ is even.", None),
    ("Hence $n$ must be even", None),
    ("We have $x$ apples", None),
    ("In 1969, Armstrong walked on the moon.", None),
    ("1. Plan 2. Sleep 3. Repeat", None),
    ("1. Plan\n2. Sleep\n3. Repeat", None),
    (r"\boxed{2} and \boxed{3}", "2,3"),
    (r"$\boxed{2}$ or $\boxed{3}$.", "2,3"),
    (r"First \boxed{2}. No, wait, it is \boxed{3}", "3"),
    (r"So \boxed{12}, no: \boxed{\frac{1}{2}}", "1/2"),
    (r"\boxed{3} and an unfinished \boxed{4", "3"),
    (r"The answer is \boxed{12", None),
    (r"\boxed{ } but the answer is 7", "7"),
    ("The answer is 42. I am sure to 99 percent.", "42"),
    ("**Answer:** C", "C"),
    ("The answer is (D), since 3 > 2.", "D"),
    ("The final answer is: 3/4", "3/4"),
    ("All three fail.\n\n**(B)**", "B"),
    ("so x is 1,234.50", "1234.5"),
    ("the answer is a question of taste", None),
    ("Paris.", None),
    ("", None),
    ("answer: B", "B"),
    ("(C)", "C"),
    ("**42**", "42"),
    ("Therefore:\n\n**42**", "42"),
    ("The answer is (3, 4).", "(3,4)"),
    ("The answer is [1, 2).", "[1,2)"),
    (r"The answer is \(x = 5\).", "5"),
    (r"The answer is 2\sqrt{3}.", r"2\sqrt{3}"),
    (r"The answer is \frac{1}{2}.", "1/2"),
    ("Answer: $12$ cm", "12"),
    ("Answer: 12 cm", "12"),
    ("The answer is x = 5.", "x=5"),
    (r"The final answer is $\boxed{42}$.", "42"),
    (r"Final Answer: \[ \frac{3}{4} \]", "3/4"),
    ("**Final Answer**\n\n42", "42"),
    ("The answer to the question is 7.", "7"),
    ("The correct option is (B).", "B"),
    ("the correct choice is C.", "C"),
    ("Answer: Yes", "yes"),
    ("The answer is no.", "no"),
    ("The answer is not 5.", None),
    ("The answer is between 3 and 5.", None),
    ("Hence the total is 42.", "42"),
    ("2 + 2 = 4", "4"),
    ("Thus, $x = 5$.", "5"),
    ("Chapter 3", None),
    ("There are 50 states in the union.", None),
    ("The war lasted from 1939 to 1945.", None),
    ("I have 3 ideas.", None),
    ("See page 12.", None),
    ("The answer is **42**.", "42"),
    ("The answer is **Paris**.", "Paris"),
    ("Answer: A. Because", "A"),
    ("The answer is A because it is larger.", "A"),
    ("The answer is 5 apples", "5"),
    ("The answer is 50%.", "50"),
    ("The answer is $5.", "5"),
    ("The answer is 1,234.", "1234"),
    ("The answer is 1, 2 and 3.", "1,2,3"),
    ("The answer is $2$ and $3$.", "2,3"),
    ("The answer is -7.", "-7"),
    ("The answer is −7.", "-7"),
    ("The answer is 3.14.", "3.14"),
    ("The answer is 1.5e3", "1500"),
    (r"The answer is \{1, 2\}.", r"\{1,2\}"),
    ("The answer is 3x + 1.", "3x+1"),
    ("The answer is 2^10.", "1024"),
    ("The answer is 2 + 3 = 5.", "5"),
    ("The answer is ½.", "1/2"),
    ("the answer is A good question", None),
    ("The answer is I think 5", None),
    (r"\boxed{\text{(C)}}", "C"),
    (r"\boxed{\boxed{5}}", "5"),
    (r"\fbox{7}", "7"),
    (r"\boxed 7$", "7"),
    ("Answer:\n\n$$x^2$$", "x^2"),
    (r"x = \boxed{2} \text{ or } x = \boxed{3}", "2,3"),
    (r"\[ \boxed{(1,2)} \]", "(1,2)"),
    (r"\boxed{\begin{pmatrix}1\\2\end{pmatrix}}", r"\begin{pmatrix}1\\2\end{pmatrix}"),
    ("Hello! How can I help you today?", None),
    ("I was born in 1990", None),
    ("Version 2.0 is out", None),
    ("answer", None),
    ("The answer is", None),
    (r"$\frac{1}{2}$", "1/2"),
    (r"So the probability is $\frac{1}{2}$.", "1/2"),
    ("We have $x=3$ and so on until the end.", None),
    ("The ANSWER IS 5", "5"),
    ("Answer = 9", "9"),
    ("The answer would be 9", None),
    ("Option B is correct.", "B"),
    ("It is 3.", "3"),
    (r"\boxed{\{1,2\}}", r"\{1,2\}"),
    (r"\boxed{x = 5}", "x=5"),
    (r"\boxed{5} \boxed{6}", "6"),
    ("\\boxed{5}\n\n\\boxed{5}", "5"),
    ("The answer is 3:30.", "3:30"),
    ("Answer: (1, 2)", "(1,2)"),
    ("Answer: 10^5", "100000"),
    ("Call 555-1234 now.", None),
    ("The answer, in short, is 5.", "5"),
    (r"So, the answer is $(-\infty, 3]$.", r"(-\infty,3]"),
    ("The answers are 2 and 3.", "2,3"),
    ("My answer: 5", "5"),
    ("the solution is 5", "5"),
    ("In total: 5 apples", "5"),
    ("Mix 2 eggs and bake for 20 minutes.", None),
    ("Step 1: x. Step 2: y.", None),
    (r"Answer: $\text{(A)}$", "A"),
    ("ANSWER: (E)", "E"),
    ("The answer is E.", "E"),
    ("The answer is: \n\n B", "B"),
]


APART = [
    ("5 million", "5 thousand"), ("5.2 million dollars", "5.2 billion dollars"), ("$5 million", "$5 thousand"),
    ("$5$ million", "$5$ thousand"), (r"5\text{ million}", r"5\text{ thousand}"), ("**5** million", "**5** thousand"),
    ("5 hundred", "5"), ("5 dozen", "5"), ("2 thirds", "2"), ("3 squared", "3"), ("5 factorial", "5"),
    ("x = 3, y = 4", "x = 3, y = 5"), ("x = 3; y = 4", "x = 3; y = 5"), ("x = 1 and x = 2", "x = 7"),
    ("x = 1 and x = 2", "x = 1 and x = 7"), ("x = 1 or 2", "x = 1 or 3"), ("a = 1 and b = 2", "a = 1 and b = 3"),
    ("AB = 5 cm and BC = 3 cm", "AB = 5 cm and BC = 4 cm"), ("x = 5 million", "x = 5 thousand"),
    ("x = $3$", "x = $4$"), ("x = 5 and a half", "x = 5"), ("(3, 4) and (5, 6)", "(3, 4) and (5, 7)"),
    ("3 out of 8", "3 out of 9"), ("3 out of 8", "8 out of 3"), ("12 over 5", "12 over 7"), ("1 in 6", "1 in 7"),
    ("1 in six", "1 in seven"), ("3 to 1", "1 to 3"), ("5 feet 3 inches", "5 feet 9 inches"), ("5 km", "5 m"),
    ("3 hours 20 minutes", "3 hours 40 minutes"), ("3 hours and 20 minutes", "3 hours and 40 minutes"),
    ("3 hours, 20 minutes", "3 hours, 40 minutes"), ("$3$ hours $20$ minutes", "$3$ hours $40$ minutes"),
    ("5 times 10^6", "5 times 10^7"), ("3 pi", "3"), ("5 and a half", "5"), ("10 pm", "10 am"), ("10 p.m.", "10 a.m."),
    ("7 remainder 3", "7 remainder 2"), ("7 remainder 3", "3 remainder 7"), ("7 R 3", "7 R 2"), ("5–6", "5–7"),
    ("2 to the power of 5", "2 to the power of 6"), ("4 square root of 3", "4 square root of 5"),
    ("1 million 200 thousand", "1 million 300 thousand"), ("5 May", "5 June"), ("5 (mod 7)", "5 (mod 11)"),
]  # fmt: skip
SENTENCES = ["The answer is {}.", "**Answer:** {}", "Therefore the total is {}.", "So:\n\n{}"]


@pytest.mark.processes
@pytest.mark.parametrize("sentence", SENTENCES)
def test_values_that_differ_behind_their_first_number_do_not_agree(sentence):
    found = [(find_answer(sentence.format(one)), find_answer(sentence.format(other))) for one, other in APART]
    assert not [(one, other) for one, other in found if one and other and one.agrees_with(other)]


@pytest.mark.processes
@pytest.mark.parametrize(
    ("stated", "value"),
    [
        ("5 million", "5000000"), ("5 million", r"5 \text{ million}"), ("$5$ million", "5000000"),
        ("$5.2 million", "5200000"), ("5 hundred thousand people", "500000"), ("5 bn", "5 billion"),
        ("3 out of 8", r"\frac38"), ("12 over 5", "2.4"), ("5 and a half", "5.5"), ("5 times 10^6", "5 million"),
        ("3 pi", r"3\pi"), ("10 pm", "10 p.m."), ("60 miles per hour", "60 mph"), ("x = 3, y = 4", "x=3, y=4"),
        ("x = 1 and x = 2", "1,2"), ("3 hours 20 minutes", r"3\text{ hours }20\text{ minutes}"),
        ("5 dollars per hour", "5"), ("5 or so", "5"), ("5 people in the room", "5"), ("5 and we are done", "5"),
        ("x = 5, where x is the number", "5"), ("x = 5 because x > 3", "5"), ("5, which is 2 more than 3", "5"),
        ("5 (see step 2)", "5"), ("5 = 2 + 3", "5"), ("5 — the sum of 2 and 3", "5"), ("**5**, as 2 + 3", "5"),
        ("7 and not 8", "7"), ("12 m/s", "12"), ("12 cm^2", "12"), ("25% of the cake", "25"), ("6 a day", "6"),
        ("5 units to the left", "5"), ("2, 3 and 5", "2, 3, 5"), ("-5 degrees Celsius", "-5"), ("5cm", "5"),
        ("3.14 to 2 decimal places", "3.14"), ("3.1 rounded to two significant digits", "3.1"),
    ],
)  # fmt: skip
def test_what_a_sentence_states_is_the_whole_value_and_no_more(stated, value):
    found = find_answer(f"The answer is {stated}.")
    assert found is not None and same_answer(found.text, value), found


@pytest.mark.processes
@pytest.mark.parametrize(("text", "answer"), TEXTS)
def test_what_is_found_in_a_text(text, answer):
    found = find_answer(text)
    assert (found is None) if answer is None else (found is not None and same_answer(found.text, answer))


@pytest.mark.parametrize(
    ("text", "kind", "normal"),
    [
        (r"So \boxed{12}, no: \boxed{\frac{1}{2}}", "boxed", "1/2"),
        (r"\boxed{ } but the answer is 7", "number", "7"),
        ("The answer is (D), since 3 > 2.", "choice", "D"),
        ("The answer is $B$.", "choice", "B"),
        ("The answer is **Paris**.", "words", "paris"),
        ("The answer is $x+1$.", "math", "x+1"),
        ("First\n```python\nprint(1)  \n\n```\nthen 5 more\n```\nprint(2)\n```\nin 3 lines", "code", "print(2)"),
        ("An unfinished block\n```python\nprint(1)", None, None),
    ],
)
def test_an_answer_has_a_kind_and_a_normal_form(text, kind, normal):
    found = find_answer(text)
    assert (kind, normal) == (None, None) if found is None else (found.kind, found.normal) == (kind, normal)


def test_code_agrees_line_by_line_and_with_nothing_else():
    one, same, other = (find_answer(f"```\n{code}\n```") for code in ("x = 5", "x = 5  \n", "x = 5.0"))
    value = find_answer(r"\boxed{x = 5}")
    assert one is not None and same is not None and other is not None and value is not None
    assert one.agrees_with(same)
    assert not one.agrees_with(other)
    assert not one.agrees_with(value) and not value.agrees_with(one)


LONG = [
    r"\boxed{", r"\boxed{1},", "{", "answer ", "answer is ", "answer: ", "answer to ", "answer for x, in ",
    "answer is (", "answer is $",
    "$", "```\n", "1 ", "1,111", "**", "\n", " ", "= ", "it is ", r"\(", "answer:*", "answer:\n", r"\boxed ", "a",
    "option B ",
]  # fmt: skip


@pytest.mark.parametrize("piece", LONG)
def test_finding_takes_time_in_proportion_to_the_text(piece):
    start = time.process_time()
    find_answer(piece * (100_000 // len(piece)))
    assert time.process_time() - start < 0.5  # what is quadratic takes minutes


@pytest.mark.processes
def test_random_texts_break_nothing():
    rng = random.Random(0)
    words = [
        "The answer is",
        "answer:",
        "\n",
        " ",
        "**",
        "$",
        r"\boxed{",
        "}",
        "7",
        "1,000",
        "(B)",
        r"\frac{1}{2}",
        "so",
        "x = ",
        "```\n",
        "½",
    ]
    for _ in range(1000):
        find_answer("".join(rng.choices(words, k=rng.randrange(40))))
