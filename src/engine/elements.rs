//! The elements of a JSON array, one at a time. Pure.
//!
//! A list of the engine may be large; its elements are not. This finds where one
//! ends without building anything, so that a list costs the memory of its largest
//! element.

/// Splits an array that comes in pieces.
#[derive(Debug, Default)]
pub(super) struct Elements {
    depth: usize,
    in_string: bool,
    escaped: bool,
    element: Vec<u8>,
}

/// The bytes are not an array of objects, or one element is too large.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct BadArray;

impl Elements {
    /// Feeds a piece; calls `each` with every element that it completes.
    pub(super) fn feed(
        &mut self,
        piece: &[u8],
        max: usize,
        mut each: impl FnMut(&[u8]),
    ) -> Result<(), BadArray> {
        for &byte in piece {
            if self.depth >= 2 {
                if self.element.len() >= max {
                    return Err(BadArray);
                }
                self.element.push(byte);
            }
            if self.in_string {
                self.string(byte);
                continue;
            }
            match byte {
                b'"' if self.depth >= 2 => self.in_string = true,
                b'{' | b'[' => {
                    self.depth += 1;
                    if self.depth == 2 {
                        self.element.push(byte);
                    }
                }
                b'}' | b']' => {
                    self.depth = self.depth.checked_sub(1).ok_or(BadArray)?;
                    if self.depth == 1 {
                        each(&self.element);
                        self.element.clear();
                    }
                }
                _ if self.depth >= 2 || byte.is_ascii_whitespace() => {}
                b',' if self.depth == 1 => {}
                // `null` stands for an empty list.
                b'n' | b'u' | b'l' if self.depth == 0 => {}
                _ => return Err(BadArray),
            }
        }
        Ok(())
    }

    fn string(&mut self, byte: u8) {
        match byte {
            _ if self.escaped => self.escaped = false,
            b'\\' => self.escaped = true,
            b'"' => self.in_string = false,
            _ => {}
        }
    }

    /// Whether the array ended where the input did.
    pub(super) const fn is_complete(&self) -> bool {
        self.depth == 0 && !self.in_string
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(text: &str, piece: usize) -> Result<Vec<String>, BadArray> {
        let (mut elements, mut found) = (Elements::default(), Vec::new());
        for piece in text.as_bytes().chunks(piece) {
            let each = |element: &[u8]| found.push(String::from_utf8(element.to_vec()).unwrap());
            elements.feed(piece, 64, each)?;
        }
        if elements.is_complete() {
            Ok(found)
        } else {
            Err(BadArray)
        }
    }

    #[test]
    fn elements_come_out_whole_however_the_bytes_are_cut() {
        #[rustfmt::skip]
        let cases: &[(&str, Result<&[&str], BadArray>)] = &[
            ("[]\n", Ok(&[])),
            ("null", Ok(&[])),
            (r#"[{"a":1}, {"b":[{}]}]"#, Ok(&[r#"{"a":1}"#, r#"{"b":[{}]}"#])),
            (r#"[{"a":"}]\"{"}]"#, Ok(&[r#"{"a":"}]\"{"}"#])),
            (r#"[{"a":"\\"}]"#, Ok(&[r#"{"a":"\\"}"#])),
            ("[{}", Err(BadArray)),
            ("[{}]]", Err(BadArray)),
            ("x", Err(BadArray)),
            ("[1]", Err(BadArray)),
        ];
        for (text, want) in cases {
            for piece in 1..=text.len() {
                let got = split(text, piece);
                let got = got
                    .as_ref()
                    .map(|found| found.iter().map(String::as_str).collect());
                let want = want.as_ref().map(|found| found.to_vec());
                assert_eq!(got, want, "{text} in pieces of {piece}");
            }
        }
        let long = format!("[{{\"a\":\"{}\"}}]", "x".repeat(100));
        assert_eq!(
            split(&long, 7),
            Err(BadArray),
            "an element that is too large"
        );
    }
}
