//! What `check` prints: a line for each step when it is done; for the first that fails its code,
//! owner and fix.
//!
//! A line begins with `ok`, `FAIL` or `skipped`, then the step and how long it took. Notes and the
//! explanation of a failure stand below it, indented. Colours are for terminals only.

use std::fmt::Write as _;
use std::time::Duration;

use dexsidecar_core::config::{Problem, Warning};
use dexsidecar_core::failure::{Failure, Owner, Step, WRONG_SETTINGS, printable};
use dexsidecar_core::settings::Dialect;

use crate::json::{array, object, string};

/// The version of the JSON report; it changes when a member changes its meaning.
const VERSION: u32 = 1;

/// The result of one step.
#[derive(Clone, Debug)]
pub struct StepResult {
    /// The token whose first step it is, if there are several.
    token: Option<String>,
    step: Step,
    outcome: Outcome,
    notes: Vec<String>,
    took: Duration,
}

#[derive(Clone, Debug)]
enum Outcome {
    Ok(String),
    Fail { message: String, code: &'static str, owner: Owner, fix: String },
    Skipped,
}

impl StepResult {
    /// A step that succeeded, with notes on what is unusual.
    pub(super) fn ok(step: Step, message: String, notes: Vec<String>, took: Duration) -> Self {
        let notes = notes.into_iter().map(printable).collect();
        Self { token: None, step, outcome: Outcome::Ok(printable(message)), notes, took }
    }

    /// A step that failed, with what is known of the cause.
    pub(super) fn fail(
        step: Step,
        failure: &Failure,
        causes: Vec<String>,
        took: Duration,
        dialect: Dialect,
    ) -> Self {
        let (code, owner) = (failure.code.entry().name, failure.owner());
        let (message, fix) = (failure.to_string(), failure.fix_in(dialect).into_owned());
        let outcome = Outcome::Fail { message, code, owner, fix };
        Self { token: None, step, outcome, notes: causes, took }
    }

    pub(super) const fn skipped(step: Step) -> Self {
        Self { token: None, step, outcome: Outcome::Skipped, notes: vec![], took: Duration::ZERO }
    }

    /// The first step of the token with this name.
    pub(super) fn of_token(self, name: &str) -> Self {
        Self { token: Some(name.to_owned()), ..self }
    }

    /// The same result for another token: it took no time again.
    pub(super) fn again(&self) -> Self {
        Self { took: Duration::ZERO, ..self.clone() }
    }

    pub(super) const fn has_failed(&self) -> bool {
        matches!(self.outcome, Outcome::Fail { .. })
    }

    /// For people: one line, and what belongs to it.
    #[must_use]
    pub fn text(&self, colours: bool) -> String {
        let mut text = self.token.as_ref().map_or_else(String::new, |token| format!("token {token}\n"));
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

    /// The members in the order of their names, as any parser may read them.
    fn json(&self) -> String {
        let texts = |texts: &[String]| array(&texts.iter().map(|text| string(text)).collect::<Vec<_>>());
        let (step, took) = (string(self.step.label()), self.took.as_millis().to_string());
        match &self.outcome {
            Outcome::Skipped => object(&[("status", string("skipped")), ("step", step)]),
            Outcome::Ok(message) => object(&[
                ("duration_ms", took),
                ("message", string(message)),
                ("notes", texts(&self.notes)),
                ("status", string("ok")),
                ("step", step),
            ]),
            Outcome::Fail { message, code, owner, fix } => object(&[
                ("code", string(code)),
                ("duration_ms", took),
                ("fix", string(fix)),
                ("message", string(message)),
                ("notes", texts(&self.notes)),
                ("owner", string(owner.label())),
                ("status", string("fail")),
                ("step", step),
            ]),
        }
    }
}

const INDENT: &str = "         ";
const GREEN: &str = "\x1b[32m";
const RED: &str = "\x1b[1;31m";
const GREY: &str = "\x1b[2m";
const RESET: &str = "\x1b[0m";

/// The results of all steps of each token.
#[derive(Clone, Debug, Default)]
pub struct Report {
    tokens: Vec<(Option<String>, Vec<StepResult>)>,
}

impl Report {
    /// Adds the results of a token. It has a name if there are several.
    pub(super) fn add(&mut self, name: Option<String>, steps: Vec<StepResult>) {
        self.tokens.push((name, steps));
    }

    /// Invalid settings: the first step fails. The warnings may name the cause.
    #[must_use]
    pub fn of_problems(
        problems: &[Problem],
        warnings: &[Warning],
        mut done: impl FnMut(&StepResult),
    ) -> Self {
        let message = match problems.len() {
            1 => "1 setting is invalid".to_owned(),
            more => format!("{more} settings are invalid"),
        };
        let fix = "correct the settings named below".to_owned();
        let outcome = Outcome::Fail { message, code: WRONG_SETTINGS, owner: Owner::Pod, fix };
        let notes =
            problems.iter().map(Problem::to_string).chain(warnings.iter().map(Warning::to_string)).collect();
        let settings = StepResult { token: None, step: Step::Settings, outcome, notes, took: Duration::ZERO };
        let mut steps = vec![settings];
        steps.extend(Step::ALL.into_iter().skip(1).map(StepResult::skipped));
        steps.iter().for_each(&mut done);
        Self { tokens: vec![(None, steps)] }
    }

