"""streams.py HOST PORT PATH COUNT PID: COUNT downloads at once, each read as it comes; the highest resident memory of
PID in KiB meanwhile. Fails when one of them stands still."""

import select
import socket
import sys
import time

host, port, path, count, pid = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4]), sys.argv[5]
SECONDS = 8


def resident():
    with open(f"/proc/{pid}/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS:"))


got = {}
for _ in range(count):
    stream = socket.create_connection((host, port))
    stream.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    stream.setblocking(False)
    got[stream] = 0
highest, end = 0, time.monotonic() + SECONDS
while time.monotonic() < end:
    for stream in select.select(list(got), [], [], 0.1)[0]:
        piece = stream.recv(65536)
        if not piece:
            sys.exit("a stream ended")
        got[stream] += len(piece)
    highest = max(highest, resident())
if min(got.values()) < 100_000:
    sys.exit(f"the slowest stream brought {min(got.values())} bytes")
print(highest)
