"""Train the bundled model.

    python -m demo.train --output build/demo

Checkpoints go to OUTPUT/last.pt every few minutes, figures to OUTPUT/log.jsonl, the tokenizer, which is made first, to
OUTPUT/tokenizer.json; run again to go on from the checkpoint.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import Tensor
from transformers import ZayaForCausalLM

from demo.batches import Batch, collate, encode, training_batches
from demo.examples import Example, aggregation_example, render, thought_then_answer
from demo.forward import TrainingForward
from demo.model import build_model
from demo.muon import Muon
from demo.problems import held_out, trace
from demo.tokenizer import PAD, tokenizer_of

WARMUP_STEPS = 60
LEARNING_RATE = 3e-3
MATRIX_LEARNING_RATE = 6e-3
ROUTER_LEARNING_RATE = 1e-3
BALANCE_RATE = 2e-3
BALANCE_LOSS = 0.01
SKIP_LOSS = 0.1
SECONDS_BETWEEN_CHECKPOINTS = 120
STEPS_BETWEEN_TESTS = 100
AVERAGING = 0.995  # of the running mean of the weights, which is what is tested and exported


class Stage(NamedTuple):
    """Steps with one course of the learning rates: held at `peak`, then falling to zero from `fall_at` (0 to 1) on.

    From `aggregation_at` on, `aggregation` is the share of aggregation examples: not from the start, because they are
    several times as long.
    """

    steps: int
    peak: float
    fall_at: float
    aggregation_at: float
    aggregation: float


# The first teaches arithmetic; the others, with more aggregation examples than others, to read attempts reliably.
STAGES = (
    Stage(1800, 1.0, 0.5, 0.45, 0.3),
    Stage(1600, 0.6, 0.4, 0.0, 0.6),
    Stage(2800, 0.6, 0.3, 0.0, 0.55),
    Stage(1500, 0.6, 0.35, 0.0, 0.65),
    Stage(1500, 0.6, 0.35, 0.0, 0.65),
)


@dataclass
class Schedule:
    """How far the run is, and what follows from that."""

    step: int = 0
    seconds: float = 0.0

    @property
    def is_done(self) -> bool:
        return self.step >= sum(stage.steps for stage in STAGES)

    @property
    def _stage(self) -> tuple[Stage, float]:
        """The stage and the share of it that is done."""
        before = 0
        for stage in STAGES:
            if self.step < before + stage.steps:
                return stage, (self.step - before) / stage.steps
            before += stage.steps
        return STAGES[-1], 1.0

    def warmth(self) -> float:
        """The factor of all learning rates, rising over the first steps of the run."""
        stage, progress = self._stage
        return min((self.step + 1) / WARMUP_STEPS, stage.peak * min(1.0, (1 - progress) / (1 - stage.fall_at)))

    def aggregation_share(self) -> float:
        stage, progress = self._stage
        return stage.aggregation if progress >= stage.aggregation_at else 0.0


class Optimizers:
    """Muon for the matrices of attention and experts, AdamW for the rest, gently for the routers."""

    def __init__(self, model: ZayaForCausalLM) -> None:
        named = dict(model.named_parameters())
        routers = [p for name, p in named.items() if ".gate." in name]
        inside = [name for name in named if name.startswith("model.layers") and ".gate." not in name]
        matrices = [named[name] for name in inside if named[name].dim() > 1 and "conv_qk" not in name]
        taken = {id(p) for p in [*routers, *matrices]}
        others = [p for p in named.values() if id(p) not in taken]
        groups = [{"params": others, "lr": LEARNING_RATE}, {"params": routers, "lr": ROUTER_LEARNING_RATE}]
        muon = Muon(matrices, lr=MATRIX_LEARNING_RATE, weight_decay=0.01)
        adamw = torch.optim.AdamW(groups, betas=(0.9, 0.98), weight_decay=0.0, fused=True)
        self.members: tuple[torch.optim.Optimizer, ...] = (muon, adamw)
        self.rates = [[group["lr"] for group in member.param_groups] for member in self.members]

    def step(self, warmth: float) -> None:
        for member, rates in zip(self.members, self.rates, strict=True):
            for group, rate in zip(member.param_groups, rates, strict=True):
                group["lr"] = rate * warmth
            member.step()
            member.zero_grad()

    def state_dicts(self) -> list[dict[str, Any]]:
        return [member.state_dict() for member in self.members]

    def load_state_dicts(self, states: list[dict[str, Any]]) -> None:
        for member, state in zip(self.members, states, strict=True):
            member.load_state_dict(state)


class Routing(NamedTuple):
    """Each layer's choices (B, T) and logits (B, T, E + 1)."""

    choices: list[Tensor]
    logits: list[Tensor]


