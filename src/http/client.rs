//! One exchange at a time, with time limits and a small pool (R-HTTP-1 to R-HTTP-10).

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::conn::{Conn, ConnError, Sent, after};
use super::head::{self, RESPONSE, are_fields, find, is_token, put_field, put_framing, put_line};
use super::pool::Pool;
use super::redirect::{self, Place, Refusal};
pub use super::response::Response;
pub use super::stream::Endpoint;
use super::stream::Stream;
use super::tls::TlsRoots;
pub use super::tunnel::Tunnel;
use super::url::{Url, is_target};
pub use super::{Error, ErrorKind};
use crate::limits::{
    HTTP_CONTINUE_WAIT, HTTP_HEAD_BYTES, HTTP_INTERIM_MAX, HTTP_POOL_MAX, HTTP_REDIRECTS_MAX,
};

const USER_AGENT: &str = concat!("helios/", env!("CARGO_PKG_VERSION"));

/// How long each part of an exchange may take (R-HTTP-3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// To find the addresses.
    pub resolve: Duration,
    /// To connect to one of them.
    pub connect: Duration,
    /// To agree on TLS.
    pub tls: Duration,
    /// From the request's end to the response's head; also every write.
    pub head: Duration,
    /// Between two pieces of the response's body.
    pub idle: Duration,
    /// All of it, body included.
    pub total: Option<Duration>,
}

/// A request.
#[derive(Debug, Clone, Copy, Default)]
pub struct Request<'a> {
    /// The method.
    pub method: &'a str,
    /// Path and query.
    pub target: &'a str,
    /// The client adds `Content-Length`, and where they are not given `Host`,
    /// `User-Agent` and, but for Unix sockets, `Accept-Encoding`. Only what it
    /// offers itself does it decode.
    pub headers: &'a [(&'a str, &'a str)],
    /// Field lines of somebody else's request, each with its line end: passed on as they
    /// are, and nothing but `Host` and the length is added to them (R-PRX-2).
    pub lines: Option<&'a [u8]>,
    /// The body.
    pub body: Option<&'a [u8]>,
    /// Instead of the client's own.
    pub timeouts: Option<Timeouts>,
}

/// What the next piece of a body comes to; none at its end.
pub type Piece<'a> = Pin<Box<dyn Future<Output = Result<Option<&'a [u8]>, Error>> + Send + 'a>>;

/// Where a request body comes from that is not there as a whole.
pub trait Source: Send {
    /// The next piece.
    fn next(&mut self) -> Piece<'_>;
}

/// How to find out whom to trust, where nobody has had to yet.
pub type Roots = dyn Fn() -> Result<Arc<TlsRoots>, String> + Send + Sync;

/// A client of one server. Shared by reference; every exchange in flight has a
/// connection of its own.
#[derive(Debug)]
pub struct Client {
    pool: Arc<Pool>,
    timeouts: Timeouts,
}

impl Client {
    /// A client that opens its first connection when it is first used.
    #[must_use]
    pub fn new(endpoint: Endpoint, timeouts: Timeouts) -> Client {
        Client::with_pool(endpoint, timeouts, HTTP_POOL_MAX)
    }

    /// The same, that keeps so many idle connections.
    #[must_use]
    pub fn with_pool(endpoint: Endpoint, timeouts: Timeouts, most: usize) -> Client {
        let pool = Arc::new(Pool::new(endpoint, most));
        Client { pool, timeouts }
    }

    /// Sends a request and waits for the response's head.
    ///
    /// To give up, drop the future: the connection is closed with it.
    pub async fn send(&self, request: Request<'_>) -> Result<Response, Error> {
        let exchange = self.exchange(&request)?;
        let repeatable = matches!(request.method, "GET" | "HEAD" | "OPTIONS");
        let mut pooled = self.pool.take();
        loop {
            let is_pooled = pooled.is_some();
            let mut conn = match pooled.take() {
                Some(conn) => conn,
                None => exchange.connect().await?,
            };
            let failed = |err| self.pool.error(err);
            let sent = exchange.send(&mut conn).await.map_err(failed)?;
            match exchange.wait(&mut conn, sent).await {
                Ok(()) => return exchange.response(conn, sent).await.map_err(failed),
                Err(ConnError::Timeout) => return Err(failed(ConnError::Timeout)),
                // Only a pooled connection that had died can be the reason, and
                // it is safe to try another (R-HTTP-6).
                Err(_) if is_pooled && (repeatable || sent == Sent::Nothing) => {}
                Err(err) => return Err(failed(err)),
            }
        }
    }

