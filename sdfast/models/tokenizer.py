"""Words as the numbers that CLIP knows them by.

The same numbers as transformers' CLIPTokenizer gives, from the same files, with the `tokenizers`
library alone. Tests compare the two on any text.
"""

import json
import zlib
from pathlib import Path
from typing import Any, NamedTuple, cast

from tokenizers import AddedToken, Regex, Tokenizer, normalizers, pre_tokenizers
from tokenizers.models import BPE

from sdfast.models.files import read_text

_END = "<|endoftext|>"
_NAMED = {"bos_token": "<|startoftext|>", "eos_token": _END, "unk_token": _END, "pad_token": _END}
"""CLIP's special tokens, where the files do not say otherwise."""

_MOST_ADDED = 10_000
"""Tokens beside the vocabulary; a word that is learned is some."""

_WORDS = (
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
)


class Marks(NamedTuple):
    """The tokens that are no words: both ends of a text, and what fills it up behind its end."""

    begin: int
    end: int
    pad: int


class ClipTokenizer:
    """Reads `tokenizer.json`, or `vocab.json` and `merges.txt`; whatever is wrong there raises.

    `pad` is the number that fills up a text, where another is meant than the files say.
    """

    def __init__(self, folder: Path, pad: int | None = None) -> None:
        config = _json(folder / "tokenizer_config.json")
        limit = config.get("model_max_length")
        self.limit = limit if isinstance(limit, int) and limit > 2 else None
        """The most tokens of a text, with its ends, where it is known better than by the model."""
        whole = _json(folder / "tokenizer.json")
        added = _added(folder, config, whole)
        named = {key: _token(config.get(key) or default, added) for key, default in _NAMED.items()}
        self._tokens: Any = Tokenizer(_model(folder, whole, named["unk_token"].content))
        self._tokens.normalizer = normalizers.Sequence(
            [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
        )
        self._tokens.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(_WORDS), behavior="removed", invert=True),
                pre_tokenizers.ByteLevel(add_prefix_space=False),
            ]
        )
        special, tokens = {t.content for t in named.values()}, [*added.values(), *named.values()]
        for token in tokens:
            token.special |= token.content in special
        self._tokens.add_tokens(tokens)  # one by one, each would be slower than the one before
        self.vocabulary: dict[str, int] = self._tokens.get_vocab()
        ends = ("bos_token", "eos_token", "pad_token")
        marks = Marks(*(self.vocabulary[named[key].content] for key in ends))
        self.marks = marks if pad is None else marks._replace(pad=pad)
        self.comma = self.vocabulary.get(",</w>")
        """The number of a comma, if it has one of its own."""

    def read(self, text: str) -> list[int]:
        """The numbers of a text of any length, without its ends."""
        return self._tokens.encode(text, add_special_tokens=False).ids


class AnyWords:
    """A number for each word, by its checksum: for models that mean nothing."""

    comma: int | None = None
    limit: int | None = None

    def __init__(self, known: int) -> None:
        self.marks = Marks(known - 2, known - 1, known - 1)

    def read(self, text: str) -> list[int]:
        return [zlib.crc32(word.encode()) % self.marks.begin for word in text.split()]


Reader = ClipTokenizer | AnyWords


def _model(folder: Path, whole: dict[str, Any], unknown: str) -> BPE:
    kind: Any = BPE
    how = {"unk_token": unknown, "end_of_word_suffix": "</w>", "continuing_subword_prefix": ""}
    if not whole:
        files = [folder / "vocab.json", folder / "merges.txt"]
        for file in files:
            read_text(file)  # which refuses what `from_file` would read without an end
        return kind.from_file(*map(str, files), **how)
    pairs = (m.split(" ") if isinstance(m, str) else m for m in whole["model"]["merges"])
    return kind(vocab=whole["model"]["vocab"], merges=[tuple(pair) for pair in pairs], **how)


def _added(folder: Path, config: dict[str, Any], whole: dict[str, Any]) -> dict[str, AddedToken]:
    """Tokens beside the vocabulary, by their text, in the order of their numbers."""
    if "added_tokens_decoder" in config:
        listed = {int(i): _token(t) for i, t in config["added_tokens_decoder"].items()}
    else:
        config |= _json(folder / "special_tokens_map.json")
        listed = {i: AddedToken(t) for t, i in _json(folder / "added_tokens.json").items()}
        listed |= {t["id"]: _token(t) for t in whole.get("added_tokens", ())}
    more = [*config.get("additional_special_tokens", ()), *config.get("extra_special_tokens", ())]
    if len(listed) + len(more) > _MOST_ADDED:
        raise ValueError(f"it adds {len(listed) + len(more)} tokens, more than {_MOST_ADDED}")
    tokens = [*(listed[i] for i in sorted(listed)), *map(_token, more)]
    return {token.content: token for token in tokens}


def _token(said: object, known: dict[str, AddedToken] | None = None) -> AddedToken:
    """A token as a config writes it: its text, or its text with how it is looked for."""
    flags: dict[str, Any] = (
        dict(cast("dict[str, Any]", said)) if isinstance(said, dict) else {"content": str(said)}
    )
    text = str(flags.pop("content"))
    if known and text in known:
        return known[text]
    how = {k: bool(v) for k, v in flags.items() if k in ("lstrip", "rstrip", "normalized")}
    single = bool(flags.get("single_word", False))
    return AddedToken(text, single_word=single, special=bool(flags.get("special", True)), **how)


def _json(path: Path) -> dict[str, Any]:
    """A file's object; an absent file is an empty one."""
    if not path.exists():
        return {}
    found: object = json.loads(read_text(path))
    if not isinstance(found, dict):
        raise ValueError(f"`{path.name}` is no JSON object")
    return cast("dict[str, Any]", found)
