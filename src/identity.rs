//! The identity of this device on disk: what a start finds, and what becomes of what cannot
//! be read (D-30, R-REG-1 to R-REG-3).
//!
//! | document of the configuration directory | what it is |
//! |---|---|
//! | `provisioning` | the identity, as upstream writes it too |
//! | `provisioning.backup` | its copy |
//! | `provisioning.<sha256 of the endpoint>` | the candidate of a registration under way |
//! | `provisioning.unreadable` | what could not be read |
//!
//! # Invariants
//!
//! * An identity that was there once is never replaced by a new one in silence: what cannot
//!   be read is set aside, its copy counts, and without a copy somebody has to decide.
//! * Who wants another identity removes `provisioning*`.

use std::io;
use std::path::Path;

use crate::base::random;
use crate::config::Known;
use crate::flows::register::{BACKUP, IDENTITY, candidate_path};
use crate::http::url::Url;
use crate::model::identity::Record;
use crate::run::Failed;
use crate::store::Files;

/// Where an identity goes that cannot be read: it goes with `rm provisioning*`.
const UNREADABLE: &str = "provisioning.unreadable";

/// What is found where a record should be.
enum Found {
    Nothing,
    Good(Record),
    /// It is no record: why.
    Damaged(String),
    /// It cannot be read at all: the system's words.
    Unreadable(io::Error),
}

/// The documents of the configuration directory.
pub struct Identity {
    files: Files,
}

impl Identity {
    /// Makes nothing before something is written.
    #[must_use]
    pub fn below(config_dir: &Path) -> Identity {
        let files = Files::below(config_dir);
        Identity { files }
    }

    /// What former runs stored. `registers_at`: the endpoint of a registration that the
    /// arguments ask for, in its rendered form. `is_given`: the arguments hold an identity,
    /// and nothing that is stored is touched (S-REG-21).
    ///
    /// # Errors
    /// When there was an identity and it cannot be had.
    pub fn known(&self, registers_at: Option<&str>, is_given: bool) -> Result<Known, Failed> {
        if is_given {
            let stored = match self.read(IDENTITY) {
                Found::Good(record) => Some(record),
                _ => None,
            };
            return Ok(Known {
                stored,
                candidate: None,
            });
        }
        let candidate = registers_at.map(|endpoint| self.candidate(endpoint));
        let candidate = candidate.unwrap_or(Ok(None));
        let is_begun = matches!(candidate, Ok(Some(_)) | Err(_));
        let stored = self.stored(is_begun)?;
        let Some(record) = &stored else {
            let candidate = candidate?;
            return Ok(Known { stored, candidate });
        };
        self.tidy(record);
        Ok(Known {
            stored,
            candidate: None,
        })
    }

    /// The identity, or its copy when it cannot be read or is gone.
    fn stored(&self, is_begun: bool) -> Result<Option<Record>, Failed> {
        let name = self.name(IDENTITY);
        let trouble = match self.read(IDENTITY) {
            Found::Good(record) => return Ok(Some(record)),
            Found::Nothing => None,
            Found::Damaged(why) => {
                log::error!("the stored identity {name} is damaged and is set aside: {why}");
                let aside = self.files.place(UNREADABLE);
                if let Err(error) = aside.and_then(|to| self.files.set_aside_as(IDENTITY, &to)) {
                    log::error!("it could not be set aside: {error}");
                }
                Some(format!("is damaged ({why})"))
            }
            Found::Unreadable(error) => Some(format!("cannot be read ({error})")),
        };
        if let Found::Good(record) = self.read(BACKUP) {
            let backup = self.name(BACKUP);
            let what = trouble.unwrap_or_else(|| "is gone".into());
            log::error!(
                "the stored identity {name} {what}; its copy {backup} is used \
                 (to register this device anew, remove both)"
            );
            self.write(IDENTITY, &record);
            return Ok(Some(record));
        }
        let aside = self.files.place(UNREADABLE).map_err(|err| lost(&err))?;
        match trouble {
            // What was begun can be ended: it is the same device (R-REG-3).
            _ if is_begun => Ok(None),
            Some(what) if !aside.exists() => Err(Failed(format!(
                "the stored identity {name} {what}; repair it"
            ))),
            None if !aside.exists() => Ok(None),
            _ => Err(Failed(format!(
                "the stored identity was damaged and there is no copy of it: repair {} and name it \
                 {name}, or remove it, and this device is a new one",
                aside.display()
            ))),
        }
    }

