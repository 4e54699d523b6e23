//! `sluicegate explain`: what a caller may do, and the line of the config that says so.

use std::{
    fmt::Write as _,
    path::Path,
    process::ExitCode,
    sync::Arc,
    time::{Duration, SystemTime},
};

use clap::Args;
use serde_json::{Map, Value, map::Entry};

use super::common::{BAD_USAGE, ConfigFile, FAILED, print, print_problems, proposed};
use crate::{
    config::{ExchangeSubject, Loaded, Rule, RuleOf, ScopeTags, ScopeWord, Server, Snapshot, UpstreamAuth},
    error::ErrorKind,
    gateway::exposed,
    identity::{
        Allowed, Identity, Principal, Proof, Vouched,
        audience::Audience,
        foreign::verified::VerifiedJwt,
        scope::{self, Scope},
    },
    policy::decide::{Ask, Decision, DenyKind, ManageAsk, Policy, Servers as _, decide},
};

#[derive(Args)]
pub(super) struct Explain {
    #[command(flatten)]
    file: ConfigFile,
    /// Who asks: token:NAME, user:NAME, tenant:NAME, client:NAME, jwt:ISSUER:SUBJECT, or `nobody` without a credential
    #[arg(long = "as", value_name = "PRINCIPAL", required_unless_present = "token_name")]
    principal: Option<Principal>,
    /// The same as --as token:NAME
    #[arg(long, value_name = "NAME", conflicts_with = "principal")]
    token_name: Option<String>,
    /// Server that is asked for; `mcp` is all of them as one, `metrics`, `servers` and `debug` what operators may have
    #[arg(long, value_name = "SERVER")]
    server: String,
    /// Tool of the server, by the server's own name for it
    #[arg(long, value_name = "TOOL")]
    tool: Option<String>,
    /// A client asks for the principal, which was allowed this scope: words with a space between two, as in "mcp files:write"
    #[arg(long, value_name = "SCOPE")]
    scope: Option<String>,
    /// A client asks for the principal, whose token is for this place; without it, for all of the gateway
    #[arg(long, value_name = "URL")]
    resource: Option<String>,
    /// What the token of somebody of an issuer says besides, as in groups=eng; once for each value of a list
    #[arg(long = "claim", value_name = "NAME=VALUE", value_parser = claim)]
    claims: Vec<(String, Value)>,
}

/// A claim as it is written. What JSON calls a number or a boolean is one.
fn claim(text: &str) -> Result<(String, Value), String> {
    let (name, value) =
        text.split_once('=').filter(|(name, _)| !name.is_empty()).ok_or("write NAME=VALUE")?;
    let parsed = serde_json::from_str(value).ok().filter(|value: &Value| !value.is_string());
    Ok((name.to_owned(), parsed.unwrap_or_else(|| value.into())))
}

