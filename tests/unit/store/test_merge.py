"""Databases that grew apart, brought together: everything is there, and nothing twice."""

from __future__ import annotations

import sqlite3

import pandas as pd
import pytest
from pandas.testing import assert_frame_equal
from sqlalchemy import func, select
from typer.testing import CliRunner

from harness.artifacts import Folder
from harness.cli.commands import app
from harness.core.code_hashes import read_groups
from harness.core.errors import UserError
from harness.store.read.frames import results
from harness.store.read.latest import latest_suites
from harness.store.tables import (
    AttemptRow,
    JobRow,
    OutcomeRow,
    ReferenceRow,
    ResultRow,
    SuiteRow,
    TableBase,
    WeightsRow,
)
from harness.store.tend.check import check
from harness.store.tend.merge import merge
from harness.store.write.store import Store


@pytest.fixture
def into(tmp_path):
    return str(tmp_path / "all.db")


@pytest.fixture
def sound(tmp_path):
    def look(url):
        return check(url, Folder(tmp_path / "artifacts")).findings == ()

    return look


def dump(url):
    """All rows of all tables."""
    store = Store.open(str(url))
    with store.engine.connect() as connection:
        return {
            table.name: [tuple(row) for row in connection.execute(select(table).order_by(*table.primary_key))]
            for table in TableBase.metadata.sorted_tables
        }


def column(url, what):
    with Store.open(url).engine.connect() as connection:
        return list(connection.execute(select(what)).scalars())


def frames(url):
    """Cells, examples and costs, without what says who measured them in which order."""
    cells, examples, costs = results(str(url))
    return cells, examples, costs.drop(columns="attempt")


def same(one, other):
    for mine, yours in zip(frames(one), frames(other), strict=True):
        assert_frame_equal(mine, yours)


def test_shards_of_two_machines_make_what_one_would_have_made(machine, into, sound):
    here, there, whole = machine("a"), machine("b"), machine("whole")
    here.measure(0, 4)
    there.measure(4, 8)
    here.measure(8, 12)
    there.measure(0, 12, attacked=False)
    for start in (0, 4, 8):
        whole.measure(start, start + 4)
    whole.measure(0, 12, attacked=False)
    before = [dump(one.path) for one in (here, there)]
    merged = merge([str(here.path), str(there.path)], into, own=True)
    assert [one[1:4] for one in merged.added] == [(2, 2, 16), (2, 2, 32)]
    assert merged.notes == ()
    same(into, whole.path)
    assert list(results(into).cells["status"]) == ["done", "done", "skipped"]
    assert sound(into)
    assert [dump(one.path) for one in (here, there)] == before


def test_what_overlaps_is_cut_and_counts_once(machine, into, sound):
    here, there, whole = machine("a"), machine("b"), machine("whole")
    here.measure(0, 8, 0, 1)
    there.measure(4, 12, 0, 2)
    there.measure(0, 4, 1, 2)
    whole.measure(0, 12)
    merged = merge([str(here.path), str(there.path)], into, own=True)
    assert [one.outcomes for one in merged.added] == [8, 16]
    (mine, seen, costs), (yours, all_of_it, paid) = frames(into), frames(whole.path)
    assert_frame_equal(seen, all_of_it)
    sliced = ("seconds", "forwards", "backwards", "evaluations", "peak_memory", "batch_size")  # who measured what
    exact = [name for name in mine if not name.endswith(sliced)]
    assert_frame_equal(mine[exact], yours[exact])
    for name in ("defense_images", "defense_seconds", "defense_forwards"):
        assert costs[name].sum() == pytest.approx(paid[name].sum())
    assert sound(into)


def test_peaks_go_over_whole_and_the_largest_is_a_cells(machine, into):
    here, there = machine("a"), machine("b")
    here.measure(0, 8)
    there.measure(4, 12)
    there.measure(0, 12, attacked=False)
    merge([str(here.path), str(there.path)], into, own=True)
    names = ["defense_peak_memory", "defense_batch_size", "attack_peak_memory", "attack_batch_size"]
    clean, attacked = "clean", "pgd"
    slices = results(into).costs.set_index(["attack", "start"])[names]
    # of what the second machine measured, places 8 to 11 were new: a third less work, and no less memory
    assert slices.loc[attacked].to_numpy().tolist() == [[2**33, 4, 2**40, 4], [2**33 + 4, 8, 2**40, 4]]
    assert slices.loc[clean].isna().all(axis=None)
    cells = results(into).cells.set_index("attack")[names].iloc[:2]
    assert cells.loc[attacked].tolist() == [2**33 + 4, 8, 2**40, 4]
    assert cells.loc[clean].isna().all()


