//! A batch in parts, for a broker whose maximum packet size is below it; and the way back. Pure.
//!
//! Every part is a batch of its own for a database: it begins with the batch's own line, and all its lines are whole. A
//! line that is too long by itself is cut between two fields: both pieces have the same series and the same time, which a
//! database puts together. The user property `part` is `2/3`. Put together again ([`join`]) the payload is the same to
//! the byte as that of the batch in one piece.

use super::batch::Batch;

const PART: &str = "part";
/// `part`, up to `9999/9999`, and its five bytes of form.
const PART_BYTES: usize = 5 + PART.len() + 9;
/// More would be for packets smaller than any broker allows.
const PARTS_MAX: usize = 9_999;

/// The batch as packets of at most so many bytes: itself if it fits. `Err` gives it back if a single field does not fit.
pub(in crate::uplink) fn split(batch: Batch, packet_bytes_max: usize) -> Result<Vec<Batch>, Batch> {
    if batch.packet_bytes() <= packet_bytes_max {
        return Ok(vec![batch]);
    }
    let (head, rest) = batch.payload.split_once('\n').unwrap_or((&batch.payload, ""));
    let frame = batch.packet_bytes() - batch.payload.len() + PART_BYTES + head.len();
    let Some(room) = packet_bytes_max.checked_sub(frame) else { return Err(batch) };
    let Some(bodies) = bodies(rest, room).filter(|bodies| bodies.len() <= PARTS_MAX) else { return Err(batch) };
    let count = bodies.len();
    let part = |(n, body): (usize, String)| {
        let mut properties = batch.properties.clone();
        properties.push((PART.to_owned(), format!("{}/{count}", n + 1)));
        Batch { topic: batch.topic.clone(), properties, payload: format!("{head}{body}") }
    };
    Ok(bodies.into_iter().enumerate().map(part).collect())
}

/// Lines, each behind its `\n`, put together to at most so many bytes.
fn bodies(lines: &str, room: usize) -> Option<Vec<String>> {
    let mut bodies = vec![String::new()];
    for line in lines.split_terminator('\n') {
        for piece in pieces(line, room)? {
            let full = bodies.last().is_none_or(|body| body.len() + 1 + piece.len() > room);
            if full {
                bodies.push(String::new());
            }
            let body = bodies.last_mut()?;
            body.push('\n');
            body.push_str(&piece);
        }
    }
    bodies.retain(|body| !body.is_empty());
    Some(bodies)
}

/// A line as lines of at most so many bytes with the `\n` before them.
fn pieces(line: &str, room: usize) -> Option<Vec<String>> {
    if line.len() < room {
        return Some(vec![line.to_owned()]);
    }
    let Cut { series, fields, time } = Cut::of(line)?;
    let own = 1 + series.len() + 1 + 1 + time.len();
    let mut found: Vec<String> = Vec::new();
    for field in split_fields(fields) {
        match found.last_mut() {
            Some(group) if own + group.len() + 1 + field.len() <= room => {
                group.push(',');
                group.push_str(field);
            }
            _ if own + field.len() <= room => found.push(field.to_owned()),
            _ => return None,
        }
    }
    Some(found.into_iter().map(|fields| format!("{series} {fields} {time}")).collect())
}

/// A line's three parts.
struct Cut<'a> {
    series: &'a str,
    fields: &'a str,
    time: &'a str,
}

impl<'a> Cut<'a> {
    fn of(line: &'a str) -> Option<Self> {
        let (series, rest) = line.split_at(bare(line, ' ')?);
        let (fields, time) = rest[1..].rsplit_once(' ')?;
        Some(Self { series, fields, time })
    }
}

/// Where `wanted` stands without a backslash before it and outside of quotation marks.
fn bare(text: &str, wanted: char) -> Option<usize> {
    let (mut escaped, mut quoted) = (false, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => quoted = !quoted,
            c if c == wanted && !quoted => return Some(at),
            _ => {}
        }
    }
    None
}

fn split_fields(mut fields: &str) -> Vec<&str> {
    let mut found = Vec::new();
    while let Some(at) = bare(fields, ',') {
        found.push(&fields[..at]);
        fields = &fields[at + 1..];
    }
    found.push(fields);
    found
}

