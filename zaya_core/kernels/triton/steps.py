"""The steps by kernels for cards: a new token a row is a recorded program, a prompt is torch's with their products."""

from __future__ import annotations

from collections.abc import Sequence
from weakref import WeakKeyDictionary

from torch import Tensor

from quant.matrix import no_row
from zaya_core.cache.arrangement import BLOCK
from zaya_core.cache.slots import SlotStates
from zaya_core.kernels.reference import ReferenceSteps
from zaya_core.kernels.triton.card_weights import CardWeights
from zaya_core.kernels.triton.decode import DecodeSteps
from zaya_core.kernels.triton.paged_cache import LayerKV
from zaya_core.kernels.triton.prompt_attention import prompt_attention
from zaya_core.kernels.triton.sampling.rows import TritonSampling
from zaya_core.kernels.triton.step_inputs import RowInput
from zaya_core.model.forward_pass import ForwardPass
from zaya_core.model.steps import Qkv
from zaya_core.model.weights import ModelWeights
from zaya_core.sampling.draw import Drawn, RowDraw
from zaya_core.sampling.reference import ReferenceSampling


class TritonSteps:
    """See `zaya_core.model.steps.Steps`.

    Activations of a step of one token stay in float32 between the products (the reference rounds them to the model's
    dtype); from two rows on products round their input to bfloat16, as attention does its queries and weights.
    """

    def __init__(self, weights: ModelWeights, reason: str, graphs: bool):
        """graphs: whether programs are captured. Raises Declined, with the reason, for weights of other forms."""
        self.name, self._reason = "triton", reason
        read = CardWeights(weights)
        self._prompts = ReferenceSteps(read, ReferenceSampling(), self.name, reason)
        self._model, self._graphs = read.on_card(), graphs
        self._longest = BLOCK * -(-weights.config.max_position_embeddings // BLOCK)
        self._sampling = TritonSampling()
        self._steps: WeakKeyDictionary[SlotStates, DecodeSteps] = WeakKeyDictionary()

    @property
    def reason(self) -> str:
        """See `Steps`. Says also where graphs that were wanted are not used."""
        why = next((why for steps in self._steps.values() if (why := steps.why_no_graph) is not None), None)
        return self._reason if why is None else f"{self._reason}; without graphs after all, {why}"

    def embed(self, ids: Tensor) -> Tensor:
        """See `Steps`."""
        return self._prompts.embed(ids)

    def project(self, layer: int, residual: Tensor, pass_: ForwardPass) -> Qkv:
        """See `Steps`."""
        return self._prompts.project(layer, residual, pass_)

    def attend(self, layer: int, qkv: Qkv, pass_: ForwardPass) -> Tensor:
        """See `Steps`. Without a score that is written down, or a wait."""
        step = pass_.step
        step.store(layer, qkv.key, qkv.value)
        kv, window = LayerKV.of(step.cache.pool, layer), pass_.inputs(layer).window
        out = prompt_attention(qkv.query.contiguous(), kv, step.tables, step.ends, step.lengths, window)
        return out.flatten(2)

    def mix(
        self, layer: int, attended: Tensor, residual: Tensor, router_state: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """See `Steps`."""
        return self._prompts.mix(layer, attended, residual, router_state)

    def logits(self, residual: Tensor) -> Tensor:
        """See `Steps`."""
        return self._prompts.logits(residual)

    def decode(self, ids: Tensor, pass_: ForwardPass) -> tuple[Tensor, Tensor] | None:
        """See `Steps`. Raises IndexError for an id that is no row."""
        step, states = pass_.step, pass_.step.cache.states
        if step.columns != 1 or step.is_padded or step.num_keys > self._longest or not isinstance(states, SlotStates):
            return None
        numbers, vocabulary = ids[:, 0].tolist(), self._model.config.vocab_size
        if not 0 <= min(numbers) <= max(numbers) < vocabulary:
            raise no_row(ids, vocabulary)
        slots = step.cache.cca
        blocks = [table.blocks for table in step.cache.tables]
        rows = [*map(RowInput, numbers, step.past, slots.current, slots.spare, blocks)]
        steps = self._steps.get(states)
        if steps is None:
            steps = self._steps[states] = DecodeSteps(self._model, self._graphs)
        decoded = steps.run(states, rows)
        step.states_are_written()
        return decoded

    def draw(self, logits: Tensor, rows: Sequence[RowDraw]) -> list[Drawn | Exception]:
        """See `Steps`."""
        return self._sampling.draw(logits, rows)

    def states(self, max_rows: int | None = None, max_blocks: int | None = None) -> SlotStates:
        """See `Steps`."""
        return SlotStates(self._model.layout, self._prompts.empty_delayed, max_rows, max_blocks)

    def step_bytes(self, distinct_experts: float) -> float:
        """See `Steps`."""
        return self._prompts.step_bytes(distinct_experts)

    def host_step_bytes(self, distinct_experts: float) -> float:
        """See `Steps`."""
        return self._prompts.host_step_bytes(distinct_experts)
