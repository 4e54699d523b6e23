//! `sluicegate store`: what is kept of logins and of credentials for servers, on disk, beside a gateway that runs or without one.

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
    process::ExitCode,
    time::SystemTime,
};

use clap::Subcommand;

use super::{
    common::{BAD_USAGE, ConfigFile, FAILED, fail, print, print_problems},
    store_list,
};
use crate::{
    config::{LoginStorage, Snapshot, UpstreamAuth},
    gateway::exposed,
    identity::{
        Principal,
        login::{
            store::{self, Named, Pruned, Resealed, StoreFault, StoreFile},
            upstream::UpstreamOwner,
        },
    },
    policy::decide::Servers as _,
};

#[derive(Subcommand)]
pub(super) enum Store {
    /// Copy all that is kept into a new file, also while a gateway runs
    #[command(after_help = "\
The copy is as it all was at one moment, sealed as it is, and only its owner may read it. A file that is there is not
overwritten. It opens with the keys that the config names, or with keys.json of `stateDir`: keep those elsewhere.

Examples:
  sluicegate store backup /backup/logins-$(date +%F).db
  sluicegate store backup /backup/logins.db -c /etc/gate.json")]
    Backup {
        /// File to write
        #[arg(value_name = "TO")]
        to: PathBuf,
        #[command(flatten)]
        file: ConfigFile,
    },
    /// Show who is logged in, which programs were let in, and who is connected to which server
    #[command(after_help = "\
Nothing that is secret is shown. What came by a login last is known to five minutes.

Examples:
  sluicegate store list --principal user:alice
  sluicegate store list --server github --json")]
    List {
        #[command(flatten)]
        file: ConfigFile,
        /// Only what is kept of these: token:NAME, user:NAME, idp:PROVIDER:SUBJECT and so on, or `everyone`
        #[arg(long, value_name = "PRINCIPAL")]
        principal: Option<UpstreamOwner>,
        /// Only connections to this server
        #[arg(long, value_name = "SERVER")]
        server: Option<String>,
        /// Print JSON, for programs
        #[arg(long)]
        json: bool,
    },
    /// End the logins of somebody, and what they allowed programs
    #[command(after_help = "\
A gateway that runs ends their streams within a second. Static tokens and passwords are in the config: see `sluicegate token
revoke` and `sluicegate user disable`. Connections to servers stay: see `disconnect`.

Examples:
  sluicegate store revoke --principal user:alice
  sluicegate store revoke --principal user:alice --client https://client.example/metadata.json")]
    Revoke {
        #[command(flatten)]
        file: ConfigFile,
        /// Whose: token:NAME, user:NAME, idp:PROVIDER:SUBJECT and so on
        #[arg(long, value_name = "PRINCIPAL")]
        principal: Principal,
        /// Only what this program was allowed, by the id that `list --json` shows
        #[arg(long, value_name = "CLIENT")]
        client: Option<String>,
    },
    /// Remove what the gateway has of somebody, or of everyone, for servers
    #[command(after_help = "\
A gateway that runs uses it no more, and ends what runs by it within a second. The issuer of a server is not told: if
somebody else may have the tokens, end them there, too.

Examples:
  sluicegate store disconnect --principal user:alice --server github
  sluicegate store disconnect --principal everyone")]
    Disconnect {
        #[command(flatten)]
        file: ConfigFile,
        /// Whose: token:NAME, user:NAME, idp:PROVIDER:SUBJECT and so on, or `everyone` for accounts that all share
        #[arg(long, value_name = "PRINCIPAL")]
        principal: UpstreamOwner,
        /// Only at this server
        #[arg(long, value_name = "SERVER")]
        server: Option<String>,
    },
    /// Remove connections and registrations that the config names no more
    #[command(after_help = "\
What is for a server that is gone, or that is called with other credentials now; what is of a user, token, client, issuer or
provider that is gone; and registrations at issuers that a server has no more. A config with a mistake removes nothing.
Logins of those who are gone are ended by the gateway itself.

Examples:
  sluicegate store prune --dry-run
  sluicegate store prune -c /etc/gate.json")]
    Prune {
        #[command(flatten)]
        file: ConfigFile,
        /// Say what would be removed, and remove nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// Seal all that is kept with the first of `encryptionKey`, so that the others can go from the config
    #[command(after_help = "\
Each gateway of the file has to know both keys, as in [old, new], since before. It can be ended at any time, and goes on where
it was.

Example:
  sluicegate store rekey -c /etc/gate.json")]
    Rekey {
        #[command(flatten)]
        file: ConfigFile,
    },
}

/// The error is a bad usage.
pub(super) fn run(command: Store) -> Result<ExitCode, String> {
    let now = SystemTime::now();
    match command {
        Store::Backup { to, file } => with_config(file, |config| {
            let bytes = store::backup(&config.state_dir, &to)?;
            Ok(print(&backed_up(config, &to, bytes)))
        }),
        Store::List { file, principal, server, json } => with_store(file, |store, _| {
            let listing = store.list(principal.as_ref(), server.as_deref(), now)?;
            let printed = print(&store_list::text(&listing, json, now));
            Ok(if listing.faults.is_empty() { printed } else { unopened(&listing.faults) })
        }),
        Store::Revoke { file, principal, client } => with_store(file, |store, _| {
            let ended = store.revoke(&principal, client.as_deref(), now)?;
            Ok(print(&revoked(&principal, client.as_deref(), ended)))
        }),
        Store::Disconnect { file, principal: owner, server } => with_store(file, |store, _| {
            let from = store.disconnect(&owner, server.as_deref(), now)?;
            Ok(print(&disconnected(&owner, &from)))
        }),
        Store::Prune { file, dry_run } => with_store(file, |store, config| {
            let pruned = store.prune(config, dry_run, now)?;
            Ok(print(&pruned_text(&pruned, dry_run)))
        }),
        Store::Rekey { file } => with_store(file, |store, _| {
            let Resealed { rows, sealed, faults } = store.rekey()?;
            if !faults.is_empty() {
                return Ok(unopened(&faults));
            }
            Ok(print(&format!(
                "All {} are sealed with the first key; {sealed} of them were sealed with another one before. \
                 `encryptionKey` needs no other any more.\n",
                count(rows, "row")
            )))
        }),
    }
}

/// Does something by a config that has no mistake and keeps logins in a file.
fn with_config(
    file: ConfigFile,
    work: impl FnOnce(&Snapshot) -> Result<ExitCode, StoreFault>,
) -> Result<ExitCode, String> {
    let path = file.path()?;
    let (loaded, _) = exposed::load(&path);
    let Some(snapshot) = loaded.snapshot.as_ref().filter(|_| loaded.is_whole()) else {
        print_problems(&loaded);
        return Ok(ExitCode::from(BAD_USAGE));
    };
    if snapshot.login_store.storage == LoginStorage::Memory {
        let why = "keeps logins in memory (`\"storage\": \"memory\"`), and nothing on disk";
        return Err(format!("{}: {why}", path.display()));
    }
    Ok(work(snapshot).unwrap_or_else(|fault| fail(FAILED, &fault.to_string())))
}

/// The same with the file open.
fn with_store(
    file: ConfigFile,
    work: impl FnOnce(&mut StoreFile, &Snapshot) -> Result<ExitCode, StoreFault>,
) -> Result<ExitCode, String> {
    with_config(file, |config| {
        let mut store = StoreFile::open(&config.login_store, &config.state_dir)?;
        work(&mut store, config)
    })
}

/// Rows that do not open are told, and are a failure: somebody has changed the file, or a key is missing.
fn unopened(faults: &[String]) -> ExitCode {
    let mut shown = faults[..faults.len().min(20)].join("\n  ");
    if faults.len() > 20 {
        let _ = write!(shown, "\n  and {} more", faults.len() - 20);
    }
    let rows = match faults.len() {
        1 => "1 row does not open, counts for nothing, and stays as it is".to_owned(),
        several => format!("{several} rows do not open, count for nothing, and stay as they are"),
    };
    let why = "somebody has changed the file, or a key is missing in `encryptionKey`";
    fail(FAILED, &format!("{rows}: {why}\n  {shown}"))
}

fn count(number: usize, thing: &str) -> String {
    format!("{number} {thing}{}", if number == 1 { "" } else { "s" })
}

fn backed_up(config: &Snapshot, to: &Path, bytes: u64) -> String {
    let keys = match config.login_store.encryption_keys.is_empty() {
        true => format!("{} of the same place", config.state_dir.join(store::KEYS).display()),
        false => "the `encryptionKey` of the config".to_owned(),
    };
    format!("Wrote {} ({} KiB), sealed as it is. It opens with {keys}.\n", to.display(), bytes.div_ceil(1024))
}

fn revoked(principal: &Principal, client: Option<&str>, ended: usize) -> String {
    let whom = principal.to_string();
    let whom = whom.escape_debug();
    match (ended, client) {
        (0, Some(_)) => format!("{whom}: has allowed that program nothing\n"),
        (0, None) => format!("{whom}: has no login, and has allowed no program anything\n"),
        _ => format!("{whom}: {} ended; what runs by it ends within a second\n", count(ended, "grant")),
    }
}

fn disconnected(owner: &UpstreamOwner, from: &[String]) -> String {
    let owner = owner.to_string();
    let owner = owner.escape_debug();
    if from.is_empty() {
        return format!("{owner}: was not connected there\n");
    }
    let from: Vec<_> = from.iter().map(|server| server.escape_debug().to_string()).collect();
    format!("{owner}: disconnected from {}; the issuer was not told\n", from.join(", "))
}

fn pruned_text(pruned: &Pruned, is_dry_run: bool) -> String {
    let Pruned { upstream, clients } = pruned;
    let mut text = String::new();
    // Writing to a string does not fail.
    for (owner, server) in upstream {
        let _ = writeln!(text, "{} at {}", owner.escape_debug(), server.escape_debug());
    }
    for (server, issuer) in clients {
        let _ = writeln!(text, "registration for {} at {}", server.escape_debug(), issuer.escape_debug());
    }
    let (connections, registrations) =
        (count(upstream.len(), "connection"), count(clients.len(), "registration"));
    let end = if is_dry_run { " would be removed" } else { " removed" };
    let _ = writeln!(text, "{connections} and {registrations}{end}");
    text
}

impl Named for Snapshot {
    fn has_upstream(&self, owner: &UpstreamOwner, server: &str) -> bool {
        let Some(auth) = self.server(server).and_then(|server| server.upstream_auth.as_ref()) else {
            return false;
        };
        match owner {
            UpstreamOwner::Everyone => !auth.is_per_principal(),
            UpstreamOwner::Principal(principal) => auth.is_per_principal() && names(self, principal),
        }
    }

