"""What the flags mean: a sentence each, and the papers that they come from."""

from __future__ import annotations

from dataclasses import dataclass

from reports.flags.checks import NOISE, UNBOUNDED, ZERO_GRADIENT
from reports.flags.evidence import SIGNIFICANT
from reports.flags.gradients import DIRECTION, NO_BETTER, NOT_FINITE, OUT_OF_SCALE
from reports.stats.worst_case import ENOUGH


@dataclass(frozen=True)
class Meaning:
    """A flag in a sentence or two, when it fires, and where the thought comes from."""

    name: str
    sentence: str
    source: str


_ATHALYE = "Athalye, Carlini and Wagner 2018, Obfuscated Gradients Give a False Sense of Security"
_CARLINI = "Carlini et al. 2019, On Evaluating Adversarial Robustness"
_TRAMER = "Tram\N{LATIN SMALL LETTER E WITH GRAVE}r et al. 2020, On Adaptive Attacks to Adversarial Example Defenses"
_CAWLEY = "Cawley and Talbot 2010, On Over-fitting in Model Selection and Subsequent Selection Bias"
_CROCE = "Croce et al. 2022, Evaluating the Adversarial Robustness of Adaptive Test-time Defenses"
_PINTOR = "Pintor et al. 2022, Indicators of Attack Failure"
_LEE = "Lee and Kim 2023, Robust Evaluation of Diffusion-Based Adversarial Purification"
_KASSIS = "Kassis, Hengartner and Yu 2025, DiffBreak"
_LIU = "Liu et al. 2025, on adversarial denoising diffusion training (arXiv 2404.14309)"

#: what is said once of all comparisons
COMPARED = (
    "Attacks are compared example by example, by the exact sign-flip test (McNemar's, where verdicts are 0 and 1), "
    f"one-sided, at a probability of {SIGNIFICANT:g}."
)

#: what the three states are
STATES = (
    "A flag fires, with the figure behind it; or it was looked at and is clear; or it is untested, and then its "
    "sentence says what to add to the suite. Flags that fire change no number and no rank; a row whose faults nothing "
    "makes good is not ranked, and says so in the place of its rank."
)

