//! Where profiles come from: the ones built into the program, and the operator's own in `devices/` beside the
//! configuration file. An own profile of the same name takes the place of the built-in one, and may extend it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::rc::Rc;

use super::built_in;
use super::dbc::Dbc;
use super::document::read;
use super::fault::{Collector, Source};
use super::profile::{Draft, Profile, sunspec};
use super::section::{Scope, nearest};

/// Where to look for profiles.
#[derive(Debug, Clone, Default)]
pub struct ProfileSource {
    pub(super) directory: Option<PathBuf>,
    /// By name: what to call the file, and its text.
    given: BTreeMap<String, (String, String)>,
    /// It is to run: what a DBC file has wrong in places that nobody uses stops nothing.
    pub(super) runs: bool,
}

impl ProfileSource {
    /// Only the profiles of this build.
    #[must_use]
    pub fn built_in() -> Self {
        Self::default()
    }

    /// Also `NAME.toml` in this directory, which goes before the built-in `NAME`. It need not exist.
    #[must_use]
    pub fn and_directory(self, directory: impl Into<PathBuf>) -> Self {
        Self { directory: Some(directory.into()), ..self }
    }

    /// Also this text, which goes before all others of its name.
    #[must_use]
    pub fn and_text(mut self, name: &str, file: &str, text: &str) -> Self {
        self.given.insert(name.to_owned(), (file.to_owned(), text.to_owned()));
        self
    }

    /// For what is to run, whatever is wrong in those parts of a DBC file that no profile uses.
    pub(super) fn for_running(self) -> Self {
        Self { runs: true, ..self }
    }

    /// Every name that can be used, sorted.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = built_in::profile_names().map(str::to_owned).collect();
        names.extend(sunspec::NAMES.iter().map(|(name, _)| (*name).to_owned()));
        names.extend(self.given.keys().cloned());
        let entries = self.directory.iter().filter_map(|directory| std::fs::read_dir(directory).ok()).flatten();
        let files = entries.filter_map(Result::ok).map(|entry| entry.file_name());
        names.extend(files.filter_map(|file| Some(file.to_str()?.strip_suffix(".toml")?.to_owned())));
        names.sort();
        names.dedup();
        names
    }

    fn own(&self, name: &str) -> Option<io::Result<(String, String)>> {
        if let Some(given) = self.given.get(name) {
            return Some(Ok(given.clone()));
        }
        let path = self.directory.as_ref()?.join(format!("{name}.toml"));
        match super::read_text(&path) {
            Ok(text) => Some(Ok((path.display().to_string(), text))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => Some(Err(error)),
        }
    }
}

/// A profile as the probe needs it: whatever may be at an address.
#[derive(Debug, Clone)]
pub struct ProfileView {
    /// Its name.
    pub name: String,
    /// As a device of it, at its first connector and its own poll.
    pub spec: crate::spec::DeviceSpec,
    /// What its register list calls the first register on the wire; `None` for one without registers.
    pub address_base: Option<u32>,
}

/// Every profile that can be used, and what is wrong with the others.
///
/// # Panics
/// Never: the name of the device that each becomes is a name.
#[must_use]
pub fn profile_views(source: &ProfileSource) -> (Vec<ProfileView>, super::Faults) {
    let faults = Collector::default();
    let library = Library::new(source, &faults);
    let view = |name: String| match library.find(&name) {
        Found::Profile(profile) => Some(ProfileView {
            spec: crate::spec::DeviceSpec {
                id: "probed".try_into().expect("\"probed\" is a name"),
                kind: profile.kind,
                profile: name.clone(),
                points: profile.points(1),
                groups: profile.groups(1, profile.poll),
            },
            address_base: profile.address_base,
            name,
        }),
        Found::Broken | Found::Unknown(_) | Found::Unreadable(_) => None,
    };
    let views = source.names().into_iter().filter_map(view).collect();
    (views, faults.into_faults("the profiles"))
}

/// What asking for a profile gives.
#[derive(Debug)]
pub(super) enum Found {
    Profile(Rc<Profile>),
    /// It is there and has mistakes, which have been reported.
    Broken,
    /// There is none of this name; what to write instead.
    Unknown(String),
    /// It is there and cannot be read.
    Unreadable(io::Error),
}

/// The profiles that one reading has asked for, each read once.
#[derive(Debug)]
pub(super) struct Library<'a> {
    pub(super) source: &'a ProfileSource,
    faults: &'a Collector,
    known: RefCell<BTreeMap<String, Option<Rc<Profile>>>>,
    pub(super) dbcs: RefCell<BTreeMap<String, Rc<Dbc>>>,
}

/// Which of two profiles of the same name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Layer {
    Own,
    BuiltIn,
}

impl<'a> Library<'a> {
    pub(super) fn new(source: &'a ProfileSource, faults: &'a Collector) -> Self {
        Self { source, faults, known: RefCell::default(), dbcs: RefCell::default() }
    }

    pub(super) fn find(&self, name: &str) -> Found {
        if let Some(known) = self.known.borrow().get(name) {
            return known.clone().map_or(Found::Broken, Found::Profile);
        }
        let profile = match self.text(name, Layer::Own) {
            None if sunspec::profile(name).is_some() => sunspec::profile(name).map(Rc::new),
            None => return Found::Unknown(self.suggestion("profile", name)),
            Some(Err(error)) => return Found::Unreadable(error),
            Some(Ok((layer, file, text))) => {
                let mistakes_before = self.faults.len();
                let mut chain = vec![(name.to_owned(), layer)];
                let profile = self.draft(&file, &text, &mut chain).and_then(|draft| draft.complete(self.faults, self));
                // What is wrong anywhere in the chain makes the profile unusable, even where a default would do.
                profile.filter(|_| self.faults.len() == mistakes_before).map(Rc::new)
            }
        };
        self.known.borrow_mut().insert(name.to_owned(), profile.clone());
        profile.map_or(Found::Broken, Found::Profile)
    }

