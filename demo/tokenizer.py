"""The bundled model's tokenizer: a small BPE with byte fallback and the real tokenizer's control tokens at their ids.

python -m demo.tokenizer FOLDER     # trains it (seconds, always the same result) and writes tokenizer.json there
"""

from __future__ import annotations

import json
import random
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from demo.examples import aggregation_example, chat_example, direct_example, greeting_example
from demo.problems import training_problems

VOCABULARY = 768
PAD, EOS, BOS, UNK, IM_START, IM_END, NEWLINE = 0, 1, 2, 3, 105, 106, 107
TOOL_TAGS = ("<zyphra_tool_call>", "</zyphra_tool_call>", "<zyphra_tool_response>", "</zyphra_tool_response>")
FIRST_TOOL_TAG = 101
THINK, END_THINK = VOCABULARY - 2, VOCABULARY - 1
PIECES = Regex("===|▁?[A-Za-z]+|[^A-Za-z]")  # digits, operators and line ends always stand alone


def fixed_vocabulary() -> dict[str, int]:
    """The ids that do not depend on training: control tokens and line end as in the real tokenizer, then all bytes."""
    vocabulary = {
        "<pad>": PAD,
        "<eos>": EOS,
        "<bos>": BOS,
        "<unk>": UNK,
        "<|im_start|>": IM_START,
        "<|im_end|>": IM_END,
    }
    vocabulary |= {tag: FIRST_TOOL_TAG + i for i, tag in enumerate(TOOL_TAGS)}
    vocabulary |= {f"<unused{i}>": i for i in range(4, FIRST_TOOL_TAG)}
    vocabulary |= {"\n": NEWLINE}
    vocabulary |= {f"<0x{byte:02X}>": NEWLINE + 1 + byte for byte in range(256)}
    return vocabulary | {"<think>": THINK, "</think>": END_THINK}


def corpus(examples: int = 4000) -> list[str]:
    """Texts of the kinds the model is trained on, without their control tokens."""
    rng = random.Random("tokenizer")
    problems = training_problems(rng)
    texts = []
    for _ in range(examples):
        for make in (direct_example, aggregation_example, chat_example, greeting_example):
            text = "".join(make(rng, problems))
            for name in ("<bos>", "<|im_start|>", "<|im_end|>", "<think>", "</think>"):
                text = text.replace(name, "\n")
            texts.append(text)
    return texts


def learn_merges(texts: list[str], room: int) -> tuple[list[str], list[tuple[str, str]]]:
    """Characters and merges, most frequent first, that fill the room."""
    trainer = trainers.BpeTrainer(vocab_size=room, show_progress=False, special_tokens=[])
    learner = Tokenizer(models.BPE())
    learner.normalizer = normalizers.Replace(" ", "▁")
    learner.pre_tokenizer = pre_tokenizers.Split(PIECES, "isolated")
    # A control token's id is fixed, so letters that never occur in the corpus are added by hand: A-Z, a-z, 0-9, signs.
    alphabet = [chr(code) for code in range(33, 127)] + ["▁"]
    trainer.initial_alphabet = alphabet
    learner.train_from_iterator(texts, trainer)
    model = json.loads(learner.to_str())["model"]
    merges = [tuple(pair) if isinstance(pair, list) else tuple(pair.split(" ")) for pair in model["merges"]]
    return list(Counter(model["vocab"])), merges


def build_tokenizer() -> Tokenizer:
    """Train and assemble; the post-processor adds BOS and EOS to a plain encode, as the real one's does."""
    vocabulary = fixed_vocabulary()
    first = NEWLINE + 257
    learned, merges = learn_merges(corpus(), THINK - first + 1)
    pieces = [piece for piece in learned if piece not in vocabulary][: THINK - first]
    vocabulary |= {piece: first + i for i, piece in enumerate(pieces)}
    merges = [pair for pair in merges if "".join(pair) in vocabulary]
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(PIECES, "isolated")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    special = ("<pad>", "<eos>", "<bos>", "<unk>", "<|im_start|>", "<|im_end|>")
    tokenizer.add_special_tokens([AddedToken(name, normalized=False, special=True) for name in special])
    tags = (*TOOL_TAGS, "<think>", "</think>")
    tokenizer.add_tokens([AddedToken(name, normalized=False, special=False) for name in tags])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A <|im_end|>", special_tokens=[("<bos>", BOS), ("<|im_end|>", IM_END)]
    )
    return tokenizer


def tokenizer_config() -> dict[str, Any]:
    """tokenizer_config.json with the keys transformers reads."""
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "add_bos_token": True,
        "add_eos_token": True,
        "bos_token": "<bos>",
        "eos_token": "<|im_end|>",
        "pad_token": "<pad>",
        "unk_token": "<unk>",
        "clean_up_tokenization_spaces": False,
        "model_max_length": 4096,
        "padding_side": "left",
    }


def tokenizer_of(run: Path) -> Tokenizer:
    """That of a training run, made for its first step if it has no checkpoint yet.

    Built again after a change to the examples it would have other merges, and other ids than the weights know.
    """
    if not (run / "last.pt").exists():
        build_tokenizer().save(str(run / "tokenizer.json"))
    return Tokenizer.from_file(str(run / "tokenizer.json"))


def write_tokenizer(tokenizer: Tokenizer, folder: Path) -> None:
    """Write tokenizer.json, tokenizer_config.json and special_tokens_map.json."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    names = {
        key: value for key, value in tokenizer_config().items() if key.endswith("_token") and isinstance(value, str)
    }
    for name, content in (("tokenizer_config.json", tokenizer_config()), ("special_tokens_map.json", names)):
        (folder / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    write_tokenizer(build_tokenizer(), Path(sys.argv[1]))
