import base64
import io
import subprocess
import sys
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from cnnjax.view.page import Gallery, Picture, Section, Table, Text, render

HOSTILE = """<script>alert(1)</script> & "double" 'single' <img src=x onerror=alert(2)>"""
VOID = {"meta", "link", "img", "br"}


def png(width=30, height=15):
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), "red").save(buffer, "PNG")
    return buffer.getvalue()


class Reader(HTMLParser):
    """What a browser would see: every element with its attributes and its own text, and well-nested tags."""

    def __init__(self, html):
        super().__init__()
        self.elements, self.open = [], []
        self.feed(html)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.elements.append({"tag": tag, "text": "", **dict(attrs)})
        if tag not in VOID:
            self.open.append(self.elements[-1])

    def handle_endtag(self, tag):
        assert self.open.pop()["tag"] == tag

    def handle_data(self, data):
        if self.open:
            self.open[-1]["text"] += data

    def all(self, *tags):
        return [element for element in self.elements if element["tag"] in tags]

    def texts(self, *tags):
        return [element["text"] for element in self.all(*tags)]


def hostile_page():
    blocks = (
        Text(HOSTILE),
        Table([HOSTILE], [[HOSTILE]], HOSTILE),
        Picture(png(), HOSTILE, HOSTILE),
    )
    return render(HOSTILE, [Section(HOSTILE, blocks)] * 4, subtitle=HOSTILE, facts=[(HOSTILE, HOSTILE)])


def test_hostile_strings_come_out_as_text():
    html = hostile_page()
    assert "<script" not in html
    assert "<img src=x" not in html
    reader = Reader(html)
    for tag in ("title", "h1", "h2", "p", "dt", "dd", "th", "td", "figcaption", "a"):
        assert set(reader.texts(tag)) == {HOSTILE}, tag
    assert {image["alt"] for image in reader.all("img")} == {HOSTILE}
    assert not reader.all("script")
    assert not [name for element in reader.elements for name in element if name.startswith("on")]


def test_characters_that_are_not_seen_are_shown():
    hostile = "photo\u202egnp.exe\x1b[2J"
    reader = Reader(render(hostile, [Section("s", (Text(hostile), Table([hostile], [[hostile]])))]))
    for tag in ("title", "h1", "p", "th", "td"):
        assert set(reader.texts(tag)) == {r"photo\u202egnp.exe\x1b[2J"}, tag


def test_nothing_is_fetched():
    html = hostile_page()
    assert "http://" not in html
    assert "https://" not in html
    assert "@import" not in html
    assert "url(" not in html
    for element in Reader(html).elements:
        assert element.get("src", "data:").startswith("data:")
        assert element.get("href", "#").startswith(("#", "data:"))


def test_policy_forbids_everything_but_inline_pictures_and_styles():
    reader = Reader(render("Run", []))
    (policy,) = [m["content"] for m in reader.all("meta") if m.get("http-equiv") == "Content-Security-Policy"]
    rules = {rule.split()[0]: rule.split()[1:] for rule in policy.split(";")}
    assert rules["default-src"] == ["'none'"]
    assert rules["img-src"] == ["data:"]
    assert rules["style-src"] == ["'unsafe-inline'"]
    assert "script-src" not in rules


def test_document_says_its_language_encoding_and_width():
    html = render("Run", [], subtitle="of today")
    reader = Reader(html)
    assert html.startswith("<!DOCTYPE html>")
    assert reader.all("html")[0]["lang"] == "en"
    assert [m["charset"] for m in reader.all("meta") if "charset" in m] == ["utf-8"]
    assert [m["content"] for m in reader.all("meta") if m.get("name") == "viewport"] == [
        "width=device-width, initial-scale=1"
    ]
    assert "prefers-color-scheme: dark" in reader.texts("style")[0]
    assert "@media print" in reader.texts("style")[0]


def test_table_comes_back_as_it_went_in():
    table = Table(["layer", "MACs", "share"], [["C1", 122304, 0.25], ["S2", None, 1 / 3], ["C3", "1,516", 1e-9]])
    reader = Reader(render("Run", [Section("Layers", (table,))]))
    assert reader.texts("th") == ["layer", "MACs", "share"]
    assert reader.texts("td") == ["C1", "122304", "0.25", "S2", "", "0.333333", "C3", "1,516", "1e-09"]


