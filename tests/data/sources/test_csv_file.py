import numpy as np
import pytest

from cnnjax.data import open_source, splits
from cnnjax.data.sources.source import read_example
from tests.data.tiny_sources import write_pictures


@pytest.fixture
def table(tmp_path):
    """Writes a table beside the pictures a.png (1), b.png (2) and deep/c.png (3), and says how it is spelled."""
    write_pictures(tmp_path, a=1, b=2)
    write_pictures(tmp_path / "deep", c=3)

    def write(text: str, **options) -> str:
        (tmp_path / "table.csv").write_text(text, **({"encoding": "utf-8", "newline": ""} | options))
        return f"csv:{tmp_path / 'table.csv'}"

    return write


def greys(source):
    return [int(read_example(source, i)["image"].flat[0]) for i in range(len(source))]


def test_labels(table, tmp_path):
    spelling = table("path,label,width\nb.png,dog,3\ndeep/c.png,cat,3\n./a.png, dog ,3\n")
    assert splits(spelling) == ("train", "test", "all")
    source = open_source("csv:table.csv", "all", data_dir=tmp_path)
    assert source.info.classes == ("cat", "dog")
    assert source.info.shapes == {"image": (None, None, 3), "label": ()}
    assert (greys(source), source.column("label").tolist(), source.column("tags")) == ([2, 3, 1], [1, 0, 1], None)
    assert (source[0]["label"], source[0]["label"].dtype) == (1, np.int32)
    assert source.where(1) == f"{tmp_path / 'deep/c.png'} ({tmp_path / 'table.csv'}, row 3)"


def test_labels_that_are_numbers_are_sorted_by_value(table):
    source = open_source(table("file,label\na.png,10\nb.png,9\ndeep/c.png,-1\n"), "all")
    assert source.info.classes == ("-1", "9", "10")
    assert source.column("label").tolist() == [2, 1, 0]


@pytest.mark.parametrize(
    ("cells", "classes", "rows"),
    [
        (("sun sea", "", " sea  sky "), ("sea", "sky", "sun"), [[1, 0, 1], [0, 0, 0], [1, 1, 0]]),
        (("new york;sea", "sea;", "sky"), ("new york", "sea", "sky"), [[1, 1, 0], [0, 1, 0], [0, 0, 1]]),
        (("sea | new york", "sea;sky", "sea|sea"), ("new york", "sea", "sky"), [[1, 1, 0], [0, 1, 1], [0, 1, 0]]),
        (("10 9", "9", "9"), ("9", "10"), [[1, 1], [1, 0], [1, 0]]),
    ],
)
def test_tags(table, cells, classes, rows):
    names = ("a.png", "b.png", "deep/c.png")
    lines = [f"{name},{cell}" for name, cell in zip(names, cells, strict=True)]
    source = open_source(table("\n".join(["image,tags", *lines])), "all")
    assert source.info.classes == classes
    assert source.info.shapes["tags"] == (len(classes),)
    assert (source.column("tags").tolist(), source.column("tags").dtype, source.column("label")) == (
        rows,
        np.float32,
        None,
    )
    assert source[0]["tags"].tolist() == rows[0]


def test_a_column_per_tag(table):
    source = open_source(table("sea,filename,Sky,city,split\n1,a.png,0,0,all\n0,b.png,1,1,all\n"), "all")
    assert source.info.classes == ("Sky", "city", "sea")
    assert source.column("tags").tolist() == [[0, 0, 1], [1, 1, 0]]


def test_splits(table):
    spelling = table("Path,Split,Label\na.png,val,x\nb.png,train,y\ndeep/c.png,train,x\n")
    assert splits(spelling) == ("train", "val", "test")
    train, test = (open_source(spelling, split) for split in ("train", "test"))
    assert (greys(train), train.column("label").tolist()) == ([2, 3], [1, 0])
    assert (greys(test), test.column("label").tolist()) == ([1], [0])
    assert train.info.classes == test.info.classes == ("x", "y")
    assert train.where(0).endswith("table.csv, row 3)")
    assert splits(table("path,split,label\na.png,fold 1,x\nb.png,fold 2,y\n")) == ("fold 1", "fold 2")


