"""Text between two others, as models were trained to write it: told from the tokens of their vocabulary."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge_router.records import dataclass

if TYPE_CHECKING:
    from edge_router.prompts.tokenizer import TextTokenizer


@dataclass(frozen=True, slots=True)
class InfillMarks:
    """Marks before the prefix and the suffix, and before what is wanted (`middle`), if there is one.

    `suffix_first`: that is their order. `shared`: models that never learned it have these tokens, too.
    """

    prefix: str
    suffix: str
    middle: str | None
    suffix_first: bool = False
    shared: bool = False


_FAMILIES = (
    InfillMarks("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>", shared=True),  # Qwen Coder, CodeGemma
    InfillMarks("<fim_prefix>", "<fim_suffix>", "<fim_middle>"),  # StarCoder 2, Granite Code
    InfillMarks("<fim-prefix>", "<fim-suffix>", "<fim-middle>"),  # SantaCoder
    InfillMarks("<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>"),  # DeepSeek Coder
    InfillMarks("▁<PRE>", "▁<SUF>", "▁<MID>"),  # Code Llama
    InfillMarks("[PREFIX]", "[SUFFIX]", None, suffix_first=True),  # Codestral
)
# What a model writes once the text between is whole, beside what ends its other answers.
_ENDS = (
    *(
        "<|endoftext|>",
        "<|end_of_text|>",
        "<｜end▁of▁sentence｜>",
        "▁<EOT>",
        "<EOT>",
        "<|EOT|>",
        "</s>",
        "<eos>",
    ),
    *("<|fim_pad|>", "<fim_pad>", "<fim-pad>", "<|file_sep|>", "<file_sep>", "<|file_separator|>"),
    *("<|repo_name|>", "<repo_name>", "<|cursor|>"),
)


@dataclass(frozen=True, slots=True)
class Infill:
    """How one model is asked for the text between two; any of `ends` ends it."""

    marks: InfillMarks
    tokenizer: TextTokenizer
    ends: frozenset[int]

    @classmethod
    def of(cls, tokenizer: TextTokenizer, name: str) -> Infill | None:
        """None for a model that was not taught to."""
        for marks in _FAMILIES:
            named = [mark for mark in (marks.prefix, marks.suffix, marks.middle) if mark is not None]
            if all(tokenizer.token(mark) is not None for mark in named):
                if marks.shared and not likely(name):
                    return None
                # Those of its ends that are tokens of their own: a vocabulary may have "</s>" as a mere text.
                ends = [tokenizer.added[end] for end in _ENDS if end in tokenizer.added]
                return cls(marks, tokenizer, frozenset([*ends, *filter(None, map(tokenizer.token, named))]))
        return None

    def prompt(self, prefix: str, suffix: str) -> list[int]:
        """Tokens of it. What looks like a mark in the texts is none."""
        marks, tokenizer = self.marks, self.tokenizer
        before = [self._mark(marks.prefix), *tokenizer.encode(tokenizer.guard(prefix))]
        behind = [self._mark(marks.suffix), *tokenizer.continued(suffix)]
        parts = [*behind, *before] if marks.suffix_first else [*before, *behind]
        return [*tokenizer.beginning(), *parts, *([self._mark(marks.middle)] if marks.middle else [])]

    def _mark(self, name: str) -> int:
        token = self.tokenizer.token(name)
        assert token is not None
        return token


def likely(name: str) -> bool:
    """Whether a model of that name was taught to write text between two, as those for code are."""
    return "code" in name.casefold()