@pytest.mark.parametrize(
    ("cells", "numeric"),
    [
        ([1, 2.5, None], True),
        (["98.5 %", "3.2 MiB", "-"], True),
        (["0.98 ± 0.01", "\N{MINUS SIGN}1e-5"], True),
        ([float("nan"), float("-inf")], True),
        (["3", "conv"], False),
        (["5x5", "14x14"], False),
        ([None, ""], False),
    ],
)
def test_columns_of_numbers_are_right_aligned(cells, numeric):
    reader = Reader(render("Run", [Section("t", (Table(["a"], [[cell] for cell in cells]),))]))
    marks = {element.get("class") for element in reader.all("th", "td")}
    assert marks == ({"number"} if numeric else {None})
    assert ".number { text-align: right" in reader.texts("style")[0]


def test_table_scrolls_inside_its_own_box():
    html = render("Run", [Section("t", (Table(["a"], [["1"]], "Costs"),))])
    (box,) = [element for element in Reader(html).all("div") if element.get("class") == "scroll"]
    assert box["aria-label"] == "Costs"
    assert html.index('class="scroll"') < html.index("<table")


def test_ragged_table_raises():
    with pytest.raises(ValueError, match=r"rows\[1\]: 1 cells; the header has 2"):
        Table(["a", "b"], [["1", "2"], ["3"]])


def test_picture_is_inside_the_page_with_its_words():
    data = png(300, 150)
    reader = Reader(render("Run", [Section("p", (Picture(data, "a red field", "Red."),))]))
    (image,) = reader.all("img")
    assert base64.b64decode(image["src"].removeprefix("data:image/png;base64,")) == data
    assert (image["alt"], image["width"], image["height"]) == ("a red field", "192", "96")
    assert reader.texts("figcaption") == ["Red."]


def test_heavy_pictures_are_compressed_and_shown_at_their_size():
    noise = np.random.default_rng(0).integers(0, 256, (150, 300, 3)).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, "PNG")
    reader = Reader(render("Run", [Section("p", (Picture(buffer.getvalue(), "noise"),))]))
    (image,) = reader.all("img")
    kind, data = image["src"].split(";base64,")
    assert kind == "data:image/webp"
    shown = Image.open(io.BytesIO(base64.b64decode(data)))
    assert (shown.format, shown.size, image["width"]) == ("WEBP", (300, 150), "192")
    assert len(data) < 0.7 * len(buffer.getvalue())


def test_a_gallery_wraps_and_its_pictures_fit_a_telephone():
    html = render("Run", [Section("p", (Gallery((Picture(png(), "one"), Picture(png(), "two"))),))])
    reader = Reader(html)
    assert [image["alt"] for image in reader.all("img")] == ["one", "two"]
    assert [element for element in reader.all("div") if element.get("class") == "gallery"]
    assert ".gallery { display: flex; flex-wrap: wrap" in html
    assert ".gallery .plate img { max-width: 100%; }" in html


def test_picture_must_be_a_png_with_words():
    with pytest.raises(ValueError, match="expected a PNG"):
        Picture(b"<svg onload='alert(1)'/>", "drawing")
    with pytest.raises(ValueError, match="alt: empty"):
        Picture(png(), " ")


@pytest.mark.parametrize("count", [3, 4])
def test_contents_from_four_sections_on(count):
    reader = Reader(render("Run", [Section(f"Part {i}", ()) for i in range(count)]))
    links = {link["href"].removeprefix("#"): link["text"] for link in reader.all("a")}
    anchors = [section["id"] for section in reader.all("section")]
    assert len(set(anchors)) == count
    expected = {anchor: f"Part {i}" for i, anchor in enumerate(anchors)} if count > 3 else {}
    assert links == expected


def test_text_splits_at_empty_lines_and_facts_keep_their_order():
    facts = [("seed", "7"), ("loss", "0.1"), ("accuracy", "99 %")]
    html = render("Run", [Section("s", (Text("one\nline\n\n two"),))], facts=facts)
    reader = Reader(html)
    assert reader.texts("p") == ["one\nline", "two"]
    assert reader.texts("dt") == ["seed", "loss", "accuracy"]
    assert reader.texts("dd") == ["7", "0.1", "99 %"]
    assert html.index("<dl") < html.index("<main")


def test_page_needs_no_matplotlib():
    check = "import cnnjax.view.page, sys; sys.exit('matplotlib' in sys.modules or 'jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0
