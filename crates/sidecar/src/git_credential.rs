//! git's credential protocol (git-credential(1), gitcredentials(7)): what git asks a credential
//! helper, and what the answer is.

use std::net::IpAddr;

use dexsidecar_core::secret::Secret;
use dexsidecar_core::time::UnixTime;

/// What git asks of a credential helper: the word that it appends to the helper's command line.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Operation {
    /// Which capabilities the helper has.
    Capability,
    /// A credential.
    Get,
    /// To erase a credential, which a server has rejected.
    Erase,
    /// To store a credential, or what a later git asks. All of them are ignored, as
    /// gitcredentials(7) requires of unknown ones.
    Other,
}

impl Operation {
    /// The operation of this name.
    #[must_use]
    pub fn named(word: &str) -> Self {
        match word {
            "get" => Self::Get,
            "erase" => Self::Erase,
            "capability" => Self::Capability,
            _ => Self::Other,
        }
    }
}

/// The answer to [`Operation::Capability`].
pub const CAPABILITIES: &str = "version 0\ncapability authtype\n";

/// Why no credential is given. git then continues with the next helper, or asks the user.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Declined {
    /// This git does not support `authtype`, so it would send the token as a password.
    OldGit,
    /// The token would be sent unencrypted over a network.
    NotEncrypted,
    /// The server asks for credentials of other kinds only.
    NotBearer,
}

impl Declined {
    /// What is wrong, and what to do.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::OldGit => {
                "this git does not support Bearer tokens from a credential helper: use git 2.46 or later, or set \
                 http.extraHeader"
            }
            Self::NotBearer => {
                "the server does not ask for a Bearer token, so the token is not sent: set the helper for the URL of \
                 one server, as credential.https://git.example.com.helper"
            }
            Self::NotEncrypted => "the remote is plain http, so the token is not sent: use an https URL",
        }
    }
}

/// Judges the description of a credential that git wants: lines of `key=value`.
///
/// # Errors
/// [`Declined`], if the token must not be given.
pub fn judge(description: &str) -> Result<(), Declined> {
    let lines = || lines(description);
    let value = |key| value(description, key);
    if value("protocol") != Some("https") && !value("host").is_some_and(is_this_machine) {
        return Err(Declined::NotEncrypted);
    }
    if !lines().any(|line| line == "capability[]=authtype") {
        return Err(Declined::OldGit);
    }
    // git 2.41 and later repeat each WWW-Authenticate header of the server's answer. There is none
    // before the first request.
    let mut challenges = lines().filter_map(|line| line.strip_prefix("wwwauth[]=")).peekable();
    if challenges.peek().is_some() && !challenges.any(has_bearer_challenge) {
        return Err(Declined::NotBearer);
    }
    Ok(())
}

/// The credential that git describes to [`Operation::Erase`], if it is one of this helper.
#[must_use]
pub fn rejected(description: &Secret) -> Option<Secret> {
    let token = value(description.expose(), "credential").filter(|token| !token.is_empty());
    token.map(|token| Secret::new(token.to_owned()))
}

fn lines(description: &str) -> impl Iterator<Item = &str> {
    description.lines().take_while(|line| !line.is_empty())
}

fn value<'a>(description: &'a str, key: &str) -> Option<&'a str> {
    lines(description).find_map(|line| line.strip_prefix(key)?.strip_prefix('='))
}

/// Whether one of the challenges of a `WWW-Authenticate` header has the scheme Bearer (RFC 9110
/// §11.6.1). A header may hold several, with commas between them. A comma in quotes separates
/// nothing.
fn has_bearer_challenge(header: &str) -> bool {
    let header = header.replace("\\\"", "");
    header.split('"').step_by(2).flat_map(|unquoted| unquoted.split(',')).any(|part| {
        part.split_ascii_whitespace().next().is_some_and(|scheme| scheme.eq_ignore_ascii_case("bearer"))
    })
}

/// Whether a host with an optional port is this machine.
fn is_this_machine(host: &str) -> bool {
    let name = host.rsplit_once(':').map_or(host, |(name, port)| {
        if port.bytes().all(|byte| byte.is_ascii_digit()) { name } else { host }
    });
    let address = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    name.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
}

