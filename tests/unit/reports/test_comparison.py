"""Comparisons of databases made by hand: what is called different, what is not comparable, and why."""

import io
import json
from dataclasses import replace

import pytest
from rich.console import Console

from harness.core.errors import UserError
from harness.core.spec import Spec
from harness.core.threat import Knowledge, Norm, ThreatModel
from reports.compare import comparison
from reports.compare.comparison import compare
from reports.compare.sides import Contestants, split
from reports.render.comparison import as_json, markdown, terminal
from reports.stats.paired import detectable, paired

N = 20


def digits(right):
    """A word per example: the first so many are right."""
    return ["1"] * right + ["0"] * (N - right)


@pytest.fixture
def side(tmp_path, bench):
    """Write a database of one suite: each defense with its right examples on clean input and under attack."""

    def make(file, changed=None, suite="toy", **rows):
        one = bench(repeats=1, n_examples=N, name=suite)
        one.path = tmp_path / file
        for defense, (clean, attacked) in rows.items():
            for threat, right in ((None, clean), ("bpda-0.2", attacked)):
                one.add(defense, threat, *digits(right))
        if changed:
            one.measured = [(changed(cell), *rest) for cell, *rest in one.measured]
            one.members = [replace(member, cell=changed(member.cell)) for member in one.members]
        return one

    return make


def cells(found):
    return {pair.name: pair for pair in found.cells}


def text(renderables):
    console = Console(width=240, file=io.StringIO())
    for one in renderables:
        console.print(one)
    return console.file.getvalue()


def test_rows_of_one_suite_are_tested_on_the_examples_that_they_share(side):
    url = side("a.db", left=(20, 18), right=(19, 8)).write()
    found = compare("toy/left", "toy/right", url)
    clean, attacked = found.cells
    assert clean.name == "digits/cnn/left|right, clean"
    # 10 discordant examples, all lost: 2 / 2^10; the same for the worst case; 1 for clean input
    assert attacked.found.p == pytest.approx(2 / 2**10)
    assert attacked.p == pytest.approx(3 * 2 / 2**10)
    assert (attacked.outcome, attacked.difference) == ("worse", pytest.approx(-0.5))
    assert attacked.found.low < -0.5 < attacked.found.high < 0
    assert (clean.outcome, clean.found.p, clean.p) == ("undecided", 1.0, 1.0)
    (worst,) = found.rows
    assert worst.name == "digits/cnn/left|right, Linf 0.2"
    assert (worst.first.share, worst.second.share, worst.outcome) == (0.9, 0.4, "worse")
    assert worst.detectable == detectable(N, 0.5)
    assert [one.sentence for one in found.settings] == ["defense.use left -> right"]
    assert compare("toy/right", "toy/left", url).rows[0].outcome == "better"


def test_the_same_database_twice_differs_in_nothing(side):
    url = side("a.db", mae=(20, 18), none=(20, 0)).write()
    found = compare(url, url)
    assert (found.settings, found.weights, found.environment) == ((), (), ())
    assert len(found.cells) == 4
    assert len(found.rows) == 2
    assert {pair.outcome for pair in (*found.cells, *found.rows)} == {"undecided"}
    assert "settings: the same in all 4 cells" in text(terminal(found))


def test_settings_of_cells_are_told_with_where_they_differ(side):
    def harder(cell):
        return (
            replace(cell, defense=Spec.of("defense", "mae", 1, {"steps": 20})) if cell.labels.defense == "mae" else cell
        )

    first = side("a.db", mae=(20, 12), none=(20, 0)).write()
    second = side("b.db", harder, mae=(20, 19), none=(20, 0)).write()
    found = compare(first, second)
    (one,) = found.settings
    assert one.sentence == "defense.params.steps 10 -> 20"
    assert one.cells == ("digits/cnn/mae, clean", "digits/cnn/mae, pgd bpda-0.2")
    assert cells(found)["digits/cnn/mae, pgd bpda-0.2"].found.p == pytest.approx(2 / 2**7)
    assert "in 2 of 4 cells: digits/cnn/mae, clean; digits/cnn/mae, pgd bpda-0.2" in text(terminal(found))


