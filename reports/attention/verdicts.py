"""Attribution: how much of what a defense gains can be due to restored attention, in sentences made of the numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.core.roles import Role
from reports import format as numbers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from reports.attention.quantities import Part
    from reports.attention.study import Study
    from reports.stats.bootstrap import Estimate

#: what a verdict rests on
NEEDED = (
    *("gain", "rescued", "nearer", "rescued_nearer", "loss_clean", "loss_before", "loss_after"),
    *("amv_before", "amv_after", "restored"),
)


@dataclass(frozen=True)
class Verdict:
    """What the numbers say of one defense under one attack that does not know of it.

    Attributes:
        answer: the verdict, the rest of a sentence that names defense and attack.
        most: how much accuracy may be due to restored attention at most, as a share; None where nothing is gained, or
            over all attacks.
        reasons: sentences.
    """

    defense: str
    column: str
    answer: str
    most: float | None
    reasons: tuple[str, ...]


def verdicts(study: Study) -> list[Verdict]:
    """Return verdicts on each defense that lowers a loss: over all attacks, and under each that met no defense too.

    An image that purification puts right while its AMV does not fall was not put right by restored attention. So those
    whose AMV fell are the most that can be due to it; how many of them are, no association says.
    """
    found = [one for part in study.relations if part.role == Role.RECONSTRUCTION for one in _proxy(part)]
    for part in study.effects:
        numbers_of = {name: one for name in NEEDED if (one := part[name])}
        if part.role == Role.RECONSTRUCTION and len(numbers_of) == len(NEEDED):
            found.append(_verdict(study, part, numbers_of))
    return found


def _proxy(part: Part) -> Iterator[Verdict]:
    """Yield whether the loss stands for attention: over all images, and among perturbations of one size."""
    change, given = part["change"], part["change_within"]
    if change is None or given is None:
        return
    answer = {
        1: "a lower loss goes with restored attention",
        0: "a lower loss does not tell restored attention, as far as these images show",
        -1: "a lower loss goes with attention that moves further away",
    }[given.sign]
    whole, within = _with(change, numbers.correlation), _with(given, numbers.correlation)
    reason = (
        f"Over the images of all attacks the changes of loss and AMV through purification have a rank correlation of "
        f"{whole}; of ranks under the same attack, given the size of the perturbation, it is {within}."
    )
    if change.sign == 1 and given.sign < 1:
        reason += " So they go together only as far as both follow that size."
    yield Verdict(part.defense, "all attacks", answer, None, (reason,))


def _verdict(study: Study, part: Part, of: Mapping[str, Estimate]) -> Verdict:
    same = [one for one in study.effects if one.column == part.column]
    answer, most = _answer(of)
    reasons = [_gained(part.defense, of["gain"])]
    if of["gain"].sign > 0:
        reasons += [*_controls(study, part, of["gain"], same), _nearer(of)]
    clean = next((one for one in study.effects if one.clean and one.defense == part.defense), None)
    reasons += [_attention(of, clean["amv_after"] if clean else None), _loss(of), *_by_image(study, part)]
    reasons += _oracle(same)
    return Verdict(part.defense, part.column, answer, most, tuple(reasons))


def _answer(of: Mapping[str, Estimate]) -> tuple[str, float | None]:
    gain, nearer = of["gain"], of["rescued_nearer"]
    if gain.sign <= 0:
        return "no gain that could be due to restored attention", None
    most, points = min(nearer.value, gain.value), numbers.percent(gain.value)
    if nearer.value == 0:
        return f"none of the {points} points gained can be due to restored attention", 0.0
    said = f"at most {numbers.percent(most)} of the {points} points gained can be due to restored attention"
    whole = {1: "", 0: ", of which there is no sign on the whole", -1: ", which on the whole was not restored"}
    return said + whole[of["restored"].sign], most


def _gained(defense: str, gain: Estimate) -> str:
    if gain.sign > 0:
        return f"{defense} gains {_with(gain, numbers.percent)} points of accuracy over no defense."
    if gain.sign < 0:
        return f"{defense} loses accuracy: {_with(gain, numbers.percent)} points."
    return f"{defense} gains nothing that can be told from chance: {_with(gain, numbers.percent)} points."


def _controls(study: Study, part: Part, gain: Estimate, same: Sequence[Part]) -> Iterator[str]:
    """Say what controls gain that know nothing of images, and what the defense has above the best of them."""
    known = {one.defense: one["gain"] for one in same if one.role == "control"}
    gains = {defense: found for defense, found in known.items() if found}
    if not gains:
        return
    said = [
        {
            1: f"{defense} gains {_with(one, numbers.percent)}, {100 * one.value / gain.value:.0f} % of it",
            0: f"{defense} gains nothing that can be told from chance, {_with(one, numbers.percent)}",
            -1: f"{defense} loses, {_with(one, numbers.percent)}",
        }[one.sign]
        for defense, one in gains.items()
    ]
    yield f"On the same images, of controls that know nothing of images, {'; '.join(said)}."
    if max(one.sign for one in gains.values()) < 1:
        return
    best = max(gains, key=lambda one: gains[one].value)
    above = next((one["margin"] for one in study.margins if (one.cell, one.against) == (part.cell, best)), None)
    if above:
        how = _with(above, numbers.percent)
        yield {
            1: f"Above {best} remain {how} points.",
            0: f"Nothing that can be told from chance remains above {best}: {how} points.",
            -1: f"{best} gains more: what is above it is {how} points.",
        }[above.sign]


def _nearer(of: Mapping[str, Estimate]) -> str:
    rescued, nearer = of["rescued"].value, of["nearer"].value
    right = f"It puts {numbers.percent(rescued)} % of the images right"
    if nearer == 0:
        return f"{right}; AMV fell on none."
    both, chance = _with(of["rescued_nearer"], numbers.percent), numbers.percent(rescued * nearer)
    fell = f"since AMV fell on {numbers.percent(nearer)} %"
    return f"{right}; {both} % are put right and had their AMV fall, by chance alone it would be {chance} %, {fell}."


def _attention(of: Mapping[str, Estimate], floor: Estimate | None) -> str:
    """Say whether attention came nearer to that of the clean images, and what purification does without an attack."""
    restored = of["restored"]
    change = f"from {_with(of['amv_before'], numbers.measure)} to {_with(of['amv_after'], numbers.measure)}"
    said = {
        1: f"Attention comes nearer to the clean images': AMV falls {change}, so "
        f"{_with(restored, numbers.percent)} % of it is restored",
        0: f"Whether attention comes nearer to the clean images' or moves further cannot be told: AMV goes {change}",
        -1: f"Attention moves further from the clean images': AMV rises {change}",
    }[restored.sign]
    if floor:
        share = f"{100 * floor.value / of['amv_after'].value:.0f} % of what is left"
        said += f"; clean images that are purified have {_with(floor, numbers.measure)}, {share}"
    return f"{said}."


def _loss(of: Mapping[str, Estimate]) -> str:
    clean, before, after = (of[f"loss_{name}"].value for name in ("clean", "before", "after"))
    side = "below" if after < clean else "above"
    said = f"{'falls' if after < before else 'rises'} from {numbers.measure(before)} to {numbers.measure(after)}"
    return f"The loss {said}, {side} the clean images' {numbers.measure(clean)}."


def _by_image(study: Study, part: Part) -> Iterator[str]:
    """Say whether, image by image, a fall of the loss goes with one of AMV, and that with being put right."""
    cell = next((one for one in study.cells if one.cell == part.cell), None)
    change, rescue = (cell["change"], cell["rescue_amv"]) if cell else (None, None)
    if change:
        how = f"(rho {_with(change, numbers.correlation)})"
        yield {
            1: f"Where the loss fell further, AMV fell further too {how}.",
            0: f"How far the loss fell does not tell how far AMV fell {how}.",
            -1: f"Where the loss fell further, AMV fell less {how}.",
        }[change.sign]
    if rescue:
        how = f"(AUC {_with(rescue, _auc)})"
        yield {
            1: f"The images that are put right are rather those whose AMV fell further {how}.",
            0: f"How far AMV fell does not tell which images are put right {how}.",
            -1: f"The images that are put right are rather those whose AMV fell less {how}.",
        }[int(rescue.low > 0.5) - int(rescue.high < 0.5)]


def _oracle(same: Sequence[Part]) -> Iterator[str]:
    for one in same:
        gain, restored = one["gain"], one["restored"]
        if one.role == "oracle" and gain and restored:
            yield (
                f"{one.defense}, which is shown the clean images, restores {_with(restored, numbers.percent)} % of the "
                f"attention and gains {_with(gain, numbers.percent)} points."
            )


def _auc(value: float) -> str:
    return f"{value:.2f}"


def _with(found: Estimate, write: Callable[[float], str]) -> str:
    """Write a number with its interval."""
    return f"{write(found.value)} [{write(found.low)}, {write(found.high)}]"
