import gc
from dataclasses import replace

import pytest
from rich.console import Console

from harness.core.errors import UserError
from reports.model.leaderboard import read_leaderboard
from reports.render.html import html
from reports.render.latex import latex
from reports.render.markdown import markdown
from reports.render.terminal import leaderboard_tables
from reports.stats.paired import detectable


def only(board):
    ((section),) = board.sections
    (first, *rest) = section.boards
    assert not rest
    return first


def rows(board):
    return {row.defense: row for row in board.rows}


@pytest.mark.parametrize(
    ("decision", "expected"),
    [
        # smallest verdicts by example: 2/3 2/3 2/3 0
        ("mean", 0.5),
        # all but the last example have two of three right in their worst cell
        ("majority", 0.75),
        # each example has one wrong repeat somewhere
        ("any", 0.0),
    ],
)
def test_worst_case_is_taken_per_example(toy, decision, expected):
    toy.decision = decision
    row = rows(only(read_leaderboard(toy.write())))["mae-pure"]
    assert row.worst.accuracy.share == pytest.approx(expected)
    assert row.worst.accuracy.n == 4
    lowest_average = min(entry.accuracy.share for entry in row.entries if entry.accuracy)
    assert row.worst.accuracy.share <= lowest_average
    if decision == "mean":
        assert lowest_average == pytest.approx(2 / 3)


def test_worst_case_has_a_wilson_interval_and_names_its_cells(toy):
    row = rows(only(read_leaderboard(toy.write())))["mae-pure"]
    z = 1.959963984540054
    half = z * (0.5 * 0.5 / 4 + z * z / 64) ** 0.5 / (1 + z * z / 4)
    assert row.worst.accuracy.low == pytest.approx(0.5 - half)
    assert row.worst.accuracy.high == pytest.approx(0.5 + half)
    assert row.worst.cells == tuple(toy.cell("mae-pure", t).digest[:12] for t in (None, "oblivious-0.2", "bpda-0.2"))


def test_clean_input_counts_in_the_worst_case(bench):
    one = bench(repeats=1, n_examples=2)
    one.add("mae-pure", None, "0", "1")
    one.add("mae-pure", "bpda-0.2", "1", "1")
    row = rows(only(read_leaderboard(one.write())))["mae-pure"]
    assert row.worst.accuracy.share == 0.5


def test_a_row_without_a_finished_adaptive_attack_is_not_ranked(toy):
    board = only(read_leaderboard(toy.write()))
    dmae, mae = rows(board)["dmae"], rows(board)["mae-pure"]
    assert (dmae.rank, dmae.unranked) == (None, "2 of 4 cells unfinished")
    assert (mae.rank, mae.unranked) == (1, "")


def test_a_row_with_unfinished_cells_is_not_ranked(bench):
    one = bench(repeats=1, n_examples=1)
    one.add("mae-pure", None, "1")
    one.add("mae-pure", "bpda-0.2", "1")
    one.add("mae-pure", "full-0.2")
    row = rows(only(read_leaderboard(one.write())))["mae-pure"]
    assert (row.rank, row.unranked) == (None, "1 of 3 cells unfinished")


def test_a_worst_case_over_some_of_the_cells_is_marked_as_a_bound(toy):
    board = rows(only(read_leaderboard(toy.write())))
    assert (board["dmae"].bound, board["mae-pure"].bound) == ("\N{LESS-THAN OR EQUAL TO} ", "")


def test_an_oracle_is_shown_and_never_ranked(bench):
    one = bench(repeats=1, n_examples=1)
    for defense, verdict in (("amv-oracle", "1"), ("mae-pure", "0")):
        one.add(defense, None, "1")
        one.add(defense, "oblivious-0.2", verdict)
    one.add("mae-pure", "bpda-0.2", "0")
    one.refuse("amv-oracle", "bpda-0.2", "it is shown the clean image.")
    board = only(read_leaderboard(one.write()))
    oracle, ranked = rows(board)["amv-oracle"], rows(board)["mae-pure"]
    assert (oracle.rank, oracle.unranked) == (None, "analysis only: it is shown the clean image")
    assert oracle.worst.accuracy.share == 1.0
    assert (ranked.rank, ranked.worst.accuracy.share) == (1, 0.0)
    assert board.rows == (ranked, oracle)


def test_a_defense_that_brings_its_own_classifier_says_so_in_every_report(bench):
    one = bench(repeats=1, n_examples=1)
    for defense, own in (("dir", True), ("dmae", False)):
        for threat in (None, "bpda-0.2"):
            one.add(defense, threat, "1", own_classifier=own)
    found = read_leaderboard(one.write())
    board = rows(only(found))
    assert (board["dir"].rank, board["dmae"].rank, board["dmae"].remark) == (1, 1, "")
    said = "brings a classifier of its own; oblivious attackers see the board's"
    assert board["dir"].remark == said
    for text in (markdown(found), latex(found), html(found)):
        assert text.replace("&#39;", "'").count(said) == 1
    (table,) = leaderboard_tables(found, Console(width=160))
    assert f"dir {said}" in str(table.caption)


