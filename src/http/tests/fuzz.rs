//! Arbitrary bytes to everything that is pure: nothing panics, and the answer
//! is the same however the network cuts them.

use crate::http::body::Body;
use crate::http::gzip::Gunzip;
use crate::http::head::{self, Fields, REQUEST, RESPONSE, Scan};
use crate::http::url::{Address, Url, percent_decode, query_pairs};
use crate::http::{date, head::HeadError};

/// Numbers that look random and are the same in every run (xorshift).
struct Noise(u64);

impl Noise {
    fn below(&mut self, max: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap() % max
    }

    /// One of the seeds, damaged in a few places with pieces of the others.
    fn damage(&mut self, seeds: &[&[u8]]) -> Vec<u8> {
        let mut bytes = seeds[self.below(seeds.len())].to_vec();
        for _ in 0..self.below(4) {
            let at = self.below(bytes.len() + 1);
            let until = bytes.len().min(at + self.below(4));
            let other = seeds[self.below(seeds.len())];
            let from = self.below(other.len());
            let piece = &other[from..other.len().min(from + self.below(12))];
            let byte = [u8::try_from(self.below(256)).unwrap()];
            let new = if self.below(2) == 0 { piece } else { &byte };
            bytes.splice(at..until, new.iter().copied());
        }
        bytes
    }
}

const SEEDS: &[&[u8]] = &[
    b"GET /a?b=%41+c HTTP/1.1\r\nHost: h\r\nConnection: close, upgrade\r\nUpgrade: x\r\n\r\n",
    b"POST http://h:80/x HTTP/1.0\r\nHost: h:80\r\nContent-Length: 12\r\nExpect: 100-continue\r\n\r\n",
    b"\r\nOPTIONS * HTTP/1.1\r\nHost: [::1]\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"HTTP/1.0 304 \r\nKeep-Alive: timeout=5\r\n\r\nHTTP/1.1 100\r\n\r\n",
    b"5;a=\"b\"\r\nhello\r\nffffffffffffffff\r\n0\r\nA: b\r\n\r\n0\r\n\r\n",
    b"\x1f\x8b\x08\x1e\0\0\0\0\0\x03\x03\0abcname\0comment\0xx\xcb\xcf\x06\0\x47\xdd\xdc\x79\x02\0\0\0",
    b"https://[fe80::1%25eth0]:443/x%2fy//unix:///run/x.sock tcp://h:2375",
    b"Sun, 06 Nov 1994 08:49:37 GMT",
];

/// What a head comes to, fed in pieces.
fn head_of(input: &[u8], piece: usize, is_request: bool) -> String {
    let mut scan = Scan::default();
    let mut end = 0;
    while end < input.len() {
        end = input.len().min(end + piece);
        let limits = if is_request { REQUEST } else { RESPONSE };
        let bytes = match scan.end(&input[..end], limits) {
            Ok(None) => continue,
            Ok(Some(range)) => &input[range],
            Err(HeadError { status, .. }) => return status.to_string(),
        };
        let fields = Fields::of(bytes).count();
        assert!(fields + 2 <= bytes.iter().filter(|byte| **byte == b'\n').count());
        return if is_request {
            let head = head::request(bytes);
            if let Ok(head) = &head {
                assert!(
                    bytes[head.path.clone()].starts_with(b"/") || &bytes[head.path.clone()] == b"*"
                );
                assert!(!bytes[head.query.clone()].contains(&b' '));
            }
            format!("{head:?}")
        } else {
            format!("{:?}", head::response(bytes, false))
        };
    }
    "more".into()
}

/// What a body comes to, fed in pieces.
fn body_of(input: &[u8], piece: usize) -> String {
    let (mut body, mut data, mut pos) = (Body::chunked(), Vec::new(), 0);
    let mut end = 0;
    loop {
        match body.next(&input[pos..end]) {
            Ok(Some(step)) => {
                assert!(step.used > 0 && step.used <= end - pos);
                data.extend_from_slice(step.data);
                pos += step.used;
            }
            Ok(None) if body.is_over() || end == input.len() => break,
            Ok(None) => end = input.len().min(end + piece),
            Err(_) => return format!("{data:?} broken"),
        }
    }
    format!("{data:?} {body:?}")
}

/// What gzip comes to, fed in pieces.
fn gzip_of(input: &[u8], piece: usize) -> String {
    let (mut gunzip, mut out) = (Gunzip::default(), Vec::new());
    for mut piece in input.chunks(piece) {
        loop {
            match gunzip.next(piece) {
                Ok(Some(step)) => {
                    out.extend_from_slice(gunzip.bytes(step.data));
                    piece = &piece[step.used..];
                }
                Ok(None) => break,
                // How much comes out before that depends on the pieces.
                Err(_) => return "broken".into(),
            }
        }
    }
    format!("{out:?} {}", gunzip.may_end())
}

#[test]
fn nothing_panics_and_pieces_do_not_matter() {
    let rounds = std::env::var("HTTP_FUZZ_ROUNDS")
        .ok()
        .and_then(|rounds| rounds.parse().ok());
    let mut noise = Noise(0x9e37_79b9_7f4a_7c15);
    for _ in 0..rounds.unwrap_or(5_000) {
        let input = noise.damage(SEEDS);
        let piece = 1 + noise.below(7);
        let all = input.len().max(1);
        for is_request in [true, false] {
            let whole = head_of(&input, all, is_request);
            assert_eq!(
                head_of(&input, piece, is_request),
                whole,
                "{input:?} by {piece}"
            );
        }
        assert_eq!(
            body_of(&input, piece),
            body_of(&input, all),
            "{input:?} by {piece}"
        );
        assert_eq!(
            gzip_of(&input, piece),
            gzip_of(&input, all),
            "{input:?} by {piece}"
        );
        let text = String::from_utf8_lossy(&input);
        if let Ok(url) = Url::parse(&text) {
            // What we show we read again.
            assert_eq!(Url::parse(&url.to_string()).as_ref(), Ok(&url), "{text}");
        }
        let _ = (
            Address::parse(&text),
            percent_decode(&text),
            date::parse(&text),
        );
        let _ = query_pairs(&text).count();
    }
}
