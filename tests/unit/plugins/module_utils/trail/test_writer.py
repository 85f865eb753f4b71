# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Group commit."""

from __future__ import annotations

import pathlib
import threading
import time
import typing as t
from collections.abc import Callable, Iterator, Sequence

import pytest

from ansible_collections.flowaudit.ops.plugins.module_utils.errors import FlowauditError
from ansible_collections.flowaudit.ops.plugins.module_utils.trail import canonical, entry, verify, writer
from ansible_collections.flowaudit.ops.plugins.module_utils.trail.commitment import Opening, commit
from ansible_collections.flowaudit.ops.plugins.module_utils.trail.home import Home
from ansible_collections.flowaudit.ops.plugins.module_utils.trail.sqlite import SqliteLog
from ansible_collections.flowaudit.ops.plugins.module_utils.trail.writer import Writer

Draft = entry.Draft


class Memory:
    """A log in memory that can be made to wait and to fail."""

    def __init__(self) -> None:
        self.batches: list[list[Draft]] = []
        self.openings: list[Opening] = []
        self.threads: set[int] = set()
        self.free = threading.Event()
        self.free.set()
        self.waits = threading.Event()
        self.failure: Exception | None = None
        self.failed = 0
        self.opened = 0
        self.closed = 0

    def open(self) -> Memory:
        self.opened += 1
        return self

    def append(self, drafts: Sequence[Draft], openings: Sequence[Opening] = ()) -> range:
        self.threads.add(threading.get_ident())
        self.waits.set()
        assert self.free.wait(10)
        if self.failure is not None:
            self.failed += 1
            raise self.failure
        for draft in drafts:
            canonical.encode(draft)
        self.batches.append([dict(draft) for draft in drafts])
        self.openings += openings
        return range(len(drafts))

    def close(self) -> None:
        self.closed += 1

    @property
    def numbers(self) -> list[int]:
        return [draft["number"] for batch in self.batches for draft in batch if "number" in draft]

    @property
    def drafts(self) -> list[Draft]:
        return [draft for batch in self.batches for draft in batch]


@pytest.fixture
def memory() -> Memory:
    return Memory()


@pytest.fixture
def made(memory: Memory) -> Iterator[Writer]:
    made = Writer(t.cast(t.Any, memory.open))
    yield made
    memory.free.set()
    memory.failure = None
    made.close()


def event(number: int, **fields: t.Any) -> Draft:
    return {"type": entry.EVENT, "ts": entry.timestamp(), "number": number, **fields}


def until(condition: Callable[[], bool], seconds: float = 10) -> float:
    begun = time.monotonic()
    while not condition():
        assert time.monotonic() - begun < seconds
        time.sleep(0.005)
    return time.monotonic() - begun


def test_nothing_is_opened_before_it_is_needed(memory: Memory) -> None:
    made = Writer(t.cast(t.Any, memory.open))
    made.close()
    assert (memory.opened, memory.closed, made.error) == (0, 0, None)


def test_what_was_put_is_written_in_its_order_by_one_thread(made: Writer, memory: Memory) -> None:
    opening = commit("actor", b"ada")
    for number in range(200):
        made.put(event(number), [opening] if number == 7 else ())
    made.flush()
    assert memory.numbers == list(range(200))
    assert memory.openings == [opening]
    assert len(memory.threads) == 1
    assert threading.get_ident() not in memory.threads
    assert memory.opened == 1


def test_a_batch_is_written_when_it_is_full(made: Writer, memory: Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "DELAY", 60.0)
    for number in range(writer.BATCH - 1):
        made.put(event(number))
    time.sleep(0.1)
    assert memory.batches == []
    made.put(event(writer.BATCH - 1))
    until(lambda: len(memory.numbers) == writer.BATCH)
    assert len(memory.batches) == 1
    made.put(event(writer.BATCH))
    time.sleep(0.1)
    assert len(memory.batches) == 1
    made.flush()
    assert memory.numbers == list(range(writer.BATCH + 1))


