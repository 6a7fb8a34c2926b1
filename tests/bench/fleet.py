#!/usr/bin/env python3
"""Many agents against one backend, before, during and after an outage.

usage: fleet.py AGENT BACKEND LISTEN ENGINES DIR COUNT SCALE [SECONDS]

AGENT and BACKEND are programs, LISTEN is host:port for the backend, ENGINES a directory with the sockets 0.sock, 1.sock and
so on, DIR an empty one. Times are those of the field divided by SCALE: polls every 15 min, at least 10 s apart, up to 60 s of
jitter, an outage of SECONDS (600). The agents start spread over one interval, get an app of two services and one update of it. The
outage is that nothing listens on the backend's port. Afterwards any stretch of a second (of the field) counts until every
agent has polled again and two more intervals have passed.

Prints one line `NAME VALUE` for each figure.
"""

import collections
import contextlib
import os
import signal
import subprocess
import sys
import time

from loop import call, connect

INTERVAL, INTERVAL_MIN, JITTER = 900, 10, 60


def say(text):
    """Progress."""
    print(f"fleet      {text}", file=sys.stderr, flush=True)


class Backend:
    """The development backend, which can be away."""

    def __init__(self, program, listen, directory):
        self.program, self.listen, self.directory = program, listen, directory
        self.process = None

    def up(self, targets):
        """Listens, with these targets."""
        log = open(os.path.join(self.directory, "backend.log"), "ab")
        self.process = subprocess.Popen([self.program, "--listen", self.listen], stdout=log, stderr=log)
        for _ in range(500):
            with contextlib.suppress(OSError):
                return self.control("PUT", "target", targets)
            time.sleep(0.02)
        sys.exit("the backend did not start")

    def down(self):
        """Nothing listens any more."""
        self.process.kill()
        self.process.wait()

    def control(self, method, what, body=None):
        """One of its control routes, each over a connection of its own: idle ones give way to devices."""
        connection = connect(f"http://{self.listen}")
        try:
            return call(connection, method, f"/_control/{what}", body)
        finally:
            connection.close()

    def log(self):
        """What devices asked since the log was emptied: seconds, whether it is a poll, and of which device."""
        found = []
        for one in self.control("GET", "log"):
            method, path = one["request"].split(" ", 1)
            is_poll = method == "GET" and path.startswith("/device/v3/")
            if is_poll or method == "PATCH":
                found.append((one["ms"] / 1000, is_poll, path.split("/")[3]))
        return found


class Agent:
    """One of many."""

    def __init__(self, program, number, args):
        self.uuid = f"{number + 1:032x}"
        directory = os.path.join(args.directory, str(number))
        os.makedirs(directory)
        self.api = f"unix://{directory}/api.sock"
        environment = {"HOME": directory, "DOCKER_HOST": f"unix://{args.engines}/{number}.sock", "RUST_LOG": "warn"}
        for kind in ("CONFIG", "STATE", "CACHE", "RUNTIME"):
            name = f"XDG_{kind}_DIR" if kind == "RUNTIME" else f"XDG_{kind}_HOME"
            environment[name] = os.path.join(directory, kind.lower())
            os.makedirs(environment[name])
        millis = lambda seconds: str(int(seconds * 1000 / args.scale))
        command = [program, "--uuid", self.uuid, "--remote-api-endpoint", f"http://{args.listen}"]
        command += ["--remote-api-key", f"key-{self.uuid}", "--local-api-address", f"unix:{directory}/api.sock"]
        command += ["--remote-poll-interval-ms", millis(INTERVAL), "--remote-poll-min-interval-ms", millis(INTERVAL_MIN)]
        command += ["--remote-poll-max-jitter-ms", millis(JITTER)]
        with open(os.path.join(directory, "log"), "ab") as log:
            self.process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def status(self):
        """As it says itself."""
        connection = connect(self.api)
        try:
            return call(connection, "GET", "/v3/status")["status"]
        except OSError:
            return "no answer"
        finally:
            connection.close()

    def memory(self):
        """Proportional, private and resident KiB."""
        sums = collections.Counter()
        with open(f"/proc/{self.process.pid}/smaps_rollup", encoding="ascii") as file:
            for line in file:
                name, *rest = line.split()
                if name in ("Pss:", "Private_Dirty:", "Rss:"):
                    sums[name] = int(rest[0])
        return sums["Pss:"], sums["Private_Dirty:"], sums["Rss:"]


def busiest(log, width):
    """The most devices that polled within any stretch of so many seconds, and where that begins."""
    polls = [(at, device) for at, is_poll, device in sorted(log) if is_poll]
    within, begin, most = collections.Counter(), 0, (0, 0)
    for at, device in polls:
        within[device] += 1
        while at - polls[begin][0] >= width:
            within[polls[begin][1]] -= 1
            within += collections.Counter()  # drops the zeros
            begin += 1
        most = max(most, (len(within), -polls[begin][0]))
    return most[0], -most[1]


