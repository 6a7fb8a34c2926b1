//! Where a body ends: the three framings of HTTP/1.1 as one state machine.
//!
//! [`Body::next`] takes whatever bytes have arrived and answers with a slice of
//! them. It copies nothing and holds two integers at most, so an image layer of
//! a hundred megabytes and an `OK` of two bytes cost the same.

use super::head::{is_field_line, is_field_value};
use crate::limits::{HTTP_CHUNK_LINE_BYTES_MAX, HTTP_TRAILER_BYTES_MAX};

/// What is left of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body {
    /// Nothing.
    None,
    /// So many bytes, never zero.
    Length(u64),
    /// A chunked rest, from a chunk-size line on.
    Size,
    /// A chunked rest, inside data, with so many bytes left, never zero.
    Data(u64),
    /// A chunked rest, from the line end behind the data on.
    DataEnd,
    /// A chunked rest, from a trailer line on, behind so many bytes of them.
    Trailer(usize),
    /// Everything until the peer closes.
    UntilClose,
}

/// One step over the front of the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step<'b> {
    /// Drop so many bytes from the front of the input, then call again.
    pub used: usize,
    /// The body bytes among them: all of them, or none of framing bytes.
    pub data: &'b [u8],
}

/// The chunked coding is broken; the connection is of no more use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadFraming;

impl Body {
    /// A body of so many bytes.
    #[must_use]
    pub fn length(bytes: u64) -> Body {
        match bytes {
            0 => Body::None,
            _ => Body::Length(bytes),
        }
    }

    /// A chunked body, at its beginning.
    #[must_use]
    pub fn chunked() -> Body {
        Body::Size
    }

    /// Whether nothing of it is left.
    #[must_use]
    pub fn is_over(self) -> bool {
        self == Body::None
    }

    /// Advances over the front of `input`; `Ok(None)` means "feed me more".
    pub fn next<'b>(&mut self, input: &'b [u8]) -> Result<Option<Step<'b>>, BadFraming> {
        let line_max = match *self {
            Body::None => return Ok(None),
            Body::Length(left) | Body::Data(left) => return Ok(self.take(input, left)),
            Body::UntilClose => return Ok(self.take(input, u64::MAX)),
            Body::Size => HTTP_CHUNK_LINE_BYTES_MAX,
            Body::DataEnd => 0,
            Body::Trailer(behind) => HTTP_TRAILER_BYTES_MAX.saturating_sub(behind),
        };
        let Some(line) = line(input, line_max)? else {
            return Ok(None);
        };
        let used = line.len() + 2;
        *self = match *self {
            Body::DataEnd => Body::Size,
            Body::Trailer(_) if line.is_empty() => Body::None,
            Body::Trailer(_) if !is_field_line(line) => return Err(BadFraming),
            Body::Trailer(behind) => Body::Trailer(behind + used),
            _ => match chunk_size(line)? {
                0 => Body::Trailer(0),
                size => Body::Data(size),
            },
        };
        Ok(Some(Step { used, data: &[] }))
    }

    /// Advances over data, of which there are so many bytes left.
    fn take<'b>(&mut self, input: &'b [u8], left: u64) -> Option<Step<'b>> {
        let used = usize::try_from(left).map_or(input.len(), |left| left.min(input.len()));
        let data = &input[..used];
        *self = match (*self, left - used as u64) {
            (Body::UntilClose, _) => Body::UntilClose,
            (Body::Length(_), left) => Body::length(left),
            (_, 0) => Body::DataEnd,
            (_, left) => Body::Data(left),
        };
        (used > 0).then_some(Step { used, data })
    }
}

/// The bytes before the next CRLF. Refuses a lone CR or LF, and a line that is
/// already too long without one.
fn line(input: &[u8], max: usize) -> Result<Option<&[u8]>, BadFraming> {
    let seen = &input[..input.len().min(max + 1)];
    let end = seen.iter().position(|byte| b"\r\n".contains(byte));
    let end = end.unwrap_or(seen.len());
    match input[end..] {
        _ if end > max => Err(BadFraming),
        [b'\r', b'\n', ..] => Ok(Some(&input[..end])),
        [] | [b'\r'] => Ok(None),
        _ => Err(BadFraming),
    }
}

