//! Ways to write a key that some reader takes for it: letter case, escapes, what strings end at, what nobody sees, letters
//! that look or fold alike. Each is a JSON string with its quotes, and none is the key as MCP writes it.

use std::collections::BTreeSet;

/// How many ways there are for each key.
pub const MANY: usize = 200;

/// What is not seen, or ends a string, or is no character.
const UNSEEN: [&str; 24] = [
    "\\u0000", "\\u0001", "\\b", "\\t", "\\n", "\\u007f", "\u{7f}", "\\ud800", "\\udfff", "\\udbff",
    "\\u00ad", "\u{ad}", "\\u200b", "\u{200b}", "\u{200d}", "\u{2060}", "\\ufeff", "\u{feff}", "\u{301}",
    "\\u0301", "\u{fe0f}", "_", "-", " ",
];

/// At least [`MANY`] spellings of `key`.
pub fn spellings(key: &str) -> Vec<String> {
    let letters: Vec<char> = key.chars().collect();
    let mut found = BTreeSet::new();
    let mut add = |text: String| {
        if text != key {
            found.insert(format!("\"{text}\""));
        }
    };
    // Letter case: all of it, each letter by itself, and mixtures.
    let cased = |mask: u64| -> String {
        let change = |(at, letter): (usize, &char)| match mask >> (at % 64) & 1 {
            0 => letter.to_string(),
            _ if letter.is_ascii_lowercase() => letter.to_ascii_uppercase().to_string(),
            _ => letter.to_ascii_lowercase().to_string(),
        };
        letters.iter().enumerate().map(change).collect()
    };
    for mask in
        (0..letters.len()).map(|at| 1 << at).chain([u64::MAX, 0x5555_5555_5555_5555, 3, 6, 12, 0xff00])
    {
        add(cased(mask));
    }
    add(key.to_ascii_uppercase());
    // Escapes of each letter, of all, of pairs; in the other case, too.
    let escaped = |is_escaped: &dyn Fn(usize) -> bool, upper: bool| -> String {
        let write = |(at, letter): (usize, &char)| match (is_escaped(at), upper) {
            (false, _) => letter.to_string(),
            (true, false) => format!("\\u{:04x}", *letter as u32),
            (true, true) => format!("\\u{:04X}", letter.to_ascii_uppercase() as u32),
        };
        letters.iter().enumerate().map(write).collect()
    };
    for upper in [false, true] {
        for at in 0..letters.len() {
            add(escaped(&|of| of == at, upper));
            add(escaped(&|of| of == at || of == at + 1, upper));
        }
        add(escaped(&|_| true, upper));
    }
    // Something in it, in front, behind.
    for unseen in UNSEEN {
        for at in 0..=letters.len() {
            let (before, after) = (&letters[..at], &letters[at..]);
            add(before.iter().copied().chain(unseen.chars()).chain(after.iter().copied()).collect());
        }
    }
    for tail in ["\\u0000x", "\\u0000\\u0000", "\\u0000_", "\\ud800\\u0041"] {
        add(format!("{key}{tail}"));
        add(format!("{}{tail}", key.to_ascii_uppercase()));
    }
    // Two words for one, as other languages write them.
    let words = |separator: &str| -> String {
        let split = |letter: &char| match letter.is_ascii_uppercase() {
            true => format!("{separator}{}", letter.to_ascii_lowercase()),
            false => letter.to_string(),
        };
        letters.iter().map(split).collect()
    };
    for separator in ["_", "-", " ", "."] {
        add(words(separator));
        add(words(separator).to_ascii_uppercase());
    }
    // Letters that fold to another, or look like it.
    for (letter, others) in [
        ('k', &["\u{212a}", "\\u212a", "\u{43a}"][..]),
        ('s', &["\u{17f}", "\\u017f", "\u{455}"]),
        ('i', &["\u{131}", "\\u0131", "\u{130}", "\u{456}", "\u{ff49}"]),
        ('e', &["\u{435}", "\u{e9}", "\u{ff45}"]),
        ('o', &["\u{43e}", "\u{f6}"]),
        ('a', &["\u{430}", "\u{e4}"]),
        ('c', &["\u{441}"]),
        ('p', &["\u{440}"]),
        ('d', &["\u{ff44}"]),
        ('n', &["\u{f1}"]),
        ('r', &["\u{ff52}"]),
    ] {
        for other in others.iter().filter(|_| key.contains(letter)) {
            add(key.replacen(letter, other, 1));
            add(key.to_ascii_uppercase().replacen(letter.to_ascii_uppercase(), other, 1));
        }
    }
    // Short keys have fewer letters to change, so what is unseen is in two places of them.
    let mut pairs = UNSEEN.iter().flat_map(|one| UNSEEN.iter().map(move |two| (one, two)));
    while found.len() < MANY {
        let Some((one, two)) = pairs.next() else { break };
        found.insert(format!("\"{one}{key}{two}\""));
    }
    found.into_iter().collect()
}
