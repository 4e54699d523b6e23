//! The files that a config names, looked at side by side before it is read: however many of them hang, they are waited for
//! once.

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
};

use jsonc_parser::ast::{self, Value};

use crate::config::{
    hung::{self, Patience},
    read::{
        context::{Context, NamedFiles},
        files::{FileContents, Unreadable},
        known, reference,
    },
};

/// Keys whose value is the path of a file; those of the certificate are such only in `tls`.
const FILE_KEYS: [&str; 2] = ["$file", "caFile"];
const CERTIFICATE_KEYS: [&str; 2] = ["cert", "key"];
/// The key whose value is the path of a directory.
const DIRECTORY_KEY: &str = "cwd";

enum Found {
    File(Result<FileContents, Unreadable>),
    Directory(bool),
}

/// Looks at all that `document` seems to name. What is missed here is looked at when it is asked for.
pub(crate) fn look(cx: &Context<'_>, document: &Value<'_>) -> NamedFiles {
    let (mut files, mut directories) = (HashSet::new(), HashSet::new());
    collect(cx, document, "", &mut files, &mut directories);
    known::want(cx.file, &files);
    directories.retain(|path| !files.contains(path));
    let paths: Vec<PathBuf> = files.iter().chain(&directories).cloned().collect();
    let found = hung::look_at_each(paths.clone(), Patience::LOAD, {
        let directories = directories.clone();
        move |path: &Path| match directories.contains(path) {
            true => Found::Directory(path.is_dir()),
            false => Found::File(known::read_and_keep(path)),
        }
    });
    let mut named = NamedFiles::default();
    for (path, found) in paths.into_iter().zip(found) {
        match found {
            Some(Found::File(result)) => drop(named.files.insert(path, result)),
            Some(Found::Directory(is_there)) => drop(named.directories.insert(path, Some(is_there))),
            None if directories.contains(&path) => drop(named.directories.insert(path, None)),
            None => drop(named.files.insert(path, Err(Unreadable::Hangs))),
        }
    }
    named
}

fn collect(
    cx: &Context<'_>,
    value: &Value<'_>,
    key: &str,
    files: &mut HashSet<PathBuf>,
    directories: &mut HashSet<PathBuf>,
) {
    match value {
        Value::Object(object) => {
            for property in &object.properties {
                let name = property.name.as_str();
                let into = match name {
                    DIRECTORY_KEY => &mut *directories,
                    _ if FILE_KEYS.contains(&name) => &mut *files,
                    _ if key == "tls" && CERTIFICATE_KEYS.contains(&name) => &mut *files,
                    _ => {
                        collect(cx, &property.value, name, files, directories);
                        continue;
                    }
                };
                into.extend(path(cx, &property.value));
            }
        }
        Value::Array(array) => {
            array.elements.iter().for_each(|value| collect(cx, value, "", files, directories));
        }
        _ => {}
    }
}

fn path(cx: &Context<'_>, value: &Value<'_>) -> Option<PathBuf> {
    let literal = |value: &Value<'_>| value.as_string_lit().map(|literal| literal.value.to_string());
    let text = match value.as_object().map(|object| &*object.properties) {
        None => reference::expand(&literal(value)?, cx.env).ok()?.value,
        Some([ast::ObjectProp { name, value, .. }]) => match name.as_str() {
            "$env" => reference::from_env(&literal(value)?, cx.env).ok()?.value,
            "$text" => literal(value)?,
            _ => return None,
        },
        Some(_) => return None,
    };
    // What is no path is never looked at.
    (!text.is_empty() && !text.contains(char::is_control)).then(|| cx.beside_config(&text))
}
