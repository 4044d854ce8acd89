"""A generator that plays a script: no model, tokens are words."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from zaya_core.rsa.params import PromptSizes
from zaya_core.rsa.rollouts import Rollout, RolloutFinished, RolloutRequest, RolloutStarted
from zaya_core.sampling.params import RandomKey


def numbered(request: RolloutRequest) -> dict:
    """A thought of ten words that names its rollout, and an answer where one is wanted."""
    name = f"s{request.stage}c{request.candidate}"
    return {
        "thinking": " ".join(f"{name}w{word}" for word in range(10)),
        "answer": f"\\boxed{{{request.candidate % 2}}}" if request.answer else "",
    }


@dataclass
class Scripted:
    """script: request -> fields of its Rollout. shuffle: seed of the order in which they end; None: as submitted."""

    script: Callable[[RolloutRequest], dict] = numbered
    shuffle: int | None = None
    context: int = 10**6
    requests: list[RolloutRequest] = field(default_factory=list)
    waiting: list[RolloutRequest] = field(default_factory=list)
    stopped: bool = False

    def measure(self, question, aggregation):
        plain, longer = (sum(len(message["content"].split()) for message in one) for one in (question, aggregation))
        return PromptSizes(plain, longer, plain)

    def submit(self, request):
        self.requests.append(request)
        self.waiting.append(request)

    def advance(self):
        if not self.waiting:
            return []
        order = random.Random(f"{self.shuffle} {len(self.requests)} {len(self.waiting)}")
        at = 0 if self.shuffle is None else order.randrange(len(self.waiting))
        request = self.waiting.pop(at)
        if self.stopped:
            return [RolloutFinished(self._rollout(request, {"state": "stopped"}))]
        started = RolloutStarted(request.stage, request.candidate)
        return [started, RolloutFinished(self._rollout(request, self.script(request)))]

    def stop(self):
        self.stopped = True

    def _rollout(self, request, fields):
        words = fields.get("thinking", "").split()
        likelihood = -RandomKey(request.sampling.seed, request.stage, request.candidate).uniform(0)
        return Rollout(
            request.stage,
            request.candidate,
            request.subset,
            request.sampling.seed,
            **{
                "state": "done",
                "tail": " ".join(words[-request.tail :]),
                "completion_tokens": len(words),
                "mean_logprob": likelihood,
                **fields,
            },
        )