/// One to sixteen hexadecimal digits, then nothing or `;` and an extension,
/// which is skipped.
fn chunk_size(line: &[u8]) -> Result<u64, BadFraming> {
    let digits = line.iter().map_while(|byte| char::from(*byte).to_digit(16));
    let (count, size) = digits.fold((0, 0), |(count, size), digit| {
        (count + 1, size << 4 | u64::from(digit))
    });
    let rest = line[count..].trim_ascii_start();
    let extends = rest.starts_with(b";") && is_field_value(rest);
    if (1..=16).contains(&count) && (count == line.len() || extends) {
        Ok(size)
    } else {
        Err(BadFraming)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The body and what is behind it, when `input` arrives in pieces.
    fn read(mut body: Body, input: &[u8], piece: usize) -> Result<(String, String), BadFraming> {
        let (mut data, mut rest, mut fed) = (Vec::new(), Vec::new(), 0);
        while !body.is_over() {
            if let Some(step) = body.next(&rest)? {
                data.extend_from_slice(step.data);
                rest.drain(..step.used);
            } else if fed < input.len() {
                let next = input.len().min(fed + piece);
                rest.extend_from_slice(&input[fed..next]);
                fed = next;
            } else {
                let end = if body == Body::UntilClose {
                    "closed"
                } else {
                    "cut short"
                };
                return Ok((text(&data), end.into()));
            }
        }
        rest.extend_from_slice(&input[fed..]);
        Ok((text(&data), text(&rest)))
    }

    fn text(bytes: &[u8]) -> String {
        String::from_utf8_lossy(bytes).into_owned()
    }

    #[test]
    fn bodies() {
        let long_line = format!(
            "1;{}\r\nx\r\n0\r\n\r\n",
            "e".repeat(HTTP_CHUNK_LINE_BYTES_MAX)
        );
        let fits = format!(
            "1;{}\r\nx\r\n0\r\n\r\n",
            "e".repeat(HTTP_CHUNK_LINE_BYTES_MAX - 2)
        );
        let trailers = format!(
            "0\r\n{}\r\n",
            "a: b\r\n".repeat(HTTP_TRAILER_BYTES_MAX / 6 + 1)
        );
        #[rustfmt::skip]
        let cases: &[(&str, Body, &str, Result<(&str, &str), BadFraming>)] = &[
            ("none", Body::None, "NEXT", Ok(("", "NEXT"))),
            ("length", Body::length(5), "helloNEXT", Ok(("hello", "NEXT"))),
            ("no length", Body::length(0), "NEXT", Ok(("", "NEXT"))),
            ("length, cut short", Body::length(5), "hel", Ok(("hel", "cut short"))),
            ("until close", Body::UntilClose, "a\r\n\r\nb", Ok(("a\r\n\r\nb", "closed"))),
            ("until close, empty", Body::UntilClose, "", Ok(("", "closed"))),
            ("chunked", Body::chunked(), "5\r\nhello\r\n1\r\n!\r\n0\r\n\r\nNEXT", Ok(("hello!", "NEXT"))),
            ("empty", Body::chunked(), "0\r\n\r\nNEXT", Ok(("", "NEXT"))),
            ("extension, trailer", Body::chunked(), "2;a=b\r\nok\r\n0\r\nX: y\r\n\r\n", Ok(("ok", ""))),
            ("space before extension", Body::chunked(), "2 ;a\r\nok\r\n0\r\n\r\n", Ok(("ok", ""))),
            ("quoted extension", Body::chunked(), "2;a=\"x y\"\r\nok\r\n0\r\n\r\n", Ok(("ok", ""))),
            ("both cases", Body::chunked(), "0a\r\n0123456789\r\n0B\r\n0123456789a\r\n00\r\n\r\n", Ok(("01234567890123456789a", ""))),
            ("zeros in front", Body::chunked(), "0000000000000001\r\nx\r\n0\r\n\r\n", Ok(("x", ""))),
            ("line that fits", Body::chunked(), &fits, Ok(("x", ""))),
            ("no last chunk", Body::chunked(), "2\r\nok\r\n", Ok(("ok", "cut short"))),
            ("no last line", Body::chunked(), "2\r\nok\r\n0\r\n", Ok(("ok", "cut short"))),
            ("seventeen digits", Body::chunked(), "00000000000000001\r\nx\r\n0\r\n\r\n", Err(BadFraming)),
            ("overflow", Body::chunked(), "10000000000000002\r\nok\r\n0\r\n\r\n", Err(BadFraming)),
            ("plus", Body::chunked(), "+2\r\nok\r\n0\r\n\r\n", Err(BadFraming)),
            ("minus", Body::chunked(), "-2\r\nok\r\n0\r\n\r\n", Err(BadFraming)),
            ("prefix", Body::chunked(), "0x2\r\nok\r\n0\r\n\r\n", Err(BadFraming)),
            ("underscore", Body::chunked(), "1_0\r\nok\r\n0\r\n\r\n", Err(BadFraming)),
            ("space in front", Body::chunked(), " 2\r\nok\r\n0\r\n\r\n", Err(BadFraming)),
            ("space behind", Body::chunked(), "2 \r\nok\r\n0\r\n\r\n", Err(BadFraming)),
            ("two numbers", Body::chunked(), "2 2\r\nok\r\n0\r\n\r\n", Err(BadFraming)),
            ("comma", Body::chunked(), "2,a\r\nok\r\n0\r\n\r\n", Err(BadFraming)),
            ("no size", Body::chunked(), "\r\nok\r\n0\r\n\r\n", Err(BadFraming)),
            ("only extension", Body::chunked(), ";a\r\nok\r\n0\r\n\r\n", Err(BadFraming)),
            ("not a number", Body::chunked(), "two\r\nok\r\n0\r\n\r\n", Err(BadFraming)),
            ("NUL in extension", Body::chunked(), "2;\0\r\nok\r\n0\r\n\r\n", Err(BadFraming)),
            ("data overruns", Body::chunked(), "2\r\nokay\r\n", Err(BadFraming)),
            ("data runs short", Body::chunked(), "3\r\nok\r\n0\r\n\r\n", Err(BadFraming)),
            ("bare LF behind size", Body::chunked(), "2\nok\r\n0\r\n\r\n", Err(BadFraming)),
            ("bare CR behind size", Body::chunked(), "2\rok\r\n0\r\n\r\n", Err(BadFraming)),
            ("bare LF behind data", Body::chunked(), "2\r\nok\n0\r\n\r\n", Err(BadFraming)),
            ("bare LF in extension", Body::chunked(), "2;a\nb\r\nok\r\n0\r\n\r\n", Err(BadFraming)),
            ("bare LF behind last", Body::chunked(), "0\r\n\n", Err(BadFraming)),
            ("trailer without colon", Body::chunked(), "0\r\nGET / HTTP/1.1\r\n\r\n", Err(BadFraming)),
            ("trailer with space", Body::chunked(), "0\r\nX : y\r\n\r\n", Err(BadFraming)),
            ("folded trailer", Body::chunked(), "0\r\nX: y\r\n z\r\n\r\n", Err(BadFraming)),
            ("line too long", Body::chunked(), &long_line, Err(BadFraming)),
            ("trailers too long", Body::chunked(), &trailers, Err(BadFraming)),
        ];
        for (what, body, input, want) in cases {
            let want = want.map(|(body, rest)| (body.to_string(), rest.to_string()));
            // However the network cuts the bytes, the answer is the same.
            for piece in (1..=input.len().max(1)).filter(|piece| *piece < 40 || piece % 97 == 0) {
                assert_eq!(
                    read(*body, input.as_bytes(), piece),
                    want,
                    "{what} by {piece}"
                );
            }
            assert_eq!(read(*body, input.as_bytes(), input.len()), want, "{what}");
        }
    }
}
