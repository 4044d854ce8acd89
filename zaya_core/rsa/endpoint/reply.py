"""One answer of a server, or as much of it as came."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Reply:
    """text, reasoning: of the answer. is_cut: by its length limit. is_whole: its end was seen.

    prompt_tokens, tokens: as the server counts; None where it does not. logprobs: natural, of the sampled tokens.
    """

    text: str = ""
    reasoning: str = ""
    is_cut: bool = False
    is_whole: bool = True
    prompt_tokens: int | None = None
    tokens: int | None = None
    logprobs: tuple[float, ...] = ()
