"""What h11 makes of requests: one in hex per line of stdin, one verdict per line of stdout."""
import sys

import h11


def verdict(data):
    peer = h11.Connection(our_role=h11.SERVER)
    peer.receive_data(data)
    peer.receive_data(b"")
    said, body = None, b""
    while True:
        try:
            event = peer.next_event()
        except h11.RemoteProtocolError as err:
            if said is None:
                return "more" if "unexpectedly" in str(err) else "refused"
            return f"{said} {body.hex()} cut short" if "closed" in str(err) else f"{said} broken"
        if isinstance(event, h11.Request):
            said = f"{event.method.decode()} {event.target.decode('latin-1')}"
        elif isinstance(event, h11.Data):
            body += bytes(event.data)
        elif isinstance(event, h11.EndOfMessage):
            return f"{said} {body.hex()} + {peer.trailing_data[0].hex()}"
        else:
            return "more"


for line in sys.stdin:
    print(verdict(bytes.fromhex(line.strip())), flush=True)
