#!/usr/bin/env python3
"""The main job of an agent, from its first target to a day's worth of polls.

usage: lowmem.py API BACKEND ENGINE DEVICE SECONDS

API and ENGINE are unix:///path, BACKEND is http://host:port. An app of ten services is pulled and started, then one that has a new
image for each of them; then the agent polls 96 times, which is once each 15 minutes of a day. Prints the seconds it
took; fails if a release is not what runs, and after SECONDS in all.
"""

import sys
import time

from churn import APP, Churn
from loop import call

SERVICES, POLLS = 10, 96


def app(release):
    """Ten services on a network and a volume; with each release an image of its own for each."""
    composition = {"command": ["sleep", "infinity"], "networks": ["net"], "volumes": ["vol:/data"]}
    services = {
        f"s{at}": {
            "id": at + 1,
            "image": f"registry.test/lowmem/s{at}:{release}",
            "environment": {"ROLE": f"role {at}"},
            "labels": {},
            "composition": composition,
        }
        for at in range(SERVICES)
    }
    return {"id": 1, "name": "lowmem", "releases": {release: {"services": services, "networks": {"net": {}}, "volumes": {"vol": {}}}}}


class Job(Churn):
    """With a time by which it has to be over."""

    def __init__(self, api, backend, engine, device, seconds):
        super().__init__(api, backend, engine, device)
        self.begun, self.seconds = time.monotonic(), seconds

    def wait(self, what, check):
        """Until it is so, or the time is up."""
        while not check():
            if time.monotonic() - self.begun > self.seconds:
                sys.exit(f"waited too long for {what}")
            time.sleep(0.02)

    def running(self):
        """The containers that run."""
        found = call(self.engine, "GET", "/containers/json")
        return sorted(one["Names"][0].lstrip("/") for one in found)

    def polls(self):
        """How many there were."""
        asked = call(self.backend, "GET", "/_control/requests")
        return sum(count for request, count in asked.items() if request.startswith("GET /device/v3/"))

    def release(self, name):
        """One, to its end."""
        apps = {APP: app(name)}
        call(self.backend, "PUT", "/_control/target", {self.device: {"name": "lowmem", "config": {}, "apps": apps}})
        wanted = sorted(f"s{at}_{name}" for at in range(SERVICES))
        self.wait(f"release {name}", lambda: self.running() == wanted and self.names() == wanted)
        self.wait(f"{name} to be done", self.is_done)

    def run(self):
        """All of it; the seconds."""
        self.release("r1")
        self.release("r2")
        before = self.polls()
        self.wait(f"{POLLS} polls", lambda: self.polls() - before >= POLLS)
        self.wait("the agent to be done", self.is_done)
        return time.monotonic() - self.begun


def main():
    """One job."""
    try:
        print(f"{Job(*sys.argv[1:5], float(sys.argv[5])).run():.1f}")
    except (OSError, RuntimeError) as error:
        sys.exit(f"the agent, or what it needs, does not answer: {error}")


if __name__ == "__main__":
    main()
