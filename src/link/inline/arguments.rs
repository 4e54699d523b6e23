//! A command line from a template and a call.

use std::borrow::Cow;

use serde_json::{Map, Number, Value};

use crate::config::{InlineTool, Piece};

/// Bytes of arguments beyond which no call is taken. One argument of a command has at most 128 KiB (Linux, `MAX_ARG_STRLEN`).
pub(super) const MOST: usize = 256 << 10;

/// The command line for these arguments of a call of `tool`. The error is for the caller: arguments that do not fit are a
/// result that says so, for the model to mend (MCP 2025-11-25, "Error Handling" of tools).
pub(super) fn line(tool: &InlineTool, arguments: Option<&str>) -> Result<Vec<String>, String> {
    let given = match arguments {
        None => Value::Null,
        Some(text) if text.len() > MOST => {
            return Err(format!(
                "The arguments are larger than {} KiB, which no command is given.",
                MOST >> 10
            ));
        }
        Some(text) => serde_json::from_str(text)
            .map_err(|_| "The arguments cannot be read: they are nested too deep.".to_owned())?,
    };
    let given = if given.is_null() { Value::Object(Map::new()) } else { given };
    tool.input_schema.check(&given).map_err(|faults| format!("The arguments do not fit: {faults}"))?;
    match given {
        Value::Object(given) => fill(&tool.args, &given),
        // Not with a schema of type object.
        _ => Err("The arguments must be an object.".into()),
    }
}

/// Puts what the caller gives into the template. Each entry of it becomes one argument of the command or, if it names
/// something that the caller left out, none. The error is for the caller.
fn fill(template: &[Vec<Piece>], given: &Map<String, Value>) -> Result<Vec<String>, String> {
    template.iter().filter_map(|pieces| join(pieces, given).transpose()).collect()
}

fn join(pieces: &[Piece], given: &Map<String, Value>) -> Result<Option<String>, String> {
    let mut argument = String::new();
    for piece in pieces {
        match piece {
            Piece::Text(text) => argument.push_str(text.expose()),
            Piece::Argument(name) => match given.get(&**name) {
                None | Some(Value::Null) => return Ok(None),
                Some(value) => {
                    let text = written(value);
                    if text.contains('\0') {
                        return Err(format!("/{name}: a zero byte cannot be passed to a command"));
                    }
                    argument.push_str(&text);
                }
            },
        }
    }
    Ok(Some(argument))
}

/// Text as it is, anything else as JSON.
fn written(value: &Value) -> Cow<'_, str> {
    match value {
        Value::String(text) => text.as_str().into(),
        Value::Number(number) => match whole(number) {
            Some(whole) => whole.to_string().into(),
            None => number.to_string().into(),
        },
        Value::Array(_) | Value::Object(_) => with_whole_numbers(value).to_string().into(),
        other => other.to_string().into(),
    }
}

/// A number that was written with a fraction and has none, such as 5.0, as JSON Schema sees it (2020-12, core, section
/// 4.2.3): clients in JavaScript or Lua do not tell it from 5, and the command that asked for an integer may.
fn whole(number: &Number) -> Option<i64> {
    /// What fits an `i64`.
    const MOST: f64 = 9e18;
    let value = number.as_f64().filter(|value| number.is_f64() && value.fract() == 0.0)?;
    #[allow(clippy::cast_possible_truncation, reason = "it is a whole number within the bounds of an i64")]
    (value.abs() <= MOST).then_some(value as i64)
}

/// `value` with such numbers written without a fraction. Recurses no deeper than its parser did.
fn with_whole_numbers(value: &Value) -> Value {
    match value {
        Value::Number(number) => whole(number).map_or_else(|| value.clone(), Value::from),
        Value::Array(items) => items.iter().map(with_whole_numbers).collect(),
        Value::Object(members) => {
            members.iter().map(|(name, value)| (name.clone(), with_whole_numbers(value))).collect()
        }
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::secret::Secret;

    fn text(text: &str) -> Piece {
        Piece::Text(Secret::new(text.into()))
    }

    fn argument(name: &str) -> Piece {
        Piece::Argument(name.into())
    }

    fn filled(template: &[Vec<Piece>], given: Value) -> Result<Vec<String>, String> {
        fill(template, given.as_object().expect("an object"))
    }

    #[test]
    fn one_entry_is_one_argument_whatever_is_put_in() {
        let template = [vec![argument("a")], vec![text("--name="), argument("a"), text("!")], vec![text("")]];
        for value in ["plain", "two words", "$(reboot); `x` | y > z & \"'\\\n", "", "{{a}}", "*", "-rf"] {
            let line = filled(&template, json!({ "a": value }));
            assert_eq!(line, Ok(vec![value.into(), format!("--name={value}!"), String::new()]));
        }
    }

    #[test]
    fn what_is_no_text_is_written_as_json() {
        let template = [vec![argument("v")]];
        for (value, written) in [
            (json!(3), "3"),
            (json!(1.5), "1.5"),
            (json!(5.0), "5"),
            (json!(-0.0), "0"),
            (json!(1e15), "1000000000000000"),
            (json!(1e18), "1000000000000000000"),
            (json!(1e300), "1e+300"),
            (json!([5.0, { "k": -2.0 }, 0.5]), r#"[5,{"k":-2},0.5]"#),
            (json!(true), "true"),
            (json!(["a b", 1]), r#"["a b",1]"#),
            (json!({ "k": "v" }), r#"{"k":"v"}"#),
        ] {
            assert_eq!(filled(&template, json!({ "v": value })), Ok(vec![written.into()]));
        }
    }

    #[test]
    fn an_entry_without_its_argument_is_left_out() {
        let template = [vec![text("-v")], vec![text("--max="), argument("max")], vec![argument("path")]];
        assert_eq!(filled(&template, json!({})), Ok(vec!["-v".into()]));
        assert_eq!(filled(&template, json!({ "max": null, "path": "p" })), Ok(vec!["-v".into(), "p".into()]));
        assert_eq!(filled(&template, json!({ "max": 1 })), Ok(vec!["-v".into(), "--max=1".into()]));
    }

    #[test]
    fn a_zero_byte_is_refused_and_named() {
        let error = filled(&[vec![argument("a")]], json!({ "a": "x\0y" })).expect_err("refused");
        assert!(error.contains("/a: a zero byte"), "{error}");
    }
}