    /// Like [`Client::send`], with a body that comes piece by piece: of so many
    /// bytes, or in chunks. Where the request expects to be told to continue, none of it
    /// is asked for before that. A server that refuses gets no more of it.
    pub async fn send_from(
        &self,
        request: Request<'_>,
        length: Option<u64>,
        source: &mut dyn Source,
    ) -> Result<Response, Error> {
        let exchange = self.exchange(&request)?;
        let mut conn = exchange.connect().await?;
        exchange.write_head(&mut conn.out, true, length);
        let sent = exchange.send_pieces(&mut conn, length, source).await?;
        let failed = |err| self.pool.error(err);
        exchange.wait(&mut conn, sent).await.map_err(failed)?;
        exchange.response(conn, sent).await.map_err(failed)
    }

    /// Like [`Client::send`] for a `GET`, and follows at most
    /// [`HTTP_REDIRECTS_MAX`] redirects, never from https to http; another host
    /// or port is not told who asks (R-HTTP-8). `roots` are asked for when a
    /// redirect leads to https for the first time.
    ///
    /// A redirect that leads nowhere is the response.
    ///
    /// # Errors
    /// Those of [`Client::send`], and when there are too many, or to plain text.
    pub async fn get(&self, request: Request<'_>, roots: &Roots) -> Result<Response, Error> {
        let mut timeouts = request.timeouts.unwrap_or(self.timeouts);
        let end = timeouts.total.map(after);
        let mut headers = request.headers.to_vec();
        let mut response = self.send(request).await?;
        let Some(mut place) = self.place(request.target) else {
            return Ok(response);
        };
        for left in (0..=HTTP_REDIRECTS_MAX).rev() {
            let location = response.header("location");
            let location = location.filter(|_| redirect::is_redirect(response.status()));
            let next = match location.map(|location| redirect::follow(&place, location)) {
                Some(Ok(_)) if left == 0 => return Err(misled(&place, "on and on")),
                Some(Ok(next)) => next,
                Some(Err(Refusal::Downgrade)) => return Err(misled(&place, "to plain http")),
                Some(Err(Refusal::Malformed(_))) | None => return Ok(response),
            };
            response.discard().await;
            let server = |place: &Place| (place.server.host().to_owned(), place.server.port());
            if server(&next) != server(&place) {
                headers.retain(|(name, _)| !name.eq_ignore_ascii_case("authorization"));
            }
            timeouts.total = end.map(|end| end.saturating_duration_since(Instant::now()));
            let request = Request {
                target: &next.target,
                headers: &headers,
                timeouts: Some(timeouts),
                ..request
            };
            let endpoint = self.endpoint_at(&next.server, roots)?;
            response = Client::new(endpoint, timeouts).send(request).await?;
            place = next;
        }
        Ok(response)
    }

    fn endpoint_at(&self, url: &Url, roots: &Roots) -> Result<Endpoint, Error> {
        let (host, port) = (url.host().to_owned(), url.port());
        if !url.is_tls() {
            return Ok(self.behind_proxy(Endpoint::Tcp { host, port }));
        }
        let roots = match self.pool.endpoint.server() {
            Endpoint::Tls { roots, .. } => Arc::clone(roots),
            _ => roots().map_err(|why| Error::new(ErrorKind::Tls, why))?,
        };
        Ok(self.behind_proxy(Endpoint::Tls { host, port, roots }))
    }

    /// Wherever a redirect leads, the way out is the same.
    fn behind_proxy(&self, to: Endpoint) -> Endpoint {
        match &self.pool.endpoint {
            Endpoint::Proxied { proxy, .. } => Endpoint::Proxied {
                to: Arc::new(to),
                proxy: Arc::clone(proxy),
            },
            _ => to,
        }
    }

    /// Where a target of this client is; a Unix socket is no place to be led from.
    fn place(&self, target: &str) -> Option<Place> {
        let scheme = match self.pool.endpoint.server() {
            Endpoint::Tcp { .. } => "http",
            Endpoint::Tls { .. } => "https",
            _ => return None,
        };
        let authority = self.pool.endpoint.authority();
        Some(Place {
            server: Url::parse(&format!("{scheme}://{authority}")).ok()?,
            target: target.to_owned(),
        })
    }

