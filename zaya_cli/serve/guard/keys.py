"""Who may ask: clients that send one of the server's keys."""

from __future__ import annotations

import hashlib
import hmac
from typing import TYPE_CHECKING

from zaya_cli.serve.guard.refusal import refuse
from zaya_cli.serve.guard.scope import HEALTH, header_values
from zaya_cli.serve.protocol.errors import ApiError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from starlette.types import ASGIApp, Receive, Scope, Send

_CHALLENGE = {"www-authenticate": "Bearer"}
_MISSING = "This server needs an API key: send it as `Authorization: Bearer KEY` or as `x-api-key: KEY`."


class Keys:
    """Status 401 without a right key. The key's digest is its owner's name, `scope["state"]["owner"]`, so that no
    prefix of one owner's prompts is reused for another; "" where the server has no keys."""

    def __init__(self, app: ASGIApp, keys: Iterable[str]):
        self._app = app
        self._digests = [_digest(key.encode()) for key in keys]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        owner = self._owner(scope) if self._digests else ""
        if owner is None and scope["path"] not in HEALTH:
            await refuse(send, _refusal(scope))
            return
        scope.setdefault("state", {})["owner"] = owner or ""
        await self._app(scope, receive, send)

    def _owner(self, scope: Scope) -> str | None:
        """The digest of the right key among those that were sent. All are compared, always in the same time."""
        sent = [_digest(key.encode("latin-1")) for key in _sent_keys(scope)]
        right = [one for one in sent for known in self._digests if hmac.compare_digest(one, known)]
        return right[0] if right else None


def _refusal(scope: Scope) -> ApiError:
    message = "The API key is not one of this server's." if any(_sent_keys(scope)) else _MISSING
    return ApiError(401, message, "authentication_error", code="invalid_api_key", headers=_CHALLENGE)


def _sent_keys(scope: Scope) -> Iterator[str]:
    for value in header_values(scope, "authorization"):
        scheme, _, key = value.strip().partition(" ")
        if scheme.lower() == "bearer":
            yield key.strip()
    yield from (value.strip() for value in header_values(scope, "x-api-key"))


def _digest(key: bytes) -> str:
    return hashlib.sha256(key).hexdigest()
