//! A look into certificates, for what is said of them and for one that is trusted by itself. Whether a chain is trusted is
//! decided by webpki; where it refuses, this finds the certificate that is the reason, and puts the reason into words.

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

/// How much is quoted of a name in a certificate, in characters.
const LONGEST_NAME: usize = 120;
/// RSA keys of fewer bits are not accepted (BSI TR-02102, CA/Browser Forum), nor of more: ring's bounds.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// What a certificate says of itself.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Certificate {
    /// The subject as RFC 4514 writes it, as `CN=dex.example`.
    pub subject: String,
    /// The issuer, in the same way.
    pub issuer: String,
    /// Its public key.
    pub key: Key,
    /// When it becomes valid, in seconds since 1970.
    pub not_before: u64,
    /// When it expires, in seconds since 1970.
    pub not_after: u64,
    names: Vec<Name>,
    signature: ObjectIdentifier,
    critical: Vec<ObjectIdentifier>,
    /// basicConstraints' cA; nothing without the extension.
    is_ca: Option<bool>,
    /// The purposes of extKeyUsage; nothing without the extension.
    purposes: Option<Vec<ObjectIdentifier>>,
}

/// A public key.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Key {
    /// RSA with so many bits.
    Rsa(usize),
    /// A key on a curve that is supported, by its name.
    Curve(&'static str),
    /// A kind that is not supported, as its name or identifier.
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

/// A subject alternative name that a host can have.
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

/// Why a chain is refused, apart from an issuer that is not trusted, in words.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Obstacle {
    /// A critical extension that webpki does not know.
    Extension(String),
    /// A key or its size.
    Key(String),
    /// The algorithm of a signature.
    Signature(String),
    /// An issuer that is not among the trusted certificates.
    Issuer(String),
    /// A certificate that is for something else than servers.
    Purpose(String),
    /// Another certificate than the server's own has expired, or is not valid yet.
    Dates {
        /// Which of the two.
        not_yet: bool,
        /// Whose, and when.
        detail: String,
    },
    /// The signature of the handshake does not fit the certificate.
    Possession,
}

/// The kinds of [`Obstacle`] that a certificate can have.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    Extension,
    Key,
    Signature,
    Purpose,
}

