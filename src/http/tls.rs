//! rustls as a byte stream.
//!
//! [`TlsStream`] drives a rustls session over any byte stream: it moves
//! ciphertext between the two whenever it is polled, and never blocks or spawns.

use std::fmt;
use std::future::poll_fn;
use std::io::{self, Read, Write};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_lite::{AsyncRead, AsyncWrite};
use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{CertificateError, ClientConfig, ClientConnection, RootCertStore};

use super::stream::{Duplex, Stream};
use super::{Error, ErrorKind};
use crate::crypto::{clock, provider};
use crate::limits::{HTTP_TLS_OUT_BYTES_MAX, HTTP_TLS_SESSIONS_MAX};

/// Who may vouch for a server, and all that connections to it share.
pub struct TlsRoots {
    config: Arc<ClientConfig>,
}

impl fmt::Debug for TlsRoots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TlsRoots")
    }
}

impl TlsRoots {
    /// The certificates of `system_bundle_pem`, or else the web's own roots,
    /// and those of `extra_ca_pem` beside them (D-29). A certificate of the
    /// bundle that we cannot use is passed over, one of the extra ones is not.
    pub fn load(
        extra_ca_pem: Option<&[u8]>,
        system_bundle_pem: Option<&[u8]>,
    ) -> Result<TlsRoots, String> {
        let mut roots = RootCertStore::empty();
        match system_bundle_pem {
            Some(pem) => {
                let certs = CertificateDer::pem_slice_iter(pem).filter_map(Result::ok);
                let (added, _) = roots.add_parsable_certificates(certs);
                if added == 0 {
                    return Err("the system's bundle holds no usable certificate".into());
                }
            }
            None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
        }
        let known = roots.len();
        for cert in CertificateDer::pem_slice_iter(extra_ca_pem.unwrap_or_default()) {
            let cert = cert.map_err(|err| format!("the CA file is malformed: {err}"))?;
            roots
                .add(cert)
                .map_err(|err| format!("the CA file is of no use: {err}"))?;
        }
        if extra_ca_pem.is_some() && roots.len() == known {
            return Err("the CA file holds no certificate".into());
        }
        let mut config = ClientConfig::builder_with_details(Arc::new(provider()), clock())
            .with_safe_default_protocol_versions()
            .map_err(|err| err.to_string())?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.resumption = Resumption::in_memory_sessions(HTTP_TLS_SESSIONS_MAX);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(TlsRoots {
            config: Arc::new(config),
        })
    }

    /// A session with `host` over this connection, or why there is none.
    pub(super) async fn connect(&self, stream: Stream, host: &str) -> Result<Stream, Error> {
        let tls = TlsStream::connect(stream, host, self).await;
        Ok(Box::new(tls?))
    }
}

/// A TLS session over a byte stream.
#[derive(Debug)]
pub struct TlsStream<S> {
    stream: S,
    session: ClientConnection,
}

