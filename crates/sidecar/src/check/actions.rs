//! The step `actions` of `check`: tests what each action needs, and performs none.

use std::time::Duration;

use dexsidecar_core::action::Action;
use dexsidecar_core::duration::HumanDuration;
use dexsidecar_core::failure::{Code, Failure};
use dexsidecar_edge::action::{exec, signal};
use dexsidecar_edge::blocking::{OnDrop, run_blocking};
use dexsidecar_edge::http_client::HttpEndpoint;
use tokio::time::timeout;

use super::Found;

/// How long the test of a signal or a command may take.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Connects to the host of each URL, tests the permission for each signal, and finds each program.
///
/// # Errors
/// For the first action that would fail: `action_failed`.
pub(super) async fn test(actions: &[Action], client: &HttpEndpoint) -> Result<Found, Failure> {
    let mut each = vec![];
    for (index, action) in actions.iter().enumerate() {
        let found = match action {
            Action::Http(action) => {
                client.connect_for(action).await.map(|peer| format!("connected to {peer}"))
            }
            Action::Signal(action) => {
                let action = action.clone();
                on_thread(move || signal::check(&action)).await.map(|processes| match processes {
                    1 => "1 process may be signalled".to_owned(),
                    several => format!("{several} processes may be signalled"),
                })
            }
            Action::Exec(action) => {
                let (program, action) = (&action.command[0], action.clone());
                on_thread(move || exec::check(&action)).await.map(|()| format!("{program} is executable"))
            }
        };
        let label = Action::label(actions, index);
        match found {
            Ok(found) => each.push(format!("{label}: {found}")),
            Err(failure) => {
                let detail = format!("{label}: {}", failure.detail);
                return Err(Failure { detail, ..failure });
            }
        }
    }
    Ok((each.join("; "), vec![]))
}

/// Runs a test on a thread of its own: a file that it reads may be on a volume that stalls.
async fn on_thread<T: Send + 'static>(
    test: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    let failed = |detail| Failure::new(Code::ActionFailed, detail);
    match timeout(TIMEOUT, run_blocking(OnDrop::Detach, test)).await {
        Ok(Ok(tested)) => tested,
        Ok(Err(error)) => Err(failed(format!("no thread can be started: {error}"))),
        Err(_) => Err(failed(format!("not tested within {}", HumanDuration(TIMEOUT)))
            .with_fix("repair the volume of the program or of the pid file: it does not answer")),
    }
}