/// Prints the decision about each credential of the principal. Several that are decided alike are one.
pub(super) fn run(explain: Explain) -> Result<ExitCode, String> {
    let path = explain.file.path()?;
    let (loaded, _) = exposed::load(&path);
    let Some(snapshot) = loaded.snapshot.as_ref().filter(|_| loaded.is_whole()) else {
        print_problems(&loaded);
        return Ok(ExitCode::from(BAD_USAGE));
    };
    let named = explain.token_name.map(|name| Principal::Token(name.into()));
    let principal = named.or(explain.principal).unwrap_or(Principal::Nobody);
    let located = |message: String| format!("{}: {message}", path.display());
    let ask = question(snapshot, &explain.server, explain.tool.as_deref()).map_err(located)?;
    let (scope, resource) = (explain.scope.as_deref(), explain.resource.as_deref());
    let (identities, of_issuer) = match &principal {
        Principal::Foreign(name) => {
            let (identity, note) =
                of_issuer(snapshot, name, explain.claims, scope, resource).map_err(located)?;
            (vec![(identity, String::new())], note)
        }
        _ if !explain.claims.is_empty() => {
            return Err("--claim is of tokens of an issuer, as in --as jwt:corp:alice".into());
        }
        _ => {
            let mut identities = identities(snapshot, &principal).map_err(located)?;
            let of_client = scope_of(snapshot, &principal);
            let scope = scope.or(of_client.as_deref());
            if let Some(allowed) = allowed(snapshot, scope, resource).map_err(located)? {
                let allowed = Arc::new(allowed);
                identities.iter_mut().for_each(|(identity, _)| identity.allowed = Some(Arc::clone(&allowed)));
            }
            (identities, None)
        }
    };
    let now = Some(SystemTime::now());
    let policy = Policy { servers: snapshot, now, admin_sees_all: snapshot.admin_sees_all };
    let mut answers = Vec::<(String, Vec<String>)>::new();
    let mut may = false;
    for (identity, credential) in &identities {
        let decision = decide(&policy, identity, &ask);
        may |= decision.is_allow();
        let answer = answer(&path, &loaded, identity, &ask, decision);
        match answers.iter_mut().find(|(known, _)| *known == answer) {
            Some((_, credentials)) => credentials.push(credential.clone()),
            None => answers.push((answer, vec![credential.clone()])),
        }
    }
    let mut text = String::new();
    for (answer, credentials) in &answers {
        // Writing to a string does not fail.
        let _ = match answers.len() {
            1 => writeln!(text, "{principal}: {answer}"),
            _ => writeln!(text, "{principal} ({}): {answer}", credentials.join(", ")),
        };
    }
    let server = snapshot.server(&explain.server).filter(|_| may);
    if let Some(auth) = server.and_then(|server| server.upstream_auth.as_deref()) {
        let base = snapshot.base().unwrap_or_default();
        let _ = writeln!(text, "note: {}", credential(auth, &principal, &base));
    }
    text += &notes_of_scope(snapshot, explain.scope.as_deref().unwrap_or_default());
    if let Some(note) = of_issuer {
        let _ = writeln!(text, "note: {note}");
    }
    if snapshot.server(&explain.server).is_some_and(|server| server.disabled) {
        let _ = writeln!(text, "note: the server is disabled, so its requests are answered with 503");
    }
    if matches!(ask, Ask::Manage(_)) && snapshot.admin.is_some() {
        let _ =
            writeln!(text, "note: this is about `proxy.addr`; `proxy.admin` on loopback asks for no token");
    }
    if ask == Ask::Manage(ManageAsk::Debug) && !snapshot.debug {
        let _ = writeln!(text, "note: `proxy.debug` is off, so there is no such path");
    }
    let printed = print(&text);
    Ok(if may || printed != ExitCode::SUCCESS { printed } else { ExitCode::from(FAILED) })
}

/// With whose credential the server is called for the principal.
fn credential(auth: &UpstreamAuth, principal: &Principal, base: &str) -> String {
    let kind = auth.kind();
    let what = match auth {
        UpstreamAuth::ClientCredentials(_) => {
            "a token that the gateway fetches for itself, for all callers".into()
        }
        UpstreamAuth::SharedOauth(_) => "the account that an admin connects, for all callers".into(),
        UpstreamAuth::UserOauth(_) => {
            format!("the account of their own that {principal} connects at {base}/oauth")
        }
        UpstreamAuth::UserToken(_) => {
            format!("the token of their own that {principal} enters at {base}/oauth")
        }
        UpstreamAuth::Exchange(exchange) => match (exchange.subject, principal) {
            (ExchangeSubject::Caller, Principal::Foreign(_)) => {
                format!("a token that is made of the one by which {principal} comes")
            }
            (ExchangeSubject::Login, Principal::Idp(_)) => {
                format!("a token that is made of what the login of {principal} gave")
            }
            (ExchangeSubject::Caller, _) => {
                return format!(
                    "calls fail: the server takes a token that is made of one of `proxy.auth.issuers`, and {principal} comes by none (`{kind}`)"
                );
            }
            (ExchangeSubject::Login, _) => {
                return format!(
                    "calls fail: the server takes a token that is made of a login at `proxy.auth.idp`, and {principal} has none (`{kind}`)"
                );
            }
        },
        UpstreamAuth::Passthrough(passthrough) => {
            format!("what the caller sends in `{}`, as it is", passthrough.from)
        }
    };
    format!("the server is called with {what} (`{kind}`)")
}

/// What is asked for, if the config has it.
fn question<'a>(snapshot: &Snapshot, server: &'a str, tool: Option<&'a str>) -> Result<Ask<'a>, String> {
    match (server, tool) {
        (Server::ALL | "metrics" | "servers" | "debug", Some(_)) => {
            Err(format!("`{server}` is no server with tools of its own; name the server of the tool"))
        }
        (Server::ALL, None) => Ok(Ask::Aggregate),
        ("metrics", None) => Ok(Ask::Manage(ManageAsk::Metrics)),
        ("servers", None) => Ok(Ask::Manage(ManageAsk::Servers)),
        ("debug", None) => Ok(Ask::Manage(ManageAsk::Debug)),
        _ if snapshot.server(server).is_none() => {
            let names = snapshot.servers.iter().map(|server| &*server.name);
            Err(format!("there is no such server in `mcpServers`; {}", proposed(server, names)))
        }
        (server, Some(name)) => Ok(Ask::Tool { server, name }),
        (server, None) => Ok(Ask::Server(server)),
    }
}

