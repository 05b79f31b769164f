//! Everything about the trade except the subject token's file: who asks, for what, and the party that answers.

use std::fmt;
use std::future::Future;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use form_urlencoded::byte_serialize;
use zeroize::Zeroizing;

use crate::endpoint_url::EndpointUrl;
use crate::failure::Failure;
use crate::secret::Secret;

/// The grant (RFC 8693 §2.1).
pub const TOKEN_EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
/// A type of token (RFC 8693 §3).
pub const ID_TOKEN: &str = "urn:ietf:params:oauth:token-type:id_token";
/// A type of token (RFC 8693 §3).
pub const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
/// A type of token (RFC 8693 §3).
pub const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";
/// The types that Dex knows (server/handlers.go).
pub const KNOWN_TO_DEX: [&str; 2] = [ID_TOKEN, ACCESS_TOKEN];

/// One HTTP request: a form to post, or a document to get.
#[derive(Clone, Debug)]
pub struct Request {
    /// Where to.
    pub url: EndpointUrl,
    /// The `Authorization` header, whole.
    pub authorization: Option<Secret>,
    /// The body of a POST as `application/x-www-form-urlencoded`; a GET has none.
    pub form: Option<Secret>,
}

/// What came back, not judged yet. Any part of it may repeat a secret, so `Debug` tells its size and status only.
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
    /// The proxy that forwarded the request and may have answered in the server's place, and the variable that names it.
    pub through_proxy: Option<String>,
    /// `Server`.
    pub server: Option<String>,
    /// The body; it may hold a token, so it is wiped.
    pub body: Zeroizing<Vec<u8>>,
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Answer({} with {} bytes)", self.status, self.body.len())
    }
}

/// The party that answers: HTTP in life, scripted in tests.
pub trait TokenEndpoint {
    /// Sends one request over a connection of its own and waits for the whole answer. `rotation` says with
    /// which of a name's addresses to begin: it grows with each failure, so that an address that accepts and
    /// then stalls does not win for ever (F11).
    fn send(&self, request: &Request, rotation: usize) -> impl Future<Output = Result<Answer, Failure>>;
}

/// One field of the form.
#[derive(Clone, Debug)]
pub struct Field {
    /// Its name, in the case it was given in.
    pub name: String,
    /// Its value.
    pub value: Secret,
}

/// The value of the `Authorization` header for `id:secret`, which is split at the first colon; `id` alone is a
/// public client. Nothing for an empty text.
///
/// Both halves are form-encoded before base64, as RFC 6749 §2.3.1 wants and Dex decodes. A half that already is
/// (it has a `%`, and every `%` begins a `%XX`) is sent as it is: manifests that were encoded by hand for the
/// original go on working.
#[must_use]
pub fn basic_authorization(id_and_secret: &Secret) -> Option<Secret> {
    let text = id_and_secret.expose();
    if text.is_empty() {
        return None;
    }
    let (id, secret) = text.split_once(':').unwrap_or((text, ""));
    let plain = Zeroizing::new(format!("{}:{}", *form_encoded(id), *form_encoded(secret)));
    let mut header = String::with_capacity(6 + plain.len().div_ceil(3) * 4);
    header.push_str("Basic ");
    STANDARD.encode_string(plain.as_bytes(), &mut header);
    Some(Secret::new(header))
}

/// Every shape in which a client's secret travels or may come back: as it is, form-encoded, inside Basic, and in base64.
/// Nothing for a public client.
/// None of them may be quoted.
#[must_use]
pub fn client_secret_encodings(id_and_secret: &Secret) -> Vec<Secret> {
    let Some((_, secret)) = id_and_secret.expose().split_once(':').filter(|(_, secret)| !secret.is_empty())
    else {
        return vec![];
    };
    let mut shapes = vec![Secret::new(secret.to_owned()), Secret::new(form_encoded(secret).to_string())];
    let header = basic_authorization(id_and_secret);
    shapes.push(Secret::new(STANDARD.encode(secret)));
    shapes.extend(header.map(|header| Secret::new(header.expose().trim_start_matches("Basic ").to_owned())));
    shapes
}

