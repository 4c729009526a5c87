"""Tensors that share buffers never meet."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edge_router.compile.webgpu.reuse import Use, plan

uses = st.builds(
    lambda first, length, rows, fixed: Use(first, first + length, f"(n) * {rows} + {fixed}"),
    st.integers(0, 30),
    st.integers(0, 10),
    st.integers(0, 50),
    st.integers(1, 200),
)


@given(st.dictionaries(st.text("abcdef", min_size=1, max_size=3), uses, max_size=12))
def test_no_two_at_once_and_room_for_each(given_uses: dict[str, Use]) -> None:
    homes, sizes = plan(given_uses)
    assert homes.keys() == given_uses.keys()
    assert set(homes.values()) == sizes.keys()
    for name, use in given_uses.items():
        for rows in (1, 3, 100, 5000):
            rows_and_rest = [int(word) for word in use.size.replace("(n) *", "").split("+")]
            assert sizes[homes[name]]({"n": rows}) >= rows * rows_and_rest[0] + rows_and_rest[1]
        for other, its in given_uses.items():
            apart = use.last < its.first or its.last < use.first
            assert other == name or apart or homes[other] != homes[name]


def test_a_chain_takes_two_buffers() -> None:
    """What one step writes the next one reads: a buffer may not be both."""
    chain = {str(step): Use(step, step + 1, "(n) * 64") for step in range(10)}
    homes, sizes = plan(chain)
    assert len(sizes) == 2
    assert homes["0"] != homes["1"] == homes["3"]


def test_the_larger_of_two_that_cross() -> None:
    homes, sizes = plan({"few": Use(0, 0, "1000"), "many": Use(1, 1, "(n) * 10")})
    assert homes["few"] == homes["many"]
    (size,) = sizes.values()
    assert [size({"n": n}) for n in (1, 100, 200)] == [1000, 1000, 2000]
