//! The way to a server through an HTTP proxy.

use std::fmt;
use std::time::{Duration, Instant};

use super::conn::{Conn, ConnError};
use super::head::{self, RESPONSE, put_field, put_line};
use super::stream::Stream;

/// A proxy that is spoken to in plain HTTP.
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy {
    /// Name or address, without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
    /// The value of `Proxy-Authorization`. No `{:?}` shows it.
    pub authorization: Option<String>,
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proxy({}:{})", self.host, self.port)
    }
}

impl Proxy {
    /// A tunnel to `authority`, a host with its port (RFC 9110 9.3.6).
    pub(super) async fn tunnel(
        &self,
        stream: Stream,
        authority: &str,
        end: Instant,
    ) -> Result<Stream, String> {
        let mut conn = Conn::new(stream);
        put_line(&mut conn.out, format_args!("CONNECT {authority} HTTP/1.1"));
        put_field(&mut conn.out, "Host", authority);
        if let Some(authorization) = &self.authorization {
            put_field(&mut conn.out, "Proxy-Authorization", authorization);
        }
        put_line(&mut conn.out, format_args!(""));
        let left = end.saturating_duration_since(Instant::now());
        match self.status(&mut conn, left, end).await {
            Ok(200..300) => Ok(conn.stream),
            Ok(407) => Err("the proxy wants other credentials (407)".into()),
            Ok(status) => Err(format!("the proxy answers {status}")),
            Err(ConnError::Timeout) => Err("the proxy is silent for too long".into()),
            Err(_) => Err("the proxy gives no proper answer".into()),
        }
    }

    async fn status(
        &self,
        conn: &mut Conn<Stream>,
        left: Duration,
        end: Instant,
    ) -> Result<u16, ConnError> {
        conn.send_out(&[], left).await?;
        conn.read_head(RESPONSE, end).await?;
        Ok(head::response(conn.head(), false)?.status)
    }
}
