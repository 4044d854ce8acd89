"""Errors that are kept after their requests have ended."""

from __future__ import annotations

import traceback


def release_frames(error: BaseException) -> None:
    """Let go of what the calls that failed held, such as blocks; an error is kept longer than they should be."""
    seen: set[int] = set()  # a chain may be a ring: `raise error from error`
    ahead: list[BaseException | None] = [error]
    while ahead:
        one = ahead.pop()
        if one is not None and id(one) not in seen:
            seen.add(id(one))
            traceback.clear_frames(one.__traceback__)
            ahead += [one.__cause__, one.__context__]
