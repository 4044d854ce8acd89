"""What a run reports as it happens, beside the events of its rollouts."""

from __future__ import annotations

from dataclasses import dataclass

from zaya_core.rsa.params import PromptSizes, RsaParams
from zaya_core.rsa.rollouts import RolloutEvent
from zaya_core.rsa.selection import Choice


@dataclass(frozen=True)
class RunStarted:
    """The settings as they were asked for and as the context allows, and how many rollouts an earlier run left."""

    asked: RsaParams
    params: RsaParams
    restored: int
    sizes: PromptSizes
    context: int


@dataclass(frozen=True)
class BudgetsShrank:
    """The context turned out to be smaller, and with it the settings of what is still to come."""

    asked: RsaParams
    params: RsaParams
    sizes: PromptSizes
    context: int


@dataclass(frozen=True)
class StageFinished:
    """All rollouts of a stage have ended. `choice`: how far their answers agree, as far as there are any."""

    stage: int
    choice: Choice


RsaEvent = RunStarted | BudgetsShrank | RolloutEvent | StageFinished
