import json
import logging
import os
import sqlite3
import stat
import subprocess
import sys
import threading
from dataclasses import asdict, replace

import pytest

from edge_router.chat.events import Usage
from edge_router.errors import DiskFull, InvalidData, LockTimeout, NotWritable
from edge_router.ledger import Ledger, Record
from edge_router.types import Decision, Reason, Timings

WEAK = Decision("weak", Reason.SCORE, 0.2, 0.5, "mf")
STRONG = Decision("strong", Reason.SCORE, 0.9, 0.5, "mf")
FULL = Record(
    replace(STRONG, endpoint="work", caller="anna", held="prompt", held_tokens=812),
    "big",
    Usage(10, 20, 5),
    Timings(1.0, 2.0, 3.0, 4.0, 5.0),
    "StrongTimeout",
    "OutOfMemory",
    "?",
    7.0,
    cause_message="no room",
)


@pytest.fixture
def problems():
    return []


@pytest.fixture
def ledger(paths, problems):
    ledger = Ledger(paths.ledger, report=problems.append)
    yield ledger
    ledger.close()


def test_nothing_is_made_before_the_first_record(ledger, paths):
    assert ledger.recent() == () and ledger.scores() == ()
    assert ledger.summary().records == 0 and ledger.summary().strong_share is None
    assert ledger.clear() == 0
    assert not paths.ledger.exists()


def test_what_is_recorded_is_read(paths):
    ledger = Ledger(paths.ledger, store_prompts=True)
    bare = Record(Decision("weak", Reason.FORCED), "small", time=8.0)
    assert ledger.record(FULL) and ledger.record(bare)
    (second, first) = ledger.recent()
    assert first == replace(FULL, id=1)
    assert second == Record(bare.decision, "small", time=8.0, id=2)
    assert ledger.recent(1) == (second,)
    assert ledger.recent(0) == ledger.recent(-1) == ()
    ledger.close()
    assert Ledger(paths.ledger).recent() == (second, first)


def test_the_time_is_now(ledger):
    import time

    before = time.time()
    ledger.record(Record(WEAK, "small"))
    assert before <= ledger.recent()[0].time <= time.time()


def test_prompts_are_not_kept_unless_asked_for(ledger, paths):
    ledger.record(Record(WEAK, "small", prompt="my illness"))
    assert ledger.recent()[0].prompt is None
    ledger.close()
    assert b"illness" not in b"".join(
        file.read_bytes() for file in paths.ledger.parent.iterdir() if file.is_file()
    )


def test_half_a_character_in_a_prompt(paths):
    ledger = Ledger(paths.ledger, store_prompts=True)
    assert ledger.record(Record(WEAK, "small", prompt="a\ud800b"))
    assert ledger.recent()[0].prompt == "a?b"
    ledger.close()


def test_scores(ledger):
    for score, router, time in [(0.1, "mf", 1), (0.2, "length", 2), (None, None, 3), (0.3, "mf", 4)]:
        ledger.record(Record(Decision("weak", Reason.SCORE, score, 0.5, router), "small", time=time))
    assert ledger.scores() == (0.1, 0.2, 0.3)
    assert ledger.scores(router="mf") == (0.1, 0.3)
    assert ledger.scores(since=2) == (0.2, 0.3)
    assert ledger.scores(router="mf", since=2) == (0.3,)


def test_summary(ledger):
    ledger.record(Record(WEAK, "small", Usage(1, 2), time=1))
    ledger.record(Record(WEAK, "small", Usage(3, 4), time=2))
    ledger.record(Record(STRONG, "big", None, time=3))
    ledger.record(Record(Decision("weak", Reason.OFFLINE), "small", Usage(5, 6), error="Cancelled", time=4))
    summary = ledger.summary()
    assert (summary.records, summary.errors, summary.first, summary.last) == (4, 1, 1, 4)
    assert summary.by_tier == {"weak": 3, "strong": 1}
    assert summary.by_reason == {"score": 3, "offline": 1}
    assert summary.prompt_tokens == {"small": 9, "big": 0}
    assert summary.completion_tokens == {"small": 12, "big": 0}
    assert summary.strong_share == 0.25
    assert ledger.summary(since=3).records == 2


