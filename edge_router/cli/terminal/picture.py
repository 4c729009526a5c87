"""Pictures of lines, dots and words: as SVG, which needs no library, or as PNG, which Pillow draws."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from html import escape
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from edge_router.errors import MissingExtra
from edge_router.records import dataclass
from edge_router.system.disk import storage_errors, write_bytes

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw

COLOURS = ("#1f77b4", "#d95f02", "#1b9e77", "#7570b3", "#e7298a", "#66a61e", "#a6761d", "#666666")
GREY = "#888888"  # readable on light and dark grounds
KINDS = (".svg", ".png")
DOT = 3.0  # radius
_SHARPNESS = 2  # pixels of a PNG for each unit of the picture
_SMOOTHNESS = 3  # and it is drawn so many times larger, for Pillow's lines have stairs
_WHITE = 255


@dataclass(frozen=True, slots=True)
class Polyline:
    """Through two points or more."""

    points: tuple[tuple[float, float], ...]
    colour: str = GREY
    width: float = 1.0
    opacity: float = 1.0


@dataclass(frozen=True, slots=True)
class Marker:
    x: float
    y: float
    colour: str = GREY


@dataclass(frozen=True, slots=True)
class TextMark:
    """`x` is where it starts, has its middle or ends; `y` its base line."""

    x: float
    y: float
    text: str
    anchor: Literal["start", "middle", "end"] = "start"
    colour: str = GREY
    size: int = 11


Mark = Polyline | Marker | TextMark


@dataclass(frozen=True, slots=True)
class Picture:
    """`marks` in the order in which they are drawn; units are an SVG's pixels, from the upper left corner."""

    width: int
    height: int
    marks: tuple[Mark, ...]


def check(file: Path) -> None:
    """Before work is done for it. Raises `ValueError` for another kind of file, `MissingExtra` for a PNG
    without Pillow.
    """
    kind = file.suffix.lower()
    if kind not in KINDS:
        raise ValueError(f"{file} must end in {' or '.join(KINDS)}: no other kind of picture is drawn")
    if kind == ".png" and find_spec("PIL") is None:
        raise MissingExtra("pillow", "plot", "drawing a PNG (an SVG needs nothing)")


def write(picture: Picture, file: Path) -> None:
    """As what the file's name says. Raises `StorageError`."""
    content = png(picture) if file.suffix.lower() == ".png" else svg(picture).encode("utf-8")
    with storage_errors(file.parent):
        write_bytes(file, content)


def below(pictures: Sequence[Picture]) -> Picture:
    """One under the other."""
    marks: list[Mark] = []
    top = 0
    for picture in pictures:
        marks += [_moved(mark, top) for mark in picture.marks]
        top += picture.height
    return Picture(max((p.width for p in pictures), default=1), max(top, 1), tuple(marks))


def _moved(mark: Mark, down: float) -> Mark:
    if isinstance(mark, Polyline):
        return replace(mark, points=tuple((x, y + down) for x, y in mark.points))
    return replace(mark, y=mark.y + down)


def svg(picture: Picture) -> str:
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{picture.width}" height="{picture.height}" '
        f'viewBox="0 0 {picture.width} {picture.height}" font-family="sans-serif">'
    )
    return "\n".join([head, *map(_element, picture.marks), "</svg>"]) + "\n"


def _element(mark: Mark) -> str:
    if isinstance(mark, Marker):
        return f'<circle cx="{mark.x:.1f}" cy="{mark.y:.1f}" r="{DOT:g}" fill="{mark.colour}"/>'
    if isinstance(mark, TextMark):
        where = f'x="{mark.x:.1f}" y="{mark.y:.1f}" text-anchor="{mark.anchor}"'
        return f'<text {where} fill="{mark.colour}" font-size="{mark.size}">{escape(mark.text)}</text>'
    look = f'stroke="{mark.colour}" stroke-width="{mark.width:g}" stroke-opacity="{mark.opacity:g}"'
    if len(mark.points) == 2:
        (x1, y1), (x2, y2) = mark.points
        return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" {look}/>'
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in mark.points)
    return f'<polyline points="{path}" fill="none" {look}/>'


def png(picture: Picture) -> bytes:
    """On white, for a PNG does not know what it is laid on."""
    from PIL import Image, ImageDraw

    scale = _SHARPNESS * _SMOOTHNESS
    image = Image.new("RGB", (picture.width * scale, picture.height * scale), "white")
    draw = ImageDraw.Draw(image)
    for mark in picture.marks:
        _draw(draw, mark, scale)
    buffer = BytesIO()
    image.reduce(_SMOOTHNESS).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _draw(draw: ImageDraw, mark: Mark, scale: int) -> None:
    if isinstance(mark, Polyline):
        points = [(x * scale, y * scale) for x, y in mark.points]
        draw.line(points, _faded(mark.colour, mark.opacity), round(mark.width * scale), joint="curve")
    elif isinstance(mark, Marker):
        draw.circle((mark.x * scale, mark.y * scale), DOT * scale, mark.colour)
    else:
        from PIL import ImageFont

        font = ImageFont.load_default(mark.size * scale)  # Pillow's own, so that no system font is needed
        anchor = {"start": "ls", "middle": "ms", "end": "rs"}[mark.anchor]
        draw.text((mark.x * scale, mark.y * scale), mark.text, mark.colour, font, anchor)


def _faded(colour: str, opacity: float) -> tuple[int, ...]:
    parts = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return tuple(round(opacity * part + (1 - opacity) * _WHITE) for part in parts)
