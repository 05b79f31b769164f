//! Answers the requests to the listener. A page is rendered when it is requested. Files that have
//! changed are read on threads, for one page at a time.

use std::fmt;
use std::future::poll_fn;
use std::task::Poll;

use dexsidecar_core::exchange::TokenEndpoint;
use dexsidecar_core::metrics::{Process, Snapshot};
use dexsidecar_core::pages::{Page, Response, TokenReadiness};
use dexsidecar_edge::listener::{Listener, Request};
use dexsidecar_edge::process_figures;

use super::Scheduler;
use crate::token::{Contents, ReadFiles};

/// The listener, and the requests that wait for files.
#[derive(Default)]
pub(super) struct Pages {
    listener: Option<Listener>,
    waiting: Vec<Request>,
    /// The request whose files are being read, and what was read so far.
    reading: Option<(Request, Vec<ReadFiles>, Contents)>,
    /// The configuration has changed since then: they may be other files now.
    is_outdated: bool,
}

/// What the scheduler is asked for.
pub(super) enum PageEvent {
    /// A request has arrived.
    Request(Request),
    /// The files for a request have been read.
    Page(Request, Contents),
}

impl Pages {
    /// The next thing to answer; without a listener it waits forever. Nothing is lost when the
    /// future is dropped.
    pub(super) async fn next(&mut self) -> PageEvent {
        let Self { listener: Some(listener), reading, .. } = self else {
            return std::future::pending().await;
        };
        let read = poll_fn(|context| {
            let Some((_, files, contents)) = reading else { return Poll::Pending };
            files.retain_mut(|file| match file.as_mut().poll(context) {
                Poll::Ready(read) => {
                    contents.extend(read);
                    false
                }
                Poll::Pending => true,
            });
            match reading.take_if(|(_, files, _)| files.is_empty()) {
                Some((request, _, contents)) => Poll::Ready(PageEvent::Page(request, contents)),
                None => Poll::Pending,
            }
        });
        tokio::select! {
            request = listener.next() => PageEvent::Request(request),
            page = read => page,
        }
    }

    /// The configuration has changed: what is being read is read again.
    pub(super) const fn reloaded(&mut self) {
        self.is_outdated = self.reading.is_some();
    }
}

impl fmt::Debug for Pages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pages").field("listener", &self.listener).finish_non_exhaustive()
    }
}

