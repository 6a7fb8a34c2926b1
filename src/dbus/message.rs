//! Messages: header and body. Pure (D-Bus specification, "Message Protocol").

use super::wire::{Malformed, Reader, Writer};
use crate::limits::DBUS_MESSAGE_BYTES_MAX;

/// What a message is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Asks an object to do something.
    Call,
    /// The answer.
    Return,
    /// The answer that something went wrong.
    Error,
    /// Said to whoever listens.
    Signal,
    /// A kind that is not known, which is to be passed over.
    Other,
}

/// Header fields that are read; others are passed over.
const PATH: u8 = 1;
const INTERFACE: u8 = 2;
const MEMBER: u8 = 3;
const ERROR_NAME: u8 = 4;
const REPLY_SERIAL: u8 = 5;
const DESTINATION: u8 = 6;
const SENDER: u8 = 7;
const SIGNATURE: u8 = 8;

/// Flags of a call.
const NO_REPLY_EXPECTED: u8 = 1;
const FIXED_BYTES: usize = 16;

/// One message. What is absent is empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// What it is for.
    pub kind: Kind,
    /// The sender's number of it; 0 until it is sent.
    pub serial: u32,
    /// Of an answer: the number of its call.
    pub reply_serial: u32,
    /// The object.
    pub path: String,
    /// The interface of the object.
    pub interface: String,
    /// The method or signal.
    pub member: String,
    /// What went wrong: a dotted name.
    pub error: String,
    /// Who is to get it.
    pub destination: String,
    /// Who sent it, by unique name; the bus says so.
    pub sender: String,
    /// Nobody waits for an answer.
    pub is_one_way: bool,
    signature: String,
    body: Vec<u8>,
    is_big: bool,
}

impl Message {
    fn new(kind: Kind, path: &str, interface: &str, member: &str) -> Message {
        Message {
            kind,
            serial: 0,
            reply_serial: 0,
            path: path.to_owned(),
            interface: interface.to_owned(),
            member: member.to_owned(),
            error: String::new(),
            destination: String::new(),
            sender: String::new(),
            is_one_way: false,
            signature: String::new(),
            body: Vec::new(),
            is_big: false,
        }
    }

    /// A call without arguments of `interface.member` at the object `path` of `destination`.
    #[must_use]
    pub fn call(destination: &str, path: &str, interface: &str, member: &str) -> Message {
        let mut message = Message::new(Kind::Call, path, interface, member);
        destination.clone_into(&mut message.destination);
        message
    }

    /// A signal without arguments, of the object `path`.
    #[must_use]
    pub fn signal(path: &str, interface: &str, member: &str) -> Message {
        Message::new(Kind::Signal, path, interface, member)
    }

    /// The answer to a call.
    #[must_use]
    pub fn reply(call: &Message) -> Message {
        let mut message = Message::new(Kind::Return, "", "", "");
        message.reply_serial = call.serial;
        message.destination.clone_from(&call.sender);
        message
    }

    /// The answer that a call failed: a dotted name, and a sentence.
    #[must_use]
    pub fn failure(call: &Message, name: &str, said: &str) -> Message {
        let mut message = Message::reply(call);
        message.kind = Kind::Error;
        name.clone_into(&mut message.error);
        message.with("s", &mut |out| out.str(said))
    }

    /// The same with arguments of these types, which `write` writes.
    #[must_use]
    pub fn with(mut self, signature: &str, write: &mut dyn FnMut(&mut Writer)) -> Message {
        signature.clone_into(&mut self.signature);
        let mut out = Writer::default();
        write(&mut out);
        self.body = out.into_bytes();
        self
    }

    /// The types of the arguments.
    #[must_use]
    pub fn signature(&self) -> &str {
        &self.signature
    }

