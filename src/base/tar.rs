//! Tar streams as container engines send them (POSIX.1-2017 pax, ustar; GNU long names).
//!
//! Fed with whatever arrives; answers with entries and pieces of their content. Knows no files.

/// One header, and what every content is padded to.
const BLOCK: usize = 512;
/// The content of a header about the next entry: its long names, and more that nobody reads.
const EXTENSION_BYTES_MAX: u64 = 64 * 1024;

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A file of so many bytes.
    File(u64),
    /// A directory.
    Directory,
    /// A symbolic link to this.
    Symlink(String),
    /// Another name of the entry of this path.
    Link(String),
    /// A device, a pipe, or what is not known.
    Other,
}

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// As it is in the stream.
    pub path: String,
    /// The permission bits.
    pub mode: u32,
    /// What it is.
    pub kind: Kind,
}

/// What comes out.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// An entry begins.
    Entry(Entry),
    /// The next bytes of the file that began last.
    Data(&'a [u8]),
}

/// Not a tar stream, or one that is damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadTar(pub &'static str);

/// The reader.
#[derive(Debug, Default)]
pub struct Tar {
    header: Vec<u8>,
    /// Content bytes to come, and padding behind them.
    left: u64,
    padding: u64,
    /// What the content is.
    content: Content,
    /// What the last extension said of the next entry.
    path: Option<String>,
    link: Option<String>,
    size: Option<u64>,
    is_over: bool,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum Content {
    #[default]
    Skipped,
    File,
    /// Of a header of this type.
    Extension(u8, Vec<u8>),
}

impl Tar {
    /// Takes from the front of `bytes`; `None`: all of them are taken.
    ///
    /// # Errors
    /// When it is no tar stream.
    pub fn next<'a>(&mut self, bytes: &mut &'a [u8]) -> Result<Option<Piece<'a>>, BadTar> {
        while !bytes.is_empty() {
            if self.left > 0 {
                let taken = take(bytes, &mut self.left);
                match &mut self.content {
                    Content::File => return Ok(Some(Piece::Data(taken))),
                    Content::Extension(_, held) => held.extend_from_slice(taken),
                    Content::Skipped => {}
                }
                continue;
            }
            if let Content::Extension(kind, held) = std::mem::take(&mut self.content) {
                self.extended(kind, &held)?;
            }
            if self.padding > 0 {
                take(bytes, &mut self.padding);
                continue;
            }
            if self.is_over {
                *bytes = &[];
                break;
            }
            let mut missing = (BLOCK - self.header.len()) as u64;
            let taken = take(bytes, &mut missing);
            self.header.extend_from_slice(taken);
            if missing > 0 {
                continue;
            }
            let header = std::mem::take(&mut self.header);
            if header.iter().all(|byte| *byte == 0) {
                self.is_over = true;
            } else if let Some(entry) = self.begun(&header)? {
                return Ok(Some(Piece::Entry(entry)));
            }
        }
        Ok(None)
    }

    /// Whether its end was seen.
    #[must_use]
    pub const fn is_over(&self) -> bool {
        self.is_over
    }

    fn begun(&mut self, header: &[u8]) -> Result<Option<Entry>, BadTar> {
        check_sum(header)?;
        let kind = header[156];
        let size = match self.size.take() {
            Some(size) => size,
            None => number(&header[124..136])?,
        };
        let is_extension = matches!(kind, b'x' | b'g' | b'L' | b'K');
        if is_extension && size > EXTENSION_BYTES_MAX {
            return Err(BadTar("an extension is too large"));
        }
        // Links have no content, whatever their size says.
        self.left = match kind {
            b'1'..=b'6' => 0,
            _ => size,
        };
        self.padding = self.left.wrapping_neg() % BLOCK as u64;
        if is_extension {
            self.content = Content::Extension(kind, Vec::new());
            return Ok(None);
        }
        let path = match self.path.take() {
            Some(path) => path,
            None => name(header)?,
        };
        let link = match self.link.take() {
            Some(link) => link,
            None => text(&header[157..257])?.to_owned(),
        };
        let kind = match kind {
            b'0' | 0 | b'7' if path.ends_with('/') => Kind::Directory,
            b'0' | 0 | b'7' => Kind::File(self.left),
            b'1' => Kind::Link(link),
            b'2' => Kind::Symlink(link),
            b'5' => Kind::Directory,
            _ => Kind::Other,
        };
        self.content = match kind {
            Kind::File(_) => Content::File,
            _ => Content::Skipped,
        };
        let mode = u32::try_from(number(&header[100..108])? & 0o7777).unwrap_or(0);
        Ok(Some(Entry { path, mode, kind }))
    }

    fn extended(&mut self, kind: u8, held: &[u8]) -> Result<(), BadTar> {
        match kind {
            b'L' => self.path = Some(text(held)?.to_owned()),
            b'K' => self.link = Some(text(held)?.to_owned()),
            b'x' => {
                for (key, value) in records(held)? {
                    match key {
                        "path" => self.path = Some(value.to_owned()),
                        "linkpath" => self.link = Some(value.to_owned()),
                        "size" => {
                            let size = value.parse();
                            self.size = Some(size.map_err(|_| BadTar("a size is no number"))?);
                        }
                        _ => {}
                    }
                }
            }
            // Of all entries to come; none of it is about names.
            _ => {}
        }
        Ok(())
    }
}

