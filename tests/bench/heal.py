#!/usr/bin/env python3
"""How long it takes until a service that somebody removed runs again.

usage: heal.py ENGINE RELEASE TIMES

ENGINE is unix:///path or tcp://host:port. Removes one container after the other whose name carries the release, and
looks every 10 ms. Prints the longest and the mean, in seconds; fails if one takes more than a minute.
"""

import json
import sys
import time
import urllib.parse

from loop import call, connect


def main():
    """All removals; prints the seconds."""
    address, release, times = sys.argv[1], sys.argv[2], int(sys.argv[3])
    connection, took = connect(address), []
    filters = urllib.parse.quote(json.dumps({"name": [release]}))
    names = [one["Names"][0] for one in call(connection, "GET", f"/containers/json?filters={filters}")]
    for number in range(times):
        path = "/containers" + names[number % len(names)]
        # By its id: the name is the next one's, too.
        old = call(connection, "GET", f"{path}/json")["Id"]
        begun = time.monotonic()
        call(connection, "DELETE", f"/containers/{old}?force=1")
        while True:
            found = call(connection, "GET", f"{path}/json", accept=(404,))
            if found.get("Id", old) != old and found["State"]["Running"]:
                break
            if time.monotonic() - begun > 60:
                sys.exit(f"{path} does not run again after {time.monotonic() - begun:.0f} s")
            time.sleep(0.01)
        took.append(time.monotonic() - begun)
    print(f"{max(took):.2f} {sum(took) / len(took):.2f}")


if __name__ == "__main__":
    main()
