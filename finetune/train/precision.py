"""Which precision this machine multiplies fastest in."""

import time

import torch
from torch.nn import functional


def is_bf16_faster() -> bool:
    """Whether this machine multiplies faster in bfloat16 than in float32. On a CPU it is measured, in under a second.

    The instruction set does not say: with AVX512-BF16 but without AMX we saw half the speed of float32 (88 against 168
    GFLOPS a core), and on another CPU half as much again. It is the processor time of one thread, so that a busy
    machine gives the same answer as an idle one.
    """
    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    seconds = {torch.float32: float("inf"), torch.bfloat16: float("inf")}
    for _ in range(3):
        for dtype in seconds:
            a, b = torch.ones(512, 768, dtype=dtype), torch.ones(1024, 768, dtype=dtype)
            started = time.thread_time()
            for _ in range(12):
                functional.linear(a, b)
            seconds[dtype] = min(seconds[dtype], time.thread_time() - started)
    torch.set_num_threads(threads)
    return seconds[torch.bfloat16] < 0.8 * seconds[torch.float32]