    /// A file with all that it extends under it.
    fn draft(&self, file: &str, text: &str, chain: &mut Vec<(String, Layer)>) -> Option<Draft> {
        let source = Source::new(file, text);
        let scope = Scope { source: &source, faults: self.faults };
        let draft = Draft::read(scope, &read(&source, &[], self.faults));
        let Some((base, place)) = draft.extends.clone() else { return Some(draft) };
        // A profile that extends its own name means the built-in one beneath it.
        let from = if chain.last().is_some_and(|(name, _)| *name == base) { Layer::BuiltIn } else { Layer::Own };
        if let Some((name, _)) = sunspec::NAMES.iter().find(|(name, _)| *name == base)
            && self.text(&base, from).is_none()
        {
            let mut draft = draft;
            draft.sunspec = Some(*name);
            return Some(draft);
        }
        let blame = |problem: String, remedy: String| self.faults.push(place.fault("profile.extends", problem, remedy));
        match self.text(&base, from) {
            None if from == Layer::BuiltIn => {
                let problem =
                    format!("the profile {base} extends itself, and none of this name is built in beneath it");
                blame(problem, "extends = another profile, or delete the line".to_owned());
            }
            None => blame(format!("there is no profile \"{base}\" to extend"), self.suggestion("extends", &base)),
            Some(Err(error)) => {
                blame(format!("the profile \"{base}\" cannot be read: {error}"), format!("a readable {base}.toml"));
            }
            Some(Ok((layer, ..))) if chain.contains(&(base.clone(), layer)) => {
                blame(
                    format!("the profile \"{base}\" extends itself by a detour"),
                    "a base that stands by itself".to_owned(),
                );
            }
            Some(Ok((layer, base_file, base_text))) => {
                chain.push((base, layer));
                return Some(draft.over(self.draft(&base_file, &base_text, chain)?));
            }
        }
        None
    }

    /// The text of a profile, looking from this layer downwards.
    fn text(&self, name: &str, from: Layer) -> Option<io::Result<(Layer, String, String)>> {
        // A name is never a path.
        let is_plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        if name.is_empty() || !name.bytes().all(is_plain) {
            return None;
        }
        if from == Layer::Own
            && let Some(own) = self.source.own(name)
        {
            return Some(own.map(|(file, text)| (Layer::Own, file, text)));
        }
        let file = format!("{name}.toml");
        let text = built_in::text(&file)?;
        Some(Ok((Layer::BuiltIn, format!("{}/{file} (built in)", built_in::FOLDER), text)))
    }

    /// What to write for `key` instead of a name that is not there.
    fn suggestion(&self, key: &str, name: &str) -> String {
        let names = self.source.names();
        let list = names.join(", ");
        match nearest(name, names.iter().map(String::as_str)) {
            Some(near) => format!("{key} = \"{near}\"   (there are: {list})"),
            None => format!("{key} = one of {list}; or your own as devices/{name}.toml beside gateway.toml"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_built_in_profile_is_complete() {
        let (source, faults) = (ProfileSource::built_in(), Collector::default());
        let library = Library::new(&source, &faults);
        let usable = source.names().iter().filter(|name| matches!(library.find(name), Found::Profile(_))).count();
        assert_eq!(faults.into_faults("").to_string(), "0 mistakes");
        assert_eq!(usable, built_in::profile_names().count() + sunspec::NAMES.len());
    }

    /// What rests on one driver shares its mistakes: the frequency of one meter was ten times off, the counter of another the one
    /// that anybody can reset.
    #[test]
    fn every_built_in_modbus_profile_names_two_sources_of_different_hands_or_says_that_it_rests_on_one() {
        let (source, faults) = (ProfileSource::built_in(), Collector::default());
        let library = Library::new(&source, &faults);
        for name in built_in::profile_names() {
            let (layer, file, text) = library.text(name, Layer::BuiltIn).expect("it is built in").expect("it is read");
            let draft = library.draft(&file, &text, &mut vec![(name.to_owned(), layer)]).expect("it stands");
            if !text.contains("\n[modbus]") {
                continue;
            }
            let sources = draft.sources.expect("every profile has them");
            let hands: BTreeSet<&str> =
                sources.iter().map(|source| source.split([',', ':']).next().unwrap_or(source)).collect();
            // evcc reads its meters by mbmd.
            let is_copy = hands.iter().all(|hand| hand.starts_with("evcc-io/") || hand.starts_with("volkszaehler/"));
            let is_said = sources.iter().any(|source| source.contains("the one source"));
            assert!((hands.len() >= 2 && !is_copy) || is_said, "{name}: {sources:?}");
            assert!(is_said || draft.notes.is_some(), "{name} says how its sources compare");
        }
    }

    /// A database refuses a line whose field has another type than the same field of another device.
    #[test]
    fn one_name_is_one_shape_and_one_unit_in_all_profiles() {
        let (source, faults) = (ProfileSource::built_in(), Collector::default());
        let library = Library::new(&source, &faults);
        let mut known = BTreeMap::new();
        for name in source.names() {
            let Found::Profile(profile) = library.find(&name) else { panic!("{name} is not usable") };
            for point in profile.points(1).iter() {
                let key = (profile.kind.as_str(), point.field.to_string());
                let said = (point.value_type, point.unit);
                let (first, by) = known.entry(key.clone()).or_insert_with(|| (said, name.clone()));
                assert_eq!(*first, said, "{key:?} of {by} and of {name}");
            }
        }
    }
}
