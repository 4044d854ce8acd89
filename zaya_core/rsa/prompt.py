"""Markovian RSA: the prompt that asks the model to make one better solution out of what earlier attempts hand on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from zaya_core.checkpoint.folder import ModelFolder
from zaya_core.files.model_json import GENERATION_CONFIG
from zaya_core.rsa.params import Pass

Prompt = Callable[[str, Sequence[str]], str]  # (question, candidates) → the user message

# Frozen: the bundled model was trained on exactly this wording (tests/demo/test_examples.py holds a copy).
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
    """The bundled model's: a question with the tails of attempts at it; refinement for one, else aggregation."""
    _expect_some(tails)
    opening, closing = (ONE_ATTEMPT, REFINE) if len(tails) == 1 else (SEVERAL_ATTEMPTS, SETTLE)
    blocks = [f"=== Attempt {number} ===\n{tail.strip()}" for number, tail in enumerate(tails, 1)]
    parts = [question, opening.format(count=len(tails)), *blocks, "=== End ===", closing]
    return "\n\n".join(parts)


SEVERAL_CANDIDATES = "# Candidate solutions (each may be wrong or unfinished)"
ONE_CANDIDATE = "# Candidate solution (it may be wrong or unfinished)"
COMBINE = (
    "Write one improved solution: keep what you can verify, settle where they differ, start afresh if all are wrong. "
    "End with the final answer in \\boxed{}."
)
IMPROVE = (
    "Write an improved solution: keep what you can verify, mend or finish the rest, start afresh if it is wrong. "
    "End with the final answer in \\boxed{}."
)


def candidates_prompt(question: str, candidates: Sequence[str]) -> str:
    """Every other model's: the structure that RSA and Zyphra published, in words of our own.

    The problem comes first, so that all prompts of a run begin alike and the question is computed once.
    """
    _expect_some(candidates)
    opening, closing = (ONE_CANDIDATE, IMPROVE) if len(candidates) == 1 else (SEVERAL_CANDIDATES, COMBINE)
    blocks = [f"## Candidate {number}\n{text.strip()}" for number, text in enumerate(candidates, 1)]
    return "\n\n".join([question, opening, *blocks, "# Task", closing])


def _expect_some(candidates: Sequence[str]) -> None:
    if not candidates:
        raise ValueError("an aggregation prompt needs at least one candidate")


@dataclass(frozen=True)
class Aggregation:
    """How a model is asked to aggregate. name: what a saved run knows the prompt by; passes: what goes well with it."""

    name: str | None
    prompt: Prompt
    passes: Pass


ATTEMPTS = Aggregation(None, aggregation_prompt, "tail")  # None: so saved runs had it before there were others
# Zyphra's own script hands on the answer of a candidate that has finished, and so does the report's better run.
CANDIDATES = Aggregation("candidates", candidates_prompt, "auto")


def aggregation_of(folder: Path | ModelFolder) -> Aggregation:
    """What a model was trained on, as its generation_config.json says; the published structure where it says nothing.

    Raises CheckpointError for a damaged file.
    """
    settings = ModelFolder.of(folder).json_object(GENERATION_CONFIG)
    return ATTEMPTS if settings.get("aggregation_prompt") == "attempts" else CANDIDATES