def test_clear(paths):
    ledger = Ledger(paths.ledger, store_prompts=True)
    for time in range(5):
        ledger.record(Record(WEAK, "small", prompt=f"secret {time}", time=time))
    assert ledger.clear(before=2) == 2
    assert [record.time for record in ledger.recent()] == [4, 3, 2]
    assert ledger.clear() == 3
    assert ledger.recent() == ()
    files = [file.read_bytes() for file in paths.ledger.parent.iterdir() if file.is_file()]
    assert files and b"secret" not in b"".join(files)
    ledger.close()


@pytest.mark.skipif(os.name == "nt", reason="rights of another kind")
def test_nobody_else_may_read_it(ledger, paths):
    ledger.record(FULL)
    for file in paths.ledger.parent.glob("ledger*"):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_several_threads(ledger):
    def work():
        for _ in range(20):
            ledger.record(FULL)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ledger.summary().records == 80


WRITER = """
import sys
from pathlib import Path
from edge_router.ledger import Ledger, Record
from edge_router.types import Decision, Reason
ledger = Ledger(Path(sys.argv[1]))
sys.exit(sum(not ledger.record(Record(Decision("weak", Reason.SCORE), "m")) for _ in range(50)))
"""


def test_several_processes_that_begin_at_once(paths, ledger):
    command = [sys.executable, "-c", WRITER, str(paths.ledger)]
    processes = [subprocess.Popen(command) for _ in range(3)]
    assert [process.wait() for process in processes] == [0, 0, 0]
    assert ledger.summary().records == 150


# ---- what goes wrong


def test_a_place_that_can_not_be_written(tmp_path, problems):
    (tmp_path / "file").write_text("")
    ledger = Ledger(tmp_path / "file" / "ledger.sqlite3", report=problems.append)
    assert not ledger.record(FULL) and not ledger.record(FULL)
    assert [type(problem) for problem in problems] == [NotWritable]  # said once
    ledger.close()


def test_a_folder_in_its_place(tmp_path, problems):
    ledger = Ledger(tmp_path, report=problems.append)
    assert not ledger.record(FULL)
    assert [type(problem) for problem in problems] == [NotWritable]
    with pytest.raises(NotWritable):
        ledger.recent()


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_file_is_still_read(ledger, paths, problems):
    ledger.record(FULL)
    ledger.close()
    paths.ledger.chmod(0o400)
    assert not ledger.record(FULL)
    assert [type(problem) for problem in problems] == [NotWritable]
    assert len(ledger.recent()) == 1


def test_a_damaged_file(paths, ledger, problems):
    paths.ledger.write_bytes(b"not a database " * 1000)
    assert not ledger.record(FULL) and not ledger.record(FULL)
    assert [type(problem) for problem in problems] == [InvalidData]
    with pytest.raises(InvalidData):
        ledger.recent()
    with pytest.raises(InvalidData):
        ledger.clear(before=1.0)
    assert ledger.clear() == 0
    assert ledger.record(FULL)
    assert len(ledger.recent()) == 1


def test_damage_while_it_is_open(paths, ledger, problems):
    ledger.record(FULL)
    ledger.close()
    data = bytearray(paths.ledger.read_bytes())
    data[4096:] = os.urandom(len(data) - 4096)
    paths.ledger.write_bytes(data)
    assert not ledger.record(FULL)
    assert [type(problem) for problem in problems] == [InvalidData]


def test_a_format_of_another_version_is_left_alone(paths, ledger, problems):
    ledger.record(FULL)
    ledger.close()
    with sqlite3.connect(paths.ledger) as connection:
        connection.execute("PRAGMA user_version=99")
    connection.close()
    assert not ledger.record(FULL)
    assert "99" in str(problems[0])
    with pytest.raises(InvalidData, match="99"):
        ledger.summary()


def test_thumbs(ledger):
    assert ledger.rate(1, 1) is None and ledger.rated() == ()
    ledger.record(FULL)
    ledger.record(Record(WEAK, "small"))
    assert ledger.rate(7, 1) is None
    assert ledger.rate(2, 1).model == "small"
    assert ledger.rate(2, -1).rating == -1
    assert [(record.id, record.rating) for record in ledger.rated()] == [(2, -1)]
    assert [record.rating for record in ledger.recent()] == [-1, None]


