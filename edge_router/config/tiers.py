"""The setting `tiers`: more than two models, each for the scores from its own threshold on."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from edge_router.errors import ConfigError
from edge_router.records import dataclass

if TYPE_CHECKING:
    from edge_router.config.settings import Config

WEAK = "weak"
_FORM = '[{ at = 0, model = "weak" }, { at = 0.3, model = "NAME" }, ...]'


@dataclass(frozen=True, slots=True)
class TierConfig:
    """A model for scores from `at` on. `model`: `weak`, an endpoint, one of its models or a tag."""

    at: float
    model: str

    def __str__(self) -> str:
        """As it is written in the file; a table within a line."""
        from json import dumps

        return f"{{ at = {self.bound}, model = {dumps(self.model, ensure_ascii=False)} }}"

    @property
    def bound(self) -> str:
        """`at` in as few digits as say the same."""
        short = f"{self.at:.6g}"
        return short if float(short) == self.at else repr(self.at)

    @classmethod
    def read(cls, key: str, value: object, source: str) -> tuple[TierConfig, ...]:
        """Tables, as values or as text, or `0:weak, 0.3:NAME`. Raises `ConfigError`."""
        parts: object = value
        try:
            if isinstance(value, str):
                parts = _table(value)
                if parts is None:
                    parts = [cls._pair(part) for part in value.split(",") if part.strip()]
            if isinstance(parts, list | tuple):
                return tuple(each if isinstance(each, cls) else cls._of(each) for each in parts)
        except (TypeError, ValueError, KeyError):
            pass
        raise ConfigError(key, value, f"must be {_FORM}", source)

    @staticmethod
    def _pair(part: str) -> dict[str, object]:
        at, _, model = part.partition(":")
        return {"at": float(at), "model": model.strip()}

    @classmethod
    def _of(cls, table: object) -> TierConfig:
        if not isinstance(table, Mapping) or set(table) != {"at", "model"}:
            raise TypeError
        at, model = table["at"], table["model"]
        if isinstance(at, bool) or not isinstance(at, int | float) or not isinstance(model, str):
            raise TypeError
        return cls(float(at), model)


def _table(text: str) -> object:
    """What stands in the file behind `tiers =`; None where it is written otherwise."""
    from tomllib import TOMLDecodeError, loads

    try:
        return loads(f"tiers = {text}")["tiers"] if text.lstrip().startswith("[") else None
    except TOMLDecodeError:
        return None


def plain(tiers: Sequence[TierConfig]) -> list[dict[str, object]]:
    """As JSON has them."""
    return [{"at": tier.at, "model": tier.model} for tier in tiers]


def written(tiers: Sequence[TierConfig]) -> str:
    """The value of the setting, as the file has it."""
    return f"[{', '.join(map(str, tiers))}]"


def check_tiers(
    tiers: Sequence[TierConfig],
    strong: Collection[str],
    require: Callable[[str, bool, str], None],
    *,
    threshold: float | None,
) -> None:
    """Calls `require` with a key, whether what it says can be, and what it must be.

    `strong`: what may be asked beside the weak model; `threshold`: of the router's, where one is set.
    """
    if not tiers:
        return
    first, *rest = tiers
    require("tiers", first == TierConfig(0.0, WEAK) and bool(rest), f"must be {_FORM}")
    bounds = [tier.at for tier in tiers]
    rising = all(below < above <= 1 for below, above in pairwise(bounds))
    require("tiers", rising, "each must begin above the one before it, and not above 1")
    names = [tier.model for tier in rest]
    unknown = [name for name in names if name not in strong]
    known = f"; there is {', '.join(strong)}" if strong else ", and there is none"
    require("tiers", not unknown, f"must name endpoints, their models or tags{known}")
    require("tiers", len(set(names)) == len(names), "must name each model once")
    require("tiers", threshold is None, "say the threshold themselves, so router.threshold must not be set")


def bound_of(config: Config) -> float | None:
    """The score from which on the weak model is not asked, where that is set."""
    return config.tiers[1].at if config.tiers else config.router.threshold


def chosen(tiers: Sequence[TierConfig], score: float | None) -> str:
    """The model for a query of that score which is not the weak one's."""
    reached = [tier.model for tier in tiers[1:] if score is not None and score >= tier.at]
    return reached[-1] if reached else tiers[1].model


def meant(target: str, name: str, models: Sequence[str], tags: Collection[str]) -> str | None:
    """The model that a request of that `model` is for, of an endpoint's; None where it is for others."""
    if target in models:
        return target
    return models[0] if target == name or target in tags else None


def usable(config: Config, among: Collection[str]) -> tuple[TierConfig, ...]:
    """The models that the score may choose among where only those strong ones may answer; () `among`: all."""
    if not among:
        return config.tiers
    strong = config.strong.model
    served = [(each.name, each.models, each.tags) for each in config.endpoints]
    served += [] if strong is None else [("strong", (strong,), ())]
    left = [
        tier
        for tier in config.tiers[1:]
        if any(
            (model := meant(tier.model, *each)) is not None
            and model in {meant(name, *each) for name in among}
            for each in served
        )
    ]
    return (config.tiers[0], *left) if left else ()
