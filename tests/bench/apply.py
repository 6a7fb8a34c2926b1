#!/usr/bin/env python3
"""How long the agent takes from POST to `done`.

usage: apply.py API APP RELEASE IMAGE SERVICES

API is unix:///path; a % in IMAGE stands for the number of the service. Posts an app of that many services on one
network and one volume and asks for the status every 20 ms over one connection. Prints the seconds; fails if it takes more than ten minutes or is aborted.
"""

import sys
import time

from loop import call, connect


def app(release, image, services):
    """A user app in the form of a target."""
    service = {
        "environment": {"ROLE": "bench"},
        "composition": {
            "command": ["sleep", "infinity"],
            "networks": ["net"],
            "volumes": ["vol:/data"],
        },
    }
    return {
        "id": 1,
        "name": "bench",
        "releases": {
            release: {
                "services": {
                    f"s{n}": {"id": n + 1, "image": image.replace("%", str(n)), **service} for n in range(services)
                },
                "networks": {"net": {}},
                "volumes": {"vol": {}},
            }
        },
    }


def main():
    """One apply; prints the seconds."""
    address, uuid, release, image, services = sys.argv[1:6]
    connection, body = connect(address), app(release, image, int(services))
    begun = time.monotonic()
    call(connection, "POST", f"/v3/device/apps/{uuid}", body)
    while (status := call(connection, "GET", "/v3/status")["status"]) != "done":
        if status not in ("applying changes", "interrupted") or time.monotonic() - begun > 600:
            sys.exit(f"not done after {time.monotonic() - begun:.0f} s: {status}")
        time.sleep(0.02)
    print(f"{time.monotonic() - begun:.3f}")


if __name__ == "__main__":
    main()
