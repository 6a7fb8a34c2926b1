#!/usr/bin/env python3
"""Where the resident pages of a process are.

usage: pages.py PID

A line for each part: its name, its resident and its private and changed memory, and its size, in KiB (smaps). Code,
constants and data are the program's own; stacks are the first thread's and each large anonymous area, as musl makes
them; the rest is what malloc has.
"""

import pathlib
import re
import sys

# malloc takes no area of this size for small things.
STACK_KIB = 1024
AREA = re.compile(r"([0-9a-f]+)-([0-9a-f]+) (\S{4}) \S+ \S+ \S+ *(.*)")


def areas(text):
    """Size, rights, name and figures of each area."""
    found = []
    for line in text.splitlines():
        if area := AREA.fullmatch(line):
            first, end, rights, name = area.groups()
            found.append(((int(end, 16) - int(first, 16)) // 1024, rights, name, {}))
        else:
            words = line.split()
            if len(words) == 3:
                found[-1][3][words[0].rstrip(":")] = int(words[1])
    return found


def part(size, rights, name):
    """Whose it is."""
    if name.startswith("/"):
        return "code" if "x" in rights else "data" if "w" in rights else "constants"
    if name == "[stack]" or (not name and size >= STACK_KIB):
        return "stacks"
    return "malloc" if name in ("", "[heap]") else "kernel"


def main():
    """The lines."""
    text = pathlib.Path("/proc", sys.argv[1], "smaps").read_text(encoding="utf-8")
    sums = {name: [0, 0, 0] for name in ("code", "constants", "data", "malloc", "stacks", "kernel")}
    for size, rights, name, figures in areas(text):
        changed = figures.get("Private_Dirty", 0)
        for at, figure in enumerate((figures.get("Rss", 0), changed, size)):
            sums[part(size, rights, name)][at] += figure
    for name, figures in sums.items():
        print(name, *figures)


if __name__ == "__main__":
    main()
