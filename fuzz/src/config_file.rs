//! The target `config_file`: the reader of the configuration file.

use std::path::Path;

use dexsidecar_core::config::{Config, ConfigFile, Locate, Outputs, RawSettings};

use crate::{CANARY, sendable};

/// The longest message of a problem, in characters: a key path has at most seven keys.
const LONGEST_MESSAGE: usize = 2_000;

/// A configuration file. It is a configuration, or problems with their places and fixes. No message
/// quotes a value. A valid one is printed and, once it is filled in, read back the same.
pub fn config_file(data: &[u8]) {
    let read = |content: &[u8], outputs| {
        let file = ConfigFile { name: "fuzz.yaml", path: Path::new("/fuzz.yaml"), content };
        Config::read_file(file, &RawSettings::default(), outputs, Locate::AS_TEXT)
    };
    let text = String::from_utf8_lossy(data);
    // A message may repeat a key.
    let is_in_a_key = text.contains('?') || text.lines().any(key_holds_canary);
    let no_value = |message: &str| {
        assert!(is_in_a_key || !message.contains(CANARY), "{message}");
        assert!(message.chars().count() <= LONGEST_MESSAGE, "{message}");
        assert!(!message.contains(['\n', '\u{1b}', '\u{202e}']), "{message:?}");
    };
    for outputs in [Outputs::Required, Outputs::Optional] {
        match read(data, outputs) {
            Ok(config) => {
                config.warnings.iter().for_each(|warning| no_value(&warning.to_string()));
                config.tokens.iter().for_each(|token| sendable(&token.exchange));
                let printed = config.print();
                let filled = filled_in(&printed);
                let again = read(filled.as_bytes(), outputs);
                let again = again.unwrap_or_else(|problems| panic!("{problems:#?}\n{filled}"));
                assert_eq!(filled_in(&again.print()), filled);
                if filled == printed {
                    assert_eq!(again.tokens, config.tokens, "{printed}");
                    let others = |it: &Config| (it.log, it.listen, it.termination_log.clone());
                    assert_eq!(others(&again), others(&config));
                }
            }
            Err(problems) => {
                assert!(!problems.is_empty() && problems.is_sorted_by_key(|problem| problem.place));
                for problem in problems {
                    assert!(!problem.what.is_empty() && !problem.fix.is_empty());
                    no_value(&problem.to_string());
                }
            }
        }
    }
}

/// What is printed, with the values that the user has to fill in: those of headers, queries and
/// users of URLs. A value is as long as what stands for it, and quoted in the same way.
fn filled_in(printed: &str) -> String {
    printed.replace("TODO", "T0D0")
}

/// Whether a line may have the canary in a key: a colon follows it.
fn key_holds_canary(line: &str) -> bool {
    line.split_once(CANARY).is_some_and(|(_, after)| after.contains(':'))
}
