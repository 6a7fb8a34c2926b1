#!/usr/bin/env python3
"""What a process holds and does at rest.

usage: rest.py PID SECONDS [SAMPLES]

Looks SAMPLES (10) times, evenly over SECONDS. Prints the medians of the resident, the proportional and the private and
changed memory in KiB (smaps_rollup) and of the threads, then the wake-ups a minute (voluntary switches of all threads) and the CPU time of
an hour in seconds (schedstat).
"""

import pathlib
import statistics
import sys
import time


def fields(path):
    """`Name: number` of each line that has one."""
    lines = (line.split() for line in path.read_text(encoding="ascii").splitlines())
    return {words[0].rstrip(":"): int(words[1]) for words in lines if len(words) > 1 and words[1].isdigit()}


def done(process):
    """Wake-ups and nanoseconds of CPU, so far."""
    tasks = list((process / "task").iterdir())
    wakes = sum(fields(task / "status")["voluntary_ctxt_switches"] for task in tasks)
    return wakes, sum(int((task / "schedstat").read_text(encoding="ascii").split()[0]) for task in tasks)


def main():
    """One stretch of rest."""
    process, seconds = pathlib.Path("/proc", sys.argv[1]), float(sys.argv[2])
    count = int(sys.argv[3]) if len(sys.argv) > 3 else 10
    samples, begun, (wakes, cpu) = [], time.monotonic(), done(process)
    for number in range(1, count + 1):
        time.sleep(max(0, begun + seconds * number / count - time.monotonic()))
        found = fields(process / "smaps_rollup") | fields(process / "status")
        samples.append([found[name] for name in ("Rss", "Pss", "Private_Dirty", "Threads")])
    took, (wakes_after, cpu_after) = time.monotonic() - begun, done(process)
    medians = (f"{statistics.median(column):.0f}" for column in zip(*samples))
    print(*medians, f"{(wakes_after - wakes) * 60 / took:.1f} {(cpu_after - cpu) / 1e9 * 3600 / took:.3f}")


if __name__ == "__main__":
    main()
