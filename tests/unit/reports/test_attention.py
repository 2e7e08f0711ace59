"""Studies of databases made by hand: every number is one that was put in."""

import csv
import io
from dataclasses import replace

import numpy as np
import pytest
from measured import measurements, metric, outcomes, row
from scipy import stats

import reports.attention.probe as probed
from harness.core.cell import Cell, Labels, Shard
from harness.core.declaration import Declaration, Member
from harness.core.job import Evaluate
from harness.core.result import Cost, Done
from harness.core.spec import Spec
from harness.core.threat import Knowledge, Norm, ThreatModel
from harness.store.read.frames import results
from harness.store.read.provenance import provenance
from harness.store.write.store import Store
from reports.attention.probe import read_probed
from reports.attention.quantities import QUANTITIES
from reports.attention.study import studies
from reports.attention.tables import tables
from reports.attention.verdicts import verdicts
from reports.charts.attention import DOTS, scatters
from reports.render.attention_csv import attention_csv
from reports.render.html import html
from reports.render.markdown import markdown
from reports.write import write_report

N = 20
PLACES = np.arange(N)
SMALL = ThreatModel(Norm.LINF, 0.1, Knowledge.OBLIVIOUS)
LARGE = ThreatModel(Norm.LINF, 0.2, Knowledge.OBLIVIOUS)
KNOWING = ThreatModel(Norm.LINF, 0.2, Knowledge.BPDA)
NAMES = ("amv", "reconstruction", "distances")

#: what the attack does: AMV by place, and a loss that is 0.1 on clean images and rises by twice the AMV
AMV = 0.1 + 0.01 * PLACES
CLEAN = np.full(N, 0.1)


def recipe(label="digits-mae", **params):
    net = {"use": "mae", "decoder_depth": 2, "decoder_heads": 2}
    return Spec.of("recipe", "mae", 1, {"net": net, "steps": 100, "label": label, **params})


class World:
    """A suite under construction; every cell is told what the probe saw, by place."""

    def __init__(self, path, *, name="toy", ratio=0.5, names=NAMES, decision="mean", repeats=1):
        self.path, self.name, self.decision, self.repeats = path, name, decision, repeats
        self.metrics = tuple(metric(use, recipe(), ratio) for use in names)
        self.members, self.done = [], []

    def cell(self, defense, threat=None, use=None, parts=None, attack="pgd"):
        return Cell(
            dataset=Spec.of("dataset", "digits", 1, {}),
            classifier=Spec.of("classifier", "trained", 1, {}),
            defense=Spec.of("defense", use or defense, 1, {}, parts or {}),
            attack=Spec.of("attack", attack, 1, {}) if threat else None,
            threat=threat,
            seed=0,
            subset_seed=0,
            labels=Labels("digits", "cnn", defense, *((attack, f"{threat.knowledge}-{threat.eps}") if threat else ())),
        )

    def add(self, defense, threat=None, *, right, before=None, after=None, loss=None, heads=None, **options):
        """Add a cell: verdicts, AMV before and after, losses likewise, by place (verdicts by repeat too)."""
        cell = self.cell(defense, threat, **options)
        random = cell.defense.use != "none"
        self.members.append(Member(cell.labels, cell, random=random))
        zero = np.zeros(N)
        before = (AMV if threat else zero) if before is None else before
        after = before if after is None else after
        loss_before, loss_after = loss or (CLEAN + 2 * before, CLEAN + 2 * before)
        size = threat.eps if threat else 0.0
        times = self.repeats if random else 1
        rows = tuple(
            row(
                example=100 + place,
                place=place,
                repeat=repeat,
                label=3,
                prediction=3 if good else 5,
                correct=bool(good),
                linf=size,
                l2=size * (1 + 0.001 * ((7 * place) % N)),
                reconstruction_clean=CLEAN[place],
                reconstruction_adversarial=loss_before[place],
                reconstruction_purified=loss_after[place],
                amv_adversarial_last=2 * before[place],
                amv_adversarial_mean=before[place],
                amv_purified_last=3 * after[place],
                amv_purified_mean=after[place],
                **({} if heads is None else {"amv_by_head": heads[place]}),
            )
            for place in range(N)
            for repeat in range(times)
            for good in [right[place] if np.ndim(right[place]) == 0 else right[place][repeat]]
        )
        self.done.append((cell, times, rows))
        return cell

    def write(self):
        store = Store.open(str(self.path), create=True)
        rules = (self.decision, N, self.repeats, N)
        store.declare(Declaration(self.name, "A toy", "", *rules, tuple(self.members), self.metrics))
        for cell, times, rows in self.done:
            job = Evaluate(cell, Shard(0, 0, N), 0, times, tuple(one.spec for one in self.metrics))
            attempt = store.queue.claim(job)
            if attempt is not None:
                seen = {"outcomes": outcomes(rows), "measurements": measurements(rows, self.metrics)}
                assert store.finish(attempt, job, Done(**seen, defense_cost=Cost(len(rows), 1.0)))
        self.done.clear()
        return str(self.path)


