"""How well a model foresees a text, and where its routers send the tokens of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F

from zaya_core.measure.checkup.finding import Finding, State
from zaya_core.measure.checkup.golden import Known
from zaya_core.measure.checkup.text import Reading
from zaya_core.measure.choices import ChoiceRecorder
from zaya_core.model.model import ZayaModel

_CHUNK = 64  # tokens; their logits are 67 MB with ZAYA's vocabulary
_LEAST_TOKENS = 64  # from which it means something that one expert has got all
_USUAL = (60.0, 150.0)  # of plain English: up to which a model reads it, and from which it does not
_MOST_OF_A_LAYER = 0.8  # of the tokens of a text that one expert gets


@dataclass(frozen=True)
class TextRead:
    """What reading has shown. loss: the mean of -log p, in nats, of `scored` tokens. counts: (L, E + 1) choices, the
    last those of the skip class. is_finite: all logits."""

    loss: float
    scored: int
    counts: torch.Tensor
    is_finite: bool

    @property
    def perplexity(self) -> float:
        return math.exp(min(self.loss, 700.0))


def read_text(
    model: ZayaModel, texts: Sequence[Reading], on_progress: Callable[[int, int], None] = lambda done, total: None
) -> TextRead:
    """Read all texts from their beginnings, in chunks. on_progress: (tokens done, of how many)."""
    layers, classes = model.config.num_hidden_layers, model.config.num_experts + 1
    recorder = ChoiceRecorder(model.steps)
    watched = replace(model, steps=recorder)
    total, scored, done, is_finite = 0.0, 0, 0, True
    tokens = sum(len(text.ids) for text in texts)
    for text in texts:
        cache = watched.new_cache()
        for start in range(0, len(text.ids), _CHUNK):
            ids = torch.tensor(text.ids[start : start + _CHUNK])
            logits = watched(ids[None], cache, is_prompt=True)[0]
            is_finite &= bool(torch.isfinite(logits).all())
            following = text.ids[start + 1 : start + _CHUNK + 1]
            skipped = max(0, text.first - 1 - start)  # tokens of the question, which nobody can foresee
            if len(following) > skipped:
                targets = torch.tensor(following[skipped:], device=logits.device)
                total += float(F.cross_entropy(logits[skipped : len(following)].float(), targets, reduction="sum"))
                scored += len(targets)
            on_progress(done := done + len(ids), tokens)
    counts = torch.zeros(layers, classes, dtype=torch.int64)
    for at, choice in enumerate(recorder.choices):
        counts[at % layers] += torch.bincount(choice.cpu().flatten(), minlength=classes)
    return TextRead(total / max(scored, 1), scored, counts, is_finite)


def judge_text(read: TextRead, what: str, vocab_size: int, known: Known) -> Iterator[Finding]:
    """what: kind of text."""
    if not read.is_finite:
        yield Finding("text", f"no perplexity: some logits of {what} are not finite", "problem")
        return
    golden = known.judge
    healthy, broken = _USUAL if golden is None else golden.perplexity
    text = f"perplexity {_shown(read.perplexity)} over {read.scored:,} tokens of {what}"
    if read.perplexity >= vocab_size / 2:
        text += f", no better than chance ({vocab_size:,}): random or damaged weights, or another model's tokenizer"
        yield Finding("text", text, "problem")
    elif read.perplexity <= healthy:
        yield Finding("text", f"{text} (healthy: up to {healthy:g})")
    elif golden is None:
        yield Finding("text", f"{text}; one that reads it has {healthy:g} or less", "note")
    else:
        state: State = "problem" if read.perplexity > broken else "note"
        yield Finding("text", f"{text}; {healthy:g} or less is healthy: something is damaged", state)


def _shown(perplexity: float) -> str:
    return f"{perplexity:,.0f}" if 1000 <= perplexity < 1e9 else f"{perplexity:.4g}"


def judge_routers(read: TextRead, known: Known) -> Finding:
    """Whether tokens spread over the experts, and none are skipped where none should be."""
    experts = read.counts[:, :-1]
    tokens, used = int(read.counts[0].sum()), (experts > 0).sum(1)
    shares = experts.max(1).values / max(tokens, 1)
    layer, largest = int(shares.argmax()), float(shares.max())
    spread = f"{float(used.float().mean()):.1f} of {experts.shape[1]} experts a layer (least {int(used.min())})"
    skipped = int(read.counts[:, -1].sum()) / max(int(read.counts.sum()), 1)
    text = f"{spread}, largest share {largest:.0%} (layer {layer}), " + (
        f"{skipped:.1%} skip" if skipped else "no skip"
    )
    if tokens >= _LEAST_TOKENS and largest == 1.0:
        return Finding("routers", f"{text}: a router that sends all to one expert is damaged", "problem")
    if skipped and known.judge is not None:
        return Finding("routers", f"{text}: none does in {known.judge.name}", "note")
    if tokens >= _LEAST_TOKENS and largest > _MOST_OF_A_LAYER:
        return Finding("routers", f"{text}, which is much for one expert", "note")
    return Finding("routers", text)
