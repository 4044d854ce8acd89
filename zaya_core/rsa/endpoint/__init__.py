"""Rollouts by a server that speaks OpenAI's protocol (vLLM, SGLang, llama.cpp, `transformers serve`).

Best is `/v1/completions` with the prompt as ids: the thinking is then asked for up to its budget, closed here, and the
answer asked for in a second request. Next best is the same with the prompt as text, if the server makes as many tokens
of it as we do. What is left are chat completions, where nothing can be closed. Every request streams: long silent ones
die in gateways, and of a stream what came is kept.

    address      the URLs that a person may have meant
    models       which of the server's models is asked, and its context there
    dialect      the fields that a server understands
    server       address, model and dialect found out by requests of one token
    client       one request by the `openai` package; its errors as faults
    faults       what a server does wrong, and which of it another attempt may heal
    repetition   how often, and after which pause, a request is sent again
    events       server-sent events, however they are cut
    reply        the text and figures of one answer, put together from its chunks
    context      a server's limit in the words of its error
    conversation one rollout: its requests, continued where a connection broke
    watch        what a rollout has so far, and since when nothing came
    generator    many rollouts at once
"""

from __future__ import annotations

from zaya_core.rsa.endpoint.generator import EndpointGenerator

__all__ = ["EndpointGenerator"]