    fn has_client(&self, server: &str, issuer: &str) -> bool {
        let auth = self.server(server).and_then(|server| server.upstream_auth.as_deref());
        let (UpstreamAuth::ClientCredentials(oauth)
        | UpstreamAuth::UserOauth(oauth)
        | UpstreamAuth::SharedOauth(oauth)) = (match auth {
            Some(auth) => auth,
            None => return false,
        })
        else {
            return false;
        };
        // Which issuer a server names, the config does not say.
        oauth.issuer.as_ref().is_none_or(|named| **named == *issuer)
    }
}

/// Whether the config has somebody, or whoever vouches for them.
fn names(config: &Snapshot, principal: &Principal) -> bool {
    let has_token = |name: &str, is_tenant: bool| {
        let mut credentials = config.credentials.iter();
        credentials.any(|credential| credential.is_tenant == is_tenant && *credential.token_name == *name)
    };
    let of = |name: &str| name.split_once(':').map(|(of, _)| of.to_owned());
    match principal {
        Principal::Nobody => false,
        Principal::Token(name) => has_token(name, false),
        Principal::Tenant(name) => has_token(name, true),
        Principal::User(name) => config.users.iter().any(|user| user.name == *name),
        Principal::Client(name) => config.oauth.as_ref().is_some_and(|oauth| oauth.client(name).is_some()),
        Principal::Foreign(name) => {
            of(name).is_some_and(|of| config.issuers.iter().any(|issuer| *issuer.name == *of))
        }
        Principal::Idp(name) => {
            let provider = config.oauth.as_ref().and_then(|oauth| oauth.idp.as_ref());
            provider.is_some_and(|provider| of(name).as_deref() == Some(provider.provider.name()))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::config::{self, ShownAs, UpstreamOauth, UserToken};

    fn config() -> Snapshot {
        let text = r#"{ "proxy": { "addr": "127.0.0.1:0", "auth": {
            "tokens": { "ci": "a-token-of-somebody-0123456789" }, "users": { "alice": { "passwordHash": "HASH" } },
            "tenants": { "header": "X-Tenant", "tokens": { "acme": "a-token-of-a-tenant-0123456789" } } } },
            "mcpServers": { "own": { "url": "https://a.example/mcp" }, "shared": { "url": "https://b.example/mcp" },
                "entered": { "url": "https://c.example/mcp" }, "plain": { "url": "https://d.example/mcp" } } }"#;
        let hash = "$argon2id$v=19$m=7168,t=1,p=1$c2FsdHNhbHQ$rqReNQSuNpi+3YF2W7U7W9ByJ6959j7LZ/qa31zY2Gg";
        let bytes = text.replace("HASH", hash);
        let loaded = config::load_bytes(Path::new("gate.json"), bytes.as_bytes(), &|_| None);
        loaded.snapshot.unwrap_or_else(|| panic!("{:?}", loaded.problems))
    }