def balance_loss(routing: Routing, is_text: Tensor) -> Tensor:
    """Switch Transformer's auxiliary loss, summed over the layers: one where the experts are used evenly.

    The biases alone would have to outgrow a router that has made up its mind; this keeps its softmax from saturating.
    Among the experts alone: with the skip class counted, which gets no tokens, the cheapest way to balance is to give
    it all the probability, and with it the experts' weights.
    """
    total = torch.zeros((), device=is_text.device)
    for chosen, logits in zip(routing.choices, routing.logits, strict=True):
        among_experts = logits[is_text][:, :-1].softmax(-1).mean(0)
        shares = torch.bincount(chosen[is_text], minlength=logits.shape[-1])[:-1] / is_text.sum()
        total = total + shares.numel() * (shares * among_experts).sum()
    return total


def skip_loss(routing: Routing, is_text: Tensor) -> Tensor:
    """The skip class's mean probability, summed over the layers.

    It never wins, so what it gets is lost to the chosen expert's weight; a first layer left alone gave it nearly all,
    and then the balancing biases, not the router, chose among the experts.
    """
    return torch.stack([logits[is_text].softmax(-1)[:, -1].mean() for logits in routing.logits]).sum()


@torch.no_grad()
def balance(model: ZayaForCausalLM, choices: list[Tensor], is_text: Tensor, rate: float) -> None:
    """Nudge each layer's balancing biases against the loads of its experts, without a gradient.

    The biases keep a mean of zero, so one of them is never below zero; with the skip class left at -1 it cannot win.
    """
    for layer, chosen in zip(model.model.layers, choices, strict=True):
        biases = layer.mlp.gate.balancing_biases[:-1]
        loads = torch.bincount(chosen[is_text], minlength=biases.numel() + 1)[:-1].float()
        biases += rate * (1 - loads / loads.mean()).clamp(-1, 1)
        biases -= biases.mean()


@torch.no_grad()
def average_(averaged: ZayaForCausalLM, model: ZayaForCausalLM, step: int) -> None:
    """Move the running mean of parameters and balancing biases towards the model, at first faster."""
    targets, sources = ([*m.parameters(), *m.buffers()] for m in (averaged, model))
    for target, source in zip(targets, sources, strict=True):
        target.lerp_(source, 1 - min(AVERAGING, (step + 1) / (step + 10)))


def completion_loss(forward: TrainingForward, batch: Batch) -> tuple[Tensor, Tensor, Routing]:
    """Loss of each completion token, the logits' argmax hits, and the routing."""
    hidden, *routing = forward(batch.ids)
    is_target = batch.is_completion[:, 1:]
    logits = F.linear(hidden[:, :-1][is_target], forward.model.lm_head.weight)
    targets = batch.ids[:, 1:][is_target]
    losses = F.cross_entropy(logits, targets, reduction="none")
    return losses, logits.detach().argmax(-1) == targets, Routing(*routing)


def on_device(batch: Batch, device: torch.device) -> Batch:
    return Batch(batch.ids.to(device), batch.is_completion.to(device))


def train_step(forward: TrainingForward, optimizers: Optimizers, batch: Batch, schedule: Schedule) -> float:
    losses, _, routing = completion_loss(forward, batch)
    loss, is_text = losses.mean(), batch.ids != PAD
    auxiliary = BALANCE_LOSS * balance_loss(routing, is_text) + SKIP_LOSS * skip_loss(routing, is_text)
    (loss + auxiliary).backward()
    torch.nn.utils.clip_grad_norm_(forward.model.parameters(), 1.0)
    optimizers.step(schedule.warmth())
    balance(forward.model, routing.choices, is_text, BALANCE_RATE * schedule.warmth())
    return loss.item()


# --- held-out measures while training ---------------------------------------------------------------------------------