/// What a client was allowed, if one is meant to ask. With one of the two, the other is all there is.
fn allowed(
    snapshot: &Snapshot,
    scope: Option<&str>,
    resource: Option<&str>,
) -> Result<Option<Allowed>, String> {
    if scope.or(resource).is_none() {
        return Ok(None);
    }
    let Some(config) = &snapshot.oauth else {
        return Err("there are no clients with a scope without `\"kind\": \"oauth\"` in `proxy.auth`".into());
    };
    let audience = Audience::of(resource.unwrap_or(&config.base), &config.base);
    let no_place =
        || format!("--resource is no place of this gateway; write it as in {}/SERVER/mcp", config.base);
    Ok(Some(Allowed {
        client_id: Arc::default(),
        receiver: None,
        base: Arc::clone(&config.base),
        audience: audience.ok_or_else(no_place)?,
        scope: Scope::parse(scope.unwrap_or(ScopeWord::ALL), config.scope_tags),
    }))
}

/// What of a scope means something here.
fn known_scope(snapshot: &Snapshot, scope: &Scope) -> Scope {
    let has_tag = |tag: &str| snapshot.servers.iter().any(|server| server.tags.iter().any(|of| of == tag));
    let is_of_tool = |word: &str| {
        let rules = snapshot.servers.iter().filter_map(|server| server.tool_rules.as_ref());
        rules.flat_map(|rules| rules.all_scopes()).any(|known| known == word)
    };
    scope::known(scope, |name| snapshot.server(name).is_some(), has_tag, is_of_tool)
}

/// What there is to say of words of a scope that mean nothing here.
fn notes_of_scope(snapshot: &Snapshot, scope: &str) -> String {
    let asked = Scope::parse(scope, ScopeTags::default());
    let known = known_scope(snapshot, &asked);
    let mut notes = String::new();
    for word in asked.words().iter().filter(|word| !known.has(word)) {
        let becomes = match ScopeWord::of(word).is_of_servers() {
            true => "is refused",
            false => "gets `mcp`",
        };
        // Writing to a string does not fail.
        let _ = writeln!(
            notes,
            "note: `{}` means nothing here; a client that asks for it alone {becomes}",
            word.escape_debug()
        );
    }
    notes
}

/// The credentials of the principal, each with what it is called here.
fn identities(snapshot: &Snapshot, principal: &Principal) -> Result<Vec<(Identity, String)>, String> {
    let name = match principal {
        Principal::Nobody => return Ok(vec![(Identity::NOBODY, String::new())]),
        Principal::User(name) => return user(snapshot, name).map(|user| vec![(user, String::new())]),
        // Of them, the config has nothing that does not depend on what their token says.
        Principal::Foreign(_) => return Ok(Vec::new()),
        Principal::Client(name) => return client(snapshot, name).map(|client| vec![(client, String::new())]),
        Principal::Idp(_) => {
            return Err("what somebody of the identity provider may do depends on what that says of them; ask the gateway as them".into());
        }
        Principal::Token(name) | Principal::Tenant(name) => name,
    };
    let is_tenant = matches!(principal, Principal::Tenant(_));
    let of_kind = || snapshot.credentials.iter().filter(|credential| credential.is_tenant == is_tenant);
    let of_name = of_kind().filter(|credential| credential.token_name == *name);
    let found: Vec<_> = of_name
        .enumerate()
        .map(|(index, credential)| {
            let id = credential
                .id
                .as_ref()
                .map_or_else(|| format!("credential {}", index + 1), |id| format!("id {id}"));
            (Identity::of(credential), id)
        })
        .collect();
    if found.is_empty() {
        let mut names: Vec<_> = of_kind().map(|credential| &*credential.token_name).collect();
        names.dedup();
        let (kind, key) = if is_tenant { ("tenant", "tenants.tokens") } else { ("token", "tokens") };
        return Err(format!(
            "no {kind} of this name has a credential in `proxy.auth.{key}`; {}",
            proposed(name, names.into_iter())
        ));
    }
    Ok(found)
}