def test_the_undefended_classifier_is_the_reference_and_stands_last(toy):
    board = only(read_leaderboard(toy.write()))
    assert [row.defense for row in board.rows] == ["mae-pure", "dmae", "none"]
    assert board.rows[-1].reference
    assert board.rows[-1].standing == "reference"
    # the two attacks leave different examples: 0 1 0 0 and 0 0 1 0
    assert board.rows[-1].worst.accuracy.share == 0.0


def under_attack(bench, n_examples, **right):
    """Rows of verdicts 0 and 1: each defense is right on clean input and on its first few examples under attack."""
    one = bench(repeats=1, n_examples=n_examples)
    for defense, number in right.items():
        one.add(defense, None, *"1" * n_examples)
        one.add(defense, "bpda-0.2", *("1" * number + "0" * (n_examples - number)))
    return only(read_leaderboard(one.write()))


def test_rows_that_cannot_be_told_apart_share_a_rank(bench):
    # b loses 4 examples to a, of which chance makes as much in 2 / 2^4; c loses 15, and 11 to b
    board = under_attack(bench, 20, c=3, a=18, b=14, d=3)
    found = [(row.defense, row.rank, row.place, row.tied) for row in board.rows]
    assert found == [
        ("a", 1, "1=", ("b",)),
        ("b", 1, "1=", ("a",)),
        ("c", 3, "3=", ("d",)),
        ("d", 3, "3=", ("c",)),
    ]
    # six pairs: the four of 2 / 2^15 and 2 / 2^11 lead, then 2 / 2^4 counts twice; c and d are equal
    assert [row.p for row in board.rows] == pytest.approx([None, 2 * 2 / 2**4, 6 * 2 / 2**15, 1.0])


def test_three_examples_tell_nothing_apart(bench):
    board = under_attack(bench, 3, a=3, b=0)
    assert [row.place for row in board.rows] == ["1=", "1="]
    assert board.resolution == "3 examples are too few to tell any two rows apart"


def test_a_board_says_what_its_examples_can_show(bench):
    # neighbours disagree on 4 and on 11 of 20 examples
    board = under_attack(bench, 20, a=18, b=14, c=3)
    assert board.detectable == detectable(20, (4 / 20 + 11 / 20) / 2)
    points = f"{100 * board.detectable:.1f} points"
    expected = f"two rows that truly differ by {points} are told apart in 80 % of boards of 20 examples"
    tied = "a shared place (=) says that no difference was shown, and can hide one of about that size"
    assert board.resolution == f"{expected}; {tied}"
    apart = under_attack(bench, 20, a=18, c=3)
    assert apart.resolution.endswith("; a smaller difference may be shown by luck of the draw, a larger one missed")


def test_a_single_row_is_held_to_what_independent_rows_would_show(bench):
    board = under_attack(bench, 20, a=18)
    assert (board.rows[0].place, board.detectable) == ("1", detectable(20))


def test_a_board_of_clean_input_shows_no_difference(bench):
    one = bench(repeats=1, n_examples=1)
    one.add("mae-pure", None, "1")
    assert only(read_leaderboard(one.write())).resolution == ""


@pytest.mark.parametrize("render", [html, markdown, latex])
def test_ties_and_what_can_be_shown_are_written(bench, render):
    one = bench(repeats=1, n_examples=3)
    for defense in ("left", "right"):
        one.add(defense, None, "1", "1", "1")
        one.add(defense, "bpda-0.2", "1", "1", "0")
    found = read_leaderboard(one.write())
    text = render(found)
    assert text.count("1=") >= 2
    assert "3 examples are too few to tell any two rows apart" in text
    (table,) = leaderboard_tables(found, Console(width=160))
    assert [str(cell) for cell in table.columns[0].cells] == ["1=", "1="]
    assert "3 examples are too few" in str(table.caption)


def test_nothing_is_dropped_whatever_its_status(toy):
    board = read_leaderboard(toy.write())
    (section,) = board.sections
    assert len(section.entries) == len(toy.members)
    only_board = only(board)
    states = {(e.defense, e.threat_model): (e.state, e.reason) for e in only_board.notes}
    assert states == {
        ("mae-pure", "full-0.2"): (
            "refused",
            "The <script>alert(1)</script> sign step has the identity for a Jacobian.",
        ),
        ("dmae", "bpda-0.2"): ("missing", None),
        ("dmae", "full-0.2"): ("partial, 2 of 4", None),
    }
    assert only_board.unfinished == 2
    assert [entry.threat_model for entry in section.homeless] == ["smooth"]
    shown = {entry.anchor for entry in (*only_board.entries, *section.homeless)}
    assert shown == {entry.anchor for entry in section.entries}