def test_spreadsheets_write_marks_blank_rows_and_quotes(table):
    text = '\r\nimage,tags\r\n"a.png","x;""y"""\r\n,\r\nb.png,"two\nlines;x"\r\ndeep/c.png,x\r\n'
    source = open_source(table(text, encoding="utf-8-sig"), "all")
    assert source.info.classes == ('"y"', "two\nlines", "x")
    assert [source.where(i).rsplit(" ", 1)[1] for i in range(3)] == ["3)", "6)", "7)"]


def test_the_fingerprint_is_of_pictures_and_labels(table, tmp_path):
    def mark(text):
        return open_source(table(text), "all").info.fingerprint

    first = mark("path,label\na.png,x\nb.png,y\n")
    assert mark("label,width,file\nx,1,./a.png\ny,2,b.png\n") == first
    others = [mark("path,label\na.png,y\nb.png,x\n"), mark("path,label\nb.png,x\na.png,y\n")]
    with open(tmp_path / "b.png", "ab") as file:
        file.write(b"longer")
    assert len({first, *others, mark("path,label\na.png,x\nb.png,y\n")}) == 4


def test_the_fingerprint_of_a_split_is_its_own(table, tmp_path):
    spelling = table("path,split,label\na.png,val,x\nb.png,train,y\ndeep/c.png,train,x\n")
    before = [open_source(spelling, split).info.fingerprint for split in ("train", "val")]
    (tmp_path / "b.png").write_bytes(b"longer" * 50)
    after = [open_source(spelling, split).info.fingerprint for split in ("train", "val")]
    assert (before[0] != after[0], before[1] == after[1]) == (True, True)


@pytest.mark.parametrize(
    "header",
    [
        "a,b",
        "path,file,label",
        "path",
        "path,split",
        "path,label,tags",
        "path,label,Label",
        "path,label,",
    ],
)
def test_other_headers(table, header):
    row = ",".join(["a.png"] * len(header.split(",")))
    with pytest.raises(
        ValueError, match=rf"table\.csv has the header {header.lower()}.*; expected one column of image,"
    ):
        open_source(table(f"{header}\n{row}\n"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "has no rows of pictures; expected a header with one column of image"),
        ("path,label\n", "has no rows"),
        ("path,label\na.png,x\nb.png\n", "row 3 has 1 cells; expected 2"),
        ("path,label\na.png,x\nb.png,y,z\n", "row 3 has 3 cells; expected 2"),
        ('path,label\na.png,x\nb.png,"y\n', "is no CSV after row 2 .*close its quotes"),
        ("path,label\na.png,x\nb.png, \n", "row 3: the label is empty"),
        ("path,label\na.png,x\nb.png,x\n", "has one class only, 'x'; expected at least two"),
        ("path,label\na.png,x\nb.png,y\n./a.png,x\n", r"row 4: the picture './a\.png' is already in row 2; .*remove"),
        ("path,label\n,x\n", "row 2: the picture '' is not inside the folder"),
        ("path,label\n../a.png,x\n", r"row 2: the picture '\.\./a\.png' is not inside the folder"),
        ("path,label\ndeep/../a.png,x\n", "row 2: .* is not inside the folder"),
        ("path,label\n/etc/hostname,x\n", "row 2: the picture '/etc/hostname' is not inside the folder"),
        ("path,label\ndeep,x\n", "row 2: the picture 'deep' is no file"),
        ("path,tags\na.png,\nb.png,\n", "has no tags in its column tags"),
        (
            'path,tags\na.png,x\nb.png,"x,y"\n',
            "row 3: the tags are 'x,y'; expected names separated by ; or | or spaces",
        ),
        ("path,tags\na.png,['x']\n", r"row 2: the tags are \"\['x'\]\"; expected names"),
        ("path,x,y\na.png,1,0\nb.png,1,2\n", "row 3: column y has '2'; expected 0 or 1"),
        ("path,x,y\na.png,1,0\nb.png,,1\n", "row 3: column x has ''; expected 0 or 1"),
        ("path,label,split\na.png,x,train\nb.png,y,\n", "row 3: the split is ''; expected a name"),
        ("path,label,split\na.png,x,train[:5]\nb.png,y,train\n", r"row 2: the split is 'train\[:5\]'"),
    ],
)
def test_bad_rows_are_named(table, text, words):
    with pytest.raises(ValueError, match=r"table\.csv.*" + words.replace("|", r"\|")):
        open_source(table(text))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("image,label\na.png\0,x\nb.png,y\n", "row 2 holds a NUL character"),
        (
            "path;label\na.png;x, y\n",
            "has the header path;label, one column, as if ';' separated .*save it with commas",
        ),
        ("path,class\na.png,x\nb.png,y\n", "column class has 'x'; expected 0 or 1, .*names the class .*call it label"),
        ("path,split,label\na.png,val,x\nb.png,Valid,y\n", "the column split has 'val' and 'Valid', which both stand"),
        ("path,split,label\na.png,Train,x\nb.png,test,y\n", "the split test has the classes y, of which train has no"),
    ],
)
def test_tables_of_other_makers_are_told_what_to_change(table, text, words):
    with pytest.raises(ValueError, match=rf"table\.csv.*{words}"):
        open_source(table(text))


