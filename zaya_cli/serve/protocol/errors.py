"""Errors as OpenAI's clients read them: a status, and a body whose `error` has message, type, param and code."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from zaya_core.errors import CheckpointError, MemoryFitError, PromptTooLongError, UsageError

INVALID = "invalid_request_error"
TOO_LONG = "context_length_exceeded"
RETRY_SECONDS = 5  # what a client is told to wait while the server is not ready


class ApiError(Exception):
    """What a client is told in place of an answer, or at the end of a stream that had begun."""

    def __init__(
        self,
        status: int,
        message: str,
        kind: str = INVALID,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ):
        """status: of HTTP. kind: `type` in the body. param: the field at fault, as `messages[0].role`."""
        super().__init__(message)
        self.status, self.message, self.kind, self.param, self.code = status, message, kind, param, code
        self.headers = dict(headers or {})

    @property
    def body(self) -> dict[str, Any]:
        """The JSON object."""
        return {"error": {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}}


class QueueFull(ApiError):
    """More requests wait than may."""

    def __init__(self, open_requests: int, retry_seconds: int):
        message = f"The queue is full: {open_requests:,} requests are open. Try again in {retry_seconds} s."
        headers = {"Retry-After": str(retry_seconds)}
        super().__init__(429, message, "rate_limit_error", code="queue_full", headers=headers)


def bad_field(param: str, message: str) -> ApiError:
    """A field of another type, or out of its range: `message` goes on after the field's name."""
    return ApiError(400, f"{param} {message}", param=param)


def too_long(tokens: int, context: int, param: str) -> ApiError:
    """A prompt that leaves no room for an answer, in the words that agents look for."""
    return ApiError(
        400,
        f"This model's maximum context length is {context} tokens; the prompt has {tokens}, which leaves no room "
        "for an answer. Shorten the prompt.",
        param=param,
        code=TOO_LONG,
    )


def unavailable(message: str, code: str) -> ApiError:
    """The server cannot answer now."""
    return ApiError(503, message, "service_unavailable", code=code, headers={"Retry-After": str(RETRY_SECONDS)})


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a computation failed for want of memory, of the computer or of a card."""
    return isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"


def error_of(error: Exception) -> ApiError:
    """What a client is told of an error: of its own mistakes all, of others neither path nor traceback."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, (PromptTooLongError, MemoryFitError)):
        return ApiError(400, str(error), param="messages", code=TOO_LONG)
    if isinstance(error, UsageError):
        return ApiError(400, str(error))
    if is_out_of_memory(error):
        message = "There was not enough memory to compute this request. Try again with a shorter prompt, or later."
        return ApiError(500, message, "server_error", code="out_of_memory")
    if isinstance(error, CheckpointError):
        return ApiError(500, "The model's computation failed: its folder is damaged.", "server_error", code="damaged")
    return ApiError(500, "The computation of this request failed.", "server_error", code="failed")
