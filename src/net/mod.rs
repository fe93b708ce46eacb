//! What a person or a broker types to say where something is on a network, and who we are there: an endpoint, a
//! broker's URL, a way out, a mirror feed, a name with its password, the PEM files of TLS. One type and one parser for each.
//!
//! In: text. Out: values that cannot be wrong, or [`InvalidAddress`], the end of a sentence that begins with the text.
//!
//! - Nothing is looked up, opened or read here: a name may not exist, a file may not be there. Those who connect say so.
//! - What is a secret stays in its file; a credential holds paths only, and may be printed.
//! - Limits: a host of 253 bytes (RFC 1035), a port of 1 to 65535, a path of 256 bytes.
//!
//! A leaf: it imports no other room.

mod broker_url;
mod credential;
mod endpoint;
mod link;
mod session_source;

pub use broker_url::BrokerUrl;
pub use credential::{Login, OwnFiles, ServerFiles, TlsFiles};
pub use endpoint::{Endpoint, InvalidAddress};
pub use link::Link;
pub use session_source::{Mirror, SessionSource};
