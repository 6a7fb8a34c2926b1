//! Values on the wire: marshalling and its reverse. Pure (D-Bus specification, "Marshaling").

/// Bytes that are no message, or no value of the type they should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

impl std::fmt::Display for Malformed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0)
    }
}

/// Arrays, structures and variants within each other.
const DEPTH_MAX: u8 = 32;
/// A signature is no longer: its length is one byte.
const SIGNATURE_BYTES_MAX: usize = 255;

/// Writes values, little-endian. Offsets are those of the message or of its body.
#[derive(Debug, Default)]
pub struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    /// What was written.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// Zeros up to a multiple of `to`.
    pub fn align(&mut self, to: usize) {
        self.bytes.resize(self.bytes.len().next_multiple_of(to), 0);
    }

    /// `y`.
    pub fn u8(&mut self, value: u8) {
        self.bytes.push(value);
    }

    /// `u`.
    pub fn u32(&mut self, value: u32) {
        self.align(4);
        self.bytes.extend(value.to_le_bytes());
    }

    /// `i`.
    pub fn i32(&mut self, value: i32) {
        self.u32(value.cast_unsigned());
    }

    /// `t`.
    pub fn u64(&mut self, value: u64) {
        self.align(8);
        self.bytes.extend(value.to_le_bytes());
    }

    /// `b`.
    pub fn bool(&mut self, value: bool) {
        self.u32(u32::from(value));
    }

    /// `s` or `o`. What is behind a NUL is left out: the wire has no way to say it.
    pub fn str(&mut self, value: &str) {
        let value = value.split('\0').next().unwrap_or_default();
        self.u32(u32::try_from(value.len()).unwrap_or(u32::MAX));
        self.bytes.extend(value.as_bytes());
        self.bytes.push(0);
    }

    /// `g`.
    pub fn signature(&mut self, value: &str) {
        let length = value.len().min(SIGNATURE_BYTES_MAX);
        self.bytes.push(u8::try_from(length).unwrap_or(u8::MAX));
        self.bytes.extend(&value.as_bytes()[..length]);
        self.bytes.push(0);
    }

    /// `v` of this type, which `write` writes.
    pub fn variant(&mut self, signature: &str, write: &mut dyn FnMut(&mut Writer)) {
        self.signature(signature);
        write(self);
    }

    /// `a`, of elements that begin at a multiple of `align`; `write` writes all of them.
    pub fn array(&mut self, align: usize, write: &mut dyn FnMut(&mut Writer)) {
        self.u32(0);
        let length_at = self.bytes.len() - 4;
        self.align(align);
        let begin = self.bytes.len();
        write(self);
        let length = u32::try_from(self.bytes.len() - begin).unwrap_or(u32::MAX);
        self.bytes[length_at..length_at + 4].copy_from_slice(&length.to_le_bytes());
    }
}

/// Reads values. Every failure leaves the reader unusable, never the process.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    is_big: bool,
}

type Read<T> = Result<T, Malformed>;

impl<'a> Reader<'a> {
    /// Of values that begin at a multiple of eight bytes. `is_big`: most significant first.
    #[must_use]
    pub const fn new(bytes: &'a [u8], is_big: bool) -> Reader<'a> {
        Reader {
            bytes,
            at: 0,
            is_big,
        }
    }

    /// Where the next value begins, padding aside.
    #[must_use]
    pub const fn at(&self) -> usize {
        self.at
    }

    /// Passes over padding, which has to be zeros.
    ///
    /// # Errors
    /// When it is not, or not there.
    pub fn align(&mut self, to: usize) -> Read<()> {
        let padding = self.at.next_multiple_of(to) - self.at;
        if self.take(padding)?.iter().any(|byte| *byte != 0) {
            return Err(Malformed("padding is not zero"));
        }
        Ok(())
    }

    fn take(&mut self, count: usize) -> Read<&'a [u8]> {
        let end = self.at.checked_add(count);
        let found = end.and_then(|end| self.bytes.get(self.at..end));
        let found = found.ok_or(Malformed("a value is cut short"))?;
        self.at += count;
        Ok(found)
    }

    /// `y`.
    ///
    /// # Errors
    /// As of every reading here: when the bytes are no such value.
    pub fn u8(&mut self) -> Read<u8> {
        Ok(self.take(1)?[0])
    }

    /// `u`.
    ///
    /// # Errors
    /// See [`Reader::u8`].
    pub fn u32(&mut self) -> Read<u32> {
        self.align(4)?;
        let mut bytes = [0; 4];
        bytes.copy_from_slice(self.take(4)?);
        Ok(if self.is_big {
            u32::from_be_bytes(bytes)
        } else {
            u32::from_le_bytes(bytes)
        })
    }

    /// `i`.
    ///
    /// # Errors
    /// See [`Reader::u8`].
    pub fn i32(&mut self) -> Read<i32> {
        self.u32().map(u32::cast_signed)
    }