MEANINGS = (
    Meaning(
        "zero-gradient",
        f"The gradient was zero in every pixel for more than {100 * ZERO_GRADIENT:g} % of the images, in the "
        "attacker's first look or over all looks: what follows gradients had nothing to follow, and the figure "
        "may be too high.",
        f"{_ATHALYE}; {_PINTOR}",
    ),
    Meaning(
        "black-box-beats-white-box",
        "An attack without gradients, or one that does not know of the defense, breaks examples that all adaptive "
        "gradient attacks together do not, significantly more than the other way round: the gradients mislead.",
        f"{_ATHALYE}; {_CARLINI}",
    ),
    Meaning(
        "transfer-beats-direct",
        "Examples crafted on another defense or classifier leave significantly less right than the same attack made on "
        "the row itself: the direct attack was hindered.",
        f"{_CARLINI}; {_TRAMER}; {_PINTOR}",
    ),
    Meaning(
        "unbounded-not-zero",
        "Half of the pixel range or more allows to paint every image the same grey, so an attack that works leaves "
        f"nothing; more than {100 * UNBOUNDED:g} % were left. Such cells are checks, and part of no worst case.",
        f"{_ATHALYE}; {_CARLINI}; {_PINTOR}",
    ),
    Meaning(
        "more-still-lowers",
        "Of two attacks that differ in their steps, restarts or draws alone, the largest leaves significantly less "
        "right than the next smaller one: the attack has not converged, and still more would leave less.",
        f"{_CARLINI}; {_CROCE}; {_PINTOR}",
    ),
    Meaning(
        "not-finite-gradient",
        f"The gradient was infinite or not a number in some pixels in more than {100 * NOT_FINITE:g} % of the looks of "
        "an attack, as a root or a logarithm at 0 makes it, or a gradient that explodes. It is taken for 0 there, so "
        "the attack goes on with the rest, and is weaker than it could be.",
        f"{_ATHALYE}; {_PINTOR}",
    ),
    Meaning(
        "loss-out-of-scale",
        f"In more than {100 * OUT_OF_SCALE:g} % of the looks of the strongest attack the cross-entropy did not fit the "
        "logits: they were so large that rounding took the true class's slope, or so small that all other classes "
        "weighed alike. Margin and DLR do not depend on the unit of logits.",
        f"{_CARLINI}; {_PINTOR}",
    ),
    Meaning(
        "no-better-than-start",
        f"For more than {100 * NO_BETTER:g} % of the images an attack ended no better than it had begun, under the "
        "same draws of the defense: what it followed led nowhere.",
        f"{_ATHALYE}; {_PINTOR}",
    ),
    Meaning(
        "unshared-direction",
        f"The gradients of two draws of a random defense at the same image have a cosine below {DIRECTION:g}: they "
        "share no direction, as where they explode on the way through the defense, and no number of draws that is "
        "usual averages one out of them.",
        f"{_ATHALYE}; {_LEE}",
    ),
    Meaning(
        "eot-too-small",
        "The gradient that the strongest attack averaged over draws of a random defense was noise for more than "
        f"{100 * NOISE:g} % of its squared length: more draws would show it a better way.",
        f"{_ATHALYE}; {_KASSIS}",
    ),
    Meaning(
        "fixed-randomness",
        "Where the attacker knows the random numbers, which are then always the same, significantly less is left: the "
        "rest of the figure is their doing. Such cells are checks, and part of no worst case.",
        f"{_LIU}; {_PINTOR}",
    ),
    Meaning(
        "few-repeats",
        f"Examples of a random defense were judged by fewer than {ENOUGH} repeats. The smallest of several shares of "
        "so few has luck in it, and they are too few to take it out: the figure may be too low.",
        _CAWLEY,
    ),
    Meaning(
        "oblivious-only",
        "No finished attack knows of the defense, so its figure says little, and it is not ranked.",
        f"{_CARLINI}; {_TRAMER}; {_CROCE}",
    ),
    Meaning(
        "only-bpda",
        "The best gradient attacks take the identity for the defense's derivative, although it could be followed.",
        f"{_ATHALYE}; {_TRAMER}; {_LEE}",
    ),
    Meaning(
        "surrogate-gradient",
        "The best gradient attacks follow a cheaper version of the defense than the one that is judged.",
        f"{_LEE}; {_KASSIS}",
    ),
    Meaning(
        "not-finite",
        "Logits or purified images were not finite, so that no class was chosen. Such outcomes count as wrong, and a "
        "row that has any within its budget is not ranked: what its figure would be is not known.",
        "this harness",
    ),
    Meaning(
        "proposals-replaced",
        "An attack proposed nothing for an example, or nothing finite, and the clean image was judged in its place: "
        "the figure may be too high. A row is ranked where each example met another adaptive attack that did propose "
        "something.",
        _PINTOR,
    ),
    Meaning(
        "proposals-repaired",
        "An attack proposed images that were out of range or over budget. They were brought back, and that was judged, "
        "which is perhaps weaker than what the attack could do within the budget.",
        _CARLINI,
    ),
    Meaning(
        "at-chance",
        "No more clean images are right than guessing makes right, by the one-sided binomial test, at a probability of "
        f"{SIGNIFICANT:g}: there is nothing to attack. The classifier may expect pixels in another unit.",
        "this harness",
    ),
    Meaning(
        "probabilities",
        "The classifier hands over probabilities. Losses take the softmax themselves, and taken twice it flattens "
        "gradients, so that attacks by cross-entropy are weak.",
        _ATHALYE,
    ),
    Meaning(
        "random",
        "The defense draws random numbers: its figure is one of several draws, which the decision rule puts together.",
        f"{_ATHALYE}; {_KASSIS}",
    ),
    Meaning(
        "optimises",
        "The defense runs an optimisation at inference. Such defenses have rarely held what their first evaluation "
        "promised.",
        _CROCE,
    ),
    Meaning("batch-mates", "What becomes of an image depends on the others that are purified with it.", "this harness"),
    Meaning("oracle", "The defense is shown the clean image: an analysis, which is never ranked.", "this harness"),
    Meaning(
        "own-classifier",
        "The defense brings a classifier that was trained with it, so the row is not on the board's classifier.",
        "this harness",
    ),
    Meaning("votes", "Several purified copies of an image vote on its class.", f"{_LEE}; {_KASSIS}"),
    Meaning(
        "unclipped",
        "Purified pixels may lie beyond [0, 1]: the classifier sees what is no image, and may be less sure of it.",
        "this harness",
    ),
    Meaning(
        "surroundings",
        "Measuring it left flags, threads, variables or functions of its process otherwise than it found them, so that "
        "its own figures may be of other arithmetic. They were put back, and nobody else was measured with them. A row "
        "that exchanged functions is not ranked.",
        "this harness",
    ),
    Meaning(
        "untrue-traits",
        "A few images were purified twice, by other draws, alone and in another order. The defense turned out random, "
        "stateful or dependent on its batch, and says that it is not: its attacks and repeats were chosen for another.",
        "this harness",
    ),
)