    /// Reads the arguments.
    ///
    /// # Errors
    /// When they are not of these types.
    pub fn body(&self, signature: &str) -> Result<Reader<'_>, Malformed> {
        if self.signature != signature {
            return Err(Malformed("the arguments have other types"));
        }
        Ok(Reader::new(&self.body, self.is_big))
    }

    /// The sentence of a failure, if it has one.
    #[must_use]
    pub fn said(&self) -> &str {
        let text = self
            .signature
            .starts_with('s')
            .then(|| Reader::new(&self.body, self.is_big).str());
        text.and_then(Result::ok).unwrap_or_default()
    }

    /// The bytes of the message.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::default();
        out.u8(b'l');
        out.u8(match self.kind {
            Kind::Call => 1,
            Kind::Return => 2,
            Kind::Error => 3,
            Kind::Signal | Kind::Other => 4,
        });
        out.u8(if self.is_one_way {
            NO_REPLY_EXPECTED
        } else {
            0
        });
        out.u8(1);
        out.u32(u32::try_from(self.body.len()).unwrap_or(u32::MAX));
        out.u32(self.serial);
        out.array(8, &mut |out| {
            let texts = [
                (PATH, "o", &self.path),
                (INTERFACE, "s", &self.interface),
                (MEMBER, "s", &self.member),
                (ERROR_NAME, "s", &self.error),
                (DESTINATION, "s", &self.destination),
            ];
            for (code, kind, text) in texts.iter().filter(|(_, _, text)| !text.is_empty()) {
                out.align(8);
                out.u8(*code);
                out.variant(kind, &mut |out| out.str(text));
            }
            if self.reply_serial != 0 {
                out.align(8);
                out.u8(REPLY_SERIAL);
                out.variant("u", &mut |out| out.u32(self.reply_serial));
            }
            if !self.signature.is_empty() {
                out.align(8);
                out.u8(SIGNATURE);
                out.variant("g", &mut |out| out.signature(&self.signature));
            }
        });
        out.align(8);
        let mut bytes = out.into_bytes();
        bytes.extend(&self.body);
        bytes
    }

    /// The first message of `bytes` and how long it is; `None` while it is not complete.
    ///
    /// # Errors
    /// When the bytes are no message, or one that is too large.
    pub fn decode(bytes: &[u8]) -> Result<Option<(Message, usize)>, Malformed> {
        if bytes.len() < FIXED_BYTES {
            return Ok(None);
        }
        let is_big = match bytes[0] {
            b'l' => false,
            b'B' => true,
            _ => return Err(Malformed("a message has no byte order")),
        };
        if bytes[3] != 1 {
            return Err(Malformed("a message is of another version of the protocol"));
        }
        let mut fixed = Reader::new(&bytes[4..FIXED_BYTES], is_big);
        let body = fixed.u32()? as usize;
        let serial = fixed.u32()?;
        let fields = fixed.u32()? as usize;
        let too_large = Malformed("a message is too large");
        if body > DBUS_MESSAGE_BYTES_MAX || fields > DBUS_MESSAGE_BYTES_MAX {
            return Err(too_large);
        }
        let begin = (FIXED_BYTES + fields).next_multiple_of(8);
        let length = begin + body;
        if length > DBUS_MESSAGE_BYTES_MAX {
            return Err(too_large);
        }
        let Some(bytes) = bytes.get(..length) else {
            return Ok(None);
        };
        if serial == 0 {
            return Err(Malformed("a message has no number"));
        }
        let mut message = Message::new(kind(bytes[1])?, "", "", "");
        (message.serial, message.is_big) = (serial, is_big);
        message.is_one_way = bytes[2] & NO_REPLY_EXPECTED != 0;
        let mut header = Reader::new(&bytes[..begin], is_big);
        header.skip("(yyyyuu)")?;
        message.fields(header.array(8)?)?;
        header.align(8)?;
        message.check()?;
        message.body = bytes[begin..].to_vec();
        let mut read = Reader::new(&message.body, is_big);
        let mut rest = &*message.signature;
        while !rest.is_empty() {
            rest = read.skip(rest)?;
        }
        if !read.is_at_end() {
            return Err(Malformed("a message has more than its arguments"));
        }
        Ok(Some((message, length)))
    }

    fn fields(&mut self, mut fields: Reader<'_>) -> Result<(), Malformed> {
        while !fields.is_at_end() {
            fields.align(8)?;
            let code = fields.u8()?;
            let kind = fields.variant()?;
            let text = match (code, kind) {
                (PATH, "o") => &mut self.path,
                (INTERFACE, "s") => &mut self.interface,
                (MEMBER, "s") => &mut self.member,
                (ERROR_NAME, "s") => &mut self.error,
                (DESTINATION, "s") => &mut self.destination,
                (SENDER, "s") => &mut self.sender,
                (REPLY_SERIAL, "u") => {
                    self.reply_serial = fields.u32()?;
                    continue;
                }
                (SIGNATURE, "g") => {
                    fields.signature()?.clone_into(&mut self.signature);
                    continue;
                }
                (0..=SIGNATURE, _) => return Err(Malformed("a header field is of another type")),
                _ => {
                    fields.skip(kind)?;
                    continue;
                }
            };
            fields.str()?.clone_into(text);
        }
        Ok(())
    }

    /// Whether there is what such a message needs.
    fn check(&self) -> Result<(), Malformed> {
        let needs: &[&str] = match self.kind {
            Kind::Call => &[&self.path, &self.member],
            Kind::Signal => &[&self.path, &self.interface, &self.member],
            Kind::Error => &[&self.error],
            Kind::Return | Kind::Other => &[],
        };
        let is_answer = matches!(self.kind, Kind::Return | Kind::Error);
        if needs.iter().any(|text| text.is_empty()) || is_answer && self.reply_serial == 0 {
            return Err(Malformed("a header field is missing"));
        }
        Ok(())
    }
}

