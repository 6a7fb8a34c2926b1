#!/usr/bin/env python3
"""What a day of new releases leaves behind in the agent's memory.

usage: churn.py API BACKEND ENGINE PID DEVICE RELEASES [FIRST] [--trace FILE]

API and ENGINE are unix:///path, BACKEND is http://host:port, PID the agent's, DEVICE its uuid. Gives the device
one release after the other of an app of five services, each as soon as the former one is done: images, variables, networks and
volumes change, one service dies now and then, containers are removed by hand, and the local API is asked in between.
After each release the private memory is looked at. Prints, in KiB, what it is after the first FIRST (60) releases and at the
end (medians of 20), the highest before and after the first ones, then the seconds of it all; fails when a release is not what
runs.
"""

import statistics
import sys
import time

from loop import call, connect

APP = "c0ffee00c0ffee00c0ffee00c0ffee00"


def release(number):
    """The services, networks and volumes of that release."""
    net, more = f"net{number % 3}", {"restart": "always"}

    def service(at, image, **composition):
        composition = {"command": ["sleep", "infinity"], "networks": [net], **more, **composition}
        return {
            "id": at,
            "image": f"registry.test/churn/{image}",
            "environment": {"ROLE": f"role {at}"},
            "labels": {"org.example.of": str(at)},
            "composition": composition,
        }

    services = {
        "web": service(1, f"web:{number}", depends_on=["db"], ports=["8080:80"]),
        "db": service(2, f"db:{number // 3}", volumes=[f"data{number // 10 % 2}:/data"]),
        "cache": service(3, "cache:1", volumes=["shared:/cache", f"own{number % 4}:/own"]),
        "worker": service(4, "worker:1", networks={net: {}, "steady": {"aliases": ["w"]}}),
        "fragile": service(5, "fragile:1"),
    }
    services["worker"]["environment"]["NUMBER"] = str(number // 2)
    if number % 5 == 0:
        services["fragile"]["composition"]["command"] = ["sh", "-c", "sleep 0.2; exit 1"]
    volumes = {f"data{n}": {} for n in range(2)} | {f"own{n}": {} for n in range(4)} | {"shared": {}}
    return {"services": services, "networks": {net: {}, "steady": {}}, "volumes": volumes}


def private_kib(pid):
    """What the process has of its own. Not "Private_Dirty": of a program whose file is not on disk yet that has the code, too."""
    with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
        return int(next(line for line in file if line.startswith("Anonymous:")).split()[1])


class Churn:
    """The three sides of it."""

    def __init__(self, api, backend, engine, device):
        self.api, self.backend, self.engine = connect(api), connect(backend), connect(engine)
        self.device = device

    def names(self):
        """The services' containers, whatever their state."""
        found = call(self.engine, "GET", "/containers/json?all=true")
        return sorted(one["Names"][0].lstrip("/") for one in found)

    def wait(self, what, check):
        """Until it is so."""
        begun = time.monotonic()
        while not check():
            if time.monotonic() - begun > 120:
                status = call(self.api, "GET", "/v3/status?detail=true")
                sys.exit(f"waited too long for {what}: {status}, {self.names()}")
            time.sleep(0.005)

    def is_done(self):
        """Whether the agent says so."""
        return call(self.api, "GET", "/v3/status")["status"] == "done"

    def update(self, number):
        """One release, to its end."""
        name = f"r{number}"
        app = {"id": 1, "name": "churn", "releases": {name: release(number)}}
        target = {self.device: {"name": "churn", "config": {}, "apps": {APP: app}}}
        # A new connection: the backend closes one that is idle for 5 s, which a busy machine may be at a release.
        self.backend.close()
        call(self.backend, "PUT", "/_control/target", target)
        call(self.api, "POST", "/v1/update")
        self.wait(f"release {number}", self.is_done)
        wanted = sorted(f"{service}_{name}" for service in app["releases"][name]["services"])
        if self.names() != wanted:
            sys.exit(f"the agent said done, but there is {self.names()} instead of {wanted}")

    def disturb(self, number):
        """What happens between two updates."""
        for path in ("/v3/status?detail=true", "/v3/device", f"/v3/device/apps/{APP}", "/v3/device?detail=true"):
            call(self.api, "GET", path)
        if number % 20 == 0:
            name = f"cache_r{number}"
            old = call(self.engine, "GET", f"/containers/{name}/json")["Id"]
            call(self.engine, "DELETE", f"/containers/{old}?force=1")

            def is_back():
                found = call(self.engine, "GET", f"/containers/{name}/json", accept=(404,))
                return found.get("Id", old) != old and found["State"]["Running"]

            self.wait("a removed container", is_back)


def main():
    """All releases; prints the figures."""
    words = sys.argv[1:]
    trace = None
    if "--trace" in words:
        at = words.index("--trace")
        trace = words[at + 1]
        del words[at : at + 2]
    api, backend, engine, pid, device, count = words[:6]
    first = int(words[6]) if len(words) > 6 else 60
    churn, samples, begun = Churn(api, backend, engine, device), [], time.monotonic()
    for number in range(1, int(count) + 1):
        churn.update(number)
        churn.disturb(number)
        samples.append(private_kib(pid))
    if trace:
        with open(trace, "w", encoding="ascii") as file:
            file.writelines(f"{sample}\n" for sample in samples)
    early, late = statistics.median(samples[first - 20 : first]), statistics.median(samples[-20:])
    print(f"{early:.0f} {late:.0f} {max(samples[:first])} {max(samples[first:])} {time.monotonic() - begun:.1f}")


if __name__ == "__main__":
    main()
