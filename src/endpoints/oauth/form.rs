//! Fields of forms and of queries (WHATWG URL §5.1): the only reading of them at the endpoints of OAuth.

use zeroize::Zeroizing;

use crate::oauth::flow;

// The pages' forms carry what a client asks for, and a few fields beside it.
const _: () = assert!(flow::LONGEST_SEALED + 1024 <= Form::MOST);

/// The fields of a form, or of a query. Some are secrets, so that it cannot be shown, and is wiped when it is dropped.
pub struct Form(Vec<(Zeroizing<String>, Zeroizing<String>)>);

/// Why a text is no form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FormFault {
    /// The body is of another type.
    Type,
    /// A name is there twice (RFC 6749 §3.1), so that two readers could take it for different things.
    Twice,
    /// It is longer than any, or has more fields.
    TooLong,
    /// An escape is none, or what is escaped is no UTF-8, or a control character.
    Text,
}

impl FormFault {
    /// For `error_description`, and for pages.
    pub fn sentence(self) -> &'static str {
        match self {
            Self::Type => "The body has to be a form: send Content-Type: application/x-www-form-urlencoded.",
            Self::Twice => "A parameter is there twice.",
            Self::TooLong => "There are more parameters, or longer ones, than this takes.",
            Self::Text => "A parameter is no text.",
        }
    }
}

impl Form {
    /// Most bytes of one.
    pub const MOST: usize = 16 * 1024;
    /// Most fields of one. A request has a dozen.
    const MOST_FIELDS: usize = 64;
    /// Its media type.
    pub const TYPE: &str = "application/x-www-form-urlencoded";

    /// Reads one.
    pub fn parse(text: &[u8]) -> Result<Self, FormFault> {
        if text.len() > Self::MOST {
            return Err(FormFault::TooLong);
        }
        let mut fields: Vec<(Zeroizing<String>, Zeroizing<String>)> = Vec::new();
        for field in text.split(|byte| *byte == b'&').filter(|field| !field.is_empty()) {
            let end_of_name = field.iter().position(|byte| *byte == b'=');
            let (name, value) = match end_of_name {
                Some(at) => (&field[..at], &field[at + 1..]),
                None => (field, &[][..]),
            };
            let (name, value) = (decode(name)?, decode(value)?);
            if fields.iter().any(|(other, _)| *other == name) {
                return Err(FormFault::Twice);
            }
            if fields.len() == Self::MOST_FIELDS {
                return Err(FormFault::TooLong);
            }
            fields.push((name, value));
        }
        Ok(Self(fields))
    }

    /// The value of a field. One without a value is as one that is not there (RFC 6749 §3.1).
    pub fn get(&self, name: &str) -> Option<&str> {
        let (_, value) = self.0.iter().find(|(known, _)| **known == *name)?;
        (!value.is_empty()).then_some(value.as_str())
    }

    /// What a name or a value of a form stands for. `None` if it is no text.
    pub fn decoded(text: &[u8]) -> Option<Zeroizing<String>> {
        decode(text).ok()
    }

    /// Names and values in their order, those without a value too.
    pub fn fields(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

fn decode(text: &[u8]) -> Result<Zeroizing<String>, FormFault> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(text.len()));
    let mut rest = text.iter();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut digit = || rest.next().and_then(|digit| char::from(*digit).to_digit(16));
                let (high, low) = (digit().ok_or(FormFault::Text)?, digit().ok_or(FormFault::Text)?);
                u8::try_from(high * 16 + low).map_err(|_| FormFault::Text)?
            }
            byte => *byte,
        });
    }
    let text = std::str::from_utf8(&bytes).map_err(|_| FormFault::Text)?;
    // A browser writes a line break of a text field as CR and LF; nothing here has several lines.
    if text.chars().any(char::is_control) {
        return Err(FormFault::Text);
    }
    Ok(Zeroizing::new(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Result<Vec<(String, String)>, FormFault> {
        let form = Form::parse(text.as_bytes())?;
        Ok(form.fields().map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }

    #[test]
    fn a_form_is_read_as_browsers_write_it() {
        let form = Form::parse(b"a=1&b=%C3%A9+x%2b&&c&d=&e=x=y").ok();
        let form = form.as_ref();
        let get = |name| form.and_then(|form| form.get(name));
        assert_eq!([get("a"), get("b"), get("e")], [Some("1"), Some("é x+"), Some("x=y")]);
        assert_eq!([get("c"), get("d"), get("none")], [None, None, None]);
        assert_eq!(form.map(|form| form.fields().count()), Some(5));
    }

    #[test]
    fn what_two_readers_could_take_for_different_things_is_no_form() {
        for (text, fault) in [
            ("a=1&a=2", FormFault::Twice),
            ("a=1&%61=2", FormFault::Twice),
            ("a&a", FormFault::Twice),
            ("a=%", FormFault::Text),
            ("a=%4", FormFault::Text),
            ("a=%zz", FormFault::Text),
            ("a=%+1", FormFault::Text),
            ("a=%ff", FormFault::Text),
            ("a=%00", FormFault::Text),
            ("a=x%0d%0ay", FormFault::Text),
            ("%0a=x", FormFault::Text),
        ] {
            assert_eq!(read(text), Err(fault), "{text}");
        }
        assert_eq!(read(&"x".repeat(Form::MOST + 1)), Err(FormFault::TooLong));
        let many = |count: usize| (0..count).map(|at| format!("{at}=&")).collect::<String>();
        assert_eq!(read(&many(65)), Err(FormFault::TooLong));
        assert_eq!(read(&many(64)).map(|fields| fields.len()), Ok(64));
    }

    proptest! {
        #[test]
        fn what_a_browser_writes_comes_back(fields in proptest::collection::btree_map("\\PC{1,9}", "\\PC{0,20}", 0..6)) {
            let mut written = url::form_urlencoded::Serializer::new(String::new());
            for (name, value) in &fields {
                written.append_pair(name, value);
            }
            let found = read(&written.finish());
            prop_assert_eq!(found, Ok(fields.into_iter().collect()));
        }
    }
}
