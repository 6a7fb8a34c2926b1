//! The two streams of a command in one, as engines send them without a terminal. Pure.
//!
//! Each frame is the number of its stream, three zeros, the length of what follows as 32 bits,
//! the highest byte first, and that many bytes.

/// Which stream a piece belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stream {
    /// Standard output.
    Out,
    /// Standard error.
    Err,
}

/// Splits what comes in pieces, cut wherever it pleases.
#[derive(Debug, Default)]
pub(super) struct Frames {
    head: [u8; 8],
    /// How much of the head is there.
    filled: usize,
    /// What is to come of the frame's bytes.
    left: usize,
}

/// The bytes are no frames.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct BadFrame;

impl Frames {
    /// Feeds a piece; calls `each` with the bytes of each stream in it.
    pub(super) fn feed(
        &mut self,
        mut piece: &[u8],
        mut each: impl FnMut(Stream, &[u8]),
    ) -> Result<(), BadFrame> {
        while let Some(&byte) = piece.first() {
            if self.left == 0 {
                self.head[self.filled] = byte;
                self.filled += 1;
                piece = &piece[1..];
                if self.filled == self.head.len() {
                    self.begin()?;
                }
                continue;
            }
            let (bytes, rest) = piece.split_at(self.left.min(piece.len()));
            // The head was checked when it was complete.
            let stream = if self.head[0] == 2 {
                Stream::Err
            } else {
                Stream::Out
            };
            each(stream, bytes);
            self.left -= bytes.len();
            piece = rest;
        }
        Ok(())
    }

    fn begin(&mut self) -> Result<(), BadFrame> {
        // 0 is standard input, which engines write on standard output.
        let [0..=2, 0, 0, 0, length @ ..] = self.head else {
            return Err(BadFrame);
        };
        self.left = usize::try_from(u32::from_be_bytes(length)).map_err(|_| BadFrame)?;
        self.filled = 0;
        Ok(())
    }

    /// Whether the last frame ended where the input did.
    pub(super) const fn is_complete(&self) -> bool {
        self.filled == 0 && self.left == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(bytes: &[u8], piece: usize) -> Result<(String, String), BadFrame> {
        let (mut frames, mut out, mut err) = (Frames::default(), vec![], vec![]);
        for piece in bytes.chunks(piece) {
            frames.feed(piece, |stream, bytes| match stream {
                Stream::Out => out.extend_from_slice(bytes),
                Stream::Err => err.extend_from_slice(bytes),
            })?;
        }
        if !frames.is_complete() {
            return Err(BadFrame);
        }
        Ok((
            String::from_utf8(out).unwrap(),
            String::from_utf8(err).unwrap(),
        ))
    }

    #[test]
    fn s_tko_11_split_and_mixed_output_comes_out_whole_however_it_is_cut() {
        let long = "x".repeat(300);
        let frame = |stream: u8, text: &str| {
            let length = u32::try_from(text.len()).unwrap().to_be_bytes();
            [&[stream, 0, 0, 0], &length[..], text.as_bytes()].concat()
        };
        let both = [
            frame(1, "tr"),
            frame(2, "warn"),
            frame(1, "ue\n"),
            frame(2, "ing"),
        ]
        .concat();
        let good = |out: &str, err: &str| Ok((out.to_owned(), err.to_owned()));
        #[rustfmt::skip]
        let cases = [
            (vec![], good("", "")),
            (both, good("true\n", "warning")),
            ([frame(1, ""), frame(0, "a"), frame(1, &long)].concat(), good(&format!("a{long}"), "")),
            (frame(3, "x"), Err(BadFrame)),
            (b"\x01\x01\0\0\0\0\0\x01x".to_vec(), Err(BadFrame)),
            (b"plain text of a terminal".to_vec(), Err(BadFrame)),
            (frame(1, "cut")[..9].to_vec(), Err(BadFrame)),
            (frame(1, "cut")[..7].to_vec(), Err(BadFrame)),
        ];
        for (bytes, want) in cases {
            for piece in 1..=bytes.len().max(1) {
                assert_eq!(split(&bytes, piece), want, "{bytes:?} in pieces of {piece}");
            }
        }
    }
}
