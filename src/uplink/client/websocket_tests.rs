use proptest::prelude::*;
use tokio::io::{DuplexStream, duplex, split};

use super::*;

/// What one side may write before the other reads: small, so that heads and frames come in pieces.
const PIPE: usize = 4096;

fn broker() -> BrokerUrl {
    "ws://a.example:80/depot".parse().expect("a URL")
}

/// Up to the end of the request's head.
async fn request(server: &mut DuplexStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(server.read_u8().await.expect("a request"));
    }
    String::from_utf8(head).expect("text")
}

/// A WebSocket with the server's end of its pipe; `changed` is done to a good answer before it is sent.
async fn opened(pipe: usize, changed: impl Fn(String) -> Vec<u8>) -> Result<(WebSocket, DuplexStream), Loss> {
    let (client, mut server) = duplex(pipe);
    let answer = async {
        let request = request(&mut server).await;
        let key = request.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Key: ")).expect("a key");
        let accept = derive_accept_key(key.as_bytes());
        let good = format!(
            "HTTP/1.1 101 Switching Protocols\r\nupgrade: WebSocket\r\nConnection: keep-alive, Upgrade\r\n\
             Sec-WebSocket-Accept: {accept}\r\nsec-websocket-protocol: mqtt\r\n\r\n"
        );
        server.write_all(&changed(good)).await.expect("it listens");
        request
    };
    let broker = broker();
    let (upgraded, request) = tokio::join!(upgrade(Box::new(client), &broker, "/depot"), answer);
    assert!(request.starts_with("GET /depot HTTP/1.1\r\nHost: a.example\r\n"), "{request}");
    assert!(request.contains("\r\nSec-WebSocket-Protocol: mqtt\r\n"), "{request}");
    upgraded.map(|socket| (socket, server))
}

/// What becomes of an upgrade that is answered with these bytes, and then with the end.
async fn refused(answer: &[u8]) -> Loss {
    let (client, mut server) = duplex(PIPE);
    let answering = async move {
        request(&mut server).await;
        let _ = server.write_all(answer).await;
    };
    let broker = broker();
    match tokio::join!(upgrade(Box::new(client), &broker, "/depot"), answering).0 {
        Ok(_) => panic!("{} was taken", String::from_utf8_lossy(answer)),
        Err(loss) => loss,
    }
}

/// A frame of a server: not masked.
fn frame(opcode: u8, is_final: bool, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![opcode | if is_final { 0x80 } else { 0 }];
    match u16::try_from(payload.len()) {
        Ok(length @ 0..126) => frame.push(length.to_be_bytes()[1]),
        Ok(length) => frame.extend([&[126][..], &length.to_be_bytes()].concat()),
        Err(_) => frame.extend([&[127][..], &(payload.len() as u64).to_be_bytes()].concat()),
    }
    frame.extend_from_slice(payload);
    frame
}

/// The frames of a client: opcode and payload, unmasked here.
fn frames(mut bytes: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut found = Vec::new();
    while let [first, second, rest @ ..] = bytes {
        assert!(second & 0x80 != 0, "a client masks");
        assert!(first & 0x80 != 0, "whole messages");
        let (length, rest) = match second & 0x7f {
            126 => (usize::from(u16::from_be_bytes([rest[0], rest[1]])), &rest[2..]),
            127 => panic!("a frame above 64 KiB"),
            short => (usize::from(short), rest),
        };
        let (mask, rest) = rest.split_at(4);
        let payload = rest[..length].iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
        found.push((first & 0x0f, payload));
        bytes = &rest[length..];
    }
    assert!(bytes.is_empty(), "half a frame");
    found
}

