"""What travels in the place of Anthropic's signatures: clients hand these back untouched, and drop the rest.

Thoughts of other endpoints, and what these hang on calls of tools, go to the client and back so. Pure.
"""

from __future__ import annotations

import base64
import json

from edge_router.chat.message import Fields
from edge_router.parsing import strict_json
from edge_router.surfaces.base import Body

THINKING, REDACTED = "thinking_block", "redacted_thinking"  # labels of what Anthropic's own endpoint signed
_SEAL = "edge_router."


def signed(label: str, opaque: Fields) -> str:
    """A thinking block's signature. Thoughts that nobody signed and nobody names have an empty one."""
    own = opaque.get("signature")
    if label == THINKING and isinstance(own, str) and len(opaque) == 1:
        return own
    return sealed({"label": label, "opaque": dict(opaque)}) if label or opaque else ""


def sealed(held: Body) -> str:
    return _SEAL + base64.urlsafe_b64encode(json.dumps(held).encode()).decode()


def opened(signature: str) -> Body | None:
    """None for a signature that is not of our making."""
    if not signature.startswith(_SEAL):
        return None
    try:
        return strict_json.parse_object(base64.urlsafe_b64decode(signature.removeprefix(_SEAL)))
    except (ValueError, strict_json.NotJson):
        return None
