//! Writes JSON without a value of all of it in memory.

/// A text.
#[must_use]
pub fn string(text: &str) -> String {
    // Writing a string cannot fail.
    serde_json::to_string(text).unwrap_or_default()
}

/// An object of these members, whose values are JSON, on one line.
#[must_use]
pub fn object(members: &[(&str, String)]) -> String {
    let members: Vec<_> = members.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
    format!("{{{}}}", members.join(","))
}

/// An array of these values, which are JSON, on one line.
#[must_use]
pub fn array(values: &[String]) -> String {
    format!("[{}]", values.join(","))
}

/// An object like [`object`] with a member on each line, below a margin of so many spaces.
#[must_use]
pub fn object_on_lines(margin: usize, members: &[(&str, String)]) -> String {
    let members: Vec<_> = members.iter().map(|(name, value)| format!("\"{name}\": {value}")).collect();
    on_lines(margin, ["{", "}"], &members)
}

/// An array like [`array()`] with a value on each line, below a margin of so many spaces.
#[must_use]
pub fn array_on_lines(margin: usize, values: &[String]) -> String {
    on_lines(margin, ["[", "]"], values)
}

fn on_lines(margin: usize, [begin, end]: [&str; 2], parts: &[String]) -> String {
    if parts.is_empty() {
        return format!("{begin}{end}");
    }
    let (outer, inner) = (" ".repeat(margin), " ".repeat(margin + 2));
    let between = format!(",\n{inner}");
    format!("{begin}\n{inner}{}\n{outer}{end}", parts.join(&between))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn the_text_is_that_of_serde_json() {
        let texts = ["", "a", "\"\\\n\u{1}", "\u{e9}\u{2028}"].map(string);
        let value: Value =
            json!({"a": ["", "a", "\"\\\n\u{1}", "\u{e9}\u{2028}"], "b": {"c": null, "d": []}});
        let inner = object(&[("c", "null".to_owned()), ("d", array(&[]))]);
        assert_eq!(object(&[("a", array(&texts)), ("b", inner)]), value.to_string());
        let inner = object_on_lines(2, &[("c", "null".to_owned()), ("d", array_on_lines(4, &[]))]);
        assert_eq!(
            object_on_lines(0, &[("a", array_on_lines(2, &texts)), ("b", inner)]),
            format!("{value:#}")
        );
        assert_eq!((object(&[]), object_on_lines(0, &[])), ("{}".to_owned(), "{}".to_owned()));
    }
}