impl<S: AsyncRead + AsyncWrite + Unpin> TlsStream<S> {
    /// Agrees on a session with `host`, who must prove that name.
    pub async fn connect(stream: S, host: &str, roots: &TlsRoots) -> Result<Self, Error> {
        let refused = |why: String| Error::new(ErrorKind::Tls, why);
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| refused("no certificate can be for such a name".into()))?;
        let session = ClientConnection::new(Arc::clone(&roots.config), name);
        let mut session = session.map_err(|err| refused(err.to_string()))?;
        session.set_buffer_limit(Some(HTTP_TLS_OUT_BYTES_MAX));
        let mut tls = TlsStream { stream, session };
        let shaken = poll_fn(|cx| tls.poll_handshake(cx)).await;
        shaken.map_err(|err| explain(&err))?;
        Ok(tls)
    }

    fn poll_handshake(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.session.is_handshaking() {
            let wrote = self.poll_send(cx)?;
            if !self.session.is_handshaking() {
                break;
            }
            if self.session.wants_read() {
                if ready!(self.poll_receive(cx))? == 0 {
                    return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
                }
            } else if wrote.is_pending() {
                return Poll::Pending;
            }
        }
        self.poll_send(cx)
    }

    /// Sends the ciphertext there is.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.session.wants_write() {
            let mut io = Blocking {
                stream: &mut self.stream,
                cx,
            };
            match self.session.write_tls(&mut io) {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Ok(_) => {}
                Err(err) if err.kind() == io::ErrorKind::WouldBlock => return Poll::Pending,
                Err(err) => return Poll::Ready(Err(err)),
            }
        }
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    /// Takes in ciphertext; zero at the stream's end.
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut io = Blocking {
            stream: &mut self.stream,
            cx,
        };
        let got = match self.session.read_tls(&mut io) {
            Err(err) if err.kind() == io::ErrorKind::WouldBlock => return Poll::Pending,
            result => result?,
        };
        if let Err(err) = self.session.process_new_packets() {
            // The alert that says why; if it cannot be sent, it is not.
            let _ = self.poll_send(cx);
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, err)));
        }
        Poll::Ready(Ok(got))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for TlsStream<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        room: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let tls = self.get_mut();
        loop {
            match tls.session.reader().read(room) {
                // Zero is an end the peer has announced; one it has not is an error.
                Err(err) if err.kind() == io::ErrorKind::WouldBlock => {}
                result => return Poll::Ready(result),
            }
            // What the session itself has to say, such as new keys.
            let _ = tls.poll_send(cx)?;
            // The reader knows what kind of end it is, if it is one.
            ready!(tls.poll_receive(cx))?;
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for TlsStream<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let tls = self.get_mut();
        loop {
            let taken = tls.session.writer().write(bytes)?;
            let sent = tls.poll_send(cx)?;
            if taken > 0 || bytes.is_empty() {
                return Poll::Ready(Ok(taken));
            }
            if sent.is_pending() {
                return Poll::Pending;
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_send(cx)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let tls = self.get_mut();
        tls.session.send_close_notify();
        tls.poll_send(cx)
    }
}

/// Its end would have to be said within the session, by closing it.
impl<S: AsyncRead + AsyncWrite + Unpin + Send + Sync + fmt::Debug> Duplex for TlsStream<S> {}

/// A polled stream in the shape rustls wants: one that would block says so.
struct Blocking<'a, 'c, S> {
    stream: &'a mut S,
    cx: &'a mut Context<'c>,
}

impl<S: AsyncRead + Unpin> Read for Blocking<'_, '_, S> {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        or_would_block(Pin::new(&mut *self.stream).poll_read(self.cx, room))
    }
}

impl<S: AsyncWrite + Unpin> Write for Blocking<'_, '_, S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        or_would_block(Pin::new(&mut *self.stream).poll_write(self.cx, bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        or_would_block(Pin::new(&mut *self.stream).poll_flush(self.cx))
    }
}

fn or_would_block<T>(poll: Poll<io::Result<T>>) -> io::Result<T> {
    match poll {
        Poll::Ready(result) => result,
        Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
    }
}

/// Why a handshake failed, so that a person knows what to look at.
fn explain(err: &io::Error) -> Error {
    use CertificateError as Cert;
    use rustls::Error::{InvalidCertificate, InvalidMessage};
    let inner = err.get_ref().and_then(|err| err.downcast_ref());
    let why = match inner {
        None if err.kind() == io::ErrorKind::UnexpectedEof => "it closed during the handshake",
        None => return Error::new(ErrorKind::Tls, err.to_string()),
        Some(InvalidMessage(_)) => "it does not speak TLS; is it plain http?",
        Some(InvalidCertificate(Cert::Expired | Cert::ExpiredContext { .. })) => {
            "its certificate has expired"
        }
        Some(InvalidCertificate(Cert::NotValidYet | Cert::NotValidYetContext { .. })) => {
            let why = "its certificate is not valid yet; is the clock set?";
            return Error::new(ErrorKind::NotYet, why);
        }
        Some(InvalidCertificate(Cert::NotValidForName | Cert::NotValidForNameContext { .. })) => {
            "its certificate is for another name"
        }
        Some(InvalidCertificate(Cert::UnknownIssuer)) => "its certificate's issuer is not known",
        Some(other) => return Error::new(ErrorKind::Tls, other.to_string()),
    };
    Error::new(ErrorKind::Tls, why)
}