def dataset(cell):
    return replace(cell, dataset=Spec.of("dataset", "digits", 1, {"content": "e1"}))


def threat(norm, eps, knowledge):
    model = ThreatModel(norm, eps, knowledge)
    return lambda cell: replace(cell, threat=model) if cell.threat else cell


@pytest.mark.parametrize(
    ("changed", "reason", "clean_too"),
    [
        (dataset, "dataset.params.content None -> e1", True),
        (lambda cell: replace(cell, subset_seed=1), "subset_seed 0 -> 1", True),
        (threat(Norm.LINF, 0.1, Knowledge.BPDA), "eps 0.2 -> 0.1", False),
        (threat(Norm.L2, 0.2, Knowledge.BPDA), "norm Linf -> L2", False),
        (
            lambda cell: replace(cell, attack=cell.attack and Spec.of("attack", "pgd", 1, {"steps": 40})),
            "attack.params.steps 20 -> 40",
            False,
        ),
        (
            lambda cell: replace(cell, attack=cell.attack and Spec.of("attack", "pgd", 2, {"steps": 20})),
            "attack.version 1 -> 2",
            False,
        ),
    ],
)
def test_rows_that_answer_other_questions_get_no_verdict(side, changed, reason, clean_too):
    first = side("a.db", mae=(20, 20)).write()
    second = side("b.db", changed, mae=(20, 2)).write()
    clean, attacked = compare(first, second).cells
    assert (attacked.outcome, attacked.found, attacked.p) == ("not comparable", None, None)
    assert any(one.endswith(reason) for one in attacked.reasons)
    assert attacked.difference == pytest.approx(-0.9)  # the numbers are shown all the same
    assert clean.outcome == ("not comparable" if clean_too else "undecided")
    (worst,) = compare(first, second).rows
    assert worst.outcome == "not comparable"
    assert reason in "; ".join(worst.reasons) or "only the first met pgd bpda-0.2" in worst.reasons


@pytest.mark.parametrize(
    ("rule", "reason"),
    [({"decision": "majority"}, "decision mean -> majority"), ({"n_examples": 10}, "examples 20 -> 10")],
)
def test_another_rule_of_the_suite_gets_no_verdict(side, rule, reason):
    first, second = side("a.db", mae=(20, 20)), side("b.db", mae=(20, 2))
    for name, value in rule.items():
        setattr(second, name, value)
    found = compare(first.write(), second.write())
    assert all(pair.reasons == (reason,) for pair in (*found.cells, *found.rows))
    assert reason in [one.sentence for one in found.settings]


def test_repeats_matter_where_the_rule_grows_stricter_with_them(bench, tmp_path):
    urls = {}
    for repeats in (2, 3):
        for decision in ("mean", "any"):
            one = bench(repeats=repeats, n_examples=2, decision=decision)
            one.path = tmp_path / f"{decision}{repeats}.db"
            one.add("mae", None, "1" * repeats, "1" * repeats)
            one.add("mae", "bpda-0.2", "1" * repeats, "0" * repeats)
            urls[decision, repeats] = one.write()
    strict = compare(urls["any", 2], urls["any", 3])
    assert {pair.reasons for pair in strict.cells} == {("repeats 2 -> 3, which the decision any depends on",)}
    mild = compare(urls["mean", 2], urls["mean", 3])
    assert {pair.reasons for pair in mild.cells} == {()}
    assert mild.rows[0].reasons == ("repeats 2 -> 3, which the decision mean depends on",)


