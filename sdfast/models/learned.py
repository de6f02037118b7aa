"""Words that were taught, and where they stand in a prompt. Nothing here imports torch."""

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence

from sdfast.models.source import Embedding
from sdfast.prompt import read_prompt


class Learned:
    """Finds in a text the words that embeddings teach, and knows the numbers of their tokens.

    known   how many tokens the text encoder knows of itself; the first one that is taught is that
    """

    def __init__(self, embeddings: Sequence[Embedding] = (), known: int = 0) -> None:
        longest = sorted(enumerate(embeddings), key=lambda at: len(at[1].token), reverse=True)
        begins = [known + sum(e.rows for e in embeddings[:k]) for k in range(len(embeddings))]
        self._taught = [e.token for _, e in longest]
        self._ids = [[*range(begins[k], begins[k] + e.rows)] for k, e in longest]
        words = "|".join(f"({_pattern(e.token)})" for _, e in longest)
        self._words = re.compile(words, re.IGNORECASE) if words else None

    def split(self, text: str) -> Iterator[str | list[int]]:
        """The text in order: what stands between, as it is, and each word by its tokens."""
        if self._words is None:
            yield text
            return
        text, at = unicodedata.normalize("NFC", text), 0
        for found in self._words.finditer(text):
            yield text[at : found.start()]
            yield self._ids[(found.lastindex or 1) - 1]
            at = found.end()
        yield text[at:]

    def unsaid(self, prompts: Iterable[str]) -> list[str]:
        """The words that stand in none of the prompts."""
        pieces = (piece for prompt in prompts for part in read_prompt(prompt) for piece in part)
        said = [ids for piece in pieces for ids in self.split(piece.words)]
        return [word for word, ids in zip(self._taught, self._ids, strict=True) if ids not in said]


def _pattern(token: str) -> str:
    """The token as a whole word: no letter or digit goes on where it begins or ends in one.

    A hyphen or underline goes on, too: `bad_hands` and `bad-hands` are other words than `bad`. To
    the web UI, which compares tokens, and to diffusers they are not.
    """
    token = unicodedata.normalize("NFC", token)
    begin = r"(?<!\w)(?<!\w-)" if re.match(r"\w", token) else ""
    end = r"(?!-?\w)" if re.match(r"\w", token[-1]) else ""
    return begin + r"\s+".join(map(re.escape, token.split())) + end
