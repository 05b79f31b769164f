//! What `check` prints: a line for each step when it is done; for the first that fails its code,
//! owner and fix.
//!
//! A line begins with `ok`, `FAIL` or `skipped`, then the step and how long it took. Notes and the
//! explanation of a failure stand below it, indented. Colours are for terminals only.

use std::fmt::Write as _;
use std::time::Duration;

use dexsidecar_core::config::Problem;
use dexsidecar_core::failure::{Failure, Owner, Step, WRONG_SETTINGS, printable};
use serde_json::{Value, json};

/// The version of the JSON report; it changes when a member changes its meaning.
const VERSION: u32 = 1;

/// The result of one step.
#[derive(Clone, Debug)]
pub struct StepResult {
    step: Step,
    outcome: Outcome,
    notes: Vec<String>,
    took: Duration,
}

#[derive(Clone, Debug)]
enum Outcome {
    Ok(String),
    Fail { message: String, code: &'static str, owner: Owner, fix: &'static str },
    Skipped,
}

impl StepResult {
    /// A step that succeeded, with notes on what is unusual.
    pub(super) fn ok(step: Step, message: String, notes: Vec<String>, took: Duration) -> Self {
        let notes = notes.into_iter().map(printable).collect();
        Self { step, outcome: Outcome::Ok(printable(message)), notes, took }
    }

    /// A step that failed, with what is known of the cause.
    pub(super) fn fail(step: Step, failure: &Failure, causes: Vec<String>, took: Duration) -> Self {
        let (code, owner, fix) = (failure.code.entry().name, failure.owner(), failure.fix());
        let outcome = Outcome::Fail { message: failure.to_string(), code, owner, fix };
        Self { step, outcome, notes: causes, took }
    }

    const fn skipped(step: Step) -> Self {
        Self { step, outcome: Outcome::Skipped, notes: vec![], took: Duration::ZERO }
    }

    /// For people: one line, and what belongs to it.
    #[must_use]
    pub fn text(&self, colours: bool) -> String {
        let mut text = String::new();
        let (mark, colour) = match self.outcome {
            Outcome::Ok(_) => ("ok", GREEN),
            Outcome::Fail { .. } => ("FAIL", RED),
            Outcome::Skipped => ("skipped", GREY),
        };
        let (begin, end) = if colours { (colour, RESET) } else { ("", "") };
        let (step, took) = (self.step.title(), format!("{} ms", self.took.as_millis()));
        // Writing to a String cannot fail.
        let _ = match &self.outcome {
            Outcome::Ok(message) => writeln!(text, "{begin}{mark:<7}{end}  {step:<13}  {took:>8}  {message}"),
            Outcome::Fail { message, code, owner, fix } => {
                writeln!(text, "{begin}{mark:<7}{end}  {step:<13}  {took:>8}  {message}").and_then(|()| {
                    let owner = owner.title();
                    writeln!(text, "{INDENT}code:  {code}\n{INDENT}owner: {owner}\n{INDENT}fix:   {fix}")
                })
            }
            Outcome::Skipped => writeln!(text, "{begin}{mark:<7}{end}  {step}"),
        };
        for note in &self.notes {
            let _ = writeln!(text, "{INDENT}note:  {note}");
        }
        text
    }

    fn json(&self) -> Value {
        let step = self.step.label();
        match &self.outcome {
            Outcome::Skipped => json!({ "step": step, "status": "skipped" }),
            Outcome::Ok(message) => json!({
                "step": step,
                "status": "ok",
                "message": message,
                "notes": self.notes,
                "duration_ms": self.took.as_millis() as u64,
            }),
            Outcome::Fail { message, code, owner, fix } => json!({
                "step": step,
                "status": "fail",
                "message": message,
                "notes": self.notes,
                "code": code,
                "owner": owner.label(),
                "fix": fix,
                "duration_ms": self.took.as_millis() as u64,
            }),
        }
    }
}

const INDENT: &str = "         ";
const GREEN: &str = "\x1b[32m";
const RED: &str = "\x1b[1;31m";
const GREY: &str = "\x1b[2m";
const RESET: &str = "\x1b[0m";

