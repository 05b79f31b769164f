//! Parses certificates, for messages and for pinned certificates. webpki decides whether a chain is
//! trusted. If it rejects one, this module finds the certificate that is the reason and describes
//! the reason.

mod der_fields;
mod oids;

use std::fmt;
use std::net::IpAddr;

use der::SliceReader;
use der::asn1::ObjectIdentifier;
use dexsidecar_core::failure::plain;
use rustls::pki_types::{CertificateDer, ServerName, TrustAnchor, UnixTime};

use der_fields::{
    BIT_STRING, BOOLEAN, DNS_NAME, EXTENSIONS, Fields, INTEGER, IP_ADDRESS, OBJECT_IDENTIFIER, SEQUENCE,
    VERSION, oid_in, time,
};
use oids::{
    ANY_PURPOSE, BASIC_CONSTRAINTS, EC, ECDSA_SHA512, ED25519, EXTENDED_KEY_USAGE, KNOWN_EXTENSIONS, P256,
    P384, P521, RSA, SERVER_AUTH, SIGNATURES, SUBJECT_ALT_NAME, name_of, oid,
};

/// Names in certificates are quoted up to this length, in characters.
const LONGEST_NAME: usize = 120;
/// The accepted sizes of RSA keys, in bits: the bounds of ring, whose minimum is that of the
/// CA/Browser Forum.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// The parts of a certificate that are used.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Certificate {
    /// The subject in the notation of RFC 4514, as `CN=dex.example`.
    pub subject: String,
    /// The issuer in the notation of RFC 4514.
    pub issuer: String,
    /// The public key.
    pub key: Key,
    /// notBefore, in seconds since 1970.
    pub not_before: u64,
    /// notAfter, in seconds since 1970.
    pub not_after: u64,
    /// The subject alternative names.
    names: Vec<Name>,
    /// The signature algorithm.
    signature: ObjectIdentifier,
    /// The critical extensions.
    critical: Vec<ObjectIdentifier>,
    /// cA of basicConstraints; `None` without the extension.
    is_ca: Option<bool>,
    /// The purposes of extKeyUsage; `None` without the extension.
    purposes: Option<Vec<ObjectIdentifier>>,
}

/// A public key.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Key {
    /// RSA, with the size of the modulus in bits.
    Rsa(usize),
    /// A key on a supported curve, by its name.
    Curve(&'static str),
    /// A key of an unsupported type or on an unsupported curve.
    Unsupported(ObjectIdentifier),
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rsa(bits) => write!(f, "RSA {bits}"),
            Self::Curve(name) => f.write_str(name),
            Self::Unsupported(oid) => f.write_str(&name_of(*oid)),
        }
    }
}

/// A subject alternative name of a type that a host can match.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Name {
    Dns(String),
    Ip(IpAddr),
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns(name) => f.write_str(name),
            Self::Ip(ip) => ip.fmt(f),
        }
    }
}

/// Why a chain is rejected. The texts name the certificate.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Rejection {
    /// A critical extension that webpki does not support.
    Extension(String),
    /// An unsupported key or key size.
    Key(String),
    /// An unsupported signature algorithm.
    Signature(String),
    /// An issuer that is not trusted.
    Issuer(String),
    /// A certificate that is not for servers.
    Purpose(String),
    /// A certificate other than the server's own has expired, or is not valid yet.
    Dates {
        /// True if it is not valid yet.
        not_yet: bool,
        /// The certificate.
        detail: String,
    },
    /// The signature of the handshake does not match the key of the certificate.
    WrongKey,
}

/// The kinds of [`Rejection`] that a single certificate can cause.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    Extension,
    Key,
    Signature,
    Purpose,
}

