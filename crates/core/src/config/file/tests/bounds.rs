//! What a file may not hold: secrets in the form, and far too much.

use super::*;

#[test]
fn a_form_field_with_a_secret_is_read_from_a_file_only() {
    for field in ["password", "refresh_token", "assertion", "client_assertion", "code", "code_verifier"] {
        assert_eq!(
            wrong(&format!("    form: {{{field}: canary}}\n")),
            [format!(
                "7:12: tokens[0].form.{field}: would hold a secret: write it to a file, and set form_files to its path"
            )]
        );
        let from_file = token(&format!("    form_files: {{{field}: /x}}\n")).exchange.fields;
        assert!(from_file.contains(&(field.to_owned(), Source::File("/x".into()))), "{field}");
    }
}

/// Each of these files has far more mistakes than are reported.
#[test]
fn the_number_of_problems_is_bounded() {
    let many = |count: usize, element: &dyn Fn(usize) -> String| {
        (0..count).map(element).collect::<Vec<_>>().join(", ")
    };
    let nested = |element: &dyn Fn(usize) -> String| {
        let inner = format!("[{}]", many(50, element));
        one(&format!("    audience: [{}]\n", many(200, &|_| inner.clone())))
    };
    let outputs = |path: &dyn Fn(usize, usize) -> String| {
        let token = |token: usize| {
            let outputs = many(16, &|output| format!("{{path: {}}}", path(token, output)));
            format!(
                "{{name: t{token}, issuer: \"https://dex\", connector_id: x, subject_token_file: /s, outputs: [{outputs}]}}"
            )
        };
        format!("version: v1\ntokens: [{}]\n", many(64, &token))
    };
    for (what, text, more) in [
        ("aliases", nested(&|index| if index == 0 { "&x y" } else { "*x" }.to_owned()), None),
        ("tags", nested(&|_| "!x y".to_owned()), None),
        ("anchors", nested(&|index| format!("&a{index} y")), None),
        ("duplicates", one(&format!("    form: {{{}}}\n", many(256, &|_| "x: y".to_owned()))), None),
        (
            "unknown keys",
            one(&format!("    form: {{{}}}\n", many(250, &|index| format!("k{index}: [x]")))),
            Some(50),
        ),
        // The first output of each pair has no clash.
        ("one file", outputs(&|_, _| "/run/t".to_owned()), Some(1_023 - 200)),
        ("an input", outputs(&|_, _| "/s".to_owned()), Some(1_024 - 200)),
        (
            "directories",
            outputs(&|token, output| format!("/run{}", "/a".repeat(token % 32 * 16 + output + 1))),
            None,
        ),
    ] {
        let reported = problems(&text);
        assert_eq!(reported.len(), 201, "{what}: {:?}", reported.first());
        let last = reported.last().unwrap();
        assert!(last.contains("the file: has "), "{what}: {last}");
        if let Some(more) = more {
            assert!(last.contains(&format!("has {more} more problems")), "{what}: {last}");
        }
    }
}

#[test]
fn the_number_of_keys_and_values_is_bounded() {
    let list = |count: usize| format!("[{}]", vec!["x"; count].join(", "));
    let text = |lists: usize| one(&format!("    audience: [{}]\n", vec![list(250); lists].join(", ")));
    let too_many = "has more than 20000 keys and values";
    assert!(problems(&text(79)).iter().all(|problem| !problem.contains(too_many)));
    let reported = problems(&text(80));
    assert!(reported.len() == 1 && reported[0].contains(too_many), "{reported:?}");
}
