"""Markovian RSA: the prompt that asks the model to make one better solution out of the tails of earlier attempts."""

from __future__ import annotations

from collections.abc import Sequence

# Frozen: the bundled model was trained on exactly this wording (tests/demo/test_problems.py holds a copy).
SEVERAL_ATTEMPTS = "Below are {count} attempts at this problem. Some may be wrong or cut off."
ONE_ATTEMPT = "Below is an attempt at this problem. It may be wrong or cut off."
SETTLE = (
    "Check the steps, recompute where the attempts differ, try another way if all are wrong, "
    "and give the final answer in \\boxed{}."
)
REFINE = (
    "Check the steps, correct or finish them, try another way if they are wrong, "
    "and give the final answer in \\boxed{}."
)


def aggregation_prompt(question: str, tails: Sequence[str]) -> str:
    """The user message that shows a question with the tails of attempts at it: refinement for one, else aggregation.

    Why this structure: that of RSA's published prompt (arXiv 2509.26626); Zyphra's wording for ZAYA is not published.
    """
    if not tails:
        raise ValueError("an aggregation prompt needs at least one tail")
    opening, closing = (ONE_ATTEMPT, REFINE) if len(tails) == 1 else (SEVERAL_ATTEMPTS, SETTLE)
    blocks = [f"=== Attempt {number} ===\n{tail.strip()}" for number, tail in enumerate(tails, 1)]
    parts = [question, opening.format(count=len(tails)), *blocks, "=== End ===", closing]
    return "\n\n".join(parts)
