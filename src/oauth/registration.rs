//! Clients that register themselves (RFC 7591). Nothing is kept of them: what one says of itself is in the id that it gets, with
//! a MAC by which the gateway knows that it made it; and its secret, if it wants one, is another MAC. So there is nothing that a
//! flood of registrations could fill, and nothing that would have to be thrown away to make room.
//!
//! `sgc_` and base64url(HMAC-SHA256, 16 bytes of it ‖ JSON).

use std::sync::Arc;

use aws_lc_rs::{constant_time::verify_slices_are_equal, hmac};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::client::{Client, ClientAuth, ClientKind, MOST_REDIRECTS, asks_for_codes, cut};
use crate::{
    config::{GrantTypes, OauthConfig, RedirectTarget},
    secret::Secret,
};

const PREFIX: &str = OauthConfig::REGISTERED_CLIENT;
/// Bytes of an id at most: clients send it in URLs.
pub const LONGEST_ID: usize = 1400;
/// Bytes of a registration at most.
pub const LONGEST_REQUEST: usize = 8 * 1024;

const MAC: usize = 16;

/// Why a client is not registered: `error` of the answer (RFC 7591 §3.2.2), and what to do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotRegistered {
    /// `error`
    pub error: &'static str,
    /// `error_description`
    pub description: &'static str,
}

const fn bad_metadata(description: &'static str) -> NotRegistered {
    NotRegistered { error: "invalid_client_metadata", description }
}

/// What a client says of itself. What is not here has no meaning for the gateway.
#[derive(Debug, Default, Deserialize)]
struct Request {
    #[serde(default)]
    redirect_uris: Vec<String>,
    client_name: Option<String>,
    token_endpoint_auth_method: Option<String>,
    grant_types: Option<Vec<String>>,
    response_types: Option<Vec<String>>,
    application_type: Option<String>,
}

/// What is in an id.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Said {
    /// Name.
    #[serde(rename = "n")]
    name: String,
    /// Redirect URIs.
    #[serde(rename = "r")]
    redirect_uris: Vec<String>,
    /// Whether it has a secret.
    #[serde(rename = "s", default, skip_serializing_if = "std::ops::Not::not")]
    has_secret: bool,
    /// When it registered, in seconds since 1970.
    #[serde(rename = "t")]
    issued: u64,
}

/// What a registration answers.
#[derive(Debug, Serialize)]
pub struct Registered {
    /// The id.
    pub client_id: String,
    client_id_issued_at: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_secret: Option<Shown>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_secret_expires_at: Option<u64>,
    client_name: String,
    redirect_uris: Vec<String>,
    token_endpoint_auth_method: &'static str,
    grant_types: [&'static str; 2],
    response_types: [&'static str; 1],
    #[serde(skip_serializing_if = "Option::is_none")]
    application_type: Option<String>,
}

/// A secret on its way to the client that it is of.
struct Shown(Secret);

impl std::fmt::Debug for Shown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for Shown {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.expose())
    }
}

/// Registers clients, and knows them again.
pub struct Registrar {
    key: hmac::Key,
}

impl Registrar {
    /// One whose clients others of the same key know.
    pub fn new(key: &[u8; 32]) -> Self {
        Self { key: hmac::Key::new(hmac::HMAC_SHA256, key) }
    }

