//! CAN.

mod decode;

pub use decode::{Decoded, Decoder, Number};