SINCE_9 = ("tier_model",)
SINCE_8 = (*SINCE_9, "would_escalate")
SINCE_7 = (*SINCE_8, "held", "held_tokens")
SINCE_6 = (*SINCE_7, "caller")
SINCE_5 = (*SINCE_6, "endpoint")
SINCE_4 = (*SINCE_5, "found", "rule")
SINCE_3 = (*SINCE_4, "cause_message")
SINCE_2 = (*SINCE_3, "confidence", "spent_prompt_tokens", "spent_completion_tokens")


@pytest.mark.parametrize(
    ("version", "missing"),
    [
        (1, (*SINCE_2, "rating")),
        (2, SINCE_2),
        (3, SINCE_3),
        (4, SINCE_4),
        (5, SINCE_5),
        (6, SINCE_6),
        (7, SINCE_7),
        (8, SINCE_8),
        (9, SINCE_9),
    ],
)
def test_a_ledger_of_an_older_version(paths, ledger, problems, version, missing):
    ledger.record(FULL)
    ledger.close()
    with sqlite3.connect(paths.ledger) as connection:
        for name in missing:
            connection.execute(f"ALTER TABLE decisions DROP COLUMN {name}")
        connection.execute("DROP TABLE upgrades")
        connection.execute(f"PRAGMA user_version={version}")
    connection.close()
    (old,) = ledger.recent()
    assert old.decision.tier_model is None and (version >= 9 or not old.decision.would_escalate)
    assert old.decision.held_tokens == (812 if version >= 8 else None)
    assert old.decision.caller == ("anna" if version >= 7 else None)
    assert old.decision.endpoint == ("work" if version >= 6 else None)
    assert version >= 5 or old.decision.found == ()
    assert version >= 4 or old.cause_message is None
    if version < 3:
        assert old.rating is old.spent is old.decision.confidence is None
    assert ledger.scores() == (0.9,) and ledger.rated() == ()
    assert ledger.record(FULL) and problems == []
    assert ledger.rate(1, 1).rating == 1 and len(ledger.recent()) == 2


def test_a_lock_that_is_not_released(paths, ledger, problems, monkeypatch):
    monkeypatch.setattr("edge_router.ledger.database.BUSY_S", 0.05)
    ledger.record(FULL)
    ledger.close()
    other = sqlite3.connect(paths.ledger, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    assert not ledger.record(FULL)
    other.close()
    assert [type(problem) for problem in problems] == [LockTimeout]
    assert ledger.record(FULL)  # and once it is released all is well


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from edge_router.ledger import Ledger, Record
from edge_router.types import Decision, Reason
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
problems = []
ledger = Ledger(Path(sys.argv[1]), store_prompts=True, report=problems.append)
big = Record(Decision("weak", Reason.SCORE), "m", prompt="x" * 10_000)
kept = sum(ledger.record(big) is not None for _ in range(50))
print(0 < kept < 50, len(problems), type(problems[0]).__name__)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no limits on files")
def test_files_that_cannot_grow(paths, ledger):
    result = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(paths.ledger)], capture_output=True, text=True, check=False
    )
    assert (result.stdout.split()[:2], result.stderr) == (["True", "1"], "")
    assert 0 < ledger.summary().records < 50  # and what was kept is whole


def test_a_full_disk(paths, problems, monkeypatch):
    real = sqlite3.connect

    def connect(*args, **kwargs):
        connection = real(*args, **kwargs)
        connection.execute("PRAGMA max_page_count=8")  # SQLite's own way to be told that there is no more
        return connection

    monkeypatch.setattr(sqlite3, "connect", connect)
    ledger = Ledger(paths.ledger, store_prompts=True, report=problems.append)
    assert ledger.record(FULL)
    assert not ledger.record(Record(WEAK, "small", prompt="x" * 100_000))
    assert [type(problem) for problem in problems] == [DiskFull]
    assert ledger.record(FULL)
    assert len(ledger.recent()) == 2
    ledger.close()


def test_numbers_that_do_not_fit(ledger, problems):
    assert not ledger.record(Record(WEAK, "small", Usage(2**70, 1)))
    assert [type(problem) for problem in problems] == [InvalidData]
    assert ledger.record(FULL)