/// Number and count, of a message in parts.
pub(in crate::uplink) fn part(properties: &[(String, String)]) -> Option<(usize, usize)> {
    let (_, text) = properties.iter().find(|(key, _)| key == PART)?;
    let (n, count) = text.split_once('/')?;
    let (n, count) = (n.parse().ok()?, count.parse().ok()?);
    (n >= 1 && n <= count && count <= PARTS_MAX).then_some((n, count))
}

/// The properties of the whole.
pub(in crate::uplink) fn without_part(properties: &[(String, String)]) -> Vec<(String, String)> {
    properties.iter().filter(|(key, _)| key != PART).cloned().collect()
}

/// The payload of the whole, of all parts in order.
pub(in crate::uplink) fn join<'a>(parts: impl IntoIterator<Item = &'a str>) -> String {
    let mut whole = String::new();
    for (n, part) in parts.into_iter().enumerate() {
        for line in part.lines().skip(usize::from(n > 0)) {
            let last = whole.rsplit('\n').next().and_then(Cut::of);
            let more = match (last, Cut::of(line)) {
                (Some(last), Some(next)) if last.series == next.series && last.time == next.time => {
                    Some((whole.len() - last.time.len() - 1, next.fields, next.time))
                }
                _ => None,
            };
            if let Some((at, fields, time)) = more {
                whole.truncate(at);
                whole.push(',');
                whole.push_str(fields);
                whole.push(' ');
                whole.push_str(time);
            } else {
                if !whole.is_empty() {
                    whole.push('\n');
                }
                whole.push_str(line);
            }
        }
    }
    whole
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn batch(payload: &str) -> Batch {
        let properties = vec![("gateway".to_owned(), "gw".to_owned())];
        Batch { topic: "v2g/a/gw/telemetry".to_owned(), properties, payload: payload.to_owned() }
    }

    #[test]
    fn what_fits_is_one_message_and_says_nothing_of_parts() {
        let whole = batch("gateway,gateway=gw seq=1i 5\nmeter,device=a x=1 5");
        assert_eq!(split(whole.clone(), whole.packet_bytes()), Ok(vec![whole]));
    }

    #[test]
    fn a_line_is_cut_between_fields_and_not_inside_of_a_text() {
        let line = r#"event,kind=a\ b,site=x one="a, b \" c",two=2i,three=3 77"#;
        let found = pieces(line, 1 + line.len() - 1).expect("its fields fit");
        assert_eq!(
            found,
            [r#"event,kind=a\ b,site=x one="a, b \" c",two=2i 77"#, r"event,kind=a\ b,site=x three=3 77"]
        );
        assert_eq!(pieces(line, 30), None, "a field alone is longer");
    }

    proptest! {
        #[test]
        fn parts_keep_to_the_size_and_make_the_same_whole(
            lines in prop::collection::vec((0_u8..4, prop::collection::vec("[a-z ,\\\\=]{0,12}", 1..12)), 1..20),
            bytes_max in 180_usize..600,
        ) {
            let mut payload = "gateway,gateway=gw seq=1i,time_trust=\"synced\",version=2i 5".to_owned();
            for (n, (device, fields)) in lines.iter().enumerate() {
                let escaped = |text: &String| text.replace('\\', "\\\\").replace('"', "\\\"");
                let fields: Vec<String> = fields.iter().enumerate().map(|(n, text)| format!("f{n}=\"{}\"", escaped(text))).collect();
                // No series twice at one time: the contract.
                payload.push_str(&format!("\nmeter,device=d{device} {} {}", fields.join(","), n + 5));
            }
            let whole = batch(&payload);
            match split(whole.clone(), bytes_max) {
                Ok(parts) => {
                    prop_assert!(parts.iter().all(|part| part.packet_bytes() <= bytes_max));
                    prop_assert_eq!(join(parts.iter().map(|part| part.payload.as_str())), payload);
                    if let [_, .., last] = &parts[..] {
                        prop_assert_eq!(part(&last.properties), Some((parts.len(), parts.len())));
                        prop_assert_eq!(without_part(&last.properties), whole.properties);
                    }
                }
                Err(back) => prop_assert_eq!(back, whole),
            }
        }
    }
}