    fn exchange<'r>(&'r self, request: &'r Request<'r>) -> Result<Exchange<'r>, Error> {
        check(request)?;
        let timeouts = request.timeouts.unwrap_or(self.timeouts);
        let end = timeouts.total.map(after);
        let given = |name| find(request.headers, name).is_some();
        // Between processes of one machine it would only cost.
        let is_local = matches!(self.pool.endpoint, Endpoint::Unix(_));
        let offers_gzip =
            !is_local && request.lines.is_none() && !given("accept-encoding") && !given("range");
        Ok(Exchange {
            pool: &self.pool,
            request,
            timeouts,
            end,
            offers_gzip,
        })
    }
}

fn misled(place: &Place, whither: &str) -> Error {
    let text = format!("{} redirects {whither}", place.server.authority());
    Error::new(ErrorKind::BadMessage, text)
}

/// Refuses what would not be one HTTP message.
fn check(request: &Request<'_>) -> Result<(), Error> {
    let what = match () {
        () if !is_token(request.method.as_bytes()) => "its method",
        () if !is_target(request.target) => "its target",
        () if !are_fields(request.headers) => "a header field",
        () if find(request.headers, "content-length").is_some() => "a length of its own",
        () if find(request.headers, "transfer-encoding").is_some() => "a coding of its own",
        () => return Ok(()),
    };
    let text = format!("the request cannot be sent: {what}");
    Err(Error::new(ErrorKind::Invalid, text))
}

/// One request on its way.
struct Exchange<'r> {
    pool: &'r Arc<Pool>,
    request: &'r Request<'r>,
    timeouts: Timeouts,
    end: Option<Instant>,
    offers_gzip: bool,
}

