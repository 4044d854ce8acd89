"""One new token a row through the model as a program: a list of launches on tensors that stay where they are.

Rows are padded to 1, 2, 4, 8 or 16. A step writes keys, values and CCA's new state where nothing reads them yet, so
that it may be run again: so a graph is compared with the launches that it was made of before it is trusted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from quant.kernels.triton.choice import architecture
from quant.kernels.triton.few_rows import MOST_ROWS
from quant.kernels.triton.launch import Launch, power_of_two
from quant.kernels.triton.product import down, gate_up, product
from quant.kernels.triton.program import Program
from zaya_core.cache.arrangement import BLOCK
from zaya_core.cache.slots import SlotStates
from zaya_core.kernels.triton.angles import angles
from zaya_core.kernels.triton.attention_step import Parts, attention_shape, attention_step
from zaya_core.kernels.triton.card_weights import CardLayer, CardModel
from zaya_core.kernels.triton.cca import CCAState, cca
from zaya_core.kernels.triton.embedding import embedding
from zaya_core.kernels.triton.merge_norm import first_norm, merge_norm
from zaya_core.kernels.triton.paged_cache import LayerKV
from zaya_core.kernels.triton.router import router_choice, router_down
from zaya_core.kernels.triton.step_inputs import RowInput, StepInputs

_ALIGNED = (
    4  # choices: each layer's begin at a multiple of 16 bytes, or their kernels are compiled anew for other places
)


@dataclass(frozen=True)
class Buffers:
    """What launches of a step of B rows hand to each other, float32 (B, width) but for `choices` (L, B) int32.

    A step reads residual stream and router state in one buffer of a pair and writes them into the other.
    """

    residual: tuple[Tensor, Tensor]
    router_state: tuple[Tensor, Tensor]
    normed: Tensor
    branch: Tensor
    qkv: Tensor
    query: Tensor
    attended: Tensor
    own: Tensor
    scratch: Tensor
    weight: Tensor
    hidden: Tensor
    logits: Tensor
    choices: Tensor

    @classmethod
    def of(cls, model: CardModel, rows: int) -> Buffers:
        """New ones."""
        config, device = model.config, model.layout.device

        def floats(*shape: int) -> Tensor:
            return torch.zeros((rows, *shape), device=device)

        width, router = config.hidden_size, config.router_hidden_size
        queries = config.num_attention_heads * config.head_dim
        keys = config.num_key_value_heads * config.head_dim
        return cls(
            residual=(floats(width), floats(width)),
            router_state=(floats(router), floats(router)),
            normed=floats(width),
            branch=floats(width),
            qkv=floats(queries + 2 * keys),
            query=floats(queries),
            attended=floats(queries),
            own=floats(router),
            scratch=floats(3, router),
            weight=floats(),
            hidden=floats(config.moe_intermediate_size),
            logits=floats(config.vocab_size),
            choices=torch.zeros((config.num_hidden_layers, max(rows, _ALIGNED)), dtype=torch.int32, device=device)[
                :, :rows
            ],
        )

    def spoil(self) -> None:
        """Fill with what no step leaves there, so that a launch that is left out is noticed."""
        pairs = (*self.residual, *self.router_state)
        alone = self.normed, self.branch, self.qkv, self.query, self.attended, self.own, self.weight, self.hidden
        for tensor in (*pairs, *alone, self.scratch, self.logits):
            tensor.fill_(torch.nan)
        self.choices.zero_()


class DecodeStep:
    """A step of up to `rows` rows, a power of two up to 16, whose state is in `states` as it lies now.

    State: the program, and `why_no_graph`, where one was wanted and is not used.
    """

    def __init__(self, model: CardModel, states: SlotStates, rows: int, graphs: bool):
        device = model.layout.device
        blocks = -(-model.config.max_position_embeddings // BLOCK)
        self.inputs, self.buffers = StepInputs(rows, blocks, device), Buffers.of(model, rows)
        launches = StepLaunches(model, states, self.inputs, self.buffers)
        self.program = Program([*launches.all()], device)
        self._captures = graphs
        self.why_no_graph: str | None = None

    def run(self, rows: Sequence[RowInput]) -> tuple[Tensor, Tensor]:
        """Logits (b, 1, V) float32 and choices (L, b), copies, of the b rows."""
        self.inputs.upload(rows)
        self.program.run()
        if self._captures:
            self._captures = False  # the kernels are compiled now
            self._capture()
        return self.buffers.logits[: len(rows)].clone()[:, None], self.buffers.choices[:, : len(rows)].clone()

    def _capture(self) -> None:
        """A graph that cannot be recorded, or does not compute what its launches do, is not used."""
        expected = self.buffers.logits.clone()
        try:
            self.program.capture()
        except RuntimeError as error:  # the driver's; the launches themselves have just run
            self.why_no_graph = f"none could be recorded: {str(error).strip().splitlines()[0]}"
            return
        self.buffers.spoil()
        self.program.run()
        if not torch.equal(self.buffers.logits, expected):
            self.why_no_graph = "a replay computed something else than its launches"
            self.program.release()
            self.program.run()


class StepLaunches:
    """The launches of a step, in their order."""

    def __init__(self, model: CardModel, states: SlotStates, inputs: StepInputs, buffers: Buffers):
        self._model, self._states, self._inputs, self._buffers = model, states, inputs, buffers
        layout, config, rows = model.layout, model.config, inputs.rows
        self._angles = {
            kind: (torch.zeros(rows, len(one), device=layout.device), torch.zeros(rows, len(one), device=layout.device))
            for kind, one in model.frequencies.items()
        }
        self._shape = attention_shape(architecture(layout.device), rows, layout.kv_dtype)
        heads = config.num_attention_heads
        self._parts = Parts.empty(rows, heads, layout.head_dim, self._shape.splits, layout.device)

    def all(self) -> Iterator[Launch]:
        """From ids to logits."""
        model, inputs, buffers = self._model, self._inputs, self._buffers
        ends = model.embedding_bias, model.embedding_scale
        yield embedding(inputs.ids, inputs.positions, model.embed_tokens, *ends, buffers.residual[0])
        for kind, frequencies in model.frequencies.items():
            yield angles(inputs.positions, frequencies, *self._angles[kind])
        for number, layer in enumerate(model.layers):
            yield self._input_norm(number, layer)
            yield from self._attention(number, layer)
            yield from self._experts(number, layer)
        merge = model.layers[-1].post_mlp_residual_scale
        yield merge_norm(buffers.branch, buffers.residual[1], merge, model.norm, buffers.residual[0], buffers.normed)
        yield product(buffers.normed, model.lm_head, buffers.logits)

    def _input_norm(self, number: int, layer: CardLayer) -> Launch:
        """With the merge of the layer before."""
        buffers, norm = self._buffers, layer.input_layernorm
        if number == 0:
            return first_norm(buffers.residual[0], norm, buffers.normed)
        merge = self._model.layers[number - 1].post_mlp_residual_scale
        return merge_norm(buffers.branch, buffers.residual[1], merge, norm, buffers.residual[0], buffers.normed)

    def _attention(self, number: int, layer: CardLayer) -> Iterator[Launch]:
        inputs, buffers, states = self._inputs, self._buffers, self._states
        place = inputs.positions, inputs.table
        column = 0
        for matrix in layer.qkv:
            outputs = buffers.qkv[:, column : column + matrix.shape[0]]
            yield product(buffers.normed, matrix, outputs)
            column += matrix.shape[0]
        kv = LayerKV.of(states.pool, number)
        state = CCAState(states.tail[number], states.delayed[number], inputs.slot_in, inputs.slot_out)
        yield cca(buffers.qkv, layer.cca, self._angles[layer.kind], *place, state, kv, buffers.query)
        yield from attention_step(buffers.query, kv, *place, layer.window, self._parts, buffers.attended, self._shape)
        yield product(buffers.attended, layer.o_proj, buffers.branch)

    def _experts(self, number: int, layer: CardLayer) -> Iterator[Launch]:
        buffers = self._buffers
        choice, weight = buffers.choices[number], buffers.weight
        merge = layer.post_attention_residual_scale, layer.post_attention_layernorm
        written = buffers.residual[1], buffers.normed, buffers.own
        yield router_down(buffers.branch, buffers.residual[0], *merge, layer.router, *written)
        before = buffers.router_state[(number + 1) % 2] if number else None
        state = buffers.router_state[number % 2]
        chosen = state, buffers.scratch, choice, weight
        yield router_choice(buffers.own, before, layer.router, self._inputs.positions, *chosen)
        yield gate_up(buffers.normed, choice, layer.gate_up_proj, buffers.hidden)
        kept = buffers.normed if layer.skip_keeps_input else None
        yield down(buffers.hidden, choice, weight, layer.down_proj, buffers.branch, kept)


class DecodeSteps:
    """Steps of all numbers of rows whose state one owner has, made when first asked for, anew where the state moved."""

    def __init__(self, model: CardModel, graphs: bool):
        self._model, self._graphs = model, graphs
        self._at = (-1, -1)
        self._steps: dict[int, DecodeStep] = {}

    @property
    def why_no_graph(self) -> str | None:
        """Of the first step that does without the graph that was wanted; None where there is none."""
        return next((why for step in self._steps.values() if (why := step.why_no_graph) is not None), None)

    def run(self, states: SlotStates, rows: Sequence[RowInput]) -> tuple[Tensor, Tensor]:
        """As `DecodeStep.run`, of any number of rows."""
        at = states.pool.generation, states.generation
        if at != self._at:
            self._at, self._steps = at, {}
        parts = [rows[start : start + MOST_ROWS] for start in range(0, len(rows), MOST_ROWS)]
        outs = [self._step(states, power_of_two(len(part))).run(part) for part in parts]
        if len(outs) == 1:
            return outs[0]
        logits, choices = zip(*outs, strict=True)
        return torch.cat(logits), torch.cat(choices, dim=1)

    def _step(self, states: SlotStates, rows: int) -> DecodeStep:
        if rows not in self._steps:
            self._steps[rows] = DecodeStep(self._model, states, rows, self._graphs)
        return self._steps[rows]