    fn oauth(issuer: Option<&str>) -> UpstreamOauth {
        UpstreamOauth { issuer: issuer.map(Arc::from), ..UpstreamOauth::default() }
    }

    #[test]
    fn what_a_config_names_is_who_it_has_and_how_a_server_is_called() {
        let mut config = config();
        let token = UserToken {
            places: Vec::new(),
            instructions: None,
            help_url: None,
            validation: None,
            shown: ShownAs::default(),
        };
        for (server, auth) in config.servers.iter_mut().zip([
            UpstreamAuth::UserOauth(oauth(None)),
            UpstreamAuth::SharedOauth(oauth(Some("https://issuer.example"))),
            UpstreamAuth::UserToken(token),
        ]) {
            server.upstream_auth = Some(Arc::new(auth));
        }
        let has = |owner: &str, server: &str| config.has_upstream(&owner.parse().unwrap(), server);
        for who in ["user:alice", "token:ci", "tenant:acme"] {
            assert!(has(who, "own") && has(who, "entered"), "{who}");
            assert!(!has(who, "shared") && !has(who, "plain") && !has(who, "gone"), "{who}");
        }
        for who in [
            "user:bob",
            "token:acme",
            "tenant:ci",
            "user:ci",
            "client:ci",
            "jwt:corp:1",
            "idp:google:1",
            "nobody",
        ] {
            assert!(!has(who, "own"), "{who}");
        }
        let everyone = ["own", "shared", "entered", "plain", "gone"].map(|server| has("everyone", server));
        assert_eq!(everyone, [false, true, false, false, false]);

        let issuers = |server: &str| {
            ["https://issuer.example", "https://other.example"]
                .map(|issuer| config.has_client(server, issuer))
        };
        assert_eq!(issuers("own"), [true, true], "the server names its issuer");
        assert_eq!(issuers("shared"), [true, false]);
        assert_eq!([issuers("entered"), issuers("plain"), issuers("gone")], [[false; 2]; 3]);
    }
}
