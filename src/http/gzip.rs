//! gzip, decoded as it arrives. Pure.
//!
//! [`Gunzip::next`] works like [`Body::next`](super::body::Body::next): bytes
//! in, a piece of what they mean out. It holds one window of 32 KiB, and hands
//! out slices of it.

use std::ops::Range;

use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::inflate_flags::TINFL_FLAG_HAS_MORE_INPUT;
use miniz_oxide::inflate::core::{DecompressorOxide, decompress};

use crate::limits::{HTTP_GZIP_FREE_BYTES, HTTP_GZIP_HEAD_BYTES_MAX, HTTP_GZIP_RATIO_MAX};

/// Deflate looks back so far.
const WINDOW_BYTES: usize = 32 * 1024;

/// What arrived is no gzip, is damaged, or grows beyond all proportion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadGzip;

/// One step over the front of the input.
#[derive(Debug, PartialEq, Eq)]
pub struct Step {
    /// Drop so many bytes from the front of the input, then call again.
    pub used: usize,
    /// Where the decoded bytes lie in [`Gunzip::bytes`], until the next call.
    pub data: Range<usize>,
}

/// Where in a member of the stream we are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum At {
    #[default]
    Head,
    Data,
    /// At the checksum and length behind the data.
    Tail,
}

/// A gzip stream being decoded.
#[derive(Default)]
pub struct Gunzip {
    at: At,
    /// What has arrived of a head or tail.
    held: Vec<u8>,
    inflate: Box<DecompressorOxide>,
    /// Of [`WINDOW_BYTES`], from the first head on.
    window: Vec<u8>,
    pos: usize,
    /// Whether there is more to come out before more goes in.
    is_full: bool,
    sum: u32,
    member_bytes: u32,
    bytes_in: u64,
    bytes_out: u64,
}

impl std::fmt::Debug for Gunzip {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Gunzip({:?})", self.at)
    }
}

impl Gunzip {
    /// Whether the stream may end here.
    #[must_use]
    pub fn may_end(&self) -> bool {
        self.at == At::Head && self.held.is_empty()
    }

    /// These bytes, as handed out by the last [`Gunzip::next`].
    #[must_use]
    pub fn bytes(&self, range: Range<usize>) -> &[u8] {
        &self.window[range]
    }

    /// Advances over the front of `input`; `Ok(None)` means "feed me more".
    pub fn next(&mut self, input: &[u8]) -> Result<Option<Step>, BadGzip> {
        if self.at == At::Data {
            return self.inflate(input);
        }
        let Some(byte) = input.first() else {
            return Ok(None);
        };
        self.held.push(*byte);
        self.bytes_in += 1;
        match self.at {
            At::Tail if self.held.len() == 8 => self.end_member()?,
            At::Head if is_head(&self.held)? => {
                (self.sum, self.member_bytes) = (0, 0);
                self.inflate.init();
                self.window.resize(WINDOW_BYTES, 0);
                self.held.clear();
                self.at = At::Data;
            }
            _ => {}
        }
        let (used, data) = (1, 0..0);
        Ok(Some(Step { used, data }))
    }

    fn inflate(&mut self, input: &[u8]) -> Result<Option<Step>, BadGzip> {
        if input.is_empty() && !self.is_full {
            return Ok(None);
        }
        let flags = TINFL_FLAG_HAS_MORE_INPUT;
        let (status, used, out) =
            decompress(&mut self.inflate, input, &mut self.window, self.pos, flags);
        let data = self.pos..self.pos + out;
        self.pos = data.end % WINDOW_BYTES;
        self.is_full = status == TINFLStatus::HasMoreOutput;
        match status {
            TINFLStatus::Done => self.at = At::Tail,
            TINFLStatus::HasMoreOutput | TINFLStatus::NeedsMoreInput => {}
            _ => return Err(BadGzip),
        }
        self.sum = crc32(self.sum, &self.window[data.clone()]);
        self.member_bytes = self
            .member_bytes
            .wrapping_add(u32::try_from(out).unwrap_or(0));
        self.bytes_in += used as u64;
        self.bytes_out += out as u64;
        if self.is_bomb() {
            return Err(BadGzip);
        }
        Ok(Some(Step { used, data }))
    }

    /// Whether so much came out of so little that no more is wanted (R-HTTP-4).
    #[must_use]
    pub fn is_bomb(&self) -> bool {
        let free = HTTP_GZIP_FREE_BYTES as u64;
        self.bytes_out > free.max(self.bytes_in * HTTP_GZIP_RATIO_MAX)
    }

    /// Behind a member there may be another one.
    fn end_member(&mut self) -> Result<(), BadGzip> {
        let tail = [self.sum.to_le_bytes(), self.member_bytes.to_le_bytes()];
        if self.held != tail.as_flattened() {
            return Err(BadGzip);
        }
        self.held.clear();
        self.at = At::Head;
        Ok(())
    }
}