    /// Registers a client that says this of itself, `now` seconds after 1970.
    pub fn register(&self, body: &[u8], config: &OauthConfig, now: u64) -> Result<Registered, NotRegistered> {
        let is_object = body.trim_ascii_start().first() == Some(&b'{');
        if body.len() > LONGEST_REQUEST || !is_object {
            return Err(bad_metadata("The body has to be one JSON object, of 8 KiB at most."));
        }
        let request: Request = serde_json::from_slice(body)
            .map_err(|_| bad_metadata("The body is no JSON object as RFC 7591 has it."))?;
        if !asks_for_codes(request.grant_types.as_deref(), request.response_types.as_deref()) {
            return Err(bad_metadata("Only clients that ask for codes can register here."));
        }
        let method = match request.token_endpoint_auth_method.as_deref() {
            // A secret that nobody asked for would only be one more to keep.
            None | Some("none") => "none",
            Some("client_secret_basic") => "client_secret_basic",
            Some("client_secret_post") => "client_secret_post",
            Some(_) => {
                return Err(bad_metadata(
                    "token_endpoint_auth_method has to be none, client_secret_basic or client_secret_post.",
                ));
            }
        };
        let mut redirect_uris = request.redirect_uris;
        redirect_uris.retain(|uri| {
            RedirectTarget::of(uri, &config.redirect_schemes)
                .is_ok_and(|target| target.is_allowed(&config.registration, &config.own_hosts))
        });
        if redirect_uris.is_empty() {
            return Err(NotRegistered {
                error: "invalid_redirect_uri",
                description: "None of the redirect_uris can be used here: they have to be https, http on this machine, or of a \
                              scheme that the gateway's config lists, and at a host that it allows, which its own is not.",
            });
        }
        if redirect_uris.len() > MOST_REDIRECTS {
            return Err(bad_metadata("There are more than 20 redirect_uris."));
        }
        let name = request.client_name.unwrap_or_default();
        let has_secret = method != "none";
        let said = Said { name: cut(name.trim()).to_owned(), redirect_uris, has_secret, issued: now };
        let client_id = self
            .seal(&said)
            .ok_or(bad_metadata("The name and the redirect_uris have more than 1,000 bytes together."))?;
        let client_secret = has_secret.then(|| Shown(self.secret(&client_id)));
        let Said { name: client_name, redirect_uris, .. } = said;
        Ok(Registered {
            client_id,
            client_id_issued_at: now,
            client_secret_expires_at: client_secret.as_ref().map(|_| 0),
            client_secret,
            client_name,
            redirect_uris,
            token_endpoint_auth_method: method,
            grant_types: ["authorization_code", "refresh_token"],
            response_types: ["code"],
            application_type: request
                .application_type
                .filter(|kind| matches!(kind.as_str(), "native" | "web")),
        })
    }

    /// The client that has this id, if the gateway made it.
    pub fn client(&self, id: &str) -> Option<Client> {
        let Said { name, redirect_uris, has_secret, .. } = self.open(id)?;
        let auth = match has_secret {
            true => ClientAuth::Secret(Sha256::digest(self.secret(id).expose()).into()),
            false => ClientAuth::None,
        };
        Some(Client {
            id: id.into(),
            name: name.into(),
            redirect_uris: redirect_uris.into_iter().map(Arc::from).collect(),
            auth,
            grants: GrantTypes::DEFAULT,
            kind: ClientKind::Registered,
        })
    }