    /// `b`.
    ///
    /// # Errors
    /// See [`Reader::u8`].
    pub fn bool(&mut self) -> Read<bool> {
        match self.u32()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Malformed("a boolean is neither 0 nor 1")),
        }
    }

    /// `s`, and `o` where the caller does not care for the difference.
    ///
    /// # Errors
    /// See [`Reader::u8`].
    pub fn str(&mut self) -> Read<&'a str> {
        let length = self.u32()? as usize;
        self.text(length)
    }

    /// `g`.
    ///
    /// # Errors
    /// See [`Reader::u8`].
    pub fn signature(&mut self) -> Read<&'a str> {
        let length = usize::from(self.u8()?);
        let text = self.text(length)?;
        let mut rest = text.as_bytes();
        while !rest.is_empty() {
            rest = one_type(rest, 0)?.1;
        }
        Ok(text)
    }

    fn text(&mut self, length: usize) -> Read<&'a str> {
        let bytes = self.take(length)?;
        if self.u8()? != 0 || bytes.contains(&0) {
            return Err(Malformed("a text does not end with its NUL"));
        }
        std::str::from_utf8(bytes).map_err(|_| Malformed("a text is not UTF-8"))
    }

    /// The signature of a `v`; its value comes next.
    ///
    /// # Errors
    /// See [`Reader::u8`].
    pub fn variant(&mut self) -> Read<&'a str> {
        let signature = self.signature()?;
        let (_, rest) = one_type(signature.as_bytes(), 0)?;
        if !rest.is_empty() {
            return Err(Malformed("a variant is not of one type"));
        }
        Ok(signature)
    }

    /// `a`, of elements that begin at a multiple of `align`: a reader of the whole to see
    /// whether there is one more, which `self` has passed.
    ///
    /// # Errors
    /// See [`Reader::u8`].
    pub fn array(&mut self, align: usize) -> Read<Reader<'a>> {
        let length = self.u32()? as usize;
        self.align(align)?;
        let begin = self.at;
        self.take(length)?;
        Ok(Reader {
            bytes: &self.bytes[..self.at],
            at: begin,
            is_big: self.is_big,
        })
    }

    /// Whether nothing is left.
    #[must_use]
    pub const fn is_at_end(&self) -> bool {
        self.at == self.bytes.len()
    }

    /// Passes over one value of the first type of `signature`; returns the types behind it.
    ///
    /// # Errors
    /// See [`Reader::u8`].
    pub fn skip<'s>(&mut self, signature: &'s str) -> Read<&'s str> {
        let rest = self.skip_one(signature.as_bytes(), 0)?;
        Ok(&signature[signature.len() - rest.len()..])
    }

    fn skip_one<'s>(&mut self, signature: &'s [u8], depth: u8) -> Read<&'s [u8]> {
        let (one, rest) = one_type(signature, depth)?;
        match one[0] {
            b'y' => drop(self.u8()?),
            b'b' => drop(self.bool()?),
            b'n' | b'q' => {
                self.align(2)?;
                self.take(2)?;
            }
            b'i' | b'u' | b'h' => drop(self.u32()?),
            b'x' | b't' | b'd' => {
                self.align(8)?;
                self.take(8)?;
            }
            b's' | b'o' => drop(self.str()?),
            b'g' => drop(self.signature()?),
            b'v' => {
                let signature = self.variant()?;
                self.skip_one(signature.as_bytes(), depth + 1)?;
            }
            b'a' => {
                let mut elements = self.array(alignment(one[1]))?;
                while !elements.is_at_end() {
                    match one[1] {
                        b'{' => elements.skip_members(&one[2..one.len() - 1], depth + 1)?,
                        _ => drop(elements.skip_one(&one[1..], depth + 1)?),
                    }
                }
            }
            _ => self.skip_members(&one[1..one.len() - 1], depth + 1)?,
        }
        Ok(rest)
    }

    /// Passes over a structure, or an entry of a dictionary, with these members.
    fn skip_members(&mut self, mut members: &[u8], depth: u8) -> Read<()> {
        self.align(8)?;
        while !members.is_empty() {
            members = self.skip_one(members, depth)?;
        }
        Ok(())
    }
}

/// Where a value of a type that begins so may begin.
const fn alignment(first: u8) -> usize {
    match first {
        b'y' | b'g' | b'v' => 1,
        b'n' | b'q' => 2,
        b'x' | b't' | b'd' | b'(' | b'{' => 8,
        _ => 4,
    }
}

