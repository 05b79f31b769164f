//! Comments wrap at 100 columns. rustfmt does not wrap them, and code may be wider.

use crate::sources::files;

/// The width of a line with its indentation.
const COLUMNS: usize = 100;

/// The numbers of the lines that are comments and too wide. An address cannot be wrapped: a comment
/// of a single word may be wider.
fn wide_comments(text: &str) -> Vec<usize> {
    let is_wide = |line: &str| {
        let Some(comment) = line.trim_start().strip_prefix("//") else { return false };
        let words = comment.trim_start_matches(['/', '!']).split_ascii_whitespace().count();
        line.chars().count() > COLUMNS && words > 1
    };
    (1..).zip(text.lines()).filter(|(_, line)| is_wide(line)).map(|(number, _)| number).collect()
}

#[test]
fn no_comment_is_wider_than_100_columns() {
    let mut wide = vec![];
    for (file, text) in files() {
        wide.extend(wide_comments(&text).into_iter().map(|number| format!("{file}:{number}")));
    }
    assert!(wide.is_empty(), "these comments are wider than {COLUMNS} columns: {wide:#?}");
}

#[test]
fn each_form_of_a_wide_comment_is_found() {
    let of_width = |start: &str, width: usize| {
        let words = "word ".repeat(width);
        let line: String = format!("{start}{words}").chars().take(width - 1).collect();
        format!("{line}.")
    };
    for start in ["// ", "/// ", "//! ", "        // ", "    /// ", "//"] {
        assert_eq!(wide_comments(&of_width(start, 100)), [0; 0], "{start}");
        assert_eq!(wide_comments(&of_width(start, 101)), [1], "{start}");
        assert_eq!(wide_comments(&format!("use x;\n\n{}\n", of_width(start, 101))), [3], "{start}");
    }
    // Columns are letters, not bytes.
    assert_eq!(wide_comments(&format!("// a {}", "é".repeat(95))), [0; 0]);
    for other in [of_width("let x = ", 120), format!("/// <https://{}>", "x".repeat(100))] {
        assert_eq!(wide_comments(&other), [0; 0], "{other}");
    }
}
