"""Says which share of the GPUs' peak speed a training reaches (MFU)."""

from collections.abc import Sequence
from dataclasses import dataclass

from finetune.cost.hours import flops_per_token
from finetune.cost.shape import shape_of
from finetune.cost.work import work_of
from finetune.recipe import Recipe
from finetune.student import Student, count_parameters, sizes


@dataclass(frozen=True, slots=True)
class Utilisation:
    """How many FLOPs a token takes, and how many FLOPs a second one GPU could do at most (`peak_flops`).

    `peak_flops` is None without a GPU, and for a GPU that TRL does not know.
    """

    flops_per_token: float
    peak_flops: float | None
    gpus: int

    def mfu(self, tokens_per_s: float) -> float | None:
        """Returns the share of the peak, from 0 to 1; None when the peak is not known. All GPUs together are counted.

        Only the model's own FLOPs count, as in the estimate: activations that are computed again lower the share.
        """
        if not self.peak_flops:
            return None
        return round(self.flops_per_token * tokens_per_s / (self.peak_flops * self.gpus), 4)


def utilisation_of(recipe: Recipe, lengths: Sequence[int], student: Student, *, bf16: bool, gpus: int) -> Utilisation:
    """Returns what the MFU of a training is computed from: FLOPs per token, this machine's peak, the number of GPUs.

    `lengths` says how many tokens each row has.
    """
    import torch
    from trl.trainer.utils import get_peak_flops

    shape = shape_of(sizes(student), count_parameters(student))
    work = work_of(lengths, recipe.train.epochs, recipe.train.traces_per_step)
    peak = None
    if torch.cuda.is_available():
        peak = get_peak_flops(torch.cuda.get_device_name(), "bfloat16" if bf16 else "float32")
    return Utilisation(flops_per_token(shape, work.context, recipe.method), peak, gpus)
