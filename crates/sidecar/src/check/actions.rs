//! The step `actions` of `check`: tests what each action needs, and performs none.

use dexsidecar_core::action::Action;
use dexsidecar_core::failure::Failure;
use dexsidecar_edge::action::{exec, signal};
use dexsidecar_edge::http_client::HttpEndpoint;

use super::Found;

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
            Action::Signal(action) => signal::check(action).map(|processes| match processes {
                1 => "1 process may be signalled".to_owned(),
                several => format!("{several} processes may be signalled"),
            }),
            Action::Exec(action) => {
                exec::check(action).map(|()| format!("{} is executable", action.command[0]))
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
