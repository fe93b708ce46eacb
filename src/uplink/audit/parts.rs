//! Parts of a batch, until all are there. Pure.

use std::collections::{BTreeMap, HashMap};

use super::judge::Message;
use crate::uplink::wire;

/// Batches of which some parts are still to come; a broker's outage leaves some for ever, and the oldest then go.
const WAITING_MAX: usize = 64;

/// Topic, gateway, epoch, number, and how many parts.
type Key = (String, Vec<(String, String)>, usize);

/// What has come of each.
#[derive(Debug, Default)]
pub(super) struct Parts {
    waiting: HashMap<Key, (u64, BTreeMap<usize, String>)>,
    turn: u64,
}

impl Parts {
    /// The whole message: at once if it is one, or with its last part; `None` while parts are lacking.
    pub(super) fn take(&mut self, message: &Message) -> Option<Message> {
        let Some((n, count)) = wire::part(&message.properties) else { return Some(message.clone()) };
        let properties = wire::without_part(&message.properties);
        let key = (message.topic.clone(), properties, count);
        self.turn += 1;
        let (_, parts) = self.waiting.entry(key.clone()).or_insert((self.turn, BTreeMap::new()));
        parts.insert(n, String::from_utf8_lossy(&message.payload).into_owned());
        if parts.len() < count {
            if self.waiting.len() > WAITING_MAX {
                let oldest = self.waiting.iter().min_by_key(|(_, (turn, _))| *turn).map(|(key, _)| key.clone());
                oldest.map(|key| self.waiting.remove(&key));
            }
            return None;
        }
        let (_, parts) = self.waiting.remove(&key)?;
        let (topic, properties, _) = key;
        let payload = wire::join(parts.values().map(String::as_str)).into_bytes();
        Some(Message { topic, payload, properties, received_ns: message.received_ns })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_whole_with_its_last_part_in_any_order_and_after_repeats() {
        let part = |n: usize, payload: &str| Message {
            topic: "t/telemetry".to_owned(),
            payload: payload.as_bytes().to_vec(),
            properties: vec![("seq".to_owned(), "1".to_owned()), ("part".to_owned(), format!("{n}/2"))],
            received_ns: 7,
        };
        let mut parts = Parts::default();
        assert_eq!(parts.take(&part(2, "h s=1 1\nm b=2 1")), None);
        assert_eq!(parts.take(&part(2, "h s=1 1\nm b=2 1")), None);
        let whole = parts.take(&part(1, "h s=1 1\nm a=1 1")).expect("all are there");
        assert_eq!(String::from_utf8_lossy(&whole.payload), "h s=1 1\nm a=1,b=2 1");
        assert_eq!(whole.properties, [("seq".to_owned(), "1".to_owned())]);
    }
}
