//! Looking into JSON, strictly: what is not there fails the test.

use serde_json::Value;

/// The value on the only line of a text.
#[must_use]
pub fn line(text: &str) -> Value {
    let all = lines(text);
    let [value] = all.as_slice() else {
        panic!("one line of JSON expected, {} found:\n{text}", all.len());
    };
    value.clone()
}

/// The values on the lines of a text.
#[must_use]
pub fn lines(text: &str) -> Vec<Value> {
    let value = |line| {
        serde_json::from_str(line).unwrap_or_else(|error| panic!("no JSON ({error}): {line}"))
    };
    text.lines().map(value).collect()
}

/// The members of an array.
#[must_use]
pub fn array(value: &Value) -> &Vec<Value> {
    value
        .as_array()
        .unwrap_or_else(|| panic!("no array: {value}"))
}

/// A member that is a string.
#[must_use]
pub fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key]
        .as_str()
        .unwrap_or_else(|| panic!("{key} is no string in {value}"))
}

/// A member that is a number.
#[must_use]
pub fn number(value: &Value, key: &str) -> u64 {
    value[key]
        .as_u64()
        .unwrap_or_else(|| panic!("{key} is no number in {value}"))
}