def read(url, suite=None):
    return studies(results(url, suite), provenance(url, suite))


def one(parts, **told):
    (found,) = [part for part in parts if all(getattr(part, name) == value for name, value in told.items())]
    return found


NONE_RIGHT = np.where(PLACES < 4, 1, 0)
#: 4 that were right stay so, 8 of the wrong ones are put right: 4 among places 4 to 9, 4 among 10 to 19
PURE_RIGHT = np.where((PLACES < 8) | (PLACES >= 16), 1, 0)
#: AMV falls by 0.02 on places below 10 and rises by 0.05 on the others
PURE_AFTER = np.where(PLACES < 10, AMV - 0.02, AMV + 0.05)
MAE = {"mae": recipe()}


@pytest.fixture
def world(tmp_path):
    return World(tmp_path / "runs.db")


@pytest.fixture
def toy(world):
    """No defense, mae-pure, random signs, an untrained network, and the oracle, under one attack of each size."""
    for threat in (None, SMALL, LARGE):
        attacked = threat is not None
        world.add("none", threat, right=NONE_RIGHT if attacked else np.ones(N))
        world.add(
            "mae-pure",
            threat,
            right=PURE_RIGHT if attacked else np.ones(N),
            after=PURE_AFTER if attacked else np.full(N, 0.07),
            loss=(CLEAN + 2 * AMV * attacked, np.full(N, 0.05) + 0.001 * PLACES),
            parts=MAE,
        )
        world.add("lot", threat, right=np.where(PLACES < 6, 1, 0), after=np.full(N, 0.9), use="random-sign")
        world.add("bare", threat, right=NONE_RIGHT, use="mae-pure", parts={"mae": recipe("first", steps=0)})
        world.add("oracle", threat, right=np.ones(N), after=AMV / 4 * attacked, use="amv-oracle", parts=MAE)
    return world


def test_what_the_roles_are(toy):
    (seen,) = read_probed(results(toy.write()), provenance(str(toy.path)))
    assert {sight.defense: sight.role for sight in seen.sights} == {
        "none": "reference",
        "mae-pure": "reconstruction",
        "lot": "control",
        "bare": "control",
        "oracle": "oracle",
    }


def test_published_weights_are_no_untrained_ones():
    published = {"kind": "recipe", "params": {"steps": 0, "objective": {"use": "published"}}}
    assert probed.role_in_study({"use": "mae-pure", "parts": {"mae": published}}) == "reconstruction"
    assert probed.role_in_study({"use": "dmae", "parts": {"dmae": published}}) == "purifier"


