"""Places: another reader goes on exactly where one stopped, whatever happened to the files in between."""

from __future__ import annotations

import asyncio
import gzip
import os
import random
from pathlib import Path

import pytest

from duende.runtime.logs import LogStore
from duende.runtime.logs.naming import list_archives, next_stamp
from duende.runtime.logs.place import Place
from duende.runtime.logs.tail import Query, Tail


class Log:
    """The files of one log, written by hand: lines, pieces, rotations, compression, pruning."""

    def __init__(self, folder: Path, *, raw: bool) -> None:
        self.folder = folder
        self.raw = raw
        self.stem = "web+stdout" if raw else "web"
        self.active = folder / f"{self.stem}.log"
        self.lines = 0
        self.written = 0
        self.is_mid_line = False
        self.stamp = ""

    def write(self, chance: random.Random) -> None:
        """One line, or a piece of one."""
        self.written += 1
        partial = not self.raw and chance.random() < 0.3
        text = f"<{self.lines}>" if self.raw or not self.is_mid_line else "+"
        head = "" if self.raw else f"2026-11-21T02:36:00.{self.written:06}Z stdout {'P' if partial else 'F'} "
        with self.active.open("ab") as file:
            file.write(f"{head}{text}\n".encode())
        self.is_mid_line = partial
        self.lines += not partial

    def rotate(self) -> None:
        """As the pump does it: a name with a later stamp."""
        if self.active.exists():
            self.stamp = next_stamp(0, self.stamp or "20261121T000000.000000Z")
            os.rename(self.active, self.folder / f"{self.stem}.{self.stamp}.log")

    def compress(self) -> None:
        """The oldest archive that is plain."""
        for archive in list_archives(self.folder, self.stem):
            if not archive.compressed:
                Path(f"{archive.path}.gz").write_bytes(gzip.compress(Path(archive.path).read_bytes()))
                os.unlink(archive.path)
                return

    def prune(self) -> None:
        """The oldest archive."""
        for archive in list_archives(self.folder, self.stem)[:1]:
            os.unlink(archive.path)

    def tail(self) -> Tail:
        return Tail("web", self.folder, self.stem, "stdout" if self.raw else None, Query(None, None))


def read_all(tail: Tail) -> list[str]:
    found = []
    while batch := tail.poll():
        found += [record.text for record in batch]
    return found


@pytest.mark.parametrize("raw", [False, True], ids=["text", "raw"])
@pytest.mark.parametrize("seed", range(20))
def test_readers_in_turn_see_every_line_once_and_whole(tmp_path: Path, raw: bool, seed: int) -> None:
    chance = random.Random(seed)
    log = Log(tmp_path, raw=raw)
    tail = log.tail()
    seen: list[str] = []
    for _ in range(300):
        act = chance.random()
        if act < 0.55:
            log.write(chance)
        elif act < 0.65:
            log.rotate()
        elif act < 0.72:
            log.compress()
        elif act < 0.87:
            seen += read_all(tail)
        else:
            place = Place.parse(str(tail.place()))
            tail.close()
            tail = log.tail()
            tail.resume(place)
    seen += read_all(tail)
    tail.close()
    assert [text.rstrip("+") for text in seen] == [f"<{number}>" for number in range(log.lines)]


def test_of_a_file_that_was_pruned_meanwhile_nothing_of_the_next_is_skipped(tmp_path: Path) -> None:
    log, chance = Log(tmp_path, raw=True), random.Random(0)
    for _ in range(10):
        log.write(chance)
    tail = log.tail()
    assert len(read_all(tail)) == 10
    place = tail.place()
    tail.close()
    log.rotate()
    log.prune()
    for _ in range(10):
        log.write(chance)
    log.rotate()
    later = log.tail()
    later.resume(place)
    assert read_all(later) == [f"<{number}>" for number in range(10, 20)]
    later.close()


def test_at_the_end_of_a_log_of_archives_only_nothing_is_read_again(tmp_path: Path) -> None:
    log, chance = Log(tmp_path, raw=False), random.Random(3)
    for _ in range(9):
        log.write(chance)
    log.rotate()
    tail = log.tail()
    tail.skip_all()
    place = tail.place()
    tail.close()
    assert place.stamp == log.stamp
    later = log.tail()
    later.resume(place)
    assert read_all(later) == []
    later.close()


def test_what_is_filtered_out_is_not_counted(tmp_path: Path) -> None:
    """Pieces of one stream wait for their end while the other one goes on: those are not handed on twice."""

    def line(number: int, stream: str, tag: str, text: str) -> bytes:
        return f"2026-11-21T02:36:{number:02}.000000Z {stream} {tag} {text}\n".encode()

    path = tmp_path / "web.log"
    path.write_bytes(line(1, "stdout", "P", "a") + line(2, "stderr", "F", "x") + line(3, "stderr", "F", "y"))
    first = Tail("web", tmp_path, "web", None, Query(None, None))
    assert read_all(first) == ["x", "y"]
    place = first.place()
    assert (place.offset_bytes, place.records) == (0, 2)
    first.close()
    with path.open("ab") as file:
        file.write(line(4, "stdout", "F", "b"))
    second = Tail("web", tmp_path, "web", None, Query(None, None))
    second.resume(place)
    assert read_all(second) == ["ab"]
    assert second.place().records == 0
    second.close()


@pytest.mark.parametrize("text", ["", "web", "web>", "web>:1:2", "web>:x:0:0", "web?:1:0:0", "a>:1:0:0:0"])
def test_what_is_no_place_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a place in a log"):
        Place.parse(text)


def test_a_follower_goes_on_where_another_stopped(tmp_path: Path) -> None:
    log, chance = Log(tmp_path, raw=True), random.Random(0)

    async def take(places: list[Place] | None) -> tuple[list[str], list[Place]]:
        batches = LogStore(tmp_path).follow_places("web", lines=2, places=places)
        records, news = await anext(batches)
        if places is not None:  # the first batch only tells the places
            records, news = await anext(batches)
        await batches.aclose()
        return [record.text for record in records], news

    async def both() -> None:
        for _ in range(5):
            log.write(chance)
        texts, places = await take(None)
        assert texts == ["<3>", "<4>"]
        log.write(chance)
        log.rotate()
        log.write(chance)
        texts, _ = await take(places)
        assert texts in (["<5>"], ["<5>", "<6>"])

    asyncio.run(both())
