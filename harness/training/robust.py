"""Objectives that meet an attack: adversarial training, and the fine-tuning of purifiers.

The attack is the registry's and proposes its best iterate, where the authors' own loops take the last one; with
``reevaluate: 0`` it proposes that one too where a purifier draws, and spares the looks that would find a better one.
Networks are attacked in eval mode, as they will be later.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch.nn import functional as F

from harness.bounds import clip
from harness.nets.joint import Joint
from harness.nets.maskdit import MaskDiT
from harness.nets.transforms import completed
from harness.training.context import held, kl
from harness.training.forward import halves, mae, one_pass, own_loss

if TYPE_CHECKING:
    from torch import Tensor, nn

    from harness.draws import Draws
    from harness.nets.mae import Reconstruction
    from harness.training.context import Batch, Beside
    from harness.training.objective_options import (
        AdversarialObjective,
        AToPObjective,
        DIRObjective,
        PurifyClassifyObjective,
        PurifyPixelsObjective,
        RestoreObjective,
        TradesObjective,
    )


def adversarial(net: nn.Module, batch: Batch, objective: AdversarialObjective, beside: Beside) -> Tensor:
    """CE(f(x_adv), y) (Madry et al. 2018, equation 2.1)."""
    with held(net):
        x_adv = beside.attacked(lambda at, _: net(at), batch.x, batch.y, batch.draws, random=False)
    return F.cross_entropy(net(x_adv), batch.y)


def trades(net: nn.Module, batch: Batch, objective: TradesObjective, beside: Beside) -> Tensor:
    """CE(f(x), y) + beta KL(f(x) || f(x')), x' by ascent on that divergence (Zhang et al. 2019, equation 5)."""
    with held(net):
        still = net(batch.x).detach()
        x_adv = beside.ascend(
            lambda at: kl(net(at), still), batch.x, objective.steps, objective.step_size, batch.draws.at("ascent")
        )
    logits = net(batch.x)
    return F.cross_entropy(logits, batch.y) + objective.beta * kl(net(x_adv), logits).mean()


def purify_classify(net: nn.Module, batch: Batch, objective: PurifyClassifyObjective, beside: Beside) -> Tensor:
    """CE(f(P(x_adv)), y) + weight * masked reconstruction, only P learns (MAE-Pure's robust variant, after AToP).

    Stage I: noise on the image, then an attack within the ball around the noisy image; with ``knowledge: full`` it goes
    through P and f, and every look has a fresh mask. Stage II: a step on P alone.

    The sources leave open, or do otherwise: P is one masked pass here, since the purification at test time, descent on
    the input by signs, has no gradient to train through. Visible patches are kept by default: an autoencoder
    that learned from masked patches alone never learned to give the others back, and ``decoded`` asks it to learn that
    too. AToP's reconstruction term has the attacked image for its target (Lin et al. 2024, equation 5); here it is
    the clean one: what is wanted is not that an attack be repeated.

    A masked diffusion transformer (RMaskDiT-Pure) has noise of its own: one pass adds it, at the level ``sigma``, and
    takes it away. That is stage I's noise, unclipped and after the attack, so none comes before; each look draws it
    anew. What it was trained on takes the place of the reconstruction term.
    """
    net, classifier = net if isinstance(net, MaskDiT) else mae(net), beside.net("classifier")
    ratio, sigma = objective.mask_ratio, objective.sigma

    def purified(at: Tensor, draws: Draws) -> Tensor:
        return clip(one_pass(net, at, ratio, draws, objective.visible, sigma))

    start = batch.x
    if not isinstance(net, MaskDiT):
        start = clip(start + sigma * batch.draws.at("noise").normal(*start.shape[1:]))
    with held(net):
        x_adv = beside.attacked(beside.asking(classifier, purified), start, batch.y, batch.draws, random=beside.through)
    update = batch.draws.at("update")
    own = own_loss(net, x_adv, batch.x, ratio, update, sigma)
    loss = F.cross_entropy(classifier(purified(x_adv, update)), batch.y)
    return loss + objective.reconstruction_weight * own.mean()


def atop(net: nn.Module, batch: Batch, objective: AToPObjective, beside: Beside) -> Tensor:
    """Generator's loss of x' + lambda CE(f(g(t(x'))), y), x' attacked, only g learns (AToP, Lin et al. 2024, eq. 9).

    The generator's own loss is that of a denoising masked autoencoder (Wu et al. 2023): mean squared error on all
    patches, in the net's own units. Its target is x' itself in the paper (equation 5), so that the cross-entropy alone
    tells the net what an attack is; ``target: clean`` asks for the image without it. Both terms look at one pass,
    with one mask and one noise, as in the authors' code.

    FGSM through the whole system, the paper's attack, is ``pgd`` of one step as long as eps without a random start and
    ``knowledge: full``; the attack's looks have fresh masks and noise. With ``reevaluate: 0`` it proposes its one
    iterate. The authors' code has FGSM on the classifier alone, which is ``knowledge: oblivious``. There lambda is
    0.05, the default here, beside the L1 distance twice and a discriminator's loss. The recipes that ship have 1 and
    tune for minutes: the cross-entropy then outweighs the generator's own loss, on the digits a hundredfold in the
    gradient at the start.
    """
    net = mae(net)

    def transformed(at: Tensor, draws: Draws) -> tuple[Reconstruction, Tensor]:
        return completed(
            net,
            at,
            draws,
            transform=objective.transform,
            mask_ratio=objective.mask_ratio,
            sigma=objective.sigma,
            patch=objective.patch,
        )

    classifier = beside.net("classifier")
    ask = beside.asking(classifier, lambda at, draws: clip(transformed(at, draws)[1]))
    with held(net):
        x_adv = beside.attacked(ask, batch.x, batch.y, batch.draws, random=beside.through)
    found, image = transformed(x_adv, batch.draws.at("update"))
    own = net.loss(found, x_adv if objective.target == "attacked" else batch.x, "all").mean()
    return own + objective.classification_weight * F.cross_entropy(classifier(clip(image)), batch.y)


def purify_pixels(net: nn.Module, batch: Batch, objective: PurifyPixelsObjective, beside: Beside) -> Tensor:
    """L1 of P(x_adv) to x + weight * masked reconstruction of x (MAEP, Chen and Lu 2025).

    Every patch of P(x_adv) comes from the decoder, as at inference, where nothing is removed. The authors remove
    patches in training and close the gap to inference by low-rank fine-tuning; here the purification term removes
    none from the start (``purify_mask_ratio``), so there is no gap. Which attack they train on is not known to us:
    with ``knowledge: oblivious`` it is one on the classifier alone.
    """
    net, ratio = mae(net), objective.purify_mask_ratio
    ask = beside.asking(beside.net("classifier"), lambda at, draws: clip(one_pass(net, at, ratio, draws)))
    with held(net):
        x_adv = beside.attacked(ask, batch.x, batch.y, batch.draws, random=beside.through and ratio > 0)
    update = batch.draws.at("update")
    found = net(batch.x, update.at("reconstruct").permutation(net.n_patches), objective.mask_ratio)
    loss = F.l1_loss(one_pass(net, x_adv, ratio, update), batch.x)
    return loss + objective.reconstruction_weight * net.loss(found, batch.x).mean()


def restore(net: nn.Module, batch: Batch, objective: RestoreObjective, beside: Beside) -> Tensor:
    """Mean squared error on all pixels of the natural image, from an adversarial one (DIR, Zhou et al. 2023).

    The authors prepare the pairs beforehand; here they are made in each step, against the frozen classifier, or with
    ``knowledge: full`` through the purifier as it is by then.
    """
    ask = beside.asking(beside.net("classifier"), lambda at, draws: clip(halves(net, at, draws)))
    with held(net):
        x_adv = beside.attacked(ask, batch.x, batch.y, batch.draws, random=beside.through)
    return F.mse_loss(halves(net, x_adv, batch.draws.at("update")), batch.x)


def joint(net: nn.Module, batch: Batch, objective: DIRObjective, beside: Beside) -> Tensor:
    """CE(f(r), y) + weight * KL(f(r) || f(r + p)), r = g(x_adv); f and g learn (DIR, Zhou et al. 2023).

    The attack goes through both with ``knowledge: full``, with fresh masks in every look. The perturbation p climbs the
    divergence and is projected into the budget; the authors' code keeps what it projects under a name that it never
    reads, so theirs is not. They run SGD with a rate for each network; here both have the recipe's AdamW.
    """
    if not isinstance(net, Joint):
        raise TypeError(f"expected a joint network of purifier and classifier, got {type(net).__name__}")
    purifier, classifier = net.purifier, net.classifier
    ask = beside.asking(classifier, lambda at, draws: clip(halves(purifier, at, draws)))
    with held(net):
        x_adv = beside.attacked(ask, batch.x, batch.y, batch.draws, random=beside.through)
    restored = clip(halves(purifier, x_adv, batch.draws.at("update")))
    logits = classifier(restored)
    loss = F.cross_entropy(logits, batch.y)
    if not objective.kl_weight:
        return loss
    centre, draws = restored.detach(), batch.draws.at("ascent")
    with held(net):
        still = classifier(centre).detach()  # in eval mode like what is compared: batch norm is another function there
        moved = beside.ascend(
            lambda at: kl(classifier(at), still), centre, objective.kl_steps, objective.kl_step_size, draws
        )
    return loss + objective.kl_weight * kl(classifier(clip(restored + moved - centre)), logits).mean()