def test_the_thread_is_woken_once_for_many_entries(
    made: Writer, memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "DELAY", 60.0)
    signs: list[t.Any] = []
    told = made._queue

    class Told:
        get = staticmethod(told.get)

        @staticmethod
        def put(sign: t.Any) -> None:
            signs.append(sign)
            told.put(sign)

    monkeypatch.setattr(made, "_queue", Told)
    for number in range(writer.BATCH - 1):
        made.put(event(number))
    assert len(signs) == 1
    made.flush()
    assert memory.numbers == list(range(writer.BATCH - 1))
    made.put(event(0))
    assert len(signs) == 3


def test_a_batch_is_written_when_its_first_entry_is_old(made: Writer, memory: Memory) -> None:
    assert writer.DELAY == 0.25
    begun = time.monotonic()
    made.put(event(0))
    time.sleep(0.05)
    made.put(event(1))
    until(lambda: bool(memory.batches))
    # The age of the first counts, not that of the last; a busy machine may be late.
    assert 0.24 <= time.monotonic() - begun < 5
    assert memory.numbers == [0, 1]


def test_a_flush_writes_at_once(made: Writer, memory: Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "DELAY", 60.0)
    made.put(event(0))
    made.flush()
    assert memory.numbers == [0]
    made.flush()
    assert len(memory.batches) == 1


def test_a_flush_waits_for_what_was_put_before_it_only(made: Writer, memory: Memory) -> None:
    memory.free.clear()
    made.put(event(0))
    flushed = threading.Event()
    waiting = threading.Thread(target=lambda: (made.flush(), flushed.set()))
    waiting.start()
    assert memory.waits.wait(10)
    made.put(event(1))
    assert not flushed.wait(0.1)
    memory.free.set()
    assert flushed.wait(10)
    waiting.join()
    assert memory.numbers[0] == 0


def test_what_piles_up_while_the_log_is_slow_is_written_in_large_parts(made: Writer, memory: Memory) -> None:
    memory.failure = FlowauditError("The disk is full.")
    for number in range(1300):
        made.put(event(number))
    with pytest.raises(FlowauditError, match="full"):
        made.flush()
    memory.failure = None
    made.flush()
    assert memory.numbers == list(range(1300))
    assert [len(batch) for batch in memory.batches] == [512, 512, 276]


def test_a_log_that_fails_is_told_and_nothing_is_lost_or_doubled(made: Writer, memory: Memory) -> None:
    made.put(event(0))
    made.flush()
    memory.failure = FlowauditError("The disk is full.")
    for number in range(1, 10):
        made.put(event(number))
    for _attempt in range(3):
        with pytest.raises(FlowauditError, match=r"^The disk is full\.$"):
            made.flush()
    assert str(made.error) == "The disk is full."
    memory.failure = None
    made.put(event(10))
    made.flush()
    assert made.error is None
    assert memory.numbers == list(range(11))


def test_a_log_that_failed_is_opened_anew(made: Writer, memory: Memory) -> None:
    memory.failure = FlowauditError("x")
    made.put(event(0))
    with pytest.raises(FlowauditError):
        made.flush()
    assert (memory.opened, memory.closed) == (1, 1)
    memory.failure = None
    made.flush()
    assert (memory.opened, memory.closed) == (2, 1)


def test_a_log_that_recovers_by_itself_is_written_without_a_flush(made: Writer, memory: Memory) -> None:
    memory.failure = FlowauditError("x")
    for number in range(writer.BATCH):
        made.put(event(number))
    until(lambda: memory.failed == 1)
    # It is tried again once a second, not with each entry.
    for number in range(writer.BATCH, writer.BATCH * 3):
        made.put(event(number))
    time.sleep(0.2)
    assert memory.failed == 1
    until(lambda: memory.failed == 2)
    memory.failure = None
    until(lambda: len(memory.numbers) == writer.BATCH * 3)
    assert memory.numbers == list(range(writer.BATCH * 3))


def test_a_log_that_cannot_be_opened_is_told(memory: Memory) -> None:
    def refuse() -> t.NoReturn:
        raise FlowauditError("There is no room.")

    made = Writer(refuse)
    with pytest.raises(FlowauditError, match="There is no room"):
        made.flush()
    with pytest.raises(FlowauditError, match="There is no room"):
        made.call(lambda log: None)
    made.put(event(0))
    made.close()
    assert str(made.error) == "There is no room."


