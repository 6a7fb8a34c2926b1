"""second.py HOST PORT SECONDS: asks /ping on a new connection all the time; prints how often, and the longest wait in ms."""
import socket
import sys
import time

host, port, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
end, asked, longest = time.monotonic() + seconds, 0, 0.0
while time.monotonic() < end:
    begun = time.monotonic()
    with socket.create_connection((host, port), timeout=10) as peer:
        peer.sendall(b"GET /ping HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
        said = b""
        while piece := peer.recv(4096):
            said += piece
    assert said.startswith(b"HTTP/1.1 200"), said[:60]
    longest = max(longest, time.monotonic() - begun)
    asked += 1
    time.sleep(0.05)
print(asked, round(longest * 1000, 1))
