//! Numbers in as few bytes as give back the same bits.
//!
//! Meters and chargers count in tenths and thousandths, or in 32-bit floats, often of watts where the wire wants
//! kilowatts. So a number is tried as a short decimal, then as such a float, and only then kept as it is. Each try is
//! kept only if reading gives back exactly the same bits.

use crate::journal::disk::chunk::Damage;

/// Decimals that are tried: 10^0 to 10^6.
const POWERS: [f64; 7] = [1.0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6];
/// Beyond this a decimal is no shorter than a float: four bytes of 7 bits, one bit for the sign.
const MANTISSA_MAX: f64 = 134_217_727.0;

/// Code of a 32-bit float; codes below are the number of decimals.
pub(in crate::journal) const CODE_F32: u8 = 7;
/// Code of a 32-bit float divided by 1000.
const CODE_F32_MILLI: u8 = 8;
/// Code of a 64-bit float.
const CODE_F64: u8 = 9;

/// Appends `value` to `bytes` and answers how it is written: a code of 0 to 9.
pub(in crate::journal) fn write(value: f64, bytes: &mut Vec<u8>) -> u8 {
    for (code, power) in (0_u8..).zip(POWERS) {
        let scaled = (value * power).round();
        // Minus zero is not a whole number's.
        if scaled.abs() <= MANTISSA_MAX && (scaled + 0.0) / power == value && value.to_bits() != (-0.0_f64).to_bits() {
            #[allow(clippy::cast_possible_truncation, reason = "a whole number, bounded on the line above")]
            write_signed(scaled as i64, bytes);
            return code;
        }
    }
    for (code, factor) in [(CODE_F32, 1.0), (CODE_F32_MILLI, 1e3)] {
        #[allow(clippy::cast_possible_truncation, reason = "kept only if nothing is lost")]
        let short = (value * factor) as f32;
        if (f64::from(short) / factor).to_bits() == value.to_bits() {
            bytes.extend_from_slice(&short.to_le_bytes());
            return code;
        }
    }
    bytes.extend_from_slice(&value.to_le_bytes());
    CODE_F64
}

/// Reads what [`write`] has written with this code, and moves `bytes` behind it.
pub(in crate::journal) fn read(code: u8, bytes: &mut &[u8]) -> Result<f64, Damage> {
    match code {
        CODE_F32 => Ok(f64::from(f32::from_le_bytes(take(bytes)?))),
        CODE_F32_MILLI => Ok(f64::from(f32::from_le_bytes(take(bytes)?)) / 1e3),
        CODE_F64 => Ok(f64::from_le_bytes(take(bytes)?)),
        decimals => {
            let power = POWERS.get(usize::from(decimals)).ok_or(Damage::Content)?;
            #[allow(clippy::cast_precision_loss, reason = "at most 27 bits when we wrote it")]
            Ok(read_signed(bytes)? as f64 / power)
        }
    }
}

/// Appends a whole number, near zero the shortest.
pub(in crate::journal) fn write_signed(value: i64, bytes: &mut Vec<u8>) {
    let mut rest = ((value << 1) ^ (value >> 63)).cast_unsigned();
    while rest >= 0x80 {
        bytes.push((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    bytes.push((rest & 0x7f) as u8);
}

/// Reads what [`write_signed`] has written.
pub(in crate::journal) fn read_signed(bytes: &mut &[u8]) -> Result<i64, Damage> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let [byte] = take(bytes)?;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok((value >> 1).cast_signed() ^ -(value & 1).cast_signed());
        }
    }
    Err(Damage::Content)
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Result<[u8; N], Damage> {
    let (head, rest) = bytes.split_first_chunk::<N>().ok_or(Damage::Content)?;
    *bytes = rest;
    Ok(*head)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn length_of(value: f64) -> usize {
        let mut bytes = Vec::new();
        write(value, &mut bytes);
        bytes.len()
    }

    #[test]
    fn what_meters_say_is_short() {
        assert_eq!(length_of(0.0), 1);
        assert_eq!(length_of(230.1), 2, "volts in tenths");
        assert_eq!(length_of(7.2005), 3, "kilowatts from watts in tenths");
        assert_eq!(length_of(f64::from(229.873_5_f32)), 4, "a 32-bit float");
        assert_eq!(length_of(f64::from(7_200.53_f32) / 1e3), 4, "kilowatts from a 32-bit float of watts");
        assert_eq!(length_of(-0.0), 4, "minus zero is not zero");
    }

    proptest! {
        #[test]
        fn every_number_comes_back_to_the_last_bit(bits in any::<u64>(), thousandths in any::<i32>(), float in any::<f32>()) {
            for value in [f64::from_bits(bits), f64::from(thousandths) / 1e3, f64::from(float), f64::from(float) / 1e3] {
                let mut bytes = Vec::new();
                let code = write(value, &mut bytes);
                prop_assert!(code <= 9);
                let mut rest = bytes.as_slice();
                let back = read(code, &mut rest).expect("what was written can be read");
                // A signalling NaN may come back quiet through a 32-bit float; floats here are finite.
                prop_assert!(back.to_bits() == value.to_bits() || value.is_nan());
                prop_assert!(rest.is_empty());
            }
        }

        #[test]
        fn every_whole_number_comes_back(value in any::<i64>()) {
            let mut bytes = Vec::new();
            write_signed(value, &mut bytes);
            prop_assert_eq!(read_signed(&mut bytes.as_slice()), Ok(value));
        }
    }
}
