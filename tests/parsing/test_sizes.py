from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_router.errors import ConfigError
from edge_router.parsing.sizes import Share, binary, in_bytes, parse_size


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("12GiB", 12 * 1024**3),
        ("12GB", 12 * 1000**3),
        ("12 gib", 12 * 1024**3),
        ("12G", 12 * 1024**3),
        ("12Gi", 12 * 1024**3),
        ("1.5GiB", 1536 * 1024**2),
        (".5gb", 500_000_000),
        ("512MiB", 512 * 1024**2),
        ("512mb", 512_000_000),
        ("64k", 65536),
        ("1TB", 1000**4),
        ("4096B", 4096),
        ("80%", Share(0.8)),
        ("100 %", Share(1.0)),
    ],
)
def test_amounts_are_read_as_people_mean_them(text, expected):
    assert parse_size(text) == expected


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "such as 12GiB"),
        ("-12GiB", "such as 12GiB"),
        ("twelve", "such as 12GiB"),
        ("nan", "such as 12GiB"),
        ("1e9", "such as 12GiB"),
        ("12GiB 3", "such as 12GiB"),
        ("0", "needs a unit"),
        ("12", "needs a unit, such as 12GiB"),
        (" 4096 ", "needs a unit"),
        (".5", "needs a unit"),
        ("0.4B", "more than nothing"),
        ("12XB", "unit 'xb'"),
        ("0%", "above 0%"),
        ("101%", "at most 100%"),
        ("-5%", "such as 12GiB"),
        ("99999999TiB", "more memory than any machine"),
    ],
)
def test_what_is_no_amount_is_refused_with_the_reason(text, reason):
    with pytest.raises(ConfigError, match=reason) as caught:
        parse_size(text, key="weak.vram_budget", source="the file")
    assert (caught.value.key, caught.value.value, caught.value.source) == (
        "weak.vram_budget",
        text,
        "the file",
    )


def test_a_share_is_of_what_is_free():
    assert in_bytes(Share(0.8), 10_000) == 8000
    assert in_bytes(123, 10_000) == 123


@given(st.integers(1, 1 << 49))
def test_bytes_are_counted(count):
    assert parse_size(f"{count}B") == count


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (40 * 1024, "40.0 KiB"),
        (4 << 30, "4.0 GiB"),
        (500 << 20, "500 MiB"),
        (5 << 50, "5120 TiB"),
    ],
)
def test_bytes_are_shown_as_memory_is_counted(count, text):
    assert binary(count) == text
