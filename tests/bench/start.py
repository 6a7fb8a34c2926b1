#!/usr/bin/env python3
"""How long the agent takes from its start to the first /ping that it answers.

usage: start.py AGENT DIR [COUNT] [-- OPTION...]

Starts it COUNT (11) times with these options, its files in a directory of its own below DIR each time, and asks over its Unix
socket as soon as that is there. Prints the median and the longest in milliseconds.
"""

import os
import pathlib
import socket
import statistics
import subprocess
import sys
import time

PATIENCE = 10


def ping(path, end):
    """Until it is answered."""
    while time.monotonic() < end:
        with socket.socket(socket.AF_UNIX) as peer:
            try:
                peer.settimeout(PATIENCE)
                peer.connect(path)
                peer.sendall(b"GET /ping HTTP/1.1\r\nHost: h\r\n\r\n")
                if peer.recv(4096).startswith(b"HTTP/1.1 200"):
                    return time.monotonic()
            except (FileNotFoundError, ConnectionError):
                time.sleep(0.0001)
    sys.exit("/ping was not answered")


def once(agent, directory, options):
    """One start, in milliseconds."""
    directory.mkdir(parents=True)
    path = str(directory / "api.sock")
    environment = os.environ | {"HOME": str(directory), "XDG_RUNTIME_DIR": str(directory / "run"), "RUST_LOG": "info"}
    with open(directory / "log", "wb") as log:
        begun = time.monotonic()
        process = subprocess.Popen(
            [agent, "--local-api-address", path, *options], env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
        try:
            return (ping(path, begun + PATIENCE) - begun) * 1000
        finally:
            process.kill()
            process.wait()


def main():
    """All of them."""
    words, options = sys.argv[1:], []
    if "--" in words:
        at = words.index("--")
        words, options = words[:at], words[at + 1 :]
    count = int(words[2]) if len(words) > 2 else 11
    times = [once(words[0], pathlib.Path(words[1]) / str(number), options) for number in range(count)]
    print(f"{statistics.median(times):.1f} {max(times):.1f}")


if __name__ == "__main__":
    main()
