#![doc = include_str!("ARCHITECTURE.md")]
#![forbid(unsafe_code)]

pub mod agent;
pub mod aggregate;
pub mod api;
pub mod cli;
pub mod config;
pub mod derive;
pub mod health;
pub mod journal;
pub mod live;
pub mod measure;
pub mod net;
pub mod normalise;
pub mod source;
pub mod spec;
pub mod tls;
pub mod uplink;
