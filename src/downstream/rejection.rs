//! Why a connection ended before a request of it could be judged: what HTTP and TLS refuse by themselves.
//!
//! Such a request never becomes one for the gateway, so it has no record. What is reported about it is one word of this
//! closed set; nothing in it is the peer's text.

use std::{io, time::Duration};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

macro_rules! rejections {
    ($($(#[$doc:meta])* $rejection:ident: $reason:literal;)*) => {
        /// Why a connection ended before a request of it could be judged.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Rejection { $($(#[$doc])* $rejection,)* }

        impl Rejection {
            /// Every reason.
            pub const ALL: &'static [Self] = &[$(Self::$rejection),*];

            /// `reason` in the log and in `http_rejected_total`.
            pub fn reason(self) -> &'static str {
                match self { $(Self::$rejection => $reason,)* }
            }
        }
    };
}

rejections! {
    /// A head that is not HTTP/1.1 as RFC 9112 has it; answered with 400.
    Framing: "framing";
    /// A head with too many bytes or fields, answered with 431, or a target beyond 65,534 bytes, answered with 414.
    HeadTooLarge: "head_too_large";
    /// A head that was begun and not ended within `headerTimeout`.
    HeadTimeout: "head_timeout";
    /// A broken HTTP/2 connection, ended by `GOAWAY`.
    Http2: "http2";
    /// An HTTP/2 connection that costs more than it is worth (floods of frames and resets), ended by `GOAWAY`.
    Http2Flood: "http2_flood";
    /// A TLS handshake that failed here: no common version or cipher, or what came is no TLS.
    TlsHandshake: "tls_handshake";
    /// A TLS handshake that the client gave up by an alert, mostly because it does not trust the certificate.
    TlsAlert: "tls_alert";
    /// A TLS handshake that did not end within `tlsHandshakeTimeout`.
    TlsTimeout: "tls_timeout";
    /// A PROXY header of a trusted balancer that is broken, of another version than 2, or too long.
    ProxyHeader: "proxy_header";
    /// One that made room for others of its address, of which there are as many as may be before a request is admitted
    /// (`perAddress.connections`).
    PerAddress: "per_address";
}

impl Rejection {
    /// What hyper refused, if it did. A connection that broke, or that the gateway itself ended, was not refused.
    pub(super) fn of_http(error: &hyper::Error) -> Option<Self> {
        if error.is_parse_too_large() {
            return Some(Self::HeadTooLarge);
        }
        if error.is_parse() {
            return Some(Self::Framing);
        }
        let cause = std::error::Error::source(error)?.downcast_ref::<h2::Error>()?;
        let reason = cause.reason().filter(|_| !cause.is_remote())?;
        match reason {
            h2::Reason::NO_ERROR => None,
            h2::Reason::ENHANCE_YOUR_CALM => Some(Self::Http2Flood),
            _ => Some(Self::Http2),
        }
    }

    /// Why a handshake failed, unless the client just went away, as port scans and health checks of balancers do.
    pub(super) fn of_handshake(error: &io::Error) -> Option<Self> {
        if PlainHttp::is_in(error) {
            return Some(Self::TlsHandshake);
        }
        match error.get_ref()?.downcast_ref::<rustls::Error>()? {
            rustls::Error::AlertReceived(_)
            | rustls::Error::InappropriateMessage { got_type: rustls::ContentType::Alert, .. } => {
                Some(Self::TlsAlert)
            }
            _ => Some(Self::TlsHandshake),
        }
    }
}

/// HTTP came where TLS was to begin.
#[derive(Debug)]
pub(super) struct PlainHttp;

impl std::fmt::Display for PlainHttp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("HTTP without TLS")
    }
}

impl std::error::Error for PlainHttp {}

impl PlainHttp {
    const ANSWER: &[u8] =
        b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 60\r\n\
        Connection: close\r\n\r\nThis port speaks HTTPS: write https:// in place of http://.\n";
    /// How long a client may take for it.
    const PATIENCE: Duration = Duration::from_secs(1);
    /// Most that is read of it behind.
    const MOST: u64 = 64 * 1024;

    /// Whether this is why a handshake failed.
    pub(super) fn is_in(error: &io::Error) -> bool {
        error.get_ref().is_some_and(|inner| inner.is::<Self>())
    }

    /// Answers in plain HTTP.
    pub(super) async fn answer<T: AsyncRead + AsyncWrite + Unpin>(mut stream: T) {
        let answered = async {
            stream.write_all(Self::ANSWER).await?;
            stream.shutdown().await?;
            // A connection that is closed with bytes unread is reset, which may cost the client the answer.
            tokio::io::copy(&mut stream.take(Self::MOST), &mut tokio::io::sink()).await
        };
        let _ = tokio::time::timeout(Self::PATIENCE, answered).await;
    }
}