def test_a_partial_cell_tells_whether_it_lacks_examples_or_repeats(bench):
    one = bench(n_examples=2, repeats=3)
    one.add("mae-pure", None, "111", "111")
    one.add("mae-pure", "bpda-0.2", "111")
    one.add("dmae", "bpda-0.2", "11", "10")
    examples, repeats = only(read_leaderboard(one.write())).notes
    assert (examples.state, repeats.state) == ("partial, 1 of 2", "partial, 2 of 3 repeats")
    assert replace(repeats, repeats=3).state == "partial, repeats missing"  # of some examples only


def test_a_failed_attempt_tells_why_its_cell_is_missing(bench):
    from harness.core.cell import Shard
    from harness.core.job import Evaluate
    from harness.store.write.store import Store

    one = bench()
    cell = one.add("dmae", "bpda-0.2")
    url = one.write()
    store = Store.open(url)
    job = Evaluate(cell, Shard(0, 0, 4), 0, 3)
    store.queue.end(store.queue.claim(job), "failed", "out of memory")
    board = read_leaderboard(url)
    assert only(board).notes[0].reason == "out of memory"
    assert [failure.reason for failure in board.provenance.failures] == ["out of memory"]


def test_a_board_per_budget_shares_the_clean_cells(bench):
    one = bench(repeats=1, n_examples=1)
    clean = one.add("mae-pure", None, "1")
    one.add("mae-pure", "bpda-0.2", "1")
    one.add("mae-pure", "oblivious-1", "0")
    (section,) = read_leaderboard(one.write()).sections
    assert [board.title for board in section.boards] == ["digits / cnn / Linf 0.2", "digits / cnn / L2 1"]
    assert [board.rows[0].clean.id for board in section.boards] == [clean.digest[:12]] * 2
    assert [board.rows[0].worst.accuracy.share for board in section.boards] == [1.0, 0.0]


def test_clean_input_alone_has_a_board(bench):
    one = bench(repeats=1, n_examples=1)
    one.add("mae-pure", None, "1")
    board = only(read_leaderboard(one.write()))
    assert board.title == "digits / cnn / clean input only"
    assert board.rows[0].worst is None


def test_two_suites_have_a_section_each_and_share_no_anchor(bench):
    one = bench(repeats=1, n_examples=2)
    one.add("mae-pure", None, "1", "1")
    one.add("mae-pure", "bpda-0.2", "1", "0")
    url = one.write()
    one.name, one.n_examples = "half", 1
    one.write()
    board = read_leaderboard(url)
    assert [section.suite.name for section in board.sections] == ["toy", "half"]
    assert [section.boards[0].rows[0].worst.accuracy.share for section in board.sections] == [0.5, 1.0]
    anchors = [entry.anchor for section in board.sections for entry in section.entries]
    assert len(set(anchors)) == len(anchors) == 4
    assert [section.suite.name for section in read_leaderboard(url, "half").sections] == ["half"]


def test_an_unknown_suite_is_answered_with_the_nearest(toy):
    with pytest.raises(UserError, match="did you mean 'toy'"):
        read_leaderboard(toy.write(), "tpy")


def test_costs_are_per_image(toy):
    row = rows(only(read_leaderboard(toy.write())))["mae-pure"]
    assert row.clean.defense_cost.seconds == pytest.approx(0.5)
    assert row.clean.defense_cost.evaluations == pytest.approx(10)
    assert row.clean.attack_cost.seconds is None
    assert row.attacked[0].attack_cost.seconds == pytest.approx(2.0)
    assert (row.clean.defense_cost.peak_memory, row.clean.defense_cost.batch_size) == (12_300_000, 4)
    assert (row.attacked[0].attack_cost.peak_memory, row.attacked[0].attack_cost.batch_size) == (None, None)
    assert row.attacked[0].measures["linf"] == pytest.approx(0.2)
    assert row.attacked[0].measures["amv_adversarial_last"] is None  # asked for, and not taken
    assert "amv_by_head" not in row.attacked[0].measures


@pytest.mark.parametrize("collected", [True, False])
def test_the_garbage_collector_is_left_as_it_was(toy, collected):
    url, before = toy.write(), gc.isenabled()
    (gc.enable if collected else gc.disable)()
    try:
        read_leaderboard(url)
        assert gc.isenabled() is collected
        with pytest.raises(UserError):
            read_leaderboard(url, suite="no such suite")
        assert gc.isenabled() is collected
    finally:
        (gc.enable if before else gc.disable)()


@pytest.mark.parametrize(("repeats", "said"), [(1, "once"), (3, "by 3 repeats"), (5, "")])
def test_a_random_defense_of_few_repeats_has_no_rank(bench, monkeypatch, repeats, said):
    monkeypatch.setattr("reports.flags.evidence.ENOUGH", 5)
    one = bench(repeats=repeats, n_examples=8)
    for threat in (None, "bpda-0.2"):
        one.add("mae-pure", threat, *["1" * repeats] * 8)
    (row,) = only(read_leaderboard(one.write())).rows
    wanted = f"judged {said}, too few to rank a random defense by; raise `repeats` to 10" if said else ""
    assert (row.unranked, row.rank) == (wanted, None if said else 1)
