//! Event streams as the specification words it, and as clients read them that split lines in another way.

/// What a client makes of one event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    pub name: Vec<u8>,
    pub data: Vec<u8>,
}

/// What a stream comes to.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Read {
    pub events: Vec<Event>,
    pub last_id: Vec<u8>,
    pub retry: Option<u64>,
}

/// The complete lines of a stream, without its byte order mark (WHATWG HTML, section 9.2.5).
fn lines(stream: &[u8]) -> Vec<&[u8]> {
    let mut rest = stream.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(stream);
    let mut lines = Vec::new();
    while let Some(end) = rest.iter().position(|byte| matches!(byte, b'\r' | b'\n')) {
        lines.push(&rest[..end]);
        let length = if rest[end..].starts_with(b"\r\n") { 2 } else { 1 };
        rest = &rest[end + length..];
    }
    lines
}

/// Reads a stream as section 9.2.6 says.
pub fn read(stream: &[u8]) -> Read {
    read_lines(lines(stream))
}

/// The same by LF only: a CR before it belongs to the line's end.
pub fn read_by_lf(stream: &[u8]) -> Read {
    let stream = stream.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(stream);
    let mut lines: Vec<_> = stream.split(|byte| *byte == b'\n').collect();
    lines.pop();
    read_lines(lines.into_iter().map(|line| line.strip_suffix(b"\r").unwrap_or(line)).collect())
}

fn read_lines(lines: Vec<&[u8]>) -> Read {
    let mut read = Read::default();
    let (mut name, mut data, mut id): (&[u8], Option<Vec<u8>>, &[u8]) = (b"", None, b"");
    for line in lines {
        if line.is_empty() {
            read.last_id = id.to_vec();
            if let Some(data) = data.take() {
                read.events.push(Event { name: name.to_vec(), data });
            }
            name = b"";
            continue;
        }
        let mut parts = line.splitn(2, |byte| *byte == b':');
        let field = parts.next().unwrap_or_default();
        let value = parts.next().unwrap_or_default();
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match field {
            b"event" => name = value,
            b"data" => {
                data = Some(match data {
                    None => value.to_vec(),
                    Some(before) => [&before[..], b"\n", value].concat(),
                });
            }
            b"id" if !value.contains(&0) => id = value,
            b"retry" if !value.is_empty() && value.iter().all(u8::is_ascii_digit) => {
                let number = std::str::from_utf8(value).ok().and_then(|digits| digits.parse().ok());
                read.retry = number.or(read.retry);
            }
            _ => {}
        }
    }
    read
}

/// The data of the events that some lenient client takes for an `endpoint` event: one that breaks lines at LF only or wherever
/// Unicode does, and does not mind blanks around a field, or its case.
pub fn endpoints_to_the_lenient(stream: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(stream);
    let by_lf = text.split('\n').map(|line| line.strip_suffix('\r').unwrap_or(line)).collect();
    let anywhere = text.replace("\r\n", "\n");
    let anywhere = anywhere.split(ends_line).collect();
    let mut found = Vec::new();
    let readings: [Vec<&str>; 2] = [by_lf, anywhere];
    for mut lines in readings {
        // What is behind the last end of a line is no line.
        lines.pop();
        let (mut is_endpoint, mut data) = (false, Vec::new());
        for line in lines {
            if line.is_empty() {
                if is_endpoint && !data.is_empty() {
                    found.push(data.join("\n"));
                }
                (is_endpoint, data) = (false, Vec::new());
                continue;
            }
            let (field, value) = line.split_once(':').unwrap_or((line, ""));
            match &field.trim_matches(is_blank).to_ascii_lowercase()[..] {
                "event" => is_endpoint = value.trim_matches(is_blank).starts_with("endpoint"),
                "data" => data.push(value.trim_matches(is_blank).to_owned()),
                _ => {}
            }
        }
    }
    found
}

fn ends_line(c: char) -> bool {
    matches!(c, '\n'..='\r' | '\u{1c}'..='\u{1e}' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

fn is_blank(c: char) -> bool {
    c.is_whitespace() || c == '\u{feff}'
}

/// The texts that some client may take for the name of an event: behind any line end of Unicode, with the field in any case and
/// with blanks around it.
pub fn names_to_anybody(stream: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(stream);
    let mut names = Vec::new();
    for line in text.split(ends_line) {
        if let Some((field, value)) = line.split_once(':')
            && field.trim_matches(is_blank).eq_ignore_ascii_case("event")
        {
            names.push(value.trim_matches(is_blank).to_owned());
        }
    }
    names
}