impl Exchange<'_> {
    async fn connect(&self) -> Result<Conn<Stream>, Error> {
        // In a box: it is several KiB, of which an exchange over a pooled connection needs none.
        let stream = Box::pin(self.pool.endpoint.connect(&self.timeouts, self.end));
        Ok(Conn::new(stream.await?))
    }

    /// Sends a whole request, or as much of it as the peer takes.
    async fn send(&self, conn: &mut Conn<Stream>) -> Result<Sent, ConnError> {
        let Request { method, body, .. } = *self.request;
        // A length of 0 is said where a body would be usual.
        let says_length = body.is_some() || ["POST", "PUT", "PATCH"].contains(&method);
        let body = body.unwrap_or_default();
        self.write_head(&mut conn.out, says_length, Some(body.len() as u64));
        let deadline = || self.head_deadline();
        conn.send_until_refused(body, deadline).await
    }

    /// Sends a head and the pieces behind it, until the peer takes no more.
    async fn send_pieces(
        &self,
        conn: &mut Conn<Stream>,
        length: Option<u64>,
        source: &mut dyn Source,
    ) -> Result<Sent, Error> {
        let limit = self.timeouts.head;
        let mut left = length;
        let mut sent = conn.send_out(&[], limit).await;
        let expects = find(self.request.headers, "expect").is_some();
        if expects && sent.is_ok() && !conn.wants_body(HTTP_CONTINUE_WAIT).await {
            return Ok(Sent::Part);
        }
        while sent.is_ok() {
            let Some(piece) = conn.unless_refused(source.next()).await else {
                return Ok(Sent::Part);
            };
            let Some(piece) = piece? else { break };
            if let Some(left) = &mut left {
                let less = left.checked_sub(piece.len() as u64);
                *left = less.ok_or_else(other_length)?;
                sent = conn.send(piece, limit).await;
            } else if !piece.is_empty() {
                sent = conn.send_chunk(piece, limit).await;
            }
        }
        match (sent, left) {
            // It may have said why before it closed.
            (Err(ConnError::Io(_)), _) => Ok(Sent::Part),
            (Err(err), _) => Err(self.pool.error(err)),
            (Ok(()), Some(1..)) => Err(other_length()),
            (Ok(()), Some(0)) => Ok(Sent::All),
            (Ok(()), None) => match conn.send_chunk(&[], limit).await {
                Ok(()) => Ok(Sent::All),
                Err(_) => Ok(Sent::Part),
            },
        }
    }

    /// Waits for the answer to begin.
    async fn wait(&self, conn: &mut Conn<Stream>, sent: Sent) -> Result<(), ConnError> {
        if sent != Sent::Nothing && conn.first_byte(self.head_deadline()).await? {
            return Ok(());
        }
        Err(ConnError::CutShort)
    }

    /// Reads heads until the one that counts.
    async fn response(&self, mut conn: Conn<Stream>, sent: Sent) -> Result<Response, ConnError> {
        for _ in 0..=HTTP_INTERIM_MAX {
            conn.read_head(RESPONSE, self.head_deadline()).await?;
            let mut head = head::response(conn.head(), self.request.method == "HEAD")?;
            match head.status {
                101 if find(self.request.headers, "upgrade").is_some() => {}
                101 => return Err(head::bad("it switches protocols unasked").into()),
                100..200 => continue,
                _ => {}
            }
            head.keep_alive &= sent == Sent::All;
            let limits = (self.timeouts.idle, self.end);
            return Response::new(conn, head, Arc::clone(self.pool), limits, self.offers_gzip);
        }
        Err(head::bad("it sends too many interim responses").into())
    }

    /// Puts the head together; the length is that of the body, if it is known.
    fn write_head(&self, out: &mut Vec<u8>, has_body: bool, length: Option<u64>) {
        let (request, endpoint) = (self.request, &self.pool.endpoint);
        let given = |name: &str| find(request.headers, name).is_some();
        out.clear();
        // At once, and not in as many steps as there are pieces.
        out.reserve(HTTP_HEAD_BYTES + request.lines.map_or(0, <[u8]>::len));
        let (method, target) = (request.method, request.target);
        if let Some(proxy) = endpoint.forwarder() {
            let host = endpoint.authority();
            put_line(out, format_args!("{method} http://{host}{target} HTTP/1.1"));
            if let Some(authorization) = &proxy.authorization {
                put_field(out, "Proxy-Authorization", authorization);
            }
        } else {
            put_line(out, format_args!("{method} {target} HTTP/1.1"));
        }
        if !given("host") {
            put_field(out, "Host", endpoint.authority());
        }
        if request.lines.is_none() && !given("user-agent") {
            put_field(out, "User-Agent", USER_AGENT);
        }
        if self.offers_gzip {
            put_field(out, "Accept-Encoding", "gzip");
        }
        if has_body {
            put_framing(out, length);
        }
        for (name, value) in request.headers {
            put_field(out, name, value);
        }
        out.extend_from_slice(request.lines.unwrap_or_default());
        put_line(out, format_args!(""));
    }

    fn head_deadline(&self) -> Instant {
        deadline(self.timeouts.head, self.end)
    }
}

fn other_length() -> Error {
    let text = "a request body is not as long as was said";
    Error::new(ErrorKind::Invalid, text)
}

/// So long from now, or the end of the whole exchange.
pub(super) fn deadline(limit: Duration, end: Option<Instant>) -> Instant {
    let deadline = after(limit);
    end.map_or(deadline, |end| end.min(deadline))
}

impl Pool {
    /// What a connection's failure means to whoever sent the request.
    pub(super) fn error(&self, err: ConnError) -> Error {
        let name = self.endpoint.name();
        let (kind, text) = match err {
            ConnError::Timeout => (ErrorKind::Timeout, "is silent for too long".into()),
            ConnError::CutShort => (ErrorKind::Closed, "closed too early".into()),
            ConnError::Coding(what) => (ErrorKind::BadMessage, format!("sent {what}")),
            ConnError::TooLarge(max) => {
                let text = format!("sent a body of more than {max} bytes");
                (ErrorKind::TooLarge, text)
            }
            ConnError::Head(err) if matches!(err.status, 414 | 431) => {
                (ErrorKind::TooLarge, "sent too large a head".into())
            }
            ConnError::Head(err) => {
                let text = format!("sent no proper response: {}", err.reason);
                (ErrorKind::BadMessage, text)
            }
            ConnError::Io(err) => return broken(&name, &err),
        };
        Error::new(kind, format!("{name} {text}"))
    }
}

fn broken(name: &str, err: &io::Error) -> Error {
    let (kind, what) = match err.kind() {
        io::ErrorKind::InvalidData => (ErrorKind::Tls, "secure connection"),
        _ => (ErrorKind::Closed, "connection"),
    };
    Error::new(kind, format!("the {what} to {name} broke: {err}"))
}