def test_the_same_shard_twice_counts_once_and_the_first_stays(machine, into, sound):
    here, there = machine("a"), machine("b", shift=1)
    here.measure(0, 12)
    there.measure(0, 12)
    merged = merge([str(here.path), str(there.path)], into, own=True)
    assert [one[1:4] for one in merged.added] == [(1, 1, 24), (1, 0, 0)]
    same(into, here.path)
    assert column(into, func.count(AttemptRow.id)) == [2]
    assert column(into, JobRow.tries) == [2]
    assert sound(into)


def test_different_weights_are_kept_apart_and_told(machine, into, sound):
    here, there = machine("a"), machine("b", weights="b" * 64, shift=1)
    here.measure(0, 12)
    there.measure(0, 12)
    merged = merge([str(here.path), str(there.path)], into, own=True)
    (note,) = merged.notes
    assert note.startswith("toy-cnn: machines trained different weights from this recipe: ")
    assert f"aaaaaaaaaaaa ({here.path}), bbbbbbbbbbbb ({there.path})" in note
    assert column(into, func.count(OutcomeRow.place)) == [48]
    judged = WeightsRow.digest.in_(select(ResultRow.weights))
    with Store.open(into).engine.connect() as connection:
        assert connection.scalar(select(func.count(WeightsRow.digest)).where(judged)) == 2
    same(into, there.path)  # recorded last
    assert sound(into)


def test_a_second_merge_adds_nothing(machine, into):
    here, there = machine("a"), machine("b", weights="b" * 64)
    here.fail(0, 4)
    here.measure(4, 12)
    there.measure(0, 8)
    sources = [str(here.path), str(there.path)]
    merge(sources, into, own=True)
    before = dump(into)
    merged = merge([*sources, sources[0]], into, own=True)
    assert [one[1:4] for one in merged.added] == [(0, 0, 0), (0, 0, 0)]
    assert dump(into) == before


def test_a_source_that_has_grown_brings_what_is_new(machine, into, sound):
    here = machine("a")
    here.measure(0, 4)
    merge([str(here.path)], into, own=True)
    here.measure(4, 12)
    assert merge([str(here.path)], into, own=True).added[0][1:4] == (1, 1, 16)
    same(into, here.path)
    assert sound(into)


def test_every_attempt_is_kept_and_a_job_stands_as_far_as_anybody_got(machine, into, sound):
    here, there = machine("a"), machine("b")
    here.fail(0, 4)
    here.fail(4, 8)
    there.measure(0, 4)
    there.train()
    for sources in ([here, there], [there, here]):
        url = f"{into}-{sources[0].path.stem}"
        merge([str(one.path) for one in sources], url, own=True)
        with Store.open(url).engine.connect() as connection:
            stood = connection.execute(select(JobRow.label, JobRow.status, JobRow.tries, JobRow.reason)).all()
            (last,) = connection.execute(
                select(AttemptRow.status).join(JobRow, JobRow.attempt == AttemptRow.id).where(JobRow.label.like("%#0"))
            ).scalars()
        assert sorted(map(tuple, stood), key=str) == [
            ("digits/cnn/mae/pgd/bpda #0", "done", 2, None),
            ("digits/cnn/mae/pgd/bpda #1", "failed", 1, "a bad day"),
            ("toy-cnn", "interrupted", 1, "the driver ended without a word"),
        ]
        assert last == "done"
        assert sorted(column(url, AttemptRow.status)) == ["done", "failed", "failed", "interrupted"]
        assert sound(url)


def test_of_two_versions_of_a_suite_the_one_that_was_run_last_is_shown(machine, into):
    here, there = machine("a"), machine("b")
    here.declare("An edited toy")
    here.measure(0, 12)
    there.declare()
    merge([str(there.path), str(here.path)], into, own=True)
    assert sorted(column(into, SuiteRow.title)) == ["A toy", "An edited toy"]
    last = {path: latest_suites(Store.open(str(path)))["toy"] for path in (there.path, here.path, into)}
    assert last[into].title == "A toy"
    assert last[into].declared_at == max(one.declared_at for one in last.values())


def test_published_figures_come_along(machine, into):
    here = machine("a")
    with here.store.engine.begin() as connection:
        connection.exec_driver_sql(
            "INSERT INTO published VALUES (1, 'digits', 'Linf', 0.1, 'm', 'a', 'pgd', 0.9, 0.5, 's', '', '')"
        )
    merge([str(here.path)], into, own=True)
    assert column(into, ReferenceRow.method) == ["m"]


def test_a_server_is_a_source_and_a_target(machine, into, postgresql, sound):
    here, there, url = machine("a"), machine("b"), postgresql()
    here.fail(0, 4)
    here.measure(4, 12)
    there.measure(0, 8)
    merge([str(here.path), str(there.path)], url, own=True)
    assert merge([str(here.path), str(there.path)], url, own=True).added[1][1:4] == (0, 0, 0)
    assert sound(url)
    merge([url], into, own=True)
    same(into, url)
    assert column(into, func.count(AttemptRow.id)) == [3]
    assert sound(into)
    with pytest.raises(UserError, match="expected sources other than the target"):
        merge([url.replace("postgresql://", "postgresql+psycopg://")], url, own=True)


