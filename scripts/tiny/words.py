"""The tokenizer: CLIP's byte-pair format with a vocabulary of fifteen hundred pieces.

Every word of the captions becomes one piece, so the text encoder need not learn to spell; words it
has never met still fall apart into letters and get through.
"""

import json
import re
from collections import Counter
from itertools import pairwise
from pathlib import Path

LENGTH = 32
"""Pieces per prompt, with the two that mark its ends."""


def _letters() -> list[str]:
    """CLIP's printable stand-ins for the 256 bytes, in the order of its vocabulary."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [b for b in range(256) if b not in plain]
    return [chr(b) for b in plain] + [chr(256 + i) for i in range(len(hidden))]


def _merges(words: Counter[str]) -> list[tuple[str, str]]:
    """Merges, most frequent pair first, until every word is one piece."""
    split = {word: [*word[:-1], word[-1] + "</w>"] for word in words}
    merges: list[tuple[str, str]] = []
    while True:
        pairs: Counter[tuple[str, str]] = Counter()
        for word, pieces in split.items():
            for pair in pairwise(pieces):
                pairs[pair] += words[word]
        if not pairs:
            return merges
        best = max(pairs, key=lambda p: (pairs[p], p))
        merges.append(best)
        for word, pieces in split.items():
            joined: list[str] = []
            for piece in pieces:
                if joined and (joined[-1], piece) == best:
                    joined[-1] += piece
                else:
                    joined.append(piece)
            split[word] = joined


def write_tokenizer(folder: Path, phrases: list[str]) -> None:
    """The files of a CLIPTokenizer that knows the words of the phrases."""
    words = Counter(w for p in phrases for w in re.findall(r"[a-z]+|\d|[^\sa-z\d]+", p.lower()))
    merges = _merges(words)
    letters = _letters()
    pieces = [*letters, *(c + "</w>" for c in letters), *("".join(m) for m in merges)]
    pieces = [*dict.fromkeys(pieces), "<|startoftext|>", "<|endoftext|>"]
    config = {
        "tokenizer_class": "CLIPTokenizer",
        "model_max_length": LENGTH,
        "bos_token": "<|startoftext|>",
        "eos_token": "<|endoftext|>",
        "pad_token": "<|endoftext|>",
        "unk_token": "<|endoftext|>",
        "do_lower_case": True,
        "errors": "replace",
        "add_prefix_space": False,
    }
    folder.mkdir(parents=True, exist_ok=True)
    vocab = {piece: i for i, piece in enumerate(pieces)}
    lines = ["#version: 0.2", *(" ".join(m) for m in merges)]
    for name, text in {
        "vocab.json": json.dumps(vocab, ensure_ascii=False),
        "merges.txt": "\n".join(lines) + "\n",
        "tokenizer_config.json": json.dumps(config, indent=2) + "\n",
    }.items():
        (folder / name).write_text(text, encoding="utf-8")
