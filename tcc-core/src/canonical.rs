//! JSON texts in one spelling, by which a repeat by another writer is known: keys sorted, white space gone, numbers as
//! they were written. As numbers they would not do: two amounts beyond 2⁶⁴ are not the same because an `f64` is.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use crate::limits;

/// Why a JSON text cannot be spelled.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BadJson {
    #[error("nests deeper than {}", limits::JSON_DEPTH)]
    TooDeep,
    #[error("cannot be read: {0}")]
    Malformed(#[from] serde_json::Error),
}

/// The one spelling of a JSON text.
pub(crate) fn canonical(json: &RawValue) -> Result<String, BadJson> {
    if is_plain(json) {
        return Ok(json.get().to_owned());
    }
    let mut text = String::with_capacity(json.get().len());
    spell(json, limits::JSON_DEPTH, &mut text)?;
    Ok(text)
}

fn spell(json: &RawValue, depth: usize, text: &mut String) -> Result<(), BadJson> {
    let depth = depth.checked_sub(1).ok_or(BadJson::TooDeep)?;
    let token = json.get().trim();
    match token.as_bytes().first() {
        Some(b'{') => {
            let members: BTreeMap<String, &RawValue> = serde_json::from_str(token)?;
            text.push('{');
            for (i, (key, value)) in members.iter().enumerate() {
                if i > 0 {
                    text.push(',');
                }
                text.push_str(&serde_json::to_string(key)?);
                text.push(':');
                spell(value, depth, text)?;
            }
            text.push('}');
        }
        Some(b'[') => {
            let elements: Vec<&RawValue> = serde_json::from_str(token)?;
            text.push('[');
            for (i, value) in elements.iter().enumerate() {
                if i > 0 {
                    text.push(',');
                }
                spell(value, depth, text)?;
            }
            text.push(']');
        }
        Some(b'"') => text.push_str(&serde_json::to_string(&serde_json::from_str::<String>(token)?)?),
        Some(_) | None => text.push_str(token),
    }
    Ok(())
}

/// Whether a JSON text is one that every reader takes and has its one spelling already, as most have that a program
/// wrote: without white space and escapes, its keys sorted. Of others it says no.
pub(crate) fn is_plain(json: &RawValue) -> bool {
    let mut rest = json.get().as_bytes();
    take_plain(&mut rest, limits::JSON_DEPTH) && rest.is_empty()
}

/// Takes one value off a text whose grammar was checked; `false` if it is not plain.
fn take_plain(rest: &mut &[u8], depth: usize) -> bool {
    match (rest.first(), depth.checked_sub(1)) {
        (Some(b'{'), Some(depth)) => {
            let mut last: Option<&[u8]> = None;
            *rest = &rest[1..];
            while rest.first() == Some(&b'"') {
                let Some(key) = take_plain_text(rest) else { return false };
                if last.is_some_and(|last| last >= key) || rest.split_off_first() != Some(&b':') {
                    return false;
                }
                last = Some(key);
                if !take_plain(rest, depth) || !take_comma(rest, b'}') {
                    return false;
                }
            }
            rest.split_off_first() == Some(&b'}')
        }
        (Some(b'['), Some(depth)) => {
            *rest = &rest[1..];
            while rest.first().is_some_and(|next| *next != b']') {
                if !take_plain(rest, depth) || !take_comma(rest, b']') {
                    return false;
                }
            }
            rest.split_off_first() == Some(&b']')
        }
        (Some(b'"'), Some(_)) => take_plain_text(rest).is_some(),
        (Some(_), Some(_)) => {
            let ends = |b: &u8| !b.is_ascii_alphanumeric() && !b"+-.".contains(b);
            let (word, after) = rest.split_at(rest.iter().position(ends).unwrap_or(rest.len()));
            *rest = after;
            let is_number = word.first().is_some_and(|b| *b == b'-' || b.is_ascii_digit());
            // A number of so few digits, and without an exponent, is within every reader's bounds.
            matches!(word, b"true" | b"false" | b"null")
                || is_number && word.len() <= 300 && !word.iter().any(|b| matches!(b, b'e' | b'E'))
        }
        (_, None) | (None, _) => false,
    }
}

