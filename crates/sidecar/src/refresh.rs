//! `refresh`: waits until every token file holds a token that was issued after a request. The files
//! prove it: the process that writes them is another one.

use std::time::Duration;

use dexsidecar_agent::readiness::{self, Readiness};
use dexsidecar_core::claims::Claims;
use dexsidecar_core::config::{Probe, ProbedFile};
use dexsidecar_core::output::StoredToken;
use dexsidecar_core::secret::Secret;
use dexsidecar_core::time::UnixTime;
use dexsidecar_edge::clock::Clock;

use crate::probe;

/// How far Dex's clock may be behind this one for a token to count as issued after the request,
/// where the file held no token before.
const CLOCK_DIFFERENCE: Duration = Duration::from_secs(60);

/// A token file as it was before the request.
#[derive(Debug)]
struct Before {
    file: ProbedFile,
    /// The path, and the token if there are several.
    name: String,
    token: Option<Secret>,
    /// The earliest time at which a token is issued that answers the request, by Dex's clock.
    earliest: UnixTime,
}

/// The token files as they were before the request.
#[derive(Debug)]
pub struct Request(Vec<Before>);

impl Request {
    /// Reads the files. To be called before the request is made.
    #[must_use]
    pub fn new(probe: &Probe, clock: &Clock) -> Self {
        let now = clock.now().unix;
        let before = probe.files.iter().map(|file| {
            let token = token_in(file).map(|stored| stored.token);
            let issued = token.as_ref().and_then(Claims::peek).and_then(|claims| claims.issued);
            let earliest = issued.unwrap_or_else(|| now - CLOCK_DIFFERENCE);
            Before { file: file.clone(), name: probe::name_of(file, probe), token, earliest }
        });
        Self(before.collect())
    }

    /// Judges every file: whether it holds a valid token that was issued after the request.
    ///
    /// # Errors
    /// A sentence for each file that does not.
    pub fn judge(&self, clock: &Clock) -> Result<Vec<String>, Vec<String>> {
        let (mut done, mut waiting) = (vec![], vec![]);
        for before in &self.0 {
            let (is_refreshed, sentence) = before.judge(clock);
            if is_refreshed { &mut done } else { &mut waiting }.push(format!("{}: {sentence}", before.name));
        }
        if waiting.is_empty() { Ok(done) } else { Err(waiting) }
    }
}

impl Before {
    fn judge(&self, clock: &Clock) -> (bool, String) {
        let Some(stored) = token_in(&self.file) else {
            let why = Readiness::of(&self.file.path, self.file.format.as_ref(), Duration::ZERO, clock);
            return (false, why.to_string());
        };
        let state = readiness::of_token(&self.file.path, &stored, Duration::ZERO, clock);
        let issued = Claims::peek(&stored.token).and_then(|claims| claims.issued);
        let is_new =
            self.token.as_ref() != Some(&stored.token) && issued.is_none_or(|issued| issued >= self.earliest);
        match (is_new, state.is_valid()) {
            (true, true) => (true, format!("refreshed, {state}")),
            (true, false) => (false, state.to_string()),
            (false, _) => (false, format!("still the old token, {state}")),
        }
    }
}

fn token_in(file: &ProbedFile) -> Option<StoredToken> {
    readiness::read(&file.path, file.format.as_ref())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use dexsidecar_core::config::{RawSettings, RawValue};

    use super::*;

    const CLOCK: Clock = Clock::System;

    /// A token that was issued this many seconds from now, and expires in an hour.
    fn token(issued: i64) -> String {
        // {"alg":"none"}
        let now = CLOCK.now().unix.as_duration().as_secs();
        let (iat, exp) = (now.saturating_add_signed(issued), now + 3_600);
        format!(
            "eyJhbGciOiJub25lIn0.{}.sig",
            URL_SAFE_NO_PAD.encode(format!(r#"{{"iat":{iat},"exp":{exp}}}"#))
        )
    }

    #[test]
    fn only_a_valid_token_that_was_issued_after_the_request_counts() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("token");
        let option = RawValue::option("file".to_owned(), Secret::new(file.to_str().unwrap().to_owned()));
        let probe = Probe::read(&RawSettings { values: vec![option] }).unwrap();
        let old = token(-600);
        for (before, after, outcome) in [
            (Some(old.as_str()), token(0), Ok("refreshed, valid, expires in ")),
            (Some(&old), "opaque".to_owned(), Ok("refreshed, valid, expiry unknown")),
            (Some("opaque"), token(0), Ok("refreshed, valid, ")),
            (None, token(0), Ok("refreshed, valid, ")),
            (Some(""), token(0), Ok("refreshed, valid, ")),
            (Some(&old), old.clone(), Err("still the old token, valid, ")),
            // One that was restored.
            (Some(&old), token(-700), Err("still the old token, valid, ")),
            (None, old.clone(), Err("still the old token, valid, ")),
            (Some(&old), "eyJhbGciOiJub25lIn0.e30.sig\n".to_owned(), Err("not a token")),
            (Some(&old), String::new(), Err("empty")),
        ] {
            let _ = fs::remove_file(&file);
            before.inspect(|token| fs::write(&file, token).unwrap());
            let request = Request::new(&probe, &CLOCK);
            assert!(request.judge(&CLOCK).is_err(), "nothing has happened yet");
            fs::write(&file, after).unwrap();
            let (judged, expected) = match (request.judge(&CLOCK), outcome) {
                (Ok(judged), Ok(expected)) | (Err(judged), Err(expected)) => (judged, expected),
                (judged, _) => panic!("{judged:?} instead of {outcome:?}"),
            };
            let expected = format!("{}: {expected}", file.display());
            assert!(judged.len() == 1 && judged[0].starts_with(&expected), "{judged:?}: {expected}");
        }
    }
}
