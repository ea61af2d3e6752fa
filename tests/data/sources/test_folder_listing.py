import os

import pytest

from cnnjax.data.pictures.decode import SUFFIXES
from cnnjax.data.sources.folder_listing import (
    HIDDEN,
    NO_SUFFIX,
    OTHER_LINK,
    Folder,
    list_below,
    list_folder,
    tell_skipped,
)
from tests.data.tiny_sources import write_pictures


def whole(root):
    return Folder("", os.path.realpath(root), frozenset([os.path.realpath(root)]))


def found_below(root):
    (listing,) = list_below(root, [whole(root)])
    return [path for path, _ in listing.files]


def test_pictures_are_found_by_suffix_and_hidden_ones_passed_over(tmp_path):
    kept = [
        "a.jpg",
        "b.JPEG",
        "b.b.PnG",
        "c.webp",
        "d.bmp",
        "e.gif",
        "f.tif",
        "g.TIFF",
        "deep/down/h.jpg",
        "i.png/j.png",
        "k.jfif",
        "l.jpe",
        *(f"m{suffix}" for suffix in SUFFIXES if suffix == ".avif"),
    ]
    for name in [*kept, ".hidden.jpg", "deep/.git/k.jpg", "notes.txt", "jpg", "l.npy"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x" * len(name))
    os.mkfifo(tmp_path / "pipe.jpg")
    (listing,) = list_below(tmp_path, [whole(tmp_path)])
    assert listing.files == sorted((name, len(name)) for name in kept)
    status = (tmp_path / "deep").stat()
    assert ("deep", status.st_mtime_ns, status.st_ino) in listing.stamps
    assert sorted(path for path, _, _ in listing.stamps) == ["", "deep", "deep/down", "i.png"]


def test_one_folder_is_listed_by_name(tmp_path):
    for name in ("b", "a", "c"):
        (tmp_path / name).mkdir()
    assert [folder.path for folder in list_folder(tmp_path, whole(tmp_path)).folders] == ["a", "b", "c"]


@pytest.fixture
def linked(tmp_path):
    root, outside = tmp_path / "root", tmp_path / "outside"
    write_pictures(root / "cat", one=1)
    write_pictures(outside / "dog", two=2)
    return root, outside


def test_links_within_the_root_are_followed(linked):
    root, _ = linked
    (root / "again").symlink_to("cat")
    (root / "cat" / "same.png").symlink_to(root / "cat" / "one.png")
    assert found_below(root) == ["again/one.png", "again/same.png", "cat/one.png", "cat/same.png"]


@pytest.mark.parametrize(
    ("link", "target"),
    [
        ("cat/two.png", "outside/dog/two.png"),
        ("dog", "outside/dog"),
        ("up", "."),
        ("beside", "root-and-more"),
    ],
)
def test_links_out_of_the_root_are_refused(linked, link, target):
    root, _ = linked
    write_pictures(root.parent / "root-and-more", three=3)
    (root / link).symlink_to(root.parent / target)
    with pytest.raises(ValueError, match=rf"the link {root / link} leads outside {root}, to .*copy"):
        found_below(root)


def test_other_links_do_not_matter(linked):
    root, outside = linked
    (outside / "notes.txt").touch()
    (root / "notes.txt").symlink_to(outside / "notes.txt")
    (root / "gone").symlink_to(outside / "gone")
    assert found_below(root) == ["cat/one.png"]
    (root / "gone.png").symlink_to(outside / "gone.png")
    with pytest.raises(ValueError, match=rf"the link {root / 'gone.png'} leads nowhere \(No such file"):
        found_below(root)


def test_a_link_to_itself_leads_nowhere(linked):
    root, _ = linked
    (root / "self.png").symlink_to("self.png")
    with pytest.raises(ValueError, match=r"self\.png leads nowhere"):
        found_below(root)


@pytest.mark.parametrize("links", [{"cat/up": "."}, {"cat/self": "cat"}, {"cat/to": "dog", "dog/fro": "cat"}])
def test_circles_are_errors_and_do_not_hang(linked, links):
    root, _ = linked
    write_pictures(root / "dog", two=2)
    for link, target in links.items():
        (root / link).symlink_to(root / target)
    with pytest.raises(ValueError, match=rf"the link {root}/.* leads back to a folder it lies in; remove it"):
        found_below(root)


def test_a_setting_follows_links_out_of_the_root(linked):
    root, outside = linked
    (root / "dog").symlink_to(outside / "dog")
    (root / "cat" / "two.png").symlink_to(outside / "dog" / "two.png")
    (listing,) = list_below(root, [whole(root)], follow_links=True)
    assert [path for path, _ in listing.files] == ["cat/one.png", "cat/two.png", "dog/two.png"]
    (outside / "dog" / "up").symlink_to(root)
    with pytest.raises(ValueError, match="leads back to a folder it lies in"):
        list_below(root, [whole(root)], follow_links=True)


def test_what_is_passed_over_is_counted(tmp_path):
    for name in ("a.jpg", "b.heic", "c.HEIC", "notes.txt", "README", "Thumbs.db", ".x.jpg", "@eaDir/a.jpg/THUMB.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "__MACOSX").mkdir()
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    (listing,) = list_below(tmp_path, [whole(tmp_path)])
    assert [path for path, _ in listing.files] == ["a.jpg"]
    assert listing.skipped == {HIDDEN: 4, ".heic": 2, ".txt": 1, NO_SUFFIX: 1, OTHER_LINK: 1}
    assert tell_skipped(listing.skipped) == (
        "passed over: 4 hidden or of the system, 2 .heic, 1 .txt, 1 links that are not followed, 1 without a suffix"
    )
    assert tell_skipped({}) == ""