impl Certificate {
    /// Parses a certificate (RFC 5280 §4.1). Returns `None` if it is not X.509 v3 in DER.
    #[must_use]
    pub fn parse(der: &[u8]) -> Option<Self> {
        let mut outer = Fields::of(Fields::of(der).next(SEQUENCE)?);
        let mut inner = Fields::of(outer.next(SEQUENCE)?);
        let signature = oid_in(outer.next(SEQUENCE)?)?;
        inner.next(VERSION)?;
        inner.next(INTEGER)?;
        inner.next(SEQUENCE)?;
        let issuer = distinguished_name(inner.next(SEQUENCE)?);
        let validity = inner.next(SEQUENCE)?;
        let subject = distinguished_name(inner.next(SEQUENCE)?);
        let key = key(inner.next(SEQUENCE)?);
        let mut times = SliceReader::new(validity).ok()?;
        let (not_before, not_after) = (time(&mut times)?, time(&mut times)?);
        let mut certificate = Self {
            subject,
            issuer,
            key,
            not_before,
            not_after,
            names: vec![],
            signature,
            critical: vec![],
            is_ca: None,
            purposes: None,
        };
        let extensions = std::iter::from_fn(|| inner.any()).find(|(tag, _)| *tag == EXTENSIONS);
        let Some((_, extensions)) = extensions else { return Some(certificate) };
        for (_, extension) in Fields::of(Fields::of(extensions).next(SEQUENCE)?) {
            let mut fields = Fields::of(extension);
            let id = ObjectIdentifier::from_bytes(fields.next(OBJECT_IDENTIFIER)?).ok()?;
            let (tag, mut value) = fields.any()?;
            if tag == BOOLEAN {
                if value != [0] {
                    certificate.critical.push(id);
                }
                value = fields.any()?.1;
            }
            match id {
                SUBJECT_ALT_NAME => certificate.names = names(Fields::of(value).next(SEQUENCE)?),
                BASIC_CONSTRAINTS => {
                    let ca = Fields::of(Fields::of(value).next(SEQUENCE)?).next(BOOLEAN);
                    certificate.is_ca = Some(ca.is_some_and(|ca| ca != [0]));
                }
                EXTENDED_KEY_USAGE => {
                    let purposes = Fields::of(Fields::of(value).next(SEQUENCE)?);
                    let purposes = purposes.map(|(_, id)| ObjectIdentifier::from_bytes(id).ok());
                    certificate.purposes = Some(purposes.collect::<Option<_>>()?);
                }
                _ => {}
            }
        }
        Some(certificate)
    }

    /// The remaining validity in whole days.
    #[must_use]
    pub const fn days_left(&self, now: UnixTime) -> u64 {
        self.not_after.saturating_sub(now.as_secs()) / 86_400
    }

    /// Whether the certificate may sign others: in version 3 only with cA (RFC 5280 §4.2.1.9).
    /// Older versions are not parsed here.
    pub(super) fn may_issue(&self) -> bool {
        self.is_ca == Some(true)
    }

    /// The purposes in extKeyUsage, if servers are not among them (RFC 5280 §4.2.1.12).
    pub(super) fn non_server_purposes(&self) -> Option<&[ObjectIdentifier]> {
        let purposes = self.purposes.as_deref()?;
        (!purposes.iter().any(|purpose| [SERVER_AUTH, ANY_PURPOSE].contains(purpose))).then_some(purposes)
    }

    /// Whether a subject alternative name matches this host (RFC 6125 §6.4). The common name is
    /// ignored.
    pub(super) fn is_valid_for(&self, host: &ServerName<'_>) -> bool {
        self.names.iter().any(|name| match (name, host) {
            (Name::Dns(pattern), ServerName::DnsName(host)) => matches(pattern, host.as_ref()),
            (Name::Ip(known), ServerName::IpAddress(ip)) => *known == IpAddr::from(*ip),
            _ => false,
        })
    }

    /// The subject alternative names, for messages.
    pub(super) fn names(&self) -> Vec<String> {
        self.names.iter().map(|name| plain(&name.to_string(), LONGEST_NAME)).collect()
    }

