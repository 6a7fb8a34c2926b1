#!/usr/bin/env python3
"""Where the bytes of a binary are, crate by crate, and room by room of our own.

usage: bytes.py BINARY [FUNCTIONS]

BINARY has its symbols. A function counts for the first of our rooms that its name has, else for the first crate besides the
standard library: what is generic counts for whom it is made. Constants have no names, and are one row. With FUNCTIONS the
largest so many functions follow.
"""

import collections
import re
import subprocess
import sys

# Parts of fewer bytes are one row.
SMALL = 4096
STD = {"core", "alloc", "std", "compiler_builtins", "hashbrown", "memchr"}


def run(*command, text=""):
    """What a command prints."""
    return subprocess.run(command, input=text, capture_output=True, text=True, check=True).stdout


def functions(binary):
    """Bytes, name as it is linked, and name for people, of each function."""
    lines = (line.split() for line in run("nm", "-S", "--radix=d", "--defined-only", binary).splitlines())
    found = [(int(words[1]), words[3]) for words in lines if len(words) == 4 and words[2] in "tTwW"]
    names = run("c++filt", "-s", "rust", text="\n".join(name for _, name in found)).splitlines()
    return [(size, name, re.sub(r"\[[0-9a-f]+\]", "", shown)) for (size, name), shown in zip(found, names)]


def part(name, shown):
    """Whose it is."""
    if name.startswith("OUTLINED_FUNCTION"):
        return "what others have in common (outlined)"
    if name.startswith("ring_core"):
        return "ring"
    if not name.startswith("_R"):
        return "musl, and C of ring"
    path = re.findall(r"\b([a-z_][a-z_0-9]*)::([A-Za-z_0-9]+)", shown)
    ours = [room for crate, room in path if crate == "helios"]
    if ours:
        return f"helios, {ours[0]}"
    crates = [crate for crate, _ in path if crate in CRATES - STD]
    return crates[0] if crates else "std"


CRATES = set()


def section_bytes(binary, prefix):
    """Bytes of the sections whose names begin so."""
    lines = (line.split() for line in run("size", "-A", "-d", binary).splitlines())
    return sum(int(words[1]) for words in lines if len(words) == 3 and words[0].startswith(prefix))


def main():
    """The table."""
    binary, largest = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 0
    found = functions(binary)
    for _, name, _ in found:
        CRATES.update(re.findall(r"C[a-zA-Z0-9]*_\d+([a-z_][a-z_0-9]*)", name))
    sums, counts = collections.Counter(), collections.Counter()
    for size, name, shown in found:
        whose = part(name, shown)
        sums[whose] += size
        counts[whose] += 1
    rows = [(name, size, counts[name]) for name, size in sums.most_common() if size >= SMALL]
    rest = [name for name, size in sums.items() if size < SMALL]
    rows.append((f"{len(rest)} others", sum(sums[name] for name in rest), sum(counts[name] for name in rest)))
    # A function that is the same as another is an alias of it, and counted with both.
    rows.append(("alignment, less what is counted twice", section_bytes(binary, ".text") - sum(sums.values()), ""))
    rows.append(("constants", section_bytes(binary, ".rodata"), ""))
    print(f"| {'part':38} | {'KiB':>7} | {'functions':>9} |\n|{'-' * 40}|{'-' * 8}:|{'-' * 10}:|")
    for name, size, count in rows:
        print(f"| {name:38} | {size / 1024:7.1f} | {count:>9} |")
    for size, _, shown in sorted(found, reverse=True)[:largest]:
        print(f"{size:8} {shown[:200]}")


if __name__ == "__main__":
    main()
