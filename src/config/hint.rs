//! What to say about a word that is not known.

/// What to say about a key that is not in `known`.
pub(super) fn unknown(name: &str, known: &[&str]) -> String {
    match closest(name, known.iter().copied()) {
        Some(near) => format!("unknown key; did you mean `{near}`?"),
        None => format!("unknown key; known here: {}", known.join(", ")),
    }
}

/// The candidate that `name` is most likely a slip of.
pub(super) fn closest<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let name = name.to_lowercase();
    candidates
        .map(|candidate| (strsim::damerau_levenshtein(&name, &candidate.to_lowercase()), candidate))
        // A third of the letters wrong is still a slip; more is another word.
        .filter(|(distance, candidate)| *distance <= candidate.chars().count().max(3) / 3)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_finds_the_key_that_was_meant() {
        let known = ["url", "command", "transportType", "authTokens"];
        for (slip, meant) in
            [("authtokens", "authTokens"), ("ulr", "url"), ("transport_type", "transportType")]
        {
            assert_eq!(unknown(slip, &known), format!("unknown key; did you mean `{meant}`?"));
        }
        assert!(unknown("gibberish", &known).contains("known here: url, command"));
    }
}
