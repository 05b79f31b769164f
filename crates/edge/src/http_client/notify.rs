//! Sends the HTTP request of an action, with the limits of a request to Dex: one connection, one
//! deadline, no redirects. Plain http goes to addresses of this machine only.

use std::pin::pin;

use dexsidecar_core::action::{HttpAction, Notify};
use dexsidecar_core::failure::{Code, Failure};

use super::connect::AddressPolicy;
use super::{Connection, HttpEndpoint, Progress, Stage, connect, request, tls, with_deadline};

const FIX_REFUSED: &str = "start the server, or correct the port of the url: nothing listens there yet";
const FIX_NOT_LOOPBACK: &str =
    "use a url with localhost or 127.0.0.1, or https with allow_remote: plain http goes to loopback only";
const FIX_SLOW: &str = "check the server at the url, or raise the timeout of the action";
const FIX_STATUS: &str = "read the log of the server, or correct method, url or success of the action";
const FIX_OTHER: &str = "check the server at the url, and the url of the action";

impl HttpEndpoint {
    /// Connects as the request of this action would, without TLS and without sending anything, for
    /// `check`. Returns the address of the peer.
    ///
    /// # Errors
    /// [`Code::ActionFailed`].
    pub async fn connect_for(&self, action: &HttpAction) -> Result<String, Failure> {
        let progress = Progress::default();
        let opened = with_deadline(action.timeout, &progress, pin!(self.open(action, &progress))).await;
        opened.map(|connection| connection.peer).map_err(|failure| failed(&failure))
    }

    async fn open(&self, action: &HttpAction, progress: &Progress) -> Result<Connection, Failure> {
        let url = &action.url;
        if url.is_tls() {
            self.open_connection(url, 0, progress).await
        } else {
            connect::connect(url.host(), url.port(), AddressPolicy::Loopback, 0, progress).await
        }
    }

    async fn status(&self, action: &HttpAction, progress: &Progress) -> Result<u16, Failure> {
        let trusted = action.url.is_tls().then(|| self.roots.read()).transpose()?;
        let mut connection = self.open(action, progress).await?;
        if let Some(trusted) = trusted {
            progress.enter(Stage::Handshaking(connection.peer.clone()));
            (connection, _) = tls::handshake(trusted, action.url.server_name(), connection).await?;
        }
        progress.enter(Stage::AwaitingResponse(connection.peer.clone()));
        request::notify(connection, action).await
    }
}

impl Notify for HttpEndpoint {
    async fn notify(&self, action: &HttpAction) -> Result<(), Failure> {
        let progress = Progress::default();
        let status = with_deadline(action.timeout, &progress, pin!(self.status(action, &progress))).await;
        let status = status.map_err(|failure| failed(&failure))?;
        if action.success.iter().any(|range| range.contains(&status)) {
            return Ok(());
        }
        let redirect = if (300..400).contains(&status) { "; redirects are not followed" } else { "" };
        let detail = format!("{} answered with status {status}{redirect}", action.url);
        Err(Failure::new(Code::ActionFailed, detail).with_fix(FIX_STATUS))
    }
}

/// A failure of the client, as one of the action. The fixes of its code are about Dex.
fn failed(failure: &Failure) -> Failure {
    let (detail, fix) = match failure.code {
        Code::ConnectRefused => (failure.to_string(), FIX_REFUSED),
        Code::PlainHttpRefused => {
            (format!("plain http to another host than this one: {}", failure.detail), FIX_NOT_LOOPBACK)
        }
        Code::TimedOut => (failure.to_string(), FIX_SLOW),
        _ => (failure.to_string(), FIX_OTHER),
    };
    Failure::new(Code::ActionFailed, detail).with_fix(fix)
}