def test_the_target_is_no_source(machine):
    here = machine("a")
    with pytest.raises(UserError, match=r"expected sources other than the target, got .* as both; name another"):
        merge([str(here.path)], f"sqlite:///{here.path.parent}/../{here.path.parent.name}/a.db", own=True)


def test_a_source_that_is_being_run_is_refused(machine, into):
    here = machine("a")
    with here.store.hold(), pytest.raises(UserError, match=r"that nobody writes to, but .*a.db is being run"):
        merge([str(here.path)], into, own=True)


def test_an_older_source_is_refused_before_anything_is_made(machine, into, tmp_path):
    here, there = machine("a"), machine("b")
    there.store.engine.dispose()
    with sqlite3.connect(there.path) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '0001'")
    connection.close()
    with pytest.raises(UserError, match=r"got the older 0001; bring it forward with `purebench db upgrade .*b.db"):
        merge([str(here.path), str(there.path)], into, own=True)
    assert not (tmp_path / "all.db").exists()


@pytest.mark.parametrize(
    "damage",
    [
        "DELETE FROM outcomes WHERE place = 5",
        "DELETE FROM attempts",
        "DELETE FROM jobs",
        "UPDATE environments SET facts = '{'",
    ],
)
def test_a_damaged_source_is_a_sentence_and_the_others_are_merged(machine, into, damage, sound):
    here, there = machine("a"), machine("b")
    here.measure(0, 4)
    there.measure(4, 8)
    there.store.engine.dispose()
    with sqlite3.connect(there.path) as connection:
        connection.execute(damage)
    connection.close()
    with pytest.raises(UserError, match=r"expected sound rows in .*b.db, but .* nothing of it was merged, see `pur"):
        merge([str(here.path), str(there.path)], into, own=True)
    same(into, here.path)
    assert sound(into)


def test_the_command_tells_what_was_new(machine, into):
    here = machine("a")
    here.measure(0, 4)
    done = CliRunner().invoke(app, ["db", "merge", "--own", str(here.path), "--into", into])
    assert (done.exit_code, done.stdout.strip()) == (
        0,
        f"{here.path}: 1 attempts, 1 results, 8 outcomes, suites toy are new",
    )
    assert len(pd.read_sql("SELECT * FROM outcomes", f"sqlite:///{into}")) == 8
    assert column(into, ResultRow.stop) == [4]


def test_results_of_unlike_code_are_kept_apart_and_the_source_says_which_are_read(machine, into, sound):
    here, there = machine("a"), machine("b", shift=1, code={"attack": "tree:2"})
    here.measure(0, 4)
    there.measure(0, 4)
    merge([str(here.path), str(there.path)], into, own=True)
    assert sound(into)
    assert sorted(column(into, ResultRow.code["attack"].as_string())) == ["tree:1", "tree:2"]
    assert verdict(into) == verdict(there.path)
    assert merge([str(there.path)], into, own=True).added[0].results == 0


def column_pairs(url):
    with Store.open(str(url)).engine.connect() as connection:
        return connection.execute(select(ResultRow.cell, ResultRow.weights)).all()


def verdict(url):
    return results(str(url)).cells["accuracy"].dropna().tolist()


def test_a_merge_reads_of_a_cell_what_its_source_read(machine, into, sound):
    """What was measured last is not what is read, where an edit was taken back."""
    source = machine("a")
    source.measure(0, 4)
    before = verdict(source.path)
    ((attacked, read),) = column_pairs(source.path)
    source.code = {"attack": "tree:2"}
    source.shift = 1
    source.measure(0, 4, 0, 1)
    source.measure(0, 4, 1, 2)
    assert verdict(source.path) != before
    source.store.read({attacked: read})
    assert verdict(source.path) == before
    merge([str(source.path)], into, own=True)
    assert sound(into)
    assert verdict(into) == verdict(source.path)


def test_hashes_that_were_shown_to_give_the_same_results_count_once(machine, into, sound, monkeypatch):
    monkeypatch.setattr("harness.core.code_hashes.equal_groups", lambda: read_groups("tree:1 tree:2"))
    here, there = machine("a"), machine("b", code={"attack": "tree:2"})
    here.measure(0, 4)
    there.measure(0, 8)
    merge([str(here.path), str(there.path)], into, own=True)
    assert sound(into)
    assert column(into, func.count(OutcomeRow.place)) == [16]
    assert results(into).cells["n"].max() == 8
