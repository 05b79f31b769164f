//! The settings of the token file.

use super::*;

#[test]
fn an_output_must_be_a_file() {
    for path in ["/", "/var/run/", ".."] {
        let endpoint = "dex_endpoint=https://dex/token";
        let reported =
            Config::read(&given(&[endpoint, &format!("dex_access_token_file={path}")]), Outputs::Required);
        assert_eq!(reported.unwrap_err()[0].what, "is a directory", "{path}");
    }
}

/// Only the command `token` may do without an output.
#[test]
fn a_token_without_a_token_file_has_no_output() {
    let given = given(&["dex_endpoint=https://dex/token"]);
    assert_eq!(only_token(Config::read(&given, Outputs::Optional).unwrap()).outputs, []);
}

#[test]
fn a_group_is_a_valid_group_number() {
    for (given, group) in
        [("0", Some(0)), ("1000", Some(1_000)), ("4294967294", Some(u32::MAX - 1)), ("", None)]
    {
        let token = token_with(&[&format!("DEXSIDECAR_OUTPUT_GROUP={given}")]);
        assert_eq!(token.outputs[0].group, group, "{given}");
    }
    for wrong in ["4294967295", "4294967296", "+1000", "-1", "staff"] {
        let reported = "DEXSIDECAR_OUTPUT_GROUP is not a group number: use a number such as 1000";
        assert_eq!(problems(&[&format!("DEXSIDECAR_OUTPUT_GROUP={wrong}")]), [reported], "{wrong}");
    }
}

#[test]
fn a_file_that_is_written_has_no_other_use() {
    let subject = "/var/run/secrets/kubernetes.io/dex/token";
    let output = "/var/run/secrets/miscord.win/dex/token";
    for (given, reported) in [
        (
            format!("DEXSIDECAR_TERMINATION_LOG={output}"),
            "DEXSIDECAR_TERMINATION_LOG is the same file as dex_access_token_file: use another file",
        ),
        (
            "DEXSIDECAR_TERMINATION_LOG=/var/run/secrets//kubernetes.io/./dex/token".to_owned(),
            "DEXSIDECAR_TERMINATION_LOG is the same file as dex_file_subject_token: use another file",
        ),
        (
            format!("DEXSIDECAR_CA_FILE={output}"),
            "dex_access_token_file is the same file as DEXSIDECAR_CA_FILE: use another file",
        ),
        (
            format!("dex_file_resource={output}"),
            "dex_access_token_file is the same file as dex_file_resource: use another file",
        ),
    ] {
        assert_eq!(problems(&[&given]), [reported], "{given}");
    }
    // What is only read may be read twice.
    assert!(with(&[&format!("dex_file_resource={subject}")]).is_ok());
    let apart = format!("DEXSIDECAR_TERMINATION_LOG={output}.log");
    assert!(with(&[&apart]).is_ok());
}
