//! The days of an X.509 certificate, its subject and what it is for, and nothing else of it. Pure.
//!
//! rustls checks certificates of others; it does not tell when ours end, and why others refuse them. A certificate is a DER
//! sequence of a sequence (RFC 5280, 4.1): `[0]` **version** if it is not 1, serial number, algorithm, issuer,
//! **validity**, **subject**, key, … `[3]` **extensions**. A validity is two times, each UTCTime (two digits of a year, 1950
//! to 2049) or GeneralizedTime (four digits), in UTC to the second.

/// DER tags.
const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const EXTENSIONS: u8 = 0xa3;
/// `2.5.4.3`.
const COMMON_NAME: [u8; 3] = [0x55, 4, 3];
/// `2.5.29.37`.
const EXTENDED_KEY_USAGE: [u8; 3] = [0x55, 0x1d, 0x25];
/// `2.5.29.37.0`.
const ANY_USAGE: [u8; 4] = [0x55, 0x1d, 0x25, 0];
/// `1.3.6.1.5.5.7.3.2`.
const CLIENT_AUTH: [u8; 8] = [0x2b, 6, 1, 5, 5, 7, 3, 2];

/// First and last second, since 1970; `None` if it is no certificate.
pub(super) fn validity(der: &[u8]) -> Option<(i64, i64)> {
    // Serial number, algorithm, issuer.
    let rest = skip(to_be_signed(der)?.1, 3)?;
    let (SEQUENCE, times, _) = element(rest)? else { return None };
    let (tag, from, rest) = element(times)?;
    let (until_tag, until, _) = element(rest)?;
    Some((time(tag, from)?, time(until_tag, until)?))
}

/// Whose a certificate is, and for what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Subject {
    /// 1 to 3.
    pub version: u8,
    /// The last of its common names, as OpenSSL takes it.
    pub common_name: Option<String>,
    /// Whether its extended key usage, if it has one, allows to be a client.
    pub is_for_clients: bool,
}

/// `None` if it is no certificate.
pub(super) fn subject(der: &[u8]) -> Option<Subject> {
    let (version, rest) = to_be_signed(der)?;
    // Serial number, algorithm, issuer, validity.
    let (SEQUENCE, name, rest) = element(skip(rest, 4)?)? else { return None };
    // The key.
    let extensions = elements(skip(rest, 1)?).find(|(tag, _)| *tag == EXTENSIONS);
    let is_for_clients = extensions.and_then(|(_, list)| usages(list)).is_none_or(|usages| {
        elements(usages).any(|(_, usage)| usage == CLIENT_AUTH.as_slice() || usage == ANY_USAGE.as_slice())
    });
    // A sequence of sets of pairs.
    let pairs = elements(name).flat_map(|(_, set)| elements(set));
    let common_name = pairs.filter_map(|(_, pair)| value_of(pair, &COMMON_NAME)).last();
    let common_name = common_name.map(|text| String::from_utf8_lossy(text).into_owned());
    Some(Subject { version, common_name, is_for_clients })
}

/// The list of extended key usages, if these extensions have one.
fn usages(extensions: &[u8]) -> Option<&[u8]> {
    let (SEQUENCE, list, _) = element(extensions)? else { return None };
    let usage = elements(list).find_map(|(_, extension)| value_of(extension, &EXTENDED_KEY_USAGE))?;
    Some(element(usage)?.1)
}

/// The last element of a sequence that begins with this object identifier.
fn value_of<'d>(sequence: &'d [u8], identifier: &[u8]) -> Option<&'d [u8]> {
    let (_, found, rest) = element(sequence)?;
    if found == identifier { elements(rest).last().map(|(_, value)| value) } else { None }
}

/// The version, and what follows it.
fn to_be_signed(der: &[u8]) -> Option<(u8, &[u8])> {
    let (SEQUENCE, certificate, _) = element(der)? else { return None };
    let (SEQUENCE, rest, _) = element(certificate)? else { return None };
    if rest.first() != Some(&VERSION) {
        return Some((1, rest));
    }
    let (_, version, rest) = element(rest)?;
    let [number] = element(version)?.1 else { return None };
    Some((number.checked_add(1)?, rest))
}

fn skip(mut der: &[u8], count: usize) -> Option<&[u8]> {
    for _ in 0..count {
        der = element(der)?.2;
    }
    Some(der)
}

/// Tags and contents, one after the other.
fn elements(mut der: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    std::iter::from_fn(move || {
        let (tag, contents, rest) = element(der)?;
        der = rest;
        Some((tag, contents))
    })
}

/// Tag, contents, and what follows.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let [tag, first, rest @ ..] = der else { return None };
    let (length, rest) = match first {
        0..=0x7f => (usize::from(*first), rest),
        // Up to four bytes of length: 4 GiB.
        0x81..=0x84 => {
            let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (bytes.iter().fold(0, |length, byte| (length << 8) | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    let (contents, rest) = rest.split_at_checked(length)?;
    Some((*tag, contents, rest))
}

fn time(tag: u8, text: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(text).ok()?.strip_suffix('Z')?;
    let (year, rest) = match tag {
        UTC_TIME => {
            let (year, rest) = text.split_at_checked(2)?;
            let year: i64 = number(year)?;
            (if year < 50 { 2000 + year } else { 1900 + year }, rest)
        }
        GENERALIZED_TIME => {
            let (year, rest) = text.split_at_checked(4)?;
            (number(year)?, rest)
        }
        _ => return None,
    };
    if rest.len() != 10 || !rest.is_ascii() {
        return None;
    }
    let part = |at: usize| number(&rest[at..at + 2]);
    let (month, day) = (part(0)?, part(2)?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let seconds = part(4)? * 3_600 + part(6)? * 60 + part(8)?;
    Some(days_since_1970(year, month, day) * 86_400 + seconds)
}

fn number(text: &str) -> Option<i64> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

/// Gregorian; years begin in March here, so that the leap day is the last of its year.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    year * 365 + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_time_is_read_in_both_forms() {
        assert_eq!(time(UTC_TIME, b"700101000000Z"), Some(0));
        assert_eq!(time(UTC_TIME, b"491231235959Z"), Some(2_524_607_999));
        assert_eq!(time(GENERALIZED_TIME, b"20500101000000Z"), Some(2_524_608_000));
        assert_eq!(time(GENERALIZED_TIME, b"20000229120000Z"), Some(951_825_600));
        for text in ["700101000000", "701301000000Z", "7001010000Z", "70010100000aZ", ""] {
            assert_eq!(time(UTC_TIME, text.as_bytes()), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn bytes_from_anybody_never_panic(der in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = (validity(&der), subject(&der));
        }
    }
}
