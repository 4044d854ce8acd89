"""Who may ask: clients that send one of the server's keys."""

from __future__ import annotations

import hashlib
import hmac
from typing import TYPE_CHECKING

from zaya_cli.serve.guard.refusal import Refusal
from zaya_cli.serve.guard.scope import header_values

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from starlette.types import ASGIApp, Receive, Scope, Send

PUBLIC = frozenset({"/health"})
_CHALLENGE = (("www-authenticate", "Bearer"),)
_MISSING = "This server needs an API key: send it as `Authorization: Bearer KEY` or as `x-api-key: KEY`."


class Keys:
    """Status 401 without a right key. The key's digest becomes the salt of its user: `scope["state"]["salt"]`, so that no
    prefix of one user's prompts is reused for another; "" where the server has no keys."""

    def __init__(self, app: ASGIApp, keys: Iterable[str]):
        self._app = app
        self._digests = [_digest(key.encode()) for key in keys]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        salt = self._user(scope) if self._digests else ""
        if salt is None and scope["path"] not in PUBLIC:
            await self._refusal(scope).send(send)
            return
        scope.setdefault("state", {})["salt"] = salt or ""
        await self._app(scope, receive, send)

    def _user(self, scope: Scope) -> str | None:
        """The digest of the right key among those that were sent. All are compared, always in the same time."""
        sent = [_digest(key.encode("latin-1")) for key in _sent_keys(scope)]
        right = [one for one in sent for known in self._digests if hmac.compare_digest(one, known)]
        return right[0] if right else None

    def _refusal(self, scope: Scope) -> Refusal:
        has_key = any(_sent_keys(scope))
        message = "The API key is not one of this server's." if has_key else _MISSING
        return Refusal(401, message, "authentication_error", "invalid_api_key", _CHALLENGE)


def _sent_keys(scope: Scope) -> Iterator[str]:
    for value in header_values(scope, "authorization"):
        scheme, _, key = value.strip().partition(" ")
        if scheme.lower() == "bearer":
            yield key.strip()
    yield from (value.strip() for value in header_values(scope, "x-api-key"))


def _digest(key: bytes) -> str:
    return hashlib.sha256(key).hexdigest()
