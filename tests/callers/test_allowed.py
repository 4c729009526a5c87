"""Which models a caller may ask for and be answered by."""

from __future__ import annotations

from table import each

from edge_router.callers.allowed import Allowed

NAMES = {"weak": ("small",), "strong": ("big", "azure", "eu")}
ASKED = (
    *("auto", "auto:latest", "weak", "small", "small:latest", "strong", "big", "azure"),
    *("router-mf", "router-mf-0.1", "embedder", "nobody"),
)
HERE = ("auto", "auto:latest", "weak", "small", "small:latest")


@each(
    "models, permitted, stays, among",
    (
        ((), ASKED, False, ()),
        (("weak",), HERE, True, ()),
        (("small",), HERE, True, ()),
        (("weak", "embedder"), (*HERE, "embedder"), True, ()),
        (("weak", "strong"), ASKED[:10], False, ()),
        (("strong",), ("strong", "big", "azure"), False, ()),
        (("weak", "azure"), (*HERE, "azure"), False, ("azure",)),
        (("azure", "eu"), ("azure",), False, ("azure", "eu")),
        (("auto",), ("auto", "auto:latest"), False, ()),
        (("auto", "azure"), ("auto", "auto:latest", "azure"), False, ("azure",)),
        (("weak", "router-mf-0.1"), (*HERE, "router-mf-0.1"), False, ()),
        (("router-mf",), ("router-mf",), False, ()),
        (("router-mf", "eu"), ("router-mf",), False, ("eu",)),
        (("nobody",), ("nobody",), True, ()),
    ),
)
def test_what_may_be_asked_for_and_who_may_answer(
    models: tuple[str, ...], permitted: tuple[str, ...], stays: bool, among: tuple[str, ...]
) -> None:
    allowed = Allowed(models, **NAMES)
    assert tuple(name for name in ASKED if allowed.permits(name)) == permitted
    assert (allowed.stays, allowed.among) == (stays, among)