/// Splits off at most `left` bytes.
fn take<'a>(bytes: &mut &'a [u8], left: &mut u64) -> &'a [u8] {
    let most = usize::try_from(*left).unwrap_or(usize::MAX);
    let (taken, rest) = bytes.split_at(most.min(bytes.len()));
    *bytes = rest;
    *left -= taken.len() as u64;
    taken
}

/// `LENGTH KEY=VALUE\n` each; values that are no text are left out.
fn records(mut held: &[u8]) -> Result<Vec<(&str, &str)>, BadTar> {
    const BAD: BadTar = BadTar("an extension cannot be read");
    let mut found = Vec::new();
    while !held.is_empty() {
        let space = held.iter().position(|byte| *byte == b' ').ok_or(BAD)?;
        let length = std::str::from_utf8(&held[..space]).ok();
        let length: usize = length.and_then(|text| text.parse().ok()).ok_or(BAD)?;
        let record = held.get(space + 1..length).ok_or(BAD)?;
        held = &held[length..];
        let record = record.strip_suffix(b"\n").ok_or(BAD)?;
        if let Ok(record) = std::str::from_utf8(record) {
            found.push(record.split_once('=').ok_or(BAD)?);
        }
    }
    Ok(found)
}

fn check_sum(header: &[u8]) -> Result<(), BadTar> {
    let sum = header.iter().enumerate().map(|(at, byte)| match at {
        148..156 => u64::from(b' '),
        _ => u64::from(*byte),
    });
    match number(&header[148..156]) {
        Ok(said) if said == sum.sum::<u64>() => Ok(()),
        _ => Err(BadTar("a header's sum is wrong")),
    }
}

/// Octal digits between blanks, or a large number in binary behind a set bit.
fn number(field: &[u8]) -> Result<u64, BadTar> {
    const BAD: BadTar = BadTar("a number cannot be read");
    if field[0] & 0x80 != 0 {
        let bytes = field[1..].iter();
        return bytes
            .copied()
            .try_fold(u64::from(field[0] & 0x7f), |sum, byte| {
                let sum = sum.checked_mul(256).ok_or(BAD)?;
                Ok(sum + u64::from(byte))
            });
    }
    let is_blank = |byte: &u8| *byte == b' ' || *byte == 0;
    let start = field
        .iter()
        .position(|byte| !is_blank(byte))
        .unwrap_or(field.len());
    let digits = field[start..].iter().take_while(|byte| !is_blank(byte));
    digits.copied().try_fold(0_u64, |sum, byte| match byte {
        b'0'..=b'7' => Ok(sum.checked_mul(8).ok_or(BAD)? + u64::from(byte - b'0')),
        _ => Err(BAD),
    })
}

