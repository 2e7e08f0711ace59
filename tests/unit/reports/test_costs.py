"""What the defenses of a board cost, in the order of their evaluations."""

import re
from dataclasses import replace

import pytest

from harness.core.result import Cost
from reports.format import words
from reports.model.leaderboard import read_leaderboard
from reports.render.html import html
from reports.render.markdown import markdown
from reports.tables.costs import cost_table, prices

ATTACK = Cost(1, 3.0, 126, 5, 120, peak_memory=5_680_000, batch_size=32)


@pytest.fixture
def steps(bench):
    """Three step counts, the costlier the better; none; attacked obliviously, by bpda and, but for one, in full."""
    made = bench(repeats=1)
    for name, count, peak in (("d-20", 20, 5_330_000), ("d-1", 1, 4_550_000), ("d-5", 5, None), ("none", 0, 1_920_000)):
        batch = None if peak is None else 32
        cost = Cost(1, 0.01 * count + 0.001, count + 1, 0, count, peak_memory=peak, batch_size=batch)
        holds = "1" * count + "0" * 20
        for threat in (None, "oblivious-0.2", "bpda-0.2"):
            paid = replace(ATTACK, forwards=6) if threat == "oblivious-0.2" else ATTACK
            correct = holds[:4] if threat else "1111"
            made.add(name, threat, *correct, cost=cost, attack=paid, params={"steps": count})
        if name == "d-1":
            made.refuse(name, "full-0.2", "for a reason")
        elif name != "d-5":
            made.add(name, "full-0.2", *holds[:4], cost=cost, attack=ATTACK, params={"steps": count})
        else:
            made.add(name, "full-0.2", params={"steps": count})
    return made


def found(bench):
    leaderboard = read_leaderboard(bench.write())
    return prices(leaderboard.sections[0].boards[0])


def written(costs):
    """Return the rows of the table as text, by defense: what it takes to purify, then by each attack."""
    table = cost_table(costs)
    rows = ([str(words(cell.value, column.form)) for column, cell in table.row(line)] for line in table.lines)
    return {row[0]: (row[1:6], *(row[at : at + 4] for at in range(6, len(row), 4))) for row in rows}


def test_lines_are_in_the_order_of_evaluations_whatever_their_accuracy(steps):
    board = read_leaderboard(steps.write()).sections[0].boards[0]
    assert [row.defense for row in board.rows] != [line.defense for line in prices(board).lines]
    assert [line.defense for line in prices(board).lines] == ["none", "d-1", "d-5", "d-20"]
    assert [line.reference for line in prices(board).lines] == [True, False, False, False]


def test_a_line_says_what_a_defense_takes_on_clean_input(steps):
    seen = found(steps)
    rows = written(seen)
    assert rows["d-20"][0] == ["20", "201 ms", "21", "0", "5.33 MB at 32"]
    assert rows["d-5"][0] == ["5", "51.0 ms", "6", "0", "\N{EN DASH}"]
    assert all(line.forward.clean for line in seen.lines)


def test_a_line_says_what_attacking_through_the_defense_takes_by_gradient_mode(steps):
    seen = found(steps)
    assert [column.knowledge for column in seen.columns] == ["bpda", "full"]
    rows = written(seen)
    assert rows["d-20"][1] == ["3.00 s", "126", "5", "5.68 MB at 32"]
    nothing = ["\N{EN DASH}"] * 3
    assert rows["d-1"][2] == ["refused", *nothing]
    assert rows["d-5"][2] == ["missing", *nothing]
    without = replace(seen, lines=tuple(replace(line, attacked=(None, None)) for line in seen.lines))
    assert written(without)["d-20"][1] == ["\N{EN DASH}", *nothing]


def test_oblivious_attacks_are_priced_once(steps):
    assert found(steps).note == (
        "Oblivious attacks are crafted once, on the classifier alone, and shared by all rows. "
        "Per image, pgd oblivious-0.2: 3.00 s, 6 forwards, 5 backwards, peak memory 5.68 MB at 32."
    )


def test_a_memory_that_is_not_known_is_not_spoken_of(toy):
    assert found(toy).note.endswith("Per image, pgd oblivious-0.2: 2.00 s, 20 forwards, 20 backwards.")


def test_a_defense_without_clean_input_is_priced_by_what_was_judged(bench):
    one = bench(repeats=1)
    one.add("d", None)
    one.add("d", "bpda-0.2", *"1111")
    seen = found(one)
    assert seen.lines[0].forward.attack == "pgd"
    assert written(seen)["d"][0] == ["10", "500 ms", "11", "10", "12.3 MB at 4"]


def test_what_was_not_measured_stands_last(bench):
    one = bench(repeats=1)
    one.add("a", None)
    one.add("a", "bpda-0.2")
    one.add("b", None, *"1111")
    one.add("b", "bpda-0.2")
    seen = found(one)
    assert [line.defense for line in seen.lines] == ["b", "a"]
    assert written(seen)["a"][0] == ["\N{EN DASH}"] * 5
    assert seen.note == ""


def test_a_board_without_measurements_has_no_table(bench):
    one = bench()
    one.add("a", None)
    one.add("a", "bpda-0.2")
    assert found(one) is None
    leaderboard = read_leaderboard(one.write())
    assert "What it costs" not in markdown(leaderboard) + html(leaderboard)


def test_markdown_has_the_table(steps):
    text = markdown(read_leaderboard(steps.write()))
    table = text[text.index("#### What it costs") : text.index("Oblivious attacks are crafted once")]
    rows = [line.split(" | ") for line in re.findall(r"^\| (.*) \|$", table, re.M)]
    assert {len(row) for row in rows} == {1 + 5 + 2 * 4}
    assert [row[0] for row in rows] == ["defense", "---", "none", "d-1", "d-5", "d-20"]
    assert rows[-1][1:10] == ["20", "201 ms", "21", "0", "5.33 MB at 32", "3.00 s", "126", "5", "5.68 MB at 32"]


def test_the_page_has_the_table_and_links_its_numbers_to_their_cells(steps):
    leaderboard = read_leaderboard(steps.write())
    text = html(leaderboard)
    table = text[text.index("What it costs") : text.index("Oblivious attacks are crafted once")]
    body = table[table.index("<tbody>") : table.index("</tbody>")]
    rows = re.findall(r"<tr.*?</tr>", body, re.S)
    assert [re.search(r'class="first">\s*(.*?)\s*</th>', row).group(1) for row in rows] == [
        "none",
        "d-1",
        "d-5",
        "d-20",
    ]
    assert {len(re.findall(r"<t[dh]", row)) for row in rows} == {1 + 5 + 2 * 4}
    (line,) = [line for line in found(steps).lines if line.defense == "d-20"]
    assert f'<a href="#{line.forward.anchor}">5.33 MB</a><span class="under">at 32</span>' in rows[-1]
    assert f'<a href="#{line.attacked[1].anchor}">3.00 s</a>' in rows[-1]
    assert ">refused</a>" in rows[1]
    assert ">missing</a>" in rows[2]
