"""What every protocol bounds alike, the words that several of them have, and how both are refused."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from edge_router.chat.request import HostedTool, Tool
from edge_router.errors import InvalidRequest, clipped
from edge_router.parsing.field_names import nearest
from edge_router.parsing.fields import Fields

MAX_FIELDS = 100  # of a request
MAX_TOKENS = 2**31 - 1
MAX_TOOLS = 512  # agents with many servers of tools have some hundreds
MAX_STOPS, LONGEST_STOP = 64, 1000  # editors send a dozen
LONGEST_MODEL, LONGEST_TOOL = 256, 128  # characters of a name
INT64 = 2**63
# How much an answer is worth thinking about, in the words of all endpoints together.
EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
NO_TOOLS = "demands a call, and there are no tools"
VERBOSITIES = ("low", "medium", "high")


def read_model(fields: Fields) -> str:
    """The name that is asked for. Raises `InvalidRequest`."""
    return bounded_name(fields, "model", fields.string("model", default="auto"))


def bounded_name(fields: Fields, field: str, name: str) -> str:
    """Raises `InvalidRequest` for a name of a model that is none."""
    if len(name) > LONGEST_MODEL:
        raise fields.refuse(field, f"has more than {LONGEST_MODEL} characters")
    return name


def listed_tools(value: object, where: str) -> Sequence[object]:
    """The tools of a request, as many as are taken. Raises `InvalidRequest`."""
    if value is None:
        return ()
    if not isinstance(value, list):
        raise InvalidRequest(where, "must be a list of tools")
    if len(value) > MAX_TOOLS:
        raise InvalidRequest(where, f"holds {len(value)} tools, at most {MAX_TOOLS} are taken")
    return value


def check_tools_differ(tools: Iterable[Tool | HostedTool], where: str) -> None:
    """Raises `InvalidRequest` for two of one name: nobody could tell which of them is called."""
    seen: set[str] = set()
    for index, tool in enumerate(tools):
        if isinstance(tool, Tool) and tool.name in seen:
            raise InvalidRequest(
                f"{where}[{index}].name", f"{clipped(tool.name)!r} is another tool's name, too"
            )
        seen.add(tool.name)


def read_schema(fields: Fields, name: str) -> Mapping[str, object] | None:
    """The JSON schema of a tool's arguments, which are an object. Raises `InvalidRequest`."""
    schema = fields.get(name)
    if schema is None:
        return None
    if not isinstance(schema, Mapping):
        raise fields.refuse(name, "must be a JSON schema: an object")
    if schema.get("type") not in (None, "object"):
        raise fields.refuse(f"{name}.type", "must be object")
    return schema


def check_slip(fields: Fields, name: str, known: Collection[str]) -> None:
    """For a word that may be one of others': raises `InvalidRequest` where it is nearly one of ours."""
    word = fields.get(name)
    meant = nearest(word, frozenset(known)) if isinstance(word, str) and word not in known else None
    if meant is not None:
        raise fields.refuse(name, f"is nothing that is known here; did you mean {meant}?")
