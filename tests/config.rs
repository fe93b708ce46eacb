//! The configuration as an operator meets it: the manual is valid, and mistakes are told all at once, each with
//! its line and what to write instead.

#[path = "config/can.rs"]
mod can;
#[path = "config/derived.rs"]
mod derived;
#[path = "config/manual.rs"]
mod manual;
#[path = "config/mistakes.rs"]
mod mistakes;
#[path = "config/not_toml.rs"]
mod not_toml;
#[path = "config/plausibility.rs"]
mod plausibility;
#[path = "config/profiles.rs"]
mod profiles;
#[path = "config/serial.rs"]
mod serial;
#[path = "config/sessions.rs"]
mod sessions;
#[path = "config/site.rs"]
mod site;
#[path = "config/stage.rs"]
mod stage;
#[path = "config/twice.rs"]
mod twice;
