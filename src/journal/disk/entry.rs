//! An entry as bytes: a version byte, then what that version makes of a window. What a version has written is read for
//! ever; written is the newest, whose number is what tells in which words an entry goes out.

use crate::journal::disk::chunk::{Damage, ENTRY_BYTES_MAX};
use crate::journal::disk::unreadable::Unreadable;
use crate::journal::disk::unwritable::Unwritable;
use crate::journal::disk::{v1, v2};
use crate::measure::{BootId, ClockTrust, Window, Words};

/// A window as bytes, with what the journal needs to know of it without reading it again.
#[derive(Debug, Clone)]
pub(in crate::journal) struct Encoded {
    pub(in crate::journal) bytes: Vec<u8>,
    pub(in crate::journal) points: u64,
    pub(in crate::journal) tells_loss: bool,
    /// Its end, if the clock could be believed.
    pub(in crate::journal) utc: Option<i64>,
}

/// Writes a window of the boot `home`, whose id is not repeated in each entry.
pub(in crate::journal) fn encode(window: &Window, home: BootId) -> Result<Encoded, Unwritable> {
    let bytes = v2::write(window, home, Vec::new())?;
    if bytes.len() > ENTRY_BYTES_MAX {
        return Err(Unwritable::Long { bytes: bytes.len() });
    }
    Ok(Encoded {
        bytes,
        points: window.points(),
        tells_loss: window.gaps().next().is_some() || window.lives_lost().next().is_some(),
        utc: (window.end.trust != ClockTrust::Unsynced).then_some(window.end.utc.0),
    })
}

/// Whether a newer program wrote it.
pub(in crate::journal) fn is_newer(bytes: &[u8]) -> bool {
    bytes.first().is_some_and(|version| *version > v2::VERSION)
}

/// The words in which an entry is told. What lies there in version 1 may have been sent by the program that wrote it.
pub(in crate::journal) fn words(bytes: &[u8]) -> Words {
    if bytes.first() == Some(&v1::VERSION) { Words::First } else { Words::Second }
}

/// Reads a window.
pub(in crate::journal) fn decode(bytes: &[u8], home: BootId) -> Result<Window, Unreadable> {
    let (&version, body) = bytes.split_first().ok_or(Damage::Content)?;
    match version {
        v1::VERSION => Ok(v1::entry::read(body, home)?),
        v2::VERSION => Ok(v2::read(body, home)?),
        // There was none before the first.
        0 => Err(Damage::Content.into()),
        newer => Err(Unreadable::Newer { version: newer.into() }),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::journal::testing::{any_window, depot_window};

    const HOME: BootId = BootId([7; 16]);

    #[test]
    fn a_point_of_a_typical_depot_costs_less_than_four_and_a_half_bytes() {
        // 20 charge points and 2 meters with 12 points each, one reading in a window of 250 ms.
        let window = depot_window(22, 12, 1);
        let encoded = encode(&window, HOME).expect("it can be written");
        let per_point = encoded.bytes.len() as f64 / window.points() as f64;
        println!("{} points in {} bytes: {per_point:.2} bytes a point", window.points(), encoded.bytes.len());
        assert!(per_point < 4.5, "{per_point} bytes a point");
    }

    #[test]
    fn an_entry_of_a_later_version_is_told_from_a_damaged_one() {
        let mut bytes = encode(&depot_window(1, 3, 1), HOME).expect("it can be written").bytes;
        bytes[0] = 3;
        assert_eq!(decode(&bytes, HOME), Err(Unreadable::Newer { version: 3 }));
        bytes[0] = 1;
        bytes.truncate(bytes.len() / 2);
        assert_eq!(decode(&bytes, HOME), Err(Unreadable::Damage(Damage::Content)));
    }

    #[test]
    fn points_out_of_order_are_refused_and_not_mixed_up() {
        let mut window = depot_window(1, 3, 1);
        window.intervals[0].points.swap(0, 2);
        assert_eq!(encode(&window, HOME).expect_err("it cannot be written"), Unwritable::Disordered);
    }

    proptest! {
        #[test]
        fn every_window_comes_back_as_it_was(window in any_window()) {
            let encoded = encode(&window, HOME).expect("it can be written");
            prop_assert_eq!(decode(&encoded.bytes, HOME).expect("it can be read"), window);
        }

        #[test]
        fn no_bytes_make_the_reader_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..300), of in v1::VERSION..=v2::VERSION) {
            if let Some(version) = bytes.first_mut() {
                *version = of;
            }
            let _ = decode(&bytes, HOME);
        }
    }
}
