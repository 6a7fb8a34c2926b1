#!/usr/bin/env python3
"""An agent under churn for minutes or hours, and whether its memory grows.

usage: soak.py API LISTEN BACKEND SOCKET ENGINE PID DEVICE MINUTES DIR [--trace FILE]

API is unix:///path of a running agent with the id PID, which finds its backend at LISTEN (host:port) and its engine at SOCKET;
BACKEND and ENGINE are the programs for both, which are started here, and taken away now and then. Gives the device a release
each half second (churn.py), asks the local API in between, takes the engine away after every 40 releases (it comes back empty,
so that everything is made anew) and the backend after every 60 (for two seconds, in which the agent is asked for an update).
After each release that is done the private memory is looked at.

Prints the releases, the engine's restarts, the backend's outages, then in KiB the private memory after the warm-up and at the
end, and the growth with the least that it is with 97.5 % confidence; ends with 1 if the memory grows.
"""

import contextlib
import itertools
import math
import os
import signal
import statistics
import subprocess
import sys
import time

from churn import Churn, private_kib
from fleet import Backend
from loop import call

PACE, ENGINE_EVERY, BACKEND_EVERY, OUTAGE = 0.5, 40, 60, 2
# The least that is not looked at: everything has happened once, an engine's restart and an outage too. Of a longer run it is a
# third: with a mixture of sizes as here malloc fills its groups for hundreds of releases, and stays there.
WARM_UP = 60
# Less than this over the rest is no growth, as for scripts/bench churn: the same process at the same point was seen to differ
# by half of it. In four minutes that finds a leak of about 240 bytes a release.
FLOOR_KIB = 64
# A long run is seen more exactly: half an hour without any leak (a count of live bytes said so) grew by 22, one with 32 bytes a
# release by 57. That finds 20 bytes a release.
LONG_MINUTES, LONG_FLOOR_KIB = 20, 40


def growth(samples):
    """What the samples grew by from the first to the last, and the least of it with 97.5 % confidence.

    By the Theil-Sen estimator, the median of the slopes between all pairs: a mean square would follow the few samples that
    fell into a report or a retry, and the two ends alone would be two accidents. The confidence is that of Kendall's
    test, the slope whose rank is 1.96 standard deviations below the median (Sen 1968). Neighbours depend on each other
    (a freed page stays for a while), so that medians of groups, 100 at most, stand for the samples.
    """
    width = max(3, math.ceil(len(samples) / 100))
    points = [statistics.median(samples[at : at + width]) for at in range(0, len(samples) - width + 1, width)]
    count = len(points)
    slopes = sorted((b - a) / (j - i) for (i, a), (j, b) in itertools.combinations(enumerate(points), 2))
    deviation = 1.96 * math.sqrt(count * (count - 1) * (2 * count + 5) / 18)
    least = slopes[max(0, math.floor((len(slopes) - deviation) / 2))]
    return statistics.median(slopes) * (count - 1), least * (count - 1)


class Engine:
    """The fake engine, which can be away."""

    def __init__(self, program, socket, directory):
        self.program, self.socket, self.process = program, socket, None
        self.log = os.path.join(directory, "engine.log")

    def up(self):
        """A new one, empty."""
        with contextlib.suppress(FileNotFoundError):
            os.remove(self.socket)
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen([self.program, "--socket", self.socket], stdout=log, stderr=log)
        for _ in range(500):
            if os.path.exists(self.socket):
                return
            time.sleep(0.02)
        sys.exit("the engine did not start")

    def down(self):
        """Killed, with all connections."""
        self.process.kill()
        self.process.wait()


class Soak:
    """All three sides, and what was counted."""

    def __init__(self, words):
        api, listen, backend, socket, engine, self.pid, device, _, directory = words
        self.backend, self.engine = Backend(backend, listen, directory), Engine(engine, socket, directory)
        self.churn = Churn(api, f"http://{listen}", f"unix://{socket}", device)
        self.samples, self.restarts, self.outages = [], 0, 0

    def restart_engine(self):
        """Everything is gone, and is made anew."""
        self.restarts += 1
        names = self.churn.names()
        self.engine.down()
        self.churn.engine.close()
        self.engine.up()
        self.churn.wait("the services on a new engine", lambda: self.churn.names() == names)
        self.churn.wait("the agent after a restart of the engine", self.churn.is_done)

    def outage(self):
        """Nobody listens, and the agent is asked to look."""
        self.outages += 1
        target = self.backend.control("GET", "target")
        self.backend.down()
        self.churn.backend.close()
        end = time.monotonic() + OUTAGE
        while time.monotonic() < end:
            call(self.churn.api, "POST", "/v1/update")
            time.sleep(0.5)
        self.backend.up(target)

    def run(self, minutes):
        """Until the time is up."""
        self.engine.up()
        self.backend.up({})
        end = time.monotonic() + minutes * 60
        for number in itertools.count(1):
            begun = time.monotonic()
            if begun > end:
                return
            self.churn.update(number)
            self.churn.disturb(number)
            self.samples.append(private_kib(self.pid))
            if number % ENGINE_EVERY == 0:
                self.restart_engine()
            if number % BACKEND_EVERY == 0:
                self.outage()
            if number % 100 == 0:
                print(f"soak       {number} releases, {self.samples[-1]} KiB", file=sys.stderr, flush=True)
            time.sleep(max(0, begun + PACE - time.monotonic()))

    def end(self):
        """Of what was started."""
        for one in (self.backend, self.engine):
            if one.process:
                one.down()


def main():
    """One run; prints the figures."""
    words, trace = sys.argv[1:], None
    if "--trace" in words:
        at = words.index("--trace")
        trace = words[at + 1]
        del words[at : at + 2]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    soak = Soak(words)
    try:
        soak.run(float(words[7]))
    finally:
        soak.end()
        if trace:
            with open(trace, "w", encoding="ascii") as file:
                file.writelines(f"{sample}\n" for sample in soak.samples)
    samples = soak.samples[max(WARM_UP, len(soak.samples) // 3) :]
    if len(samples) < 60:
        sys.exit(f"{len(soak.samples)} releases are too few to say anything: give it more minutes")
    early, late = statistics.median(samples[:20]), statistics.median(samples[-20:])
    grown, least = growth(samples)
    print(f"{len(soak.samples)} {soak.restarts} {soak.outages} {early:.0f} {late:.0f} {grown:.0f} {least:.0f}")
    floor = LONG_FLOOR_KIB if float(words[7]) >= LONG_MINUTES else FLOOR_KIB
    sys.exit(grown > floor and least > 0)


if __name__ == "__main__":
    main()