def test_usual_names_of_splits_and_one_spelling_of_classes(table):
    spelling = table("path,split,label\na.png,Training,caf\u00e9\nb.png,Training,x\ndeep/c.png,Dev,cafe\u0301\n")
    assert splits(spelling) == ("train", "val", "test")
    val = open_source(spelling, "validation")
    assert (val.info.classes, val.column("label").tolist()) == (("caf\u00e9", "x"), [0])
    assert val.info.remarks == ("the split val has no examples of x",)
    flags = open_source(table("path,cafe\u0301\na.png,1\nb.png,0\n"), "all")
    assert flags.info.classes == ("caf\u00e9",)


def test_missing_pictures_and_tables(table, tmp_path):
    with pytest.raises(
        FileNotFoundError,
        match=rf"table\.csv, row 3: the picture 'd\.png' is missing .*{tmp_path}/d\.png: put it there",
    ):
        open_source(table("path,label\na.png,x\nd.png,y\n"))
    with pytest.raises(FileNotFoundError, match="there is no file"):
        open_source(f"csv:{tmp_path / 'absent.csv'}")
    with pytest.raises(ValueError, match="is not UTF-8"):
        open_source(table("path,label\na.png,ä\n", encoding="latin-1"))


@pytest.mark.parametrize(("link", "name"), [("e.png", "e.png"), ("away", "away/p.png")])
def test_links_out_of_the_folder_are_refused(table, tmp_path, tmp_path_factory, link, name):
    outside = tmp_path_factory.mktemp("outside")
    write_pictures(outside, p=5)
    (tmp_path / link).symlink_to(outside / "p.png" if link == name else outside)
    with pytest.raises(ValueError, match=rf"row 3: the picture '{name}' is reached by a link that leads outside"):
        open_source(table(f"path,label\na.png,x\n{name},y\n"))
    followed = open_source(f"csv:{tmp_path / 'table.csv'}", "all", follow_links=True)
    assert greys(followed) == [1, 5]
    (tmp_path / link).unlink()
    (tmp_path / link).symlink_to(tmp_path / "b.png" if link == name else tmp_path / "deep")
    inside = name.replace("p.png", "c.png")
    assert greys(open_source(table(f"path,label\na.png,x\n{inside},y\n"), "all"))[0] == 1