fn kind(byte: u8) -> Result<Kind, Malformed> {
    Ok(match byte {
        0 => return Err(Malformed("a message is of no kind")),
        1 => Kind::Call,
        2 => Kind::Return,
        3 => Kind::Error,
        4 => Kind::Signal,
        _ => Kind::Other,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Message {
        let call = Message::call("org.example", "/a/b", "org.example.I", "Do");
        let mut call = call.with("sa(sv)", &mut |out| {
            out.str("os-update.service");
            out.array(8, &mut |out| {
                out.align(8);
                out.str("RemainAfterExit");
                out.variant("b", &mut |out| out.bool(true));
            });
        });
        call.serial = 9;
        call
    }

    #[test]
    fn messages_come_back() {
        let mut failure = Message::failure(&sample(), "org.example.Error", "no");
        failure.serial = 3;
        let mut signal = Message::signal("/", "i.i", "Changed");
        signal.serial = 4;
        for message in [sample(), failure, signal] {
            let bytes = message.encode();
            let (found, length) = Message::decode(&bytes).unwrap().unwrap();
            assert_eq!((&found, length), (&message, bytes.len()));
        }
        let failure = Message::failure(&sample(), "org.example.Error", "no");
        assert_eq!((failure.said(), failure.reply_serial), ("no", 9));
    }

    #[test]
    fn every_cut_is_incomplete_and_nothing_else() {
        let bytes = sample().encode();
        for cut in 0..bytes.len() {
            assert_eq!(Message::decode(&bytes[..cut]), Ok(None), "{cut}");
        }
        let twice = [&bytes[..], &bytes[..5]].concat();
        let (_, length) = Message::decode(&twice).unwrap().unwrap();
        assert_eq!(length, bytes.len());
    }

    #[test]
    fn every_changed_byte_is_refused_or_read_and_never_more() {
        let bytes = sample().encode();
        for at in 0..bytes.len() {
            for value in 0..=255 {
                let mut bytes = bytes.clone();
                bytes[at] = value;
                if let Ok(Some((_, length))) = Message::decode(&bytes) {
                    assert!(length <= bytes.len());
                }
            }
        }
    }

    #[test]
    fn noise_behind_a_good_beginning_ends_in_an_answer() {
        let mut random = fastrand::Rng::with_seed(8);
        for _ in 0..20_000 {
            let mut bytes = sample().encode();
            let end = random.usize(..bytes.len());
            for _ in 0..random.usize(..12) {
                let at = random.usize(..bytes.len());
                bytes[at] = random.u8(..);
            }
            let _ = Message::decode(&bytes);
            bytes.truncate(end);
            bytes.extend((0..random.usize(..64)).map(|_| random.u8(..)));
            let _ = Message::decode(&bytes);
        }
    }

    #[test]
    fn sizes_are_refused_before_they_are_read() {
        let mut bytes = sample().encode();
        bytes[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(Message::decode(&bytes).is_err());
        let mut bytes = sample().encode();
        bytes[12..16].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(Message::decode(&bytes[..16]).is_err());
    }

    #[test]
    fn arguments_of_other_types_are_not_read() {
        assert!(sample().body("s").is_err());
        let message = sample();
        let mut read = message.body("sa(sv)").unwrap();
        assert_eq!(read.str(), Ok("os-update.service"));
    }
}
