//! One connection to a bus: authentication, calls, and what arrives between them.

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::time::Duration;

use async_io::{Async, Timer};
use futures_lite::{AsyncReadExt as _, AsyncWriteExt as _, future};

use super::address::{self, Address};
use super::message::{Kind, Message};
use super::wire::Malformed;
use crate::limits::{DBUS_AUTH_LINE_BYTES_MAX, DBUS_MESSAGE_BYTES_MAX, DBUS_WAITING_MAX};

const BUS: &str = "org.freedesktop.DBus";
const BUS_PATH: &str = "/org/freedesktop/DBus";
/// What is read at once.
const PIECE_BYTES: usize = 4096;
/// The largest message for which the buffer is kept.
const KEPT_BYTES: usize = 16 * 1024;

/// What to do about a failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BusErrorKind {
    /// Nobody listens at the bus's address.
    Absent,
    /// The connection broke, or what came was no message.
    Lost,
    /// No answer in time.
    TimedOut,
    /// The other side said no: the name of its error.
    Refused(String),
}

/// A failed exchange with the bus. Decide by `kind`, show with `Display`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BusError {
    /// What to do about it.
    pub kind: BusErrorKind,
    /// A sentence.
    pub said: String,
}

impl BusError {
    fn new(kind: BusErrorKind, said: impl Into<String>) -> BusError {
        let said = said.into();
        BusError { kind, said }
    }

    /// The connection is of no more use.
    pub fn lost(said: impl Into<String>) -> BusError {
        BusError::new(BusErrorKind::Lost, said)
    }

    /// Whether the other side answered with this error.
    #[must_use]
    pub fn is(&self, name: &str) -> bool {
        matches!(&self.kind, BusErrorKind::Refused(found) if found == name)
    }
}

impl fmt::Display for BusError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.said)
    }
}

impl std::error::Error for BusError {}

impl From<Malformed> for BusError {
    fn from(malformed: Malformed) -> BusError {
        BusError::lost(format!("the bus sent what is no message: {malformed}"))
    }
}

impl From<std::io::Error> for BusError {
    fn from(error: std::io::Error) -> BusError {
        BusError::lost(format!("the connection to the bus broke: {error}"))
    }
}

/// What the bus says to a wish for a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestedName {
    /// It is ours now.
    Ours,
    /// Somebody else has it.
    Taken,
}

/// A connection, which has no task and no thread of its own.
#[derive(Debug)]
pub struct Connection {
    stream: Async<UnixStream>,
    input: Vec<u8>,
    /// What a dropped future has not written.
    output: Vec<u8>,
    serial: u32,
    /// Signals and calls that came while an answer was waited for.
    waiting: VecDeque<Message>,
    /// The unique name that the bus gave.
    name: String,
}

impl Connection {
    /// Connects to the first bus of the list that answers, and says hello, within `limit`.
    ///
    /// # Errors
    /// When none does.
    pub async fn open(list: &str, limit: Duration) -> Result<Connection, BusError> {
        within(limit, "open the bus", async {
            let absent = |said| BusError::new(BusErrorKind::Absent, said);
            let mut failed = absent("there is no bus".to_owned());
            for address in address::parse(list).map_err(absent)? {
                match connect(&address).await {
                    Ok(stream) => return Connection::greet(stream).await,
                    Err(error) => {
                        let (Address::Path(at) | Address::Abstract(at)) = &address;
                        failed = absent(format!("the bus at '{at}' cannot be opened: {error}"));
                    }
                }
            }
            Err(failed)
        })
        .await
    }

    async fn greet(stream: Async<UnixStream>) -> Result<Connection, BusError> {
        let mut connection = Connection {
            stream,
            input: Vec::new(),
            output: Vec::new(),
            serial: 0,
            waiting: VecDeque::new(),
            name: String::new(),
        };
        // Without a user's number: the kernel tells it, in whatever name space it is seen.
        connection.say(b"\0AUTH EXTERNAL\r\n").await?;
        if connection.line().await? == "DATA" {
            connection.say(b"DATA\r\n").await?;
        } else {
            return Err(BusError::lost("the bus does not take this user's word"));
        }
        let answer = connection.line().await?;
        if !answer.starts_with("OK ") {
            return Err(BusError::lost(format!(
                "the bus refuses this user: {answer}"
            )));
        }
        connection.say(b"BEGIN\r\n").await?;
        let hello = Message::call(BUS, BUS_PATH, BUS, "Hello");
        let answer = connection.exchange(hello).await?;
        connection.name = answer.body("s")?.str()?.to_owned();
        Ok(connection)
    }

    /// One line of the authentication, without its end.
    async fn line(&mut self) -> Result<String, BusError> {
        loop {
            if let Some(end) = self.input.windows(2).position(|two| two == b"\r\n") {
                let line = String::from_utf8_lossy(&self.input[..end]).into_owned();
                self.input.drain(..end + 2);
                return Ok(line);
            }
            if self.input.len() > DBUS_AUTH_LINE_BYTES_MAX {
                return Err(BusError::lost("the bus does not speak D-Bus"));
            }
            self.read().await?;
        }
    }

    async fn say(&mut self, bytes: &[u8]) -> Result<(), BusError> {
        self.output.extend(bytes);
        while !self.output.is_empty() {
            let written = self.stream.write(&self.output).await?;
            if written == 0 {
                return Err(BusError::lost("the bus takes nothing more"));
            }
            self.output.drain(..written);
        }
        Ok(())
    }