    /// True when no step failed.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.tokens.iter().all(|(_, steps)| is_ok(steps))
    }

    /// For programs; docs/check.schema.json describes it.
    #[must_use]
    pub fn json(&self) -> String {
        let json = |steps: &[StepResult]| array(&steps.iter().map(StepResult::json).collect::<Vec<_>>());
        let first = self.tokens.iter().find(|(_, steps)| !is_ok(steps)).or_else(|| self.tokens.first());
        let steps = json(first.map_or(&[], |(_, steps)| steps.as_slice()));
        let named = self.tokens.iter().filter_map(|(name, steps)| {
            let (name, ok) = (string(name.as_ref()?), is_ok(steps).to_string());
            Some(object(&[("name", name), ("ok", ok), ("steps", json(steps))]))
        });
        let named: Vec<String> = named.collect();
        let mut members = vec![("ok", self.is_ok().to_string()), ("steps", steps)];
        if !named.is_empty() {
            members.push(("tokens", array(&named)));
        }
        members.push(("version", VERSION.to_string()));
        format!("{}\n", object(&members))
    }
}

fn is_ok(steps: &[StepResult]) -> bool {
    steps.iter().all(|step| matches!(step.outcome, Outcome::Ok(_)))
}

#[cfg(test)]
mod tests {
    use dexsidecar_core::failure::Code;
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_failed_step_is_explained_and_the_rest_is_skipped() {
        let ms = Duration::from_millis;
        let failure = Failure::new(Code::ConnectRefused, "10.0.0.1:5556");
        let mut steps = vec![
            StepResult::ok(Step::Settings, "fine".to_owned(), vec!["unusual".to_owned()], ms(0)),
            StepResult::ok(Step::SubjectToken, "fine".to_owned(), vec![], ms(1)),
            StepResult::ok(Step::Dns, "fine".to_owned(), vec![], ms(12)),
            StepResult::fail(
                Step::Tcp,
                &failure,
                vec!["a cause".to_owned()],
                ms(1_234),
                Dialect::Environment,
            ),
        ];
        steps.extend(Step::ALL.into_iter().skip(4).map(StepResult::skipped));
        let text: String = steps.iter().map(|step| step.text(false)).collect();
        let mut report = Report::default();
        report.add(None, steps);
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
        assert_eq!(json.as_object().unwrap().len(), 3, "one token has no name");
    }

    /// A reader that knows one token only sees the one that failed.
    #[test]
    fn the_report_of_several_tokens_has_each_by_name_and_the_first_that_failed_as_its_steps() {
        let ok = |message: &str| {
            let each = Step::ALL.into_iter();
            each.map(|step| StepResult::ok(step, message.to_owned(), vec![], Duration::ZERO)).collect()
        };
        let mut failed: Vec<StepResult> = ok("fine");
        failed[7] = StepResult::fail(
            Step::Output,
            &Failure::new(Code::OutputDiskFull, "/run/dex/token"),
            vec![],
            Duration::ZERO,
            Dialect::Environment,
        );
        let mut report = Report::default();
        report.add(Some("a".to_owned()), ok("first"));
        report.add(Some("b".to_owned()), ok("second"));
        let json = |report: &Report| serde_json::from_str::<Value>(&report.json()).unwrap();
        assert_eq!(
            (&json(&report)["ok"], &json(&report)["steps"][0]["message"]),
            (&true.into(), &"first".into())
        );
        report.add(Some("c".to_owned()), failed);
        let json = json(&report);
        assert_eq!((&json["ok"], &json["steps"][7]["code"]), (&false.into(), &"output_disk_full".into()));
        let tokens = json["tokens"].as_array().unwrap();
        let named: Vec<_> = tokens.iter().map(|token| (&token["name"], &token["ok"])).collect();
        let [yes, no] = [true, false].map(Value::from);
        assert_eq!(named, [(&"a".into(), &yes), (&"b".into(), &yes), (&"c".into(), &no)]);
        assert_eq!(tokens[1]["steps"][0]["message"], "second");
        assert_eq!(tokens[2]["steps"], json["steps"]);
    }

    #[test]
    fn the_first_step_of_a_token_is_below_its_name() {
        let step = StepResult::ok(Step::Settings, "fine".to_owned(), vec![], Duration::ZERO);
        let text = step.clone().of_token("cluster-b").text(false);
        assert_eq!(text, format!("token cluster-b\n{}", step.text(false)));
    }

    #[test]
    fn only_the_mark_is_coloured() {
        let step = StepResult::ok(Step::Dns, "fine".to_owned(), vec![], Duration::ZERO);
        assert_eq!(step.text(true), "\x1b[32mok     \x1b[0m  DNS                0 ms  fine\n");
        assert_eq!(StepResult::skipped(Step::Tls).text(true), "\x1b[2mskipped\x1b[0m  TLS\n");
    }
}
