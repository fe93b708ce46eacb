//! Batches that a small maximum packet size has cut into parts: put together here before they are judged.
//!
//! The contract: user property `part` = `2/3`; every part begins with the batch's own line; a line that goes on in the
//! next part has the same series and time there.

use std::collections::{BTreeMap, HashMap};

use super::Message;

/// Topic, properties without `part`, and count.
type Key = (String, Vec<(String, String)>, u32);

#[derive(Debug, Default)]
pub(super) struct Parts(HashMap<Key, BTreeMap<u32, Message>>);

impl Parts {
    /// The whole; `None` while something of it is lacking; an error if it says nonsense.
    pub(super) fn take(&mut self, message: &Message) -> Result<Option<Message>, String> {
        let told: Vec<&String> = message.user_properties.iter().filter(|(k, _)| k == "part").map(|(_, v)| v).collect();
        let text = match told[..] {
            [] => return Ok(Some(message.clone())),
            [text] => text,
            _ => return Err("it has several user properties part".to_owned()),
        };
        let numbers = text.split_once('/').and_then(|(n, of)| Some((n.parse().ok()?, of.parse().ok()?)));
        let Some((n, of)) = numbers.filter(|(n, of): &(u32, u32)| (1..=*of).contains(n) && *of > 1) else {
            return Err(format!("user property part is {text:?}"));
        };
        let rest: Vec<_> = message.user_properties.iter().filter(|(k, _)| k != "part").cloned().collect();
        let key = (message.topic.clone(), rest.clone(), of);
        let parts = self.0.entry(key.clone()).or_default();
        parts.insert(n, message.clone());
        if parts.len() < of as usize {
            return Ok(None);
        }
        let parts = self.0.remove(&key).unwrap_or_default();
        let mut lines: Vec<String> = Vec::new();
        for (n, part) in &parts {
            let text = std::str::from_utf8(&part.payload).map_err(|error| error.to_string())?;
            for (at, line) in text.split('\n').enumerate() {
                match (at, lines.first()) {
                    (0, Some(head)) if head != line => {
                        return Err(format!("part {n} begins with another line: {line:?}"));
                    }
                    (0, Some(_)) => {}
                    _ => match lines.last_mut() {
                        Some(last) if at == 1 && goes_on(last, line) => append(last, line),
                        _ => lines.push(line.to_owned()),
                    },
                }
            }
        }
        let intact = parts.values().all(|part| part.intact);
        Ok(Some(Message { payload: lines.join("\n").into_bytes(), user_properties: rest, intact, ..message.clone() }))
    }
}

/// Series, fields and time: the series ends at the first space without a backslash, the time begins after the last.
fn thirds(line: &str) -> Option<(&str, &str, &str)> {
    let bytes = line.as_bytes();
    let end = (1..bytes.len()).find(|at| bytes[*at] == b' ' && bytes[at - 1] != b'\\')?;
    let (fields, time) = line[end + 1..].rsplit_once(' ')?;
    Some((&line[..end], fields, time))
}

fn goes_on(last: &str, next: &str) -> bool {
    match (thirds(last), thirds(next)) {
        (Some((series, _, time)), Some((next_series, _, next_time))) => (series, time) == (next_series, next_time),
        _ => false,
    }
}

fn append(last: &mut String, next: &str) {
    if let (Some((series, fields, time)), Some((_, more, _))) = (thirds(last), thirds(next)) {
        *last = format!("{series} {fields},{more} {time}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_make_a_whole_and_a_part_that_begins_otherwise_is_a_fault() {
        let part = |n: u32, payload: &str| Message {
            topic: "v2g/a/b/telemetry".to_owned(),
            payload: payload.as_bytes().to_vec(),
            intact: true,
            user_properties: vec![("part".to_owned(), format!("{n}/2"))],
            content_type: None,
            payload_is_utf8: true,
            qos: 1,
            retain: false,
            received_ns: 0,
        };
        let mut parts = Parts::default();
        assert_eq!(parts.take(&part(1, "gateway a=1 5\nmeter,d=x\\ y p=1 5")), Ok(None));
        let whole = parts.take(&part(2, "gateway a=1 5\nmeter,d=x\\ y q=\"s t\" 5\nevent r=1 5"));
        let whole = whole.expect("no fault").expect("all is there");
        assert_eq!(
            String::from_utf8_lossy(&whole.payload),
            "gateway a=1 5\nmeter,d=x\\ y p=1,q=\"s t\" 5\nevent r=1 5"
        );
        assert_eq!(parts.take(&part(1, "gateway a=1 5\nmeter p=1 5")), Ok(None));
        assert!(parts.take(&part(2, "gateway a=2 5\nmeter p=1 5")).is_err());
        assert!(
            parts
                .take(&Message { user_properties: vec![("part".to_owned(), "3/2".to_owned())], ..part(1, "") })
                .is_err()
        );
    }
}
