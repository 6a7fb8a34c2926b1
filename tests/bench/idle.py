"""idle.py HOST PORT COUNT: opens COUNT connections, asks /ping once on each, then waits for a line on stdin."""
import socket
import sys

host, port, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
held = []
for _ in range(count):
    peer = socket.create_connection((host, port), timeout=5)
    peer.sendall(b"GET /ping HTTP/1.1\r\nHost: h\r\n\r\n")
    assert peer.recv(4096).startswith(b"HTTP/1.1 200"), "no answer"
    held.append(peer)
print("held", flush=True)
sys.stdin.readline()
