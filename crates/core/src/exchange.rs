//! A token exchange (RFC 8693 §2.1): its configuration, its HTTP request, and the response before
//! it is read.
//!
//! The request has a form and an `Authorization` header. `response` reads the response.

use std::fmt;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use form_urlencoded::byte_serialize;
use zeroize::Zeroizing;

use crate::endpoint_url::EndpointUrl;
use crate::failure::{Code, Failure};
use crate::secret::Secret;
use crate::settings::{Dialect, SUBJECT_TOKEN};
use crate::time::{BootTime, Now, UnixTime};

/// The grant type of a token exchange (RFC 8693 §2.1).
pub const TOKEN_EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
/// The token type of an OpenID Connect ID token (RFC 8693 §3).
pub const ID_TOKEN: &str = "urn:ietf:params:oauth:token-type:id_token";
/// The token type of an OAuth access token (RFC 8693 §3).
pub const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
/// The token type of any JSON Web Token (RFC 8693 §3).
pub const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";
/// The token types that Dex supports (`handleTokenExchange` in Dex's server/handlers.go).
pub const KNOWN_TO_DEX: [&str; 2] = [ID_TOKEN, ACCESS_TOKEN];

/// The source of a value.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Source {
    /// The text itself.
    Text(Secret),
    /// The content of a file, read at each exchange.
    File(PathBuf),
    /// A subject token that is requested from GitHub Actions at each exchange.
    GithubActions {
        /// Its audience; without one GitHub uses the URL of the repository's owner.
        audience: Option<String>,
    },
}

impl Source {
    /// The file that is read at each exchange, if it is one.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        match self {
            Self::File(path) => Some(path),
            Self::Text(_) | Self::GithubActions { .. } => None,
        }
    }
}

/// Where the client's id and secret come from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Client {
    /// Id and secret in one value, as `ID:SECRET`.
    Pair(Source),
    /// The id itself, and the file of the secret. A public client has none.
    Id {
        /// The id. It may contain a colon.
        id: String,
        /// The file of the secret, read at each exchange.
        secret_file: Option<PathBuf>,
    },
}

impl Client {
    /// The file that is read at each exchange, if there is one.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        match self {
            Self::Pair(source) => source.file(),
            Self::Id { secret_file, .. } => secret_file.as_deref(),
        }
    }
}

/// A token endpoint, and how it is reached. Tokens with an equal endpoint share one Dex: its
/// failures, its next address and its published keys.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Endpoint {
    /// The URL of the token endpoint.
    pub url: EndpointUrl,
    /// The PEM file with the CA certificates to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// The time limit of one attempt, from DNS lookup to last byte: 100 ms to 5 min.
    pub attempt_timeout: Duration,
    /// Whether plain http to public addresses is allowed.
    pub allow_insecure_http: bool,
}

/// Everything about the request of an exchange except the content of its files.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Exchange {
    /// Where the request is sent.
    pub endpoint: Endpoint,
    /// The client. `None` sends no `Authorization` header.
    pub client: Option<Client>,
    /// The form fields in the order of their names. `audience` and `resource` may be there several
    /// times (RFC 8693 §2.1).
    pub fields: Vec<(String, Source)>,
    /// The issuer that an issued token must name as its `iss`. `None` accepts any.
    pub issuer: Option<String>,
    /// How it was configured. Messages name its settings so.
    pub dialect: Dialect,
}

impl Exchange {
    /// The value of a form field. `None` if it is not sent, or if it is read from a file.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&str> {
        match self.source(name)? {
            Source::Text(text) => Some(text.expose()),
            Source::File(_) | Source::GithubActions { .. } => None,
        }
    }

    /// The file of the subject token. `None` if there is no subject token, or if it is not read
    /// from a file.
    #[must_use]
    pub fn subject_token_file(&self) -> Option<&PathBuf> {
        match self.source(SUBJECT_TOKEN)? {
            Source::File(path) => Some(path),
            Source::Text(_) | Source::GithubActions { .. } => None,
        }
    }

    /// The files that are read for an exchange: of form fields, the client and CA certificates.
    pub(crate) fn files(&self) -> impl Iterator<Item = &Path> {
        let fields = self.fields.iter().filter_map(|(_, source)| source.file());
        let client = self.client.as_ref().and_then(Client::file);
        fields.chain(client).chain(self.endpoint.ca_file.as_deref())
    }

    fn source(&self, name: &str) -> Option<&Source> {
        self.fields.iter().find(|(field, _)| field == name).map(|(_, source)| source)
    }
}

