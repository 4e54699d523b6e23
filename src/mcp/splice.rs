//! Texts put together from other texts, whose bytes stay as they are.

/// `whole` with other text for some of its parts, which must be slices of it; `None` if one is not, or two overlap.
///
/// ```
/// # use sluicegate::mcp::splice::splice;
/// let whole = String::from(r#"{ "a":1.0e2, "b":2 }"#);
/// assert_eq!(splice(&whole, &[(&whole[17..18], "\"x\"")]).unwrap(), r#"{ "a":1.0e2, "b":"x" }"#);
/// ```
pub fn splice(whole: &str, parts: &[(&str, &str)]) -> Option<String> {
    let mut found = Vec::with_capacity(parts.len());
    for (part, new) in parts {
        found.push((part.as_ptr().addr().checked_sub(whole.as_ptr().addr())?, part.len(), *new));
    }
    found.sort_unstable();
    let mut text = String::with_capacity(whole.len() + 64);
    let mut at = 0;
    for (start, length, new) in found {
        text.push_str(whole.get(at..start)?);
        text.push_str(new);
        at = start + length;
    }
    text.push_str(whole.get(at..)?);
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_replaced_and_the_rest_keeps_its_bytes() {
        let whole = String::from(r#"{ "a":1.0e2, "b":2 }"#);
        let parts = [(&whole[17..18], "\"x\""), (&whole[6..11], "0")];
        assert_eq!(splice(&whole, &parts).unwrap(), r#"{ "a":0, "b":"x" }"#);
        assert_eq!(splice(&whole, &[(&whole[1..5], ""), (&whole[4..8], "")]), None);
        assert_eq!(splice(&whole[4..8], &[(&whole[1..2], "")]), None);
        assert_eq!(splice(&whole[..8], &[(&whole[17..18], "")]), None);
    }
}
