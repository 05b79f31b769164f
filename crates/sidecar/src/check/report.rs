//! What `check` prints: a line a rung, then for the broken one its cause, whose move it is and what to change.
//!
//! The rules: a rung's line begins with `ok`, `BROKEN` or `-`; notes stand below it, indented; no colour, so that a log
//! can keep it.

use std::fmt::Write as _;

use dexsidecar_core::config::Problem;
use dexsidecar_core::failure::{Failure, Stage};
use serde_json::{Value, json};

const LADDER: [Stage; 8] = [
    Stage::Settings,
    Stage::SubjectToken,
    Stage::Name,
    Stage::Connect,
    Stage::Tls,
    Stage::Discovery,
    Stage::Exchange,
    Stage::Output,
];

/// One rung that was tried.
#[derive(Clone, Debug)]
pub struct Rung {
    stage: Stage,
    /// What was found, or what broke.
    told: String,
    notes: Vec<String>,
    broken: Option<Broken>,
}

#[derive(Clone, Debug)]
struct Broken {
    code: &'static str,
    whose_move: &'static str,
    hint: String,
}

/// The rungs that were tried, from the bottom.
#[derive(Clone, Debug, Default)]
pub struct Report {
    rungs: Vec<Rung>,
}

impl Report {
    /// Settings that are wrong: the first step fails. The doubts may be the cause.
    #[must_use]
    pub fn of_problems(problems: &[Problem], doubts: Vec<String>) -> Self {
        let broken = Broken {
            code: "wrong_settings",
            whose_move: "the pod's manifest",
            hint: "correct the settings named below".to_owned(),
        };
        let rung = Rung {
            stage: Stage::Settings,
            told: format!("{} wrong", problems.len()),
            notes: problems.iter().map(Problem::to_string).chain(doubts).collect(),
            broken: Some(broken),
        };
        Self { rungs: vec![rung] }
    }

    /// A rung that holds.
    pub(super) fn sound(&mut self, stage: Stage, (told, notes): (String, Vec<String>)) {
        self.rungs.push(Rung { stage, told, notes, broken: None });
    }

    /// The rung that broke; the climb ends here. One failure may belong to a rung that seemed to hold before.
    pub(super) fn broken(mut self, failure: &Failure, notes: Vec<String>) -> Self {
        let entry = failure.entry();
        self.rungs.retain(|rung| rung.stage < entry.stage);
        self.rungs.push(Rung {
            stage: entry.stage,
            told: failure.to_string(),
            notes,
            broken: Some(Broken {
                code: entry.name,
                whose_move: failure.owner().name(),
                hint: entry.hint.to_owned(),
            }),
        });
        self
    }

    /// True when every rung holds.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.rungs.iter().all(|rung| rung.broken.is_none())
    }

    /// For a person.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        for rung in &self.rungs {
            let mark = if rung.broken.is_some() { "BROKEN" } else { "ok" };
            let _ = writeln!(text, "{mark:<7} {:<14} {}", rung.stage.name(), rung.told);
            if let Some(broken) = &rung.broken {
                let _ = writeln!(text, "        code:       {}", broken.code);
                let _ = writeln!(text, "        whose move: {}", broken.whose_move);
                let _ = writeln!(text, "        what to do: {}", broken.hint);
            }
            for note in &rung.notes {
                let _ = writeln!(text, "        note: {note}");
            }
        }
        for stage in LADDER.iter().filter(|stage| self.rungs.iter().all(|rung| rung.stage < **stage)) {
            let _ = writeln!(text, "-       {:<14} not tried", stage.name());
        }
        text
    }

    /// For a program: `{"sound": …, "rungs": [{"rung", "ok", "told", "notes", "code", "whose_move", "hint"}]}`.
    #[must_use]
    pub fn json(&self) -> String {
        let rung = |rung: &Rung| {
            let mut value = json!({
                "rung": rung.stage.name(),
                "ok": rung.broken.is_none(),
                "told": rung.told,
                "notes": rung.notes,
            });
            if let Some(broken) = &rung.broken {
                value["code"] = broken.code.into();
                value["whose_move"] = broken.whose_move.into();
                value["hint"] = broken.hint.clone().into();
            }
            value
        };
        let rungs: Vec<Value> = self.rungs.iter().map(rung).collect();
        format!("{}\n", json!({ "sound": self.is_sound(), "rungs": rungs }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dexsidecar_core::failure::Code;

    #[test]
    fn a_broken_rung_is_explained_and_the_rest_not_tried() {
        let mut report = Report::default();
        report.sound(Stage::Settings, ("fine".to_owned(), vec!["odd".to_owned()]));
        report.sound(Stage::SubjectToken, ("fine".to_owned(), vec![]));
        let report = report.broken(&Failure::new(Code::ConnectRefused, "10.0.0.1:5556"), vec![]);
        assert!(!report.is_sound());
        let text = report.text();
        assert!(
            text.starts_with("ok      settings       fine\n        note: odd\nok      subject token  fine\n"),
            "{text}"
        );
        assert!(text.contains("BROKEN  connect        nothing listens there: 10.0.0.1:5556\n"), "{text}");
        assert!(text.contains("whose move: Dex's operation\n"), "{text}");
        assert!(text.ends_with("-       output         not tried\n"), "{text}");
        let json: Value = serde_json::from_str(&report.json()).unwrap();
        assert_eq!(json["rungs"][2]["code"], "connect_refused");
    }
}
