"""What the bundled model must compute, for `zaya doctor --model demo`: known ids, its healthy perplexity, its ranges.

python -m demo.golden                     # after demo.export; the float32 reference computes, in a few seconds
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch

from demo.evaluate import BUNDLED
from demo.problems import held_out, trace
from zaya_core.checkpoint.checkpoint import open_checkpoint
from zaya_core.checkpoint.folder import ModelFolder
from zaya_core.config.rope import FULL
from zaya_core.measure.checkup.distributions import kept
from zaya_core.measure.checkup.exact import exact_model
from zaya_core.measure.checkup.golden import Golden
from zaya_core.model.model import ZayaModel
from zaya_core.text.tokenizer import load_tokenizer

OUT = BUNDLED.parent / "golden-demo.json"
QUESTION = "What is (12+7)*3-40?"
KNOWN, GREEDY = 24, 16  # ids of its answer that are given, and that follow
LEAST_LEAD = 1.0  # logits that the likeliest id has before the next one, so that no format of weights turns them round
PROBLEMS = 6
PERPLEXITY = (1.01, 1.1)  # healthy up to, broken from: it is 1.001 in float32, and in int4
# Most KL, by bits of a weight: it is up to 0.00003, 0.0002 and 0.009; two experts of a layer swapped give 0.0004.
CLOSENESS = {"16": 0.0001, "8": 0.001, "4": 0.03}
SIZES = (
    "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "head_dim",
    "num_experts", "moe_intermediate_size", "router_hidden_size", "sliding_window",
)  # fmt: skip
SETTINGS = ("rms_norm_eps", "cca_time0", "cca_time1", "tie_word_embeddings")
TOKENS = ("<pad>", "<bos>", "<|im_start|>", "<|im_end|>", "<think>", "</think>", "<zyphra_tool_call>")
RANGED = ("self_attn.qk_norm.temp", "model.input_hidden_states_scale", "model.norm.weight", "balancing_biases")
TEXT = "What is 17 * 23?"


def greedy(model: ZayaModel, prompt: list[int], count: int) -> list[int]:
    """The likeliest ids. Raises ValueError where one is hardly ahead."""
    cache, answer = model.new_cache(), list[int]()
    logits = model(torch.tensor([prompt]), cache, last_only=True)
    while len(answer) < count:
        (first, second), (id_, _) = (one.tolist() for one in logits[0, -1].topk(2))
        if first - second < LEAST_LEAD:
            raise ValueError(f"{len(answer)}: {id_} is only {first - second:.2f} ahead: ask something else")
        answer.append(id_)
        logits = model(torch.tensor([[id_]]), cache)
    return answer


def known_numbers(folder: ModelFolder) -> Golden:
    """See `Golden`."""
    checkpoint, tokenizer = open_checkpoint(folder), load_tokenizer(folder)
    prompt = tokenizer.render_chat([{"role": "user", "content": QUESTION}])
    model = exact_model(folder.config, checkpoint)
    answer = greedy(model, prompt, KNOWN + GREEDY)
    likeliest_at, log_probabilities_at = kept(model(torch.tensor([prompt + answer]))[0])
    settings = {name: getattr(folder.config, name) for name in SETTINGS}
    values: dict[str, list[float]] = {}
    for end in RANGED:
        tensors = [checkpoint.tensor(name).float() for name in checkpoint.parameters if name.endswith(end)]
        values[end] = [float(min(one.min() for one in tensors)), float(max(one.max() for one in tensors))]
    traces = [(problem, trace(problem.expression)) for problem in held_out(PROBLEMS)]
    return Golden(
        name="the bundled demo",
        source="its float32 reference",
        names=None,
        sizes={name: getattr(folder.config, name) for name in SIZES},
        settings={**settings, **vars(folder.config.rope_parameters[FULL])},
        text=TEXT,
        text_ids=tokenizer.encode(TEXT),
        tokens={name: id_ for name in TOKENS if (id_ := tokenizer.id_of(name)) is not None},
        probable_tokens={},
        ids=prompt + answer[:KNOWN],
        likeliest=answer[: KNOWN + 1],
        greedy=answer[KNOWN:],
        misses={"16": 0, "8": 0, "4": 1},
        likeliest_at=likeliest_at,
        log_probabilities_at=log_probabilities_at,
        closeness=CLOSENESS,
        last_logits=None,
        conversations=[
            {"question": problem.question, "thinking": "\n".join(lines), "answer": f"\\boxed{{{problem.answer}}}"}
            for problem, lines in traces
        ],
        perplexity=PERPLEXITY,
        ranges={end: (low, high) for end, (low, high) in values.items()},
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=BUNDLED)
    parser.add_argument("--out", type=Path, default=OUT)
    arguments = parser.parse_args()
    numbers: dict[str, Any] = vars(known_numbers(ModelFolder(arguments.folder)))
    lines = [f"  {json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}" for key, value in numbers.items()]
    arguments.out.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
