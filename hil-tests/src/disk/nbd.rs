//! One NBD client, from its greeting to its end.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use super::{Refusal, Shared};

const NBD_MAGIC: u64 = 0x4e42_444d_4147_4943;
const OPTION_MAGIC: u64 = 0x4948_4156_454f_5054;
const OPTION_REPLY_MAGIC: u64 = 0x0003_e889_0455_65a9;
const REQUEST_MAGIC: u32 = 0x2560_9513;
const REPLY_MAGIC: u32 = 0x6744_6698;

/// Fixed newstyle, no zeroes after the export's data.
const HANDSHAKE_FLAGS: u16 = 1 | 2;
/// Flags are valid, a flush is understood. No FUA: the guest then flushes, which is what is to be seen.
const EXPORT_FLAGS: u16 = 1 | 4;

const OPTION_EXPORT_NAME: u32 = 1;
const OPTION_ABORT: u32 = 2;
const OPTION_INFO: u32 = 6;
const OPTION_GO: u32 = 7;
const REPLY_ACK: u32 = 1;
const REPLY_INFO: u32 = 3;
const REPLY_UNSUPPORTED: u32 = (1 << 31) + 1;
const INFO_EXPORT: u16 = 0;
const INFO_BLOCK_SIZE: u16 = 3;

const READ: u16 = 0;
const WRITE: u16 = 1;
const DISCONNECT: u16 = 2;
const FLUSH: u16 = 3;

const EIO: u32 = 5;
const EINVAL: u32 = 22;

/// QEMU's largest request is 32 MiB; whoever wants more is not QEMU.
const LENGTH_MAX: u32 = 32 << 20;
/// [`super::cache::BLOCK`] on the wire.
const BLOCK_BYTES: u32 = 4096;
/// Of an option's data: a name and a few numbers.
const OPTION_BYTES_MAX: u32 = 4096;

/// Serves one client until it leaves, breaks the protocol, or the power goes.
pub(super) fn session(mut stream: UnixStream, shared: &Arc<Shared>) {
    let (life, size) = {
        let state = shared.lock();
        (state.life, state.cached.len() as u64)
    };
    // An error is the client's end: a killed QEMU, or the power. There is nobody to tell.
    let _ = greet(&mut stream, size).and_then(|go_on| if go_on { serve(&mut stream, shared, life) } else { Ok(()) });
}

/// The negotiation; whether the client wants to go on to requests.
fn greet(stream: &mut UnixStream, size: u64) -> io::Result<bool> {
    let mut hello = Vec::new();
    hello.extend(NBD_MAGIC.to_be_bytes());
    hello.extend(OPTION_MAGIC.to_be_bytes());
    hello.extend(HANDSHAKE_FLAGS.to_be_bytes());
    stream.write_all(&hello)?;
    let _client_flags = u32::from_be_bytes(take(stream)?);
    loop {
        let magic = u64::from_be_bytes(take(stream)?);
        let option = u32::from_be_bytes(take(stream)?);
        let length = u32::from_be_bytes(take(stream)?);
        if magic != OPTION_MAGIC || length > OPTION_BYTES_MAX {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut data = vec![0; length as usize];
        stream.read_exact(&mut data)?;
        match option {
            OPTION_EXPORT_NAME => {
                let mut export = size.to_be_bytes().to_vec();
                export.extend(EXPORT_FLAGS.to_be_bytes());
                stream.write_all(&export)?;
                return Ok(true);
            }
            OPTION_INFO | OPTION_GO => {
                let mut info = INFO_EXPORT.to_be_bytes().to_vec();
                info.extend(size.to_be_bytes());
                info.extend(EXPORT_FLAGS.to_be_bytes());
                answer_option(stream, option, REPLY_INFO, &info)?;
                let mut blocks = INFO_BLOCK_SIZE.to_be_bytes().to_vec();
                for size in [BLOCK_BYTES, BLOCK_BYTES, LENGTH_MAX] {
                    blocks.extend(size.to_be_bytes());
                }
                answer_option(stream, option, REPLY_INFO, &blocks)?;
                answer_option(stream, option, REPLY_ACK, &[])?;
                if option == OPTION_GO {
                    return Ok(true);
                }
            }
            OPTION_ABORT => {
                answer_option(stream, option, REPLY_ACK, &[])?;
                return Ok(false);
            }
            _ => answer_option(stream, option, REPLY_UNSUPPORTED, &[])?,
        }
    }
}

fn answer_option(stream: &mut UnixStream, option: u32, kind: u32, data: &[u8]) -> io::Result<()> {
    let length = u32::try_from(data.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let mut reply = OPTION_REPLY_MAGIC.to_be_bytes().to_vec();
    for number in [option, kind, length] {
        reply.extend(number.to_be_bytes());
    }
    reply.extend(data);
    stream.write_all(&reply)
}

fn serve(stream: &mut UnixStream, shared: &Shared, life: u64) -> io::Result<()> {
    loop {
        let magic = u32::from_be_bytes(take(stream)?);
        let _flags = u16::from_be_bytes(take(stream)?);
        let kind = u16::from_be_bytes(take(stream)?);
        let cookie: [u8; 8] = take(stream)?;
        let offset = u64::from_be_bytes(take(stream)?);
        let length = u32::from_be_bytes(take(stream)?);
        if magic != REQUEST_MAGIC || length > LENGTH_MAX {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let done = match kind {
            READ => shared.read(life, offset, length),
            WRITE => {
                let mut data = vec![0; length as usize];
                stream.read_exact(&mut data)?;
                shared.write(life, offset, &data).map(|()| Vec::new())
            }
            FLUSH => shared.flush(life).map(|()| Vec::new()),
            DISCONNECT => return Ok(()),
            _ => Err(Refusal::Invalid),
        };
        let (error, data) = match done {
            Ok(data) => (0, data),
            Err(Refusal::Io) => (EIO, Vec::new()),
            Err(Refusal::Invalid) => (EINVAL, Vec::new()),
            // Without an answer and without an end, as a disk without power: the client is killed or hangs.
            Err(Refusal::Silence) => continue,
        };
        let mut reply = REPLY_MAGIC.to_be_bytes().to_vec();
        reply.extend(u32::to_be_bytes(error));
        reply.extend(cookie);
        reply.extend(data);
        stream.write_all(&reply)?;
    }
}

fn take<const N: usize>(stream: &mut UnixStream) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes)?;
    Ok(bytes)
}
