"""Bounds on what one client can ask of the server: seconds and bytes."""

from __future__ import annotations

from edge_router.records import dataclass

MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """`body_bytes` is of one body, also of what a compressed one unpacks to."""

    head_s: float = 20.0  # from a request's first byte to the end of its headers
    body_s: float = 120.0  # for a whole body
    write_s: float = 60.0  # without a byte taken by a client to whom there is something to write
    grace_s: float = 0.5  # the same, while the server stops
    hold_s: float = 0.3  # a stream's headers wait so long for the decision
    quiet_s: float = 2.0  # a reply in one body that takes longer begins with blanks
    comment_s: float = 5.0  # between two signs of life where there is nothing to say
    body_bytes: int = 32 * MIB  # images for the strong model travel in bodies
    body_values: int = 100_000  # of JSON; a long conversation has thousands
    bodies_bytes: int = 128 * MIB  # of all requests under way together
    small_bytes: int = 64 * 1024  # of each body, not counted above: a short question always has room
    unread_bytes: int = 64 * 1024  # of one stream, made and not yet written: then the model pauses
