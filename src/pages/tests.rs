//! What holds of all pages, with what somebody could write into them.

use std::time::UNIX_EPOCH;

use http::header;
use url::Url;

use super::{
    page::{STYLE, hash},
    *,
};

/// What would do something, if it were not escaped: in text, in an attribute, in a tag.
const HOSTILE: &str = "\"'><script>alert(1)</script><a href='javascript:1' x>&amp;\u{202e}\u{0}";

fn form(text: &str) -> Form<'_> {
    Form { csrf: text, flow: Some(text) }
}

/// Each page in each of its states, with `text` wherever somebody else can write something, and what goes through a page and is not
/// shown, without what is invisible.
fn pages(text: &str) -> Vec<(&'static str, Page)> {
    let shown = Shown::name(text);
    let text = text.trim_end_matches(['\u{202e}', '\u{0}']);
    let failures = [None, Some(NotSignedIn::Wrong), Some(NotSignedIn::TooOften), Some(NotSignedIn::Busy)];
    let sign_ins = failures.map(|failure| {
        let view = SignIn {
            gateway: text,
            form: form(text),
            name: text,
            idp: None,
            asks: None,
            has_users: true,
            has_tokens: true,
            is_by_token: failure.is_none(),
            is_for_page: false,
            failure,
        };
        ("sign in", sign_in(&view))
    });
    let redirect_targets =
        [RedirectTarget::Site(shown), RedirectTarget::ThisComputer, RedirectTarget::App(shown)];
    let scopes = [
        ("mcp", ScopeMeaning::All),
        ("server:db", ScopeMeaning::Server("db")),
        ("tag:a", ScopeMeaning::Tag(text)),
        ("tag:a tag:b", ScopeMeaning::Tags(vec!["a", text])),
        ("offline_access", ScopeMeaning::Offline),
        (text, ScopeMeaning::Tools(text)),
    ];
    let scopes = scopes.map(|(value, meaning)| ScopeChoice { value, meaning, is_checked: value != text });
    let who = [Identified::Config, Identified::Site(shown), Identified::Nobody];
    let consents = redirect_targets.into_iter().zip(who).map(|(redirect_target, identified)| {
        let servers = if redirect_target.is_site() { &[][..] } else { &[shown, shown] };
        let view = Consent {
            gateway: text,
            client: shown,
            account: shown,
            is_admin: redirect_target.is_site(),
            redirect_target,
            identified,
            servers,
            scopes: &scopes,
            form: form(text),
            client_id: shown,
            redirect_uri: shown,
            resource: shown,
        };
        ("consent", consent(&view))
    });
    let by_idp = redirect_targets.into_iter().zip(who).map(|(redirect_target, identified)| {
        let scope = redirect_target.is_site().then_some(shown);
        let view = SignIn {
            gateway: text,
            form: form(text),
            name: text,
            idp: Some(shown),
            asks: Some(Asks { client: shown, redirect_target, identified, scope }),
            has_users: redirect_target.is_site(),
            has_tokens: true,
            is_by_token: false,
            is_for_page: false,
            failure: None,
        };
        ("sign in", sign_in(&view))
    });
    let mut target = Url::parse("https://app.example/callback").unwrap();
    target.query_pairs_mut().append_pair("state", text);
    let passed = redirect_targets.map(|redirect_target| {
        let (outcome, goes_on) = match redirect_target {
            RedirectTarget::Site(_) => (Outcome::Approved, true),
            RedirectTarget::ThisComputer => (Outcome::Denied, true),
            RedirectTarget::App(_) => (Outcome::Faulty("Something is wrong."), false),
        };
        let view =
            PassingOn { gateway: text, client: shown, outcome, goes_on, redirect_target, target: &target };
        ("passing on", passing_on(&view))
    });
    use WayOn::{AddAnew, AskOperator, AskToAdd, Connections as ToConnections, StartAgain, TellOperator};
    let all = [AddAnew, StartAgain, ToConnections, AskOperator, TellOperator, AskToAdd("clients")];
    let troubles = all.map(|way_on| {
        let view = Trouble {
            sentence: "Something is wrong.",
            detail: Some(shown),
            way_on,
            ..Trouble::over(text, "0123456789abcdef")
        };
        ("trouble", trouble(&view))
    });
    let grant = ShownGrant {
        id: "0123",
        csrf: text,
        owner: text.to_owned(),
        account: shown,
        client: shown,
        redirect_target: shown,
        scope: shown,
        resource: shown,
        last_used: Moment(UNIX_EPOCH),
        ends: Moment(UNIX_EPOCH),
    };
    let grants = [grant.clone(), grant];
    // Its name in the config is a word.
    let service = |is_shared| Service { name: shown, server: "db", is_shared };
    let account = |state: AccountState| ShownAccount {
        anchor: Some(text),
        service: service(state == AccountState::Connected),
        of: shown,
        owner: text.to_owned(),
        state,
        who: Some(shown),
        scopes: Some(shown),
        since: Some(Moment(UNIX_EPOCH)),
        ends: None,
        action: state.button().map(|button| AccountAction { target: text.to_owned(), button }),
        disconnect: Some(text),
    };
    let accounts = [
        AccountState::Awaiting,
        AccountState::AwaitingToken,
        AccountState::Connected,
        AccountState::Reconnect,
        AccountState::NeedsScopes,
    ]
    .map(account);
    let no_flow = Form { flow: None, ..form(text) };
    let connects = [false, true].map(|is_shared| {
        let view = Connect {
            gateway: text,
            account: shown,
            service: service(is_shared),
            issuer: shown,
            scopes: if is_shared { &[] } else { &[shown, shown] },
            form: no_flow,
            return_to: Some(text),
        };
        ("connect", connect(&view))
    });
    let help = Url::parse("https://help.example/").unwrap();
    let enters = [false, true].map(|is_wrong| {
        let view = EnterToken {
            gateway: text,
            account: shown,
            service: service(false),
            instructions: Some(shown),
            help: is_wrong.then_some(&help),
            is_wrong,
            form: no_flow,
            return_to: Some(text),
        };
        ("enter token", enter_token(&view))
    });
    let approves = [false, true].map(|is_shared| {
        let view = Approve {
            gateway: text,
            account: shown,
            service: service(is_shared),
            issuer: shown,
            account_there: is_shared.then_some(shown),
            scopes: if is_shared { &[] } else { &[shown] },
            is_revocable: true,
            form: form(text),
        };
        ("approve", approve(&view))
    });
    let connected = ("connected", connected(&Connected { gateway: text, service: service(false) }));
    let offers = [Offer { service: service(false), target: text.to_owned(), button: "Connect" }];
    let first =
        ConnectFirst { gateway: text, client: shown, account: shown, offers: &offers, form: form(text) };
    let first = ("connect first", connect_first(&first));
    let all: [(&[_], Option<&[_]>, _); 4] = [
        (&[], None, None),
        (&[], Some(&[]), None),
        (&grants, None, Some(Done::Revoked)),
        (&grants, Some(&grants), None),
    ];
    let dashboards = all.map(|(own, others, done)| {
        let view = Connections {
            gateway: text,
            account: shown,
            sign_out_csrf: text,
            done,
            own_accounts: if own.is_empty() { &[] } else { &accounts },
            accounts_of_others: others.map(|_| &accounts[..]),
            own,
            others,
            not_shown: own.len(),
        };
        ("connections", connections(&view))
    });
    let to_idp = ("to the provider", to_idp(&ToIdp { gateway: text, host: shown, target: &target }));
    let by_idp = by_idp.chain([to_idp]);
    sign_ins
        .into_iter()
        .chain(by_idp)
        .chain(consents)
        .chain(passed)
        .chain(troubles)
        .chain(dashboards)
        .chain(connects)
        .chain(enters)
        .chain(approves)
        .chain([connected, first])
        .collect()
}