#[tokio::test]
async fn every_refusal_of_the_upgrade_has_its_own_words_and_its_own_cure() {
    let moved = "HTTP/1.1 301 Moved Permanently\r\nLocation: https://b.example/x\r\n\r\n";
    let go = "HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n";
    let cases: [(&[u8], &str, &str); 18] = [
        (b"HTTP/1.1 404 Not Found\r\n\r\n", "HTTP 404 (\"Not Found\") at /depot", "correct the path"),
        (b"HTTP/1.1 401 Unauthorized\r\n\r\n", "HTTP 401", "[uplink] username"),
        (b"HTTP/1.1 403 Forbidden\r\n\r\n", "HTTP 403", "client certificate"),
        (b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", "HTTP 407", "has none for proxies"),
        (moved.as_bytes(), "points to https://b.example/x", "redirects are not followed"),
        (b"HTTP/1.1 200 OK\r\n\r\n<html>", "a page came", "hand on Upgrade and Connection"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\nno", "not understood", "check port and path"),
        (b"HTTP/1.1 405 Method Not Allowed\r\n\r\n", "HTTP 405", "correct the path"),
        (b"HTTP/1.1 429\r\n\r\n", "HTTP 429 at", "tries again"),
        (b"HTTP/1.1 503 Service Unavailable\r\n\r\n", "no broker behind", "is the broker running"),
        (b"HTTP/1.1 500 Oops\r\n\r\n", "HTTP 500", "log of the server"),
        (go.as_bytes(), "speaks TLS", "wss://"),
        (&[0x15, 3, 3, 0, 2, 2, 10], "speaks TLS", "wss://"),
        (&[0x20, 2, 0, 1], "speaks MQTT without WebSocket", "mqtt://"),
        (b"SSH-2.0-x\r\n", "does not speak HTTP", "check host and port"),
        (b"", "in place of an answer", "wss:// or mqtt://"),
        (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", "lacks \"Upgrade: websocket\"", "a proxy between"),
        (b"HTTP/1.1 1", "in place of an answer", "wss:// or mqtt://"),
    ];
    for (answer, what, remedy) in cases {
        let loss = refused(answer).await;
        assert!(loss.what.contains(what) && loss.remedy.contains(remedy), "{loss:?}");
    }
    let endless = [b"HTTP/1.1 200 OK\r\nx: ".as_slice(), &vec![b'y'; 2 * HEAD_BYTES_MAX]].concat();
    assert!(refused(&endless).await.what.contains("does not speak HTTP"));
}

#[tokio::test]
async fn an_answer_that_is_not_the_one_to_our_request_is_refused() {
    let changed = async |from: &str, to: &str| match opened(PIPE, |good| good.replace(from, to).into_bytes()).await {
        Ok(_) => panic!("{to} was taken"),
        Err(loss) => loss.what,
    };
    assert!(changed("keep-alive, Upgrade", "close").await.contains("Connection: Upgrade"));
    assert!(changed("Accept: ", "Accept: x").await.contains("Sec-WebSocket-Accept"));
    assert!(
        changed("\r\n\r\n", "\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n").await.contains("extension")
    );
    assert!(changed("protocol: mqtt", "protocol: mqttv3.1").await.contains("the subprotocol mqttv3.1, not mqtt"));
    assert!(changed("sec-websocket-protocol: mqtt\r\n", "").await.contains("no subprotocol"));
}

#[tokio::test]
async fn what_ends_a_websocket_is_named() {
    let close = |code: u16| frame(8, true, &[&code.to_be_bytes()[..], b"why\x07"].concat());
    let too_large = [vec![0x82, 127], (MESSAGE_BYTES_MAX as u64 + 1).to_be_bytes().to_vec()].concat();
    for (bytes, what, remedy) in [
        (close(1001), "going away (1001) (\"why \")", "anew by itself"),
        (close(1008), "policy violation (1008)", "a rule"),
        (close(1009), "message too big (1009)", "raise the limit"),
        (close(1003), "unsupported data (1003)", "path"),
        (close(4001), "code 4001", "log"),
        (frame(8, true, &[]), "no reason given", "anew by itself"),
        (frame(1, true, b"text"), "a text frame", "path"),
        (too_large, &format!("{} bytes came", MESSAGE_BYTES_MAX + 1), "maximum packet size"),
        (frame(3, true, b""), "not in its form", "a proxy between"),
    ] {
        let (mut socket, mut server) = opened(PIPE, String::into_bytes).await.expect("opened");
        server.write_all(&bytes).await.expect("it listens");
        let error = socket.read_u8().await.expect_err(what);
        let loss = io_loss(&error);
        assert!(loss.what.contains(what) && loss.remedy.contains(remedy), "{loss:?}");
        if bytes[0] == 0x88 {
            drop(socket);
            let mut answer = Vec::new();
            server.read_to_end(&mut answer).await.expect("read");
            assert_eq!(frames(&answer).first().map(|(opcode, _)| *opcode), Some(8), "a close is answered");
        }
    }
    let (mut socket, server) = opened(PIPE, String::into_bytes).await.expect("opened");
    drop(server);
    assert_eq!(socket.read(&mut [0; 8]).await.expect("an end as on TCP"), 0);
}

#[tokio::test]
async fn a_frame_that_comes_in_one_piece_with_the_answer_is_read() {
    let both = |good: String| [good.into_bytes(), frame(2, true, b"first")].concat();
    let (mut socket, _server) = opened(PIPE, both).await.expect("opened");
    let mut read = [0; 5];
    socket.read_exact(&mut read).await.expect("five bytes");
    assert_eq!(&read, b"first");
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(future)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn bytes_come_out_the_same_however_they_are_cut_into_frames(
        bytes in prop::collection::vec(any::<u8>(), 1..3_000),
        cuts in prop::collection::vec((1_usize..400, any::<bool>(), 0_u8..4), 1..20),
        pipe in 1_usize..200,
        room in 1_usize..300,
    ) {
        let (mut wire, mut at, mut is_within, mut pings) = (Vec::new(), 0, false, 0);
        for (length, is_final, between) in cuts.into_iter().cycle() {
            let end = (at + length).min(bytes.len());
            let is_final = is_final || end == bytes.len();
            wire.extend(frame(if is_within { 0 } else { 2 }, is_final, &bytes[at..end]));
            (at, is_within) = (end, !is_final);
            match between {
                1 => { wire.extend(frame(9, true, b"ping")); pings += 1; }
                2 => wire.extend(frame(10, true, b"")),
                3 => wire.extend(frame(if is_within { 0 } else { 2 }, !is_within, b"")),
                _ => {}
            }
            if at == bytes.len() { break; }
        }
        let (read, heard) = block_on(async {
            let (mut socket, server) = opened(pipe, String::into_bytes).await.expect("opened");
            let (mut from, mut to) = split(server);
            let sending = async move {
                to.write_all(&wire).await.expect("it listens");
                to.shutdown().await.expect("an end");
            };
            let mut heard = Vec::new();
            let hearing = from.read_to_end(&mut heard);
            let reading = async move {
                let (mut read, mut buffer) = (Vec::new(), vec![0; room]);
                loop {
                    match socket.read(&mut buffer).await.expect("well formed") {
                        0 => break,
                        length => read.extend_from_slice(&buffer[..length]),
                    }
                }
                socket.flush().await.expect("it listens");
                read
            };
            let ((), read, _) = tokio::join!(sending, reading, hearing);
            (read, heard)
        });
        prop_assert_eq!(read, bytes);
        let pongs = frames(&heard);
        prop_assert!(pongs.iter().all(|(opcode, payload)| (*opcode, payload.as_slice()) == (10, b"ping")));
        // RFC 6455, 5.5.3: to answer the latest is enough.
        prop_assert!(pongs.len() <= pings && (pings == 0 || !pongs.is_empty()), "{} of {}", pongs.len(), pings);
    }

    #[test]
    fn bytes_go_out_whole_in_frames_of_bounded_size_and_end_with_a_close(
        parts in prop::collection::vec(1_usize..40_000, 1..4),
        pipe in 1_usize..9_000,
    ) {
        let bytes: Vec<u8> = (0..parts.iter().sum::<usize>()).map(|n| n.to_le_bytes()[0]).collect();
        let heard = block_on(async {
            let (mut socket, mut server) = opened(pipe, String::into_bytes).await.expect("opened");
            let mut heard = Vec::new();
            let writing = async {
                let mut at = 0;
                for part in &parts {
                    socket.write_all(&bytes[at..at + part]).await.expect("it listens");
                    at += part;
                }
                socket.flush().await.expect("it listens");
                socket.shutdown().await.expect("it listens");
                drop(socket);
            };
            tokio::join!(writing, server.read_to_end(&mut heard)).1.expect("read");
            heard
        });
        let mut frames = frames(&heard);
        prop_assert_eq!(frames.pop().map(|(opcode, _)| opcode), Some(8));
        prop_assert!(frames.iter().all(|(opcode, payload)| *opcode == 2 && (1..=FRAME_BYTES_MAX).contains(&payload.len())));
        prop_assert_eq!(frames.into_iter().flat_map(|(_, payload)| payload).collect::<Vec<u8>>(), bytes);
    }
}