def back_after(log, count):
    """Seconds until so many devices have polled; None if they have not."""
    first = {}
    for at, is_poll, device in sorted(log):
        if is_poll:
            first.setdefault(device, at)
    return max(first.values()) if len(first) == count else None


def target(agents, release):
    """The same app for all."""
    composition = {"command": ["sleep", "infinity"], "volumes": ["data:/data"]}
    service = {"environment": {"RELEASE": release}, "composition": composition}
    services = {
        "web": {"id": 1, "image": f"registry.test/fleet/web:{release}", **service},
        "db": {"id": 2, "image": "registry.test/fleet/db:1", **service},
    }
    body = {"services": services, "networks": {}, "volumes": {"data": {}}}
    app = {"id": 1, "name": "fleet", "releases": {release: body}}
    return {agent.uuid: {"name": "fleet", "config": {}, "apps": {"f1ee7": app}} for agent in agents}


def settle(agents, patience):
    """Until all say that they are done."""
    late, end = list(agents), time.monotonic() + patience
    while late:
        late = [agent for agent in late if agent.status() != "done"]
        if late and time.monotonic() > end:
            sys.exit(f"{len(late)} agents are not done: {late[0].api} says {late[0].status()}")
        time.sleep(0.2)


def run(args, backend, agents):
    """All of it; prints the figures."""
    scale, interval = args.scale, INTERVAL / args.scale
    uuids = [f"{number + 1:032x}" for number in range(args.count)]
    stand_in = collections.namedtuple("Device", "uuid")
    targets = target([stand_in(uuid) for uuid in uuids], "r1")
    backend.up(targets)
    say(f"starting {args.count} agents over {interval:.0f} s; 1 s here stands for {scale:g} s in the field")
    begun = time.monotonic()
    for number in range(args.count):
        time.sleep(max(0, begun + number * interval / args.count - time.monotonic()))
        agents.append(Agent(args.agent, number, args))
    settle(agents, interval + 60)
    say("all are done; an update of the app for all")
    targets = target(agents, "r2")
    backend.control("PUT", "target", targets)
    time.sleep(interval * 1.1)
    settle(agents, interval + 60)

    say("one interval at rest")
    time.sleep(15)  # reports come 10 s apart, whatever the scale
    backend.control("DELETE", "log")
    time.sleep(interval)
    log = backend.log()
    polls = sum(is_poll for _, is_poll, _ in log)
    print("rest-busiest", busiest(log, 1 / scale)[0])
    print("polls-hour", f"{polls / args.count * 3600 / INTERVAL:.2f}")
    reports = (len(log) - polls) / args.count * 3600 / interval
    print("reports-hour", f"{reports:.2f}")
    print("requests-hour", f"{polls / args.count * 3600 / INTERVAL + reports:.2f}")
    memory = [agent.memory() for agent in agents]
    print("pss-mib", f"{sum(pss for pss, _, _ in memory) / 1024:.1f}")
    print("private-kib", f"{sum(private for _, private, _ in memory) / args.count:.0f}")
    print("rss-kib", f"{sum(rss for _, _, rss in memory) / args.count:.0f}", flush=True)

    say(f"outage of {args.outage / scale:.0f} s")
    backend.down()
    time.sleep(args.outage / scale)
    backend.up(targets)
    begun = time.monotonic()
    while (back := back_after(backend.log(), args.count)) is None and time.monotonic() - begun < 4 * interval:
        time.sleep(1)
    say(f"all are back after {back * scale:.0f} s; two more intervals" if back else "not all are back")
    time.sleep(2 * interval)
    log = backend.log()
    most, at = busiest(log, 1 / scale)
    print("busiest", most)
    print("busiest-at", f"{at * scale:.0f}")
    print("requests", len(log))
    print("back", f"{back * scale:.0f}" if back else "never")
    print("dead", sum(agent.process.poll() is not None for agent in agents))
    print("pss-after-mib", f"{sum(agent.memory()[0] for agent in agents) / 1024:.1f}", flush=True)


def main():
    """Starts, measures, and ends what it started."""
    words = sys.argv[1:]
    names = collections.namedtuple("Args", "agent backend listen engines directory count scale outage")
    args = names(*words[:5], int(words[5]), float(words[6]), float(words[7]) if len(words) > 7 else 600.0)
    backend, agents = Backend(args.backend, args.listen, args.directory), []
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        run(args, backend, agents)
    finally:
        for agent in agents:
            agent.process.kill()
        for agent in agents:
            agent.process.wait()
        if backend.process:
            backend.process.kill()


if __name__ == "__main__":
    main()