def test_effects_are_the_numbers_that_were_put_in(toy):
    (study,) = read(toy.write())
    pure = one(study.effects, defense="mae-pure", eps=0.2)
    value = {name: found.value for name, found in pure.found.items() if found}
    assert value["accuracy"] == pytest.approx(12 / 20)
    assert value["gain"] == pytest.approx(8 / 20)
    assert value["rescued"] == pytest.approx(8 / 20)
    assert value["nearer"] == pytest.approx(10 / 20)
    assert value["rescued_nearer"] == pytest.approx(4 / 20)
    assert value["loss_clean"] == pytest.approx(0.1)
    assert value["loss_before"] == pytest.approx(0.1 + 2 * 0.195)
    assert value["loss_after"] == pytest.approx(0.0595)
    assert value["recovered"] == pytest.approx((0.1 + 0.39 - 0.0595) / 0.39)
    assert value["amv_before"] == pytest.approx(0.195)
    assert value["amv_after"] == pytest.approx(0.195 + 0.015)
    assert value["restored"] == pytest.approx(-0.015 / 0.195)
    assert value["restored_last"] == pytest.approx((2 * 0.195 - 3 * 0.21) / (2 * 0.195))
    oracle = one(study.effects, defense="oracle", eps=0.2)
    assert oracle["restored"].value == pytest.approx(0.75)
    assert (oracle["restored"].low, oracle["restored"].high) == pytest.approx((0.75, 0.75))
    assert one(study.effects, defense="none", eps=0.2)["gain"] is None
    assert one(study.effects, defense="mae-pure", attack="clean")["amv_after"].value == pytest.approx(0.07)
    assert one(study.effects, defense="mae-pure", attack="clean")["restored"] is None


def test_images_that_purification_breaks_do_not_lower_what_it_puts_right(world):
    world.add("none", LARGE, right=NONE_RIGHT)
    world.add("mae-pure", LARGE, right=np.where((PLACES >= 4) & (PLACES < 12), 1, 0), after=AMV - 0.05, parts=MAE)
    (study,) = read(world.write())
    pure = one(study.effects, defense="mae-pure")
    assert pure["gain"].value == pytest.approx((8 - 4) / 20)
    assert pure["rescued"].value == pure["rescued_nearer"].value == pytest.approx(8 / 20)


def test_margins_are_over_controls_on_the_same_images(toy):
    (study,) = read(toy.write())
    found = {(part.against, part.eps): part["margin"].value for part in study.margins}
    assert found == pytest.approx({("lot", 0.1): 0.3, ("lot", 0.2): 0.3, ("bare", 0.1): 0.4, ("bare", 0.2): 0.4})


def test_relations_are_those_of_scipy(world):
    draw = np.random.default_rng(1)
    after, loss = AMV + 0.05 * draw.normal(size=N), 0.1 + 0.05 * draw.random(N)
    world.add("none", LARGE, right=NONE_RIGHT)
    world.add("mae-pure", LARGE, right=PURE_RIGHT, after=after, loss=(CLEAN + 2 * AMV**2, loss), parts=MAE)
    (study,) = read(world.write())
    cell = one(study.cells, defense="mae-pure")
    change = after - AMV
    assert cell["before"].value == pytest.approx(1.0)
    assert cell["after"].value == pytest.approx(stats.spearmanr(after, loss).statistic)
    assert cell["change"].value == pytest.approx(stats.spearmanr(change, loss - 0.1 - 2 * AMV**2).statistic)
    wrong, right = change[(PLACES >= 4) & (PURE_RIGHT == 0)], change[(PLACES >= 4) & (PURE_RIGHT == 1)]
    wins = stats.mannwhitneyu(-right, -wrong).statistic / (len(right) * len(wrong))
    assert cell["rescue_amv"].value == pytest.approx(wins)
    pooled = one(study.relations, defense="mae-pure")
    alone, of_all = cell["after"], pooled["after"]  # of one attack alone
    assert (of_all.value, of_all.low, of_all.high) == pytest.approx((alone.value, alone.low, alone.high), rel=1e-9)


