//! What stands in for `tls` where the program is built without it.

use super::stream::Stream;
use super::{Error, ErrorKind};

const ABSENT: &str = "this program was built without TLS";

/// Who may vouch for a server: without TLS, nobody.
#[derive(Debug)]
pub struct TlsRoots(());

impl TlsRoots {
    /// Always refuses.
    pub fn load(_extra: Option<&[u8]>, _system: Option<&[u8]>) -> Result<TlsRoots, String> {
        Err(ABSENT.into())
    }

    pub(super) async fn connect(&self, _: Stream, _: &str) -> Result<Stream, Error> {
        Err(Error::new(ErrorKind::Tls, ABSENT))
    }
}