def test_a_fault_of_ours_is_told_like_any_other(made: Writer, memory: Memory) -> None:
    memory.failure = ZeroDivisionError("division by zero")
    made.put(event(0))
    with pytest.raises(FlowauditError, match=r"The trail's writer failed: ZeroDivisionError: division by zero"):
        made.flush()
    memory.failure = None
    made.flush()
    assert memory.numbers == [0]


def _nested() -> t.Any:
    value: t.Any = "x"
    for _depth in range(100_000):
        value = [value]
    return value


@pytest.mark.parametrize("poison", [1.5, _nested(), b"x"], ids=["float", "nested", "bytes"])
def test_what_is_no_entry_does_not_hold_up_the_others(made: Writer, memory: Memory, poison: t.Any) -> None:
    made.put(event(0, run="r1", chg="CHG-1"))
    made.put({"type": "event", "ts": "2026-01-01T00:00:00.000Z", "run": "r1", "chg": "CHG-1", "value": poison})
    made.put(event(2))
    with pytest.raises(FlowauditError, match=r"An entry holds no|RecursionError"):
        made.flush()
    made.flush()
    assert memory.numbers == [0, 2]
    gap = memory.drafts[-1]
    assert gap == {
        "type": entry.GAP,
        "run": "r1",
        "chg": "CHG-1",
        "since": "2026-01-01T00:00:00.000Z",
        "ts": gap["ts"],
        "lost": 1,
    }


def test_one_who_waits_is_told_of_what_was_lost_before(made: Writer, memory: Memory) -> None:
    """The batch was tried when it was old; nobody waited then."""
    made.put({"type": "event", "ts": 1.5})
    made.put(event(1))
    until(lambda: memory.numbers == [1])
    until(lambda: any(draft["type"] == entry.GAP for draft in memory.drafts))
    with pytest.raises(FlowauditError, match=r"The trail lacks 1 entries; an entry says so\."):
        made.flush()
    made.flush()
    (gap,) = [draft for draft in memory.drafts if draft["type"] == entry.GAP]
    assert set(gap) == {"type", "ts", "lost"}


def test_what_does_not_fit_into_memory_is_counted(
    made: Writer, memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "BACKLOG", 100)
    memory.failure = FlowauditError("The disk is full.")
    for number in range(130):
        made.put(event(number, run="r1"))
    with pytest.raises(FlowauditError, match="The disk is full"):
        made.flush()
    made.put(event(130, run="r1"))
    memory.failure = None
    with pytest.raises(FlowauditError, match="lacks 1 entries"):
        made.flush()
    assert memory.numbers == list(range(100))
    (gap,) = [draft for draft in memory.drafts if draft["type"] == entry.GAP]
    assert (gap["lost"], gap["run"]) == (31, "r1")
    made.put(event(131))
    made.flush()
    assert memory.numbers[-1] == 131
    assert len([draft for draft in memory.drafts if draft["type"] == entry.GAP]) == 1


def test_a_gap_that_cannot_be_written_is_kept(made: Writer, memory: Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "BACKLOG", 1)
    memory.failure = FlowauditError("x")
    made.put(event(0))
    made.put(event(1))
    with pytest.raises(FlowauditError):
        made.flush()
    honest = memory.append

    def refuse_gaps(drafts: Sequence[Draft], openings: Sequence[Opening] = ()) -> range:
        if drafts[0]["type"] == entry.GAP:
            raise FlowauditError("no gap")
        return honest(drafts, openings)

    memory.failure = None
    with monkeypatch.context() as patched:
        patched.setattr(memory, "append", refuse_gaps)
        with pytest.raises(FlowauditError, match="no gap"):
            made.flush()
    made.flush()
    assert memory.numbers == [0]
    assert memory.drafts[-1]["lost"] == 1