def test_by_default_a_problem_is_logged(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        Ledger(tmp_path).record(FULL)
    assert "the ledger is not kept" in caplog.text


def test_a_row_that_this_version_does_not_know_is_left_out_and_counted(ledger, paths, caplog):
    ledger.record(Record(WEAK, "small"))
    with sqlite3.connect(paths.ledger) as connection:
        for reason, tier in (("because", "weak"), ("score", "medium"), (None, "weak"), ("score", "weak")):
            columns = "time, tier, reason, model, prompt_tokens" if reason else "time, tier, reason, model"
            values = f"1.0, '{tier}', '{reason}', 'm'" + (", 3" if reason else "")
            connection.execute(f"INSERT INTO decisions ({columns}) VALUES ({values})")
    found = ledger.records()
    assert [record.model for record in found] == ["small", "m"]
    assert "3 rows of the ledger are of another edge_router" in caplog.text
    assert len(ledger.recent(10)) == 2 and ledger.rate(2, 1) is None


def test_a_row_that_holds_anything_is_left_out_wherever_rows_are_read(paths, problems):
    odd = ("'abc'", "x'00ff'", "1e999", "-1e999", "''", "'nan'", "12345678901234567890")
    ledger = Ledger(paths.ledger, store_prompts=True, report=problems.append)
    good = ledger.record(FULL)
    with sqlite3.connect(paths.ledger) as connection:
        columns = [row[1] for row in connection.execute("PRAGMA table_info(decisions)") if row[1] != "id"]
        names = ", ".join(columns)
        for column in columns:
            for value in odd:
                values = ", ".join(value if name == column else name for name in columns)
                query = f"INSERT INTO decisions ({names}) SELECT {values} FROM decisions WHERE id = {good}"
                connection.execute(query)
    everything = (*ledger.records(), *ledger.recent(1000))
    for found in everything:
        numbers = (found.time, found.decision.score, found.decision.threshold, found.rating)
        assert all(n is None or (isinstance(n, int | float) and abs(n) < 1e300) for n in numbers), found
        assert isinstance(found.model, str) and isinstance(found.prompt, str | None), found
    assert replace(FULL, id=good) in everything and len(everything) < 2 * len(columns) * len(odd)
    assert len(ledger.scores()) > 1 and all(abs(score) < 1e300 for score in ledger.scores())
    summed = ledger.summary()
    assert summed.by_tier.keys() == {"strong"} and json.dumps(asdict(summed), allow_nan=False)
    assert ledger.rate(good, 1) is not None and problems == []


def test_a_table_that_lacks_something_is_told_as_damaged(paths, ledger, problems):
    ledger.record(FULL)
    with sqlite3.connect(paths.ledger) as connection:
        connection.execute("ALTER TABLE decisions DROP COLUMN reason")
    assert ledger.records() == ()
    assert ledger.record(FULL) is None
    with sqlite3.connect(paths.ledger) as connection:
        connection.execute("DROP TABLE decisions")
    with pytest.raises(InvalidData, match="damaged: no such table"):
        ledger.records()
    assert [type(problem) for problem in problems] == [InvalidData]


@pytest.mark.skipif(os.name == "nt", reason="an open file cannot be removed there")
@pytest.mark.parametrize("lost", ["removed", "replaced", "moved away"])
def test_a_file_that_vanishes_is_made_again(ledger, paths, problems, lost):
    assert ledger.record(Record(WEAK, "small")) == 1
    for file in paths.ledger.parent.glob(f"{paths.ledger.name}*"):
        file.rename(file.with_name(f"old-{file.name}")) if lost == "moved away" else file.unlink()
    if lost == "replaced":
        other = Ledger(paths.ledger)
        other.record(Record(STRONG, "big"))
        other.close()
    assert ledger.record(Record(WEAK, "again")) is not None
    assert Ledger(paths.ledger).recent(1)[0].model == "again" and problems == []


def test_two_in_one_process_keep_their_rows_while_another_comes_and_goes(paths):
    """On Unix, whoever closes a file ends all locks that its process holds on it, SQLite's too: then another
    process that closes the ledger takes itself for the last, and removes the log that these still write to."""
    one, two = Ledger(paths.ledger), Ledger(paths.ledger)
    assert one.record(FULL) and two.record(FULL)
    code = (
        "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute('UPDATE decisions SET rating = 1')"
    )
    subprocess.run([sys.executable, "-c", f"{code}; c.commit(); c.close()", str(paths.ledger)], check=True)
    for ledger in (one, two) * 3:
        assert ledger.record(FULL)
    assert len(Ledger(paths.ledger).records()) == 8
    one.close()
    two.close()
    assert len(Ledger(paths.ledger).records()) == 8