/// The answer to [`Operation::Get`]. `ephemeral` keeps other helpers from storing the token.
#[must_use]
pub fn credential(token: &Secret, expires: Option<UnixTime>) -> Secret {
    let expiry = expires.map_or_else(String::new, |expires| {
        format!("password_expiry_utc={}\n", expires.as_duration().as_secs())
    });
    let token = token.expose();
    Secret::new(format!(
        "capability[]=authtype\nauthtype=Bearer\ncredential={token}\nephemeral=1\n{expiry}\n"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(protocol: &str, host: &str, capability: &str) -> Result<(), Declined> {
        judge(&format!("{capability}protocol={protocol}\nhost={host}\nwwwauth[]=Bearer\n\nprotocol=https\n"))
    }

    #[test]
    fn a_token_is_given_for_https_and_this_machine_only() {
        let authtype = "capability[]=authtype\ncapability[]=state\n";
        for (protocol, host, given) in [
            ("https", "git.example.com", true),
            ("https", "git.example.com:8443", true),
            ("http", "localhost:8080", true),
            ("http", "127.0.0.1:8080", true),
            ("http", "127.0.0.2", true),
            ("http", "[::1]:80", true),
            ("http", "[::1]", true),
            ("http", "git.example.com", false),
            ("http", "127.0.0.1.example.com:80", false),
            ("http", "10.0.0.1", false),
            ("http", "", false),
            ("smtp", "example.com", false),
        ] {
            let expected = if given { Ok(()) } else { Err(Declined::NotEncrypted) };
            assert_eq!(of(protocol, host, authtype), expected, "{protocol}://{host}");
        }
        assert_eq!(judge(authtype), Err(Declined::NotEncrypted), "what is missing does not pass");
        assert_eq!(judge(""), Err(Declined::NotEncrypted));
    }

    #[test]
    fn a_git_that_would_send_the_token_as_a_password_gets_none() {
        for capability in ["", "capability[]=state\n", "authtype=Bearer\n", "xcapability[]=authtype\n"] {
            assert_eq!(of("https", "git.example.com", capability), Err(Declined::OldGit), "{capability}");
        }
    }

    #[test]
    fn a_server_that_asks_for_other_credentials_than_bearer_tokens_gets_none() {
        let with = |challenges: &[&str]| {
            let challenges: String = challenges.iter().map(|each| format!("wwwauth[]={each}\n")).collect();
            judge(&format!("capability[]=authtype\nprotocol=https\nhost=git.example.com\n{challenges}\n"))
        };
        let (basic, bearer) = ("Basic realm=\"git\"", "Bearer realm=\"git\", error=\"invalid_token\"");
        for given in [&[][..], &[bearer], &["bearer"], &[basic, bearer], &["Basic realm=\"a\", Bearer"]] {
            assert_eq!(with(given), Ok(()), "{given:?}");
        }
        for declined in [
            &["Basic realm=\"Git, Bearer not accepted\""],
            &[basic][..],
            &["Negotiate", basic],
            &["Bearers x"],
            &["Basic realm=Bearer"],
            &[""],
        ] {
            assert_eq!(with(declined), Err(Declined::NotBearer), "{declined:?}");
        }
    }

    #[test]
    fn the_rejected_credential_is_the_token_and_no_password() {
        let described = |text: &str| rejected(&Secret::new(text.to_owned()));
        let head = "capability[]=authtype\nprotocol=https\nhost=git.example.com\n";
        let token = described(&format!("{head}authtype=Bearer\ncredential=a.b.c\n\n"));
        assert_eq!(token, Some(Secret::new("a.b.c".to_owned())));
        for text in ["", "username=a\npassword=a.b.c\n", "credential=\n", "\ncredential=a.b.c\n"] {
            assert_eq!(described(&format!("{text}\n")), None, "{text}");
        }
    }

    #[test]
    fn the_credential_is_a_bearer_token_that_no_other_helper_stores() {
        let token = Secret::new("eyJh.eyJi.sig".to_owned());
        let text = |expires| credential(&token, expires).expose().to_owned();
        let head = "capability[]=authtype\nauthtype=Bearer\ncredential=eyJh.eyJi.sig\nephemeral=1\n";
        assert_eq!(text(None), format!("{head}\n"));
        assert_eq!(
            text(Some(UnixTime::from_secs(1_800_000_000))),
            format!("{head}password_expiry_utc=1800000000\n\n")
        );
    }

    #[test]
    fn unknown_operations_are_ignored() {
        let operations = ["get", "capability", "erase", "store", "Get", ""].map(Operation::named);
        let other = Operation::Other;
        let known = [Operation::Get, Operation::Capability, Operation::Erase];
        assert_eq!((&operations[..3], &operations[3..]), (&known[..], &[other; 3][..]));
    }
}