/// Up to the first zero byte.
fn text(field: &[u8]) -> Result<&str, BadTar> {
    let end = field
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(field.len());
    std::str::from_utf8(&field[..end]).map_err(|_| BadTar("a name is no UTF-8"))
}

fn name(header: &[u8]) -> Result<String, BadTar> {
    let name = text(&header[..100])?;
    // GNU's form has other things where ustar has a prefix.
    let prefix = match &header[257..263] {
        b"ustar\0" => text(&header[345..500])?,
        _ => "",
    };
    Ok(match prefix {
        "" => name.to_owned(),
        prefix => format!("{prefix}/{name}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A header and its content.
    fn entry(name: &str, kind: u8, content: &[u8], link: &str) -> Vec<u8> {
        let mut header = vec![0; BLOCK];
        header[..name.len()].copy_from_slice(name.as_bytes());
        header[100..107].copy_from_slice(b"0000755");
        header[124..135].copy_from_slice(format!("{:011o}", content.len()).as_bytes());
        header[148..156].fill(b' ');
        header[156] = kind;
        header[157..157 + link.len()].copy_from_slice(link.as_bytes());
        header[257..263].copy_from_slice(b"ustar\0");
        let sum: u64 = header.iter().map(|byte| u64::from(*byte)).sum();
        header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        header.extend_from_slice(content);
        header.resize(header.len().next_multiple_of(BLOCK), 0);
        header
    }

    fn record(key: &str, value: &str) -> String {
        let rest = format!(" {key}={value}\n");
        let mut length = rest.len();
        while length != rest.len() + length.to_string().len() {
            length = rest.len() + length.to_string().len();
        }
        format!("{length}{rest}")
    }

    /// Every entry with its content, read in pieces of so many bytes.
    fn read(stream: &[u8], size: usize) -> Result<Vec<(Entry, Vec<u8>)>, BadTar> {
        let mut tar = Tar::default();
        let mut found: Vec<(Entry, Vec<u8>)> = Vec::new();
        for mut bytes in stream.chunks(size) {
            while let Some(piece) = tar.next(&mut bytes)? {
                match piece {
                    Piece::Entry(entry) => found.push((entry, Vec::new())),
                    Piece::Data(data) => found.last_mut().unwrap().1.extend_from_slice(data),
                }
            }
        }
        assert!(tar.is_over(), "its end was seen");
        Ok(found)
    }

    fn ended(entries: &[Vec<u8>]) -> Vec<u8> {
        let mut stream = entries.concat();
        stream.resize(stream.len() + 2 * BLOCK, 0);
        stream
    }

    #[test]
    fn all_kinds_in_all_pieces() {
        let long = "d/".repeat(80) + "file";
        let stream = ended(&[
            entry("app/", b'5', b"", ""),
            entry("app/entry.sh", b'0', &[7; 700], ""),
            entry("app/empty", 0, b"", ""),
            entry("app/soft", b'2', b"", "entry.sh"),
            entry("app/hard", b'1', b"", "app/entry.sh"),
            entry("app/pipe", b'6', b"", ""),
            entry("g", b'g', record("comment", "x").as_bytes(), ""),
            entry(
                "p",
                b'x',
                (record("path", &long) + &record("mtime", "1.5")).as_bytes(),
                "",
            ),
            entry("short", b'0', b"pax", ""),
            entry("././@LongLink", b'L', (long.clone() + "\0").as_bytes(), ""),
            entry("short", b'0', &[8; 512], ""),
        ]);
        let file = |path: &str, content: &[u8]| {
            let kind = Kind::File(content.len() as u64);
            let entry = Entry {
                path: path.to_owned(),
                mode: 0o755,
                kind,
            };
            (entry, content.to_vec())
        };
        let other = |path: &str, kind| {
            (
                Entry {
                    path: path.to_owned(),
                    mode: 0o755,
                    kind,
                },
                Vec::new(),
            )
        };
        let want = vec![
            other("app/", Kind::Directory),
            file("app/entry.sh", &[7; 700]),
            file("app/empty", b""),
            other("app/soft", Kind::Symlink("entry.sh".to_owned())),
            other("app/hard", Kind::Link("app/entry.sh".to_owned())),
            other("app/pipe", Kind::Other),
            file(&long, b"pax"),
            file(&long, &[8; 512]),
        ];
        for size in [1, 7, 511, 512, 513, 4096, stream.len()] {
            assert_eq!(read(&stream, size).unwrap(), want, "{size}");
        }
    }

    #[test]
    fn a_size_beyond_the_field_comes_by_an_extension_or_in_binary() {
        let mut binary = entry("big", b'0', b"", "");
        binary[124] = 0x80;
        binary[125..136].fill(0);
        binary[135] = 3;
        binary[148..156].fill(b' ');
        let sum: u64 = binary.iter().map(|byte| u64::from(*byte)).sum();
        binary[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        binary.extend_from_slice(b"abc");
        binary.resize(2 * BLOCK, 0);
        let extended = entry("p", b'x', record("size", "3").as_bytes(), "");
        let stream = ended(&[binary, extended, entry("x", b'0', b"def", "")]);
        let found = read(&stream, 100).unwrap();
        let contents: Vec<_> = found.iter().map(|(_, content)| &content[..]).collect();
        assert_eq!(contents, [b"abc", b"def"]);
    }

    /// 5 in 32 bits, 8 GiB less one as the octal digits go: a file is as long as it says.
    #[test]
    fn issue_9_files_of_more_than_an_address_can_count() {
        for length in [(1_u64 << 32) + 5, (1 << 33) - 1] {
            let mut header = entry("big", b'0', b"", "");
            header[124..135].copy_from_slice(format!("{length:011o}").as_bytes());
            header[148..156].fill(b' ');
            let sum: u64 = header.iter().map(|byte| u64::from(*byte)).sum();
            header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
            header.resize(3 * BLOCK, 7);
            let (mut tar, mut bytes) = (Tar::default(), &header[..]);
            while let Some(_piece) = tar.next(&mut bytes).unwrap() {}
            assert_eq!(tar.left, length - 2 * BLOCK as u64);
        }
    }

    #[test]
    fn damage_is_seen() {
        let whole = ended(&[entry("a", b'0', b"content", "")]);
        for at in [0, 100, 124, 148, 156] {
            let mut damaged = whole.clone();
            damaged[at] ^= 1;
            assert!(read(&damaged, 512).is_err(), "{at}");
        }
        for bad in ["9999 a=b\n", "5 ab\n", "x", "3 a"] {
            let stream = ended(&[
                entry("p", b'x', bad.as_bytes(), ""),
                entry("a", b'0', b"", ""),
            ]);
            assert!(read(&stream, 512).is_err(), "{bad}");
        }
        let huge = entry("p", b'x', &vec![b'x'; 65 * 1024], "");
        assert!(read(&ended(&[huge]), 512).is_err());
        // Whatever comes, nothing panics.
        let mut rng = fastrand::Rng::with_seed(7);
        for _ in 0..2000 {
            let mut noise = whole.clone();
            for _ in 0..rng.usize(1..4) {
                let at = rng.usize(..noise.len());
                noise[at] = rng.u8(..);
            }
            let mut tar = Tar::default();
            let mut bytes = &noise[..];
            while let Ok(Some(_)) = tar.next(&mut bytes) {}
        }
    }
}