/// An HTTP request: a POST of a form, or a GET of a document.
#[derive(Clone, Debug)]
pub struct Request {
    /// The URL that the request is sent to.
    pub url: EndpointUrl,
    /// The value of the `Authorization` header.
    pub authorization: Option<Secret>,
    /// The body of a POST, as `application/x-www-form-urlencoded`. `None` makes the request a GET.
    pub form: Option<Secret>,
}

/// An HTTP response that has not been read yet. Any part of it may repeat a secret, so `Debug`
/// shows only its status and its size.
#[derive(Clone, Default)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// `Content-Type`.
    pub content_type: Option<String>,
    /// `Content-Encoding`.
    pub content_encoding: Option<String>,
    /// `Retry-After`.
    pub retry_after: Option<String>,
    /// `Date`.
    pub date: Option<String>,
    /// `Location`.
    pub location: Option<String>,
    /// The proxy that forwarded the request, and the variable that names it. The proxy itself may
    /// have answered.
    pub through_proxy: Option<String>,
    /// `Server`.
    pub server: Option<String>,
    /// The body. It may hold a token, so it is wiped when dropped.
    pub body: Zeroizing<Vec<u8>>,
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Answer({} with {} bytes)", self.status, self.body.len())
    }
}

/// Sends requests to a token endpoint. The HTTP client implements it; tests implement a script.
pub trait TokenEndpoint {
    /// Sends one request over a new connection and waits for the complete response.
    ///
    /// `rotation` selects the address of the host that is tried first. The caller increases it with
    /// each failure, so that an address that accepts connections and then stalls is not tried first
    /// again (F11).
    ///
    /// # Errors
    /// A [`Failure`] with a code of the steps DNS, TCP, TLS or exchange, such as `name_not_found`,
    /// `connect_refused`, `certificate_untrusted` or `timed_out`.
    fn send(&self, request: &Request, rotation: usize) -> impl Future<Output = Result<Answer, Failure>>;

    /// Requests a subject token with this audience from GitHub Actions.
    ///
    /// # Errors
    /// `subject_token_request_failed`.
    fn github_actions_token(&self, audience: Option<&str>) -> impl Future<Output = Result<Secret, Failure>> {
        let _ = audience;
        async { Err(Failure::new(Code::SubjectTokenRequestFailed, "")) }
    }

    /// What the last response showed of the server, for the metrics.
    fn seen(&self) -> Seen {
        Seen::default()
    }
}

/// What a response shows of the server beside its content.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Seen {
    /// When the response arrived.
    pub at: Now,
    /// The server's clock minus this node's, in whole seconds, by the header `Date`. `None` without
    /// a valid one.
    pub clock_skew: Option<i64>,
    /// notAfter of the server's certificate. `None` without TLS.
    pub certificate_expires: Option<UnixTime>,
}

impl Seen {
    /// Before the first response.
    pub const NOTHING: Self = Self {
        at: Now { boot: BootTime::from_start(Duration::ZERO), unix: UnixTime::from_secs(0) },
        clock_skew: None,
        certificate_expires: None,
    };

    /// What an answer that arrived at `now` shows.
    #[must_use]
    pub fn of(answer: &Answer, certificate_expires: Option<UnixTime>, now: Now) -> Self {
        let date = answer.date.as_deref().and_then(|date| httpdate::parse_http_date(date).ok());
        let date = date.and_then(|date| date.duration_since(UNIX_EPOCH).ok());
        let seconds = |since: Duration| i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
        let clock_skew = date.map(|date| seconds(date).saturating_sub(seconds(now.unix.as_duration())));
        Self { at: now, clock_skew, certificate_expires }
    }

    /// The clock skew, unless this node's wall clock was stepped since: then it is not known.
    #[must_use]
    pub fn clock_skew_at(&self, now: Now) -> Option<i64> {
        self.clock_skew.filter(|_| !now.is_stepped_since(self.at))
    }
}

/// A field of the form.
#[derive(Clone, Debug)]
pub struct Field {
    /// The name, in the case in which the setting gives it.
    pub name: String,
    /// The value, not yet form-encoded.
    pub value: Secret,
}

/// A client's id and secret, as they are known for one exchange.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Credentials {
    id: Secret,
    /// Empty for a public client.
    secret: Secret,
}

