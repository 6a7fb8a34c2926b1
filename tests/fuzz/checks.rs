//! What must hold for any bytes, for each pure part of `http`: nothing panics,
//! what is accepted keeps its promises, and the answer is the same however the
//! network cuts the bytes. The first byte of the input says how it is cut.
#![allow(dead_code)]

use helios::base::date;
use helios::base::percent::{percent_decode, percent_encode_segment, query_pairs};
use helios::http::body::Body;
use helios::http::gzip::Gunzip;
use helios::http::head::{self, Fields, HeadError, REQUEST, RESPONSE, Scan};
use helios::http::redirect::{self, Place};
use helios::http::url::{Address, Url, is_target};

/// How long the pieces are, and the bytes.
fn cut(data: &[u8]) -> (usize, &[u8]) {
    match data {
        [first, rest @ ..] => (1 + usize::from(*first), rest),
        [] => (1, data),
    }
}

/// A request head.
pub fn request(data: &[u8]) {
    both(data, |input, piece| head_of(input, piece, true));
}

/// A response head, to a `GET` and to a `HEAD`.
pub fn response(data: &[u8]) {
    both(data, |input, piece| head_of(input, piece, false));
}

/// A body behind a request's own head, as a server meets it.
pub fn body(data: &[u8]) {
    both(data, |input, piece| {
        let mut scan = Scan::default();
        let Ok(Some(range)) = scan.end(input, REQUEST) else {
            return String::new();
        };
        let Ok(head) = head::request(&input[range.clone()]) else {
            return String::new();
        };
        body_of(head.body, &input[range.end..], piece)
    });
}

/// A chunked body.
pub fn chunks(data: &[u8]) {
    both(data, |input, piece| body_of(Body::chunked(), input, piece));
}

/// A gzip stream.
pub fn gzip(data: &[u8]) {
    both(data, gzip_of);
}

/// Everything that reads text: URLs, addresses, escapes, dates, redirects.
pub fn url(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if let Ok(url) = Url::parse(&text) {
        // What we show we read again.
        assert_eq!(Url::parse(&url.to_string()).as_ref(), Ok(&url), "{text}");
    }
    let _ = (Address::parse(&text), query_pairs(&text).count());
    let escaped = percent_encode_segment(&text);
    assert_eq!(percent_decode(&escaped).as_deref(), Some(&*text));
    if let Some(secs) = date::parse(&text) {
        let shown = date::HttpDate(secs).to_string();
        assert_eq!(date::parse(&shown), Some(secs), "{text}");
    }
    let _ = percent_decode(&text);
    for home in ["http://h/", "https://h:1/"] {
        let from = Place {
            server: Url::parse(home).unwrap(),
            target: "/a/b?c".into(),
        };
        if let Ok(to) = redirect::follow(&from, &text) {
            assert!(is_target(&to.target), "{text}");
            assert!(to.server.is_tls() || !from.server.is_tls(), "{text}");
        }
    }
}

/// The same answer in one piece and in many.
fn both(data: &[u8], meaning: impl Fn(&[u8], usize) -> String) {
    let (piece, input) = cut(data);
    let whole = meaning(input, input.len().max(1));
    assert_eq!(meaning(input, piece), whole, "by {piece}");
}

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
            request_of(bytes)
        } else {
            let answers = [false, true].map(|to_head| head::response(bytes, to_head));
            format!("{answers:?}")
        };
    }
    "more".into()
}

fn request_of(bytes: &[u8]) -> String {
    let head = head::request(bytes);
    if let Ok(head) = &head {
        let path = &bytes[head.path.clone()];
        assert!(path.starts_with(b"/") || path == b"*");
        assert!(!bytes[head.query.clone()].contains(&b' '));
        // One framing, or it would not be here.
        let fields = Fields::of(bytes);
        let framings =
            fields.all("content-length").count() + fields.all("transfer-encoding").count();
        assert!(framings <= 1, "two framings");
        assert_eq!(
            head.body == Body::chunked(),
            fields.all("transfer-encoding").count() == 1
        );
    }
    format!("{head:?}")
}

/// What a body comes to, fed in pieces.
fn body_of(mut body: Body, input: &[u8], piece: usize) -> String {
    let (mut data, mut pos, mut end) = (Vec::new(), 0, 0);
    loop {
        match body.next(&input[pos..end]) {
            Ok(Some(step)) => {
                assert!(step.used > 0 && step.used <= end - pos);
                assert!(step.data.is_empty() || step.data.len() == step.used);
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