    fn rejection(&self, kind: Kind) -> Option<Rejection> {
        match kind {
            Kind::Extension => {
                let oid = self.critical.iter().find(|oid| !KNOWN_EXTENSIONS.contains(oid))?;
                Some(Rejection::Extension(format!(
                    "unsupported critical extension: {} of {}",
                    name_of(*oid),
                    self.subject
                )))
            }
            Kind::Key => {
                let why = unsupported(self.key)?;
                Some(Rejection::Key(format!("the key of {} is {}: {why}", self.subject, self.key)))
            }
            Kind::Purpose => {
                let purposes: Vec<_> = self.non_server_purposes()?.iter().map(|oid| name_of(*oid)).collect();
                let purposes = purposes.join(", ");
                let subject = &self.subject;
                Some(Rejection::Purpose(format!(
                    "{subject} is not a server certificate (extended key usage: {purposes})"
                )))
            }
            // Supported for P-521 only, see `signatures`.
            Kind::Signature if self.signature == ECDSA_SHA512 => Some(Rejection::Signature(format!(
                "{} is signed with ECDSA and SHA-512, which is supported for P-521 keys only",
                self.subject
            ))),
            // The signature of a self-signed certificate is not verified.
            Kind::Signature if SIGNATURES.contains(&self.signature) || self.issuer == self.subject => None,
            Kind::Signature => Some(Rejection::Signature(format!(
                "{} is signed with {}, which is unsupported",
                self.subject,
                name_of(self.signature)
            ))),
        }
    }
}