impl Certificate {
    /// Reads one (RFC 5280 §4.1); nothing if it is not an X.509 v3 certificate in DER.
    #[must_use]
    pub fn read(der: &[u8]) -> Option<Self> {
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

    /// How many whole days of its validity are left.
    #[must_use]
    pub const fn days_left(&self, now: UnixTime) -> u64 {
        self.not_after.saturating_sub(now.as_secs()) / 86_400
    }

    /// Whether it may sign others (RFC 5280 §4.2.1.9: in version 3 only with cA). One that is no X.509 v3 is not read here.
    pub(super) fn may_issue(&self) -> bool {
        self.is_ca == Some(true)
    }

    /// The purposes that it is limited to, if they leave servers out (RFC 5280 §4.2.1.12).
    pub(super) fn other_purposes(&self) -> Option<&[ObjectIdentifier]> {
        let purposes = self.purposes.as_deref()?;
        (!purposes.iter().any(|purpose| [SERVER_AUTH, ANY_PURPOSE].contains(purpose))).then_some(purposes)
    }

    /// Whether one of its alternative names is this one (RFC 6125 §6.4; a common name is none).
    pub(super) fn is_for(&self, host: &ServerName<'_>) -> bool {
        self.names.iter().any(|name| match (name, host) {
            (Name::Dns(pattern), ServerName::DnsName(host)) => matches(pattern, host.as_ref()),
            (Name::Ip(known), ServerName::IpAddress(ip)) => *known == IpAddr::from(*ip),
            _ => false,
        })
    }

    /// Its names as they are compared, for messages.
    pub(super) fn names(&self) -> Vec<String> {
        self.names.iter().map(|name| plain(&name.to_string(), LONGEST_NAME)).collect()
    }

    fn obstacle(&self, kind: Kind) -> Option<Obstacle> {
        match kind {
            Kind::Extension => {
                let oid = self.critical.iter().find(|oid| !KNOWN_EXTENSIONS.contains(oid))?;
                Some(Obstacle::Extension(format!(
                    "the extension {} of {} is marked critical and not supported",
                    name_of(*oid),
                    self.subject
                )))
            }
            Kind::Key => {
                let why = unsupported(self.key)?;
                Some(Obstacle::Key(format!("the key of {} is {}: {why}", self.subject, self.key)))
            }
            Kind::Purpose => {
                let purposes: Vec<_> = self.other_purposes()?.iter().map(|oid| name_of(*oid)).collect();
                let purposes = purposes.join(", ");
                let subject = &self.subject;
                Some(Obstacle::Purpose(format!(
                    "{subject} is not for servers (extended key usage: {purposes})"
                )))
            }
            // Only on P-521, by our own means.
            Kind::Signature if self.signature == ECDSA_SHA512 => Some(Obstacle::Signature(format!(
                "{} is signed with ECDSA and SHA-512, which is supported for keys on P-521 only",
                self.subject
            ))),
            // Nobody looks at the signature of a certificate that signed itself.
            Kind::Signature if SIGNATURES.contains(&self.signature) || self.issuer == self.subject => None,
            Kind::Signature => Some(Obstacle::Signature(format!(
                "{} is signed with {}, which is not accepted",
                self.subject,
                name_of(self.signature)
            ))),
        }
    }
}

/// Looks for an obstacle of this kind in the certificates that a server sent, and in the trusted one that signed one of them.
pub(super) fn obstacle(
    kind: Kind,
    chain: &[CertificateDer<'_>],
    anchors: &[TrustAnchor<'_>],
) -> Option<Obstacle> {
    let mut read = chain.iter().filter_map(|der| Certificate::read(der));
    if let Some(found) = read.find_map(|certificate| certificate.obstacle(kind)) {
        return Some(found);
    }
    if kind != Kind::Key {
        return None;
    }
    let issuers: Vec<&[u8]> = chain.iter().filter_map(|der| issuer(der)).collect();
    let signer = anchors.iter().find(|anchor| issuers.iter().any(|name| *name == &anchor.subject[..]))?;
    let key = key(&signer.subject_public_key_info);
    let why = unsupported(key)?;
    Some(Obstacle::Key(format!("the key of the trusted certificate that signed it is {key}: {why}")))
}

/// The first certificate behind the server's own that is not valid now.
pub(super) fn dates(chain: &[CertificateDer<'_>], now: UnixTime) -> Option<Obstacle> {
    let valid = |read: &Certificate| (read.not_before..=read.not_after).contains(&now.as_secs());
    let mut read = chain.iter().filter_map(|der| Certificate::read(der));
    if !read.next().is_some_and(|server| valid(&server)) {
        return None;
    }
    let other = read.find(|certificate| !valid(certificate))?;
    let not_yet = now.as_secs() < other.not_before;
    let detail = format!("not the server's own, but {}, which is sent with it", other.subject);
    Some(Obstacle::Dates { not_yet, detail })
}

/// Who issued the last certificate of a chain that leads to no trusted one.
pub(super) fn issuer_of(chain: &[CertificateDer<'_>], trusted: usize) -> Option<Obstacle> {
    let last = chain.iter().filter_map(|der| Certificate::read(der)).next_back()?;
    let Certificate { subject, issuer, .. } = last;
    Some(Obstacle::Issuer(format!("{subject} is issued by {issuer}; certificates trusted: {trusted}")))
}

/// The issuer's name as a trust anchor has it: without the outer tag and length.
fn issuer(der: &[u8]) -> Option<&[u8]> {
    let mut inner = Fields::of(Fields::of(Fields::of(der).next(SEQUENCE)?).next(SEQUENCE)?);
    inner.next(VERSION)?;
    inner.next(INTEGER)?;
    inner.next(SEQUENCE)?;
    inner.next(SEQUENCE)
}

/// As RFC 4514 writes it: the last part first.
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

/// Out of the content of a SubjectPublicKeyInfo (RFC 5280 §4.1.2.7).
fn key(info: &[u8]) -> Key {
    const UNKNOWN: ObjectIdentifier = oid("0.0");
    let read = || {
        let mut info = Fields::of(info);
        let mut algorithm = Fields::of(info.next(SEQUENCE)?);
        let kind = ObjectIdentifier::from_bytes(algorithm.next(OBJECT_IDENTIFIER)?).ok()?;
        let mut curve = || ObjectIdentifier::from_bytes(algorithm.next(OBJECT_IDENTIFIER)?).ok();
        // One octet says how many bits of the last are unused: none.
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

/// The size of the modulus (RFC 8017 A.1.1).
fn rsa_bits(key: &[u8]) -> Option<usize> {
    let modulus = Fields::of(Fields::of(key).next(SEQUENCE)?).next(INTEGER)?;
    let zeros = modulus.iter().take_while(|byte| **byte == 0).count();
    let first = modulus.get(zeros)?;
    Some((modulus.len() - zeros) * 8 - first.leading_zeros() as usize)
}

fn unsupported(key: Key) -> Option<&'static str> {
    match key {
        Key::Rsa(bits) if bits < *RSA_BITS.start() => Some("an RSA key of fewer than 2048 bits is too small"),
        Key::Rsa(bits) if bits > *RSA_BITS.end() => {
            Some("an RSA key of more than 8192 bits is not supported")
        }
        Key::Unsupported(_) => Some("this kind of key is not supported"),
        Key::Rsa(_) | Key::Curve(_) => None,
    }
}

/// One wildcard, as the whole of the first label.
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

    use super::super::tests::certificates::{Ca, Wanted};
    use super::*;

    fn read(pem: &str) -> Certificate {
        use rustls::pki_types::pem::PemObject as _;
        Certificate::read(&CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()).unwrap()
    }

    #[test]
    fn a_certificate_says_who_it_is_for_and_how_long() {
        let ca = Ca::new("a ca");
        let names = ["dex.example", "*.wild.example", "10.0.0.7", "fd00::7"];
        let leaf = read(&ca.issues(Wanted::with_names(&names).good_for(2020, 2030)).pem);
        assert_eq!((leaf.issuer.as_str(), leaf.key), ("CN=a ca", Key::Curve("ECDSA P-256")));
        assert_eq!((leaf.not_before, leaf.not_after), (1_577_836_800, 1_893_456_000));
        assert_eq!(leaf.names(), names);
        let left = |seconds| leaf.days_left(UnixTime::since_unix_epoch(Duration::from_secs(seconds)));
        assert_eq!((left(1_893_456_000 - 86_400), left(1_893_456_000 - 86_399), left(u64::MAX)), (1, 0, 0));
        assert!(!leaf.may_issue() && leaf.other_purposes().is_none());
        let root = read(&ca.pem());
        assert_eq!((root.subject.as_str(), root.not_after), ("CN=a ca", 4_733_510_400));
        assert!(root.may_issue());
        for kind in [Kind::Extension, Kind::Key, Kind::Signature, Kind::Purpose] {
            assert_eq!((root.obstacle(kind), leaf.obstacle(kind)), (None, None));
        }
        let client = read(&ca.issues(Wanted::with_names(&names).for_a_client()).pem);
        assert_eq!(client.other_purposes(), Some(&[oid("1.3.6.1.5.5.7.3.2")][..]));
    }

    #[test]
    fn names_are_compared_as_webpki_does() {
        let leaf =
            read(&Wanted::with_names(&["dex.example", "*.wild.example", "10.0.0.7"]).self_signed().pem);
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
            assert_eq!(leaf.is_for(&ServerName::try_from(host).unwrap()), expected, "{host}");
        }
    }

    #[test]
    fn f133_what_is_no_certificate_is_none_wherever_it_is_cut_or_changed() {
        use rustls::pki_types::pem::PemObject as _;
        let pem = Wanted::with_names(&["dex.example"]).self_signed().pem;
        let der = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
        for end in 0..der.len() {
            assert_eq!(Certificate::read(&der[..end]), None, "cut at {end}");
        }
        for at in 0..der.len() {
            for byte in [0, 0x7f, 0x80, 0xff] {
                let mut changed = der.to_vec();
                changed[at] = byte;
                // Only that it ends, and without a panic.
                let _ = Certificate::read(&changed);
                for kind in [Kind::Extension, Kind::Key, Kind::Signature, Kind::Purpose] {
                    let _ = obstacle(kind, &[changed.clone().into()], &[]);
                }
            }
        }
    }
}
