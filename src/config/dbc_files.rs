//! Where DBC files are found: in `devices/` beside the configuration, which goes before what is built in.

use std::io;
use std::rc::Rc;

use super::built_in::{self, built_in_dbc};
use super::dbc::Dbc;
use super::profile::{DbcFiles, DbcTrouble};
use super::profiles::{Library, ProfileSource};

/// A DBC file of a whole vehicle has less than 2 MiB.
const DBC_BYTES_MAX: u64 = 8 << 20;

impl ProfileSource {
    /// The bytes of a DBC file and what to call it.
    fn dbc(&self, name: &str) -> Result<(String, Vec<u8>), DbcTrouble> {
        // A name is never a path.
        let is_plain = !name.is_empty() && !name.contains('/') && !name.starts_with('.');
        if let Some(directory) = self.directory.as_ref().filter(|_| is_plain) {
            let path = directory.join(name);
            match super::read_bytes(&path, DBC_BYTES_MAX) {
                Ok(bytes) => return Ok((path.display().to_string(), bytes)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(DbcTrouble::Unreadable(error)),
            }
        }
        match built_in_dbc(name) {
            Some(text) => Ok((format!("{name} (built in)"), text.into_bytes())),
            None => Err(DbcTrouble::Unknown(self.dbc_names())),
        }
    }

    fn dbc_names(&self) -> Vec<String> {
        let mut names: Vec<String> = built_in::dbc_names().map(str::to_owned).collect();
        let entries = self.directory.iter().filter_map(|directory| std::fs::read_dir(directory).ok()).flatten();
        let files = entries.filter_map(Result::ok).filter_map(|entry| entry.file_name().into_string().ok());
        names.extend(files.filter(|file| file.to_ascii_lowercase().ends_with(".dbc")));
        names.sort();
        names.dedup();
        names
    }
}

impl DbcFiles for Library<'_> {
    fn find(&self, name: &str) -> Result<Rc<Dbc>, DbcTrouble> {
        if let Some(known) = self.dbcs.borrow().get(name) {
            return Ok(Rc::clone(known));
        }
        let (file, bytes) = self.source.dbc(name)?;
        let dbc = match Dbc::read_with_mistakes(&bytes) {
            Ok((dbc, mistakes)) if mistakes.is_empty() || self.source.runs => Rc::new(dbc),
            Ok((_, mistakes)) => return Err(DbcTrouble::Broken(file, mistakes)),
            Err(fault) => return Err(DbcTrouble::Broken(file, vec![fault])),
        };
        self.dbcs.borrow_mut().insert(name.to_owned(), Rc::clone(&dbc));
        Ok(dbc)
    }
}
