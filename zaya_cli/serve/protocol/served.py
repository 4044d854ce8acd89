"""What is served, as far as requests are checked against it and answers name it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from zaya_cli.runtime import Runtime
from zaya_cli.serve.protocol.errors import ApiError, too_long
from zaya_cli.serve.settings import ServeSettings
from zaya_core.cache.arrangement import BLOCK
from zaya_core.engine.generation_config import sampling_defaults
from zaya_core.engine.request import Request, checked
from zaya_core.errors import PromptTooLongError
from zaya_core.sampling.params import SamplingParams
from zaya_core.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class Served:
    """One model. context: most tokens of prompt and answer that there is room for. fingerprint: of what computes it."""

    name: str
    tokenizer: Tokenizer
    vocab_size: int
    context: int
    rows: int
    defaults: SamplingParams
    is_strict: bool
    fingerprint: str
    created: int = field(default_factory=lambda: int(time.time()))

    @classmethod
    def of(cls, runtime: Runtime, settings: ServeSettings) -> Served:
        """What a runtime serves."""
        engine = runtime.engine
        model = engine.model
        return cls(
            name=runtime.name,
            tokenizer=engine.tokenizer,
            vocab_size=model.config.vocab_size,
            context=int(min(engine.context, engine.states.pool.capacity * BLOCK)),
            rows=min(settings.rows, engine.max_rows),
            defaults=sampling_defaults(runtime.folder),
            is_strict=settings.strict_model,
            fingerprint=f"zaya-{model.steps.name}",
        )

    def expect_name(self, model: str | None) -> None:
        """Any name is this model's, unless they are strict. Raises ApiError."""
        if self.is_strict and model is not None and model != self.name:
            message = f"The model {model[:80]!r} is not served here; {self.name} is."
            raise ApiError(404, message, param="model", code="model_not_found")

    def expect_room(self, request: Request, param: str) -> None:
        """Raises ApiError for what the Engine would refuse. param: the field that the prompt came in."""
        try:
            checked(request, self.vocab_size, self.context)
        except PromptTooLongError:
            raise too_long(len(request.ids), self.context, param) from None