def test_fewer_attacks_are_no_comparable_worst_case(bench, tmp_path):
    urls = []
    for file, threats in (("a.db", (None, "bpda-0.2", "oblivious-0.2")), ("b.db", (None, "bpda-0.2"))):
        one = bench(repeats=1, n_examples=2)
        one.path = tmp_path / file
        for each in threats:
            one.add("mae", each, "1", "0")
        if file == "b.db":
            one.add("mae", "full-0.2")
        urls.append(one.write())
    found = compare(*urls)
    assert found.rows[0].reasons == ("1 of 3 cells unfinished in the second", "only the first met pgd oblivious-0.2")
    assert (found.only_first, found.only_second) == (
        ("digits/cnn/mae, pgd oblivious-0.2",),
        ("digits/cnn/mae, pgd full-0.2",),
    )
    shown = text(terminal(found))
    assert "only in the first: digits/cnn/mae, pgd oblivious-0.2" in shown


def test_what_is_not_measured_is_no_number(side, bench, tmp_path):
    first = side("a.db", mae=(20, 20)).write()
    other = bench(repeats=1, n_examples=N)
    other.path = tmp_path / "b.db"
    other.add("mae", None)
    other.refuse("mae", "bpda-0.2", "it cannot be")
    clean, attacked = compare(first, other.write()).cells
    assert (clean.second, clean.reasons) == (None, ("missing in the second",))
    assert (attacked.second, attacked.reasons) == (None, ("refused in the second",))
    assert attacked.difference is None


def test_names_matter_only_where_there_is_a_choice(side):
    first = side("a.db", suite="one", mae=(20, 20)).write()
    second = side("b.db", suite="two", other=(20, 2)).write()
    assert compare(first, second).rows[0].outcome == "worse"
    both = side("b2.db", suite="two", other=(20, 2), mae=(20, 20)).write()
    assert [pair.name for pair in compare(first, both).rows] == ["digits/cnn/mae, Linf 0.2"]
    assert compare(first, both).only_second == ("digits/cnn/other, clean", "digits/cnn/other, pgd bpda-0.2")


def test_attacks_under_other_names_are_matched_by_what_they_are(side):
    first, second = side("a.db", mae=(20, 20)), side("b.db", mae=(20, 2))
    second.members = [
        replace(one, labels=replace(one.labels, attack="APGD", threat_model="x")) if one.labels.attack == "pgd" else one
        for one in second.members
    ]
    found = compare(first.write(), second.write())
    assert [pair.outcome for pair in found.cells] == ["undecided", "worse"]
    assert found.cells[1].name == "digits/cnn/mae, pgd bpda-0.2|APGD x"


def test_other_weights_and_environments_are_told(side, monkeypatch):
    url = side("a.db", mae=(20, 20)).write()
    plain = Contestants.of

    def elsewhere(word, db=None):
        found = plain(word, db)
        if db is not None:
            return found
        facts = {
            id(one.facts): replace(one.facts, weights=tuple(replace(net, sha256="b" * 64) for net in one.facts.weights))
            for one in found.cells
        }
        cells = tuple(replace(one, facts=facts[id(one.facts)]) for one in found.cells)
        places = {name: {**there, "python": "3.12.1"} for name, there in found.origin.environments.items()}
        return replace(found, cells=cells, origin=replace(found.origin, environments=places))

    monkeypatch.setattr(comparison.Contestants, "of", elsewhere)
    found = comparison.compare(url, url)
    assert found.weights == ()  # both were changed alike

    def one_side(word, db=None, seen=[]):  # noqa: B006
        seen.append(word)
        return plain(word, db) if len(seen) == 1 else elsewhere(word, db)

    monkeypatch.setattr(comparison.Contestants, "of", one_side)
    found = comparison.compare(url, url)
    (one,) = found.weights
    assert one.sentence == "cnn aaaaaaaaaaaa -> bbbbbbbbbbbb"
    assert len(one.cells) == 2
    assert found.environment == ("python 3.11.0 -> 3.12.1",)
    shown = text(terminal(found))
    assert "weights: cnn aaaaaaaaaaaa -> bbbbbbbbbbbb (in all cells)" in shown
    assert "measured in other environments: python 3.11.0 -> 3.12.1" in shown