def held_out_batches(tokenizer: Tokenizer, count: int = 96) -> dict[str, Batch]:
    """Held-out problems, asked directly and with made-up attempts."""
    problems, rng = held_out(count), random.Random("test")
    direct = [Example(render(p.question), thought_then_answer(trace(p.expression))) for p in problems]
    stream = iter(problems)
    aggregated = [aggregation_example(rng, stream) for _ in range(count // 2)]
    batches = {}
    for name, examples in (("direct", direct), ("aggregation", aggregated)):
        rows = encode(tokenizer, examples)
        batches[name] = collate(rows, max(len(p) + len(c) for p, c in rows))
    return batches


@torch.no_grad()
def measure(forward: TrainingForward, batches: dict[str, Batch]) -> dict[str, float]:
    """Per task: share of completions whose every token is the likeliest one, and their mean probability when sampled.

    Both are lower bounds of greedy and sampled accuracy, which also accept other ways to the same answer.
    """
    figures = {}
    for name, batch in batches.items():
        losses, hits, routing = completion_loss(forward, batch)
        rows = batch.is_completion[:, 1:].nonzero()[:, 0]
        count = batch.ids.shape[0]
        nothing = losses.new_zeros(count)
        misses = nothing.index_add(0, rows, (~hits).float())
        surprise = nothing.index_add(0, rows, losses)
        figures[f"{name}_greedy"] = (misses == 0).float().mean().item()
        figures[f"{name}_sampled"] = (-surprise).exp().mean().item()
        figures[f"{name}_loss"] = losses.mean().item()
        loads = expert_loads(routing, batch.ids != PAD)
        figures |= {f"{name}_least_used": loads.min().item(), f"{name}_most_used": loads.max().item()}
    return figures


def expert_loads(routing: Routing, is_text: Tensor) -> Tensor:
    """Share of the tokens that each expert of each layer gets, (L, E)."""
    counts = [torch.bincount(chosen[is_text], minlength=lo.shape[-1])[:-1] for chosen, lo in zip(*routing, strict=True)]
    return torch.stack(counts) / is_text.sum()


# --- the run ----------------------------------------------------------------------------------------------------------


def save(path: Path, state: dict[str, Any]) -> None:
    """Write beside and rename, so that a checkpoint is whole whenever the run is stopped."""
    torch.save(state, path.with_suffix(".tmp"))
    path.with_suffix(".tmp").replace(path)


class Run:
    """A training run that can be stopped at any time and taken up again."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.output: Path = arguments.output
        self.output.mkdir(parents=True, exist_ok=True)
        self.seed: int = arguments.seed
        self.schedule = Schedule()
        self.tokenizer = tokenizer_of(self.output)
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.model = build_model(self.seed).to(self.device)
        self.averaged = build_model(self.seed).to(self.device)
        self.optimizers = Optimizers(self.model)
        self.pool = 0
        if (self.output / "last.pt").exists():
            self.resume()
        self.forward = TrainingForward(self.model, torch.float32, not arguments.no_compile)
        self.averaged_forward = TrainingForward(self.averaged, torch.float32, False)

    def resume(self) -> None:
        state = torch.load(self.output / "last.pt", map_location=self.device, weights_only=True)
        self.model.load_state_dict(state["model"])
        self.averaged.load_state_dict(state["averaged"])
        self.optimizers.load_state_dicts(state["optimizers"])
        self.schedule.step, self.schedule.seconds, self.pool = state["step"], state["seconds"], state["pool"] + 1

    def checkpoint(self) -> None:
        state = {"model": self.model.state_dict(), "averaged": self.averaged.state_dict()}
        state |= {"optimizers": self.optimizers.state_dicts()}
        state |= {"step": self.schedule.step, "seconds": self.schedule.seconds, "pool": self.pool}
        save(self.output / "last.pt", state)

    def log(self, **figures: float) -> None:
        line = {"step": self.schedule.step, "minutes": round(self.schedule.seconds / 60, 2), **figures}
        text = json.dumps({key: round(value, 5) for key, value in line.items()})
        print(text, flush=True)
        with (self.output / "log.jsonl").open("a", encoding="utf-8") as file:
            file.write(text + "\n")

    def __call__(self) -> None:
        schedule = self.schedule
        tests = {name: on_device(batch, self.device) for name, batch in held_out_batches(self.tokenizer).items()}
        batches = training_batches(self.tokenizer, self.seed, schedule.aggregation_share, self.pool)
        begin = time.monotonic() - schedule.seconds
        saved, losses, tokens, tested = schedule.seconds, [], 0, schedule.seconds
        for self.pool, batch in batches:
            losses.append(train_step(self.forward, self.optimizers, on_device(batch, self.device), schedule))
            average_(self.averaged, self.model, schedule.step)
            tokens += batch.ids.numel()
            schedule.step += 1
            schedule.seconds = time.monotonic() - begin
            if schedule.step % STEPS_BETWEEN_TESTS == 0 or schedule.is_done:
                speed = tokens / (schedule.seconds - tested)
                figures = measure(self.averaged_forward, tests)
                self.log(loss=sum(losses) / len(losses), rate=schedule.warmth(), tokens_per_s=speed, **figures)
                losses, tokens, tested = [], 0, schedule.seconds
            if schedule.is_done or schedule.seconds - saved > SECONDS_BETWEEN_CHECKPOINTS:
                self.checkpoint()
                saved = schedule.seconds
            if schedule.is_done:
                return


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Train the bundled model.")
    parser.add_argument("--output", type=Path, required=True, help="folder of the checkpoint and the log")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, help="threads of torch; default: all cores")
    parser.add_argument("--no-compile", action="store_true", help="do without torch.compile (about 1.4 times slower)")
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    # One compiled variant for each width, for the first layer and for the others: more than torch's limit of eight.
    torch._dynamo.config.recompile_limit = 64
    Run(arguments)()


if __name__ == "__main__":
    main()
