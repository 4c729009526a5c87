"""The functions that every language model exports, under the names MLC's engine looks up."""
# mypy: disable-error-code="misc"

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tvm import te
from tvm.relax.frontend import nn
from tvm.relax.frontend.nn import Tensor, op
from tvm.relax.frontend.nn.llm.kv_cache import PagedKVCache

from edge_router.architectures.key_values import PageForm
from edge_router.compile.graphs.cache import paged_cache
from edge_router.compile.graphs.config import DecoderConfig
from edge_router.compile.graphs.mixing import STATE, KeptStates, StateRows
from edge_router.compile.graphs.pages import PagedCache
from edge_router.compile.graphs.parts import ACTIVATION, Parts, heads_of
from edge_router.compile.kernels.base import PagedKernels
from edge_router.compile.rotary import Rotary

_SIZES = ("max_batch_size", "max_total_seq_len", "prefill_chunk_size", "page_size", "support_sliding_window")


class CausalLM(nn.Module):
    """`model` maps activations [rows, width] to the same, by the KV cache; has an `embedding` and a `norm`.

    The head is the embedding itself where `config` ties them, else a matrix of its own. `name` is what the
    parameters' names begin with. Logits are multiplied by `scale`, and `cap` bends them so
    that none exceeds it. Without `rotary` the
    layers turn queries and keys themselves. Layers that do not attend keep `states`, and `attending` do; with
    such it has no functions for the runtime's own KV cache.
    """

    def __init__(
        self,
        config: DecoderConfig,
        parts: Parts,
        model: Any,
        rotary: Rotary | None,
        *,
        name: str = "model",
        cap: float = 0,
        scale: float = 1,
        states: Sequence[KeptStates] = (),
        attending: int | None = None,
    ) -> None:
        super().__init__()
        self.states = tuple(states)
        self._attending = config.num_hidden_layers if attending is None else attending
        self._config, self._parts, self._cap, self._scale = config, parts, cap, scale
        self.name, self.rotary = name, rotary
        setattr(self, name, model)
        if not config.tie_word_embeddings:
            self.lm_head = parts.head(config.hidden_size, config.vocab_size)

    @property
    def body(self) -> Any:
        return getattr(self, self.name)

    def embed(self, input_ids: Tensor) -> Tensor:
        return self.body.embedding.rows(input_ids)

    def prefill(self, input_embed: Tensor, paged_kv_cache: PagedKVCache) -> Any:
        return self._logits(_last_row(self._hidden(input_embed, paged_kv_cache)), 1), paged_kv_cache

    def decode(self, input_embed: Tensor, paged_kv_cache: PagedKVCache) -> Any:
        return self._logits(self._hidden(input_embed, paged_kv_cache), 1), paged_kv_cache

    def batch_prefill(
        self, input_embeds: Tensor, logit_positions: Tensor, paged_kv_cache: PagedKVCache
    ) -> Any:
        hidden = op.take(self._hidden(input_embeds, paged_kv_cache), logit_positions, axis=0)
        return self._logits(hidden, 1), paged_kv_cache

    def batch_decode(self, input_embeds: Tensor, paged_kv_cache: PagedKVCache) -> Any:
        hidden = self._hidden(input_embeds, paged_kv_cache)
        return self._logits(hidden, input_embeds.shape[0]), paged_kv_cache

    def batch_verify(self, input_embeds: Tensor, paged_kv_cache: PagedKVCache) -> Any:
        return self._logits(self._hidden(input_embeds, paged_kv_cache), 1), paged_kv_cache

    def create_tir_paged_kv_cache(
        self,
        max_batch_size: Any,
        max_total_seq_len: Any,
        prefill_chunk_size: Any,
        page_size: Any,
        support_sliding_window: Any,
    ) -> PagedKVCache:
        config = self._config
        sizes = (max_batch_size, max_total_seq_len, prefill_chunk_size, page_size, support_sliding_window)
        heads = heads_of(config, self._parts.stored)
        return paged_cache(self._parts.kernels, heads, config.num_hidden_layers, self.rotary, sizes)

    def paged_prefill(
        self,
        input_ids: Tensor,
        positions: Tensor,
        table: Tensor,
        pages: Tensor,
        ends: Tensor,
        states: Sequence[Tensor] = (),
    ) -> Tensor:
        """The next tokens of each of several sequences; logits of its last."""
        hidden = self._paged(input_ids, positions, table, pages, states, ends)
        return self._each(op.take(hidden, ends, axis=0))

    def paged_decode(
        self,
        input_ids: Tensor,
        positions: Tensor,
        table: Tensor,
        pages: Tensor,
        states: Sequence[Tensor] = (),
    ) -> Tensor:
        return self._each(self._paged(input_ids, positions, table, pages, states))

    def paged_batch_decode(
        self,
        input_ids: Tensor,
        positions: Tensor,
        table: Tensor,
        pages: Tensor,
        states: Sequence[Tensor] = (),
    ) -> Tensor:
        """Some next tokens of several sequences, or of one, each with a row of the table."""
        return self._each(self._paged(input_ids, positions, table, pages, states))

    @property
    def _keeps_pages(self) -> bool:
        """Whether it has these functions, beside those for the runtime's own KV cache."""
        return isinstance(getattr(self._parts, "kernels", None), PagedKernels)

    def described(self) -> dict[str, object]:
        """What the library says of itself beside MLC's keys."""
        config = self._config
        if not self._keeps_pages:
            return {}
        window = config.sliding_window_size if config.slides else 0
        found = {"window": window, "sinks": config.sinks, "dtype": self._parts.kept}
        if self.states:
            kept = [state.described() for state in self.states]
            return {"pages": {**found, "layers": self._attending, "states": kept}}
        return {"pages": found}

    def _paged(
        self,
        ids: Tensor,
        positions: Tensor,
        table: Tensor,
        pages: Tensor,
        states: Sequence[Tensor],
        ends: Tensor | None = None,
    ) -> Tensor:
        rows = None
        if states:
            sources, saves, *arrays = states
            names = (state.name for state in self.states)
            rows = StateRows(dict(zip(names, arrays, strict=True)), sources, saves)
        cache = PagedCache(
            self._parts, self._config, self.rotary, positions=positions, table=table, pages=pages, ends=ends,
            states=rows,
        )  # fmt: skip
        return self.body(op.astype(self.embed(ids), ACTIVATION), cache)

    def _hidden(self, embedded: Tensor, cache: PagedKVCache) -> Tensor:
        """[a, b, width] to [a * b, width], before the last normalisation."""
        sequences, tokens, width = embedded.shape
        rows = op.reshape(embedded, (sequences * tokens, width))
        return self.body(op.astype(rows, ACTIVATION), cache)

    def _logits(self, hidden: Tensor, sequences: Any) -> Tensor:
        shape = (sequences, hidden.shape[0] // sequences, self._config.vocab_size)
        return op.reshape(self._each(hidden), shape)

    def _each(self, hidden: Tensor) -> Tensor:
        """Of each row its logits."""
        head = self.body.embedding if self._config.tie_word_embeddings else self.lm_head
        return self.capped(head(self.body.norm(hidden)))

    def capped(self, logits: Tensor) -> Tensor:
        scaled = logits if self._scale == 1 else logits * self._scale
        return self._parts.capped(scaled, self._cap) if self._cap else scaled

    def spec(self) -> dict[str, Any]:
        """The exported functions' arguments, as `nn.Module.export_tvm` takes them."""
        packed = {"param_mode": "packed", "effect_mode": "none"}
        cache = nn.spec.Object(object_type=PagedKVCache)

        def embedded(*shape: Any) -> Any:
            return nn.spec.Tensor([*shape, self._config.hidden_size], self._parts.stored)

        def step(name: str, *shape: Any) -> dict[str, Any]:
            return {name: embedded(*shape), "paged_kv_cache": cache, "$": packed}

        positions = nn.spec.Tensor(["batch_size"], "int32")
        paged = self._paged_spec() if self._keeps_pages else {}
        if self.states:
            return paged
        return {
            **paged,
            "embed": {"input_ids": nn.spec.Tensor(["seq_len"], "int32"), "$": packed},
            "prefill": step("input_embed", 1, "seq_len"),
            "decode": step("input_embed", 1, 1),
            "batch_prefill": {
                "input_embeds": embedded(1, "seq_len"),
                "logit_positions": positions,
                "paged_kv_cache": cache,
                "$": packed,
            },
            "batch_decode": step("input_embeds", "batch_size", 1),
            "batch_verify": step("input_embeds", 1, "seq_len"),
            "create_tir_paged_kv_cache": {
                **dict.fromkeys(_SIZES, int),
                "$": {"param_mode": "none", "effect_mode": "none"},
            },
        }

    def _paged_spec(self) -> dict[str, Any]:
        config = self._config
        form = PageForm(self._parts.kept, config.num_key_value_heads, config.head_dim)
        pages = [self._attending, "pages", *form.shape(1, 1)[2:]]

        def integers(*shape: Any) -> Any:
            return nn.spec.Tensor([*shape], "int32")

        def states(rows: Any) -> dict[str, Any]:
            if not self.states:
                return {}
            arrays = [nn.spec.Tensor([state.layers, "slots", *state.shape], STATE) for state in self.states]
            return {"states": (integers(rows), integers(rows), *arrays)}

        def step(rows: Any, sequences: Any, **more: Any) -> dict[str, Any]:
            return {
                "input_ids": integers(rows),
                "positions": integers(rows),
                "table": integers(sequences, "places"),
                "pages": nn.spec.Tensor(pages, form.dtype),
                **more,
                **states(rows),
                "$": {"param_mode": "packed", "effect_mode": "none"},
            }

        return {
            "paged_prefill": step("seq_len", "batch_size", ends=integers("batch_size")),
            "paged_decode": step(1, 1),
            "paged_batch_decode": step("batch_size", "batch_size"),
        }


def _last_row(hidden: Tensor) -> Tensor:
    def last(x: Any) -> Any:
        return te.compute((1, x.shape[1]), lambda _, i: x[x.shape[0] - 1, i], name="last_row")

    return op.tensor_expr_op(last, "last_row", [hidden])