impl Credentials {
    /// A client with this secret, which is empty for a public client.
    #[must_use]
    pub fn new(id: &str, secret: Secret) -> Self {
        Self { id: Secret::new(id.to_owned()), secret }
    }

    /// Splits `ID:SECRET` at the first colon. `ID` alone is a public client. `None` for an empty
    /// text.
    #[must_use]
    pub fn parse(id_and_secret: &Secret) -> Option<Self> {
        let text = id_and_secret.expose();
        let (id, secret) = text.split_once(':').unwrap_or((text, ""));
        (!text.is_empty()).then(|| Self::new(id, Secret::new(secret.to_owned())))
    }

    /// The value of the `Authorization` header.
    ///
    /// Id and secret are form-encoded before base64, as RFC 6749 §2.3.1 requires and as Dex decodes
    /// them. A part that is form-encoded already is sent unchanged: it has a `%`, and each `%`
    /// begins a `%XX`. The original does not encode, so manifests written for it may hold encoded
    /// values.
    #[must_use]
    pub fn authorization(&self) -> Secret {
        let (id, secret) = (form_encoded(self.id.expose()), form_encoded(self.secret.expose()));
        let plain = Zeroizing::new(format!("{}:{}", *id, *secret));
        let mut header = String::with_capacity(6 + plain.len().div_ceil(3) * 4);
        header.push_str("Basic ");
        STANDARD.encode_string(plain.as_bytes(), &mut header);
        Secret::new(header)
    }

    /// Each encoding in which the secret is sent or may be repeated: unchanged, form-encoded, in
    /// base64, and inside the `Authorization` header. Empty for a public client. No message may
    /// quote any of them.
    #[must_use]
    pub fn secret_encodings(&self) -> Vec<Secret> {
        let secret = self.secret.expose();
        if secret.is_empty() {
            return vec![];
        }
        let header = self.authorization();
        vec![
            self.secret.clone(),
            Secret::new(form_encoded(secret).to_string()),
            Secret::new(STANDARD.encode(secret)),
            Secret::new(header.expose().trim_start_matches("Basic ").to_owned()),
        ]
    }

    /// Hands id and secret to `add`, to compare the inputs of exchanges.
    pub fn identify(&self, add: &mut impl FnMut(&[u8])) {
        add(self.id.expose().as_bytes());
        add(self.secret.expose().as_bytes());
    }
}

/// The value of the `Authorization` header for `ID:SECRET`: see [`Credentials`].
#[must_use]
pub fn basic_authorization(id_and_secret: &Secret) -> Option<Secret> {
    Credentials::parse(id_and_secret).map(|credentials| credentials.authorization())
}

/// An id or a secret in form encoding. A text that is form-encoded already is returned unchanged.
fn form_encoded(text: &str) -> Zeroizing<String> {
    let encoded_already = text.contains('%')
        && text.split('%').skip(1).all(
            |after| matches!(after.as_bytes(), [a, b, ..] if a.is_ascii_hexdigit() && b.is_ascii_hexdigit()),
        );
    let mut out = Zeroizing::new(String::with_capacity(text.len() * 3));
    if encoded_already {
        out.push_str(text);
    } else {
        out.extend(byte_serialize(text.as_bytes()));
    }
    out
}

