//! `proxy.audit`: where lines about decisions go.

use std::path::{Path, PathBuf};

use crate::config::{
    hung,
    read::{context::Context, fields::Fields, reader::ReadText},
    snapshot::AuditConfig,
};

/// `None` is no audit. What is not good is noted, and its value does not matter any more.
pub(super) fn resolve(cx: &mut Context<'_>, proxy: &Fields<'_>) -> Option<AuditConfig> {
    let fields = proxy.object(cx, "audit")?;
    let path = fields.get("file").and_then(|node| node.path(cx));
    let file = path.and_then(|path| file(cx, &path));
    Some(AuditConfig { file, tools: fields.bool(cx, "tools").unwrap_or_default() })
}

/// What is at the path, as far as it can be known.
struct Place {
    is_directory: bool,
    has_directory: bool,
}

/// The file need not be there, but it has to be one that can be made. All of the config is refused otherwise, so that no audit
/// ends without a word.
fn file(cx: &mut Context<'_>, text: &ReadText) -> Option<PathBuf> {
    if text.value.is_empty() || text.value.contains(char::is_control) {
        return cx.refuse(&text.at, "is not a path; name the file that lines are appended to");
    }
    let path = cx.beside_config(&text.value);
    if path == cx.file {
        return cx.refuse(&text.at, "is the config itself; name another file");
    }
    let look = |path: &Path| Place {
        is_directory: path.is_dir(),
        has_directory: path.parent().is_none_or(|parent| parent.as_os_str().is_empty() || parent.is_dir()),
    };
    // Of a file system that does not answer, nothing is known. The thread that writes waits for it.
    match hung::look(&path, cx.patience(), look) {
        Some(Place { is_directory: true, .. }) => {
            cx.refuse(&text.at, "is a directory; name a file in it that lines are appended to")
        }
        Some(Place { has_directory: false, .. }) => cx.refuse(
            &text.at,
            "is in a directory that is not there or cannot be entered; create it, or correct the path",
        ),
        _ => Some(path),
    }
}