#[test]
fn what_others_write_stays_text() {
    for (name, page) in pages(HOSTILE) {
        let html = page.html();
        for bad in ["<script", "<a href='", "x>", "'><", "\"'>", "\u{202e}", "\u{0}"] {
            assert!(!html.contains(bad), "{name} has {bad}:\n{html}");
        }
        assert!(name == "trouble" || html.contains("alert"), "{name}:\n{html}");
        let tags = |html: &str| html.matches('<').count();
        let plain: Vec<_> = pages("x").into_iter().filter(|(other, _)| *other == name).collect();
        assert!(plain.iter().any(|(_, plain)| tags(plain.html()) == tags(html)), "{name}:\n{html}");
    }
}

#[test]
fn the_policy_of_a_page_lets_its_own_style_in_and_nothing_else() {
    for (name, page) in pages("Claude") {
        let html = page.html().to_owned();
        let (_, rest) = html.split_once("<style>").unwrap();
        let (style, _) = rest.split_once("</style>").unwrap();
        let response = page.into_response();
        let policy = response.headers()[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
        let wanted = format!(
            "default-src 'none'; style-src '{}'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
            hash(style)
        );
        assert_eq!(policy, wanted, "{name}");
        // What the policy would not let in.
        for absent in ["<script", " style=", " onclick", "<img", "<link", "src=", "url(", "@import"] {
            assert!(!html.contains(absent), "{name} has {absent}");
        }
    }
}

#[test]
fn no_page_is_kept_or_taken_for_something_else() {
    for (name, page) in pages("Claude") {
        let response = page.into_response();
        let field = |field: &str| response.headers().get(field).map(|value| value.to_str().unwrap());
        assert_eq!(field("content-type"), Some("text/html; charset=utf-8"));
        assert_eq!(field("cache-control"), Some("no-store"));
        assert_eq!(field("x-content-type-options"), Some("nosniff"));
        assert_eq!(field("referrer-policy"), Some("same-origin"));
        assert_eq!(field("cross-origin-resource-policy"), Some("same-origin"));
        // The window of a program that waits for its answer stays its own.
        let wanted = (name == "connections").then_some("same-origin");
        assert_eq!(field("cross-origin-opener-policy"), wanted, "{name}");
    }
}

#[test]
fn a_page_has_one_heading_one_language_and_a_label_for_each_field() {
    for (name, page) in pages("Claude") {
        let html = page.html();
        assert_eq!(html.matches("<h1>").count(), 1, "{name}");
        assert!(html.starts_with("<!doctype html>\n<html lang=\"en\">"), "{name}");
        assert!(html.contains("<main id=\"main\">") && html.contains("name=\"viewport\""), "{name}");
        let inputs = html.split("<input ").skip(1);
        for input in inputs.filter(|input| !input.starts_with("type=\"hidden\"")) {
            let id = input.split_once("id=\"").map(|(_, id)| id.split('"').next().unwrap_or_default());
            let is_labelled = match id {
                Some(id) if input.starts_with("id=") => html.contains(&format!("<label for=\"{id}\">")),
                _ => input.starts_with("type=\"checkbox\""),
            };
            assert!(is_labelled, "{name}: {}", &input[..40]);
        }
    }
}

#[test]
fn to_deny_is_what_enter_does() {
    for (_, page) in pages("Claude").into_iter().filter(|(name, _)| ["consent", "approve"].contains(name)) {
        let (deny, approve) = (page.html().find("value=\"deny\""), page.html().find("value=\"approve\""));
        assert!(deny.is_some() && deny < approve);
        assert_eq!(page.html().matches("<button").count(), 2);
    }
}

#[test]
fn an_answer_leads_on_to_where_it_was_asked_for() {
    let target = Url::parse("cursor://anysphere.cursor-mcp/oauth/callback?code=a'b\"c&state=%3Cx;y").unwrap();
    let view = PassingOn {
        gateway: "Gate",
        client: Shown::name("Cursor"),
        outcome: Outcome::Approved,
        goes_on: true,
        redirect_target: RedirectTarget::App(Shown::text("cursor:")),
        target: &target,
    };
    let page = passing_on(&view);
    let unescaped = |text: &str| {
        [("&#34;", "\""), ("&#39;", "'"), ("&#60;", "<"), ("&#62;", ">"), ("&#38;", "&")]
            .iter()
            .fold(text.to_owned(), |text, (code, c)| text.replace(code, c))
    };
    let attribute = |before: &str| {
        let (_, rest) = page.html().split_once(before).unwrap();
        unescaped(rest.split('"').next().unwrap())
    };
    assert_eq!(attribute("content=\"0; url="), target.as_str());
    assert_eq!(attribute("class=\"button primary\" href=\""), target.as_str());
}

/// For pictures and axe: `SLUICEGATE_PAGES=DIRECTORY` has each sample written there, as a response over HTTP/1.1 has it.
#[test]
fn samples_are_whole_and_can_be_looked_at() {
    let directory = std::env::var_os("SLUICEGATE_PAGES").map(std::path::PathBuf::from);
    for (name, page) in samples::samples() {
        let response = page.into_response();
        let mut text = format!("{}\r\n", response.status().as_str());
        for (name, value) in response.headers() {
            text += &format!("{name}: {}\r\n", value.to_str().unwrap());
        }
        let html = std::str::from_utf8(response.body()).unwrap();
        assert!(html.ends_with("</html>"), "{name}");
        text += &format!("\r\n{html}");
        if let Some(directory) = &directory {
            std::fs::write(directory.join(format!("{name}.http")), text).unwrap();
        }
    }
}

#[test]
fn colours_have_contrast_in_light_and_in_dark() {
    let luminance = |colour: &str| {
        let channel = |at: usize| {
            let value = f64::from(u8::from_str_radix(&colour[at..at + 2], 16).unwrap()) / 255.0;
            if value <= 0.04045 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
        };
        0.2126 * channel(1) + 0.7152 * channel(3) + 0.0722 * channel(5)
    };
    let (light, dark) = STYLE.split_once("@media (prefers-color-scheme: dark)").unwrap();
    for theme in [light, dark] {
        let colour = |name: &str| {
            let (_, rest) = theme.split_once(&format!("--{name}: ")).unwrap();
            luminance(&rest[..7])
        };
        // Text needs 4.5, the edge of a field 3 (WCAG 2.2, 1.4.3 and 1.4.11).
        for (ink, ground, least) in [
            ("ink", "bg", 4.5),
            ("ink", "panel", 4.5),
            ("dim", "bg", 4.5),
            ("dim", "panel", 4.5),
            ("link", "bg", 4.5),
            ("link", "panel", 4.5),
            ("on-link", "link", 4.5),
            ("warn", "warn-bg", 4.5),
            ("bad", "bad-bg", 4.5),
            ("edge", "bg", 3.0),
            ("edge", "panel", 3.0),
        ] {
            let (a, b) = (colour(ink), colour(ground));
            let ratio = (a.max(b) + 0.05) / (a.min(b) + 0.05);
            assert!(ratio >= least, "{ink} on {ground}: {ratio:.1}");
        }
    }
}
