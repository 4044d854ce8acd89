"""What the tests of servers share: a question, small settings, and a run of both against a Behaviour."""

from __future__ import annotations

from tests.core.rsa.faulty_server import served
from zaya_core.rsa import RsaParams, solve
from zaya_core.rsa.endpoint import EndpointGenerator
from zaya_core.sampling.params import SamplingParams

QUESTION = [{"role": "user", "content": "What is 1 + 2?"}]
PARAMS = RsaParams(candidates=3, rounds=1, subset=2, think=50, tail=2, answer=7)
ONE = RsaParams(candidates=1, rounds=0, think=50, tail=2, answer=7)
SAMPLING = SamplingParams(top_p=1.0, min_p=0.25, seed=4)


def run(
    behaviour,
    tokenizer,
    params=PARAMS,
    path="/v1",
    context=4096,
    on_event=lambda event: None,
    from_start=False,
    **settings,
):
    """The result, and the generator; `behaviour.seen` holds the requests of the run alone.

    Faults begin with the run; with from_start, with the requests that find the server out.
    """
    fault = behaviour.fault
    if not from_start:
        behaviour.fault = lambda number: None
    with served(behaviour, path) as url:
        generator = EndpointGenerator(url, tokenizer, context, **{"parallel": 2, **settings})
        behaviour.seen.clear()
        behaviour.fault = fault
        return solve(generator, QUESTION, params, SAMPLING, on_event=on_event), generator


class VirtualTime:
    """A clock that only pauses move. State: seconds, and the pauses that were asked for."""

    def __init__(self):
        self.now = 0.0
        self.pauses: list[float] = []

    def __call__(self):
        return self.now

    def wait(self, event, seconds):
        self.pauses.append(seconds)
        self.now += seconds
        return event.is_set()

    def settings(self):
        return {"clock": self, "wait": self.wait, "parallel": 1}