def test_metrics_and_costs_come_with_intervals(side):
    first, second = side("a.db", mae=(20, 20)).write(), side("b.db", mae=(20, 2)).write()
    assert compare(first, second).cells[0].measures == ()
    clean, attacked = compare(first, second, metrics=True).cells
    there = {one.fact.key: one for one in attacked.measures}
    assert (there["linf"].first, there["linf"].second) == (pytest.approx(0.2), pytest.approx(0.2))
    assert there["linf"].ends == pytest.approx((0.0, 0.0))
    assert there["defense_seconds"].first == pytest.approx(0.5)
    assert there["defense_seconds"].first_ends is None  # one slice has no spread
    assert "amv_adversarial_last" not in there
    assert "attack_seconds" not in {one.fact.key for one in clean.measures}
    found = compare(first, second, metrics=True)
    assert "perturbation: Linf" in text(terminal(found))
    assert "Metrics and costs" in markdown(found)


def test_json_holds_what_the_tables_show(side):
    first, second = side("a.db", mae=(20, 20)).write(), side("b.db", mae=(20, 2)).write()
    found = compare(first, second, metrics=True)
    read = json.loads(as_json(found))
    (worst,) = read["worst_cases"]
    assert worst["test"]["p"] == pytest.approx(2 / 2**18)
    assert worst["outcome"] == "worse"
    assert worst["first"]["share"] == 1.0
    assert read["cells"][1]["measures"]["linf"]["first"] == pytest.approx(0.2)
    expected = paired([1.0] * 20, [1.0] * 2 + [0.0] * 18)
    assert (worst["test"]["low"], worst["test"]["high"]) == (expected.low, expected.high)


def test_markdown_is_escaped(side):
    url = side("a.db", **{"m|ae<b>": (20, 20)}).write()
    said = markdown(compare(url, url))
    assert "m\\|ae\\<b\\>" in said
    assert "<b>" not in said.replace("\\<b\\>", "")


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("runs.db", ("runs.db", "")),
        ("runs.db:small/mae-pure", ("runs.db", "small/mae-pure")),
        ("/data/runs.db:small", ("/data/runs.db", "small")),
        ("sqlite:////data/runs.db", ("sqlite:////data/runs.db", "")),
        ("sqlite:////data/runs.db:small", ("sqlite:////data/runs.db", "small")),
        ("postgresql://me@host:5432/bench", ("postgresql://me@host:5432/bench", "")),
        ("postgresql+psycopg://me@host:5432/bench:a/b", ("postgresql+psycopg://me@host:5432/bench", "a/b")),
    ],
)
def test_a_word_names_a_database_a_suite_and_a_row(word, expected):
    assert split(word) == expected


def test_a_file_with_a_colon_in_its_name_is_a_file(tmp_path):
    (tmp_path / "a:b").write_text("")
    assert split(str(tmp_path / "a:b")) == (str(tmp_path / "a:b"), "")


def test_mistakes_name_the_nearest(side):
    url = side("a.db", suite="small/toy", mae=(20, 20)).write()
    assert len(compare("small/toy", "small/toy/mae", url).cells) == 2
    with pytest.raises(UserError, match=r"expected a suite in .*, got 'smal'; did you mean 'small/toy'"):
        compare("smal", "small/toy", url)
    with pytest.raises(UserError, match=r"expected a defense of small/toy .*, got 'mea'; did you mean 'mae'"):
        compare("small/toy", "small/toy/mea", url)
    with pytest.raises(UserError, match="expected a database"):
        compare(url, "absent.db")


def test_nothing_in_common_is_a_mistake(side):
    first = side("a.db", mae=(20, 20), dmae=(20, 20)).write()
    second = side("b.db", left=(20, 20), right=(20, 2)).write()
    with pytest.raises(
        UserError, match=r"the first has digits/cnn/dmae, clean.* and the second digits/cnn/left, clean"
    ):
        compare(first, second)