def test_over_all_attacks_what_both_have_from_size_is_taken_away(world):
    """Within each size AMV and loss have nothing in common; across sizes both rise."""
    for threat, level in ((SMALL, 0.0), (LARGE, 1.0)):
        noise = [level + 0.01 * np.random.default_rng([7, k, int(level)]).permutation(N) for k in range(2)]
        world.add("none", threat, right=NONE_RIGHT, before=AMV)
        world.add("mae-pure", threat, right=PURE_RIGHT, before=AMV, after=AMV - noise[0], loss=(noise[1], 0 * noise[1]))
    (study,) = read(world.write())
    pooled = one(study.relations, defense="mae-pure")
    assert pooled["change"].sign == 1
    assert pooled["change"].value > 0.6
    assert pooled["change_partial"].sign == 1  # sizes are a noisy measure of what raises both
    assert pooled["change_within"].sign == 0
    first = verdicts(study)[0]
    assert first.answer.startswith("a lower loss does not tell restored attention")
    assert "only as far as both follow that size" in first.reasons[0]


def test_attacked_images_count_once_however_many_defenses_meet_them(toy):
    toy.add("none", KNOWING, right=NONE_RIGHT, before=AMV + 1)
    toy.add("mae-pure", KNOWING, right=NONE_RIGHT, before=AMV + 2, parts=MAE)
    (seen,) = read_probed(results(toy.write()), provenance(str(toy.path)))
    levels = sorted(round(float(sight["amv_before"].min()), 6) for sight in seen.attacked)
    assert levels == [0.1, 0.1, 1.1, 2.1]  # two oblivious attacks, and one on each of two
    knowing = next(sight for sight in seen.sights if sight.knowledge == "bpda" and sight.defense == "mae-pure")
    assert seen.beside(knowing) is None  # not the same images
    (study,) = read(str(toy.path))
    assert one(study.effects, defense="mae-pure", knowledge="bpda")["gain"] is None


def test_the_bound_by_hand(world):
    loss = np.where(PLACES == 0, 0.1 - 0.05, 0.1 + 3 * AMV)
    loss = np.where(PLACES == 1, 0.1 + 0.5 * AMV, loss)
    world.add("none", LARGE, right=NONE_RIGHT, loss=(loss, loss))
    (study,) = read(world.write())
    (part,) = study.bounds
    assert part["below_clean"].value == pytest.approx(1 / 20)
    assert part["k_all"].value == pytest.approx(-0.05 / 0.1)
    assert part["k_most"].value == pytest.approx(0.5)  # one of twenty is spared
    assert not part["k_most"].bounded
    extra = loss - 0.1
    assert part["k_mean"].value == pytest.approx(extra.mean() / AMV.mean())
    expected = stats.linregress(AMV, extra)
    assert part["slope"].value == pytest.approx(expected.slope)
    assert part["explained"].value == pytest.approx(expected.rvalue**2)


def test_repeats_are_averaged_under_the_rule_of_the_suite(tmp_path):
    right = np.where(PLACES[:, None] < 10, [[1, 1]], [[1, 0]])
    for decision, share in (("mean", 0.75), ("any", 0.5)):
        world = World(tmp_path / f"{decision}.db", decision=decision, repeats=2)
        world.add("none", LARGE, right=np.zeros(N))
        world.add("mae-pure", LARGE, right=right, parts=MAE)
        (study,) = read(world.write())
        assert one(study.effects, defense="mae-pure")["gain"].value == pytest.approx(share)


def test_an_example_without_a_number_is_left_out(world):
    world.add("none", LARGE, right=NONE_RIGHT)
    cell, times, rows = world.done[0]
    world.done[0] = (cell, times, (rows[0].but(amv_purified_mean=None), *rows[1:]))
    (seen,) = read_probed(results(world.write()), provenance(str(world.path)))
    assert seen.sights[0].place.tolist() == list(range(1, N))


def test_sizes_that_were_not_measured_leave_the_partial_correlation_unknown(world):
    world.add("none", LARGE, right=NONE_RIGHT)
    cell, times, rows = world.done[0]
    world.done[0] = (cell, times, tuple(seen.but(l2=None) for seen in rows))
    (study,) = read(world.write())
    assert study.cells[0]["before"].value == pytest.approx(1.0)
    assert study.cells[0]["before_partial"] is None


