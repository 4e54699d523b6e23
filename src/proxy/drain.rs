//! What still passes to a server while the gateway drains: answers of a client to its server, and word that it waits no
//! longer. A request would begin something.

use crate::{
    error::{Error, ErrorKind},
    mcp::scan::Scan,
    upstream::{Inspect, Pass},
};

/// What looks at a request body on its way: `inspect`, and behind it, in a drain, whether it is a request.
pub(super) fn inspect(is_draining: bool, inspect: Option<Inspect>) -> Option<Inspect> {
    if !is_draining {
        return inspect;
    }
    let (mut scan, mut inspect) = (Scan::default(), inspect);
    Some(Box::new(move |piece| {
        let is_open = look(&mut scan, piece)?;
        let pass = inspect.as_mut().map_or(Ok(Pass::Send), |inspect| inspect(piece))?;
        Ok(if is_open && pass == Pass::Send { Pass::Wait } else { pass })
    }))
}

/// Whether more has to come before it is known what a message is. Fails for a request, and for what cannot be read.
fn look(scan: &mut Scan, piece: Option<&[u8]>) -> Result<bool, Error> {
    let unavailable = |_| Error::from(ErrorKind::Unavailable);
    match piece {
        Some(piece) => scan.push(piece).map_err(unavailable)?,
        None => scan.finish().map_err(unavailable)?,
    }
    match scan.method() {
        Some(method) if scan.id().is_some() || !method.starts_with("notifications/") => {
            Err(ErrorKind::Unavailable.into())
        }
        // What has an id is a request whatever its method is called, and the id may come last.
        _ => Ok(!scan.is_complete()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passes(body: &[u8]) -> bool {
        let mut inspect = inspect(true, None).unwrap();
        // Byte by byte, so that every beginning is looked at.
        body.chunks(1).all(|byte| inspect(Some(byte)).is_ok()) && inspect(None).is_ok()
    }

    #[test]
    fn what_is_no_request_passes_in_a_drain() {
        for body in [
            r#"{"jsonrpc":"2.0","id":1,"result":{"method":"tools/call"}}"#,
            r#"{"jsonrpc":"2.0","id":1,"error":{"code":-1,"message":"no"}}"#,
            r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}"#,
            r#"{"params":{"progressToken":1},"method":"notifications/progress"}"#,
        ] {
            assert!(passes(body.as_bytes()), "{body}");
        }
        for body in [
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call"}"#,
            r#"{"params":{},"id":1,"method":"initialize"}"#,
            r#"{"jsonrpc":"2.0","id":3,"method":"notifications/x"}"#,
            r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1},"id":"3"}"#,
            r#"[{"id":1,"result":{}}]"#,
            r#"{"id":1,"result":"#,
            "",
        ] {
            assert!(!passes(body.as_bytes()), "{body}");
        }
    }

    #[test]
    fn nothing_goes_out_before_it_is_known_to_be_no_request() {
        let mut inspect = inspect(true, None).unwrap();
        assert_eq!(inspect(Some(br#"{"result":{},"#)).unwrap(), Pass::Wait);
        assert_eq!(inspect(Some(br#""id":7}"#)).unwrap(), Pass::Send);
        let mut inspect = self::inspect(true, None).unwrap();
        assert_eq!(inspect(Some(br#"{"method":"notifications/x","params":{}"#)).unwrap(), Pass::Wait);
        assert!(inspect(Some(br#","id":7}"#)).is_err());
    }

    #[test]
    fn a_body_is_not_read_where_nothing_drains() {
        assert!(inspect(false, None).is_none());
    }
}
