"""One request to a server by the `openai` package, with its errors as faults."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Generator, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

from zaya_core.errors import UsageError
from zaya_core.proxies import by_way_of, route_to
from zaya_core.redaction import public_url
from zaya_core.rsa.endpoint.address import base_of, is_trusted
from zaya_core.rsa.endpoint.events import read_events
from zaya_core.rsa.endpoint.faults import (
    BrokenStream,
    Malformed,
    Redirected,
    ServerFault,
    StatusError,
    Unreachable,
    one_line,
)
from zaya_core.rsa.endpoint.reply import Reply
from zaya_core.rsa.endpoint.reply_builder import Part, ReplyBuilder

if TYPE_CHECKING:
    import httpx2

_CONNECT_SECONDS = 20.0
_LISTING_SECONDS = 60.0


class Listener(Protocol):
    """Who is told of what arrives; may raise to end the request."""

    def byte(self) -> None: ...

    def text(self, part: Part, text: str) -> None: ...


class Client:
    """Requests to one base URL, and to no other server: keys and prompts are for the one that a person named.

    Repeats nothing: who asks knows what of a request is left to be done.
    """

    def __init__(self, base: str, silence: float):
        """silence: seconds without a byte after which a request is given up.

        Raises: UsageError without the `openai` package; NetworkError for a proxy that cannot be used.
        """
        try:
            import openai
        except ImportError:
            raise UsageError("--endpoint needs the openai package: type `pip install openai`.") from None
        import httpx2

        self.base = base
        self._silence = silence
        self.where = public_url(base)
        self._client = openai.OpenAI(
            base_url=base,
            api_key=os.environ.get("OPENAI_API_KEY") or "none",
            max_retries=0,
            timeout=httpx2.Timeout(silence, connect=min(silence, _CONNECT_SECONDS)),
            http_client=openai.DefaultHttpxClient(
                **route_to(base).client_settings(), event_hooks={"request": [self._refuse_strangers]}
            ),
        )

    def models(self) -> tuple[str, Any]:
        """The answer of `/models`, and the base URL that it came from after redirects. Raises ServerFault."""
        import httpx2

        with self._faults():
            client = self._client.with_options(timeout=min(self._silence, _LISTING_SECONDS))
            response = client.get("/models", cast_to=httpx2.Response)
            try:
                url = response.url.copy_with(userinfo=httpx2.URL(self.base).userinfo)  # a redirect names no login
                return base_of(str(url)), json.loads(response.content)
            except (ValueError, RecursionError):
                raise Malformed("no JSON") from None

    def ask(self, path: str, fields: Mapping[str, Any], listener: Listener) -> Reply:
        """Send a request and read its stream. Far beyond its `max_tokens` it is cut: some servers never end.

        Raises: ServerFault, also for an error in the stream, with what came before it; and what the listener raises.
        """
        builder = ReplyBuilder(fields["max_tokens"])
        where = f"{self.where}, model {fields.get('model')},"
        try:
            with self._faults(where), contextlib.closing(self._chunks(where, path, fields, listener)) as chunks:
                for chunk in chunks:
                    for part, text in builder.add(chunk):
                        listener.text(part, text)
                    if builder.is_beyond:
                        break
                return builder.reply()
        except ServerFault as fault:
            fault.partial = builder.partial()
            raise

    def _chunks(
        self, where: str, path: str, fields: Mapping[str, Any], listener: Listener
    ) -> Generator[dict[str, Any] | None, None, None]:
        """The JSON objects of a streamed answer, None for `[DONE]`."""
        import openai

        # The package's own reading of events stops at bytes that are no UTF-8 and at pages that are no events.
        stream = self._client.post(
            path, body=dict(fields), cast_to=object, stream=True, stream_cls=openai.Stream[object]
        )
        with contextlib.closing(stream):
            for value in read_events(_noted(stream.response.iter_bytes(), listener.byte)):
                if value and value.get("error"):
                    raise StatusError(where, _status_of(value["error"]), value)
                yield value

    def _refuse_strangers(self, request: httpx2.Request) -> None:
        """Asked before each request, also a redirected one, from which the package would drop one header of several."""
        if not is_trusted(str(request.url), self.base):
            to = one_line(public_url(base_of(str(request.url))))
            raise Redirected(f"{self.where} redirects to {to}, another server: give that one if it is meant.")

    @contextlib.contextmanager
    def _faults(self, where: str = "") -> Iterator[None]:
        import httpx2
        import openai

        where = where or self.where
        try:
            yield
        except openai.APIStatusError as error:
            raise StatusError(where, error.status_code, error.body, error.response.headers) from None
        except openai.APIError as error:
            if isinstance(error.__cause__, Redirected):
                raise error.__cause__ from None
            self._raise_lost(where, error.__cause__ or error)
        except (httpx2.HTTPError, httpx2.StreamError, httpx2.InvalidURL, OSError) as error:
            self._raise_lost(where, error)
        except Malformed as error:
            raise Malformed(f"{where} answers with what is not the OpenAI protocol ({one_line(error)}).") from None
        except BrokenStream as error:
            raise BrokenStream(f"{where} ended its answer too early ({one_line(error)}).") from None

    def _raise_lost(self, where: str, error: BaseException) -> NoReturn:
        import httpx2

        final = (httpx2.TooManyRedirects, httpx2.UnsupportedProtocol, httpx2.LocalProtocolError, httpx2.InvalidURL)
        kind: type[ServerFault] = Unreachable if isinstance(error, final) else BrokenStream
        reason = one_line(error) or type(error).__name__
        raise kind(f"{where} does not answer{by_way_of(self.base)} ({reason}).") from None


def _noted(chunks: Iterator[bytes], on_byte: Callable[[], None]) -> Iterator[bytes]:
    for chunk in chunks:
        on_byte()
        yield chunk


def _status_of(error: Any) -> int:
    """The status that an error object in a stream names; 500 where it names none."""
    code = error.get("code", error.get("status")) if isinstance(error, Mapping) else None
    if isinstance(code, str) and code.isdecimal() and len(code) < 4:
        code = int(code)
    if isinstance(code, int) and 400 <= code < 600:
        return code
    return 400 if isinstance(error, Mapping) and "context_length" in str(code) else 500