/// A comma with something after it, or else the end of what it is in.
fn take_comma(rest: &mut &[u8], end: u8) -> bool {
    match rest {
        [b',', next, ..] if *next != end => {
            *rest = &rest[1..];
            true
        }
        [last, ..] => *last == end,
        [] => false,
    }
}

fn take_plain_text<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let text = rest.strip_prefix(b"\"")?;
    let end = text.iter().position(|b| matches!(b, b'"' | b'\\'))?;
    *rest = text[end..].strip_prefix(b"\"")?;
    Some(&text[..end])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn spelled(json: &str) -> String {
        let raw: &RawValue = serde_json::from_str(json).unwrap();
        canonical(raw).unwrap_or_else(|bad| bad.to_string())
    }

    #[test]
    fn one_value_has_one_spelling_and_two_values_have_two() {
        assert_eq!(spelled(r#" { "b" : [1, 2] , "a": "\u0041" } "#), r#"{"a":"A","b":[1,2]}"#);
        assert_ne!(spelled("100000000000000000001"), spelled("100000000000000000002"));
        assert_eq!(spelled("1e400"), "1e400");
        assert!(spelled(r#""\ud800""#).starts_with("cannot be read"), "{}", spelled(r#""\ud800""#));
        let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
        assert!(spelled(&deep).starts_with("nests deeper than"));
    }

    /// Each is plain, or is not.
    #[test]
    fn what_is_plain_has_its_spelling_already_and_every_reader_takes_it() {
        let deep = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        let long = "9".repeat(400);
        for (text, plain) in [
            (r#"{"account":"alice","amount":-30.5,"of":{"a":[],"b":[1,{}],"c":null}}"#, true),
            (r#"[true,false,null,0,-0,1.50,"","é"]"#, true),
            (&deep(limits::JSON_DEPTH), true),
            (&deep(limits::JSON_DEPTH + 1), false),
            (r#"{"b":1,"a":2}"#, false),
            (r#"{"a":1,"a":2}"#, false),
            (r#"{"a": 1}"#, false),
            (r#"{"a":1 }"#, false),
            ("[1, 2]", false),
            (r#""\u0041""#, false),
            (r#"{"\u0041":1}"#, false),
            ("1e400", false),
            ("1E2", false),
            (&long, false),
        ] {
            let raw = RawValue::from_string(text.to_owned()).unwrap();
            assert_eq!(is_plain(&raw), plain, "{text}");
        }
    }

    /// JSON texts, most of them not far from plain.
    fn texts() -> impl Strategy<Value = String> {
        let leaf = prop::sample::select(vec![
            "0",
            "-1.50",
            "1e5",
            "1e400",
            "true",
            "null",
            "\"\"",
            "\"é b\"",
            r#""\u0041""#,
            r#""\ud800""#,
            "{}",
            "[]",
        ]);
        let key = prop::sample::select(vec!["a", "b", "c", "é", r"\u0062"]);
        let comma = || prop::sample::select(vec![",", ",", ",", ", "]);
        leaf.prop_map(str::to_owned).prop_recursive(4, 16, 3, move |inner| {
            let lists = (prop::collection::vec(inner.clone(), 0..4), comma());
            let member = (key.clone(), inner).prop_map(|(key, value)| format!(r#""{key}":{value}"#));
            let objects = (prop::collection::vec(member, 0..4), comma());
            prop_oneof![
                lists.prop_map(|(of, comma)| format!("[{}]", of.join(comma))),
                objects.prop_map(|(of, comma)| format!("{{{}}}", of.join(comma))),
            ]
        })
    }

    proptest::proptest! {
        #[test]
        fn a_plain_text_is_spelled_as_it_is_and_can_be_read(text in texts()) {
            let raw = RawValue::from_string(text.clone()).unwrap();
            if is_plain(&raw) {
                let mut spelled = String::new();
                spell(&raw, limits::JSON_DEPTH, &mut spelled).unwrap();
                assert_eq!(spelled, text);
                serde_json::from_str::<serde_json::Value>(&text).unwrap();
            }
        }
    }
}
