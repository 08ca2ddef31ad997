"""Starts one `collect` on each of several nodes of a Ray cluster. All share one run, one store and one cap.

    ray job submit --working-dir . --runtime-env-json '{"pip": ["./winnow_distill-0.1.0-py3-none-any.whl[postgres]"]}' \
        -- python recipes/launch/collect_ray.py run.toml postgresql://harvest@db.example.com/math --processes 4

Ray starts the processes and splits nothing: the run gives each its questions. A process that dies is not started again,
since the others take over; to have it back, submit the job again. docs/many-machines.md
"""

import argparse
import subprocess
import sys


def collect(run: str, store: str) -> int:
    """Runs one process to its end, and returns its exit code."""
    return subprocess.run([sys.executable, "-m", "harvest", "collect", run, "--store", store], check=False).returncode


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", metavar="RUN.toml")
    parser.add_argument("store", metavar="postgresql://…")
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--cores", type=int, default=2, help="how many cores each process has")
    args = parser.parse_args()

    import ray

    ray.init()
    # To be started again by Ray would be harmless, but a refusal (exit code 2 to 5) would only be repeated.
    remote = ray.remote(num_cpus=args.cores, max_retries=0, scheduling_strategy="SPREAD")(collect)
    codes = ray.get([remote.remote(args.run, args.store) for _ in range(args.processes)])
    return max(codes)


if __name__ == "__main__":
    sys.exit(main())
