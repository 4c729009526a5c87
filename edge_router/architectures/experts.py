"""Mixture of experts, in data: what an MLP is that has many, of which each token takes a few."""

from __future__ import annotations

from collections.abc import Mapping

from edge_router.errors import InvalidModel
from edge_router.records import dataclass

MOST = 1024  # experts: a GPU's workgroup has their ratings in its own memory
GROUP = 32  # inputs that share a scale, and outputs that a thread does together


@dataclass(frozen=True, slots=True)
class ExpertSizes:
    """Of `count` experts, `width` channels inside each, a token takes `chosen`.

    `shared_out`: the shares of those that are chosen sum to 1; else they are what a softmax over all gives.
    """

    count: int
    chosen: int
    width: int
    shared_out: bool


@dataclass(frozen=True, slots=True)
class Experts:
    """The config's keys for an MLP of experts, and what its parts are called.

    `router` is the matrix that rates experts, in a checkpoint and MLC's; `gate_up` and `down` are MLC's names
    of all experts' matrices, one after another. `dense` are keys that make some layers have no experts, with
    the values with which all of them have.
    """

    count: tuple[str, ...] = ("num_experts", "num_local_experts")
    chosen: str = "num_experts_per_tok"
    width: str = "moe_intermediate_size"
    shared_out: str = "norm_topk_prob"
    router: str = "gate"
    gate_up: str = "moe_gate_up_proj"
    down: str = "moe_down_proj"
    dense: tuple[tuple[str, object], ...] = (("decoder_sparse_step", 1), ("mlp_only_layers", []))

    @property
    def keys(self) -> tuple[str, ...]:
        """Of config.json, which MLC's `model_config` holds, too."""
        return (self.chosen, self.width, self.shared_out, *(key for key, _ in self.dense))

    def counted(self, config: Mapping[str, object]) -> dict[str, object]:
        """How many there are, under the first of its keys, which MLC reads."""
        found = next((config[name] for name in self.count if config.get(name) is not None), None)
        return {} if found is None else {self.count[0]: found}

    def sizes(self, config: Mapping[str, object], where: str) -> ExpertSizes:
        """`where` names the model in errors. Raises `InvalidModel`."""
        for key, wanted in self.dense:
            stated = config.get(key)
            if stated is not None and stated != wanted:
                raise InvalidModel(where, f"{key} is {stated!r}: some of its layers have no experts")
        stated = {**config, **self.counted(config)}
        keys = (self.count[0], self.chosen, self.width)
        count, chosen, width = (_number(stated, key, where) for key in keys)
        if count > MOST:
            raise InvalidModel(where, f"{self.count[0]} is {count}; at most {MOST} are computed")
        if chosen > count:
            raise InvalidModel(where, f"{self.chosen} is {chosen}, of {count} experts")
        for key, columns in ((self.width, width), ("hidden_size", _number(config, "hidden_size", where))):
            if columns % GROUP:
                raise InvalidModel(where, f"{key} is {columns}, no multiple of {GROUP}, as experts need it")
        return ExpertSizes(count, chosen, width, bool(config.get(self.shared_out, False)))


def _number(config: Mapping[str, object], key: str, where: str) -> int:
    value = config.get(key)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InvalidModel(where, f"{key} is {value!r}, not a positive whole number")
    return value