def test_of_a_large_suite_the_first_places_are_read(toy, monkeypatch):
    monkeypatch.setattr(probed, "LIMIT", 15 * 8)  # of fifteen cells
    (study,) = read(toy.write())
    assert study.probed.examples == 8
    assert {sight.place.tolist()[-1] for sight in study.probed.sights} == {7}
    assert "the first 8 examples" in html(leaderboard_of(toy))


@pytest.mark.parametrize("names", [("distances",), ("amv", "distances"), NAMES])
def test_a_suite_without_a_probe_has_no_study(tmp_path, names):
    world = World(tmp_path / "runs.db", names=names)
    world.add("none", LARGE, right=NONE_RIGHT)
    cell, times, rows = world.done[0]
    if names == NAMES:
        rows = tuple(seen.but(amv_purified_mean=None) for seen in rows)
    world.done[0] = (cell, times, rows)
    assert read(world.write()) == []
    assert [path.name for path in write_report(str(world.path), tmp_path / "out")][-1] != "attention.csv"


def test_few_examples_and_none_in_common_tell_nothing_and_break_nothing(world):
    for defense, kept in (("none", slice(0, 3)), ("mae-pure", slice(3, 20))):
        world.add(defense, LARGE, right=NONE_RIGHT, parts=MAE if defense != "none" else None)
        cell, times, rows = world.done[-1]
        whole = [seen if seen in rows[kept] else seen.but(amv_purified_mean=None) for seen in rows]
        world.done[-1] = (cell, times, tuple(whole))
    board = leaderboard_of(world)
    (study,) = board.studies
    assert one(study.effects, defense="mae-pure")["gain"] is None
    assert one(study.effects, defense="none")["amv_before"] is None  # of three
    assert list(scatters(study)) == []
    assert verdicts(study) == []
    assert "What purification does to attention" in html(board)


# ---------------------------------------------------------------------- layers, heads, ratios


def by_head(before, after):
    """Return AMV by head, ``(place, image, norm, layer, head)``, with a level of its own for each."""
    level = 1 + np.arange(8).reshape(2, 2, 2)  # norm, layer, head
    return np.stack([np.multiply.outer(before, level), np.multiply.outer(after, 10 - level)], 1)


def test_layers_and_heads_have_the_numbers_of_their_own(tmp_path):
    world = World(tmp_path / "runs.db", names=(*NAMES, "amv-by-head"), repeats=2)
    world.add("none", LARGE, right=NONE_RIGHT, heads=by_head(AMV, AMV))
    world.add("mae-pure", LARGE, right=PURE_RIGHT, after=AMV, heads=by_head(AMV, AMV), parts=MAE)
    (study,) = read(world.write())
    for norm, layer, levels in (("frobenius", 1, (1, 2)), ("frobenius", 2, (3, 4)), ("spectral", 2, (7, 8))):
        whole = one(study.layers, defense="mae-pure", matrix_norm=norm, layer=layer)
        before, after = np.mean(levels), np.mean([10 - level for level in levels])
        assert whole["amv_before"].value == pytest.approx(before * AMV.mean(), rel=1e-6)
        assert whole["restored"].value == pytest.approx((before - after) / before, rel=1e-6)
        for head, level in enumerate(levels, start=1):
            alone = one(study.heads, defense="mae-pure", matrix_norm=norm, layer=layer, head=head)
            assert alone["restored"].value == pytest.approx((level - (10 - level)) / level, rel=1e-6)
            assert not alone["restored"].bounded
    assert len(study.layers) == 2 * 2 * 2
    assert len(study.heads) == 2 * 2 * 2 * 2
    titles = [table.title for table in tables(study)]
    assert {"Layer by layer", "Head by head"} <= set(titles)


def test_without_heads_the_last_layer_is_the_one_that_is_known(toy):
    (study,) = read(toy.write())
    assert {part.layer for part in study.layers} == {2}
    assert study.heads == ()
    last = one(study.layers, defense="mae-pure")
    assert last["amv_before"].value == pytest.approx(2 * 0.195)
    assert last["amv_after"].value == pytest.approx(3 * 0.21)


