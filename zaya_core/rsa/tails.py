"""What others are shown of a candidate: the end of its thought, or its answer."""

from __future__ import annotations

from collections.abc import Sequence

from zaya_core.rsa.rollouts import RolloutRequest, RolloutState
from zaya_core.text.token_names import THINK_END
from zaya_core.text.tokenizer import Tokenizer


def handed_on(
    request: RolloutRequest, state: RolloutState, thinking_ids: list[int], answer: str, tokenizer: Tokenizer
) -> str:
    """What a candidate hands on, of at most `request.tail` tokens.

    Its answer where that is asked for; with "auto" only if it ended by itself, not at a budget (the technical report's
    hybrid). The end of its thought otherwise, and its answer where there is no thought.
    """
    wants_answer = request.passes == "answer" or (request.passes == "auto" and state == "done")
    tail = "" if wants_answer and answer.strip() else tail_of(thinking_ids, request.tail, tokenizer)
    return tail or last_tokens(tokenizer.encode(answer), request.tail, tokenizer)


def tail_of(thinking_ids: list[int], tokens: int, tokenizer: Tokenizer) -> str:
    """The last tokens of a thought as text, without the marker that closed it; finished or not.

    A character of which the cut left a part is dropped, and the text encodes to no more than `tokens` again.
    """
    ids = thinking_ids
    if tokenizer.think_end_id is None:
        text = tokenizer.decode(ids)
        if text.rstrip().endswith(THINK_END):
            ids = tokenizer.encode(text.rstrip().removesuffix(THINK_END))
    elif ids and ids[-1] == tokenizer.think_end_id:
        ids = ids[:-1]
    return last_tokens(ids, tokens, tokenizer)


def last_tokens(ids: Sequence[int], tokens: int, tokenizer: Tokenizer) -> str:
    """The text of the last tokens, of fewer where it would encode to more than it was made of, as stray bytes do."""
    count = tokens
    while count > 0:
        text = tokenizer.decode(ids[-count:]).lstrip("\ufffd")
        surplus = len(tokenizer.encode(text)) - tokens
        if surplus <= 0:
            return text
        count -= max(1, surplus // 4)
    return ""