/// Somebody who comes with a token of an issuer that says `claims`, and what there is to say of that.
fn of_issuer(
    snapshot: &Snapshot,
    name: &str,
    claims: Vec<(String, Value)>,
    scope: Option<&str>,
    resource: Option<&str>,
) -> Result<(Identity, Option<&'static str>), String> {
    let (issuer, subject) = name.split_once(':').unwrap_or((name, ""));
    let found = snapshot.issuers.iter().find(|known| *known.name == *issuer).ok_or_else(|| {
        let names = snapshot.issuers.iter().map(|issuer| &*issuer.name);
        format!("there is no such issuer in `proxy.auth.issuers`; {}", proposed(issuer, names))
    })?;
    let base = snapshot.base().unwrap_or_default();
    let mut all = Map::new();
    for (name, value) in claims {
        match all.entry(name) {
            Entry::Vacant(free) => drop(free.insert(value)),
            Entry::Occupied(mut taken) => match taken.get_mut() {
                Value::Array(list) => list.push(value),
                one => *one = Value::Array(vec![one.take(), value]),
            },
        }
    }
    let (scope, note) = match (&found.scope_claim, scope) {
        (None, Some(_)) => return Err("tokens of this issuer have no scope, by its `scopeClaim`".into()),
        (None, None) => (None, None),
        (Some(_), Some(scope)) => (Some(scope.split_whitespace().map(str::to_owned).collect()), None),
        (Some(claim), None) => match VerifiedJwt::scope_of(&all, claim) {
            Some(words) => (Some(words), None),
            None => {
                let note = "the token is taken to have the scope `mcp`; without one it opens nothing";
                (Some(vec![ScopeWord::ALL.to_owned()]), Some(note))
            }
        },
    };
    let takes_any = || found.audiences.first().cloned().unwrap_or_else(|| base.to_string());
    let audiences = vec![resource.map_or_else(takes_any, str::to_owned)];
    let expires = SystemTime::now() + Duration::from_secs(60);
    let token = VerifiedJwt { subject: subject.to_owned(), audiences, scope, expires, claims: all };
    let vouched = Vouched {
        config: 0,
        issuer: Arc::clone(found),
        key_id: None,
        confirmed: None,
        token,
        asked: Arc::default(),
    };
    let identity = Identity::vouched_for(&Arc::new(vouched), snapshot, Proof::Foreign([0; 32]));
    let no_place = "--resource is no place of this gateway, and none of `audiences` of the issuer";
    Ok((identity.ok_or(no_place)?, note))
}

/// The user of this name. How it proves who it is makes no difference.
fn user(snapshot: &Snapshot, name: &str) -> Result<Identity, String> {
    let found = snapshot.users.iter().find(|user| *user.name == *name);
    found.map(|user| Identity::of_user(user, Proof::Nothing)).ok_or_else(|| {
        let names = snapshot.users.iter().map(|user| &*user.name);
        format!("there is no such user in `proxy.auth.users`; {}", proposed(name, names))
    })
}

/// The client of this name, for itself. By what it proves that makes no difference.
fn client(snapshot: &Snapshot, name: &str) -> Result<Identity, String> {
    let callers = || {
        let clients = snapshot.oauth.iter().flat_map(|config| &config.clients);
        clients.filter(|client| client.is_caller())
    };
    let found = callers().find(|client| *client.name == *name);
    found.map(|client| Identity::of_client(client, Proof::Nothing)).ok_or_else(|| {
        let names = callers().map(|client| &*client.name);
        format!(
            "there is no such client with the grant \"client_credentials\" in `proxy.auth.clients`; {}",
            proposed(name, names)
        )
    })
}

/// The scope of a client's own tokens, if it asks for none.
fn scope_of(snapshot: &Snapshot, principal: &Principal) -> Option<String> {
    let Principal::Client(name) = principal else { return None };
    snapshot.oauth.as_ref()?.client(name).map(|client| client.scopes.join(" "))
}

