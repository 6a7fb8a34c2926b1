//! The same requests to our parser, to h11 and to httparse. They may disagree
//! only where this table says so, and why ours is right.

use std::io::Write;
use std::process::{Command, Stdio};

use helios::http::head::{self, REQUEST, Scan};

/// What a request comes to, as `differ.py` says it.
fn ours(input: &[u8]) -> String {
    let mut scan = Scan::default();
    let range = match scan.end(input, REQUEST) {
        Ok(Some(range)) => range,
        Ok(None) => return "more".into(),
        Err(_) => return "refused".into(),
    };
    let bytes = &input[range.clone()];
    let Ok(head) = head::request(bytes) else {
        return "refused".into();
    };
    let line = bytes.split(|byte| *byte == b'\r').next().unwrap();
    let target = line.split(|byte| *byte == b' ').nth(1).unwrap();
    let method = &bytes[head.method];
    let said = format!(
        "{} {}",
        String::from_utf8_lossy(method),
        String::from_utf8_lossy(target)
    );
    let (mut body, mut rest, mut data) = (head.body, &input[range.end..], Vec::new());
    loop {
        match body.next(rest) {
            Ok(Some(step)) => {
                data.extend_from_slice(step.data);
                rest = &rest[step.used..];
            }
            Ok(None) if body.is_over() => return format!("{said} {} + {}", hex(&data), hex(rest)),
            Ok(None) => return format!("{said} {} cut short", hex(&data)),
            Err(_) => return format!("{said} broken"),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Whether httparse takes the head at all.
fn httparse_takes(input: &[u8]) -> bool {
    let mut fields = [httparse::EMPTY_HEADER; 100];
    matches!(
        httparse::Request::new(&mut fields).parse(input),
        Ok(httparse::Status::Complete(_))
    )
}

fn h11(inputs: &[&[u8]]) -> Vec<String> {
    let python = std::env::var("HELIOS_TEST_PYTHON").unwrap_or_else(|_| "python3".into());
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/differ.py");
    let mut child = Command::new(python)
        .arg(script)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let asked: String = inputs.iter().map(|input| hex(input) + "\n").collect();
    let mut stdin = child.stdin.take().unwrap();
    let asking = std::thread::spawn(move || stdin.write_all(asked.as_bytes()).unwrap());
    let said = child.wait_with_output().unwrap();
    asking.join().unwrap();
    assert!(said.status.success(), "h11 is not there: run scripts/test");
    let said = String::from_utf8(said.stdout).unwrap();
    said.lines().map(str::to_owned).collect()
}

/// Requests, and why we and another disagree on them.
#[rustfmt::skip]
const CASES: &[(&[u8], Why)] = &[
    (b"GET / HTTP/1.1\r\nHost: h\r\n\r\n", Why::Agreed),
    (b"GET /a?b HTTP/1.1\r\nHost: h\r\n\r\nGET", Why::Agreed),
    (b"GET http://h/a HTTP/1.1\r\nHost: h\r\n\r\n", Why::Agreed),
    (b"OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n", Why::Agreed),
    (b"GET / HTTP/1.0\r\n\r\n", Why::Agreed),
    (b"GET / HTTP/1.1\r\n", Why::Agreed),
    (b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nokGET", Why::Agreed),
    (b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nok", Why::Agreed),
    (b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\nGET", Why::Agreed),
    (b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n2;a=b\r\nok\r\n0\r\nA: b\r\n\r\n", Why::Agreed),
    (b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n", Why::Agreed),
    (b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n+2\r\nok\r\n0\r\n\r\n", Why::Agreed),
    (b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n-2\r\nok\r\n0\r\n\r\n", Why::Agreed),
    (b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0x2\r\nok\r\n0\r\n\r\n", Why::Agreed),
    (b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n2 \r\nok\r\n0\r\n\r\n", Why::H11("it allows spaces behind the size, which the grammar of RFC 9112 7.1 does not")),
    (b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n10000000000000002\r\nok\r\n0\r\n\r\n", Why::H11("it takes any number; we refuse at once what no body can reach, and no counter can hold")),
    (b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nokay\r\n0\r\n\r\n", Why::Agreed),
    (b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n2\nok\r\n0\r\n\r\n", Why::Agreed),
    (b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nGET / HTTP/1.1\r\n\r\n", Why::Agreed),
    (b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", Why::Both("two framings are how requests are smuggled: RFC 9112 6.3 lets a server refuse them, httparse judges no framing")),
    (b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", Why::Httparse("it judges no framing")),
    (b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", Why::Httparse("it judges no framing")),
    (b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", Why::Httparse("it judges no framing")),
    (b"POST / HTTP/1.0\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", Why::Both("RFC 9112 6.1: a message of HTTP/1.0 with a transfer coding has to be taken for faulty")),
    (b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok", Why::Httparse("it judges no framing")),
    (b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok", Why::Both("RFC 9110 8.6 allows to refuse equal lengths, and an intermediary may count another one (D-41)")),
    (b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2, 2\r\n\r\nok", Why::Both("as with two fields (D-41)")),
    (b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: +2\r\n\r\nok", Why::Httparse("it judges no framing")),
    (b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 0x2\r\n\r\nok", Why::Httparse("it judges no framing")),
    (b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2 2\r\n\r\nok", Why::Httparse("it judges no framing")),
    (b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length : 2\r\n\r\nok", Why::Agreed),
    (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", Why::Httparse("it judges no Host")),
    (b"GET / HTTP/1.1\r\n\r\n", Why::Httparse("it judges no Host")),
    (b"GET / HTTP/1.1\r\nHost: h\r\nA: b\r\n c\r\n\r\n", Why::H11("RFC 9112 5.2: a server refuses folded lines or joins them; others read them as fields")),
    (b"GET / HTTP/1.1\nHost: h\n\n", Why::Both("RFC 9112 2.2 allows a bare LF and demands it of nobody; peers that differ on it can be played off against each other")),
    (b"GET / HTTP/1.1\r\nHost: h\r\nA: b\rC: d\r\n\r\n", Why::Agreed),
    (b"GET / HTTP/1.1\r\nHost: h\r\nA: b\0c\r\n\r\n", Why::Agreed),
    (b"GET / HTTP/1.1\r\nHost: h\r\nA: b\x7fc\r\n\r\n", Why::H11("RFC 9110 5.5 allows no control characters")),
    (b"GET / HTTP/1.1\r\nHost: h\r\nA B: c\r\n\r\n", Why::Agreed),
    (b"GET / HTTP/1.1\r\nHost: h\r\n: c\r\n\r\n", Why::Agreed),
    (b"GET / HTTP/1.1\r\nHost: h\r\nA\r\n\r\n", Why::Agreed),
    (b"GET / HTTP/1.1\r\nHost: h\r\nA: \xe9\r\n\r\n", Why::Agreed),
    (b"GET / HTTP/1.1\r\nHost: h/x\r\n\r\n", Why::Both("RFC 9112 3.2: a Host that is no authority gets 400")),
    (b"GET http://a/ HTTP/1.1\r\nHost: b\r\n\r\n", Why::Both("two names for one host; whoever looks at one of them only is led astray")),
    (b"GET a HTTP/1.1\r\nHost: h\r\n\r\n", Why::Both("RFC 9112 3.2: a target has one of four forms")),
    (b"GET /a#b HTTP/1.1\r\nHost: h\r\n\r\n", Why::Both("RFC 9112 3.2: a target has no fragment")),
    (b"GET  / HTTP/1.1\r\nHost: h\r\n\r\n", Why::Agreed),
    (b"GET / HTTP/1.1 \r\nHost: h\r\n\r\n", Why::Agreed),
    (b"GET / HTTP/2.0\r\nHost: h\r\n\r\n", Why::H11("another major version is another protocol")),
    (b"GET / http/1.1\r\nHost: h\r\n\r\n", Why::Agreed),
    (b"CONNECT h:80 HTTP/1.1\r\nHost: h\r\n\r\n", Why::Both("we are no tunnel: 501")),
    (b"\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n", Why::H11("RFC 9112 2.2: a server should pass over one empty line in front")),
    (b"GE(T / HTTP/1.1\r\nHost: h\r\n\r\n", Why::Agreed),
    (b"GET / HTTP/1.1\r\nHost: h\r\nExpect: 200-ok\r\n\r\n", Why::Both("RFC 9110 10.1.1: what cannot be met gets 417")),
];

/// Who disagrees with us, and why we are right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Why {
    Agreed,
    H11(&'static str),
    Httparse(&'static str),
    Both(&'static str),
}

#[test]
fn other_parsers_disagree_only_where_we_know_why() {
    let inputs: Vec<_> = CASES.iter().map(|(input, _)| *input).collect();
    let theirs = h11(&inputs);
    assert_eq!(theirs.len(), CASES.len());
    let mut wrong = Vec::new();
    for ((input, why), h11) in CASES.iter().zip(theirs) {
        let ours = ours(input);
        let takes = !matches!(&*ours, "refused" | "more");
        let found = (ours != h11, takes != httparse_takes(input));
        let listed = match why {
            Why::Agreed => (false, false),
            Why::H11(_) => (true, false),
            Why::Httparse(_) => (false, true),
            Why::Both(_) => (true, true),
        };
        if found != listed {
            let shown = String::from_utf8_lossy(input).into_owned();
            wrong.push(format!(
                "{shown:?}: ours {ours}, h11 {h11}, {found:?} (h11, httparse)"
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
