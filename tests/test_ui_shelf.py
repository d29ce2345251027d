"""The takes on disk: whose they are, and which make room for new ones."""

from pathlib import Path

import pytest

from tests.pages import setup_in
from ui.speaking import shelf as shelf_module
from ui.speaking.record import RECORD
from ui.speaking.shelf import Shelf
from ui.speaking.take import Take

MIB = 1024 * 1024


def shelf_in(folder: Path, limit_mb: int = 1024) -> Shelf:
    return Shelf(setup_in(folder, takes_limit_mb=limit_mb))


def put(shelf: Shelf, owner: str, size_bytes: int = 0, is_over: bool = True) -> Take:
    take = shelf.create(owner, {"text": "hello"})
    take.pcm.write_bytes(bytes(size_bytes))
    if is_over:
        take.end("done")
    return take


def test_each_browser_sees_its_own_the_newest_first(tmp_path: Path) -> None:
    shelf = shelf_in(tmp_path)
    mine = [put(shelf, "me") for _ in range(3)]
    theirs = put(shelf, "them")
    assert shelf.of("me") == mine[::-1], "also those of one second"
    assert shelf.of("them") == [theirs]
    assert shelf.of("nobody") == shelf.of("") == []


def test_takes_are_found_again_after_a_restart(tmp_path: Path) -> None:
    take = put(shelf_in(tmp_path), "me", 8)
    found = shelf_in(tmp_path).get(take.id)
    assert found is not None and found.audio_bytes == 8
    assert [each.id for each in shelf_in(tmp_path).of("me")] == [take.id]


def test_the_oldest_take_of_a_browser_makes_room_for_one_too_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shelf_module, "MOST_TAKES", 3)
    shelf = shelf_in(tmp_path)
    other = put(shelf, "them")
    mine = [put(shelf, "me") for _ in range(4)]
    assert shelf.of("me") == [mine[3], mine[2], mine[1]]
    assert not mine[0].folder.exists()
    assert shelf.of("them") == [other]


def test_the_oldest_of_all_make_room_on_disk(tmp_path: Path) -> None:
    shelf = shelf_in(tmp_path, limit_mb=2)
    oldest = put(shelf, "them", MIB - 4096)
    second = put(shelf, "me", MIB - 4096)
    third = put(shelf, "me", MIB // 2)
    assert shelf.get(oldest.id) is oldest, "there was room when the third came"
    newest = put(shelf, "me")
    assert shelf.get(oldest.id) is None and not oldest.folder.exists()
    assert shelf.of("me") == [newest, third, second]


def test_a_take_at_work_is_never_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shelf_module, "MOST_TAKES", 2)
    shelf = shelf_in(tmp_path, limit_mb=1)
    at_work = [put(shelf, "me", MIB, is_over=False) for _ in range(3)]
    over = put(shelf, "me", MIB)
    newest = put(shelf, "me")
    assert shelf.of("me") == [newest, *at_work[::-1]]
    assert shelf.get(over.id) is None


def test_damaged_and_foreign_folders_are_left_out_and_left_alone(tmp_path: Path) -> None:
    shelf = shelf_in(tmp_path)
    good, bad = put(shelf, "me"), put(shelf, "me")
    (bad.folder / RECORD).write_bytes(b"{")
    foreign = good.folder.parent / "not a take"
    foreign.mkdir()
    (good.folder.parent / "file").touch()
    found = shelf_in(tmp_path)
    assert [take.id for take in found.of("me")] == [good.id]
    assert found.get(bad.id) is None
    assert foreign.is_dir() and bad.folder.is_dir()


@pytest.mark.parametrize("take_id", ["", "..", "../..", "x" * 21, "x" * 22, "a/../" + "x" * 17])
def test_only_ids_of_takes_are_looked_up(tmp_path: Path, take_id: str) -> None:
    assert shelf_in(tmp_path).get(take_id) is None


def test_a_removed_take_is_gone(tmp_path: Path) -> None:
    shelf = shelf_in(tmp_path)
    take = put(shelf, "me")
    shelf.remove(take)
    shelf.remove(take)
    assert shelf.get(take.id) is None and not take.folder.exists()


def test_a_disk_that_refuses_is_told(tmp_path: Path) -> None:
    (tmp_path / "ui").write_text("a file where the folder should be")
    shelf = shelf_in(tmp_path)
    with pytest.raises(OSError):
        shelf.create("me", {"text": "hello"})