impl<E: TokenEndpoint + 'static> Scheduler<E> {
    /// Serves probes and metrics from now on.
    pub fn listen(&mut self, listener: Listener) {
        self.pages.listener = Some(listener);
    }

    /// Answers a request, at once or after the files of its tokens have been read.
    pub(super) fn answer(&mut self, event: PageEvent) {
        match event {
            // This is the loop. It does not wait for files.
            PageEvent::Request(request) if request.page == Page::Live => {
                request.reply(Response::line(200, "ok"));
            }
            PageEvent::Request(request) => {
                self.pages.waiting.retain(|waiting| !waiting.is_closed());
                self.pages.waiting.push(request);
            }
            PageEvent::Page(request, _) if self.pages.is_outdated => self.pages.waiting.insert(0, request),
            PageEvent::Page(request, mut contents) => {
                let response = self.response(&request.page, &contents);
                request.reply(response);
                for each in &mut self.tokens {
                    each.token.keep_files_read(&mut contents);
                }
            }
        }
        if self.pages.reading.is_none() && !self.pages.waiting.is_empty() {
            let request = self.pages.waiting.remove(0);
            let is_shown = |name| !matches!(&request.page, Page::ReadyToken(one) if one != name);
            let tokens = self.tokens.iter().map(|each| &each.token);
            let files =
                tokens.filter(|token| is_shown(token.name())).map(|token| token.read_files()).collect();
            self.pages.reading = Some((request, files, vec![]));
            self.pages.is_outdated = false;
        }
    }

    fn response(&self, page: &Page, contents: &Contents) -> Response {
        let now = self.clock.now();
        match page {
            Page::Live => Response::line(200, "ok"),
            Page::Ready { verbose } => {
                let tokens: Vec<TokenReadiness<'_>> =
                    self.tokens.iter().map(|each| each.token.readiness(contents, now)).collect();
                Response::ready(&tokens, *verbose)
            }
            Page::ReadyToken(name) => {
                let token = self.tokens.iter().find(|each| each.token.name() == name);
                Response::ready_token(token.map(|each| each.token.readiness(contents, now)).as_ref())
            }
            Page::Metrics => Response::metrics(&self.snapshot(contents)),
        }
    }

    pub(super) fn snapshot(&self, contents: &Contents) -> Snapshot<'_> {
        let now = self.clock.now();
        let mut all = Snapshot {
            version: env!("CARGO_PKG_VERSION"),
            tokens: self.tokens.iter().map(|each| each.token.figures(contents, now)).collect(),
            reload: self.reload_status,
            process: Process {
                // The clock may have been wrong at the start, and stepped since.
                started: match now.is_stepped_since(self.started) {
                    true => now.unix_at(self.started.boot),
                    false => self.started.unix,
                },
                cpu: process_figures::cpu_time(),
                resident: process_figures::resident_bytes().unwrap_or_default(),
            },
            exchanges_ended: self.removed_exchanges,
            ..Snapshot::default()
        };
        for (index, upstream) in self.upstreams.iter().enumerate() {
            let (count, took) = upstream.exchanges_ended;
            all.exchanges_ended.0 += count;
            all.exchanges_ended.1 = all.exchanges_ended.1.saturating_add(took);
            // Tokens of one Dex may have different clients: the last response of any counts.
            let seen =
                self.tokens.iter().filter(|each| each.upstream == index).map(|each| each.client.seen());
            let Some(seen) = seen.max_by_key(|seen| seen.at.boot) else { continue };
            let skew = seen.clock_skew_at(now).unwrap_or_default();
            if skew.unsigned_abs() > all.clock_skew.unsigned_abs() {
                all.clock_skew = skew;
            }
            // `None` is less than any instant.
            if let Some(expires) = seen.certificate_expires
                && all.certificate_expires.is_none_or(|first| expires < first)
            {
                all.certificate_expires = Some(expires);
            }
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::net::{SocketAddr, TcpStream};

    use super::*;
    use crate::token::FileRead;

    fn requested(address: SocketAddr, target: &str) -> TcpStream {
        let mut client = TcpStream::connect(address).unwrap();
        write!(client, "GET {target} HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        client
    }

    #[tokio::test]
    async fn requests_arrive_while_files_are_read_and_a_page_waits_for_all_its_files() {
        let mut listener = Listener::bind(([127, 0, 0, 1], 0).into()).unwrap();
        listener.register().unwrap();
        let address = listener.address().unwrap();
        let mut pages = Pages { listener: Some(listener), ..Pages::default() };
        let _first = requested(address, "/readyz");
        let PageEvent::Request(first) = pages.next().await else { panic!("nothing is read yet") };

        let (hanging, hangs) = tokio::sync::oneshot::channel::<()>();
        let slow: ReadFiles = Box::pin(async {
            let _ = hangs.await;
            vec![FileRead::missing("slow")]
        });
        let ready: ReadFiles = Box::pin(std::future::ready(vec![FileRead::missing("ready")]));
        pages.reading = Some((first, vec![slow, ready], vec![]));
        let _second = requested(address, "/livez");
        let PageEvent::Request(second) = pages.next().await else { panic!("a file hangs") };
        assert_eq!(second.page, Page::Live);

        hanging.send(()).unwrap();
        let PageEvent::Page(first, contents) = pages.next().await else { panic!("all files are read") };
        assert_eq!(first.page, Page::Ready { verbose: false });
        let read: Vec<_> = contents.iter().map(|read| read.path().to_str().unwrap()).collect();
        assert_eq!(read, ["ready", "slow"]);
        assert!(pages.reading.is_none());
    }
}
