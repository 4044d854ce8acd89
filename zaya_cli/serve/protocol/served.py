"""What is served, as far as requests are checked against it and answers name it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from zaya_cli.runtime import Runtime
from zaya_cli.serve.protocol.errors import ApiError, too_long
from zaya_cli.serve.settings import ServeSettings
from zaya_core.cache.arrangement import BLOCK
from zaya_core.engine.generation_config import sampling_defaults
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

    def expect_length(self, ids: Sequence[int], param: str, least_answer: int = 1) -> None:
        """Raises ApiError for a prompt that leaves no room for an answer. param: the field that it came in."""
        if len(ids) + least_answer > self.context:
            raise too_long(len(ids), self.context, param)
