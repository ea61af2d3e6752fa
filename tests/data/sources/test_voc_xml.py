import time

import numpy as np
import pytest

from cnnjax.data.sources.voc_xml import read_annotation
from tests.data.tiny_sources import write_xml


@pytest.fixture
def note(tmp_path):
    """Writes an annotation, from its text or its parts."""

    def write(*parts, **options):
        file = tmp_path / "a.xml"
        if isinstance(parts[0], str):
            file.write_text(parts[0], encoding=options.get("encoding", "utf-8"))
        else:
            write_xml(file, *parts, **options)
        return file

    return write


def test_an_annotation_of_the_challenge(note):
    found = read_annotation(
        note(
            """<?xml version="1.0"?><annotation><folder>VOC2007</folder><filename>000001.jpg</filename>
            <size><width>353</width><height>500</height><depth>3</depth></size><segmented>0</segmented>
            <object><name>dog</name><pose>Left</pose><truncated>1</truncated><difficult>0</difficult>
            <bndbox><xmin>48</xmin><ymin>240</ymin><xmax>195</xmax><ymax>371</ymax></bndbox></object>
            <object><bndbox><ymax>498</ymax><xmax>352.5</xmax><ymin> 12 </ymin><xmin>8</xmin></bndbox>
            <name> person </name><difficult>1</difficult>
            <part><name>head</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox></part>
            </object></annotation>"""
        )
    )
    assert (found.sides, found.names) == ((500, 353), ("dog", "person"))
    assert found.written.tolist() == [[48, 240, 195, 371], [8, 12, 352.5, 498]]
    assert found.boxes.tolist() == [[47, 239, 195, 371], [7, 11, 352.5, 498]]
    assert (found.truncated.tolist(), found.difficult.tolist()) == ([True, False], [False, True])


def test_a_picture_without_objects(note):
    found = read_annotation(note((4, 5)))
    assert (found.names, found.boxes.shape, found.difficult.dtype) == ((), (0, 4), np.dtype(bool))


def test_names_are_composed(note):
    assert read_annotation(note((4, 5), ("cafe\u0301", 1, 1, 2, 2))).names == ("caf\u00e9",)


BOX = "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox>"
SIZE = "<size><width>5</width><height>4</height></size>"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is no XML .*no element found.*restore it"),
        ("<annotation><object>", "is no XML"),
        ("<annotation></annotation>", "tells no size: its height is ''; expected <size><width>640"),
        (f"<a>{SIZE.replace('4', '0')}</a>", "tells no size: its height is '0'"),
        (f"<a>{SIZE.replace('5', '-5')}</a>", "tells no size: its width is '-5'"),
        (f"<a>{SIZE}<object>{BOX}</object></a>", "object 1 has no <name>"),
        (
            f"<a>{SIZE}<object><name>x</name></object></a>",
            r"object 1 \(x\) has no <bndbox>; expected one with xmin, ymin",
        ),
        (
            f"<a>{SIZE}<object><name>x</name>{BOX.replace('2</xmax>', 'two</xmax>')}</object></a>",
            r"object 1 \(x\): its xmax is 'two'; expected a number of pixels",
        ),
        (
            f"<a>{SIZE}<object><name>x</name>{BOX.replace('<ymin>1</ymin>', '')}</object></a>",
            "its ymin is ''; expected a number",
        ),
        (
            f"<a>{SIZE}<object><name>x</name><difficult>yes</difficult>{BOX}</object></a>",
            r"object 1 \(x\): difficult is 'yes'; expected 0 or 1",
        ),
        ("<?xml version='1.0' encoding='utf-9'?><a/>", "cannot be read|is no XML"),
    ],
)
def test_what_is_not_sound_is_named(note, text, words):
    with pytest.raises(ValueError, match=rf"a\.xml.*({words})"):
        read_annotation(note(text))


def test_nothing_is_declared_expanded_or_fetched(note, tmp_path):
    laughs = "".join(f'<!ENTITY l{level} "{f"&l{level - 1};" * 10 if level else "lol" * 100}">' for level in range(12))
    (tmp_path / "secret.txt").write_text("secret")
    for declared in (
        f"<!DOCTYPE a [{laughs}]>",
        f'<!DOCTYPE a [<!ENTITY l11 SYSTEM "file://{tmp_path}/secret.txt">]>',
        '<!DOCTYPE a SYSTEM "http://localhost/a.dtd">',
        "<!DOCTYPE a>",
    ):
        file = note(f"<?xml version='1.0'?>{declared}<a>{SIZE}<object><name>&l11;</name>{BOX}</object></a>")
        began = time.monotonic()
        with pytest.raises(ValueError, match=r"a\.xml cannot be read: it has a DOCTYPE, .*; remove it"):
            read_annotation(file)
        assert time.monotonic() - began < 5
    # In another encoding than the one that a search for the word would know.
    with pytest.raises(ValueError, match="it has a DOCTYPE"):
        read_annotation(note(f"<?xml version='1.0' encoding='utf-16'?><!DOCTYPE a><a>{SIZE}</a>", encoding="utf-16"))


def test_a_file_that_is_too_large_is_not_read_whole(note, monkeypatch):
    monkeypatch.setattr("cnnjax.data.sources.voc_xml._MOST_BYTES", 50)
    with pytest.raises(ValueError, match="has more than 50 bytes"):
        read_annotation(note((4, 5), ("x", 1, 1, 2, 2)))
