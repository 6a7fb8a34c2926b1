#!/usr/bin/env python3
"""Kills the agent in the middle of updates, and looks at what becomes of them (FD-03, FD-13, FD-18, FD-24, FD-34).

usage: kills.py AGENT ENGINE DIR STILL WEB-1 WEB-2 [--count N] [--lines] [--seed S] [--limit SECONDS]

ENGINE is unix:///path or tcp://host:port, the three others are images; DIR is for the agent's files. An app of five
services goes back and forth between two releases. In each update the agent gets SIGKILL, at N moments that are spread
evenly over the length of an undisturbed update (in an order and with an offset of the seed's), or with --lines right
after each line of its log, one update a line. It is started again at once, and must end `done` with exactly what an
undisturbed update makes. Then it is killed and started once more, and must do nothing.

What the engine's events say decides what was restarted. Python's standard library only.
"""

import argparse
import collections
import http.client
import io
import json
import os
import random
import re
import secrets
import signal
import socket
import subprocess
import sys
import tarfile
import threading
import time
import urllib.parse

from loop import call, connect

CHANGED = ("db", "edge", "once", "web")
SERVICES = sorted((*CHANGED, "still"))
# Ends at once when it is told to; the second one takes a moment, in which the agent can be killed.
PROMPT = 'trap "exit 0" TERM; sleep infinity & wait'
SLOW = 'trap "sleep 0.3; exit 0" TERM; sleep infinity & wait'
TOKEN = b"what must never be lost"


class Violation(Exception):
    """What must not be."""


def check(is_right, why):
    """Raises when it is not right."""
    if not is_right:
        raise Violation(why)


def until(seconds, why, look):
    """Looks again and again until there is something; a violation when it takes too long."""
    end = time.monotonic() + seconds
    while not (found := look()):
        check(time.monotonic() < end, f"{why}: not within {seconds} s")
        time.sleep(0.01)
    return found