/// Splits the first complete type off a signature.
fn one_type(signature: &[u8], depth: u8) -> Read<(&[u8], &[u8])> {
    if depth > DEPTH_MAX {
        return Err(Malformed("values nest too deeply"));
    }
    let bad = Malformed("a signature is none");
    let first = *signature.first().ok_or(bad)?;
    let length = match first {
        b'y' | b'b' | b'n' | b'q' | b'i' | b'u' | b'h' | b'x' | b't' | b'd' | b's' | b'o'
        | b'g' | b'v' => 1,
        b'a' if signature.get(1) == Some(&b'{') => {
            let (key, rest) = one_type(&signature[2..], depth + 1)?;
            let (_, rest) = one_type(rest, depth + 1)?;
            if key.len() != 1 || key[0] == b'v' || rest.first() != Some(&b'}') {
                return Err(bad);
            }
            signature.len() - rest.len() + 1
        }
        b'a' => 1 + one_type(&signature[1..], depth + 1)?.0.len(),
        b'(' => {
            let mut rest = one_type(&signature[1..], depth + 1)?.1;
            while rest.first() != Some(&b')') {
                rest = one_type(rest, depth + 1)?.1;
            }
            signature.len() - rest.len() + 1
        }
        _ => return Err(bad),
    };
    if length > signature.len() {
        return Err(bad);
    }
    Ok(signature.split_at(length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_back() {
        let mut out = Writer::default();
        out.u8(7);
        out.u32(5);
        out.bool(true);
        out.str("hä");
        out.i32(-3);
        out.u64(1 << 40);
        out.array(8, &mut |out| {
            for (name, value) in [("a", 1), ("bc", 2)] {
                out.align(8);
                out.str(name);
                out.variant("u", &mut |out| out.u32(value));
            }
        });
        out.array(8, &mut |_| {});
        out.str("end");
        let bytes = out.into_bytes();
        let mut read = Reader::new(&bytes, false);
        assert_eq!(
            (read.u8(), read.u32(), read.bool()),
            (Ok(7), Ok(5), Ok(true))
        );
        assert_eq!((read.str(), read.i32()), (Ok("hä"), Ok(-3)));
        let mut skipping = read.clone();
        read.skip("t").unwrap();
        let mut entries = read.array(8).unwrap();
        let mut found = Vec::new();
        while !entries.is_at_end() {
            entries.align(8).unwrap();
            let name = entries.str().unwrap();
            assert_eq!(entries.variant(), Ok("u"));
            found.push((name, entries.u32().unwrap()));
        }
        assert_eq!(found, [("a", 1), ("bc", 2)]);
        let mut rest = "ta{sv}a(is)s";
        while !rest.is_empty() {
            rest = skipping.skip(rest).unwrap();
        }
        assert!(skipping.is_at_end());
    }

    #[test]
    fn signatures_that_are_none() {
        for bad in [
            "a", "(", "()", "(i", "a{", "a{s}", "a{vs}", "a{ss", "{sv}", "i)", "z", "a{asv}",
            "a{sss}", "({sv})",
        ] {
            let mut out = Writer::default();
            out.signature(bad);
            let bytes = out.into_bytes();
            assert!(Reader::new(&bytes, false).signature().is_err(), "{bad}");
        }
        let deep = "a".repeat(200) + "y";
        let mut out = Writer::default();
        out.signature(&deep);
        assert!(Reader::new(&out.into_bytes(), false).signature().is_err());
        for good in [
            "",
            "a{sv}",
            "a(sa(sv))",
            "a(sasb)",
            "aaa{ya{ss}}",
            "((i)(s))",
        ] {
            let mut out = Writer::default();
            out.signature(good);
            let bytes = out.into_bytes();
            assert_eq!(Reader::new(&bytes, false).signature(), Ok(good));
        }
    }

    #[test]
    fn variants_within_variants_end_somewhere() {
        let mut out = Writer::default();
        for _ in 0..100 {
            out.signature("v");
        }
        out.signature("y");
        out.u8(1);
        let bytes = out.into_bytes();
        let refused = Reader::new(&bytes, false).skip("v");
        assert_eq!(refused, Err(Malformed("values nest too deeply")));
    }

    #[test]
    fn texts_and_booleans_that_are_none() {
        let mut read = Reader::new(&[2, 0, 0, 0, b'a', b'b', b'c'], false);
        assert!(read.str().is_err(), "no NUL");
        let mut read = Reader::new(&[2, 0, 0, 0, b'a', 0, 0], false);
        assert!(read.str().is_err(), "a NUL within");
        let mut read = Reader::new(&[1, 0, 0, 0, 0xff, 0], false);
        assert!(read.str().is_err());
        assert!(Reader::new(&[2, 0, 0, 0], false).bool().is_err());
        let mut read = Reader::new(&[1, 9, 0, 0, 1, 0, 0, 0], false);
        read.u8().unwrap();
        assert!(read.u32().is_err(), "padding that is not zero");
        assert_eq!(Reader::new(&[0, 0, 1, 2], true).u32(), Ok(258));
        assert!(
            Reader::new(&[255, 255, 255, 255, 0], false)
                .array(1)
                .is_err()
        );
    }
}
