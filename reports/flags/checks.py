"""Trust: whether a row's figure stands, flag by flag, each with what was seen and the cells where.

A flag that fires says that the figure may be too high (one of them: too low), or what kind of a defense it is of. Where
nobody could look, it says what to add to the suite. One function per flag, over what is known of a row; ``MEANINGS``
names the papers.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise, product
from typing import TYPE_CHECKING, Any

from harness.core.spec import canonical_json
from reports import format as numbers
from reports.flags import gradients, traits
from reports.flags.evidence import Contrast, Flag, State
from reports.flags.faults import FAULTS
from reports.stats.worst_case import ADVISED, ENOUGH

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from reports.cell import Entry
    from reports.flags.evidence import Evidence

#: share of images without any gradient above which it is missing: the cross-entropy of a classifier that is sure of an
#: image is zero in float32 now and then even where nothing hides it
ZERO_GRADIENT = 0.05

#: accuracy that a budget without a bound may leave: a random defense is right by chance now and then, and an attack
#: may begin badly on an image or two
UNBOUNDED = 0.05

#: share of an averaged gradient's squared length that is noise above which the attacker follows noise rather than the
#: gradient
NOISE = 0.5

#: options of an attack that buy more of the same
MORE = ("steps", "restarts", "eot", "n_queries")

#: what is known of a defense's gradient, from the least to the most
FOLLOWED = {"bpda": 1, "surrogate": 2, "smooth": 3, "full": 3}


def _fired(name: str, sentence: str, value: float | None, figure: str, *cells: Entry) -> Flag:
    return Flag(name, State.FIRED, sentence, value, figure, cells)


def _clear(name: str, sentence: str, value: float | None = None, figure: str = "", *cells: Entry) -> Flag:
    return Flag(name, State.CLEAR, sentence, value, figure, cells)


def _untested(name: str, sentence: str, *cells: Entry) -> Flag:
    return Flag(name, State.UNTESTED, sentence, cells=cells)


def _percent(share: float) -> str:
    return f"{numbers.percent(share)} %"


def _told(one: bool, name: str, sentence: str, value: float, figure: str, *cells: Entry) -> Flag:
    """Return a flag that fires or is clear by a figure that it has in either case."""
    return (_fired if one else _clear)(name, sentence, value, figure, *cells)


# ---------------------------------------------------------------------- signs of a weak attack


def zero_gradient(evidence: Evidence) -> Flag:
    """Fire where an attacker who follows gradients got none on more than ``ZERO_GRADIENT`` of the images."""
    name = "zero-gradient"
    if not evidence.white:
        return _untested(name, _NO_WHITE)
    shares = [(_zeros(entry), entry) for entry in evidence.white if "zero_gradient" in (entry.notes or {})]
    if not shares:
        return _untested(
            name, "the attacks were made before gradients were looked at: measure them anew, in a new database"
        )
    (first, all_), entry = max(shares, key=lambda pair: max(pair[0]))
    sentence = (
        f"the gradient was zero in every pixel in {_percent(first)} of the first looks and {_percent(all_)} of all "
        f"looks of {entry.title}, the most of the row's attacks"
    )
    value = max(first, all_)
    return _told(value > ZERO_GRADIENT, name, sentence, value, _percent(value), entry)


def _zeros(entry: Entry) -> tuple[float, float]:
    notes = entry.notes or {}
    every = notes["zero_gradient"][0]
    return notes.get("zero_gradient_first", (every, 0))[0], every


_NO_WHITE = "there is no finished adaptive attack that follows gradients: add pgd with knowledge full, smooth or bpda"


def black_box_beats_white_box(evidence: Evidence) -> Flag:
    """Fire where an attack that follows no gradient, or is oblivious, breaks what adaptive gradient attacks do not."""
    name = "black-box-beats-white-box"
    if not evidence.white:
        return _untested(name, _NO_WHITE)
    blind = [entry for entry in evidence.attacks if evidence.blind(entry)]
    others = [*blind, *(entry for entry in evidence.attacks if not evidence.knows(entry) and entry not in blind)]
    pooled = evidence.worst(evidence.white)
    found = [(Contrast.of(evidence.verdicts(entry), pooled), entry) for entry in others]
    if found:
        contrast, entry = min(found, key=lambda pair: (pair[0].chance, -pair[0].lower))
        sentence = (
            f"{entry.title} breaks {contrast.lower} of {contrast.n} examples further than the adaptive gradient "
            f"attacks together, which break {contrast.higher} further; {_chance(contrast)}"
        )
        if contrast.significant or blind:
            figure = f"{contrast.lower} of {contrast.n}"
            return _told(contrast.significant, name, sentence, float(contrast.lower), figure, entry)
    return _untested(name, "no attack without gradients met the row: add square with the board's budget")


def transfer_beats_direct(evidence: Evidence) -> Flag:
    """Fire where examples that were crafted elsewhere leave less right than the same attack on the row itself."""
    name = "transfer-beats-direct"
    if not evidence.transfers:
        return _untested(name, "no examples of another defense were judged: add a block with `crafted_on`")
    direct = {_same_attack(entry): entry for entry in evidence.attacks}
    pairs = [(entry, direct[key]) for entry in evidence.transfers if (key := _same_attack(entry)) in direct]
    if not pairs:
        return _untested(
            name, "no transferred attack met the row directly too: cross the same attack and threat model with it"
        )
    found = [(evidence.contrast(*pair), *pair) for pair in pairs]
    contrast, there, here = min(found, key=lambda one: (one[0].chance, one[0].first))
    sentence = (
        f"{there.title} leaves {_percent(contrast.first)}, the direct {here.title} {_percent(contrast.second)}; "
        f"{_chance(contrast)}"
    )
    return _fall(name, sentence, contrast, there, here)


def _same_attack(entry: Entry) -> str:
    return canonical_json([entry.spec.get("attack"), entry.spec.get("threat")])


def _chance(contrast: Contrast) -> str:
    return f"by chance with probability {numbers.measure(contrast.chance)}"


def _fall(name: str, sentence: str, contrast: Contrast, *cells: Entry) -> Flag:
    """Return a flag that fires where the first of two attacks leaves significantly less than the second."""
    figure = f"{numbers.percent(contrast.second)} \N{RIGHTWARDS ARROW} {numbers.percent(contrast.first)}"
    return _told(contrast.significant, name, sentence, contrast.first, figure, *cells)


def unbounded_not_zero(evidence: Evidence) -> Flag:
    """Fire where a budget that allows any image leaves more than ``UNBOUNDED``."""
    name = "unbounded-not-zero"
    found = [entry for entry in evidence.checks if entry.unbounded and not entry.fixed and evidence.knows(entry)]
    if not found:
        return _untested(
            name, "no adaptive attack without a bound: add a threat model with Linf and eps 1 for the strongest attack"
        )
    entry = min(found, key=evidence.accuracy)
    left = evidence.accuracy(entry)
    sentence = f"{entry.title} may change every pixel at will and leaves {_percent(left)} right, where 0 is expected"
    return _told(left > UNBOUNDED, name, sentence, left, _percent(left), entry)


def more_still_lowers(evidence: Evidence) -> Flag:
    """Fire where the largest number of steps, restarts or draws of an attack leaves less than the next smaller one."""
    name = "more-still-lowers"
    families: dict[str, list[Entry]] = {}
    for entry in evidence.knowing:
        families.setdefault(_family(entry), []).append(entry)
    pairs = [pair for family in families.values() for pair in _largest(family)]
    if not pairs:
        return _untested(name, "no attack was made with more of the same: add one with twice the steps or restarts")
    found = [(evidence.contrast(more, less), more, less) for more, less in pairs]
    contrast, more, less = min(found, key=lambda one: (one[0].chance, one[0].first))
    sentence = (
        f"{more.title} ({_sizes(more)}) leaves {_percent(contrast.first)}, {less.title} ({_sizes(less)}) "
        f"{_percent(contrast.second)}; {_chance(contrast)}"
    )
    return _fall(name, sentence, contrast, more, less)


def _params(entry: Entry) -> Mapping[str, Any]:
    params: Mapping[str, Any] = (entry.spec.get("attack") or {}).get("params", {})
    return params


def _family(entry: Entry) -> str:
    """Return what an attack is but for how much of it there is."""
    rest = {name: value for name, value in _params(entry).items() if name not in MORE}
    spec = {name: entry.spec.get(name) for name in ("threat", "surrogate")}
    return canonical_json([{**(entry.spec.get("attack") or {}), "params": rest}, spec])


def _largest(family: Iterable[Entry]) -> list[tuple[Entry, Entry]]:
    """Return those of a family that none exceeds, each with those that it exceeds by the least."""
    members = list(family)
    pairs = [(more, less) for more, less in product(members, members) if _exceeds(more, less)]
    below = {id(less) for _, less in pairs}
    between = {(id(more), id(less)) for more, less in pairs for one in members if _exceeds(more, one, less)}
    return [pair for pair in pairs if id(pair[0]) not in below and (id(pair[0]), id(pair[1])) not in between]


def _exceeds(*entries: Entry) -> bool:
    """Whether each has more of something than the next, and less of nothing."""
    sizes = [tuple(_params(entry).get(name) or 0 for name in MORE) for entry in entries]
    return all(one != other and all(a >= b for a, b in zip(one, other, strict=True)) for one, other in pairwise(sizes))


def _sizes(entry: Entry) -> str:
    return ", ".join(f"{name} {value}" for name in MORE if (value := _params(entry).get(name)) is not None)


def eot_too_small(evidence: Evidence) -> Flag:
    """Fire where the gradient that the strongest attack averaged is noise for more than ``NOISE`` of it."""
    name = "eot-too-small"
    if evidence.random is False:
        return _clear(name, "the defense draws no random numbers, so its gradients have no noise")
    noted = [entry for entry in evidence.white if "noise_share" in (entry.notes or {})]
    if not noted:
        return _untested(name, "no adaptive attack averaged gradients over draws: give one an eot of 2 or more")
    entry = min(noted, key=evidence.accuracy)
    share, draws = (entry.notes or {})["noise_share"][0], _params(entry).get("eot")
    at = f" at {draws} draws" if draws else ""
    sentence = (
        f"the variance of the averaged gradient was {share:.2f} of its squared length{at} in {entry.title}, the "
        "strongest attack that averaged; 1 is nothing but noise"
    )
    return _told(share > NOISE, name, sentence, share, f"{share:.2f}{at}", entry)


def fixed_randomness(evidence: Evidence) -> Flag:
    """Fire where less is left if the attacker knows the random numbers: the rest was their doing."""
    name = "fixed-randomness"
    if evidence.random is False:
        return _clear(name, "the defense draws no random numbers")
    fresh = {_same_but_fixed(entry): entry for entry in evidence.attacks}
    fixed = [entry for entry in evidence.checks if entry.fixed and not entry.unbounded]
    pairs = [(entry, fresh[key]) for entry in fixed if (key := _same_but_fixed(entry)) in fresh]
    if not pairs:
        return _untested(
            name,
            "the attacker never knew the random numbers: add a threat model with `randomness: fixed` for an attack "
            "that meets the row with fresh ones too",
        )
    found = [(evidence.contrast(*pair), *pair) for pair in pairs]
    contrast, known, here = min(found, key=lambda one: (one[0].chance, one[0].first))
    sentence = (
        f"{_percent(contrast.first)} are left where the attacker knows the random numbers ({known.title}), "
        f"{_percent(contrast.second)} where they are fresh; {_chance(contrast)}"
    )
    return _fall(name, sentence, contrast, known, here)


def few_repeats(evidence: Evidence) -> Flag:
    """Fire where an attack was judged by fewer than ``ENOUGH`` repeats, so that the smallest verdict is mostly luck."""
    name = "few-repeats"
    if evidence.random is False:
        return _clear(name, "the defense draws no random numbers, so a verdict is no matter of luck")
    if not evidence.attacks or not evidence.clean:
        return _untested(name, "the worst case is not finished: run the suite")
    repeats, case = evidence.repeats, evidence.worst_case()
    if repeats < 2:
        return _untested(name, f"examples were judged once: raise `repeats` to {ADVISED}")
    if repeats < ENOUGH:
        figure = f"{repeats} of {ENOUGH}"
        sentence = (
            f"some attack was judged by {repeats} repeats of an example, and it takes {ENOUGH} to tell the strongest "
            f"attack from the luckiest: the figure may be too low; raise `repeats` to {ADVISED}"
        )
        return replace(_fired(name, sentence, float(repeats), figure), low=True)
    least, most = float(case.smallest.mean()), case.accuracy.share
    figure = f"{numbers.percent(least)} to {numbers.percent(most)}"
    sentence = (
        f"{_percent(least)} if each example's smallest share of {repeats} repeats is taken, of {len(evidence.counted)} "
        f"cells, and {_percent(most)} without the luck in that"
    )
    return _clear(name, sentence, most - least, figure)


def _same_but_fixed(entry: Entry) -> str:
    threat = {key: value for key, value in (entry.spec.get("threat") or {}).items() if key != "fixed"}
    return canonical_json([entry.spec.get("attack"), threat, entry.spec.get("surrogate")])


# ---------------------------------------------------------------------- what the attackers knew


def oblivious_only(evidence: Evidence) -> Flag:
    """Fire where no finished attack knows of the defense."""
    name = "oblivious-only"
    if evidence.knowing:
        return _clear(name, "there are attacks that know of the defense", None, "", *evidence.knowing)
    if evidence.attacks:
        sentence = "no finished attack knows of the defense, so the row cannot be ranked"
        return _fired(name, sentence, None, "", *evidence.attacks)
    return _untested(name, "no attack is finished: run the suite")


def only_bpda(evidence: Evidence) -> Flag:
    """Fire where attackers took the identity for a derivative that they could have followed."""
    name = "only-bpda"
    best, attacks = _best(evidence)
    if best is None:
        return _untested(name, _NO_WHITE)
    if best != "bpda":
        return _clear(name, f"gradients were followed with knowledge {best}", None, "", *attacks)
    if evidence.traits is None:
        return _untested(name, "the traits of the defense were not recorded: run the suite again, which records them")
    more = evidence.traits.get("knowledge", ())
    if not more:
        return _clear(
            name,
            "by its own account no derivative of it can be followed, and bpda is the most that it offers",
            None,
            "",
            *attacks,
        )
    entry = min(attacks, key=evidence.accuracy)
    left = evidence.accuracy(entry)
    sentence = f"the strongest gradient attacks take the identity for its derivative; it could be followed: {_or(more)}"
    return _fired(name, sentence, left, _percent(left), entry)


def surrogate_gradient(evidence: Evidence) -> Flag:
    """Fire where attackers followed a cheaper defense than the one that is judged, and nothing better."""
    name = "surrogate-gradient"
    best, attacks = _best(evidence)
    if best is None:
        return _untested(name, _NO_WHITE)
    if best != "surrogate":
        return _clear(name, f"gradients were followed with knowledge {best}", None, "", *attacks)
    entry = min(attacks, key=evidence.accuracy)
    left = evidence.accuracy(entry)
    sentence = (
        f"the strongest gradients are those of a cheaper version of the defense ({entry.title}); add knowledge: full"
    )
    return _fired(name, sentence, left, _percent(left), entry)


def _or(names: Iterable[str]) -> str:
    return "add knowledge: " + " or ".join(names)


def _best(evidence: Evidence) -> tuple[str | None, list[Entry]]:
    """Return the most that gradient attacks followed, and those that did."""
    known = {str(entry.knowledge) for entry in evidence.white} & FOLLOWED.keys()
    if not known:
        return None, []
    most = max(FOLLOWED[one] for one in known)
    attacks = [entry for entry in evidence.white if FOLLOWED.get(str(entry.knowledge)) == most]
    return str(attacks[0].knowledge), attacks


#: signs of a weak attack, what attackers knew, what was wrong, what the defense is; in the order of the tables
FLAGS: tuple[Callable[[Evidence], Flag], ...] = (
    *(zero_gradient, black_box_beats_white_box, transfer_beats_direct, unbounded_not_zero, more_still_lowers),
    *(gradients.not_finite_gradient, gradients.loss_out_of_scale, gradients.no_better_than_start),
    *(gradients.unshared_direction, eot_too_small, fixed_randomness, few_repeats),
    *(oblivious_only, only_bpda, surrogate_gradient),
    *FAULTS,
    *(traits.random, traits.optimises, traits.batch_mates, traits.oracle, traits.own_classifier, traits.votes),
    traits.unclipped,
    traits.surroundings,
    traits.untrue_traits,
)

#: those that say something of a classifier without a defense
OF_A_REFERENCE = (*FLAGS[:8], *FAULTS)


def flags_of(evidence: Evidence) -> tuple[Flag, ...]:
    """Return every flag of a row, fired or not."""
    return tuple(flag(evidence) for flag in (OF_A_REFERENCE if evidence.reference else FLAGS))