/// The decision, why, and the line that says so.
fn answer(path: &Path, loaded: &Loaded, identity: &Identity, ask: &Ask<'_>, decision: Decision) -> String {
    let (server, what) = match *ask {
        Ask::Server(name) | Ask::Member(name) => (Some(name), format!("the server `{name}`")),
        Ask::Tool { server, name } | Ask::MemberTool { server, name } => {
            (Some(server), format!("the tool `{}` of the server `{server}`", name.escape_debug()))
        }
        Ask::Aggregate => (None, "the aggregate of all servers, in which each has its own rule".into()),
        Ask::Manage(ManageAsk::Metrics) => (None, "`/metrics`".into()),
        Ask::Manage(ManageAsk::Servers) => (None, "`/servers` and its actions".into()),
        Ask::Manage(ManageAsk::Debug) => (None, "`/debug`".into()),
    };
    let verdict = match &decision {
        Decision::Allow { .. } => format!("may use {what}"),
        Decision::Deny { rule: Rule::Decoy, .. } if !matches!(ask, Ask::Manage(_)) => {
            format!("does not reach {what}; an empty server answers in its place")
        }
        // No refusal by HTTP, as a rule.
        Decision::Deny { kind: DenyKind::Hidden, .. } => {
            format!("may not use {what} (a call is answered as that of an unknown tool)")
        }
        Decision::Deny { kind, scope_needed, .. } => {
            let error = ErrorKind::from(*kind);
            let known = |scope| match &loaded.snapshot {
                Some(snapshot) => known_scope(snapshot, &Scope::parse(scope, ScopeTags::default())).text(),
                None => scope.to_owned(),
            };
            let needed =
                scope_needed.as_deref().map(|scope| format!(", it takes the scope {:?}", known(scope)));
            let (status, code) = (error.status().as_u16(), error.code());
            format!("may not use {what} ({status} {code}{})", needed.unwrap_or_default())
        }
    };
    let rule = decision.rule();
    let of_server = server.map(|name| RuleOf::Server(name.into()));
    let places = [of_server, identity.rule_of(), Some(RuleOf::Auth)].into_iter().flatten();
    let line = places.into_iter().find_map(|of| loaded.rules.get(of, rule));
    let reason = reason(rule, decision.is_allow());
    let rules =
        server.zip(loaded.snapshot.as_ref()).and_then(|(name, all)| all.server(name)?.tool_rules.as_ref());
    let reason = match (rule, rules) {
        (Rule::ToolRule(at), Some(rules)) if !decision.is_allow() => {
            let requirement = rules.get(at).map(|rule| rule.requirement());
            format!("{reason}: {}", requirement.unwrap_or_default())
        }
        _ => reason.to_owned(),
    };
    match line {
        Some(line) => format!("{verdict}\n  {}:{line}: {reason}", path.display()),
        None => format!("{verdict}\n  {reason}"),
    }
}

/// What the rule says, of which the line is shown in front.
fn reason(rule: Rule, allows: bool) -> &'static str {
    match (rule, allows) {
        (Rule::Public, _) => "opens the server to everybody, without a credential",
        (Rule::AnyToken, _) => "any valid caller may",
        (Rule::AuthTokens, true) => "names the token",
        (Rule::AuthTokens, false) => "does not name the caller",
        (Rule::Users, true) => "names the user",
        (Rule::Users, false) => "does not name the caller",
        (Rule::ServerRoles, true) => "asks for a role that the caller has",
        (Rule::ServerRoles, false) => "asks for a role that the caller does not have",
        (Rule::AdminSeesAll, _) => "lets the role `admin` pass the rules of servers",
        (Rule::OwnServers, true) => "the caller is limited to servers of which this is one",
        (Rule::OwnServers, false) => "the caller is limited to other servers",
        (Rule::OwnTags, true) => "the caller is limited to tags of which the server has one",
        (Rule::OwnTags, false) => "the caller is limited to tags of which the server has none",
        (Rule::ToolFilter, true) => "leaves the tool to clients",
        (Rule::ToolFilter, false) => "hides the tool from everybody",
        (Rule::ToolRule(_), true) => "asks for what the caller has",
        (Rule::ToolRule(_), false) => "asks for what the caller does not have",
        (Rule::OwnRoles, true) => "the caller has a role that opens it",
        (Rule::OwnRoles, false) => "the caller has no role that opens it",
        (Rule::Expires, _) => "the credential has expired",
        (Rule::Decoy, _) => "makes the credential a decoy",
        (Rule::Disabled, _) => "the user is disabled",
        (Rule::NoCredential, _) => "there is no credential, and one is needed",
        (Rule::NoServer, _) => "there is no such server",
        (Rule::Audience, _) => "a token for another place opens nothing here",
        (Rule::Scope, _) => "the scope of the token does not reach it",
    }
}
