"""The numbers of a cell in the order of the tables, each with the sentence that explains it.

All renderers iterate over these, so that a column means the same on the page, in Markdown, LaTeX and CSV.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.core.minimum import MINIMA
from reports import format as numbers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from reports.cell import Entry, Price


@dataclass(frozen=True)
class Fact:
    """One number of a cell.

    Attributes:
        key: its column in the CSV file.
        group: the heading that it shares with its neighbours.
        title: its own heading.
        value: how to find it.
        text: how to write it.
    """

    key: str
    group: str
    title: str
    value: Callable[[Entry], float | None]
    text: Callable[[float], str]

    def of(self, entry: Entry) -> str:
        """Write the number, or a dash where there is none."""
        value = self.value(entry)
        return numbers.NOTHING if value is None else self.text(value)


def _measured(key: str, group: str, title: str) -> Fact:
    return Fact(key, group, title, lambda entry: entry.measures.get(key), numbers.measure)


@dataclass(frozen=True)
class Costs:
    """What a defense or an attack takes: per image, but for the last two, which are of a batch."""

    seconds: Fact
    forwards: Fact
    backwards: Fact
    evaluations: Fact
    peak_memory: Fact
    batch_size: Fact

    def __iter__(self) -> Iterator[Fact]:
        """Yield them in the order of the tables."""
        yield from (self.seconds, self.forwards, self.backwards, self.evaluations, self.peak_memory, self.batch_size)

    def memory(self, entry: Entry) -> str:
        """Write the peak memory with its batch size, as in ``41.2 MB at 32``, or a dash."""
        peak, batch = self.peak_memory.of(entry), self.batch_size.of(entry)
        return peak if numbers.NOTHING in (peak, batch) else f"{peak} at {batch}"


def _costs(side: str, of: Callable[[Entry], Price]) -> Costs:
    image, batch = f"{side}, per image", f"{side}, per batch"
    return Costs(
        Fact(f"{side}_seconds", image, "time", lambda entry: of(entry).seconds, numbers.seconds),
        Fact(f"{side}_forwards", image, "forwards", lambda entry: of(entry).forwards, numbers.count),
        Fact(f"{side}_backwards", image, "backwards", lambda entry: of(entry).backwards, numbers.count),
        Fact(f"{side}_evaluations", image, "evaluations", lambda entry: of(entry).evaluations, numbers.count),
        Fact(f"{side}_peak_memory", batch, "peak memory", lambda entry: of(entry).peak_memory, numbers.memory),
        Fact(f"{side}_batch_size", batch, "batch size", lambda entry: of(entry).batch_size, numbers.count),
    )


DEFENSE = _costs("defense", lambda entry: entry.defense_cost)
ATTACK = _costs("attack", lambda entry: entry.attack_cost)

#: what a board says of a defense's cost
IN_SHORT = (DEFENSE.seconds, DEFENSE.evaluations)

FACTS = (
    _measured("linf", "perturbation", "Linf"),
    _measured("l2", "perturbation", "L2"),
    _measured("reconstruction_clean", "reconstruction loss", "clean"),
    _measured("reconstruction_adversarial", "reconstruction loss", "adversarial"),
    _measured("reconstruction_purified", "reconstruction loss", "purified"),
    _measured("amv_adversarial_last", "AMV before (adversarial)", "last layer"),
    _measured("amv_adversarial_mean", "AMV before (adversarial)", "mean"),
    _measured("amv_purified_last", "AMV after (purified)", "last layer"),
    _measured("amv_purified_mean", "AMV after (purified)", "mean"),
    *DEFENSE,
    *ATTACK,
)


def groups() -> list[tuple[str, int]]:
    """Return the shared headings with the number of facts under each."""
    spans: dict[str, int] = {}
    for fact in FACTS:
        spans[fact.group] = spans.get(fact.group, 0) + 1
    return list(spans.items())


#: what the words of the tables mean, a sentence or two each
LEGEND = (
    (
        "accuracy",
        "Share of examples that the defended classifier gets right, in per cent. The harness judges it after the "
        "attack: it checks that the proposed image is within range and budget and evaluates it afresh through the "
        "whole defense; what the attack claims is not used.",
    ),
    (
        "[low, high]",
        "The 95 % Wilson score interval of that share: the uncertainty from which examples were chosen, at the number "
        "of examples in the table.",
    ),
    (
        "worst case",
        "What is left where each example meets the attack that suits it worst, of clean input and all attacks on it "
        "within the budget that the database holds, whichever suite has them and wherever their examples were crafted; "
        "the mean over examples, never the smallest of the averages. Of a defense without randomness that is each "
        "example's smallest verdict. Of a random one the smallest share of a few repeats has luck in it, and the more "
        "of it the more attacks there are; so the figure is estimated, by a model of the repeats and by attacks that "
        "other repeats have chosen, such that a further attack lowers it only by what it really takes. The mean of "
        "the smallest shares stands beside it (\N{GREATER-THAN OR EQUAL TO}), a lower bound. Attacks without a bound "
        "or with known randomness are checks, and take no part. While attacks of the suite are unfinished it is an "
        "upper bound (\N{LESS-THAN OR EQUAL TO}).",
    ),
    (
        "rank",
        "By worst case; a row that is not significantly worse than the first of those above it shares its place (=). "
        "Tested are all pairs of ranked rows, on the same examples, at 5 % in all after Holm's correction: by exact "
        "sign-flip tests (of verdicts 0 and 1: McNemar's), and of estimated worst cases by Student's test of the "
        "examples' differences, with what is uncertain about the strongest attack added. Such a test of two rows finds "
        "the difference that stands below the board in 80 % of cases, if they disagree as often as neighbours do. "
        "A row is ranked when it has met the minimum that its suite names; one that has not stands apart, with what it "
        "lacks, since beside a row that was attacked harder its figure says nothing.",
    ),
    (
        "minimum",
        " ".join(f"{one.sentence}." for one in MINIMA.values())
        + " Attacks of any suite count that were made on the row itself, with fresh randomness, on all its examples; "
        "what is met beyond them lowers the row and asks nothing of others.",
    ),
    (
        "reference",
        "The classifier without a defense: the line that a defense has to rise above.",
    ),
    (
        "certified",
        "A certificate says within which L2 distance of an image no attack whatever changes the class of the smoothed "
        "classifier: the one that the defended classifier gives most often under Gaussian noise. Each radius is right "
        "but for a small probability, an option of the certificate. The share at a radius counts the examples "
        "that are right and certified within it; it is a lower bound, where attacks give upper ones, and of the "
        "smoothed classifier alone.",
    ),
    (
        "abstained, mean radius",
        "The share of examples of which the certificate says nothing, since no class had more than half of the votes "
        "for certain; they count as wrong. The mean is over all examples, with 0 where the class is wrong or nothing "
        "is said.",
    ),
    ("oblivious", "The attacker sees the classifier alone and does not know that there is a defense."),
    (
        "bpda",
        "The attacker runs the defense forwards and takes its derivative for the identity (straight-through).",
    ),
    ("full", "The attacker differentiates through the defense exactly."),
    (
        "refused",
        "The cell cannot be measured in a way that means something; the reason stands beside it, and it counts "
        "neither for nor against the defense.",
    ),
    (
        "missing, partial",
        "The cell can be measured and has not been, or not on all examples and repeats; running the suite again "
        "completes it.",
    ),
    (
        "examples, repeats",
        "How many images were judged, and in how many fresh evaluations each; a defense that draws no random numbers "
        "needs one.",
    ),
    (
        "perturbation",
        "Mean size of the change that was judged, pixels in [0, 1], as the largest change of a value (Linf) and as "
        "the Euclidean length (L2).",
    ),
    (
        "reconstruction loss",
        "Masked reconstruction loss of the probe, a masked autoencoder named in the suite, on the clean, the "
        "adversarial and the purified image.",
    ),
    (
        "AMV",
        "Attention-matrix variation: the Frobenius norm of the change of the probe's decoder attention, adversarial "
        "minus clean (before purification) and purified minus clean (after), under the same weights and the same "
        "masks; for the last decoder layer and as the mean over layers.",
    ),
    ("time", "Wall time per image: of purifying and classifying for the defense, of crafting for the attack."),
    ("forwards, backwards", "Passes through any network per image."),
    ("evaluations", "Forward passes through the defense's own networks per image, known as NFE for diffusion."),
    (
        "peak memory, batch size",
        "The most memory that was needed beyond what was in use when the work began, so that the networks themselves "
        "do not count: of the GPU, or of the whole process where a CPU did the work. It is that of a batch of as many "
        "images as stand beside it, the largest if there were several; MB are millions of bytes. A dash where it is "
        "not known.",
    ),
    (
        "faults",
        "Outcomes that broke a rule: proposals that are not finite, out of range or over budget; logits, purified "
        "images or measures that are not finite. The flags say which, and in what share.",
    ),
)

#: how the repeats of a random defense become one verdict per example
DECISIONS = {
    "mean": "an example counts as the share of its repeats that were correct",
    "any": "an example counts as correct only if no repeat was wrong",
    "majority": "an example counts as correct if more than half of its repeats were correct",
}
