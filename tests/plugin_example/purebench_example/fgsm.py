"""The fast gradient sign method (Goodfellow et al. 2015), in Linf and, with the normalised gradient, in L2."""

from harness.options import NoOptions


class FGSM:
    """One step of the whole budget along the gradient."""

    version = 1
    Options = NoOptions

    def __init__(self, options):
        self.options = options

    def refuses(self, setting):
        return None

    def propose(self, victim, x, y, threat, draws):
        import torch

        from harness.bounds import project, steepest

        at = x.detach().requires_grad_(True)
        loss = torch.nn.functional.cross_entropy(victim.logits(at, draws.at("look")), y, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, at)
        victim.progress(1.0)
        return project(x + threat.eps * steepest(gradient, threat.norm), x, threat.eps, threat.norm)
