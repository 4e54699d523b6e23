//! W3C Trace Context: which trace a request belongs to.

use http::HeaderValue;

/// A trace id: 32 lower-case hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceId([u8; 32]);

impl TraceId {
    /// That of a `traceparent`, if it is one (Trace Context §3.2): `00-trace-parent-flags`. What a later version puts
    /// behind is left alone.
    pub fn of(traceparent: &HeaderValue) -> Option<Self> {
        let (known, more) = traceparent.as_bytes().split_at_checked(55)?;
        let is_hex = |at: std::ops::Range<usize>| {
            known[at].iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        };
        let is_zero = |at: std::ops::Range<usize>| known[at].iter().all(|byte| *byte == b'0');
        let is_whole = match &known[..2] {
            b"ff" => false,
            b"00" => more.is_empty(),
            _ => more.first().is_none_or(|next| *next == b'-'),
        };
        let has_dashes = [2, 35, 52].iter().all(|at| known[*at] == b'-');
        let fields = [0..2, 3..35, 36..52, 53..55];
        let is_one =
            is_whole && has_dashes && fields.into_iter().all(is_hex) && !is_zero(3..35) && !is_zero(36..52);
        let id = known[3..35].try_into().ok()?;
        is_one.then_some(Self(id))
    }

    /// As the log has it.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &'static str) -> Option<TraceId> {
        TraceId::of(&HeaderValue::from_static(text))
    }

    #[test]
    fn only_what_trace_context_allows_is_a_trace() {
        let id = "4bf92f3577b34da6a3ce929d0e0e4736";
        for good in [
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00",
            "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-what-comes",
        ] {
            assert_eq!(of(good).as_ref().map(TraceId::as_str), Some(id), "{good}");
        }
        for bad in [
            "",
            "00",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01.more",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473\"-00f067aa0ba902b7-01",
            "00_4bf92f3577b34da6a3ce929d0e0e4736_00f067aa0ba902b7_01",
            "0x-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ] {
            assert_eq!(of(bad), None, "{bad}");
        }
    }
}
