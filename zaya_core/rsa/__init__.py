"""Markovian RSA: several attempts, then rounds in which each new attempt sees the ends of some earlier ones.

N candidates, C tails in an aggregation prompt, T aggregation rounds, hence T + 1 stages of generation and N * (T + 1)
rollouts; at most `think` tokens of thinking each, of which the last `tail`, or the answer, are passed on (ZAYA1-8B
technical report, IV-B1; RSA: arXiv 2509.26626). Nothing here imports torch before a local model is used.

    prompt     the wording of an aggregation prompt, by model; prompt_file: one of somebody's own
    params     N, C, T and the budgets; presets; what of it fits into a context
    rollouts   one attempt: what is asked of a generator and what comes back
    tails      what others are shown: the end of a thought, or an answer
    solver     which rollout may start when, with which tails
    selection  agreement between answers, and the choice
    saved      the state of a run in a file
    reading    a rollout as a request of the Engine, and what its events make of it
    local      the generator that runs the Engine; endpoint: the one that asks a server
"""

from __future__ import annotations

from zaya_core.rsa.params import PRESETS, RsaParams
from zaya_core.rsa.prompt import aggregation_prompt
from zaya_core.rsa.solver import RsaResult, solve

__all__ = ["PRESETS", "RsaParams", "RsaResult", "aggregation_prompt", "solve"]
