//! Paths of the gateway's own pages, to which somebody is led after something else.

/// Bytes of one at most. It has room for what a program asks for, as a page carries it.
const LONGEST: usize = 7 * 1024;

/// Whether it is a path of the gateway's own, with its query: nothing that a browser could take for another host, and nothing that it
/// reads in another way than it is written.
pub fn is_own_path(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_graphic() && !b"\\\"<>#`".contains(&byte);
    text.len() <= LONGEST && text.starts_with('/') && !text.starts_with("//") && text.bytes().all(is_plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_leads_to_this_host_and_to_no_other() {
        for good in ["/", "/oauth", "/my/tokens?x=1", "/oauth/authorize?server_id=db&return=%2Foauth", "/./x"]
        {
            assert!(is_own_path(good), "{good}");
        }
        for bad in [
            "",
            "oauth",
            "//evil.example",
            "/\\evil.example",
            "\\/evil.example",
            "https://evil.example/",
            "javascript:alert(1)",
            "/a b",
            "/\t/evil.example",
            "/a\nb",
            "/é",
            "/#x",
            "/\"><x",
        ] {
            assert!(!is_own_path(bad), "{bad}");
        }
        assert!(!is_own_path(&format!("/{}", "x".repeat(LONGEST))));
    }

    proptest::proptest! {
        #[test]
        fn what_is_one_stays_at_the_host(text in "[/\\\\.:@?%a-z0-9\\t-]{0,12}") {
            let base = url::Url::parse("https://mcp.example.com/oauth/login").unwrap();
            if is_own_path(&text) {
                let led = base.join(&text).unwrap();
                proptest::prop_assert_eq!(led.origin(), base.origin());
            }
        }
    }
}
