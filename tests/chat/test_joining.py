"""Fields that have no name here, out of their pieces."""

from __future__ import annotations

from typing import Any

from edge_router.chat.joining import join_pieces


def test_a_list_that_grows_for_ever_is_not_searched_for_each_entry() -> None:
    whole: dict[str, Any] = {}
    for index in range(20_000):
        join_pieces(whole, {"details": [{"type": "text", "index": index, "text": "a"}, index]})
    assert len(whole["details"]) == 40_000
    join_pieces(whole, {"details": [{"type": "text", "index": 19_999, "text": "b"}]})
    assert whole["details"][-2]["text"] == "ab"