/// Whether this is a whole head, and not only the beginning of one.
fn is_head(bytes: &[u8]) -> Result<bool, BadGzip> {
    const MAGIC: [u8; 3] = [0x1f, 0x8b, 8];
    let begins = bytes.iter().zip(MAGIC).all(|(byte, want)| *byte == want);
    let flags = bytes.get(3).copied().unwrap_or_default();
    if !begins || flags & 0xe0 != 0 || bytes.len() > HTTP_GZIP_HEAD_BYTES_MAX {
        return Err(BadGzip);
    }
    let mut at = 10;
    if flags & 4 != 0 {
        let Some([low, high]) = bytes.get(at..at + 2) else {
            return Ok(false);
        };
        at += 2 + usize::from(u16::from_le_bytes([*low, *high]));
    }
    // A name and a comment, each with a zero behind it.
    for flag in [8, 16] {
        if flags & flag != 0 {
            let Some(len) = bytes.iter().skip(at).position(|byte| *byte == 0) else {
                return Ok(false);
            };
            at += len + 1;
        }
    }
    at += if flags & 2 != 0 { 2 } else { 0 };
    Ok(bytes.len() >= at)
}

/// The checksum of gzip, continued over these bytes.
fn crc32(sum: u32, bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!sum, |sum, byte| {
        let sum = sum ^ u32::from(*byte);
        let sum = CRC_NIBBLES[(sum & 15) as usize] ^ sum >> 4;
        CRC_NIBBLES[(sum & 15) as usize] ^ sum >> 4
    })
}

/// What each half of a byte does to the checksum, whose polynomial stands at 8.
const CRC_NIBBLES: [u32; 16] = [
    0x00000000, 0x1db71064, 0x3b6e20c8, 0x26d930ac, 0x76dc4190, 0x6b6b51f4, 0x4db26158, 0x5005713c,
    0xedb88320, 0xf00f9344, 0xd6d6a3e8, 0xcb61b38c, 0x9b64c2b0, 0x86d3d2d4, 0xa00ae278, 0xbdbdf21c,
];

#[cfg(test)]
mod tests {
    use super::*;
    use miniz_oxide::deflate::compress_to_vec;

    /// A member with this head's flags and what belongs to them.
    fn member(flags: u8, extra: &[u8], data: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0x1f, 0x8b, 8, flags, 0, 0, 0, 0, 0, 3];
        bytes.extend_from_slice(extra);
        bytes.extend_from_slice(&compress_to_vec(data, 6));
        bytes.extend_from_slice(&crc32(0, data).to_le_bytes());
        bytes.extend_from_slice(&u32::try_from(data.len()).unwrap_or(0).to_le_bytes());
        bytes
    }

    /// What comes out, and whether it may end there, fed in pieces.
    fn decode(input: &[u8], piece: usize) -> Result<(Vec<u8>, bool), BadGzip> {
        let (mut gunzip, mut out) = (Gunzip::default(), Vec::new());
        for mut piece in input.chunks(piece) {
            while let Some(step) = gunzip.next(piece)? {
                out.extend_from_slice(gunzip.bytes(step.data));
                piece = &piece[step.used..];
            }
        }
        Ok((out, gunzip.may_end()))
    }

    #[test]
    fn streams() {
        let text = b"hello, hello, hello".as_slice();
        let plain = member(0, b"", text);
        let noise: Vec<u8> = (0..200_000u32)
            .map(|n| (n.wrapping_mul(n) >> 7).to_le_bytes()[0])
            .collect();
        let mut damaged = plain.clone();
        damaged[10] |= 6;
        let mut wrong_sum = plain.clone();
        let at = wrong_sum.len() - 8;
        wrong_sum[at] ^= 1;
        let whole = |data: &[u8]| Ok((data.to_vec(), true));
        #[rustfmt::skip]
        let cases = [
            ("plain", plain.clone(), whole(text)),
            ("nothing at all", vec![], whole(b"")),
            ("empty", member(0, b"", b""), whole(b"")),
            ("name, comment, sum", member(26, b"name\0comment\0xx", text), whole(text)),
            ("extra and text", member(5, b"\x03\0abc", text), whole(text)),
            ("two members", [plain.clone(), plain.clone()].concat(), whole(&[text, text].concat())),
            ("large", member(0, b"", &noise), whole(&noise)),
            ("cut short", plain[..plain.len() - 1].to_vec(), Ok((text.to_vec(), false))),
            ("identity", text.to_vec(), Err(BadGzip)),
            ("zlib", b"\x78\x9c123456".to_vec(), Err(BadGzip)),
            ("reserved flags", member(32, b"", text), Err(BadGzip)),
            ("wrong sum", wrong_sum, Err(BadGzip)),
            ("damaged", damaged, Err(BadGzip)),
            ("junk behind", [plain, b"junk".to_vec()].concat(), Err(BadGzip)),
            ("endless name", [&[0x1f, 0x8b, 8, 8][..], &[1; 600]].concat(), Err(BadGzip)),
            ("a bomb", member(0, b"", &vec![0; 3_000_000]), Err(BadGzip)),
        ];
        for (what, input, want) in cases {
            for piece in [1, 2, 3, 7, 64, 1000, input.len().max(1)] {
                assert_eq!(decode(&input, piece), want, "{what} by {piece}");
            }
        }
    }

    #[test]
    fn the_checksum_is_that_of_gzip() {
        assert_eq!(crc32(0, b"123456789"), 0xcbf4_3926);
        assert_eq!(crc32(crc32(0, b"1234"), b"56789"), 0xcbf4_3926);
    }
}
