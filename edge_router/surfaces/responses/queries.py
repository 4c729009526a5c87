"""Questions about kept answers, and the count of tokens."""

from __future__ import annotations

from collections.abc import Mapping

from edge_router.errors import InvalidRequest, UnknownResponse
from edge_router.parsing.fields import Fields
from edge_router.records import dataclass
from edge_router.surfaces.base import Body, SurfaceHost, SurfaceQuery
from edge_router.surfaces.responses.parse import parse
from edge_router.surfaces.responses.store import Item, Kept, ResponseStore

PATH = "/v1/responses"
_ONE = PATH + "/{response_id}"
MOST_LISTED = 100  # items in one page, as there


@dataclass(frozen=True, slots=True)
class Queries:
    """Over the answers in `store`."""

    store: ResponseStore

    def all(self) -> tuple[SurfaceQuery, ...]:
        return (
            SurfaceQuery("POST", PATH + "/input_tokens", self._input_tokens),
            SurfaceQuery("GET", _ONE, self._retrieve),
            SurfaceQuery("DELETE", _ONE, self._delete),
            SurfaceQuery("GET", _ONE + "/input_items", self._input_items),
        )

    def _kept(self, body: Mapping[str, object]) -> tuple[str, Kept]:
        id = str(body.get("response_id"))
        kept = self.store.get(id)
        if kept is None:
            raise UnknownResponse("response_id", id)
        return id, kept

    def _retrieve(self, body: Mapping[str, object], host: SurfaceHost) -> Body:
        return dict(self._kept(body)[1].body)

    def _delete(self, body: Mapping[str, object], host: SurfaceHost) -> Body:
        id, _ = self._kept(body)
        self.store.remove(id)
        return {"id": id, "object": "response", "deleted": True}

    def _input_items(self, body: Mapping[str, object], host: SurfaceHost) -> Body:
        """The newest first, as there; a page at a time."""
        id, kept = self._kept(body)
        items = [_listed(item, f"in_{id.removeprefix('resp_')}_{n}") for n, item in enumerate(kept.given)]
        if Fields(body).choice("order", "asc", "desc") != "asc":
            items.reverse()
        limit, after = str(body.get("limit", MOST_LISTED)), body.get("after")
        if not (limit.isascii() and limit.isdigit() and 1 <= int(limit[:9]) <= MOST_LISTED):
            raise InvalidRequest("limit", f"must be a number from 1 to {MOST_LISTED}")
        begin = max((n for n, item in enumerate(items, 1) if item["id"] == after), default=0)
        page = items[begin : begin + int(limit)]
        ends = (page[0]["id"], page[-1]["id"]) if page else ("", "")
        more = begin + len(page) < len(items)
        return {"object": "list", "data": page, "first_id": ends[0], "last_id": ends[1], "has_more": more}

    def _input_tokens(self, body: Mapping[str, object], host: SurfaceHost) -> Body:
        request, _, _ = parse(body, self.store)
        return {"object": "response.input_tokens", "input_tokens": host.count_tokens(request)}


def _listed(item: Item, id: str) -> Body:
    """An item as lists hold it: with an id, and its content in parts."""
    listed: Body = {"id": id, "type": "message", "status": "completed", **item}
    content = item.get("content")
    if isinstance(content, str):
        kind = "output_text" if item.get("role") == "assistant" else "input_text"
        content = [{"type": kind, "text": content}]
    if isinstance(content, list) and listed["type"] == "message":
        listed["content"] = [
            {"annotations": [], **part} if part["type"] == "output_text" else part for part in content
        ]
    return listed