/// Searches the certificates that a server sent for a rejection of this kind. For [`Kind::Key`]
/// also the trusted certificate that issued one of them.
pub(super) fn find_rejection(
    kind: Kind,
    chain: &[CertificateDer<'_>],
    anchors: &[TrustAnchor<'_>],
) -> Option<Rejection> {
    let mut parsed = chain.iter().filter_map(|der| Certificate::parse(der));
    if let Some(found) = parsed.find_map(|certificate| certificate.rejection(kind)) {
        return Some(found);
    }
    if kind != Kind::Key {
        return None;
    }
    let issuers: Vec<&[u8]> = chain.iter().filter_map(|der| issuer(der)).collect();
    let signer = anchors.iter().find(|anchor| issuers.iter().any(|name| *name == &anchor.subject[..]))?;
    let key = key(&signer.subject_public_key_info);
    let why = unsupported(key)?;
    Some(Rejection::Key(format!("the key of the trusted issuer is {key}: {why}")))
}

/// Finds the first certificate, other than the server's own, that is not valid now. Returns `None`
/// if the server's own is not valid.
pub(super) fn invalid_dates(chain: &[CertificateDer<'_>], now: UnixTime) -> Option<Rejection> {
    let is_valid = |parsed: &Certificate| (parsed.not_before..=parsed.not_after).contains(&now.as_secs());
    let mut parsed = chain.iter().filter_map(|der| Certificate::parse(der));
    if !parsed.next().is_some_and(|server| is_valid(&server)) {
        return None;
    }
    let other = parsed.find(|certificate| !is_valid(certificate))?;
    let not_yet = now.as_secs() < other.not_before;
    let detail = format!("not the server's own, but {}, sent with it", other.subject);
    Some(Rejection::Dates { not_yet, detail })
}

/// Names the issuer of the last certificate of a chain that does not lead to a trusted one.
pub(super) fn untrusted_issuer(chain: &[CertificateDer<'_>], trusted: usize) -> Option<Rejection> {
    let last = chain.iter().filter_map(|der| Certificate::parse(der)).next_back()?;
    let Certificate { subject, issuer, .. } = last;
    Some(Rejection::Issuer(format!("{subject} is issued by {issuer}; trusted certificates: {trusted}")))
}

/// The DER of the issuer's name without outer tag and length, as trust anchors have it.
fn issuer(der: &[u8]) -> Option<&[u8]> {
    let mut inner = Fields::of(Fields::of(Fields::of(der).next(SEQUENCE)?).next(SEQUENCE)?);
    inner.next(VERSION)?;
    inner.next(INTEGER)?;
    inner.next(SEQUENCE)?;
    inner.next(SEQUENCE)
}

/// Formats a name in the notation of RFC 4514, which has the last part first.
fn distinguished_name(name: &[u8]) -> String {
    const KINDS: [(ObjectIdentifier, &str); 7] = [
        (oid("2.5.4.3"), "CN"),
        (oid("2.5.4.10"), "O"),
        (oid("2.5.4.11"), "OU"),
        (oid("2.5.4.6"), "C"),
        (oid("2.5.4.8"), "ST"),
        (oid("2.5.4.7"), "L"),
        (oid("0.9.2342.19200300.100.1.25"), "DC"),
    ];
    let mut parts: Vec<String> = vec![];
    for (_, part) in Fields::of(name).flat_map(|(_, set)| Fields::of(set)) {
        let mut fields = Fields::of(part);
        let Some(kind) = fields.next(OBJECT_IDENTIFIER).and_then(|id| ObjectIdentifier::from_bytes(id).ok())
        else {
            continue;
        };
        let value = fields.any().map(|(_, value)| String::from_utf8_lossy(value)).unwrap_or_default();
        match KINDS.iter().find(|(known, _)| *known == kind) {
            Some((_, name)) => parts.push(format!("{name}={value}")),
            None => parts.push(format!("{kind}={value}")),
        }
    }
    parts.reverse();
    plain(&parts.join(","), LONGEST_NAME)
}

fn names(names: &[u8]) -> Vec<Name> {
    let known = Fields::of(names).filter_map(|(tag, value)| match tag {
        DNS_NAME => Some(Name::Dns(String::from_utf8_lossy(value).into_owned())),
        IP_ADDRESS => {
            let v4 = <[u8; 4]>::try_from(value).map(IpAddr::from);
            v4.or_else(|_| <[u8; 16]>::try_from(value).map(IpAddr::from)).ok().map(Name::Ip)
        }
        _ => None,
    });
    known.collect()
}

/// Parses the content of a SubjectPublicKeyInfo (RFC 5280 §4.1.2.7).
fn key(info: &[u8]) -> Key {
    const UNKNOWN: ObjectIdentifier = oid("0.0");
    let read = || {
        let mut info = Fields::of(info);
        let mut algorithm = Fields::of(info.next(SEQUENCE)?);
        let kind = ObjectIdentifier::from_bytes(algorithm.next(OBJECT_IDENTIFIER)?).ok()?;
        let mut curve = || ObjectIdentifier::from_bytes(algorithm.next(OBJECT_IDENTIFIER)?).ok();
        // The first octet is the number of unused bits, which is 0.
        let bits = info.next(BIT_STRING)?.get(1..)?;
        Some((kind, bits, if kind == EC { curve() } else { None }))
    };
    let Some((kind, bits, curve)) = read() else { return Key::Unsupported(UNKNOWN) };
    match (kind, curve) {
        (RSA, _) => rsa_bits(bits).map_or(Key::Unsupported(kind), Key::Rsa),
        (EC, Some(P256)) => Key::Curve("ECDSA P-256"),
        (EC, Some(P384)) => Key::Curve("ECDSA P-384"),
        (EC, Some(P521)) => Key::Curve("ECDSA P-521"),
        (ED25519, _) => Key::Curve("Ed25519"),
        (_, curve) => Key::Unsupported(curve.unwrap_or(kind)),
    }
}

/// The size of the modulus in bits (RFC 8017 A.1.1).
fn rsa_bits(key: &[u8]) -> Option<usize> {
    let modulus = Fields::of(Fields::of(key).next(SEQUENCE)?).next(INTEGER)?;
    let zeros = modulus.iter().take_while(|byte| **byte == 0).count();
    let first = modulus.get(zeros)?;
    Some((modulus.len() - zeros) * 8 - first.leading_zeros() as usize)
}

fn unsupported(key: Key) -> Option<&'static str> {
    match key {
        Key::Rsa(bits) if bits < *RSA_BITS.start() => Some("an RSA key of fewer than 2048 bits is too small"),
        Key::Rsa(bits) if bits > *RSA_BITS.end() => Some("an RSA key of more than 8192 bits is unsupported"),
        Key::Unsupported(_) => Some("this key type is unsupported"),
        Key::Rsa(_) | Key::Curve(_) => None,
    }
}

/// Compares a DNS name with a pattern, whose first label may be `*`.
fn matches(pattern: &str, host: &str) -> bool {
    let (pattern, host) = (pattern.trim_end_matches('.'), host.trim_end_matches('.'));
    match pattern.strip_prefix("*.") {
        Some(domain) => host.split_once('.').is_some_and(|(_, rest)| rest.eq_ignore_ascii_case(domain)),
        None => pattern.eq_ignore_ascii_case(host),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::tests::certificates::{Ca, CertSpec};
    use super::*;

    fn read(pem: &str) -> Certificate {
        use rustls::pki_types::pem::PemObject as _;
        Certificate::parse(&CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()).unwrap()
    }

    #[test]
    fn names_dates_key_and_purposes_are_parsed() {
        let ca = Ca::new("a ca");
        let names = ["dex.example", "*.wild.example", "10.0.0.7", "fd00::7"];
        let leaf = read(&ca.issue(CertSpec::with_names(&names).valid_between(2020, 2030)).pem);
        assert_eq!((leaf.issuer.as_str(), leaf.key), ("CN=a ca", Key::Curve("ECDSA P-256")));
        assert_eq!((leaf.not_before, leaf.not_after), (1_577_836_800, 1_893_456_000));
        assert_eq!(leaf.names(), names);
        let left = |seconds| leaf.days_left(UnixTime::since_unix_epoch(Duration::from_secs(seconds)));
        assert_eq!((left(1_893_456_000 - 86_400), left(1_893_456_000 - 86_399), left(u64::MAX)), (1, 0, 0));
        assert!(!leaf.may_issue() && leaf.non_server_purposes().is_none());
        let root = read(&ca.pem());
        assert_eq!((root.subject.as_str(), root.not_after), ("CN=a ca", 4_733_510_400));
        assert!(root.may_issue());
        for kind in [Kind::Extension, Kind::Key, Kind::Signature, Kind::Purpose] {
            assert_eq!((root.rejection(kind), leaf.rejection(kind)), (None, None));
        }
        let client = read(&ca.issue(CertSpec::with_names(&names).for_clients()).pem);
        assert_eq!(client.non_server_purposes(), Some(&[oid("1.3.6.1.5.5.7.3.2")][..]));
    }

    #[test]
    fn names_are_compared_as_by_webpki() {
        let leaf =
            read(&CertSpec::with_names(&["dex.example", "*.wild.example", "10.0.0.7"]).self_signed().pem);
        for (host, expected) in [
            ("dex.example", true),
            ("DEX.Example", true),
            ("other.example", false),
            ("a.dex.example", false),
            ("a.wild.example", true),
            ("a.b.wild.example", false),
            ("wild.example", false),
            ("10.0.0.7", true),
            ("10.0.0.8", false),
        ] {
            assert_eq!(leaf.is_valid_for(&ServerName::try_from(host).unwrap()), expected, "{host}");
        }
    }

    #[test]
    fn f133_truncated_or_changed_certificates_do_not_panic() {
        use rustls::pki_types::pem::PemObject as _;
        let pem = CertSpec::with_names(&["dex.example"]).self_signed().pem;
        let der = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
        for end in 0..der.len() {
            assert_eq!(Certificate::parse(&der[..end]), None, "truncated at {end}");
        }
        for at in 0..der.len() {
            for byte in [0, 0x7f, 0x80, 0xff] {
                let mut changed = der.to_vec();
                changed[at] = byte;
                // Parsing must end without a panic; the result does not matter.
                let _ = Certificate::parse(&changed);
                for kind in [Kind::Extension, Kind::Key, Kind::Signature, Kind::Purpose] {
                    let _ = find_rejection(kind, &[changed.clone().into()], &[]);
                }
            }
        }
    }
}
