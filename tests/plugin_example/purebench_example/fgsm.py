"""The fast gradient sign method (Goodfellow et al. 2015), in Linf; in other norms the steepest step of that norm."""

from harness import Attack


class FGSM(Attack):
    """One step of the whole budget along the gradient."""

    version = 1

    def propose(self, victim, x, y, threat, draws):
        import torch

        from harness.bounds import project, step

        at = x.detach().requires_grad_(True)
        loss = torch.nn.functional.cross_entropy(victim.logits(at, draws.at("look")), y, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, at)
        victim.progress(1.0)
        return project(step(x, gradient, threat.eps, threat.norm), x, threat.eps, threat.norm)
