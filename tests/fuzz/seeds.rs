//! Where fuzzing begins: one of each kind.

/// Used by the noise test as they are, and written out by `scripts/fuzz`.
pub const SEEDS: &[&[u8]] = &[
    b"GET /a?b=%41+c HTTP/1.1\r\nHost: h\r\nConnection: close, upgrade\r\nUpgrade: x\r\n\r\n",
    b"POST http://h:80/x HTTP/1.0\r\nHost: h:80\r\nContent-Length: 12\r\nExpect: 100-continue\r\n\r\n",
    b"\r\nOPTIONS * HTTP/1.1\r\nHost: [::1]\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"HTTP/1.0 304 \r\nKeep-Alive: timeout=5\r\n\r\nHTTP/1.1 100\r\n\r\n",
    b"5;a=\"b\"\r\nhello\r\nffffffffffffffff\r\n0\r\nA: b\r\n\r\n0\r\n\r\n",
    b"\x1f\x8b\x08\x1e\0\0\0\0\0\x03\x03\0abcname\0comment\0xx\xcb\xcf\x06\0\x47\xdd\xdc\x79\x02\0\0\0",
    b"https://[fe80::1%25eth0]:443/x%2fy//unix:///run/x.sock tcp://h:2375",
    b"Sun, 06 Nov 1994 08:49:37 GMT",
];
