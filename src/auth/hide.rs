//! Somebody pastes a token into a path sooner or later; the log must not keep it.

use std::borrow::Cow;

use http::{HeaderMap, header};
use percent_encoding::percent_decode_str;

use super::TokenTable;

/// Pieces of a path that are looked at; what comes behind them is not shown. Bounds the look-ups to some hundred.
const MOST_PIECES: usize = 24;
/// Stands in for what is hidden.
const HIDDEN: &str = "…";

/// `path` as the log may show it, if that differs: without tokens of the config, expired ones included, and without
/// the credentials in `Authorization` or `?token=`, whether or not they are valid. Escapes are decoded then.
///
/// A secret that is neither cannot be told from a path.
pub fn path_without_tokens(
    path: &str,
    query: Option<&str>,
    headers: &HeaderMap,
    tokens: &TokenTable,
) -> Option<String> {
    let decoded = percent_decode_str(path).decode_utf8_lossy();
    let mut shown = decoded.clone();
    let in_fields = headers.get_all(header::AUTHORIZATION).iter().filter_map(|value| value.to_str().ok());
    let in_query = query.and_then(super::presented::token_parameter);
    let presented = in_fields.filter_map(|value| value.rsplit(' ').next()).map(Cow::Borrowed);
    for token in presented.chain(in_query.map(|token| percent_decode_str(token).decode_utf8_lossy())) {
        if !token.is_empty() && shown.contains(&*token) {
            shown = shown.replace(&*token, HIDDEN).into();
        }
    }
    let shown = without_known(&shown, |piece| tokens.find(piece.as_bytes()).is_some());
    (shown != decoded).then_some(shown)
}

/// `text` with every run of pieces that is `known` hidden. A token may have separators of its own, so runs are
/// tried as well as single pieces, the longest first.
fn without_known(text: &str, known: impl Fn(&str) -> bool) -> String {
    let separators: Vec<usize> = text
        .bytes()
        .enumerate()
        .filter(|(_, b)| matches!(b, b'/' | b' ' | b'=' | b':' | b';' | b',' | b'&'))
        .map(|(at, _)| at)
        .take(MOST_PIECES)
        .collect();
    let is_whole = separators.len() < MOST_PIECES;
    let end = if is_whole { text.len() } else { separators.last().copied().unwrap_or(0) };
    let mut shown = String::with_capacity(text.len());
    let mut at = 0;
    while at < end {
        let ends = separators.iter().copied().filter(|stop| (at + 1..end).contains(stop));
        let mut ends: Vec<usize> = ends.chain([end]).collect();
        ends.reverse();
        let hidden = ends.iter().find(|stop| known(&text[at..**stop]));
        let next = match hidden {
            Some(stop) => {
                shown.push_str(HIDDEN);
                *stop
            }
            // The shortest run and its separator are no token's beginning.
            None => {
                let next =
                    separators.iter().map(|stop| stop + 1).find(|next| *next > at).unwrap_or(end).min(end);
                shown.push_str(&text[at..next]);
                next
            }
        };
        at = next;
    }
    if !is_whole {
        shown.push_str(HIDDEN);
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_hidden_wherever_it_begins_and_whatever_it_is_made_of() {
        let known = |piece: &str| matches!(piece, "secret" | "se/cret==");
        for (path, shown) in [
            ("/", "/"),
            ("", ""),
            ("/db/mcp", "/db/mcp"),
            ("/secret", "/…"),
            ("/secret/", "/…/"),
            ("/secrets/a secret", "/secrets/a …"),
            ("/se/cret==/mcp", "/…/mcp"),
            ("/token=se/cret==", "/token=…"),
            ("secret/secret//secret", "…/…//…"),
        ] {
            assert_eq!(without_known(path, known), shown, "{path}");
        }
    }

    #[test]
    fn a_path_of_very_many_pieces_is_shown_in_part() {
        let shown = without_known(&"/a".repeat(1000), |_| false);
        assert_eq!(shown, format!("{}{HIDDEN}", "/a".repeat(MOST_PIECES - 1)));
    }
}
