//! How responses end.

/// How a response ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The server ended it, as its framing says.
    UpstreamEnd,
    /// The server broke off.
    UpstreamLost,
    /// The client went away.
    ClientGone,
    /// The client took nothing for too long.
    SlowReader,
    /// The token that admitted it is gone, expired, or lost the server.
    TokenRevoked,
    /// Shutdown did not wait longer.
    Drain,
}

impl End {
    /// Those that are the gateway's doing.
    pub const CUTS: [Self; 3] = [Self::SlowReader, Self::TokenRevoked, Self::Drain];

    /// `reason` in the log line "Stream closed".
    pub fn reason(self) -> &'static str {
        match self {
            Self::UpstreamEnd => "upstream_end",
            Self::UpstreamLost => "upstream_lost",
            Self::ClientGone => "client_gone",
            Self::SlowReader => "slow_reader",
            Self::TokenRevoked => "token_revoked",
            Self::Drain => "drain",
        }
    }
}
