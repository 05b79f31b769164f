//! Iterates over DER values (X.690) with the reader of the `der` crate.

use der::asn1::{GeneralizedTime, ObjectIdentifier, UtcTime};
use der::{Decode as _, Header, Reader as _, SliceReader};

// The identifier octets used in certificates (X.690 §8.1.2).
pub(super) const BOOLEAN: u8 = 0x01;
pub(super) const INTEGER: u8 = 0x02;
pub(super) const BIT_STRING: u8 = 0x03;
pub(super) const OBJECT_IDENTIFIER: u8 = 0x06;
pub(super) const SEQUENCE: u8 = 0x30;
pub(super) const VERSION: u8 = 0xa0;
pub(super) const EXTENSIONS: u8 = 0xa3;
pub(super) const DNS_NAME: u8 = 0x82;
pub(super) const IP_ADDRESS: u8 = 0x87;

/// The values inside a constructed value, as identifier octet and content. Ends at the first
/// malformed value.
pub(super) struct Fields<'a>(Option<SliceReader<'a>>);

impl<'a> Fields<'a> {
    pub(super) fn of(content: &'a [u8]) -> Self {
        Self(SliceReader::new(content).ok())
    }

    pub(super) fn any(&mut self) -> Option<(u8, &'a [u8])> {
        let reader = self.0.as_mut().filter(|reader| !reader.is_finished())?;
        let mut first = [0];
        reader.peek_into(&mut first).ok()?;
        let header = Header::decode(reader).ok()?;
        Some((first[0], reader.read_slice(header.length()).ok()?))
    }

    /// The content of the next value, if it has this identifier octet.
    pub(super) fn next(&mut self, tag: u8) -> Option<&'a [u8]> {
        self.any().filter(|(found, _)| *found == tag).map(|(_, content)| content)
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        self.any()
    }
}

pub(super) fn oid_in(algorithm: &[u8]) -> Option<ObjectIdentifier> {
    ObjectIdentifier::from_bytes(Fields::of(algorithm).next(OBJECT_IDENTIFIER)?).ok()
}

/// Reads a UTCTime or GeneralizedTime, in seconds since 1970. Returns `None` for earlier times.
pub(super) fn time(times: &mut SliceReader<'_>) -> Option<u64> {
    let mut other = times.clone();
    let time = match UtcTime::decode(times) {
        Ok(time) => time.to_unix_duration(),
        Err(_) => {
            let time = GeneralizedTime::decode(&mut other).ok()?.to_unix_duration();
            *times = other;
            time
        }
    };
    Some(time.as_secs())
}
