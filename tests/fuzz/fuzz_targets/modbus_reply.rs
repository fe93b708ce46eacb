//! Whatever comes over a wire: no bytes make the reply decoder panic, and what it takes for a reply is one to the byte.

#![no_main]

use hal::reply::{Content, Head, Reply, crc16, serial_head, tcp_head};
use libfuzzer_sys::fuzz_target;

/// What a reply looks like without framing.
fn said(reply: &Reply) -> Vec<u8> {
    match &reply.content {
        Content::Exception(code) => vec![reply.unit, reply.function | 0x80, *code],
        Content::Words(words) => {
            let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
            [vec![reply.unit, reply.function, bytes.len() as u8], bytes].concat()
        }
    }
}

fuzz_target!(|bytes: &[u8]| {
    if let Head::Reply(reply, length) = serial_head(bytes) {
        let said = said(&reply);
        let frame = [said.clone(), crc16(&said).to_le_bytes().to_vec()].concat();
        assert_eq!(frame, bytes[..length]);
    }
    if let (Head::Reply(reply, length), _) = tcp_head(bytes) {
        assert_eq!(said(&reply), bytes[6..length]);
    }
    // The same bytes with a right CRC: what noise cannot reach.
    if (3..=253).contains(&bytes.len()) {
        let framed = [bytes, &crc16(bytes).to_le_bytes()].concat();
        if let Head::Reply(reply, length) = serial_head(&framed) {
            assert!(length <= framed.len());
            assert!(matches!(reply.function, 3 | 4));
        }
    }
});
