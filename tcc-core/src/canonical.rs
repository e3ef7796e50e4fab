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

#[cfg(test)]
mod tests {
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
}