/// The body of the POST: the fields in the given order, form-encoded. A field with an empty value
/// is sent with an empty value.
#[must_use]
pub fn form<'a>(fields: impl IntoIterator<Item = &'a Field> + Clone) -> Secret {
    // Form encoding makes at most three bytes of one. With this capacity the string is never
    // reallocated, which would leave a copy of the secrets in freed memory.
    let capacity: usize =
        fields.clone().into_iter().map(|f| 3 * (f.name.len() + f.value.expose().len()) + 2).sum();
    let mut out = String::with_capacity(capacity);
    for field in fields {
        if !out.is_empty() {
            out.push('&');
        }
        out.extend(byte_serialize(field.name.as_bytes()));
        out.push('=');
        out.extend(byte_serialize(field.value.expose().as_bytes()));
    }
    debug_assert!(out.len() <= capacity, "the string was reallocated");
    Secret::new(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_of_a_response_shows_only_status_and_size() {
        let body = b"eyJ".to_vec();
        let answer =
            Answer { status: 200, location: Some("eyJ".into()), body: body.into(), ..Answer::default() };
        assert_eq!(format!("{answer:?}"), "Answer(200 with 3 bytes)");
    }

    #[test]
    fn the_clock_skew_is_the_server_s_date_minus_the_time_of_this_node() {
        let at = |unix| Now { boot: BootTime::default(), unix: UnixTime::from_secs(unix) };
        let skew = |date: Option<&str>, now| {
            let answer = Answer { date: date.map(str::to_owned), ..Answer::default() };
            Seen::of(&answer, None, at(now)).clock_skew
        };
        let date = Some("Thu, 01 Jan 1970 00:16:40 GMT");
        assert_eq!((skew(date, 1_000), skew(date, 990), skew(date, 1_007)), (Some(0), Some(10), Some(-7)));
        assert_eq!((skew(None, 1_000), skew(Some("now"), 1_000)), (None, None));
        // The clock went on for 60 s, or was corrected by 10 s meanwhile.
        let answer = Answer { date: date.map(str::to_owned), ..Answer::default() };
        let seen = Seen::of(&answer, None, at(990));
        let later = |unix| Now { boot: BootTime::from_start(Duration::from_secs(60)), ..at(unix) };
        assert_eq!((seen.clock_skew_at(later(1_050)), seen.clock_skew_at(later(1_060))), (Some(10), None));
    }

    fn basic(text: &str) -> String {
        let header = basic_authorization(&Secret::new(text.to_owned())).unwrap();
        let code = header.expose().strip_prefix("Basic ").unwrap();
        String::from_utf8(STANDARD.decode(code).unwrap()).unwrap()
    }

    #[test]
    fn id_and_secret_are_form_encoded_before_base64() {
        assert_eq!(basic("user:"), "user:");
        assert_eq!(basic("user"), "user:");
        assert_eq!(basic("private+app:a%b c+d:e"), "private%2Bapp:a%25b+c%2Bd%3Ae");
        assert!(basic_authorization(&Secret::new(String::new())).is_none());
    }

    #[test]
    fn an_id_or_a_secret_that_is_form_encoded_already_is_sent_unchanged() {
        assert_eq!(basic("private%2Bapp:a%25b+c%2bd"), "private%2Bapp:a%25b+c%2bd");
        // The last % begins no %XX, so the secret is not encoded yet.
        assert_eq!(basic("id:100%25%"), "id:100%2525%25");
        // Id and secret are judged separately.
        assert_eq!(basic("a+b:c%2Bd"), "a%2Bb:c%2Bd");
    }

    #[test]
    fn an_id_of_its_own_may_contain_a_colon() {
        let known = Credentials::new("urn:client", Secret::new("a:b".to_owned()));
        let code = known.authorization();
        let code = code.expose().strip_prefix("Basic ").unwrap();
        assert_eq!(STANDARD.decode(code).unwrap(), b"urn%3Aclient:a%3Ab");
        assert_eq!(known.secret_encodings()[0].expose(), "a:b");
        assert!(Credentials::new("urn:client", Secret::new(String::new())).secret_encodings().is_empty());
    }

    #[test]
    fn the_form_keeps_the_order_the_case_of_names_and_empty_fields() {
        let field =
            |name: &str, value: &str| Field { name: name.to_owned(), value: Secret::new(value.to_owned()) };
        let fields = [field("grant_type", "urn:a:b"), field("Resource", ""), field("scope", "openid é+&=")];
        assert_eq!(form(&fields).expose(), "grant_type=urn%3Aa%3Ab&Resource=&scope=openid+%C3%A9%2B%26%3D");
        // The capacity is enough where each byte becomes three, and where there are no bytes.
        for (name, value) in [("%", "%%%%"), ("%%%%", "%"), ("%", ""), ("", "")] {
            assert!(form(&[field(name, value)]).expose().starts_with(if name.is_empty() {
                "="
            } else {
                "%25"
            }));
        }
    }

    #[test]
    fn a_client_s_secret_is_known_in_each_encoding() {
        let encodings = |text: &str| -> Vec<String> {
            let credentials = Credentials::parse(&Secret::new(text.to_owned()));
            let encodings = credentials.map(|known| known.secret_encodings()).unwrap_or_default();
            encodings.iter().map(|encoding| encoding.expose().to_owned()).collect()
        };
        assert_eq!(
            encodings("user:a+b"),
            ["a+b", "a%2Bb", &STANDARD.encode("a+b"), &STANDARD.encode("user:a%2Bb")]
        );
        assert!(encodings("user:").is_empty() && encodings("user").is_empty() && encodings("").is_empty());
    }
}