    fn seal(&self, said: &Said) -> Option<String> {
        let json = serde_json::to_vec(said).ok()?;
        let mac = self.mac("id", &json);
        let id = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode([&mac.as_ref()[..MAC], &json].concat()));
        (id.len() <= LONGEST_ID).then_some(id)
    }

    fn open(&self, id: &str) -> Option<Said> {
        let encoded = id.strip_prefix(PREFIX).filter(|_| id.len() <= LONGEST_ID)?;
        let bytes = URL_SAFE_NO_PAD.decode(encoded).ok()?;
        let (mac, json) = bytes.split_first_chunk::<MAC>()?;
        verify_slices_are_equal(&self.mac("id", json).as_ref()[..MAC], mac).ok()?;
        serde_json::from_slice(json).ok()
    }

    fn secret(&self, id: &str) -> Secret {
        Secret::new(URL_SAFE_NO_PAD.encode(self.mac("secret", id.as_bytes())))
    }

    /// Of a word that no other begins with, so that a MAC for one thing is none for another.
    fn mac(&self, what: &str, text: &[u8]) -> hmac::Tag {
        let mut mac = hmac::Context::with_key(&self.key);
        mac.update(what.as_bytes());
        mac.update(&[0]);
        mac.update(text);
        mac.sign()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::config::Registration;

    fn config() -> OauthConfig {
        OauthConfig { redirect_schemes: vec!["cursor".into()], ..OauthConfig::at("https://mcp.example.com") }
    }

    fn register(body: &Value) -> Result<Value, NotRegistered> {
        let registered =
            Registrar::new(&[7; 32]).register(body.to_string().as_bytes(), &config(), 1_800_000_000);
        registered.map(|registered| serde_json::to_value(registered).unwrap())
    }

    #[test]
    fn a_client_gets_an_id_by_which_the_gateway_knows_it_again() {
        let answer = register(&json!({
            "client_name": "Cursor",
            "redirect_uris": [
                "cursor://anysphere.cursor-mcp/oauth/callback",
                "https://www.cursor.com/agents/mcp/oauth/callback",
                "http://localhost:8787/callback",
                "evil://x",
                "http://elsewhere.example/",
            ],
            "grant_types": ["authorization_code", "refresh_token"],
            "response_types": ["code"],
            "token_endpoint_auth_method": "none",
            "application_type": "native",
            "logo_uri": "https://x.example/logo.png",
        }))
        .unwrap();
        let id = answer["client_id"].as_str().unwrap();
        assert!(id.starts_with("sgc_") && id.len() <= 400, "{id}");
        assert_eq!(answer["redirect_uris"].as_array().unwrap().len(), 3);
        assert_eq!(answer["application_type"], "native");
        assert_eq!(answer.get("client_secret"), None);
        let client = Registrar::new(&[7; 32]).client(id).unwrap();
        assert_eq!((&*client.id, &*client.name, client.redirect_uris.len()), (id, "Cursor", 3));
        assert_eq!((client.auth, client.kind), (ClientAuth::None, ClientKind::Registered));
        assert_eq!(Registrar::new(&[8; 32]).client(id), None);
    }

    #[test]
    fn a_secret_is_only_for_who_asks_for_one_and_is_the_same_each_time() {
        for method in ["client_secret_basic", "client_secret_post"] {
            let answer = register(&json!({
                "redirect_uris": ["https://a.example/cb"],
                "token_endpoint_auth_method": method,
            }))
            .unwrap();
            assert_eq!(answer["token_endpoint_auth_method"], method);
            assert_eq!(answer["client_secret_expires_at"], 0);
            let client = Registrar::new(&[7; 32]).client(answer["client_id"].as_str().unwrap()).unwrap();
            let secret = Secret::new(answer["client_secret"].as_str().unwrap().into());
            assert!(client.is_proved_by(Some(&secret)) && !client.is_proved_by(None));
            let public = register(&json!({ "redirect_uris": ["https://a.example/cb"] })).unwrap();
            assert_eq!(public["token_endpoint_auth_method"], "none");
            let public = Registrar::new(&[7; 32]).client(public["client_id"].as_str().unwrap()).unwrap();
            assert!(!public.is_proved_by(Some(&secret)));
        }
    }

    #[test]
    fn what_is_no_registration_says_what_is_wrong() {
        let uris = json!(["https://a.example/cb"]);
        let long = "x".repeat(1200);
        for (body, error) in [
            (json!([]), "invalid_client_metadata"),
            (json!("x"), "invalid_client_metadata"),
            (json!({}), "invalid_redirect_uri"),
            (json!({ "redirect_uris": [] }), "invalid_redirect_uri"),
            (json!({ "redirect_uris": "https://a.example/cb" }), "invalid_client_metadata"),
            (json!({ "redirect_uris": [7] }), "invalid_client_metadata"),
            (json!({ "redirect_uris": ["http://a.example/cb", "javascript:x"] }), "invalid_redirect_uri"),
            (
                json!({ "redirect_uris": uris, "grant_types": ["client_credentials"] }),
                "invalid_client_metadata",
            ),
            (json!({ "redirect_uris": uris, "response_types": ["token"] }), "invalid_client_metadata"),
            (
                json!({ "redirect_uris": uris, "token_endpoint_auth_method": "private_key_jwt" }),
                "invalid_client_metadata",
            ),
            (json!({ "redirect_uris": [format!("https://a.example/{long}")] }), "invalid_client_metadata"),
            (json!({ "redirect_uris": vec!["https://a.example/c"; 21] }), "invalid_client_metadata"),
            (json!({ "redirect_uris": uris, "x": "y".repeat(LONGEST_REQUEST) }), "invalid_client_metadata"),
        ] {
            assert_eq!(register(&body).unwrap_err().error, error, "{body}");
        }
        let twice = br#"{"redirect_uris":["https://a.example/cb"],"redirect_uris":["https://b.example/cb"]}"#;
        assert!(Registrar::new(&[7; 32]).register(twice, &config(), 0).is_err());
        let off = OauthConfig { registration: Registration::Off, ..config() };
        let body = json!({ "redirect_uris": ["http://localhost/"] }).to_string();
        assert!(Registrar::new(&[7; 32]).register(body.as_bytes(), &off, 0).is_err());
    }

    #[test]
    fn an_id_with_any_bit_changed_or_any_byte_missing_is_none() {
        let registrar = Registrar::new(&[7; 32]);
        let answer = register(&json!({ "redirect_uris": ["https://a.example/cb"] })).unwrap();
        let id = answer["client_id"].as_str().unwrap();
        let bytes = URL_SAFE_NO_PAD.decode(&id[4..]).unwrap();
        let known =
            |bytes: &[u8]| registrar.client(&format!("sgc_{}", URL_SAFE_NO_PAD.encode(bytes))).is_some();
        assert!(known(&bytes));
        for bit in 0..bytes.len() * 8 {
            let mut changed = bytes.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(!known(&changed), "bit {bit}");
        }
        for length in 0..bytes.len() {
            assert!(!known(&bytes[..length]) && !known(&bytes[length + 1..]), "{length}");
        }
        for bad in ["", "sgc_", "sgc_!", &id[4..], &format!("{id}="), &"sgc_A".repeat(999)] {
            assert_eq!(registrar.client(bad), None, "{bad}");
        }
        // A secret proves no id, and the other way round.
        let secret = registrar.mac("secret", &bytes[MAC..]);
        assert!(!known(&[&secret.as_ref()[..MAC], &bytes[MAC..]].concat()));
    }

    proptest! {
        #[test]
        fn whatever_a_stranger_sends_is_an_error_or_a_client_that_says_the_same(
            name in "\\PC{0,200}",
            uris in prop::collection::vec("(https://|http://localhost|cursor://)?[a-z0-9./:@#?-]{0,40}", 0..6),
        ) {
            let body = json!({ "client_name": name, "redirect_uris": uris });
            if let Ok(answer) = register(&body) {
                let id = answer["client_id"].as_str().unwrap();
                prop_assert!(id.len() <= LONGEST_ID);
                let client = Registrar::new(&[7; 32]).client(id).unwrap();
                prop_assert_eq!(json!(client.redirect_uris.iter().map(|uri| &**uri).collect::<Vec<_>>()), answer["redirect_uris"].clone());
                prop_assert!(client.redirect_uris.iter().all(|uri| uris.iter().any(|asked| **asked == **uri)));
                prop_assert!(name.trim().starts_with(&*client.name));
            }
        }

        #[test]
        fn whatever_bytes_come_nothing_breaks(body: Vec<u8>, id in "sgc_[A-Za-z0-9_-]{0,200}") {
            let registrar = Registrar::new(&[7; 32]);
            prop_assert!(registrar.register(&body, &config(), 0).is_err());
            prop_assert_eq!(registrar.client(&id), None);
        }
    }
}
