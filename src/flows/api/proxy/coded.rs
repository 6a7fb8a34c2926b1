//! A body that is read here and came compressed. Pure.

use crate::http::gzip::{BadGzip, Gunzip};

/// The whole of a gzip stream decoded; `None`: that is more than `max` bytes.
///
/// # Errors
/// It is no gzip, damaged or cut short.
pub fn plain(mut coded: &[u8], max: usize) -> Result<Option<Vec<u8>>, BadGzip> {
    let (mut gunzip, mut out) = (Gunzip::default(), Vec::new());
    while let Some(step) = gunzip.next(coded)? {
        let piece = gunzip.bytes(step.data);
        if piece.len() > max - out.len() {
            return Ok(None);
        }
        out.extend_from_slice(piece);
        coded = &coded[step.used..];
    }
    gunzip.may_end().then_some(Some(out)).ok_or(BadGzip)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn d_24_a_whole_stream_ends_and_is_not_too_long() {
        // What gzip makes of `ok`.
        let coded = b"\x1f\x8b\x08\0\0\0\0\0\0\x03\xcb\xcf\x06\0\x47\xdd\xdc\x79\x02\0\0\0";
        assert_eq!(plain(coded, 2), Ok(Some(b"ok".to_vec())));
        assert_eq!(plain(coded, 1), Ok(None));
        let twice = [coded.as_slice(), coded].concat();
        assert_eq!(plain(&twice, 4), Ok(Some(b"okok".to_vec())));
        assert_eq!(plain(&twice, 3), Ok(None));
        assert_eq!(plain(&coded[..coded.len() - 1], 2), Err(BadGzip));
        assert_eq!(plain(b"{}", 2), Err(BadGzip));
        assert_eq!(plain(b"", 0), Ok(Some(Vec::new())));
    }
}
