//! What is told of a vehicle's id, and of a session's: the one place where they pass. Pure.

use crate::spec::VehicleId;
use crate::tls;

/// A tag's value stays short.
const CHARS_MAX: usize = 64;
/// 64 bits of the digest: no two of a depot's vehicles are alike.
const DIGEST_BYTES: usize = 8;

/// What is told of a vehicle's id (EVCCID: often the address of its modem, which stays with it for life).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum VehicleIds {
    /// The id.
    #[default]
    Send,
    /// 16 hexadecimal digits that are the same for the same vehicle at this gateway, and cannot be traced back without this key.
    Hash([u8; 32]),
    /// Nothing. The key is that of the sessions' hashes.
    Omit([u8; 32]),
}

impl VehicleIds {
    /// A vehicle's name as a tag can carry it; none if nothing of it is left.
    pub(super) fn told(&self, id: &str) -> Option<VehicleId> {
        let told = match self {
            Self::Omit(_) => return None,
            Self::Send => id
                .chars()
                .take(CHARS_MAX)
                .map(|c| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.') { c } else { '-' })
                .collect(),
            Self::Hash(key) => hash(key, id.as_bytes()),
        };
        VehicleId::try_from(told).ok()
    }

    /// A SessionID in 16 hexadecimal digits. It is the station's own and should be random, but some make it of the vehicle's id: who
    /// does not tell that hashes it.
    pub(super) fn session(&self, id: u64) -> String {
        let told = format!("{id:016x}");
        match self {
            Self::Send => told,
            Self::Hash(key) | Self::Omit(key) => hash(key, &[b"session ", told.as_bytes()].concat()),
        }
    }
}

fn hash(key: &[u8; 32], id: &[u8]) -> String {
    let digest = tls::sha256(&[key.as_slice(), id].concat());
    digest.iter().take(DIGEST_BYTES).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vehicle_is_told_by_its_id_by_a_hash_of_it_or_not_at_all() {
        let told = |ids: &VehicleIds, id: &str| ids.told(id).map(|id| id.as_str().to_owned());
        assert_eq!(told(&VehicleIds::Send, "WMI/1 2").as_deref(), Some("WMI-1-2"));
        assert_eq!(told(&VehicleIds::Omit([1; 32]), "0011223344FF"), None);
        let hash = |key: u8, id| told(&VehicleIds::Hash([key; 32]), id).expect("a hash");
        assert_eq!(hash(1, "0011223344FF").len(), 16);
        assert_eq!(hash(1, "0011223344FF"), hash(1, "0011223344FF"));
        assert_ne!(hash(1, "0011223344FF"), hash(1, "0011223344FE"));
        assert_ne!(hash(1, "0011223344FF"), hash(2, "0011223344FF"));
    }

    #[test]
    fn a_session_is_told_as_it_is_only_where_vehicles_are() {
        let id = 0x0000_0011_2233_44ff;
        assert_eq!(VehicleIds::Send.session(id), "00000011223344ff");
        let hashed = VehicleIds::Hash([1; 32]).session(id);
        assert_eq!((hashed.len(), &hashed), (16, &VehicleIds::Omit([1; 32]).session(id)));
        assert!(!hashed.contains("11223344ff"));
        assert_ne!(hashed, VehicleIds::Hash([1; 32]).session(id + 1));
        assert_ne!(hashed, VehicleIds::Hash([2; 32]).session(id));
    }
}
