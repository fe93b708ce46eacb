//! Where a partition lies on a disk: as much of a GPT (UEFI 2.10, 5.3) as that takes, for disks with sectors of 512 bytes.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

const SECTOR: u64 = 512;
/// A GPT's entry: type, identity, first and last sector, attributes, name in UTF-16.
const ENTRY_BYTES: usize = 128;
const ENTRIES: usize = 128;
const FIRST_AT: usize = 32;
const LAST_AT: usize = 40;
const NAME_AT: usize = 56;
/// Entries begin in sector 2.
const ENTRIES_AT: u64 = 2 * SECTOR;

/// Begin and length of the partition of this name, bytes.
pub fn partition(disk: &File, name: &str) -> io::Result<(u64, u64)> {
    let mut table = vec![0; ENTRIES * ENTRY_BYTES];
    disk.read_exact_at(&mut table, ENTRIES_AT)?;
    let number = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().expect("eight bytes"));
    let found = table.chunks_exact(ENTRY_BYTES).find(|entry| {
        let units = entry[NAME_AT..].chunks_exact(2).map(|unit| u16::from_le_bytes([unit[0], unit[1]]));
        char::decode_utf16(units.take_while(|&unit| unit != 0)).map(|c| c.unwrap_or('?')).eq(name.chars())
    });
    let entry = found.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("no partition {name}")))?;
    let (first, last) = (number(&entry[FIRST_AT..][..8]), number(&entry[LAST_AT..][..8]));
    Ok((first * SECTOR, (last + 1 - first) * SECTOR))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_is_found_by_its_name() {
        let disk = tempfile::tempfile().expect("a temporary file");
        let mut table = vec![0; ENTRIES * ENTRY_BYTES];
        for (number, name) in ["boot", "data"].into_iter().enumerate() {
            let entry = &mut table[number * ENTRY_BYTES..][..ENTRY_BYTES];
            entry[FIRST_AT..][..8].copy_from_slice(&(2048 * (number as u64 + 1)).to_le_bytes());
            entry[LAST_AT..][..8].copy_from_slice(&(2048 * (number as u64 + 2) - 1).to_le_bytes());
            for (place, unit) in entry[NAME_AT..].chunks_exact_mut(2).zip(name.encode_utf16()) {
                place.copy_from_slice(&unit.to_le_bytes());
            }
        }
        disk.write_all_at(&table, ENTRIES_AT).expect("it takes it");
        assert_eq!(partition(&disk, "data").expect("it is there"), (2 << 20, 1 << 20));
        assert!(partition(&disk, "dat").is_err());
    }
}
