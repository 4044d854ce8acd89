"""Tiny tokenizers of the shapes that model folders bring, trained on a few lines, and folders to hold them."""

from __future__ import annotations

import io
import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import sentencepiece
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

CORPUS = [
    "the cat sat on the mat and the dog ran to the house in the rain",
    "Hello! How can I assist you today? I am a helpful assistant.",
    "def add(a, b):\n    return a + b\n\nprint(add(1, 2))\n\n",
    "think about the answer, start at the end: im_start im_end user assistant system tool",
] * 20
BYTE_PIECES = [f"<0x{byte:02X}>" for byte in range(256)]
ZYPHRA_NAMES = [
    "<zyphra_tool_call>",
    "</zyphra_tool_call>",
    "<zyphra_tool_response>",
    "</zyphra_tool_response>",
    "<|im_start|>",
    "<|im_end|>",
]
GEMMA_HEAD = ["<pad>", "<eos>", "<bos>", "<unk>", *(f"<unused{i}>" for i in range(97)), *ZYPHRA_NAMES]
ORDINARY_ADDED = ["\n", "\n\n", "\n\n\n", "\u2581\u2581", "<table>"]


def added(content: str, special: bool, **flags: bool) -> AddedToken:
    return AddedToken(content, special=special, normalized=False, **flags)


@lru_cache
def gemma_text() -> str:
    """Gemma 3's shape: byte fallback, spaces as ▁, ids 101 to 106 as in ZAYA, think tokens beyond the vocabulary and
    not marked special, and a post-processor that adds BOS *and* EOS."""
    trainer = trainers.BpeTrainer(
        vocab_size=700,
        special_tokens=[*GEMMA_HEAD, *ORDINARY_ADDED, *BYTE_PIECES],
        limit_alphabet=90,
        show_progress=False,
    )
    raw = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    raw.normalizer = normalizers.Replace(" ", "\u2581")
    raw.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    raw.train_from_iterator(CORPUS, trainer)
    model = json.loads(raw.to_str())["model"]
    merges = [tuple(merge) for merge in model["merges"]]
    made = Tokenizer(models.BPE(model["vocab"], merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    made.normalizer, made.pre_tokenizer = raw.normalizer, raw.pre_tokenizer
    made.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()])
    made.add_special_tokens([added(name, True) for name in [*GEMMA_HEAD[:4], *ZYPHRA_NAMES]])
    made.add_tokens([added(name, False) for name in [*ORDINARY_ADDED, "<think>", "</think>"]])
    made.post_processor = processors.TemplateProcessing(
        single="<bos> $A <|im_end|>", special_tokens=[("<bos>", 2), ("<|im_end|>", 106)]
    )
    return made.to_str()


@lru_cache
def llama_text() -> str:
    """Metaspace with a dummy prefix at the start of the text, and `<|im_end|>` swallowing the blanks after it."""
    trainer = trainers.BpeTrainer(
        vocab_size=600, special_tokens=["<unk>", "<bos>", *BYTE_PIECES], limit_alphabet=90, show_progress=False
    )
    raw = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    raw.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    raw.train_from_iterator(CORPUS, trainer)
    model = json.loads(raw.to_str())["model"]
    merges = [tuple(merge) for merge in model["merges"]]
    made = Tokenizer(models.BPE(model["vocab"], merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    made.pre_tokenizer = raw.pre_tokenizer
    made.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    made.add_special_tokens([added(name, True) for name in ["<unk>", "<bos>", "<|im_start|>", *ZYPHRA_NAMES[:4]]])
    made.add_special_tokens([added("<|im_end|>", True, rstrip=True)])
    made.add_special_tokens([added("<think>", True), added("</think>", True, lstrip=True)])
    return made.to_str()


@lru_cache
def byte_level_text(names: tuple[str, ...] = ("<bos>", *ZYPHRA_NAMES, "<think>", "</think>")) -> str:
    """GPT-2's shape: every byte a character, control tokens beyond the vocabulary."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    made.train_from_iterator(
        CORPUS, trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, show_progress=False)
    )
    made.add_special_tokens([added(name, True) for name in names])
    made.add_tokens([added("<table>", False)])
    return made.to_str()


@lru_cache
def leaking_text() -> str:
    """A vocabulary whose merges spell `<think>` and `<|im_end|>` out of ordinary characters."""
    vocabulary = {piece: id_ for id_, piece in enumerate(["<unk>", *BYTE_PIECES, *map(chr, range(32, 127))])}
    merges = []
    for name in ("<think>", "<|im_end|>"):
        for length in range(2, len(name) + 1):
            vocabulary.setdefault(name[:length], len(vocabulary))
            merges.append((name[: length - 1], name[length - 1]))
    made = Tokenizer(models.BPE(vocabulary, list(dict.fromkeys(merges)), unk_token="<unk>", byte_fallback=True))
    made.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    made.add_special_tokens([added("<unk>", True), added("<think>", True), added("<|im_end|>", True)])
    return made.to_str()


@lru_cache
def word_text() -> str:
    """Whole words, no decoder, characters outside the vocabulary are `<unk>`."""
    words = ["<unk>", "<bos>", "<|im_end|>", "the", "cat", "sat"]
    made = Tokenizer(models.WordLevel({word: id_ for id_, word in enumerate(words)}, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Split(Regex(r"\s+"), "removed")
    made.add_special_tokens([added(word, True) for word in words[:3]])
    return made.to_str()


@lru_cache
def piece_model(dummy_prefix: bool) -> bytes:
    """A SentencePiece model where structural names are user-defined pieces: it finds them in plain text."""
    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(" ".join(CORPUS).split("\n")), model_writer=written, vocab_size=400,
        hard_vocab_limit=False, model_type="bpe", byte_fallback=True, pad_id=0, eos_id=1, bos_id=2, unk_id=3,
        user_defined_symbols=[*ZYPHRA_NAMES, "<think>", "\n\n"], control_symbols=["<ctl>"], minloglevel=2,
        bos_piece="<bos>", eos_piece="<eos>", normalization_rule_name="identity", remove_extra_whitespaces=False,
        add_dummy_prefix=dummy_prefix,
    )  # fmt: skip
    return written.getvalue()


def write_folder(folder: Path, tokenizer: str | bytes, **files: dict[str, Any] | str) -> Path:
    """A model folder; `files` by name without ending: dicts become .json, text becomes .jinja."""
    folder.mkdir(parents=True, exist_ok=True)
    if isinstance(tokenizer, str):
        (folder / "tokenizer.json").write_text(tokenizer, encoding="utf-8")
    else:
        (folder / "tokenizer.model").write_bytes(tokenizer)
    for name, content in files.items():
        if isinstance(content, str):
            (folder / f"{name}.jinja").write_text(content, encoding="utf-8")
        else:
            (folder / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
    return folder
