"""How far a run is, for those who read its stream: a comment for all, and a chunk for who asked for it."""

from __future__ import annotations

from typing import Any

from zaya_cli.serve.mailbox import Notice
from zaya_cli.serve.protocol.json_text import json_bytes
from zaya_cli.serve.rsa.ask import RsaChat
from zaya_cli.serve.rsa.summary import candidate_json
from zaya_core.rsa.rollouts import RolloutEvent, RolloutFinished, RolloutStarted


def notice_of(event: RolloutEvent, asked: RsaChat) -> Notice | None:
    """What a stream says of a rollout that begins or has ended. Clients skip comments, and may read a first choice of
    every chunk."""
    told = _told(event)
    if told is None or not asked.chat.telling.is_stream:
        return None
    params = asked.solver.params
    comment = (
        f": rsa stage {told['stage'] + 1}/{params.stages}, candidate {told['candidate'] + 1}/"
        f"{params.width(told['stage'])}: {told['state']}, {told['tokens']} tokens\n\n"
    )
    return Notice(comment.encode() + (_chunk(told, asked) if asked.has_progress else b""))


def _told(event: RolloutEvent) -> dict[str, Any] | None:
    if isinstance(event, RolloutStarted):
        return {"stage": event.stage, "candidate": event.candidate, "state": "running", "tokens": 0, "answer": None}
    if isinstance(event, RolloutFinished):
        return candidate_json(event.rollout)
    return None


def _chunk(told: dict[str, Any], asked: RsaChat) -> bytes:
    chat = asked.chat
    chunk = {**chat.telling.frame(chat.job.id, "chat.completion.chunk"), "choices": [], "rsa_progress": told}
    return b"data: " + json_bytes(chunk) + b"\n\n"