    async fn read(&mut self) -> Result<(), BusError> {
        let mut piece = [0; PIECE_BYTES];
        let read = self.stream.read(&mut piece).await?;
        if read == 0 {
            return Err(BusError::lost("the bus closed the connection"));
        }
        self.input.extend(&piece[..read]);
        Ok(())
    }

    /// The unique name of this connection.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Sends a message and returns its number.
    ///
    /// # Errors
    /// When the connection is of no more use.
    pub async fn send(&mut self, mut message: Message) -> Result<u32, BusError> {
        self.serial = self.serial.wrapping_add(1).max(1);
        message.serial = self.serial;
        let bytes = message.encode();
        if bytes.len() > DBUS_MESSAGE_BYTES_MAX {
            return Err(BusError::lost("a message is too large to be sent"));
        }
        self.say(&bytes).await?;
        Ok(message.serial)
    }

    /// Sends a call and awaits its answer, `limit` at most.
    ///
    /// # Errors
    /// When there is none, or it is that the call failed.
    pub async fn call(&mut self, message: Message, limit: Duration) -> Result<Message, BusError> {
        let doing = format!("call {} of {}", message.member, message.destination);
        within(limit, &doing, self.exchange(message)).await
    }

    async fn exchange(&mut self, message: Message) -> Result<Message, BusError> {
        let doing = message.member.clone();
        let serial = self.send(message).await?;
        loop {
            let message = self.next().await?;
            let is_answer = message.reply_serial == serial;
            match message.kind {
                Kind::Return if is_answer => return Ok(message),
                Kind::Error if is_answer => {
                    let said = match message.said() {
                        "" => format!("{doing}: {}", message.error),
                        said => format!("{doing}: {said}"),
                    };
                    return Err(BusError::new(BusErrorKind::Refused(message.error), said));
                }
                Kind::Signal | Kind::Call => {
                    // Whoever acts on signals looks again when the last of them is there.
                    if self.waiting.len() >= DBUS_WAITING_MAX {
                        self.waiting.pop_front();
                    }
                    self.waiting.push_back(message);
                }
                // Answers to what nobody waits for any more.
                Kind::Return | Kind::Error | Kind::Other => {}
            }
        }
    }

    /// The next signal or call, in the order of their arrival.
    ///
    /// # Errors
    /// When the connection is of no more use.
    pub async fn receive(&mut self) -> Result<Message, BusError> {
        loop {
            let message = match self.waiting.pop_front() {
                Some(message) => message,
                None => self.next().await?,
            };
            if matches!(message.kind, Kind::Signal | Kind::Call) {
                return Ok(message);
            }
        }
    }

    async fn next(&mut self) -> Result<Message, BusError> {
        loop {
            if let Some((message, length)) = Message::decode(&self.input)? {
                self.input.drain(..length);
                if self.input.is_empty() && self.input.capacity() > KEPT_BYTES {
                    self.input = Vec::new();
                }
                return Ok(message);
            }
            self.read().await?;
        }
    }

    /// Asks for the messages of a rule (D-Bus specification, "Match Rules").
    ///
    /// # Errors
    /// When the bus refuses.
    pub async fn listen(&mut self, rule: &str, limit: Duration) -> Result<(), BusError> {
        let call = Message::call(BUS, BUS_PATH, BUS, "AddMatch");
        let call = call.with("s", &mut |out| out.str(rule));
        self.call(call, limit).await.map(drop)
    }

    /// Asks for a well-known name; nobody is made to give it up.
    ///
    /// # Errors
    /// When the bus refuses.
    pub async fn request_name(
        &mut self,
        name: &str,
        limit: Duration,
    ) -> Result<RequestedName, BusError> {
        const DO_NOT_QUEUE: u32 = 4;
        let call = Message::call(BUS, BUS_PATH, BUS, "RequestName");
        let call = call.with("su", &mut |out| {
            out.str(name);
            out.u32(DO_NOT_QUEUE);
        });
        let answer = self.call(call, limit).await?;
        Ok(match answer.body("u")?.u32()? {
            1 | 4 => RequestedName::Ours,
            _ => RequestedName::Taken,
        })
    }

    /// Whether somebody has this name now, or would be started to have it.
    ///
    /// # Errors
    /// When the bus does not answer.
    pub async fn has_owner(&mut self, name: &str, limit: Duration) -> Result<bool, BusError> {
        let call = Message::call(BUS, BUS_PATH, BUS, "NameHasOwner");
        let call = call.with("s", &mut |out| out.str(name));
        Ok(self.call(call, limit).await?.body("b")?.bool()?)
    }
}

async fn connect(address: &Address) -> std::io::Result<Async<UnixStream>> {
    match address {
        Address::Path(path) => Async::<UnixStream>::connect(path).await,
        // The kernel answers at once on this machine.
        Address::Abstract(name) => Async::new(UnixStream::connect_addr(
            &SocketAddr::from_abstract_name(name.as_bytes())?,
        )?),
    }
}

/// The outcome of `work`, or that it took too long.
pub(crate) async fn within<T>(
    limit: Duration,
    doing: &str,
    work: impl Future<Output = Result<T, BusError>>,
) -> Result<T, BusError> {
    let late = async {
        Timer::after(limit).await;
        let said = format!("{doing}: no answer within {} s", limit.as_secs());
        Err(BusError::new(BusErrorKind::TimedOut, said))
    };
    future::or(work, late).await
}

#[cfg(test)]
mod tests;
