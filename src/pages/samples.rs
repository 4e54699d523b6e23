//! Pages as people will see them, for tests that look at them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::StatusCode;
use url::Url;

use super::*;

const GATEWAY: &str = "MCP at Example";
const FORM: Form<'_> = Form { csrf: "csrf", flow: Some("flow") };
const REQUEST: &str = "5f1d9c3a7be20468";

fn at(day: u64, minute: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_795_737_600 + day * 86_400 + minute * 60)
}

/// Each page, by the name of its picture.
pub(super) fn samples() -> Vec<(&'static str, Page)> {
    let to_sign_in = |name, failure| SignIn {
        gateway: GATEWAY,
        form: FORM,
        name,
        idp: None,
        asks: None,
        has_users: true,
        has_tokens: true,
        is_by_token: false,
        is_for_page: false,
        failure,
    };
    let asks = Asks {
        client: Shown::name("Claude"),
        redirect_target: RedirectTarget::Site(Shown::text("claude.ai")),
        identified: Identified::Site(Shown::text("claude.ai")),
        scope: Some(Shown::text("mcp offline_access")),
    };
    let by_idp = SignIn { idp: Some(Shown::name("Google")), asks: Some(asks), ..to_sign_in("", None) };
    let provider =
        Url::parse("https://accounts.google.com/o/oauth2/v2/auth?client_id=gate&state=state").unwrap();
    let to_provider = ToIdp { gateway: GATEWAY, host: Shown::text("accounts.google.com"), target: &provider };
    let [docs, db, tickets] = ["docs", "db", "tickets"].map(Shown::name);
    let whole = [
        ScopeChoice { value: "mcp", meaning: ScopeMeaning::All, is_checked: true },
        ScopeChoice { value: "offline_access", meaning: ScopeMeaning::Offline, is_checked: true },
    ];
    let narrow = [
        ScopeChoice { value: "server:db", meaning: ScopeMeaning::Server("db"), is_checked: true },
        ScopeChoice { value: "tag:reports", meaning: ScopeMeaning::Tag("reports"), is_checked: true },
        ScopeChoice { value: "files:write", meaning: ScopeMeaning::Tools("files:write"), is_checked: true },
    ];
    let of_site = Consent {
        gateway: GATEWAY,
        client: Shown::name("Claude"),
        account: Shown::name("alice"),
        is_admin: false,
        redirect_target: RedirectTarget::Site(Shown::text("claude.ai")),
        identified: Identified::Site(Shown::text("claude.ai")),
        servers: &[docs, db, tickets],
        scopes: &whole,
        form: FORM,
        client_id: Shown::text("https://claude.ai/oauth/mcp-oauth-client-metadata"),
        redirect_uri: Shown::text("https://claude.ai/api/mcp/auth_callback"),
        resource: Shown::text("https://mcp.example.com/mcp"),
    };
    let id = format!("sgc_{}", "Jb3Qk9x_Tz7eW1uYpL0a".repeat(20));
    let of_stranger = Consent {
        gateway: GATEWAY,
        client: Shown::name(
            "Your bank \u{202e}knab\u{2028}(verified by everybody, and with a name that goes on",
        ),
        account: Shown::name("alice"),
        is_admin: true,
        redirect_target: RedirectTarget::ThisComputer,
        identified: Identified::Nobody,
        servers: &[db],
        scopes: &narrow,
        form: FORM,
        client_id: Shown::text(&id),
        redirect_uri: Shown::text("http://127.0.0.1:33418/callback"),
        resource: Shown::text("https://mcp.example.com/db/mcp"),
    };
    let target = |text| Url::parse(text).unwrap();
    let (site, app) = (
        target("https://app.example/callback?code=code&state=state&iss=https%3A%2F%2Fmcp.example.com"),
        target("cursor://anysphere.cursor-mcp/oauth/callback?code=code&state=state"),
    );
    let to_site = PassingOn {
        gateway: GATEWAY,
        client: Shown::name("Claude"),
        outcome: Outcome::Approved,
        goes_on: true,
        redirect_target: RedirectTarget::Site(Shown::text("claude.ai")),
        target: &site,
    };
    let to_app = PassingOn {
        gateway: GATEWAY,
        client: Shown::name("Cursor"),
        outcome: Outcome::Denied,
        goes_on: true,
        redirect_target: RedirectTarget::App(Shown::text("cursor:")),
        target: &app,
    };
    let untrusted = target(
        "https://app.example/callback?error=invalid_target&error_description=x&iss=https%3A%2F%2Fmcp.example.com",
    );
    let to_stranger = PassingOn {
        client: Shown::name("A program"),
        outcome: Outcome::Faulty("resource is no place of this gateway."),
        goes_on: false,
        redirect_target: RedirectTarget::Site(Shown::text("app.example")),
        target: &untrusted,
        ..to_site
    };
    let unknown = Trouble {
        status: StatusCode::BAD_REQUEST,
        sentence: "This program is not known here.",
        way_on: WayOn::AddAnew,
        ..Trouble::over(GATEWAY, REQUEST)
    };
    let redirect = Trouble {
        status: StatusCode::BAD_REQUEST,
        sentence: "This program asks to be answered at an address that it did not name before.",
        detail: Some(Shown::text("http://127.0.0.1:4096/mcp/oauth/callback")),
        way_on: WayOn::AddAnew,
        ..Trouble::over(GATEWAY, REQUEST)
    };
    let down = Trouble {
        status: StatusCode::SERVICE_UNAVAILABLE,
        sentence: "Nobody can sign in at present.",
        way_on: WayOn::AskOperator,
        ..Trouble::over(GATEWAY, REQUEST)
    };
    let grant = |client, account, redirect_target, scope, resource, last_used| ShownGrant {
        id: "a1b2",
        csrf: "csrf",
        owner: match account {
            "alice" => "user:alice".into(),
            "the token ci" => "token:ci".into(),
            _ => "idp:google:110169484474386276334".into(),
        },
        account: Shown::name(account),
        client: Shown::name(client),
        redirect_target: Shown::text(redirect_target),
        scope: Shown::text(scope),
        resource: Shown::text(resource),
        last_used,
        ends: Moment(at(30, 60)),
    };
    let everything = "https://mcp.example.com/mcp";
    let own = [
        grant("Claude", "alice", "claude.ai", "mcp offline_access", everything, Moment(at(0, 1060))),
        grant(
            "Claude Code",
            "alice",
            "localhost",
            "server:db tag:reports",
            "https://mcp.example.com/db/mcp",
            Moment(at(0, 90)),
        ),
    ];
    let others = [
        grant("Cursor", "bob@corp.example (Google)", "cursor:", "mcp", everything, Moment(at(0, 3))),
        grant(
            "nightly \u{202e}report",
            "the token ci",
            "127.0.0.1",
            "server:db",
            everything,
            Moment(at(0, 90)),
        ),
    ];
    let service = |name, server| Service { name: Shown::name(name), server, is_shared: false };
    let github = service("GitHub", "github");
    let scopes = ["repo", "read:org", "offline_access"].map(Shown::text);
    let to_connect = Connect {
        gateway: GATEWAY,
        account: Shown::name("alice"),
        service: github,
        issuer: Shown::text("github.com"),
        scopes: &scopes,
        form: Form { flow: None, ..FORM },
        return_to: Some("/oauth"),
    };
    let to_share = Connect { service: Service { is_shared: true, ..github }, scopes: &[], ..to_connect };
    let help = Url::parse("https://www.notion.so/my-integrations").unwrap();
    let to_enter = |is_wrong| EnterToken {
        gateway: GATEWAY,
        account: Shown::name("alice"),
        service: service("Notion", "notion"),
        instructions: Some(Shown::text("Make an internal integration, and copy its secret.")),
        help: Some(&help),
        is_wrong,
        form: Form { flow: None, ..FORM },
        return_to: None,
    };
    let to_approve = Approve {
        gateway: GATEWAY,
        account: Shown::name("alice"),
        service: github,
        issuer: Shown::text("github.com"),
        account_there: Some(Shown::name("alice-at-work")),
        scopes: &scopes,
        is_revocable: true,
        form: FORM,
    };
    let offer = |service, button| Offer { service, target: "/oauth/authorize?server_id=x".into(), button };
    let offers = [offer(github, "Connect"), offer(service("Notion", "notion"), "Enter token")];
    let first = ConnectFirst {
        gateway: GATEWAY,
        client: Shown::name("Claude"),
        account: Shown::name("alice"),
        offers: &offers,
        form: FORM,
    };
    let account = |server, name, state: AccountState, who: Option<&'static str>| {
        let is_there = who.is_some();
        ShownAccount {
            anchor: Some(server),
            service: service(name, server),
            of: Shown::name("bob"),
            owner: "user:bob".into(),
            state,
            who: who.map(Shown::name),
            scopes: (name == "GitHub").then_some(Shown::text("repo read:org")),
            since: is_there.then_some(Moment(at(0, 90))),
            ends: (name == "GitHub").then_some(Moment(at(0, 150))),
            action: state
                .button()
                .map(|button| AccountAction { target: "/oauth/authorize?server_id=x".into(), button }),
            disconnect: is_there.then_some("csrf"),
        }
    };
    let own_accounts = [
        account("github", "GitHub", AccountState::Connected, Some("alice-at-work")),
        account("linear", "Linear", AccountState::Awaiting, None),
        account("notion", "Notion", AccountState::AwaitingToken, None),
        account("calendar", "Calendar of the whole company", AccountState::NeedsScopes, Some("alice")),
    ];
    let of_other = |server, name| ShownAccount {
        anchor: None,
        who: None,
        ..account(server, name, AccountState::Connected, Some("bob"))
    };
    let accounts_of_others = [of_other("github", "GitHub"), of_other("notion", "Notion")];
    let connections_of = |own: &[_], others: Option<&[_]>, done| {
        let account = Shown::name("alice");
        connections(&Connections {
            gateway: GATEWAY,
            account,
            sign_out_csrf: "csrf",
            done,
            own_accounts: if own.is_empty() { &[] } else { &own_accounts },
            accounts_of_others: others.is_some().then_some(&accounts_of_others[..]),
            own,
            others,
            not_shown: 0,
        })
    };
    vec![
        ("sign-in", sign_in(&to_sign_in("", None))),
        ("sign-in-refused", sign_in(&to_sign_in("alice", Some(NotSignedIn::Wrong)))),
        ("sign-in-idp", sign_in(&by_idp)),
        ("to-idp", to_idp(&to_provider)),
        ("consent", consent(&of_site)),
        ("consent-unverified", consent(&of_stranger)),
        ("passing-on", passing_on(&to_site)),
        ("passing-on-app", passing_on(&to_app)),
        ("passing-on-unverified", passing_on(&to_stranger)),
        ("error-unknown-client", trouble(&unknown)),
        ("error-redirect", trouble(&redirect)),
        ("error-over", trouble(&Trouble::over(GATEWAY, REQUEST))),
        ("error-down", trouble(&down)),
        ("connect", connect(&to_connect)),
        ("connect-shared", connect(&to_share)),
        ("connect-token", enter_token(&to_enter(false))),
        ("connect-token-wrong", enter_token(&to_enter(true))),
        ("connect-approve", approve(&to_approve)),
        ("connect-done", connected(&Connected { gateway: GATEWAY, service: github })),
        ("connect-first", connect_first(&first)),
        ("connections", connections_of(&own, None, None)),
        ("connections-empty", connections_of(&[], None, Some(Done::Revoked))),
        ("connections-admin", connections_of(&own, Some(&others), None)),
    ]
}