class Agent:
    """The program, with its files in a directory; killed and started again."""

    def __init__(self, program, engine, directory, retry):
        self.command = [program, "--uuid", secrets.token_hex(16), "--local-api-address", f"unix:{directory}/api.sock"]
        if retry:
            self.command += ["--local-retry-interval-ms", str(retry)]
        self.socket = f"unix://{directory}/api.sock"
        places = {name: f"{directory}/{name.split('_')[1].lower()}" for name in
                  ("XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME", "XDG_RUNTIME_DIR")}
        self.environment = {"PATH": "/usr/bin:/bin", "HOME": directory, "DOCKER_HOST": engine,
                            "RUST_LOG": "warn,helios=debug", **places}
        self.directory, self.lines, self.kill_at, self.killed_at = directory, [], None, None
        self.lock = threading.Lock()

    def start(self):
        """Starts it; what it logs is kept from here on."""
        with self.lock:
            self.lines, self.kill_at, self.killed_at = [], None, None
            self.process = subprocess.Popen(self.command, env=self.environment, stdin=subprocess.DEVNULL,
                                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.reader = threading.Thread(target=self.read, args=(self.process, self.lines), daemon=True)
        self.reader.start()

    def read(self, process, lines):
        """Keeps the lines; kills at the one that was asked for."""
        for line in process.stdout:
            lines.append(line.rstrip())
            if self.kill_at is not None and len(lines) >= self.kill_at and lines is self.lines:
                self.kill()

    def kill(self):
        """SIGKILL, once."""
        with self.lock:
            if self.killed_at is None:
                self.killed_at = time.monotonic()
                self.process.send_signal(signal.SIGKILL)

    def gone(self):
        """Kills it if nobody has; returns when nothing of it is left."""
        self.kill()
        self.process.wait()
        self.reader.join()

    def call(self, method, path, body=None):
        """One call of its API on a connection of its own."""
        connection = connect(self.socket)
        try:
            return call(connection, method, path, body)
        finally:
            connection.close()

    def is_done(self):
        """Whether it has looked at the engine and found or made everything right."""
        check(self.process.poll() is None, "the agent ended by itself")
        try:
            status = self.call("GET", "/v3/status")["status"]
        except (OSError, http.client.HTTPException):
            return False
        check(status in ("done", "applying changes"), f"status: {status}")
        return status == "done" and any("applying the target" in line for line in self.lines)

    def locks(self):
        """What is left in the directories that services see."""
        return [name for name in self.files() if "update-locks" in name]

    def files(self):
        """The names of its files; those of what it pulled come and go with the images."""
        found = [os.path.relpath(os.path.join(place, name), self.directory)
                 for place, _, names in os.walk(self.directory) for name in names]
        return sorted(name for name in found if name != "api.sock" and "/pulled/" not in name)


class Engine:
    """The engine as somebody else sees it."""

    def __init__(self, address, app):
        self.address, self.app = address, app

    def call(self, method, path, body=None, accept=()):
        """One call on a connection of its own: it may have been restarted meanwhile."""
        connection = connect(self.address)
        try:
            return call(connection, method, path, body, accept)
        finally:
            connection.close()

    def mine(self):
        """A filter for what belongs to the app."""
        return urllib.parse.quote(json.dumps({"label": [f"io.balena.app-uuid={self.app}"]}))

    def containers(self):
        """All containers of the app, inspected, by name."""
        listed = self.call("GET", f"/containers/json?all=1&filters={self.mine()}")
        found = (self.call("GET", f"/containers/{one['Id']}/json", accept=(404,)) for one in listed)
        return {one["Name"].lstrip("/"): one for one in found if "Id" in one}

    def networks(self):
        """The app's networks."""
        return self.call("GET", f"/networks?filters={self.mine()}")

    def volumes(self):
        """The app's volumes."""
        return self.call("GET", f"/volumes?filters={self.mine()}")["Volumes"] or []

    def has_image(self, image):
        """Whether it is there."""
        return "Id" in self.call("GET", f"/images/{image}/json", accept=(404,))

    def archive(self, container, path, files=None):
        """The files of a directory of a container; or puts some there."""
        connection, target = connect(self.address), f"/containers/{container}/archive?path={path}"
        data = io.BytesIO()
        if files is not None:
            with tarfile.open(fileobj=data, mode="w") as tar:
                for name, content in files.items():
                    entry = tarfile.TarInfo(name)
                    entry.size = len(content)
                    tar.addfile(entry, io.BytesIO(content))
            connection.request("PUT", target, data.getvalue())
            check(connection.getresponse().status == 200, "the files could not be put into the volume")
            return {}
        connection.request("GET", target)
        with tarfile.open(fileobj=io.BytesIO(connection.getresponse().read())) as tar:
            return {os.path.basename(entry.name): tar.extractfile(entry).read() for entry in tar if entry.isfile()}

    def now(self):
        """The time by which it stamps its events, which is this machine's."""
        return time.time_ns()

    def events(self, begun, types):
        """What happened since then, to anything of these types: (type, action, id, labels)."""
        kinds = urllib.parse.quote(json.dumps({"type": types}))
        stamps = [f"{moment // 10**9}.{moment % 10**9:09}" for moment in (begun, self.now())]
        connection = connect(self.address)
        connection.request("GET", f"/events?since={stamps[0]}&until={stamps[1]}&filters={kinds}")
        found = [json.loads(line) for line in connection.getresponse().read().splitlines()]
        connection.close()
        return [(one["Type"], one["Action"].split(":")[0], one["Actor"]["ID"], one["Actor"]["Attributes"])
                for one in found]


def release(number, images, app):
    """The body of an app with one of the two releases."""
    names = {1: f"{app[:6]}aaaa", 2: f"{app[:6]}bbbb"}
    changed = {"RELEASE": str(number)}

    def service(id_, image, script, environment, **more):
        composition = {"command": ["sh", "-c", script], **more}
        return {"id": id_, "image": image, "environment": environment, "composition": composition}

    volumes = {"volumes": ["records:/data"]}
    services = {
        "still": service(1, images[0], PROMPT, {}),
        "db": service(2, images[0], f"echo $RELEASE >>/data/starts; {PROMPT}", changed, **volumes),
        "web": service(3, images[number], SLOW, changed, depends_on=["db"]),
        "edge": service(4, images[0], PROMPT, changed, networks=["border"]),
        "once": service(5, images[0], "echo $RELEASE >>/data/runs", changed, restart="no", **volumes),
    }
    content = {"services": services, "volumes": {"records": {}},
               "networks": {"border": {"internal": number == 2}}}
    return names[number], {"id": 1, "name": "kills", "releases": {names[number]: content}}


def service_of(container):
    """The service's name in a container's labels."""
    return container["Config"]["Labels"].get("io.balena.service-name", "?")


def made_from(container):
    """What was asked of the engine, without what each container has of its own."""
    config = {key: value for key, value in container["Config"].items() if key != "Hostname"}
    networks = {name: sorted(set(one.get("Aliases") or []) - {container["Id"][:12]})
                for name, one in container["NetworkSettings"]["Networks"].items()}
    mounts = sorted((one["Type"], one.get("Name") or one["Source"], one["Destination"]) for one in container["Mounts"])
    return {"config": config, "host": container["HostConfig"], "networks": networks, "mounts": mounts}


def differs(found, right):
    """The members that differ, of objects in objects."""
    if not (isinstance(found, dict) and isinstance(right, dict)):
        return f"{found}, was {right}"
    keys = sorted(found.keys() | right.keys())
    return {key: differs(found.get(key), right.get(key)) for key in keys if found.get(key) != right.get(key)}


def lived(container):
    """What changes when a container is made again or restarted."""
    return container["Id"], container["State"]["StartedAt"], container["RestartCount"]


class World:
    """The app on its engine, and what must be true of it after an update."""

    def __init__(self, options):
        self.app, self.options = secrets.token_hex(16), options
        self.images = options.images
        self.engine = Engine(options.engine, self.app)
        self.agent = Agent(options.agent, options.engine, options.dir, options.retry_ms)
        self.release, self.right, self.data = 0, {}, {"starts": [], "runs": []}
        self.before, self.files = {}, None

    def target(self):
        """Asks the agent for the release that is to come; `False` when it was killed before it answered."""
        body = release(self.release, self.images, self.app)[1]
        try:
            self.agent.call("POST", f"/v3/device/apps/{self.app}", body)
        except (OSError, http.client.HTTPException):
            return False
        return True

    def begin(self):
        """Sets out for the other release."""
        self.release = 2 if self.release == 1 else 1
        self.before = self.engine.containers()
        self.volume = [volume["CreatedAt"] for volume in self.engine.volumes()]
        self.begun = self.engine.now()

    def converged(self):
        """Waits for `done`, and for what goes on without the agent: a one-shot's end, what services write."""
        until(self.options.limit, "status done", self.agent.is_done)
        took = time.monotonic()
        for name, wanted in (("starts", self.data["starts"]), ("runs", self.data["runs"])):
            wanted.append(str(self.release))
            until(10, f"{name} of the volume to be {wanted[-3:]}", lambda n=name, w=wanted: self.written(n)[-3:] == w[-3:])
        name = f"once_{release(self.release, self.images, self.app)[0]}"
        until(10, "the one-shot to end", lambda: not self.engine.containers()[name]["State"]["Running"])
        return took

    def written(self, name):
        """The lines of a file in the volume."""
        db = f"db_{release(self.release, self.images, self.app)[0]}"
        return self.engine.archive(db, "/data").get(name, b"").decode().split()

    def compare(self):
        """Everything that must be true after an update; the first of each release is what the others are held to."""
        now, name = self.engine.containers(), release(self.release, self.images, self.app)[0]
        wanted = sorted(f"{service}_{name}" for service in SERVICES)
        check(sorted(now) == wanted, f"containers are {sorted(now)}, not {wanted}")
        for service in SERVICES:
            found = now[f"{service}_{name}"]
            image = self.images[self.release if service == "web" else 0]
            check(found["Config"]["Image"] == image, f"{service} runs {found['Config']['Image']}, not {image}")
            check(found["State"]["Running"] == (service != "once"), f"{service}: {found['State']}")
            is_new = f"RELEASE={self.release}" in found["Config"]["Env"]
            check(is_new == (service in CHANGED), f"{service} has {found['Config']['Env']}")
            right = self.right.setdefault((self.release, service), made_from(found))
            check(made_from(found) == right, f"{service} is not what it was at first: {differs(made_from(found), right)}")
        self.compare_storage()
        self.compare_lives(now)

    def compare_storage(self):
        """Networks, the volume and its data, files of the agent."""
        nets = self.engine.networks()
        kinds = sorted((net["Name"].split("_")[0], net["Internal"]) for net in nets)
        check(kinds == [("border", self.release == 2), ("default", False)], f"networks are {kinds}")
        volumes = [volume["CreatedAt"] for volume in self.engine.volumes()]
        check(len(volumes) == 1 and self.volume in ([], volumes), f"volumes are {volumes}, were {self.volume}")
        db = f"db_{release(self.release, self.images, self.app)[0]}"
        data = self.engine.archive(db, "/data")
        check(not self.before or data.get("token") == TOKEN, "what was in the volume is gone")
        for name, wanted in self.data.items():
            check(self.written(name) == wanted, f"{name} in the volume: {self.written(name)[-5:]}, not {wanted[-5:]}")
        # The agent holds its locks until just after it has said that it is done.
        until(5, "the locks to go", lambda: not self.agent.locks())
        old = self.images[3 - self.release]
        until(10, "the former image to go", lambda: not self.engine.has_image(old))

    def compare_lives(self, now):
        """Who was started and who ended, by the engine's events."""
        old = {service_of(one): one["Id"] for one in self.before.values()}
        new = {service_of(one): one["Id"] for one in now.values()}
        happened = collections.Counter((id_, action) for _, action, id_, attributes in
                                       self.engine.events(self.begun, ["container"])
                                       if attributes.get("io.balena.app-uuid") == self.app)
        self.vain = 0
        for id_ in {id_ for id_, _ in happened} - set(old.values()) - set(new.values()):
            check(not happened[id_, "start"], f"container {id_[:12]} was started and is gone")
            self.vain += 1
        for service in CHANGED:
            check(old.get(service) != new[service], f"{service} was not replaced")
            starts, ends = happened[new[service], "start"], happened[new[service], "die"]
            check(starts == 1, f"the new {service} was started {starts} times")
            check(ends == (service == "once"), f"the new {service} ended {ends} times")
            restarts = happened[old.get(service), "start"]
            check(restarts == 0, f"the old {service} was started {restarts} times more")
            check(restarts_of(now, service) == 0, f"the new {service} was restarted by the engine")
        if "still" in old:
            did = {action for id_, action in happened if id_ == old["still"]} - {"rename"}
            check(not did, f"what does not change was touched: {sorted(did)}")
            was = next(one for one in self.before.values() if service_of(one) == "still")
            is_ = next(one for one in now.values() if service_of(one) == "still")
            check(lived(was) == lived(is_), f"what does not change was {lived(was)} and is {lived(is_)}")

    def rests(self):
        """Kills the agent at rest: started again it must do nothing (FD-34)."""
        self.agent.gone()
        names, begun = self.agent.files(), self.engine.now()
        self.files = self.files or {}
        kept = [re.sub(r"[0-9a-f]{32,}", "", name) for name in names]
        right = self.files.setdefault(self.release, kept)
        check(kept == right, f"the agent's files are {kept}, not {right}")
        self.agent.start()
        until(self.options.limit, "status done after a start", self.agent.is_done)
        types = ["container", "image", "network", "volume"]
        did = sorted({(kind, action) for kind, action, *_ in self.engine.events(begun, types)})
        check(not did, f"with an unchanged target it did {did}")
        plans = [line for line in self.agent.lines if "plan for app" in line]
        check(not plans, f"with an unchanged target it planned {plans}")


def restarts_of(now, service):
    """How often the engine itself restarted it."""
    return next(one["RestartCount"] for one in now.values() if service_of(one) == service)


def install(world):
    """The first release, and something in its volume."""
    world.agent.start()
    until(10, "the API", lambda: os.path.exists(world.agent.socket.removeprefix("unix://")))
    world.begin()
    world.target()
    world.converged()
    world.compare()
    world.engine.archive(next(name for name in world.engine.containers() if name.startswith("db_")), "/data",
                         {"token": TOKEN})


def undisturbed(world, times):
    """The length of an update in seconds, and how many lines each of the two ways logs."""
    lengths, lines = [], {}
    for _ in range(times):
        world.begin()
        mark, begun = len(world.agent.lines), time.monotonic()
        world.target()
        lengths.append(world.converged() - begun)
        lines[world.release] = len(world.agent.lines) - mark
        world.compare()
        world.rests()
    return sum(lengths) / times, lines


def step(line):
    """What a line of the log is about, in few words."""
    if line.endswith(" %"):
        return "pulling image, in mid-way"
    words = re.sub(r"sha256:[0-9a-f]+|[0-9a-f]{10,}|'[^']*'", "", line).split()[1:]
    return " ".join(words[:3]).rstrip(":") or "-"


def is_over(agent):
    """Whether the update has come to its end, unless the agent is killed just now."""
    try:
        return agent.is_done()
    except Violation:
        return agent.killed_at is not None


def one_kill(world, after, line):
    """One update in which the agent is killed; returns what it was at, when, and how long it took from there."""
    agent = world.agent
    world.begin()
    if line is not None:
        agent.kill_at = len(agent.lines) + line
    else:
        timer = threading.Timer(after, agent.kill)
        timer.start()
    begun = time.monotonic()
    accepted = world.target()
    if line is None:
        timer.join()
    else:
        until(world.options.limit, "the line or the end", lambda: agent.killed_at or is_over(agent))
    agent.gone()
    moment, log = agent.killed_at - begun, agent.lines
    ran = {one["Id"]: lived(one) for one in world.engine.containers().values()
           if is_of(one, world.release) and not one["State"]["StartedAt"].startswith("0001")}
    restarted = time.monotonic()
    agent.start()
    if not accepted:
        until(10, "the API", world.target)
    took = world.converged() - restarted
    try:
        world.compare()
        now = {one["Id"]: lived(one) for one in world.engine.containers().values()}
        check(all(now.get(id_) == was for id_, was in ran.items()), f"what ran already was {ran} and is {now}")
        world.rests()
    except Violation:
        world.former = log
        raise
    return step(log[-1]) if log else "-", moment, took, accepted


def is_of(container, number):
    """Whether it was made for this release; what does not change is for both."""
    return service_of(container) == "still" or f"RELEASE={number}" in container["Config"]["Env"]


def moments(options, length, lines, rng):
    """(seconds, None) or (None, line) of each kill."""
    if options.lines:
        return [(None, 1 + n // 2) for n in range(2 * max(lines.values()))]
    spread = [((n + rng.random()) / options.count * length, None) for n in range(options.count)]
    rng.shuffle(spread)
    return spread


def run(world, options, seed):
    """All kills; prints a line each and the figures."""
    install(world)
    length, lines = undisturbed(world, 6)
    print(f"{'update':<10} {length:.2f} s undisturbed, mean of 6, {max(lines.values())} lines of log", flush=True)
    all_, took, at, vain, unheard = moments(options, length, lines, random.Random(seed)), [], collections.Counter(), 0, 0
    for number, (after, line) in enumerate(all_, 1):
        world.number = number
        what, moment, seconds, accepted = one_kill(world, after, line)
        took.append(seconds)
        at[what] += 1
        vain += world.vain
        unheard += not accepted
        print(f"{'kill':<10} {number:>3}/{len(all_)}  after {moment:5.2f} s  done {seconds:5.2f} s later  at: {what}", flush=True)
    for what, count in at.most_common():
        print(f"{'killed at':<10} {count:>4} times: {what}")
    print(f"{'vain':<10} {vain} containers were made and not used, {unheard} targets were sent again: no answer to the first")
    print(f"{'summary':<10} {len(took)} kills, {len(took)} converged, {max(took):.2f} s the longest, "
          f"{sum(took) / len(took):.2f} s the mean; 0 unneeded restarts; seed {seed}")


def main():
    """See above."""
    parser = argparse.ArgumentParser()
    for name in ("agent", "engine", "dir"):
        parser.add_argument(name)
    parser.add_argument("images", nargs=3)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--lines", action="store_true")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6))
    parser.add_argument("--limit", type=float, default=60)
    parser.add_argument("--retry-ms", type=int)
    parser.add_argument("--app-file")
    options = parser.parse_args()
    world = World(options)
    if options.app_file:
        with open(options.app_file, "w", encoding="ascii") as file:
            file.write(world.app)
    try:
        run(world, options, options.seed)
    except Violation as violation:
        for line in [*getattr(world, "former", []), "-- killed --", *world.agent.lines][-200:]:
            print(f"{'':<10} {line}")
        print(f"{'files':<10} {' '.join(world.agent.files())}")
        sys.exit(f"{'violation':<10} kill {getattr(world, 'number', 0)}, seed {options.seed}: {violation}")
    finally:
        world.agent.gone()


if __name__ == "__main__":
    main()
