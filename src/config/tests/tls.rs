//! Certificates and keys.

use super::*;

#[test]
fn a_certificate_is_judged_by_the_clock() {
    let key = rcgen::KeyPair::generate().expect("a key");
    let mut params = rcgen::CertificateParams::new(vec!["gate.example".to_owned()]).expect("a name");
    params.not_before = rcgen::date_time_ymd(2030, 1, 1);
    params.not_after = rcgen::date_time_ymd(2031, 1, 1);
    let certificate = params.self_signed(&key).expect("a certificate");
    let place = Place::new().file("c.pem", &certificate.pem()).file("k.pem", &key.serialize_pem()).file(
        "gate.json",
        r#"{"proxy": {"addr": "127.0.0.1:0", "tls": {"cert": "c.pem", "key": "k.pem"}}, "mcpServers": {}}"#,
    );
    let path = place.directory.path().join("gate.json");
    let at = |date: &str| load_at(&path, &|_| None, humantime::parse_rfc3339(date).expect("a date"));

    for (date, said_of_it) in [
        ("2029-12-31T23:59:59Z", "warning: the certificate is not valid before 2030-01-01T00:00:00Z"),
        ("2030-06-01T00:00:00Z", ""),
        ("2031-01-01T00:00:01Z", "warning: the certificate expired on 2031-01-01T00:00:00Z"),
    ] {
        let loaded = at(date);
        assert!(said(&loaded).contains(said_of_it), "{date}: {}", said(&loaded));
        assert!(loaded.is_whole() && matches!(good(loaded).tls, Some(Tls::Files(Some(_)))), "{date}");
    }
}

#[test]
fn a_certificate_that_ends_soon_is_warned_of() {
    let key = rcgen::KeyPair::generate().expect("a key");
    let mut params = rcgen::CertificateParams::new(vec!["gate.example".to_owned()]).expect("a name");
    params.not_before = rcgen::date_time_ymd(2030, 1, 1);
    params.not_after = rcgen::date_time_ymd(2030, 4, 11);
    let certificate = params.self_signed(&key).expect("a certificate");
    let place = Place::new().file("c.pem", &certificate.pem()).file("k.pem", &key.serialize_pem()).file(
        "gate.json",
        r#"{"proxy": {"addr": "127.0.0.1:0", "tls": {"cert": "c.pem", "key": "k.pem"}}, "mcpServers": {}}"#,
    );
    let path = place.directory.path().join("gate.json");
    let warned = |date: &str| {
        let now = humantime::parse_rfc3339(date).expect("a date");
        said(&load_at(&path, &|_| None, now))
            .contains("less than a tenth of the certificate's lifetime is left")
    };
    assert!(!warned("2030-03-31T00:00:00Z"));
    assert!(warned("2030-04-02T00:00:00Z"));
}

#[test]
fn a_certificate_for_other_names_than_those_of_the_gateway_is_warned_of() {
    let told = |names: &[&str], url: &str| {
        let key = rcgen::KeyPair::generate().expect("a key");
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let params = rcgen::CertificateParams::new(names).expect("names");
        let certificate = params.self_signed(&key).expect("a certificate");
        let place = Place::new().file("c.pem", &certificate.pem()).file("k.pem", &key.serialize_pem());
        let config = format!(
            r#"{{"proxy": {{"addr": "127.0.0.1:0", "baseUrl": "{url}", "tls": {{"cert": "c.pem", "key": "k.pem"}}}}, "mcpServers": {{}}}}"#
        );
        let said = said(&place.load(&config));
        said.lines().find(|line| line.contains("the certificate is not for")).map(str::to_owned)
    };
    for (names, url) in [
        (&["gate.example"][..], "https://Gate.Example:8443"),
        (&["other.example", "*.example"], "https://gate.example"),
        (&["127.0.0.1"], "https://127.0.0.1:8443"),
        (&["::1"], "https://[::1]:8443"),
    ] {
        assert_eq!(told(names, url), None, "{names:?} {url}");
    }
    for (names, url) in [
        (&["gate.example"][..], "https://mcp.gate.example"),
        (&["*.example"], "https://a.gate.example"),
        (&["*.gate.example"], "https://gate.example"),
        (&["127.0.0.1"], "https://127.0.0.2"),
        (&["gate.example"], "https://127.0.0.1"),
    ] {
        assert!(told(names, url).is_some_and(|line| line.contains(names[0])), "{names:?} {url}");
    }
    assert!(told(&[], "https://gate.example").is_some_and(|line| line.contains("none at all")));
}

#[test]
fn a_key_file_given_as_its_contents_is_not_shown() {
    let place = Place::new().var("KEY", "-----BEGIN PRIVATE KEY-----\nCANARY\n");
    let loaded = place
        .load(r#"{"proxy": {"tls": {"cert": {"$file": "k.pem"}, "key": "$env:KEY"}}, "mcpServers": {}}"#);
    let said = said(&loaded);
    assert!(
        said.contains("tls.key: is not a path") && said.contains("tls.cert: needs a path here"),
        "{said}"
    );
    assert!(!said.contains("CANARY"), "{said}");
}
