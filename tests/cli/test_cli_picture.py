"""One picture as SVG and as PNG."""

from __future__ import annotations

import io
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from edge_router.cli.terminal import picture as pictures
from edge_router.cli.terminal.picture import Marker, Picture, Polyline, TextMark, below
from edge_router.errors import MissingExtra, StorageError

PICTURE = Picture(
    60,
    40,
    (
        Polyline(((5, 10), (55, 10)), "#ff0000", 2),
        Polyline(((5, 20), (20, 25), (40, 20)), "#0000ff", 2, opacity=0.5),
        Marker(30, 30, "#00ff00"),
        TextMark(55, 35, "<a & b>", "end", "#000000"),
    ),
)


def test_svg_has_every_mark_and_its_words_are_escaped():
    drawn = ElementTree.fromstring(pictures.svg(PICTURE))
    assert [element.tag.rpartition("}")[2] for element in drawn] == ["line", "polyline", "circle", "text"]
    assert drawn[3].text == "<a & b>" and drawn[3].get("text-anchor") == "end"
    assert (drawn.get("width"), drawn.get("height")) == ("60", "40")


def test_png_has_the_colours_where_the_svg_has_them(tmp_path):
    from PIL import Image

    pictures.write(PICTURE, tmp_path / "a.PNG")
    image = Image.open(io.BytesIO((tmp_path / "a.PNG").read_bytes()))
    assert (image.format, image.size) == ("PNG", (120, 80))
    assert image.getpixel((60, 20)) == (255, 0, 0)
    assert image.getpixel((60, 60)) == (0, 255, 0)
    assert image.getpixel((2, 2)) == (255, 255, 255)
    faded = image.getpixel((40, 50))
    assert faded[2] > 240 and 100 < faded[0] < 200
    words = image.crop((60, 50, 112, 76)).getcolors(10_000)
    assert any(max(colour) < 100 for _, colour in words)


def test_pictures_stand_one_under_the_other():
    whole = below([PICTURE, PICTURE])
    assert (whole.width, whole.height, len(whole.marks)) == (60, 80, 8)
    assert whole.marks[6] == Marker(30, 70, "#00ff00") and whole.marks[4].points == ((5, 50), (55, 50))
    assert below([]).marks == ()


def test_what_cannot_be_drawn_is_refused_beforehand(monkeypatch):
    with pytest.raises(ValueError, match=r"must end in \.svg or \.png"):
        pictures.check(Path("a.jpg"))
    monkeypatch.setattr(pictures, "find_spec", lambda name: None)
    pictures.check(Path("a.svg"))
    with pytest.raises(MissingExtra) as caught:
        pictures.check(Path("a.png"))
    assert (caught.value.package, caught.value.extra) == ("pillow", "plot")


def test_a_folder_that_cannot_be_written_to(tmp_path, monkeypatch):
    def refuse(path, content):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(pictures, "write_bytes", refuse)
    with pytest.raises(StorageError):
        pictures.write(PICTURE, tmp_path / "a.svg")