fn form_encoded(half: &str) -> Zeroizing<String> {
    let encoded_already = half.contains('%')
        && half.split('%').skip(1).all(
            |after| matches!(after.as_bytes(), [a, b, ..] if a.is_ascii_hexdigit() && b.is_ascii_hexdigit()),
        );
    let mut out = Zeroizing::new(String::with_capacity(half.len() * 3));
    if encoded_already {
        out.push_str(half);
    } else {
        out.extend(byte_serialize(half.as_bytes()));
    }
    out
}

/// The body of the POST: the fields in the order given, each form-encoded. An empty field is sent empty.
#[must_use]
pub fn form<'a>(fields: impl IntoIterator<Item = &'a Field> + Clone) -> Secret {
    // Room for every byte encoded as three, so that the text never moves and leaves no copy behind.
    let room: usize =
        fields.clone().into_iter().map(|f| 3 * (f.name.len() + f.value.expose().len()) + 2).sum();
    let mut out = String::with_capacity(room);
    for field in fields {
        if !out.is_empty() {
            out.push('&');
        }
        out.extend(byte_serialize(field.name.as_bytes()));
        out.push('=');
        out.extend(byte_serialize(field.value.expose().as_bytes()));
    }
    debug_assert!(out.len() <= room, "it moved, and left a copy behind");
    Secret::new(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_shown_by_its_size() {
        let body = b"eyJ".to_vec();
        let answer =
            Answer { status: 200, location: Some("eyJ".into()), body: body.into(), ..Answer::default() };
        assert_eq!(format!("{answer:?}"), "Answer(200 with 3 bytes)");
    }

    fn basic(text: &str) -> String {
        let header = basic_authorization(&Secret::new(text.to_owned())).unwrap();
        let code = header.expose().strip_prefix("Basic ").unwrap();
        String::from_utf8(STANDARD.decode(code).unwrap()).unwrap()
    }

    #[test]
    fn basic_halves_are_form_encoded() {
        assert_eq!(basic("user:"), "user:");
        assert_eq!(basic("user"), "user:");
        assert_eq!(basic("private+app:a%b c+d:e"), "private%2Bapp:a%25b+c%2Bd%3Ae");
        assert!(basic_authorization(&Secret::new(String::new())).is_none());
    }

    #[test]
    fn a_half_that_is_form_encoded_already_is_left_alone() {
        assert_eq!(basic("private%2Bapp:a%25b+c%2bd"), "private%2Bapp:a%25b+c%2bd");
        // One stray % and the half is raw.
        assert_eq!(basic("id:100%25%"), "id:100%2525%25");
        // Each half for itself.
        assert_eq!(basic("a+b:c%2Bd"), "a%2Bb:c%2Bd");
    }

    #[test]
    fn the_form_keeps_order_case_and_empty_fields() {
        let field =
            |name: &str, value: &str| Field { name: name.to_owned(), value: Secret::new(value.to_owned()) };
        let fields = [field("grant_type", "urn:a:b"), field("Resource", ""), field("scope", "openid é+&=")];
        assert_eq!(form(&fields).expose(), "grant_type=urn%3Aa%3Ab&Resource=&scope=openid+%C3%A9%2B%26%3D");
        // There is room for the worst, and for the least.
        for (name, value) in [("%", "%%%%"), ("%%%%", "%"), ("%", ""), ("", "")] {
            assert!(form(&[field(name, value)]).expose().starts_with(if name.is_empty() {
                "="
            } else {
                "%25"
            }));
        }
    }

    #[test]
    fn a_client_s_secret_is_known_in_every_shape() {
        let shapes = |text: &str| -> Vec<String> {
            let shapes = client_secret_encodings(&Secret::new(text.to_owned()));
            shapes.iter().map(|shape| shape.expose().to_owned()).collect()
        };
        assert_eq!(
            shapes("user:a+b"),
            ["a+b", "a%2Bb", &STANDARD.encode("a+b"), &STANDARD.encode("user:a%2Bb")]
        );
        assert!(shapes("user:").is_empty() && shapes("user").is_empty() && shapes("").is_empty());
    }
}
