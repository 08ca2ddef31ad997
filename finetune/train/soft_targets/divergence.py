"""Computes how far a student's probabilities are from a teacher's, of which only the most likely tokens are known.

For one token, with m for the probability of the known tokens together, T for the temperature, and KL_T for the
divergence of two distributions over the known tokens after both were softened by T:

    KL_Bernoulli(m_teacher ‖ m_student) + m_teacher · T² · KL_T(teacher ‖ student)

If all tokens are known it equals T² · KL of the softened distributions. It is 0 where teacher and student are equal, at
any T. At T = 1 it never exceeds the whole KL, and grows with the known tokens. Two sums that look alike are wrong: one
bucket for all unknown tokens that is softened too, and leaving the unknown tokens out.
"""

from dataclasses import dataclass, field

import torch

MISSING = -1
"""In `SoftTargets.at` it means that a token has no target; in `ids`, that fewer tokens are known."""


@dataclass(slots=True)
class SoftTargets:
    """What teachers gave for the tokens of a batch, and the sum of the divergences that were computed so far.

    N tokens are trained, M of them have targets, and at most K tokens are known at each.
    """

    at: torch.Tensor
    """The line of `ids` for each token of the batch, int64 [N]."""
    ids: torch.Tensor
    """[M, K], the known tokens. The first one is never missing, and none stands twice in a line."""
    logprobs: torch.Tensor
    """[M, K], their log-probabilities in the teacher, at temperature 1."""
    temperature: float = 1.0
    weight: float = 1.0
    """The share of the soft loss in a token's loss. The rest is the cross-entropy of the text."""
    kl: torch.Tensor = field(default_factory=lambda: torch.zeros(()))
    """The sum of the divergences that were computed so far."""

    def loss(
        self, begin: int, logits: torch.Tensor, total: torch.Tensor, wanted: torch.Tensor, with_gradient: bool
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Returns (the sum of the losses of a chunk's n tokens, their gradient [n, V] at the logits).

        `logits` [n, V] are those of the tokens from `begin` on, and are overwritten. `total` [n, 1] is their logsumexp,
        `wanted` [n, 1] the text's tokens.
        """
        line = self.at[begin : begin + len(logits)]
        has = (line != MISSING) & (self.weight > 0)
        share = torch.where(has, 1 - self.weight, 1.0)[:, None]
        loss = (share * (total - logits.gather(-1, wanted))).sum()
        rows = logits[has]
        d_logits = logits.sub_(total).exp_() if with_gradient else None  # of both losses together
        if len(rows):
            kl, change = self._divergence(rows, total[has], line[has], with_gradient)
            self.kl += kl.to(self.kl.device)
            loss = loss + self.weight * kl
            if d_logits is not None:
                d_logits[has] += self.weight * change
        if d_logits is not None:
            d_logits.scatter_add_(-1, wanted, -share)
        return loss, d_logits

    def _divergence(
        self, logits: torch.Tensor, total: torch.Tensor, line: torch.Tensor, with_gradient: bool
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns (the sum of the divergences, the gradient at the logits less the student's probabilities)."""
        ids, given, t = self.ids[line], self.logprobs[line].float(), self.temperature
        known = ids != MISSING
        ids = torch.where(known, ids, ids[:, :1])
        given = given.masked_fill(~known, -torch.inf)
        own = logits.gather(-1, ids).masked_fill(~known, -torch.inf)
        others = logits.scatter(-1, ids, -torch.inf)
        of_own, of_others = own.logsumexp(-1, keepdim=True), others.logsumexp(-1, keepdim=True)
        mass = given.exp().sum(-1, keepdim=True).clamp(max=1)
        # A rounding error is no probability of a token that does not exist.
        mass = torch.where(of_others == -torch.inf, 1.0, mass)
        rest = 1 - mass
        bernoulli = torch.xlogy(mass, mass) - mass * (of_own - total) + torch.xlogy(rest, rest)
        bernoulli = bernoulli - torch.where(rest > 0, rest * (of_others - total), 0.0)
        theirs, ours = (given / t).log_softmax(-1), (own / t).log_softmax(-1)
        among = torch.where(known, theirs.exp() * (theirs - ours), 0.0).sum(-1, keepdim=True)
        kl = (bernoulli + mass * t**2 * among).sum()
        if not with_gradient:
            return kl, others
        # If all tokens are known, none is among the others.
        change = others.sub_(of_others.clamp(min=torch.finfo(others.dtype).min)).exp_().mul_(-rest)
        at_known = mass * (t * (ours.exp() - theirs.exp()) - (own - of_own).exp())
        change.scatter_add_(-1, ids, torch.where(known, at_known, 0.0))
        return kl, change