def test_hosts_of_one_task_are_one_entry(made: Writer, memory: Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "DELAY", 60.0)

    def dispatched(task: str, host: str) -> None:
        made.put({"type": entry.TASK_DISPATCHED, "ts": entry.timestamp(), "task": task, "hosts": [host]})

    dispatched("t1", "a")
    made.put(event(0))
    dispatched("t1", "b")
    dispatched("t2", "a")
    dispatched("t1", "c")
    made.flush()
    dispatched("t1", "d")
    made.flush()
    found = [(draft["task"], draft["hosts"]) for draft in memory.drafts if draft["type"] == entry.TASK_DISPATCHED]
    assert found == [("t1", ["a", "b", "c"]), ("t2", ["a"]), ("t1", ["d"])]


def test_something_is_done_by_the_thread_that_has_the_log(made: Writer, memory: Memory) -> None:
    made.put(event(0))
    assert made.call(lambda log: (log is memory, memory.numbers, threading.get_ident() in memory.threads)) == (
        True,
        [0],
        True,
    )


@pytest.mark.parametrize("error", [FlowauditError("x"), KeyError("x"), SystemExit(3)])
def test_what_is_done_may_fail(made: Writer, memory: Memory, error: BaseException) -> None:
    def fail(log: t.Any) -> None:
        raise error

    with pytest.raises(type(error)):
        made.call(fail)
    made.put(event(0))
    made.flush()
    assert memory.numbers == [0]


def test_nothing_is_done_with_a_log_that_cannot_be_written(made: Writer, memory: Memory) -> None:
    memory.failure = FlowauditError("The disk is full.")
    made.put(event(0))
    with pytest.raises(FlowauditError, match="The disk is full"):
        made.call(lambda log: pytest.fail("called"))


def test_a_log_that_is_not_open_is_named(made: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(made, "_write", lambda: None)
        with pytest.raises(FlowauditError, match="The trail is not open"):
            made.call(lambda log: None)


def test_closing_writes_what_is_left(memory: Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "DELAY", 60.0)
    made = Writer(t.cast(t.Any, memory.open))
    for number in range(10):
        made.put(event(number))
    made.close()
    assert memory.numbers == list(range(10))
    assert memory.closed == 1
    made.close()
    assert memory.closed == 1


def test_what_fails_while_closing_is_kept(memory: Memory) -> None:
    made = Writer(t.cast(t.Any, memory.open))
    memory.failure = FlowauditError("The disk is full.")
    made.put(event(0))
    made.close()
    assert str(made.error) == "The disk is full."


def test_nobody_waits_for_a_writer_that_has_ended(memory: Memory) -> None:
    made = Writer(t.cast(t.Any, memory.open))
    made.close()
    begun = time.monotonic()
    with pytest.raises(FlowauditError, match=r"The trail's writer has ended\."):
        made.flush()
    assert time.monotonic() - begun < 5


def test_one_who_waited_long_is_not_told_of_an_end_that_came_later(
    made: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = threading.Event()
    alive = iter([True, False])

    class Thread:
        def is_alive(self) -> bool:
            now = next(alive)
            if not now:
                done.set()
            return now

    with monkeypatch.context() as patched:
        patched.setattr(made, "_thread", Thread())
        made._wait(done)


def test_many_threads_may_put_at_once(made: Writer, memory: Memory) -> None:
    def work(base: int) -> None:
        for number in range(500):
            made.put(event(base + number))
            if number % 100 == 0:
                made.flush()

    threads = [threading.Thread(target=work, args=(base * 1000,)) for base in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    made.flush()
    assert sorted(memory.numbers) == sorted(base * 1000 + number for base in range(6) for number in range(500))


def test_with_the_real_log(tmp_path: pathlib.Path) -> None:
    home = Home(tmp_path / "trail")
    made = Writer(lambda: SqliteLog.open_or_create(home, "0.2.0"))
    for number in range(300):
        made.put(event(number))
    made.flush()
    size, signed = made.call(lambda log: (log.size(), log.add_checkpoint()))
    made.close()
    assert size == 301
    log = SqliteLog(home)
    report = verify.verify(log.origin, log.rows(), [signed])
    log.close()
    assert (report.whole, report.size, report.signed_size) == (True, 301, 301)
