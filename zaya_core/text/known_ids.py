"""A conversation's next prompt, with the ids that the model has already seen in place of equal text's.

Decoded text does not always encode back to the same ids. A prompt rendered from the texts of earlier answers would then
part from what is in the cache, and show the model other tokens than those it chose.
"""

from __future__ import annotations

from collections.abc import Sequence

from zaya_core.text.tokenizer import Tokenizer


def common_length(a: Sequence[int], b: Sequence[int]) -> int:
    """How many ids two sequences have in common from the start."""
    for position, (x, y) in enumerate(zip(a, b, strict=False)):
        if x != y:
            return position
    return min(len(a), len(b))


def keep_known_ids(tokenizer: Tokenizer, rendered: Sequence[int], known: Sequence[int]) -> list[int]:
    """`rendered` with its beginning taken from `known`, as far as both spell the same.

    Both are cut into stretches that begin at control tokens; stretches are equal if their control token and text are.
    Example, c being a control token and `ab` the same text as a, b: rendered [c, ab, c, d], known [c, a, b]
    → [c, a, b, c, d].
    """
    old, new = _stretches(tokenizer, known), _stretches(tokenizer, rendered)
    result: list[int] = []
    for position, stretch in enumerate(new):
        if position >= len(old) or not _spell_the_same(tokenizer, old[position], stretch):
            return result + [id_ for rest in new[position:] for id_ in rest]
        result += old[position]
    return result


def _stretches(tokenizer: Tokenizer, ids: Sequence[int]) -> list[list[int]]:
    stretches: list[list[int]] = [[]]
    for id_ in ids:
        if id_ in tokenizer.control_ids:
            stretches.append([])
        stretches[-1].append(id_)
    return stretches


def _spell_the_same(tokenizer: Tokenizer, a: list[int], b: list[int]) -> bool:
    if a == b:
        return True
    return tokenizer.decode(a, skip_special_tokens=False) == tokenizer.decode(b, skip_special_tokens=False)