def test_ratios_stand_side_by_side_where_nothing_else_differs(tmp_path):
    for ratio, factor in ((0.5, 1.0), (0.75, 2.0)):
        world = World(tmp_path / "runs.db", name=f"toy-{ratio}", ratio=ratio, names=NAMES[: 3 if ratio == 0.5 else 2])
        world.add("none", LARGE, right=NONE_RIGHT)
        world.add("mae-pure", LARGE, right=PURE_RIGHT, after=AMV / 2 / factor, parts=MAE)
        if ratio == 0.5:
            world.add("none", SMALL, right=NONE_RIGHT)
            world.add("mae-pure", SMALL, right=PURE_RIGHT, after=AMV * 9, parts=MAE)  # not seen through the other
        url = world.write()
    first, second = read(url)
    for study in (first, second):
        restored = {part.mask_ratio: part["restored"].value for part in study.ratios if part.defense}
        assert restored == pytest.approx({0.5: 0.5, 0.75: 0.75})
    (alone,) = read(url, "toy-0.5")
    assert alone.ratios == ()


# ---------------------------------------------------------------------- rendering


def leaderboard_of(world):
    from reports.model.leaderboard import read_leaderboard

    url = world.write()
    return replace(read_leaderboard(url), studies=tuple(read(url)))


def test_the_page_and_the_text_have_the_verdict_and_every_table(toy):
    board = leaderboard_of(toy)
    page, text = html(board), markdown(board)
    for said in ("at most 20.0 of the 40.0 points gained can be due to restored attention", "Its network is that of"):
        assert said in page
        assert said in text
    (study,) = board.studies
    for table in tables(study):
        assert table.title in page
        assert f"#### {table.title}" in text
        assert table.lines
    assert page.count('<circle class="dot') == 2 * N  # mae-pure and the oracle


def test_the_files_are_the_same_a_second_time(toy, tmp_path):
    url = toy.write()
    first, second = (write_report(url, tmp_path / name) for name in "ab")
    assert [path.name for path in first][-1] == "attention.csv"
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


def test_csv_has_every_number(toy):
    found = read(toy.write())
    lines = list(csv.DictReader(io.StringIO(attention_csv(found))))
    assert len(lines) == sum(value is not None for _, part in found[0].parts for value in part.found.values())
    assert {line["quantity"] for line in lines} <= set(QUANTITIES)
    (line,) = [
        line
        for line in lines
        if (line["table"], line["defense"], line["eps"], line["quantity"]) == ("effects", "mae-pure", "0.2", "restored")
    ]
    assert float(line["value"]) == one(found[0].effects, defense="mae-pure", eps=0.2)["restored"].value
    assert line["n"] == str(N)
    (factor,) = [line for line in lines if line["quantity"] == "k_all" and line["attack"] == "all"]
    assert (factor["low"], factor["high"]) == ("", "")


def test_a_dot_stands_where_its_changes_are(toy):
    (study,) = read(toy.write())
    pure, oracle = scatters(study)
    assert (pure.defense, pure.column, oracle.defense) == ("mae-pure", "pgd oblivious-0.2", "oracle")
    assert pure.counts == {"right": 8, "wrong": 8, "was": 4}
    below = [dot for dot in pure.dots if dot.y > pure.y_zero]
    assert len(below) == 10  # AMV fell on ten
    assert all(dot.x < pure.x_zero for dot in pure.dots)  # the loss on all
    assert all(pure.left <= dot.x <= pure.right and pure.top <= dot.y <= pure.bottom for dot in pure.dots)
    assert {"0"} <= {tick.text for tick in pure.x_ticks} & {tick.text for tick in pure.y_ticks}


def test_too_many_dots_are_counted_instead(toy, monkeypatch):
    monkeypatch.setattr("reports.charts.attention.DOTS", 5)
    (study,) = read(toy.write())
    pure = next(iter(scatters(study)))
    assert (len(pure.dots), pure.left_out) == (5, N - 5)
    assert DOTS > N