/// The results of all steps.
#[derive(Clone, Debug)]
pub struct Report {
    steps: Vec<StepResult>,
}

impl Report {
    /// Completes the results with the steps that were not run, each handed to `done`.
    pub(super) fn of(mut steps: Vec<StepResult>, done: &mut impl FnMut(&StepResult)) -> Self {
        for step in Step::ALL.into_iter().skip(steps.len()) {
            let skipped = StepResult::skipped(step);
            done(&skipped);
            steps.push(skipped);
        }
        Self { steps }
    }

    /// Invalid settings: the first step fails. The warnings may name the cause.
    #[must_use]
    pub fn of_problems(
        problems: &[Problem],
        warnings: Vec<String>,
        mut done: impl FnMut(&StepResult),
    ) -> Self {
        let message = match problems.len() {
            1 => "1 setting is invalid".to_owned(),
            more => format!("{more} settings are invalid"),
        };
        let fix = "correct the settings named below";
        let outcome = Outcome::Fail { message, code: WRONG_SETTINGS, owner: Owner::Pod, fix };
        let notes = problems.iter().map(Problem::to_string).chain(warnings).collect();
        let settings = StepResult { step: Step::Settings, outcome, notes, took: Duration::ZERO };
        done(&settings);
        Self::of(vec![settings], &mut done)
    }

    /// True when no step failed.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.steps.iter().all(|step| matches!(step.outcome, Outcome::Ok(_)))
    }

    /// For programs; docs/check.schema.json describes it.
    #[must_use]
    pub fn json(&self) -> String {
        let steps: Vec<Value> = self.steps.iter().map(StepResult::json).collect();
        format!("{}\n", json!({ "version": VERSION, "ok": self.is_ok(), "steps": steps }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dexsidecar_core::failure::Code;

    #[test]
    fn a_failed_step_is_explained_and_the_rest_is_skipped() {
        let ms = Duration::from_millis;
        let failure = Failure::new(Code::ConnectRefused, "10.0.0.1:5556");
        let steps = vec![
            StepResult::ok(Step::Settings, "fine".to_owned(), vec!["unusual".to_owned()], ms(0)),
            StepResult::ok(Step::SubjectToken, "fine".to_owned(), vec![], ms(1)),
            StepResult::ok(Step::Dns, "fine".to_owned(), vec![], ms(12)),
            StepResult::fail(Step::Tcp, &failure, vec!["a cause".to_owned()], ms(1_234)),
        ];
        let mut text: String = steps.iter().map(|step| step.text(false)).collect();
        let report = Report::of(steps, &mut |step| text += &step.text(false));
        assert!(!report.is_ok());
        let fix = Code::ConnectRefused.entry().fix;
        assert_eq!(
            text,
            format!(
                "ok       settings           0 ms  fine\n         note:  unusual\n\
                 ok       subject token      1 ms  fine\n\
                 ok       DNS               12 ms  fine\n\
                 FAIL     TCP             1234 ms  connection refused: 10.0.0.1:5556\n         \
                 code:  connect_refused\n         owner: Dex operator\n         fix:   {fix}\n         note:  a cause\n\
                 skipped  TLS\nskipped  discovery\nskipped  exchange\nskipped  output\n"
            )
        );
        let json: Value = serde_json::from_str(&report.json()).unwrap();
        assert_eq!((&json["version"], &json["ok"]), (&1.into(), &false.into()));
        assert_eq!(json["steps"].as_array().unwrap().len(), 8);
        assert_eq!(json["steps"][3]["code"], "connect_refused");
        assert_eq!(json["steps"][3]["owner"], "dex_operator");
        assert_eq!(json["steps"][3]["duration_ms"], 1_234);
        assert_eq!(json["steps"][4], json!({"step": "tls", "status": "skipped"}));
    }

    #[test]
    fn only_the_mark_is_coloured() {
        let step = StepResult::ok(Step::Dns, "fine".to_owned(), vec![], Duration::ZERO);
        assert_eq!(step.text(true), "\x1b[32mok     \x1b[0m  DNS                0 ms  fine\n");
        assert_eq!(StepResult::skipped(Step::Tls).text(true), "\x1b[2mskipped\x1b[0m  TLS\n");
    }
}