    /// Sees to it that there is a copy, and no candidate any more (R-REG-2).
    fn tidy(&self, record: &Record) {
        if !matches!(self.read(BACKUP), Found::Good(copy) if copy == *record) {
            self.write(BACKUP, record);
        }
        let path = candidate_path(&rendered(&record.remote.api_endpoint));
        let done = match self.read(&path) {
            Found::Nothing => return,
            Found::Good(other) if !is_same_device(&other, record) => {
                log::warn!(
                    "a registration of {} was begun while this device is {}: it is set aside",
                    other.uuid,
                    record.uuid
                );
                self.files.set_aside(&path)
            }
            _ => self.files.remove(&path),
        };
        if let Err(error) = done {
            log::warn!("document '{path}': {error}");
        }
    }

    /// The candidate of a registration that was cut off (R-REG-3). One that cannot be read may
    /// be known to the backend already: another in its place would be a second device.
    fn candidate(&self, endpoint: &str) -> Result<Option<Record>, Failed> {
        let path = candidate_path(endpoint);
        match self.read(&path) {
            Found::Good(record) if rendered(&record.remote.api_endpoint) == endpoint => {
                Ok(Some(record))
            }
            Found::Nothing => Ok(None),
            Found::Good(_) | Found::Damaged(_) => {
                let name = self.name(&path);
                log::warn!("{name} is no registration that was begun, and is removed");
                let removed = self.files.remove(&path);
                let _ = removed.map_err(|error| log::warn!("{name}: {error}"));
                Ok(None)
            }
            Found::Unreadable(error) => Err(self.unreadable(&path, &error)),
        }
    }

    fn unreadable(&self, path: &str, error: &io::Error) -> Failed {
        Failed(format!(
            "the registration that was begun cannot be read ({error}): repair {}, or remove it, \
             and this device is a new one",
            self.name(path)
        ))
    }

    /// Draws what is missing of a candidate and writes it down; of two agents that start at
    /// once both get the same (S-REG-24). `false` when it could not be written.
    ///
    /// # Errors
    /// When the system has no random numbers to give.
    pub fn claim(&self, mut record: Record) -> Result<(Record, bool), Failed> {
        let path = candidate_path(&record.remote.api_endpoint);
        let is_begun = !record.remote.api_key.is_empty();
        if record.uuid.is_empty() {
            record.uuid = random::uuid().map_err(|err| lost(&err))?;
        }
        if !is_begun {
            record.remote.api_key = random::hex(16).map_err(|err| lost(&err))?;
        }
        let bytes = serde_json::to_vec(&record).map_err(|err| lost(&err))?;
        let written = if is_begun {
            self.files.write(&path, &bytes)
        } else {
            self.files.write_new(&path, &bytes)
        };
        if let Err(error) = written {
            log::error!("{}: {error}", self.name(&path));
            return Ok((record, false));
        }
        match self.read(&path) {
            Found::Good(record) => Ok((record, true)),
            Found::Unreadable(error) => Err(self.unreadable(&path, &error)),
            Found::Nothing | Found::Damaged(_) => Ok((record, false)),
        }
    }

    /// The file of a document, for people.
    #[must_use]
    pub fn name(&self, path: &str) -> String {
        let place = self.files.place(path);
        place.map_or_else(|_| path.to_owned(), |place| place.display().to_string())
    }

    /// A copy that cannot be made now is made by the next start.
    fn write(&self, path: &str, record: &Record) {
        let bytes = serde_json::to_vec(record).map_err(io::Error::other);
        let written = bytes.and_then(|bytes| self.files.write(path, &bytes));
        if let Err(error) = written {
            log::error!("{}: {error}", self.name(path));
        }
    }

    fn read(&self, path: &str) -> Found {
        match self.files.read(path) {
            Ok(None) => Found::Nothing,
            Ok(Some(bytes)) => match record(&bytes) {
                Ok(record) => Found::Good(record),
                Err(why) => Found::Damaged(why),
            },
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                Found::Damaged(error.to_string())
            }
            Err(error) => Found::Unreadable(error),
        }
    }
}

/// A record that can be used: upstream's and ours.
fn record(bytes: &[u8]) -> Result<Record, String> {
    if bytes.iter().all(|byte| *byte == 0) {
        return Err("it is empty".into());
    }
    let record: Record = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    let key = record.remote.api_key.as_bytes();
    if record.uuid.is_empty() || key.is_empty() || !key.iter().all(u8::is_ascii_graphic) {
        return Err("its uuid or its key is none".into());
    }
    if let Err(error) = Url::parse(&record.remote.api_endpoint) {
        return Err(format!("its endpoint is none: {error}"));
    }
    Ok(record)
}

fn is_same_device(one: &Record, other: &Record) -> bool {
    (&one.uuid, &one.remote.api_key) == (&other.uuid, &other.remote.api_key)
}

fn rendered(endpoint: &str) -> String {
    Url::parse(endpoint).map_or_else(|_| endpoint.to_owned(), |url| url.to_string())
}

fn lost(error: &dyn std::fmt::Display) -> Failed {
    Failed(format!("cannot make an identity: {error}"))
}

#[cfg(test)]
mod tests;
