"""tls.py PORT BACKEND-PORT CERTIFICATES [SECONDS]: what a reverse proxy is to a backend: takes TLS on 127.0.0.1:PORT and passes it on.

CERTIFICATES is a directory with good.pem and key.pem. A connection that is idle for SECONDS (5, as the backend does)
is closed.
"""
import pathlib
import socket
import ssl
import sys
import threading


def pump(source, sink):
    try:
        while data := source.recv(16384):
            sink.sendall(data)
    except OSError:
        pass
    for end in (source, sink):
        try:
            end.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


def serve(plain, context, port, idle):
    try:
        plain.settimeout(10)
        secure = context.wrap_socket(plain, server_side=True)
        secure.settimeout(idle)
        with secure, socket.create_connection(("127.0.0.1", port), timeout=5) as backend:
            threading.Thread(target=pump, args=(backend, secure), daemon=True).start()
            pump(secure, backend)
    except OSError as error:
        print(error, file=sys.stderr, flush=True)


def main():
    port, backend = int(sys.argv[1]), int(sys.argv[2])
    directory = pathlib.Path(sys.argv[3])
    idle = float(sys.argv[4]) if len(sys.argv) > 4 else 5
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(directory / "good.pem", directory / "key.pem")
    # As the usual proxies are set.
    context.num_tickets = 2
    with socket.create_server(("127.0.0.1", port), backlog=64) as listener:
        while True:
            plain, _ = listener.accept()
            threading.Thread(target=serve, args=(plain, context, backend, idle), daemon=True).start()


main()
