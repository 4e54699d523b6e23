//! The gateway as its users meet it: real sockets, real TLS, a real config file, scripted servers behind.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail as tests do"
)]
#![allow(unreachable_pub, reason = "a test binary has no outside; pub says what the harness offers")]

mod access_tokens;
mod admin_listener;
mod all_servers;
mod audit;
mod balancers;
mod bounds;
mod caller_limits;
mod canary;
mod canary_logins;
mod capacity;
mod changed_servers;
mod changes;
mod clock;
mod commands;
mod connect;
mod cors;
mod credential_keys;
mod credential_matrix;
mod crossed;
mod debug;
mod decoys;
mod disabled;
mod documents;
mod endpoint_events;
mod endpoints;
mod expectations;
mod explain;
mod filter;
mod first_start;
mod folding;
mod framing;
mod half_closed;
mod handshakes;
mod head;
mod held_bytes;
mod hung_files;
mod identity;
mod idp;
mod inline;
mod introspection;
mod issuers;
mod keep_alive;
mod limits;
mod lists;
mod login;
mod login_store;
mod machines;
mod manage;
mod mcp;
mod named_issuers;
mod names;
mod oauth_clients;
mod oauth_dashboard;
mod oauth_flow;
mod oauth_kills;
mod oauth_pages;
mod oauth_seen;
mod oauth_tokens;
mod oauth_two_gateways;
mod observe;
mod odd_servers;
mod operations;
mod origin_isolation;
mod own_accounts;
mod own_secrets;
mod parts;
mod passthrough;
mod promised_credentials;
mod rate_limits;
mod refusal_log;
mod reload;
mod removals;
mod resumption;
mod revocation;
mod schemes;
mod self_made;
mod sent_ahead;
mod server_connections;
mod server_health;
mod session_owner;
mod sessions;
mod shared_process;
mod shield;
mod shutdown;
mod silent_clients;
mod slow_bodies;
mod smoke;
mod streaming;
mod tenants;
mod terminal;
mod tls;
mod token_commands;
mod tool_rules;
mod upstream_auth;
mod upstream_issuers;
mod user_commands;
mod verifier;

use test_support::{decisive_keys, harness, numbered, process, recorder, scripted, spellings, users};
