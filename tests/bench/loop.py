#!/usr/bin/env python3
"""What an app costs without an agent: the same engine calls in a plain loop, eight at a time.

usage: loop.py ENGINE IMAGE SERVICES [WORKERS]

ENGINE is unix:///path or tcp://host:port. Creates a network and a volume, looks at the image, then creates, starts and
inspects the containers over keep-alive connections, one a worker. Prints the seconds, and removes all it made.
Python's standard library only.
"""

import http.client
import json
import secrets
import socket
import sys
import threading
import time


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path):
        super().__init__("engine", timeout=300)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


def connect(address):
    """A connection to unix:///path, tcp://host:port or http://host:port."""
    scheme, rest = address.split("://", 1)
    return UnixConnection(rest) if scheme == "unix" else http.client.HTTPConnection(rest, timeout=300)


def call(connection, method, path, body=None, accept=()):
    """The answer's JSON, or None for an empty one; a status of 400 and more that is not accepted raises."""
    data = None if body is None else json.dumps(body)
    connection.request(method, path, data, {"Content-Type": "application/json"})
    answer = connection.getresponse()
    text = answer.read()
    if answer.status >= 400 and answer.status not in accept:
        raise RuntimeError(f"{method} {path}: {answer.status} {text[:200]!r}")
    return json.loads(text) if text.strip() else None


def in_parallel(address, workers, jobs, work):
    """Runs work(connection, job) for every job, on as many connections as workers."""
    jobs, lock, errors = list(jobs)[::-1], threading.Lock(), []

    def worker():
        connection = connect(address)
        while not errors:
            with lock:
                if not jobs:
                    return
                job = jobs.pop()
            try:
                work(connection, job)
            except Exception as error:  # the first one ends the run
                errors.append(error)

    threads = [threading.Thread(target=worker) for _ in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def container(image, run, service):
    """What the agent asks for, in the parts that cost the engine time."""
    return {
        "Image": image,
        "Cmd": ["sleep", "infinity"],
        "Env": ["ROLE=bench", f"SERVICE={service}"],
        "Labels": {"io.helios.bench": run, "io.helios.bench.config": "x" * 512},
        "HostConfig": {
            "RestartPolicy": {"Name": "always"},
            "NetworkMode": f"net_{run}",
            "Mounts": [{"Type": "volume", "Source": f"vol_{run}", "Target": "/data"}],
        },
        "NetworkingConfig": {"EndpointsConfig": {f"net_{run}": {"Aliases": [service]}}},
    }


def main():
    """One run; prints the seconds."""
    address, image, services = sys.argv[1], sys.argv[2], int(sys.argv[3])
    workers = int(sys.argv[4]) if len(sys.argv) > 4 else 8
    run = f"heliosbench{secrets.token_hex(8)}"
    names = [f"s{number}_{run}" for number in range(services)]

    def up(connection, name):
        call(connection, "POST", f"/containers/create?name={name}", container(image, run, name.split("_")[0]))
        call(connection, "POST", f"/containers/{name}/start")
        call(connection, "GET", f"/containers/{name}/json")

    def down(connection, name):
        call(connection, "DELETE", f"/containers/{name}?force=1&v=1", accept=(404,))

    first = connect(address)
    try:
        begun = time.monotonic()
        call(first, "POST", "/networks/create", {"Name": f"net_{run}", "CheckDuplicate": True})
        call(first, "POST", "/volumes/create", {"Name": f"vol_{run}"})
        call(first, "GET", f"/images/{image}/json")
        in_parallel(address, workers, names, up)
        print(f"{time.monotonic() - begun:.3f}")
    finally:
        in_parallel(address, 4, names, down)
        last = connect(address)
        call(last, "DELETE", f"/networks/net_{run}", accept=(404,))
        call(last, "DELETE", f"/volumes/vol_{run}", accept=(404,))


if __name__ == "__main__":
    main()
